//! What goes to the engine: attempts of orders, events after the mark, this host's status. Nothing
//! is forgotten until the engine has acknowledged it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;

use super::{driving, resend};
use crate::base::keys::{Purpose, SigningKey};
use crate::base::names::FleetHost;
use crate::base::{Error, Result, failpoint};
use crate::db::Db;
use crate::db::events::{self, COMMAND, NewEvent};
use crate::db::fleet::cursors::{self, Stream};
use crate::db::fleet::driving as rollout_rows;
use crate::db::fleet::events_out::{self, EventOut};
use crate::db::fleet::orders_to_send::{self, ToSend};
use crate::db::fleet::{places, self_row};
use crate::domain::fleet::event::{ENDED, FleetEvent};
use crate::domain::fleet::rules;
use crate::domain::fleet::{LONGEST, VERSION};
use crate::wire::gate::{
    BATCH, Generations, LinkState, OutEvent, OutOrder, SentOrder, SentRollout, SetPlace, Taken,
};

/// The actor of the events that left4me-link causes.
const LINK: &str = "left4me-link";

/// How old the note of left4me-link's last request may be, in ms: not each request writes it.
const NOTED_WITHIN: i64 = 30_000;

/// The most characters of an event's detail that other hosts are told.
const LONGEST_DETAIL: usize = 4000;

/// The most bytes of all orders and events in one answer: half of a line, for base64.
const MOST_BYTES: usize = 3 * 1024 * 1024;

/// What left4me-link takes, without this host's status; with a limit of 0, nothing.
///
/// Fails if the database does, or a key cannot sign.
pub fn take(
    db: &mut Db,
    host: &FleetHost,
    signing: Option<&SigningKey>,
    link: &LinkState,
    limit: usize,
    now: i64,
) -> Result<Taken> {
    let limit = limit.min(BATCH);
    if is_news_of_link(db.connection(), link, now)? {
        db.write(|tx| note_link(tx, link, now))?;
    }
    if orders_to_send::any_open(db.connection())?
        || streams_differ(db.connection(), &link.generations)?
    {
        // Writes nothing, and syncs nothing, unless something has to change.
        db.write(|tx| resend::look(tx, &link.generations, now))?;
    }

    let mut taken = Taken::default();
    // Without a connection it only says so.
    if limit == 0 {
        return Ok(taken);
    }

    let mut room = MOST_BYTES;
    if let Some(key) = signing {
        // First: what they tell of waits until the engine has them, and is taken at once after that.
        let (streams, most) = (&link.generations.orders, (limit, &mut room));
        taken.rollouts = db.read(|tx| driving::to_publish(tx, (host, key), streams, most, now))?;
        taken.more |= !taken.rollouts.is_empty();

        let (orders, more) = take_orders(db, limit, &mut room, now)?;
        taken.more |= more;
        let signed = orders.iter().map(|order| signed(order, key));
        taken.orders = signed.collect::<Result<_>>()?;

        // Only a controller decides where servers belong.
        for place in places::unpublished(db.connection(), limit)? {
            taken.places.push(SetPlace {
                server: place.server,
                host: place.host.parse()?,
                epoch: place.epoch,
            });
        }
    }

    let mark = self_row::get(db.connection())?.map_or(0, |own| own.events_sent);
    let found = events_out::after(db.connection(), mark, limit + 1)?;
    taken.more |= found.len() > limit;
    for event in found.into_iter().take(limit) {
        let seq = event.id;
        let body = serde_json::to_string(&self::event(host, event))
            .map_err(|error| Error::failed(format!("event {seq}: {error}")))?;
        if body.len() > room {
            taken.more = true;
            break;
        }
        room -= body.len();
        taken.events.push(OutEvent { seq, body });
    }

    let streams = &link.generations;
    taken.orders_after = position(db, Stream::Orders, &streams.orders, streams.last_order)?;
    taken.events_after = position(db, Stream::Events, &streams.events, streams.last_event)?;
    Ok(taken)
}

/// What the engine has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent<'a> {
    pub orders: &'a [SentOrder],
    /// The newest event up to which all are with the engine.
    pub events: Option<i64>,
    pub rollouts: &'a [SentRollout],
}

/// Records what the engine has acknowledged.
pub fn sent(db: &mut Db, sent: &Sent<'_>, streams: &Generations, now: i64) -> Result<()> {
    let Sent {
        orders,
        events,
        rollouts,
    } = *sent;
    if orders.is_empty() && events.is_none() && rollouts.is_empty() {
        return Ok(());
    }
    db.write(|tx| {
        for order in orders {
            let (id, attempt, sequence) = (order.id, order.attempt, order.sequence);
            orders_to_send::sent(tx, id, attempt, &streams.orders, sequence, now)?;
        }
        for rollout in rollouts {
            let at = (rollout.epoch, rollout.version);
            rollout_rows::published(tx, rollout.id, at, &streams.orders, now)?;
        }
        if let Some(event) = events {
            self_row::move_mark(tx, event, &streams.events)?;
        }
        failpoint::hit("gate.sent");
        Ok(())
    })
}

fn signed(order: &ToSend, key: &SigningKey) -> Result<OutOrder> {
    Ok(OutOrder {
        id: order.id,
        attempt: order.attempt,
        to: order.to_host.parse()?,
        body: STANDARD.encode(&order.body),
        key: key.public().to_string(),
        signature: STANDARD.encode(key.sign(Purpose::Order, &order.body)?),
    })
}

/// The next orders, at most `limit` and as long as `room` together, and whether more wait. From now on
/// the engine may have them: they are found and marked in one transaction, since one that is withdrawn
/// in between counts as one that never left.
fn take_orders(
    db: &mut Db,
    limit: usize,
    room: &mut usize,
    now: i64,
) -> Result<(Vec<ToSend>, bool)> {
    // Nothing is written, and synced, for nothing.
    if orders_to_send::waiting(db.connection(), 1)?.is_empty() {
        return Ok((Vec::new(), false));
    }
    db.write(|tx| {
        let waiting = orders_to_send::waiting(tx, limit + 1)?;
        let (found, mut orders) = (waiting.len(), Vec::new());
        for order in waiting.into_iter().take(limit) {
            let Some(left) = room.checked_sub(order.body.len()) else {
                break;
            };
            *room = left;
            orders_to_send::taken(tx, order.id, now)?;
            orders.push(order);
        }
        let more = found > orders.len();
        Ok((orders, more))
    })
}

/// An event as the fleet is told of it.
pub fn event(host: &FleetHost, event: EventOut) -> FleetEvent {
    // Commands for a game's console may contain passwords.
    let detail = match event.kind.as_str() {
        COMMAND => String::new(),
        // What a host hands over is told whole: it is of no use without its end.
        ENDED if is_short(&event.detail) => event.detail,
        // A message that the engine refuses for its length would hold up all others.
        _ => event.detail.chars().take(LONGEST_DETAIL).collect(),
    };
    FleetEvent {
        v: VERSION,
        host: host.clone(),
        seq: event.id,
        at: event.at,
        kind: event.kind,
        actor: event.actor,
        order: event.order,
        job: event.job,
        operation: event.operation,
        server: event.server,
        detail,
    }
}

/// Whether a message has room for it, as JSON.
fn is_short(detail: &str) -> bool {
    serde_json::to_string(detail).is_ok_and(|text| text.len() <= LONGEST * 3 / 4)
}

fn position(db: &Db, stream: Stream, generation: &str, last: u64) -> Result<u64> {
    let cursor = cursors::get(db.connection(), stream)?;
    let cursor = cursor.as_ref().map(|cursor| rules::Cursor {
        generation: &cursor.generation,
        sequence: cursor.sequence,
    });
    Ok(rules::read_from(cursor, generation, last))
}

/// Whether a stream is another one than the one that was read, or told.
fn streams_differ(connection: &Connection, streams: &Generations) -> Result<bool> {
    let cursor = cursors::get(connection, Stream::Orders)?;
    let read = cursor.as_ref().map(|cursor| rules::Cursor {
        generation: &cursor.generation,
        sequence: cursor.sequence,
    });
    if rules::begins_again(read, &streams.orders, streams.last_order) {
        return Ok(true);
    }
    if streams.events.is_empty() {
        return Ok(false);
    }
    let own = self_row::get(connection)?.and_then(|own| own.events_generation);
    let differs = |stream, generation: &str, last| -> Result<bool> {
        let cursor = cursors::get(connection, stream)?;
        Ok(cursor.is_none_or(|cursor| cursor.generation != generation || cursor.sequence > last))
    };
    Ok(own.as_ref() != Some(&streams.events)
        || differs(Stream::Orders, &streams.orders, streams.last_order)?
        || differs(Stream::Events, &streams.events, streams.last_event)?)
}

/// Whether left4me-link says something new about its connection, or has not been heard of for long.
fn is_news_of_link(connection: &Connection, link: &LinkState, now: i64) -> Result<bool> {
    let own = self_row::get(connection)?;
    Ok(own.is_none_or(|own| {
        let since = match link.connected {
            true => own.connected_since,
            false => own.disconnected_since,
        };
        let is_noted = own
            .link_at
            .is_some_and(|at| (at..at.saturating_add(NOTED_WITHIN)).contains(&now));
        since != Some(link.since) || own.link_error != link.error || !is_noted
    }))
}

/// Writes down how left4me-link is connected, and an event when that changes.
fn note_link(tx: &Connection, link: &LinkState, now: i64) -> Result<()> {
    self_row::ensure(tx)?;
    let before = self_row::get(tx)?.unwrap_or_default();
    let error = link.error.as_deref();
    self_row::set_link(tx, now, (link.connected, link.since), link.is_clone, error)?;

    let was_connected = before.connected_since.is_some();
    let was_heard = before.link_at.is_some();
    let kind = match (link.connected, link.is_clone) {
        (false, true) if !before.is_clone => "fleet.clone_refused",
        // While this host is connected, that is all that can be wrong: a copy was refused.
        (true, _) if error.is_some() && before.link_error != link.error => "fleet.clone_refused",
        (true, _) if !was_connected => "fleet.connected",
        (false, false) if was_connected || !was_heard => "fleet.disconnected",
        _ => return Ok(()),
    };
    events::add(
        tx,
        now,
        &NewEvent::new(kind, LINK, error.unwrap_or_default()),
    )
}
