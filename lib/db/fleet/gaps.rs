//! How far the events of each other host are here without a gap.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{first, query, run, text};

/// The most events that are looked at at once.
const MOST: i64 = 2000;

/// A host of which events came after those that are here without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    /// When its last status came, unix ms.
    pub seen_at: Option<i64>,
    /// Up to this event, none is missing that it still has; 0 before the first.
    pub whole: i64,
    /// When it was asked last without an answer, unix ms; 0 if it was not.
    pub asked_at: i64,
}

/// Those hosts besides this one: first the one that was asked the longest ago.
pub fn hosts(connection: &Connection, here: &str) -> Result<Vec<Host>> {
    let sql = "SELECT h.name, h.status_received_at, coalesce(g.whole, 0), coalesce(g.asked_at, 0)
               FROM fleet_hosts h LEFT JOIN fleet_gaps g ON g.host = h.name
               WHERE h.expelled_at IS NULL AND h.name <> ?1
                 AND (SELECT max(seq) FROM fleet_events WHERE host = h.name) > coalesce(g.whole, 0)
               ORDER BY coalesce(g.asked_at, 0), h.name";
    query(connection, sql, [here], |row| {
        Ok(Host {
            name: text(row, 0)?,
            seen_at: row.get(1)?,
            whole: row.get(2)?,
            asked_at: row.get(3)?,
        })
    })
}

/// The numbers of a host's events from `whole` on, and when each came here.
pub fn numbers(connection: &Connection, host: &str, whole: i64) -> Result<Vec<(i64, i64)>> {
    let sql = "SELECT seq, received_at FROM fleet_events WHERE host = ?1 AND seq >= ?2
               ORDER BY seq LIMIT ?3";
    query(connection, sql, params![host, whole, MOST], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// The first event of a host after this one that is here.
pub fn next(connection: &Connection, host: &str, after: i64) -> Result<Option<i64>> {
    let sql = "SELECT seq FROM fleet_events WHERE host = ?1 AND seq > ?2 ORDER BY seq LIMIT 1";
    first(connection, sql, params![host, after], |row| row.get(0))
}

/// Records up to which event none is missing. It only grows.
pub fn set_whole(tx: &Connection, host: &str, whole: i64) -> Result<()> {
    let sql = "INSERT INTO fleet_gaps (host, whole) VALUES (?1, ?2)
               ON CONFLICT (host) DO UPDATE SET whole = max(whole, excluded.whole)";
    run(tx, sql, params![host, whole])
}

/// Records when a host was asked; 0 once it has answered.
pub fn set_asked(tx: &Connection, host: &str, at: i64) -> Result<()> {
    let sql = "INSERT INTO fleet_gaps (host, asked_at) VALUES (?1, ?2)
               ON CONFLICT (host) DO UPDATE SET asked_at = excluded.asked_at";
    run(tx, sql, params![host, at])
}

/// Another machine that has this name counts from 1.
pub fn forget(tx: &Connection, host: &str) -> Result<()> {
    run(tx, "DELETE FROM fleet_gaps WHERE host = ?1", [host])
}
