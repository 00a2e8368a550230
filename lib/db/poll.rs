//! The poller's own rows: the time of its last poll, and units that belong to no server.

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::server_unit;
use crate::db::{one, query, run, text};

/// A unit of left4me-server@ without a server row that is enabled or runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// The part of the unit's name after the `@`.
    pub instance: String,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Its state, as one of ours.
    pub state: String,
    /// When it was first seen, unix ms.
    pub since: i64,
}

impl Orphan {
    /// `left4me-server@X.service`.
    pub fn unit(&self) -> String {
        server_unit(&self.instance)
    }

    /// What is wrong, and what to do about it.
    pub fn message(&self) -> String {
        let Self {
            state, instance, ..
        } = self;
        let boot = if self.enabled {
            "starts at boot"
        } else {
            "does not start at boot"
        };

        format!(
            "{} is {state}, {boot}, and belongs to no server: \
             `sudo left4me-helper disable {instance}` ends it",
            self.unit()
        )
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poll {
    /// When it last read all units, unix ms; none when it never did.
    pub polled_at: Option<i64>,
    /// Why its last attempt failed.
    pub error: Option<String>,
}

/// All orphans, ordered by instance.
pub fn orphans(connection: &Connection) -> Result<Vec<Orphan>> {
    let sql = "SELECT instance, enabled, state, since FROM orphans ORDER BY instance";
    query(connection, sql, [], |row| {
        Ok(Orphan {
            instance: text(row, 0)?,
            enabled: row.get(1)?,
            state: text(row, 2)?,
            since: row.get(3)?,
        })
    })
}

/// Adds an orphan, or updates its state. Writes nothing when the state is the same.
pub fn set_orphan(tx: &Connection, orphan: &Orphan) -> Result<()> {
    let sql = "INSERT INTO orphans (instance, enabled, state, since) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (instance) DO UPDATE SET enabled = ?2, state = ?3
               WHERE enabled <> ?2 OR state <> ?3";
    run(
        tx,
        sql,
        params![orphan.instance, orphan.enabled, orphan.state, orphan.since],
    )
}

pub fn remove_orphan(tx: &Connection, instance: &str) -> Result<()> {
    run(tx, "DELETE FROM orphans WHERE instance = ?1", [instance])
}

pub fn last(connection: &Connection) -> Result<Poll> {
    let sql = "SELECT polled_at, error FROM poll WHERE id = 1";
    one(connection, sql, [], |row| {
        Ok(Poll {
            polled_at: row.get(0)?,
            error: row.get(1)?,
        })
    })
}

/// Whether the disk of the database was almost full at the last poll.
pub fn is_disk_low(connection: &Connection) -> Result<bool> {
    let sql = "SELECT disk_low_since IS NOT NULL FROM poll WHERE id = 1";
    one(connection, sql, [], |row| row.get(0))
}

/// Records that the disk is almost full since `since`, unix ms, or that it is not.
pub fn set_disk_low(tx: &Connection, since: Option<i64>) -> Result<()> {
    run(
        tx,
        "UPDATE poll SET disk_low_since = ?1 WHERE id = 1",
        [since],
    )
}

/// Records that the poller read all units, or why it could not.
pub fn finished(tx: &Connection, now: i64, error: Option<&str>) -> Result<()> {
    let sql = "UPDATE poll SET polled_at = iif(?2 IS NULL, ?1, polled_at), error = ?2 WHERE id = 1";
    run(tx, sql, params![now, error])
}
