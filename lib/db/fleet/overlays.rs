//! The digests of overlays, kept until their files change.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{first, query, run, text};

/// The fingerprint with which an overlay was read last.
pub fn fingerprint(connection: &Connection, reference: &str) -> Result<Option<String>> {
    let sql = "SELECT fingerprint FROM fleet_overlays WHERE reference = ?1";
    first(connection, sql, [reference], |row| text(row, 0))
}

pub fn put(
    tx: &Connection,
    reference: &str,
    fingerprint: &str,
    digest: &str,
    now: i64,
) -> Result<()> {
    let sql = "INSERT INTO fleet_overlays (reference, fingerprint, digest, updated_at)
               VALUES (?1, ?2, ?3, ?4) ON CONFLICT (reference) DO UPDATE SET
               fingerprint = ?2, digest = ?3, updated_at = ?4";
    run(tx, sql, params![reference, fingerprint, digest, now])
}

/// The digest of each overlay of the catalog that has been read, by name.
pub fn digests(connection: &Connection) -> Result<BTreeMap<String, String>> {
    let sql =
        "SELECT o.name, d.digest FROM overlays o JOIN fleet_overlays d ON d.reference = o.ref";
    let rows = query(connection, sql, [], |row| {
        Ok((text(row, 0)?, text(row, 1)?))
    })?;
    Ok(rows.into_iter().collect())
}

/// The names of the overlays of each server, by its number, topmost first.
pub fn of_servers(connection: &Connection) -> Result<BTreeMap<i64, Vec<String>>> {
    let sql = "SELECT s.id, o.name FROM servers s
               JOIN blueprint_overlays l ON l.blueprint_id = s.blueprint_id
               JOIN overlays o ON o.id = l.overlay_id ORDER BY s.id, l.position";
    let rows: Vec<(i64, String)> =
        query(connection, sql, [], |row| Ok((row.get(0)?, text(row, 1)?)))?;
    let mut all = BTreeMap::<i64, Vec<String>>::new();
    for (server, overlay) in rows {
        all.entry(server).or_default().push(overlay);
    }
    Ok(all)
}
