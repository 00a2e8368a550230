//! What events have told about the fleet: so that each is told once.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{first, query, run, text};

/// A host that belongs to the fleet and has told its status.
pub struct Heard {
    pub host: String,
    /// When its last status came, unix ms.
    pub at: i64,
    pub told_silent: bool,
}

pub fn hosts(connection: &Connection) -> Result<Vec<Heard>> {
    let sql = "SELECT name, status_received_at, told_silent FROM fleet_hosts
               WHERE expelled_at IS NULL AND status_received_at IS NOT NULL ORDER BY name";
    query(connection, sql, [], |row| {
        Ok(Heard {
            host: text(row, 0)?,
            at: row.get(1)?,
            told_silent: row.get(2)?,
        })
    })
}

pub fn set_silent(tx: &Connection, host: &str, told: bool) -> Result<()> {
    let sql = "UPDATE fleet_hosts SET told_silent = ?2 WHERE name = ?1";
    run(tx, sql, params![host, told])
}

/// Whether it was told that there is no connection, and that orders have no answer.
pub fn own(connection: &Connection) -> Result<(bool, bool)> {
    let sql = "SELECT told_away, told_late FROM fleet_self";
    let told = first(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(told.unwrap_or_default())
}

pub fn set_own(tx: &Connection, away: bool, late: bool) -> Result<()> {
    let sql = "UPDATE fleet_self SET told_away = ?1, told_late = ?2";
    run(tx, sql, params![away, late])
}
