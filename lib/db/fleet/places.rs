//! Where each server belongs: on a viewer, what the engine's bucket says; on a host, what it was
//! told.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::driving::HELD;
use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::{changes, exists, first, query, run, text};

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
                   rollout_id = NULL, former_host = NULL, former_epoch = NULL,
                   updated_at = excluded.updated_at
               WHERE excluded.epoch > epoch OR (excluded.epoch = epoch AND unpublished = 1)";
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    changes(tx, sql, params![server, host, epoch, now])
}

/// Decides here where a server belongs. The first to compare and set the bucket is right: what
/// [`put`] brings from there replaces it. False if the epoch is not newer than the known one.
pub fn claim(
    tx: &Connection,
    server: Ulid,
    (host, epoch): (&str, u64),
    rollout: Ulid,
    now: i64,
) -> Result<bool> {
    let sql = "INSERT INTO fleet_places (server, host, epoch, unpublished, rollout_id, updated_at)
               VALUES (?1, ?2, ?3, 1, ?4, ?5)
               ON CONFLICT (server) DO UPDATE SET
                   host = excluded.host, epoch = excluded.epoch, unpublished = 1,
                   former_host = iif(unpublished = 1, former_host, host),
                   former_epoch = iif(unpublished = 1, former_epoch, epoch),
                   rollout_id = excluded.rollout_id, updated_at = excluded.updated_at
               WHERE excluded.epoch > epoch";
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    changes(tx, sql, params![server, host, epoch, rollout, now])
}

/// Takes back what a rollout decided and the engine's bucket does not have.
pub fn take_back(tx: &Connection, rollout: Ulid, now: i64) -> Result<()> {
    let sql = "UPDATE fleet_places SET host = former_host, epoch = former_epoch, unpublished = 0,
               rollout_id = NULL, former_host = NULL, former_epoch = NULL, updated_at = ?2
               WHERE rollout_id = ?1 AND unpublished = 1 AND former_epoch IS NOT NULL";
    run(tx, sql, params![rollout, now])?;
    let sql = "DELETE FROM fleet_places WHERE rollout_id = ?1 AND unpublished = 1";
    run(tx, sql, params![rollout])
}

/// Whether the engine's bucket does not have the server's place.
pub fn is_unpublished(connection: &Connection, server: Ulid) -> Result<bool> {
    let sql = "SELECT 1 FROM fleet_places WHERE server = ?1 AND unpublished = 1";
    exists(connection, sql, [server])
}

/// Places that the engine's bucket does not have, and may get: another controller must be able to know
/// first that their rollout has come so far.
pub fn unpublished(connection: &Connection, limit: usize) -> Result<Vec<Place>> {
    let sql = format!(
        "SELECT {PLACE} FROM fleet_places WHERE unpublished = 1
         AND (rollout_id IS NULL OR rollout_id NOT IN ({HELD})) ORDER BY server LIMIT ?1"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query(connection, &sql, [limit], place)
}
