//! The names that servers have in the fleet.

use rusqlite::{Connection, Transaction, params};
use rusqlite_migration::HookResult;

use crate::base::names::ServerId;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::{exists, first, query, run};

/// Gives each server that has none a name, made at the time when the server was: as a step of the
/// migration.
pub(in crate::db) fn convert(tx: &Transaction<'_>) -> HookResult {
    name_all(tx)?;
    Ok(())
}

/// The same for rows that were written by hand. Gives whether there were any.
pub fn fill(tx: &Connection) -> Result<bool> {
    let is_missing = exists(tx, "SELECT 1 FROM servers WHERE ulid IS NULL", [])?;
    if is_missing {
        name_all(tx)?;
    }
    Ok(is_missing)
}

fn name_all(tx: &Connection) -> rusqlite::Result<()> {
    let mut servers = tx.prepare("SELECT id, created_at FROM servers WHERE ulid IS NULL")?;
    let found = servers.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found = found.collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    for (id, created_at) in found {
        let sql = "UPDATE servers SET ulid = ?2 WHERE id = ?1";
        tx.execute(sql, params![id, Ulid::new(created_at)])?;
    }
    Ok(())
}

/// The server of this name on this host.
pub fn find(connection: &Connection, ulid: Ulid) -> Result<Option<ServerId>> {
    let sql = "SELECT id FROM servers WHERE ulid = ?1";
    first(connection, sql, params![ulid], |row| row.get(0))
}

/// The same for many, in their order.
///
/// Fails with 3 for one that is not on this host.
pub fn find_all(connection: &Connection, ulids: &[Ulid]) -> Result<Vec<ServerId>> {
    let find = |&ulid: &Ulid| {
        find(connection, ulid)?
            .ok_or_else(|| Error::not_found(format!("server {ulid} is not on this host")))
    };
    ulids.iter().map(find).collect()
}

/// The names of all servers.
pub fn all(connection: &Connection) -> Result<Vec<(ServerId, Ulid)>> {
    let sql = "SELECT id, ulid FROM servers WHERE ulid IS NOT NULL ORDER BY id";
    query(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Gives a server the name that it has on the host from which it moves here.
pub fn set(tx: &Connection, id: ServerId, ulid: Ulid) -> Result<()> {
    let sql = "UPDATE servers SET ulid = ?2 WHERE id = ?1";
    run(tx, sql, params![id, ulid])
}
