//! Who drives a rollout: the documents of those that this host drives, those of other hosts, and how
//! one is taken over. `domain::fleet::driving` decides.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;

use super::alive::{MayLive, may_live};
use super::host::Host;
use super::signed::Signed;
use crate::base::keys::{OpeningKey, Purpose, SealKey, SigningKey};
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock};
use crate::db::Db;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::rollouts::{self, Rollout};
use crate::db::fleet::{driving, hosts, places};
use crate::domain::fleet::blueprint::FleetBlueprint;
use crate::domain::fleet::driving::{
    Known, LONGEST_DETAIL, Mark, OpenOrder, RolloutDocument, Sealed, TOO_OLD, Verdict, judge,
};
use crate::domain::fleet::order::Order;
use crate::domain::fleet::rollout::{Progress, Request};
use crate::domain::fleet::{LONGEST, VERSION};
use crate::wire::gate::{Message, SetRollout, SignedText};

/// The documents that the bucket should get, as long as `room` bytes hold them. `generation` is that
/// of the engine's streams. A document is put together from several tables: read them in one
/// transaction.
pub(super) fn to_publish(
    connection: &Connection,
    (host, key): (&FleetHost, &SigningKey),
    generation: &str,
    (limit, room): (usize, &mut usize),
    now: i64,
) -> Result<Vec<SetRollout>> {
    let rollouts = driving::to_publish(connection, generation, now, limit)?;
    if rollouts.is_empty() {
        return Ok(Vec::new());
    }

    let readers = controllers(connection)?;
    let mut all = Vec::new();
    for rollout in rollouts {
        let (id, epoch, version) = (rollout.id, rollout.epoch, rollout.version);
        let taken_from = rollout.taken_from;
        let body = document(connection, host, rollout, &readers, now)?;
        if body.len() > *room {
            break;
        }
        *room -= body.len();
        let signature = key.sign(Purpose::Rollout, body.as_bytes())?;
        all.push(SetRollout {
            id,
            epoch,
            version,
            taken_from,
            document: SignedText {
                key: key.public().to_string(),
                signature: STANDARD.encode(signature),
                body,
            },
        });
    }
    Ok(all)
}

/// The hosts that may go on with a rollout, each with what is sealed to it. This one, too: its database
/// may be lost.
fn controllers(connection: &Connection) -> Result<Vec<(FleetHost, SealKey)>> {
    let members = hosts::all(connection)?.into_iter();
    let controllers = members.filter(|host| host.expelled_at.is_none() && host.controls());
    Ok(controllers
        .filter_map(|host| Some((host.name.parse().ok()?, host.seal_key.parse().ok()?)))
        .collect())
}

fn document(
    connection: &Connection,
    host: &FleetHost,
    rollout: Rollout,
    readers: &[(FleetHost, SealKey)],
    now: i64,
) -> Result<String> {
    let id = rollout.id;
    let mut request = rollout.request;
    let mut sealed = None;
    if let Some(Request::Moves(moves)) = &mut request {
        let blueprints = std::mem::take(&mut moves.blueprints);
        if !blueprints.is_empty() {
            sealed = Some(seal(id, &blueprints, readers)?);
        }
        // They are there with how far each is.
        if !rollout.progress.moves.is_empty() {
            moves.moves.clear();
        }
    }

    let mut document = RolloutDocument {
        v: VERSION,
        id,
        mark: Mark {
            driver: host.clone(),
            epoch: rollout.epoch,
            version: rollout.version,
        },
        at: now,
        kind: rollout.kind,
        state: rollout.state,
        requested_by: rollout.requested_by,
        detail: rollout.detail.chars().take(LONGEST_DETAIL).collect(),
        created_at: rollout.created_at,
        updated_at: rollout.updated_at,
        ended_at: rollout.ended_at,
        progress: rollout.progress,
        request,
        sealed,
        orders: open_give_ups(connection, id, rollout.orders)?,
    };
    let text = |document: &RolloutDocument| {
        serde_json::to_string(document)
            .map_err(|error| Error::failed(format!("rollout {id} cannot be encoded: {error}")))
    };
    let whole = text(&document)?;
    if whole.len() <= LONGEST {
        return Ok(whole);
    }
    // It is shown elsewhere, but cannot be gone on with.
    document.progress = Progress::default();
    (document.request, document.sealed) = (None, None);
    document.orders.clear();
    text(&document)
}

/// The orders to give servers up whose end is not known: those of a former driver, and those from here.
fn open_give_ups(
    connection: &Connection,
    id: Ulid,
    mut all: Vec<OpenOrder>,
) -> Result<Vec<OpenOrder>> {
    for body in driving::open_give_ups(connection, id)? {
        if let Ok(order) = Order::from_bytes(&body)
            && all.iter().all(|other| other.id != order.id)
        {
            all.push(OpenOrder {
                id: order.id,
                to: order.to,
                not_after: order.not_after,
                what: order.what,
            });
        }
    }
    Ok(all)
}

fn seal(
    id: Ulid,
    blueprints: &BTreeMap<Ulid, FleetBlueprint>,
    readers: &[(FleetHost, SealKey)],
) -> Result<Sealed> {
    let text = serde_json::to_vec(blueprints)
        .map_err(|error| Error::failed(format!("the blueprints of rollout {id}: {error}")))?;
    let (by, once) = (OpeningKey::generate(), OpeningKey::generate());
    let secret = once.seed()?;
    let mut keys = BTreeMap::new();
    for (host, key) in readers {
        keys.insert(
            host.clone(),
            STANDARD.encode(by.seal(secret.as_bytes(), key)?),
        );
    }
    Ok(Sealed {
        text: STANDARD.encode(by.seal(&text, &once.public())?),
        by: by.public(),
        keys,
    })
}

/// What was asked for, with its blueprints. None if that cannot be read here.
fn request_of(document: &RolloutDocument, host: &Host<'_>) -> Option<Request> {
    let mut request = document.request.clone()?;
    if let (Request::Moves(moves), Some(sealed)) = (&mut request, &document.sealed) {
        let secret = STANDARD.decode(sealed.keys.get(host.name)?).ok()?;
        let secret = String::from_utf8(host.opening?.open(&secret, &sealed.by).ok()?).ok()?;
        let once = OpeningKey::from_seed(&secret).ok()?;
        let text = STANDARD.decode(&sealed.text).ok()?;
        moves.blueprints = serde_json::from_slice(&once.open(&text, &sealed.by).ok()?).ok()?;
    }
    Some(request)
}

/// Reads a document of the bucket. Whether this host has stopped driving, or why it is noise.
pub(super) fn read(
    tx: &Connection,
    host: &Host<'_>,
    message: &Message,
    now: i64,
) -> Result<Result<bool, String>> {
    let document = match verified(host, message, now) {
        Ok(document) => document,
        Err(why) => return Ok(Err(why)),
    };
    let known = rollouts::get(tx, document.id)?;
    let verdict = judge(
        known.as_ref().map(known_as).as_ref(),
        &document.mark,
        host.name,
    );

    let request = request_of(&document, host);
    let (mark, driver) = (&document.mark, document.mark.driver.as_str());
    let can_go_on = !document.state.has_ended() && request.is_some();
    match verdict {
        Verdict::Nothing => {}
        Verdict::GoOn if can_go_on => {
            let own = Mark {
                driver: host.name.clone(),
                epoch: mark.epoch + 1,
                version: mark.version + 1,
            };
            let from = (None, Some(mark.version));
            driving::put(tx, &document, request.as_ref(), from, &own)?;
        }
        // An end of this host's own whose row is old and gone.
        Verdict::Show if known.is_none() && driver == host.name.as_str() && !can_go_on => {}
        Verdict::Show | Verdict::GoOn => {
            driving::put(tx, &document, request.as_ref(), (Some(driver), None), mark)?;
        }
        Verdict::TakenOver => {
            driving::put(tx, &document, request.as_ref(), (Some(driver), None), mark)?;
            driving::lost(
                tx,
                document.id,
                &format!("{driver} drives the rollout"),
                now,
            )?;
            places::take_back(tx, document.id, now)?;
            let detail = format!("{} {}", document.kind, document.id);
            let event = NewEvent::new("rollout.taken_over", driver, &detail);
            events::add(tx, now, &event)?;
            return Ok(Ok(true));
        }
    }
    Ok(Ok(false))
}

fn known_as(rollout: &Rollout) -> Known<'_> {
    Known {
        epoch: rollout.epoch,
        version: rollout.version,
        driver: rollout.driver.as_deref(),
        taken_from: rollout.taken_from,
    }
}

/// A document that a controller which root installed here has signed. Why it is noise otherwise.
fn verified(host: &Host<'_>, message: &Message, now: i64) -> Result<RolloutDocument, String> {
    let signed = Signed::read(message).ok_or("it is not in base64")?;
    let mut controllers = host.controllers.values();
    let is_by = |key| signed.is_by(key, Purpose::Rollout);
    if !controllers.any(is_by) {
        return Err("no controller of this host has signed it".to_owned());
    }
    let document: RolloutDocument =
        serde_json::from_slice(&signed.body).map_err(|error| format!("not a rollout: {error}"))?;
    let driver = &document.mark.driver;
    let named = host.controllers.get(driver.as_str());
    if !named.is_none_or(is_by) {
        return Err(format!("{driver} has not signed it"));
    }
    if document.v != VERSION || message.subject != document.id.to_string() {
        return Err(format!("it is not rollout {}", message.subject));
    }
    match now.saturating_sub(document.at) > TOO_OLD {
        true => Err(format!("it is of {}", clock::local(document.at))),
        false => Ok(document),
    }
}

/// Takes a rollout over from the host that drives it. It goes on here as soon as the engine has that,
/// from what was published last. `by` asks for it, on the host `here`. Wake left4me-link and
/// left4me-rollout afterwards.
///
/// Fails with 3 for an unknown one; 4 if it has ended, this host drives it, it cannot be gone on with
/// here, or, without `although_it_drives`, its driver may live.
pub fn take_over(
    db: &mut Db,
    id: Ulid,
    (by, here): (&str, &FleetHost),
    although_it_drives: bool,
    now: i64,
) -> Result<Rollout> {
    db.write(|tx| {
        let rollout = rollouts::find(tx, id)?;
        let what = format!("{} {id}", rollout.kind);
        let driver = match (&rollout.driver, rollout.taken_from) {
            _ if rollout.state.has_ended() => {
                let why = format!("{what} has ended: it {}", rollout.state);
                return Err(Error::conflict(why));
            }
            (None, None) => return Err(Error::conflict(format!("this host drives {what}"))),
            (None, Some(_)) => {
                let why = format!("{what} is taken over as soon as the engine has that");
                return Err(Error::conflict(why));
            }
            (Some(driver), _) => driver,
        };
        if rollout.request.is_none() {
            return Err(Error::conflict(format!(
                "{what} cannot be gone on with here: it is too long for a message, or its blueprints \
                 were not sealed to {here}; begin it again"
            )));
        }
        if !although_it_drives && driver != here.as_str() {
            is_gone(tx, &what, driver, now)?;
        }

        driving::take_over(tx, id, now)?;
        let detail = format!("{what} from {driver}");
        events::add(tx, now, &NewEvent::new("rollout.resumed", by, &detail))?;
        rollouts::find(tx, id)
    })
}

/// Fails with 4 if the host may live.
fn is_gone(tx: &Connection, what: &str, driver: &str, now: i64) -> Result<()> {
    let why = match may_live(tx, driver, now)? {
        None => return Ok(()),
        Some(MayLive::HeardOf(at)) => format!(
            "{driver}, which drives {what}, was heard of {}: abort it there, or add \
             --although-it-drives",
            clock::local(at)
        ),
        Some(MayLive::NotConnected) => format!(
            "this host has not been connected to the fleet for 5 minutes: {driver} may drive {what}; \
             wait, or add --although-it-drives"
        ),
    };
    Err(Error::conflict(why))
}
