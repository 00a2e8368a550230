//! Takes in a server of another host, gives one up, or hands over what one is made from. The host
//! decides in its own transaction: the sender of the order may know less than it does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;

use super::host::{Host, Performed};
use crate::base::keys::SealKey;
use crate::base::names::{
    BlueprintId, BlueprintName, BlueprintRef, OverlayName, ServerId, ServerName, ServerRef,
};
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock};
use crate::db::blueprints::{self, Content};
use crate::db::events::{self, NewEvent};
use crate::db::fleet::{here, orders_in, overlays, self_row, ulids};
use crate::db::servers::{self, NewServer, Server};
use crate::db::users::{self, User};
use crate::db::{blueprint_change, jobs, observations};
use crate::domain::condition::warning::Warnings;
use crate::domain::condition::{AtDeadline, Condition, Deadline};
use crate::domain::fleet::LONGEST;
use crate::domain::fleet::blueprint::{FleetBlueprint, HandedOver};
use crate::domain::fleet::order::{Order, Place};
use crate::domain::operation::Operation;
use crate::domain::server::DesiredState;
use crate::queue::conditions;
use crate::queue::enqueue::{JobRequest, Requester, Targets, enqueue_in};

/// Why a server moves, for the events of its jobs.
const MOVES: &str = "it moves to another host";

/// Takes in a server, and starts it if it is to run.
pub(super) fn place(
    tx: &Connection,
    host: &Host<'_>,
    order: &Order,
    asked: &Place,
    now: i64,
) -> Result<Performed> {
    may_come(tx, host, asked)?;
    let owner = owner(tx, host, asked)?;
    let blueprint = open(host, asked)?;

    let server = match ulids::find(tx, asked.server)? {
        // It was here before, and its files still are.
        Some(id) => take_back(tx, &order.from, id, &owner, &blueprint, now)?,
        None => create(tx, host, &order.from, asked, &owner, &blueprint, now)?,
    };
    here::put(tx, asked.server, asked.epoch, None, now)?;
    let detail = format!(
        "'{}' on port {}, epoch {}",
        server.name, server.port, asked.epoch
    );
    let event = NewEvent {
        server: Some(server.id),
        order: Some(order.id),
        ..NewEvent::new("server.placed", &order.from, &detail)
    };
    events::add(tx, now, &event)?;

    match asked.start {
        true => {
            cancel_stops(tx, server.id, &order.from, now)?;
            job(tx, Operation::Start, server.id, None, &order.from, now)
        }
        false => Ok(Performed::Done(format!("it is server {}", server.id))),
    }
}

/// Refuses a server for which there is no place, or an order that is older than what is known.
fn may_come(tx: &Connection, host: &Host<'_>, asked: &Place) -> Result<()> {
    let own = self_row::get(tx)?.unwrap_or_default();
    if own.cordoned {
        let by = own.cordoned_by.unwrap_or_default();
        return Err(Error::conflict(format!(
            "{} is cordoned by {by}",
            host.name
        )));
    }
    if let Some(known) = here::get(tx, asked.server)?
        && known.epoch >= asked.epoch
    {
        return Err(Error::conflict(format!(
            "epoch {} of the order is not newer than {}, which {} was told of this server",
            asked.epoch, known.epoch, host.name
        )));
    }

    let ports = u32::from(host.ports.last - host.ports.first) + 1;
    let capacity = host.capacity.unwrap_or(ports);
    let moved = here::moved(tx)?;
    let all = servers::all(tx)?;
    let others = all
        .iter()
        .filter(|server| !moved.contains_key(&server.id) && server.ulid != Some(asked.server));
    let used = u32::try_from(others.count()).unwrap_or(u32::MAX);
    if used >= capacity {
        return Err(Error::conflict(format!(
            "{} is full ({used} of {capacity} servers)",
            host.name
        )));
    }

    let known = overlays::digests(tx)?;
    for (overlay, digest) in &asked.overlays {
        let why = match known.get(overlay) {
            None => "is missing, or has not been read yet",
            Some(other) if other != digest => "has other files",
            Some(_) => continue,
        };
        return Err(Error::conflict(format!(
            "overlay '{overlay}' {why} on {}: `left4me overlay add` and a copy of its files",
            host.name
        )));
    }
    Ok(())
}

fn owner(tx: &Connection, host: &Host<'_>, asked: &Place) -> Result<User> {
    users::by_name(tx, &asked.owner)?.ok_or_else(|| {
        Error::not_found(format!(
            "{} has no user '{}': `left4me user add` there adds one",
            host.name, asked.owner
        ))
    })
}

fn open(host: &Host<'_>, asked: &Place) -> Result<FleetBlueprint> {
    let cannot = |why: String| Error::conflict(format!("its blueprint cannot be opened: {why}"));
    let key = host
        .opening
        .ok_or_else(|| cannot(format!("{} has no key for that", host.name)))?;
    let sealed = STANDARD
        .decode(&asked.blueprint)
        .map_err(|error| cannot(error.to_string()))?;
    let text = key
        .open(&sealed, &asked.sealed_by)
        .map_err(|error| cannot(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| cannot(error.to_string()))
}

fn create(
    tx: &Connection,
    host: &Host<'_>,
    by: &str,
    asked: &Place,
    owner: &User,
    blueprint: &FleetBlueprint,
    now: i64,
) -> Result<Server> {
    let name: ServerName = asked.name.parse()?;
    let new = NewServer {
        user: owner.id,
        name: &name,
        blueprint: blueprint_of(tx, by, owner, blueprint, None, now)?,
        port: None,
    };
    let server = servers::create(tx, now, by, &new, host.ports)?;
    ulids::set(tx, server.id, asked.server)?;
    Ok(server)
}

/// Gives the server's row, which stayed when it moved away, the blueprint that it has now.
fn take_back(
    tx: &Connection,
    by: &str,
    id: ServerId,
    owner: &User,
    blueprint: &FleetBlueprint,
    now: i64,
) -> Result<Server> {
    let server = servers::get(tx, id)?
        .ok_or_else(|| Error::not_found(format!("server {id} no longer exists")))?;
    if server.user_id != owner.id {
        return Err(Error::conflict(format!(
            "server {id} ('{}') belongs to '{}' here",
            server.name, server.user
        )));
    }
    let wanted = blueprint_of(tx, by, owner, blueprint, Some(&server), now)?;
    match wanted == server.blueprint_id {
        true => Ok(server),
        false => servers::assign(tx, now, by, id, wanted),
    }
}

/// Cancels stops that wait since the server moved away: it is back.
fn cancel_stops(tx: &Connection, server: ServerId, by: &str, now: i64) -> Result<()> {
    for id in orders_in::waiting_stops(tx)? {
        if jobs::targets(tx, id)? == [server] {
            conditions::cancel(tx, id, by, "the server has moved back", now)?;
        }
    }
    Ok(())
}

/// The owner's blueprint with this content: the one of this name if it is the same; else a new one,
/// with the first name that is free. A blueprint of other servers is never changed.
fn blueprint_of(
    tx: &Connection,
    by: &str,
    owner: &User,
    wanted: &FleetBlueprint,
    server: Option<&Server>,
    now: i64,
) -> Result<BlueprintId> {
    let content = Content {
        overlays: wanted.overlays.clone(),
        arguments: wanted.arguments.clone(),
        config: wanted.config.clone(),
    };
    let is_same = |id| blueprints::content(tx, id).is_ok_and(|other| other == content);
    if let Some(server) = server
        && is_same(server.blueprint_id)
    {
        return Ok(server.blueprint_id);
    }

    for number in 1..100 {
        let name: BlueprintName = match number {
            1 => wanted.name.clone(),
            _ => numbered(&wanted.name, number)?,
        };
        let reference = BlueprintRef::Name(name.clone());
        match blueprints::find(tx, &reference, Some(owner.id)) {
            Ok(found) if is_same(found.id) => return Ok(found.id),
            Ok(_) => {}
            Err(error) if error.exit == crate::base::Exit::NotFound => {
                let new = blueprint_change::create(tx, now, by, owner.id, &name, &content)?;
                return Ok(new.id);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::conflict(format!(
        "user '{}' has too many blueprints named '{}'",
        owner.name, wanted.name
    )))
}

/// `coop 2`, shortened to what a name may have.
fn numbered(name: &BlueprintName, number: u32) -> Result<BlueprintName> {
    let begin: String = name.as_str().chars().take(60).collect();
    Ok(format!("{} {number}", begin.trim_end()).parse()?)
}

/// What an order to give a server up asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unplace<'a> {
    pub server: Ulid,
    pub epoch: u64,
    /// The host that has it now.
    pub host: Option<&'a str>,
    pub when_empty: bool,
    pub until: Option<i64>,
}

/// Gives a server up. It is stopped, and not started here any more; its files stay.
pub(super) fn unplace(
    tx: &Connection,
    host: &Host<'_>,
    order: &Order,
    asked: &Unplace<'_>,
    now: i64,
) -> Result<Performed> {
    let to = asked.host.unwrap_or_default();
    if !here::put(tx, asked.server, asked.epoch, Some(to), now)? {
        return Err(Error::conflict(format!(
            "{} was told of a newer place of server {}",
            host.name, asked.server
        )));
    }
    let Some(id) = ulids::find(tx, asked.server)? else {
        // A late order to take it in is refused from now on.
        return Ok(Performed::Done("it was not here".to_owned()));
    };

    let detail = format!(
        "to {}, epoch {}",
        if to.is_empty() { "another host" } else { to },
        asked.epoch
    );
    let event = NewEvent {
        server: Some(id),
        order: Some(order.id),
        ..NewEvent::new("server.moved", &order.from, &detail)
    };
    events::add(tx, now, &event)?;

    let server = servers::get(tx, id)?
        .ok_or_else(|| Error::not_found(format!("server {id} no longer exists")))?;
    let is_at_rest = server.desired_state == DesiredState::Stopped
        && server.actual_state == crate::domain::server::ActualState::Stopped
        && server.enabled != Some(true)
        && observations::active_job(tx, id)?.is_none();
    if is_at_rest {
        return Ok(Performed::Done("it was stopped".to_owned()));
    }
    let condition = condition(asked, now);
    job(tx, Operation::Stop, id, condition, &order.from, now)
}

/// Until when the people on the server may play on.
fn condition(asked: &Unplace<'_>, now: i64) -> Option<Condition> {
    let is_late = asked.until.is_some_and(|at| at <= now);
    if !asked.when_empty || is_late {
        return None;
    }
    Some(Condition {
        when_empty: true,
        deadline: asked.until.map(|at| Deadline {
            at,
            asked: clock::minute(at, now),
            then: AtDeadline::Go,
        }),
        warnings: Warnings::default(),
    })
}

fn job(
    tx: &Connection,
    operation: Operation,
    server: ServerId,
    condition: Option<Condition>,
    by: &str,
    now: i64,
) -> Result<Performed> {
    let requester = Requester {
        reason: MOVES,
        ..Requester::local(by)
    };
    let targets = Targets::Named(vec![ServerRef::Id(server)]);
    let request = JobRequest {
        condition,
        ..JobRequest::new(operation, targets, requester)
    };
    Ok(Performed::Job(enqueue_in(tx, &request, now)?.job_id))
}

/// Hands over what a server is made from, so that only the host with that key can read it.
pub(super) fn hand_over(
    tx: &Connection,
    host: &Host<'_>,
    server: Ulid,
    seal_to: &SealKey,
) -> Result<Performed> {
    let gone = || Error::not_found(format!("server {server} is not on {}", host.name));
    let id = ulids::find(tx, server)?.ok_or_else(gone)?;
    let row = servers::get(tx, id)?.ok_or_else(gone)?;
    if let Some(to) = here::get(tx, server)?.and_then(|told| told.moved_to) {
        return Err(Error::conflict(format!(
            "server {server} has moved from {} to {to}",
            host.name
        )));
    }

    let content = blueprints::content(tx, row.blueprint_id)?;
    let blueprint = FleetBlueprint {
        name: row.blueprint.parse()?,
        overlays: content.overlays,
        arguments: content.arguments,
        config: content.config,
    };
    let handed = handed_over(tx, &row.name, &row.user, &blueprint, seal_to)?;
    let document = serde_json::to_string(&handed)
        .map_err(|error| Error::failed(format!("server {server}: {error}")))?;
    match document.len() < LONGEST / 2 {
        true => Ok(Performed::Done(document)),
        false => Err(Error::conflict(format!(
            "blueprint '{}' is too long to be sent: {} bytes",
            row.blueprint,
            document.len()
        ))),
    }
}

/// Seals a blueprint to a host, as [`SealKey::seal_once`].
pub fn seal(blueprint: &FleetBlueprint, seal_to: &SealKey) -> Result<(String, SealKey)> {
    let text = serde_json::to_vec(blueprint)
        .map_err(|error| Error::failed(format!("blueprint '{}': {error}", blueprint.name)))?;
    seal_to.seal_once(&text)
}

/// The digests of the overlays of a blueprint of this host.
///
/// Fails with 4 if one has not been read yet.
pub fn digests_of(
    connection: &Connection,
    blueprint: &FleetBlueprint,
) -> Result<Vec<(String, String)>> {
    let known = overlays::digests(connection)?;
    let digest = |overlay: &OverlayName| {
        let digest = known.get(overlay.as_str()).ok_or_else(|| {
            Error::conflict(format!(
                "overlay '{overlay}' is not in the catalog, or its files have not been read yet"
            ))
        })?;
        Ok((overlay.to_string(), digest.clone()))
    };
    blueprint.overlays.iter().map(digest).collect()
}

fn handed_over(
    connection: &Connection,
    name: &str,
    owner: &str,
    blueprint: &FleetBlueprint,
    seal_to: &SealKey,
) -> Result<HandedOver> {
    let (sealed, sealed_by) = seal(blueprint, seal_to)?;
    Ok(HandedOver {
        name: name.to_owned(),
        owner: owner.to_owned(),
        overlays: digests_of(connection, blueprint)?,
        blueprint: sealed,
        sealed_by,
    })
}
