//! Orders to other hosts.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::{FleetHost, JobId};
use crate::base::ulid::Ulid;
use crate::db::{changes, first, query, run, text};

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

/// Records that the host has it; with which job, if it has one. Also for one that was given up as
/// unknown: its time was over before the receipt came.
pub fn accept(
    tx: &Connection,
    id: Ulid,
    job: Option<JobId>,
    detail: &str,
    now: i64,
) -> Result<bool> {
    let sql = "UPDATE fleet_orders_out SET state = 'accepted', settled_at = NULL,
               remote_job = coalesce(?2, remote_job), detail = ?3, updated_at = ?4
               WHERE id = ?1 AND state IN ('kept', 'sent', 'unknown')";
    changes(tx, sql, params![id, job, detail, now])
}

/// Records its end. One that is known is never changed.
pub fn settle(
    tx: &Connection,
    id: Ulid,
    state: OrderState,
    detail: &str,
    now: i64,
) -> Result<bool> {
    let sql =
        "UPDATE fleet_orders_out SET state = ?2, settled_at = ?4, detail = ?3, updated_at = ?4
               WHERE id = ?1 AND (settled_at IS NULL OR (state = 'unknown' AND ?2 <> 'unknown'))";
    changes(tx, sql, params![id, state.as_str(), detail, now])
}

/// Withdraws an order that left4me-link has never been given. False if it has been.
pub fn withdraw(tx: &Connection, id: Ulid, detail: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE fleet_orders_out SET state = 'withdrawn', settled_at = ?3, detail = ?2,
               updated_at = ?3 WHERE id = ?1 AND settled_at IS NULL AND taken_at IS NULL";
    changes(tx, sql, params![id, detail, now])
}

/// The orders to a host that got this job there, and whose end is not known.
pub fn of_remote_job(connection: &Connection, host: &FleetHost, job: JobId) -> Result<Vec<Ulid>> {
    let sql = "SELECT id FROM fleet_orders_out
               WHERE to_host = ?1 AND remote_job = ?2 AND settled_at IS NULL ORDER BY id";
    query(connection, sql, params![host.as_str(), job], |row| {
        row.get(0)
    })
}
