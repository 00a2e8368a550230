//! Where each server belongs: on a viewer, what the engine's bucket says; on a host, what it was
//! told.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::{changes, exists, first, query, text};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub server: Ulid,
    pub host: String,
    /// Grows with each move.
    pub epoch: u64,
    /// Unix ms.
    pub updated_at: i64,
}

const PLACE: &str = "server, host, epoch, updated_at";

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place {
        server: row.get(0)?,
        host: text(row, 1)?,
        epoch: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        updated_at: row.get(3)?,
    })
}

pub fn all(connection: &Connection) -> Result<Vec<Place>> {
    let sql = format!("SELECT {PLACE} FROM fleet_places ORDER BY server");
    query(connection, &sql, [], place)
}

pub fn get(connection: &Connection, server: Ulid) -> Result<Option<Place>> {
    let sql = format!("SELECT {PLACE} FROM fleet_places WHERE server = ?1");
    first(connection, &sql, [server], place)
}

/// Writes a server's place as the engine's bucket has it, if its epoch is newer than the known one,
/// or the same and the known one has not been in the bucket. False if it is not.
pub fn put(tx: &Connection, server: Ulid, host: &str, epoch: u64, now: i64) -> Result<bool> {
    let sql = "INSERT INTO fleet_places (server, host, epoch, updated_at) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (server) DO UPDATE SET
                   host = excluded.host, epoch = excluded.epoch, unpublished = 0,
                   updated_at = excluded.updated_at
               WHERE excluded.epoch > epoch OR (excluded.epoch = epoch AND unpublished = 1)";
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    changes(tx, sql, params![server, host, epoch, now])
}

/// Decides here where a server belongs. The first to compare and set the bucket is right: what
/// [`put`] brings from there replaces it. False if the epoch is not newer than the known one.
pub fn claim(tx: &Connection, server: Ulid, host: &str, epoch: u64, now: i64) -> Result<bool> {
    let sql = "INSERT INTO fleet_places (server, host, epoch, unpublished, updated_at)
               VALUES (?1, ?2, ?3, 1, ?4)
               ON CONFLICT (server) DO UPDATE SET
                   host = excluded.host, epoch = excluded.epoch, unpublished = 1,
                   updated_at = excluded.updated_at
               WHERE excluded.epoch > epoch";
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    changes(tx, sql, params![server, host, epoch, now])
}

/// Whether the engine's bucket does not have the server's place.
pub fn is_unpublished(connection: &Connection, server: Ulid) -> Result<bool> {
    let sql = "SELECT 1 FROM fleet_places WHERE server = ?1 AND unpublished = 1";
    exists(connection, sql, [server])
}

/// Places that the engine's bucket does not have.
pub fn unpublished(connection: &Connection, limit: usize) -> Result<Vec<Place>> {
    let sql =
        format!("SELECT {PLACE} FROM fleet_places WHERE unpublished = 1 ORDER BY server LIMIT ?1");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query(connection, &sql, [limit], place)
}
