//! What this host was told of servers by signed orders: up to which epoch, and whether it has them.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::ServerId;
use crate::base::ulid::Ulid;
use crate::db::{changes, first, query, text_or_null};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub epoch: u64,
    /// The host that has it now; empty if no order named it. None while it is here.
    pub moved_to: Option<String>,
}

fn told(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Told> {
    Ok(Told {
        epoch: row.get::<_, i64>(column)?.unsigned_abs(),
        moved_to: text_or_null(row, column + 1)?,
    })
}

pub fn get(connection: &Connection, server: Ulid) -> Result<Option<Told>> {
    let sql = "SELECT epoch, moved_to FROM fleet_told WHERE server = ?1";
    first(connection, sql, params![server], |row| told(row, 0))
}

pub fn all(connection: &Connection) -> Result<HashMap<Ulid, Told>> {
    let sql = "SELECT server, epoch, moved_to FROM fleet_told";
    let rows = query(connection, sql, [], |row| Ok((row.get(0)?, told(row, 1)?)))?;
    Ok(rows.into_iter().collect())
}

/// Records what an order told. False if a newer one, or one of the same epoch, has told otherwise.
pub fn put(
    tx: &Connection,
    server: Ulid,
    epoch: u64,
    moved_to: Option<&str>,
    now: i64,
) -> Result<bool> {
    let sql = "INSERT INTO fleet_told (server, epoch, moved_to, updated_at) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (server) DO UPDATE SET
                   epoch = excluded.epoch, moved_to = excluded.moved_to,
                   updated_at = excluded.updated_at
               WHERE excluded.epoch > epoch";
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    changes(tx, sql, params![server, epoch, moved_to, now])
}

/// The servers of this host that have moved away, each with the host that has it now.
pub fn moved(connection: &Connection) -> Result<HashMap<ServerId, String>> {
    let sql = "SELECT s.id, t.moved_to FROM fleet_told t JOIN servers s ON s.ulid = t.server
               WHERE t.moved_to IS NOT NULL";
    let rows = query(connection, sql, [], |row| {
        Ok((row.get(0)?, text_or_null(row, 1)?.unwrap_or_default()))
    })?;
    Ok(rows.into_iter().collect())
}
