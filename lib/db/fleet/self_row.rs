//! This host's part in its fleet: the one row of `fleet_self`.

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::base::Result;
use crate::db::{changes, exists, first, run, text_or_null};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SelfRow {
    /// The newest event that the engine has acknowledged.
    pub events_sent: i64,
    /// The generation of the stream that has it; None before the first.
    pub events_generation: Option<String>,
    pub cordoned: bool,
    pub cordoned_by: Option<String>,
    /// When left4me-link was last heard of, unix ms.
    pub link_at: Option<i64>,
    /// Unix ms; None while there is no connection to the engine.
    pub connected_since: Option<i64>,
    pub disconnected_since: Option<i64>,
    /// Why there is none, or that a copy of this host has its place.
    pub link_error: Option<String>,
    /// Whether a copy of this host has its place.
    pub is_clone: bool,
    /// Messages that were no orders, events or statuses, or badly signed.
    pub noise: i64,
    /// The version of the roster that was accepted last.
    pub roster: i64,
}

/// The row; None on a host that belongs to no fleet.
pub fn get(connection: &Connection) -> Result<Option<SelfRow>> {
    let sql =
        "SELECT events_sent, events_generation, cordoned, cordoned_by, link_at, connected_since,
               disconnected_since, link_error, noise, roster, is_clone FROM fleet_self";
    first(connection, sql, [], |row| {
        Ok(SelfRow {
            events_sent: row.get(0)?,
            events_generation: text_or_null(row, 1)?,
            cordoned: row.get(2)?,
            cordoned_by: text_or_null(row, 3)?,
            link_at: row.get(4)?,
            connected_since: row.get(5)?,
            disconnected_since: row.get(6)?,
            link_error: text_or_null(row, 7)?,
            noise: row.get(8)?,
            roster: row.get(9)?,
            is_clone: row.get(10)?,
        })
    })
}

/// Whether this host belongs to a fleet, and has events that the engine does not have.
pub fn has_news(connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM fleet_self
               WHERE events_sent < (SELECT coalesce(max(id), 0) FROM events)";
    exists(connection, sql, [])
}

/// Makes the row if there is none.
pub fn ensure(tx: &Connection) -> Result<()> {
    run(tx, "INSERT OR IGNORE INTO fleet_self (only) VALUES (1)", [])
}

/// Records how left4me-link is connected.
pub fn set_link(
    tx: &Connection,
    now: i64,
    (connected, since): (bool, i64),
    is_clone: bool,
    error: Option<&str>,
) -> Result<()> {
    let sql = "UPDATE fleet_self SET link_at = ?1, link_error = ?4, is_clone = ?5,
               connected_since = iif(?2, ?3, NULL), disconnected_since = iif(?2, NULL, ?3)";
    run(tx, sql, params![now, connected, since, error, is_clone])
}

/// Records up to which event the engine has all, in the stream of this generation.
pub fn set_mark(tx: &Connection, event: i64, generation: &str) -> Result<()> {
    let sql = "UPDATE fleet_self SET events_sent = ?1, events_generation = ?2";
    run(tx, sql, params![event, generation])
}

/// Moves the mark forward, unless the stream is another one by now.
pub fn move_mark(tx: &Connection, event: i64, generation: &str) -> Result<bool> {
    let sql = "UPDATE fleet_self SET events_sent = ?1
               WHERE events_generation = ?2 AND events_sent < ?1
               AND ?1 <= (SELECT coalesce(max(id), 0) FROM events)";
    changes(tx, sql, params![event, generation])
}

pub fn add_noise(tx: &Connection, count: u32) -> Result<()> {
    run(tx, "UPDATE fleet_self SET noise = noise + ?1", [count])
}

/// Takes in no more servers, or does again. False if nothing has changed.
pub fn set_cordoned(tx: &Connection, by: Option<&str>) -> Result<bool> {
    let sql = "UPDATE fleet_self SET cordoned = (?1 IS NOT NULL), cordoned_by = ?1
               WHERE cordoned <> (?1 IS NOT NULL)";
    changes(tx, sql, [by])
}

/// Records the version of the roster. False if it is not newer than the last.
pub fn set_roster(tx: &Connection, version: i64) -> Result<bool> {
    let sql = "UPDATE fleet_self SET roster = ?1 WHERE roster < ?1";
    changes(tx, sql, [version])
}
