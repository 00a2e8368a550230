//! What other hosts told that happened there.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::lists::Part;
use crate::db::{changes, one, query, run, text};
use crate::domain::fleet::event::FleetEvent;

/// An event of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostEvent {
    pub host: String,
    /// Its number on that host, without gaps.
    pub seq: i64,
    /// Unix ms, by that host's clock.
    pub at: i64,
    pub kind: String,
    pub actor: String,
    /// The order it is about.
    pub order: Option<Ulid>,
    /// The job on that host.
    pub job: Option<i64>,
    pub server: Option<Ulid>,
    pub detail: String,
    /// Unix ms: when it came here.
    pub received_at: i64,
}

/// Which events are shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter<'a> {
    pub host: Option<&'a str>,
    pub order: Option<Ulid>,
    pub job: Option<i64>,
    /// Only kinds that begin so: `server.`.
    pub kind: &'a str,
}

/// The newest events, newest first.
pub fn newest(
    connection: &Connection,
    filter: EventFilter<'_>,
    part: Part,
) -> Result<Vec<HostEvent>> {
    let sql = "SELECT host, seq, at, kind, actor, order_id, job, server, detail, received_at
               FROM fleet_events
               WHERE (?1 IS NULL OR host = ?1) AND (?2 IS NULL OR order_id = ?2)
                 AND (?3 IS NULL OR job = ?3) AND substr(kind, 1, length(?4)) = ?4
               ORDER BY at DESC, host, seq DESC LIMIT ?5 OFFSET ?6";
    let Part { limit, offset } = part;
    let values = params![
        filter.host,
        filter.order,
        filter.job,
        filter.kind,
        limit,
        offset
    ];
    query(connection, sql, values, event)
}

fn event(row: &Row<'_>) -> rusqlite::Result<HostEvent> {
    Ok(HostEvent {
        host: text(row, 0)?,
        seq: row.get(1)?,
        at: row.get(2)?,
        kind: text(row, 3)?,
        actor: text(row, 4)?,
        order: row.get(5)?,
        job: row.get(6)?,
        server: row.get(7)?,
        detail: text(row, 8)?,
        received_at: row.get(9)?,
    })
}

/// Keeps an event. False if it was known.
pub fn add(tx: &Connection, event: &FleetEvent, now: i64) -> Result<bool> {
    let sql = "INSERT OR IGNORE INTO fleet_events
                   (host, seq, at, kind, actor, order_id, job, server, detail, received_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let row = params![
        event.host.as_str(),
        event.seq,
        event.at,
        event.kind,
        event.actor,
        event.order,
        event.job,
        event.server,
        event.detail,
        now
    ];
    changes(tx, sql, row)
}

/// Drops all events of a host.
pub fn forget(tx: &Connection, host: &str) -> Result<()> {
    run(tx, "DELETE FROM fleet_events WHERE host = ?1", [host])
}

/// The newest event of a host that came here; 0 before the first one.
pub fn last_of(connection: &Connection, host: &str) -> Result<i64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM fleet_events WHERE host = ?1";
    one(connection, sql, [host], |row| row.get(0))
}

/// The newest event of a host about an order; None if none came here.
pub fn last_of_order(connection: &Connection, host: &str, order: Ulid) -> Result<Option<i64>> {
    let sql = "SELECT max(seq) FROM fleet_events WHERE host = ?1 AND order_id = ?2";
    one(connection, sql, params![host, order], |row| row.get(0))
}
