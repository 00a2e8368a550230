//! The catalog of overlays, which admins manage.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{OverlayId, OverlayName, OverlayRef};
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::{exists, first, query, run, write_name};

/// An overlay of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overlay {
    pub id: OverlayId,
    /// Its name, as stored: escape it for output.
    pub name: String,
    /// Its directory below `overlays/`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The blueprints that use it: `id ('name' of user)`.
    pub blueprints: Vec<String>,
    /// Unix ms.
    pub created_at: i64,
}

/// The overlay with this name.
pub fn find(connection: &Connection, name: &OverlayName) -> Result<Overlay> {
    let sql = "SELECT id, name, ref, created_at FROM overlays WHERE name = ?1";
    let missing = || {
        let message = format!("no overlay is named '{name}': see `left4me overlay list`");
        Error::not_found(message)
    };

    let mut overlay = first(connection, sql, [name.as_str()], read)?.ok_or_else(missing)?;
    overlay.blueprints = used_by(connection, overlay.id)?;
    Ok(overlay)
}

/// All overlays by name.
pub fn all(connection: &Connection) -> Result<Vec<Overlay>> {
    let sql = "SELECT id, name, ref, created_at FROM overlays ORDER BY name";
    let mut overlays: Vec<Overlay> = query(connection, sql, [], read)?;
    for overlay in &mut overlays {
        overlay.blueprints = used_by(connection, overlay.id)?;
    }
    Ok(overlays)
}

/// Whether one has been added at this time (unix ms) or later.
pub fn any_since(connection: &Connection, at: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM overlays WHERE created_at >= ?1";
    exists(connection, sql, [at])
}

/// Adds an overlay and its event.
pub fn create(
    tx: &Connection,
    now: i64,
    actor: &str,
    name: &OverlayName,
    reference: &OverlayRef,
) -> Result<Overlay> {
    let sql = "INSERT INTO overlays (name, ref, created_at) VALUES (?1, ?2, ?3)";
    let row = params![name.as_str(), reference.as_str(), now];
    let taken = || format!("an overlay named '{name}' is in the catalog already");
    write_name(tx, sql, row, taken)?;

    let detail = format!("'{name}' at overlays/{reference}");
    events::add(tx, now, &NewEvent::new("overlay.added", actor, &detail))?;

    find(tx, name)
}

/// Removes an overlay from the catalog, and adds an event. Its directory stays.
///
/// Fails with 3 when there is none; 4 with the blueprints that use it.
pub fn remove(tx: &Connection, now: i64, actor: &str, name: &OverlayName) -> Result<Overlay> {
    let overlay = find(tx, name)?;
    if !overlay.blueprints.is_empty() {
        return Err(Error::conflict(format!(
            "overlay '{name}' is used by blueprint {}: \
             take it out with `left4me blueprint edit` first",
            overlay.blueprints.join(", ")
        )));
    }

    run(tx, "DELETE FROM overlays WHERE id = ?1", [overlay.id])?;

    let detail = format!("'{name}' at overlays/{}", overlay.reference);
    events::add(tx, now, &NewEvent::new("overlay.removed", actor, &detail))?;

    Ok(overlay)
}

fn used_by(connection: &Connection, id: OverlayId) -> Result<Vec<String>> {
    let sql = "SELECT b.id, b.name, coalesce(u.name, '?') FROM blueprint_overlays l
               JOIN blueprints b ON b.id = l.blueprint_id LEFT JOIN users u ON u.id = b.user_id
               WHERE l.overlay_id = ?1 ORDER BY b.id";
    query(connection, sql, [id], |row| {
        let (id, name, user): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("{id} ('{name}' of {user})"))
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<Overlay> {
    Ok(Overlay {
        id: row.get(0)?,
        name: row.get(1)?,
        reference: row.get(2)?,
        created_at: row.get(3)?,
        blueprints: Vec::new(),
    })
}
