//! Which orders go to the engine again, and which are given up: [`rules`] says so.

use rusqlite::Connection;

use crate::base::Result;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::cursors::{self, Cursor, Stream};
use crate::db::fleet::{events_out, orders_out, orders_to_send, self_row};
use crate::domain::fleet::rules::{self, Facts};
use crate::wire::gate::Generations;

/// The actor of what a host decides by itself.
const ACTOR: &str = "left4me-gate";

/// Looks at the orders whose end is not known, with what left4me-link knows of the streams. Whether
/// any has changed.
pub fn look(tx: &Connection, streams: &Generations, now: i64) -> Result<bool> {
    let (generation, last) = (&streams.orders, streams.last_order);
    let mut changed = begins_again(tx, Stream::Orders, generation, last, now)?;
    let events_begin_again = events_begin_again(tx, streams, now)?;
    changed |= events_begin_again;
    for order in orders_to_send::open(tx)? {
        let facts = Facts {
            now,
            generation: &streams.orders,
            last: streams.last_order,
            status_at: order.heard_at,
            events_begin_again,
        };
        if let Some(state) = rules::expire(order.state, order.not_after, now) {
            let why = "its time is over, and the host has not answered";
            changed |= orders_out::settle(tx, order.id, state, why, now)?;
            let detail = format!("to {}: {why}", order.to_host);
            let event = NewEvent {
                order: Some(order.id),
                ..NewEvent::new("order.unknown", ACTOR, &detail)
            };
            events::add(tx, now, &event)?;
        } else if let Some(reason) = rules::resend(&order.outgoing(), &facts) {
            tracing::info!("order {} is sent again: {reason:?}", order.id);
            changed |= orders_to_send::again(tx, order.id, order.attempt, now)?;
        }
    }
    Ok(changed)
}

/// The same, before messages of a stream are read: nothing moves its cursor to another generation
/// unless the orders that may have been lost with the old one are looked at.
pub(super) fn before_reading(
    tx: &Connection,
    stream: Stream,
    generation: &str,
    now: i64,
) -> Result<()> {
    if cursors::get(tx, stream)?.is_some_and(|cursor| cursor.generation == generation) {
        return Ok(());
    }
    let mut streams = Generations {
        last_order: u64::MAX,
        last_event: u64::MAX,
        ..Generations::default()
    };
    match stream {
        Stream::Orders => generation.clone_into(&mut streams.orders),
        Stream::Events => generation.clone_into(&mut streams.events),
        Stream::Hosts | Stream::Roster | Stream::Places | Stream::Rollouts => return Ok(()),
    }
    look(tx, &streams, now).map(drop)
}

/// Finds that a stream is another one than before, or has lost its end: it is read from its beginning.
/// Once for each: the cursor names the new one.
fn begins_again(
    tx: &Connection,
    stream: Stream,
    generation: &str,
    last: u64,
    now: i64,
) -> Result<bool> {
    if generation.is_empty() {
        return Ok(false);
    }

    let cursor = cursors::get(tx, stream)?;
    let read = cursor.as_ref().map(|cursor| rules::Cursor {
        generation: &cursor.generation,
        sequence: cursor.sequence,
    });
    let again = rules::begins_again(read, generation, last);
    if again || cursor.is_none() {
        cursors::set(tx, stream, &Cursor::at_beginning(generation), now)?;
    }
    Ok(again)
}

/// The same for the stream EVENTS, which is also told this host's newest events again.
fn events_begin_again(tx: &Connection, streams: &Generations, now: i64) -> Result<bool> {
    let generation = &streams.events;
    if generation.is_empty() {
        return Ok(false);
    }

    let again = begins_again(tx, Stream::Events, generation, streams.last_event, now)?;
    let own = self_row::get(tx)?.unwrap_or_default();
    if again || own.events_generation.as_ref() != Some(generation) {
        let since = now.saturating_sub(rules::TOLD_AGAIN_SINCE);
        // A host that has just joined does not tell its whole history.
        let told = match own.events_generation {
            Some(_) => own.events_sent,
            None => events_out::newest(tx)?,
        };
        let first = events_out::first_since(tx, since, rules::TOLD_AGAIN)?;
        let mark = rules::mark_after_loss(told, first);
        self_row::set_mark(tx, mark, generation)?;
    }
    Ok(again)
}
