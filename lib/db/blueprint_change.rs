//! Changes of blueprints: create, edit, delete.

use rusqlite::{Connection, params};

use crate::base::names::{BlueprintId, BlueprintName, OverlayName, ServerId, UserId};
use crate::base::{Error, Result};
use crate::db::blueprints::{self, Blueprint, Content, json, no_such_blueprint};
use crate::db::events::{self, NewEvent};
use crate::db::{overlays, ports, query, run, write_name};
use crate::domain::blueprint::{Argument, ConfigLine, check};

/// What an edit replaces; a part that is none stays unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub name: Option<BlueprintName>,
    pub overlays: Option<Vec<OverlayName>>,
    pub arguments: Option<Vec<Argument>>,
    /// The new lines of server.cfg.
    pub config: Option<Vec<ConfigLine>>,
}

/// Adds a blueprint and its event.
///
/// Fails with 2 when it is too large or names an overlay twice; 3 for an overlay that is not in the
/// catalog; 4 when the user has a blueprint with that name.
pub fn create(
    tx: &Connection,
    now: i64,
    actor: &str,
    user: UserId,
    name: &BlueprintName,
    content: &Content,
) -> Result<Blueprint> {
    check(&content.overlays, &content.arguments, &content.config)?;

    let (arguments, config) = (json(&content.arguments)?, json(&content.config)?);
    let sql = "INSERT INTO blueprints (user_id, name, arguments, config, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
    let row = params![user, name.as_str(), arguments, config, now];
    write_name(tx, sql, row, || taken(name))?;

    let id = BlueprintId(tx.last_insert_rowid());
    stack(tx, id, &content.overlays)?;
    add_event(tx, now, actor, "blueprint.created", id, name.as_str())?;
    blueprints::get(tx, id)?.ok_or_else(|| no_such_blueprint(id))
}

/// Replaces parts of a blueprint, and adds an event. The change applies to linked servers at their
/// next action.
///
/// Fails with 3 when it or an overlay does not exist; 4 when SourceTV of one of its servers would
/// need a taken port; otherwise those of [`create`].
pub fn edit(
    tx: &Connection,
    now: i64,
    actor: &str,
    id: BlueprintId,
    change: &Change,
) -> Result<Blueprint> {
    let before = ports::shared(tx)?;
    if let Some(name) = &change.name {
        let sql = "UPDATE blueprints SET name = ?2 WHERE id = ?1";
        write_name(tx, sql, params![id, name.as_str()], || taken(name))?;
    }

    if let Some(arguments) = &change.arguments {
        check::<OverlayName>(&[], arguments, &[])?;
        let sql = "UPDATE blueprints SET arguments = ?2 WHERE id = ?1";
        run(tx, sql, params![id, json(arguments)?])?;
    }

    if let Some(config) = &change.config {
        check::<OverlayName>(&[], &[], config)?;
        let sql = "UPDATE blueprints SET config = ?2 WHERE id = ?1";
        run(tx, sql, params![id, json(config)?])?;
    }

    if let Some(overlays) = &change.overlays {
        check(overlays, &[], &[])?;
        let sql = "DELETE FROM blueprint_overlays WHERE blueprint_id = ?1";
        run(tx, sql, [id])?;
        stack(tx, id, overlays)?;
    }

    // The time always grows: by it an editor detects that another user has changed the blueprint.
    let sql = "UPDATE blueprints SET updated_at = max(?2, updated_at + 1) WHERE id = ?1";
    run(tx, sql, params![id, now])?;

    let blueprint = blueprints::get(tx, id)?.ok_or_else(|| no_such_blueprint(id))?;
    let servers: Vec<ServerId> = blueprint.servers.iter().copied().map(ServerId).collect();
    ports::none_added(tx, &before, &servers)?;
    add_event(tx, now, actor, "blueprint.edited", id, &blueprint.name)?;
    Ok(blueprint)
}

/// Removes a blueprint, and adds an event.
///
/// Fails with 3 when it does not exist; 4 with the names of the servers that are linked to it.
pub fn delete(tx: &Connection, now: i64, actor: &str, id: BlueprintId) -> Result<Blueprint> {
    let blueprint = blueprints::get(tx, id)?.ok_or_else(|| no_such_blueprint(id))?;
    let sql = "SELECT id, name FROM servers WHERE blueprint_id = ?1 ORDER BY id";
    let linked: Vec<String> = query(tx, sql, [id], |row| {
        let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
        Ok(format!("{id} ('{name}')"))
    })?;

    if !linked.is_empty() {
        return Err(Error::conflict(format!(
            "blueprint '{}' is used by server {}: assign another one \
             with `left4me server assign`, or remove the server first",
            blueprint.name,
            linked.join(", ")
        )));
    }

    run(tx, "DELETE FROM blueprints WHERE id = ?1", [id])?;
    add_event(tx, now, actor, "blueprint.deleted", id, &blueprint.name)?;
    Ok(blueprint)
}

/// Writes the overlays of a blueprint that has none, with the topmost at position 0.
fn stack(tx: &Connection, id: BlueprintId, names: &[OverlayName]) -> Result<()> {
    let sql = "INSERT INTO blueprint_overlays (blueprint_id, position, overlay_id)
               VALUES (?1, ?2, ?3)";
    for (position, name) in (0_i64..).zip(names) {
        run(tx, sql, params![id, position, overlays::find(tx, name)?.id])?;
    }

    Ok(())
}

fn taken(name: &BlueprintName) -> String {
    format!("this user has a blueprint named '{name}' already: see `left4me blueprint edit`")
}

fn add_event(
    tx: &Connection,
    now: i64,
    actor: &str,
    kind: &str,
    id: BlueprintId,
    name: &str,
) -> Result<()> {
    let detail = format!("{id} '{name}'");
    events::add(tx, now, &NewEvent::new(kind, actor, &detail))
}
