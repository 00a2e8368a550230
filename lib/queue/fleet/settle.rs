//! What other hosts told about orders from here.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::fleet::orders_out;
use crate::domain::fleet::event::FleetEvent;
use crate::domain::fleet::rules::{self, OrderState, Told};

/// Applies an event whose signature has been verified. Whether an order's state has changed.
pub fn event(tx: &Connection, event: &FleetEvent, now: i64) -> Result<bool> {
    let mut changed = false;
    if let (Some(order), Some(told)) = (event.order, rules::told(event)) {
        changed |= apply(tx, order, told, event, now)?;
    }

    // Orders that got the job of another one are told of its end by its number.
    if let Some(job) = event.job
        && let Some(end @ Told::Ended(_)) = rules::told(&of_any_order(event))
        && event.kind.starts_with("job.")
    {
        for order in orders_out::of_remote_job(tx, &event.host, job)? {
            changed |= apply(tx, order, end, event, now)?;
        }
    }
    Ok(changed)
}

/// The same event, as if an order had asked for its job.
fn of_any_order(event: &FleetEvent) -> FleetEvent {
    FleetEvent {
        order: event.order.or(Some(Ulid::from_parts(0, 0))),
        ..event.clone()
    }
}

fn apply(tx: &Connection, order: Ulid, told: Told, event: &FleetEvent, now: i64) -> Result<bool> {
    let Some(row) = orders_out::get(tx, order)? else {
        return Ok(false);
    };
    // Only the host to which it was sent knows what became of it.
    if row.to_host != event.host.as_str() {
        return Ok(false);
    }

    match rules::settle(row.state, told) {
        None => Ok(false),
        Some(OrderState::Accepted) => orders_out::accept(tx, order, event.job, "", now),
        Some(OrderState::Unknown) => {
            let why = "it was accepted, and then refused: the host has lost its rows";
            orders_out::settle(tx, order, OrderState::Unknown, why, now)
        }
        Some(state) => orders_out::settle(tx, order, state, words(event), now),
    }
}

/// What the event says besides the end itself.
fn words(event: &FleetEvent) -> &str {
    match event.detail.split_once(':') {
        Some((_, what)) if event.kind == crate::domain::fleet::event::ENDED => what.trim_start(),
        _ if event.kind == crate::domain::fleet::event::ENDED => "",
        _ => &event.detail,
    }
}
