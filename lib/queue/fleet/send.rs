//! Writes an order down. From then on it is on disk: left4me-link sends it until the host has told
//! its end, or its time is over.

use rusqlite::Connection;

use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::Db;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::orders_out::{self, NewOrder};
use crate::domain::fleet::order::{Order, What};

/// How long an order is good for, unless it says so, in ms: a day.
pub const GOOD_FOR: i64 = 24 * 3_600_000;

/// The longest time an order can be good for: the engine keeps it for 30 days.
pub const LONGEST: i64 = 29 * 24 * 3_600_000;

/// An order as it is asked for.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Made from the rollout, so that another driver makes the same one; a new one by default.
    pub id: Option<Ulid>,
    pub to: &'a FleetHost,
    pub what: What,
    /// Who asks.
    pub by: &'a str,
    /// This host's name.
    pub here: &'a FleetHost,
    pub reason: &'a str,
    /// For how long it is good, in ms; [`GOOD_FOR`] by default.
    pub good_for: Option<i64>,
    pub rollout: Option<Ulid>,
}

/// Writes the order down, in one transaction. Wake left4me-link afterwards. An order of the same id
/// is not written a second time.
///
/// Fails with 2 if the order is too long, or good for too long.
pub fn send(db: &mut Db, draft: &Draft<'_>, now: i64) -> Result<Ulid> {
    db.write(|tx| send_in(tx, draft, now))
}

/// The same, as a part of a transaction.
pub fn send_in(tx: &Connection, draft: &Draft<'_>, now: i64) -> Result<Ulid> {
    let id = draft.id.unwrap_or_else(|| Ulid::new(now));
    if orders_out::get(tx, id)?.is_some() {
        return Ok(id);
    }
    let good_for = draft.good_for.unwrap_or(GOOD_FOR);
    if !(1..=LONGEST).contains(&good_for) {
        return Err(Error::usage("an order is good for at most 29 days"));
    }

    let order = Order {
        id,
        to: draft.to.clone(),
        from: format!("{}@{}", draft.by, draft.here),
        not_after: now.saturating_add(good_for),
        what: draft.what.clone(),
    };
    let (body, summary) = (order.to_bytes()?, order.what.summary());
    let row = NewOrder {
        id,
        to: draft.to,
        kind: order.what.kind(),
        body: &body,
        summary: &summary,
        by: draft.by,
        reason: draft.reason,
        rollout: draft.rollout,
        not_after: order.not_after,
    };
    orders_out::add(tx, now, &row)?;

    let detail = format!("to {}: {summary}", draft.to);
    let event = NewEvent {
        reason: draft.reason,
        order: Some(id),
        ..NewEvent::new("order.sent", draft.by, &detail)
    };
    events::add(tx, now, &event)?;
    Ok(id)
}
