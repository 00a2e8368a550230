//! Events on their way to the engine. The outbox is the table of events itself, with a mark: up to
//! which event the engine has all (`fleet_self.events_sent`).

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::JobId;
use crate::base::ulid::Ulid;
use crate::db::{one, query, text, text_or_null};

/// An event as other hosts are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventOut {
    pub id: i64,
    pub at: i64,
    pub kind: String,
    pub actor: String,
    /// The order that it is about, or that asked for its job.
    pub order: Option<Ulid>,
    pub job: Option<JobId>,
    /// The job's operation.
    pub operation: Option<String>,
    pub server: Option<Ulid>,
    pub detail: String,
}

/// Events after `after`, oldest first.
pub fn after(connection: &Connection, after: i64, limit: usize) -> Result<Vec<EventOut>> {
    let sql = "SELECT e.id, e.at, e.kind, e.actor,
               coalesce(e.order_id, (SELECT min(o.id) FROM fleet_orders_in o WHERE o.job_id = e.job_id)),
               e.job_id, j.operation, s.ulid, e.detail
               FROM events e LEFT JOIN jobs j ON j.id = e.job_id
               LEFT JOIN servers s ON s.id = e.server_id
               WHERE e.id > ?1 ORDER BY e.id LIMIT ?2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query(connection, sql, params![after, limit], |row| {
        Ok(EventOut {
            id: row.get(0)?,
            at: row.get(1)?,
            kind: text(row, 2)?,
            actor: text(row, 3)?,
            order: row.get(4)?,
            job: row.get(5)?,
            operation: text_or_null(row, 6)?,
            server: row.get(7)?,
            detail: text(row, 8)?,
        })
    })
}

/// The newest event's number; 0 without one.
pub fn newest(connection: &Connection) -> Result<i64> {
    let sql = "SELECT coalesce(max(id), 0) FROM events";
    one(connection, sql, [], |row| row.get(0))
}

/// The first event since `since`, among the `most` newest ones; None if they are all older.
pub fn first_since(connection: &Connection, since: i64, most: i64) -> Result<Option<i64>> {
    // Backwards over the primary key, so that old events are not read.
    let sql = "SELECT min(id) FROM (SELECT id, at FROM events ORDER BY id DESC LIMIT ?2)
               WHERE at >= ?1";
    one(connection, sql, params![since, most], |row| row.get(0))
}
