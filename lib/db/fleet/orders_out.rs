//! Orders to other hosts.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::db::{first, run, text};

pub use crate::domain::fleet::rules::OrderState;

/// A new order.
pub struct NewOrder<'a> {
    pub id: Ulid,
    pub to: &'a FleetHost,
    pub kind: &'a str,
    /// The bytes that are signed.
    pub body: &'a [u8],
    pub summary: &'a str,
    pub by: &'a str,
    pub reason: &'a str,
    pub rollout: Option<Ulid>,
    pub not_after: i64,
}

/// An order that was sent from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrderOut {
    pub id: Ulid,
    pub to_host: String,
    pub kind: String,
    /// In words: `restart 2 servers`.
    pub summary: String,
    pub requested_by: String,
    pub reason: String,
    pub rollout_id: Option<Ulid>,
    pub state: OrderState,
    /// Counts from 1; a further one sends the same bytes.
    pub attempt: u32,
    /// Unix ms: when the engine acknowledged the newest attempt.
    pub sent_at: Option<i64>,
    /// The job on the other host.
    pub remote_job: Option<i64>,
    /// Why it was refused, or failed.
    pub detail: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub not_after: i64,
    pub settled_at: Option<i64>,
}

const ORDER: &str =
    "id, to_host, kind, summary, requested_by, reason, rollout_id, state, attempt, sent_at,
                     remote_job, detail, created_at, updated_at, not_after, settled_at";

fn order(row: &Row<'_>) -> rusqlite::Result<OrderOut> {
    Ok(OrderOut {
        id: row.get(0)?,
        to_host: text(row, 1)?,
        kind: text(row, 2)?,
        summary: text(row, 3)?,
        requested_by: text(row, 4)?,
        reason: text(row, 5)?,
        rollout_id: row.get(6)?,
        // A CHECK of the table allows only these words.
        state: OrderState::parse(&text(row, 7)?).unwrap_or(OrderState::Unknown),
        attempt: row.get(8)?,
        sent_at: row.get(9)?,
        remote_job: row.get(10)?,
        detail: text(row, 11)?,
        created_at: row.get(12)?,
        updated_at: row.get(13)?,
        not_after: row.get(14)?,
        settled_at: row.get(15)?,
    })
}

pub fn add(tx: &Connection, now: i64, new: &NewOrder<'_>) -> Result<()> {
    let sql = "INSERT INTO fleet_orders_out (id, to_host, kind, body, summary, requested_by, reason, rollout_id,
                   not_after, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)";
    let row = params![
        new.id,
        new.to.as_str(),
        new.kind,
        new.body,
        new.summary,
        new.by,
        new.reason,
        new.rollout,
        new.not_after,
        now
    ];
    run(tx, sql, row)
}

pub fn get(connection: &Connection, id: Ulid) -> Result<Option<OrderOut>> {
    let sql = format!("SELECT {ORDER} FROM fleet_orders_out WHERE id = ?1");
    first(connection, &sql, params![id], order)
}
