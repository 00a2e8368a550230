//! Blueprints: ordered overlays, launch arguments and lines of server.cfg, private to their user.
//!
//! Arguments and lines are JSON arrays in their row. A row may have been edited by hand, so an
//! invalid one gives one clear error that names the blueprint. [`stored`] reads it anyway, so that
//! it can be shown and corrected.

use rusqlite::{Connection, Row};
use serde::Serialize;

use crate::base::names::{BadName, BlueprintId, BlueprintRef, OverlayName, UserId, shown};
use crate::base::{Error, Exit, Result};
use crate::db::{first, query};
use crate::domain::blueprint::{Argument, ConfigLine, Spec, check};
use crate::domain::notices;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Names of overlays, topmost first.
    pub overlays: Vec<OverlayName>,
    /// Launch arguments after left4me's own.
    pub arguments: Vec<Argument>,
    /// Lines of server.cfg.
    pub config: Vec<ConfigLine>,
}

/// What a blueprint's row holds, valid or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// Names of overlays, topmost first.
    pub overlays: Vec<String>,
    /// Launch arguments after left4me's own.
    pub arguments: Vec<String>,
    /// Lines of server.cfg.
    pub config: Vec<String>,
    /// Why no server can be started with it, and what to do; empty when one can.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

impl From<Content> for Stored {
    fn from(content: Content) -> Self {
        Self {
            overlays: content
                .overlays
                .into_iter()
                .map(|name| name.to_string())
                .collect(),
            arguments: content.arguments.into_iter().map(String::from).collect(),
            config: content.config.into_iter().map(String::from).collect(),
            refused: Vec::new(),
        }
    }
}

/// A blueprint as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blueprint {
    pub id: BlueprintId,
    /// The display name, as stored: escape it for output.
    pub name: String,
    pub user: String,
    /// How many overlays it has.
    pub overlay_count: u32,
    /// The ids of the servers that are linked to it, ascending.
    pub servers: Vec<i64>,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms.
    pub updated_at: i64,
    #[serde(skip)]
    pub user_id: UserId,
}

/// `SELECT` of a [`Blueprint`], followed by `$tail`.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT b.id, b.name, coalesce(u.name, '?'), b.user_id, b.created_at, b.updated_at,
                    (SELECT count(*) FROM blueprint_overlays o WHERE o.blueprint_id = b.id),
                    (SELECT group_concat(s.id) FROM servers s WHERE s.blueprint_id = b.id)
             FROM blueprints b LEFT JOIN users u ON u.id = b.user_id ",
            $tail
        )
    };
}

/// Finds the blueprint that `blueprint` refers to, among those of `user` or of all users.
///
/// Fails with 3 when there is none; 2 with the ids when two users have one with that name.
pub fn find(
    connection: &Connection,
    blueprint: &BlueprintRef,
    user: Option<UserId>,
) -> Result<Blueprint> {
    let mut found = match blueprint {
        BlueprintRef::Id(id) => rows(connection, select!("WHERE b.id = ?1"), [id])?,
        BlueprintRef::Name(name) => rows(
            connection,
            select!("WHERE b.name = ?1 ORDER BY b.id"),
            [name.as_str()],
        )?,
    };

    found.retain(|blueprint| user.is_none_or(|user| user == blueprint.user_id));

    match found.len() {
        0 => Err(Error::not_found(format!(
            "{}no blueprint '{blueprint}': see `left4me blueprint list`",
            if user.is_some() {
                "this user has "
            } else {
                "there is "
            }
        ))),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let ids: Vec<String> = found
                .iter()
                .map(|one| format!("{} ({})", one.id, one.user))
                .collect();
            Err(Error::usage(format!(
                "several blueprints are named '{blueprint}'; \
                 say which by its id, or pass --user: {}",
                ids.join(", ")
            )))
        }
    }
}

/// The blueprint with this id, if there is one.
pub fn get(connection: &Connection, id: BlueprintId) -> Result<Option<Blueprint>> {
    Ok(rows(connection, select!("WHERE b.id = ?1"), [id])?.pop())
}

/// All blueprints by id.
pub fn all(connection: &Connection) -> Result<Vec<Blueprint>> {
    rows(connection, select!("ORDER BY b.id"), [])
}

/// The blueprints of one user by id.
pub fn of_user(connection: &Connection, user: UserId) -> Result<Vec<Blueprint>> {
    rows(
        connection,
        select!("WHERE b.user_id = ?1 ORDER BY b.id"),
        [user.0],
    )
}

/// A blueprint's content.
///
/// Fails with 3 when it does not exist; 1 with its name when its row is invalid.
pub fn content(connection: &Connection, id: BlueprintId) -> Result<Content> {
    let (name, arguments, config) = texts(connection, id)?;
    let bad = |what: &str, why: String| damaged(id, &name, what, &why);
    Ok(Content {
        overlays: parsed(overlay_names(connection, id)?).map_err(|why| bad("overlays", why))?,
        arguments: list(&arguments).map_err(|why| bad("arguments", why))?,
        config: list(&config).map_err(|why| bad("config", why))?,
    })
}

/// What a blueprint's row holds, even when no server can be started with it.
pub fn stored(connection: &Connection, id: BlueprintId) -> Result<Stored> {
    let (_, arguments, config) = texts(connection, id)?;
    let mut stored = Stored {
        overlays: overlay_names(connection, id)?,
        ..Stored::default()
    };

    for (text, list, what) in [
        (&arguments, &mut stored.arguments, "arguments"),
        (&config, &mut stored.config, "config lines"),
    ] {
        match serde_json::from_str(text) {
            Ok(texts) => *list = texts,
            Err(error) => stored
                .refused
                .push(format!("its {what} are damaged: {error}")),
        }
    }

    let bad = |text: &String| text.parse::<Argument>().err().map(|bad| bad.to_string());
    stored
        .refused
        .extend(stored.arguments.iter().filter_map(bad));

    let bad = |text: &String| text.parse::<ConfigLine>().err().map(|bad| bad.to_string());
    stored.refused.extend(stored.config.iter().filter_map(bad));

    // Parts that are valid one by one may still be refused together.
    if stored.refused.is_empty()
        && let Err(error) = spec(connection, id, 0)
    {
        stored.refused.push(error.to_string());
    }

    Ok(stored)
}

/// Why no server can be started with this blueprint; empty when one can.
pub fn refusals(connection: &Connection, id: BlueprintId) -> Result<Vec<String>> {
    match stored(connection, id) {
        Ok(stored) => Ok(stored.refused),
        Err(error) if error.exit == Exit::NotFound => Ok(vec![error.to_string()]),
        Err(error) => Err(error),
    }
}

/// A blueprint's content, if a server can be started with it.
fn startable(connection: &Connection, id: BlueprintId) -> Result<Option<Content>> {
    match content(connection, id) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.exit == Exit::Unavailable => Err(error),
        Err(_) => Ok(None),
    }
}

/// SourceTV's port of a server with this blueprint; none when it is off, or when no server can be
/// started.
pub(super) fn tv_port(connection: &Connection, id: BlueprintId) -> Result<Option<u16>> {
    let content = startable(connection, id)?;
    Ok(content.and_then(|content| notices::tv_port(&content.arguments, &content.config)))
}

/// Notices about settings that work but hide the blueprint's servers from players.
pub fn notices(connection: &Connection, id: BlueprintId) -> Result<Vec<String>> {
    let content = startable(connection, id)?;
    Ok(content.map_or_else(Vec::new, |content| {
        notices::of(&content.arguments, &content.config)
    }))
}

/// Notices about lines that set an RCON password, which has no effect.
pub fn rcon_notices(connection: &Connection, id: BlueprintId) -> Result<Vec<String>> {
    let content = startable(connection, id)?;
    Ok(content.map_or_else(Vec::new, |content| notices::rcon_passwords(&content.config)))
}

/// The blueprints with which no server can be started, and why.
pub fn refused(connection: &Connection) -> Result<Vec<(Blueprint, Vec<String>)>> {
    let mut refused = Vec::new();
    for blueprint in all(connection)? {
        let stored = stored(connection, blueprint.id)?;
        if !stored.refused.is_empty() {
            refused.push((blueprint, stored.refused));
        }
    }

    Ok(refused)
}

/// The input for the files of a server on `port`.
pub fn spec(connection: &Connection, id: BlueprintId, port: u16) -> Result<Spec> {
    let (name, arguments, config) = texts(connection, id)?;
    let sql = "SELECT o.ref FROM blueprint_overlays l JOIN overlays o ON o.id = l.overlay_id
               WHERE l.blueprint_id = ?1 ORDER BY l.position";
    let overlays: Vec<String> = query(connection, sql, [id], |row| row.get(0))?;
    let bad = |what: &str, why: String| damaged(id, &name, what, &why);
    let spec = Spec {
        port,
        overlays: parsed(overlays).map_err(|why| bad("overlays", why))?,
        arguments: list(&arguments).map_err(|why| bad("arguments", why))?,
        config: list(&config).map_err(|why| bad("config", why))?,
    };

    check(&spec.overlays, &spec.arguments, &spec.config)
        .map_err(|why| bad("content", why.to_string()))?;

    Ok(spec)
}

/// Refuses another user's blueprint: blueprints are private.
pub(super) fn must_belong(connection: &Connection, id: BlueprintId, user: UserId) -> Result<()> {
    let blueprint = get(connection, id)?.ok_or_else(|| no_such_blueprint(id))?;
    if blueprint.user_id == user {
        return Ok(());
    }

    Err(Error::conflict(format!(
        "blueprint {id} ('{}') belongs to user '{}': \
         a server can only use a blueprint of its own user",
        blueprint.name, blueprint.user
    )))
}

/// The names of the overlays, topmost first.
fn overlay_names(connection: &Connection, id: BlueprintId) -> Result<Vec<String>> {
    let sql = "SELECT o.name FROM blueprint_overlays l JOIN overlays o ON o.id = l.overlay_id
         WHERE l.blueprint_id = ?1 ORDER BY l.position";
    query(connection, sql, [id], |row| row.get(0))
}

/// Name, arguments and config, as stored.
fn texts(connection: &Connection, id: BlueprintId) -> Result<(String, String, String)> {
    let sql = "SELECT name, arguments, config FROM blueprints WHERE id = ?1";
    first(connection, sql, [id], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?
    .ok_or_else(|| no_such_blueprint(id))
}

fn list<T: TryFrom<String, Error = BadName>>(text: &str) -> Result<Vec<T>, String> {
    parsed(
        serde_json::from_str(text)
            .map_err(|error| format!("a JSON array of strings is needed: {error}"))?,
    )
}

fn parsed<T: TryFrom<String, Error = BadName>>(texts: Vec<String>) -> Result<Vec<T>, String> {
    texts
        .into_iter()
        .map(|text| T::try_from(text).map_err(|bad| bad.to_string()))
        .collect()
}

pub(super) fn json<T: Serialize>(values: &[T]) -> Result<String> {
    serde_json::to_string(values)
        .map_err(|error| Error::failed(format!("a list cannot be encoded: {error}")))
}

fn damaged(id: BlueprintId, name: &str, what: &str, why: &str) -> Error {
    Error::failed(format!(
        "blueprint {id} ('{}'): its {what} cannot be used: \
         {why}; correct them with `left4me blueprint edit {id}`",
        shown(name)
    ))
}

fn rows(connection: &Connection, sql: &str, by: impl rusqlite::Params) -> Result<Vec<Blueprint>> {
    query(connection, sql, by, read)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Blueprint> {
    let servers: Option<String> = row.get(7)?;
    let mut servers: Vec<i64> = servers
        .iter()
        .flat_map(|ids| ids.split(','))
        .filter_map(|id| id.parse().ok())
        .collect();
    servers.sort_unstable();

    Ok(Blueprint {
        id: row.get(0)?,
        name: row.get(1)?,
        user: row.get(2)?,
        user_id: row.get(3)?,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        overlay_count: row.get(6)?,
        servers,
    })
}

/// The error for a blueprint that does not exist.
pub(super) fn no_such_blueprint(id: BlueprintId) -> Error {
    Error::not_found(format!("blueprint {id} no longer exists"))
}
