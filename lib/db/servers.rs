//! Servers: name, port and blueprint, desired and actual state.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::config::PortRange;
use crate::base::names::{BlueprintId, ServerId, ServerName, ServerRef, UserId, server_unit};
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::drift::{Drifted, drifted};
use crate::db::events::{self, NewEvent};
use crate::db::{
    blueprints, changes, conditions, exists, first, observations, ports, query, run, schedules,
    write_name,
};
use crate::domain::blueprint::Spec;
use crate::domain::game::Responding;
use crate::domain::server::{ActualState, DesiredState};

/// A server, as `--json` and the API show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Server {
    /// The row's id; also the instance name of its units.
    pub id: ServerId,
    /// Its name in a fleet, which it keeps when it moves to another host.
    #[schema(value_type = Option<String>)]
    pub ulid: Option<Ulid>,
    /// The display name, as stored: escape it for output.
    pub name: String,
    /// Its owner's name.
    pub user: String,
    /// Game UDP and RCON TCP.
    pub port: u16,
    /// Its blueprint's name.
    pub blueprint: String,
    /// `left4me-server@ID.service`.
    pub unit: String,
    /// The state that an admin requested.
    pub desired_state: DesiredState,
    /// The state that systemd reported last.
    pub actual_state: ActualState,
    /// systemd's SubState at that time.
    pub actual_sub_state: Option<String>,
    /// When systemd was last asked, unix ms.
    pub actual_state_updated_at: Option<i64>,
    /// The error of the last failed task; none after a success.
    pub last_error: Option<String>,
    /// Whether its unit starts at boot; none before the first poll.
    pub enabled: Option<bool>,
    /// Since when it has `actual_state`, unix ms; none when unknown.
    pub actual_since: Option<i64>,
    /// Automatic restarts since it was last started by an admin or a job.
    pub restarts: u32,
    /// How its last run ended.
    pub last_end: Option<String>,
    /// How its actual state differs from its desired state.
    pub drift: Option<Drifted>,
    /// Whether its game answers; null while it does not run, and before the first poll.
    pub responding: Option<Responding>,
    /// How many people play, without bots. This and the next four are null unless `responding` is
    /// `yes`: no answer is not an empty server.
    pub players: Option<u32>,
    /// How many bots play.
    pub bots: Option<u32>,
    /// How many may play at once.
    pub max_players: Option<u32>,
    /// The map that is played, as the game names it: escape it for output.
    pub map: Option<String>,
    /// Time from the poller's question to the game's answer, ms.
    pub response_ms: Option<u32>,
    /// When the game answered last in this run, unix ms.
    pub answered_at: Option<i64>,
    /// Whether the poller restarts it when its game no longer answers.
    pub restart_unresponsive: bool,
    /// The build of the game on which it last came up; null before its first start on one.
    pub build: Option<u64>,
    /// Since when it has run that build, unix ms.
    pub build_since: Option<i64>,
    /// Grows when an observed value changes.
    pub version: i64,
    /// Its owner.
    #[serde(skip)]
    pub user_id: UserId,
    /// Its blueprint.
    #[serde(skip)]
    pub blueprint_id: BlueprintId,
}

impl Server {
    /// How many people play, and how many may: `3/8`. None while that is not known.
    pub fn occupancy(&self) -> Option<String> {
        Some(format!("{}/{}", self.players?, self.max_players?))
    }

    /// How many bots play beside the people: `2 bots`. None if there is none.
    pub fn bots(&self) -> Option<String> {
        match self.bots? {
            0 => None,
            1 => Some("1 bot".to_owned()),
            bots => Some(format!("{bots} bots")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct NewServer<'a> {
    pub user: UserId,
    pub name: &'a ServerName,
    /// One of the owner's blueprints.
    pub blueprint: BlueprintId,
    /// Its port; none for the lowest free one of the range.
    pub port: Option<u16>,
}

/// `SELECT` of a [`Server`], followed by `$tail`. The outer joins keep a row whose owner was
/// deleted by hand.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT s.id, s.name, coalesce(u.name, '?'), s.port, coalesce(b.name, '?'),
             s.desired_state, s.actual_state, s.actual_sub_state, s.actual_state_updated_at,
             s.last_error, s.enabled, s.user_id, s.blueprint_id, s.actual_since, s.restarts,
             s.last_end, s.drift, s.drift_since, s.drift_why, s.version, s.restart_unresponsive,
             g.responding, g.players, g.bots, g.max_players, g.map, g.response_ms, g.answered_at,
             s.build, s.build_since, s.ulid
             FROM servers s LEFT JOIN users u ON u.id = s.user_id
             LEFT JOIN blueprints b ON b.id = s.blueprint_id
             LEFT JOIN server_game g ON g.server_id = s.id ",
            $tail
        )
    };
}

/// Finds the server that `server` refers to.
///
/// Fails with 3 when there is none; 2 with the ids when two users have a server with that name.
pub fn find(connection: &Connection, server: &ServerRef) -> Result<Server> {
    match server {
        ServerRef::Id(id) => get(connection, *id)?.ok_or_else(|| {
            Error::not_found(format!(
                "no server has the id {id}: see `left4me server list`"
            ))
        }),
        ServerRef::Name(name) => {
            let mut same = rows(
                connection,
                select!("WHERE s.name = ?1 ORDER BY s.id"),
                [name.as_str()],
            )?;

            match same.len() {
                0 => Err(Error::not_found(format!(
                    "no server is named '{name}': see `left4me server list`"
                ))),
                1 => Ok(same.swap_remove(0)),
                _ => {
                    let ids: Vec<String> = same
                        .iter()
                        .map(|server| format!("{} ({})", server.id, server.user))
                        .collect();
                    Err(Error::usage(format!(
                        "several servers are named '{name}'; say which by its id: {}",
                        ids.join(", ")
                    )))
                }
            }
        }
    }
}

/// The server with this id, if there is one.
pub fn get(connection: &Connection, id: ServerId) -> Result<Option<Server>> {
    Ok(rows(connection, select!("WHERE s.id = ?1"), [id])?.pop())
}

/// All servers, ordered by id.
pub fn all(connection: &Connection) -> Result<Vec<Server>> {
    rows(connection, select!("ORDER BY s.id"), [])
}

/// The id of the server that `server` refers to; cheaper than [`find`].
pub fn find_id(connection: &Connection, server: &ServerRef) -> Result<ServerId> {
    if let ServerRef::Id(id) = server
        && has(connection, *id)?
    {
        return Ok(*id);
    }
    find(connection, server).map(|server| server.id)
}

/// Whether there is a server with this id.
pub fn has(connection: &Connection, id: ServerId) -> Result<bool> {
    exists(connection, "SELECT 1 FROM servers WHERE id = ?1", [id])
}

/// Whether a server's desired state is running. False when it does not exist.
pub fn should_run(connection: &Connection, id: ServerId) -> Result<bool> {
    let sql = "SELECT 1 FROM servers WHERE id = ?1 AND desired_state = 'running'";
    exists(connection, sql, [id])
}

/// All servers' ids and display names, ascending by id.
pub fn names(connection: &Connection) -> Result<Vec<(ServerId, String)>> {
    let sql = "SELECT id, name FROM servers ORDER BY id";
    query(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// All servers' ids, ascending.
pub fn all_ids(connection: &Connection) -> Result<Vec<ServerId>> {
    let sql = "SELECT id FROM servers ORDER BY id";
    query(connection, sql, [], |row| row.get(0))
}

/// The servers of one user, ordered by id.
pub fn of_user(connection: &Connection, user: UserId) -> Result<Vec<Server>> {
    rows(
        connection,
        select!("WHERE s.user_id = ?1 ORDER BY s.id"),
        [user.0],
    )
}

/// The ids of one user's servers.
pub fn ids_of_user(connection: &Connection, user: UserId) -> Result<Vec<ServerId>> {
    let sql = "SELECT id FROM servers WHERE user_id = ?1 ORDER BY id";
    query(connection, sql, [user], |row| row.get(0))
}

/// Adds a server, with the desired state stopped, and its event. Call it in a write transaction, so
/// that a free port stays free.
///
/// Fails with 2 for a port outside of `range`; 4 when the port is taken (with its server), the
/// range is full, the owner has a server with that name, or the blueprint belongs to another user.
pub fn create(
    tx: &Connection,
    now: i64,
    actor: &str,
    new: &NewServer<'_>,
    range: PortRange,
) -> Result<Server> {
    blueprints::must_belong(tx, new.blueprint, new.user)?;

    let before = ports::shared(tx)?;
    let port = match new.port {
        Some(port) => ports::usable_port(tx, port, range, new.user)?,
        None => ports::free_port(tx, range, blueprints::tv_port(tx, new.blueprint)?)?,
    };

    let sql =
        "INSERT INTO servers (user_id, name, port, blueprint_id, created_at, updated_at, ulid)
               VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)";
    let (name, ulid) = (new.name.as_str(), Ulid::new(now));
    let row = params![new.user, name, port, new.blueprint, now, ulid];
    let taken = || format!("this user has a server named '{}' already", new.name);
    write_name(tx, sql, row, taken)?;

    let id = ServerId(tx.last_insert_rowid());
    ports::none_added(tx, &before, &[id])?;

    let detail = format!("'{}' on port {port}", new.name);
    let event = NewEvent {
        server: Some(id),
        ..NewEvent::new("server.created", actor, &detail)
    };

    events::add(tx, now, &event)?;
    get(tx, id)?.ok_or_else(|| no_such_server(id))
}

/// Links the server to another blueprint of its owner, and adds an event. It applies at the next
/// action.
///
/// Fails with 3 when the server does not exist; 4 when the blueprint belongs to another user, or
/// its SourceTV's port is taken.
pub fn assign(
    tx: &Connection,
    now: i64,
    actor: &str,
    id: ServerId,
    blueprint: BlueprintId,
) -> Result<Server> {
    let server = get(tx, id)?.ok_or_else(|| no_such_server(id))?;
    blueprints::must_belong(tx, blueprint, server.user_id)?;

    let before = ports::shared(tx)?;
    let sql = "UPDATE servers SET blueprint_id = ?2, updated_at = ?3 WHERE id = ?1";
    run(tx, sql, params![id, blueprint, now])?;
    ports::none_added(tx, &before, &[id])?;

    let server = get(tx, id)?.ok_or_else(|| no_such_server(id))?;
    let detail = format!("to blueprint '{}'", server.blueprint);
    let event = NewEvent {
        server: Some(id),
        ..NewEvent::new("server.assigned", actor, &detail)
    };

    events::add(tx, now, &event)?;
    Ok(server)
}

/// Deletes the row with the schedules that are for no other server, and adds events; the server's jobs and events stay. Its files stay too, so a
/// `delete` job has to remove them first.
///
/// Fails with 3 when it does not exist; 4 with what to do while its desired state is running, it
/// runs, has an unfinished job, or may have files.
pub fn remove(tx: &Connection, now: i64, actor: &str, id: ServerId) -> Result<Server> {
    let server = get(tx, id)?.ok_or_else(|| no_such_server(id))?;
    let first = format!("first run `left4me-job enqueue delete --server {id} --wait`");

    let still = |why: String| {
        Err(Error::conflict(format!(
            "server {id} ('{}') {why}",
            server.name
        )))
    };

    if let Some(job) = observations::active_job(tx, id)? {
        return still(format!(
            "has job {job}, which has not ended: wait for it with `left4me-job wait {job}`"
        ));
    }

    if let Some(job) = conditions::of_server(tx, id)? {
        return still(format!(
            "has job {job}, which waits: cancel it with `left4me-job cancel {job}`"
        ));
    }

    if server.desired_state == DesiredState::Running {
        return still(format!("should be running: {first}"));
    }

    if !matches!(
        server.actual_state,
        ActualState::Stopped | ActualState::Failed | ActualState::Unknown
    ) {
        return still(format!("is {}: {first}", server.actual_state));
    }

    if may_have_files(tx, id)? {
        return still(format!("may have files under instances/{id}: {first}"));
    }

    schedules::remove_with_server(tx, now, actor, id)?;
    run(tx, "DELETE FROM servers WHERE id = ?1", [id])?;

    let detail = format!("'{}' on port {}", server.name, server.port);
    let event = NewEvent {
        server: Some(id),
        ..NewEvent::new("server.removed", actor, &detail)
    };

    events::add(tx, now, &event)?;
    Ok(server)
}

/// Sets the desired state. False when it is the same already, or when the server does not exist.
pub fn set_desired(tx: &Connection, id: ServerId, desired: DesiredState, now: i64) -> Result<bool> {
    let sql = "UPDATE servers SET version = version + 1, desired_state = ?2, updated_at = ?3
             WHERE id = ?1 AND desired_state <> ?2";
    changes(tx, sql, params![id, desired.as_str(), now])
}

/// Sets why the server's last task failed; none after a success. Writes nothing when it is the
/// same.
pub fn set_last_error(
    tx: &Connection,
    id: ServerId,
    last_error: Option<&str>,
    now: i64,
) -> Result<()> {
    let sql = "UPDATE servers SET version = version + 1, last_error = ?2, updated_at = ?3
               WHERE id = ?1 AND last_error IS NOT ?2";
    run(tx, sql, params![id, last_error, now])
}

/// Records that the server came up on a build; none for the installation itself. Gives whether it
/// ran another one before.
pub fn set_build(tx: &Connection, id: ServerId, build: Option<u64>, now: i64) -> Result<bool> {
    let sql = "UPDATE servers SET version = version + 1, build = ?2, build_since = ?3,
               updated_at = ?3 WHERE id = ?1 AND build IS NOT ?2";
    changes(tx, sql, params![id, build.map(u64::cast_signed), now])
}

/// The input for the server's files, with the current content of its blueprint.
///
/// Fails with 3 when the server does not exist; 1 with the blueprint's name when its row is
/// invalid.
pub fn spec(connection: &Connection, id: ServerId) -> Result<Spec> {
    let sql = "SELECT port, blueprint_id FROM servers WHERE id = ?1";
    let (port, blueprint) = first(connection, sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .ok_or_else(|| no_such_server(id))?;
    blueprints::spec(connection, blueprint, port)
}

/// The servers that an update has to stop and start again: those that should be running, and those
/// that are.
pub fn all_that_should_run(connection: &Connection) -> Result<Vec<ServerId>> {
    let sql = "SELECT id FROM servers
               WHERE desired_state = 'running' OR actual_state IN ('running', 'starting',
               'stopping') ORDER BY id";
    query(connection, sql, [], |row| row.get(0))
}

/// The servers that neither run nor should.
pub fn at_rest(connection: &Connection) -> Result<Vec<ServerId>> {
    let sql = "SELECT id FROM servers
               WHERE desired_state = 'stopped' AND actual_state = 'stopped' AND enabled IS NOT 1";
    query(connection, sql, [], |row| row.get(0))
}

/// The build on which the server last came up.
pub fn build(connection: &Connection, id: ServerId) -> Result<Option<u64>> {
    let sql = "SELECT build FROM servers WHERE id = ?1";
    let found: Option<Option<i64>> = first(connection, sql, [id], |row| row.get(0))?;
    Ok(found.flatten().map(i64::unsigned_abs))
}

/// Whether a task began to write the server's files after the last one that removed them. The ids
/// give the order of a server's tasks, because the clock may go back between two of them.
pub fn may_have_files(connection: &Connection, id: ServerId) -> Result<bool> {
    let sql = "SELECT k.kind FROM job_targets t JOIN tasks k ON k.job_id = t.job_id
             WHERE t.server_id = ?1 AND k.server_id = ?1 AND k.started_at IS NOT NULL
               AND (k.kind = 'initialize' OR (k.kind = 'purge-instance' AND k.state = 'succeeded'))
             ORDER BY k.id DESC LIMIT 1";
    let last: Option<String> = first(connection, sql, [id], |row| row.get(0))?;

    Ok(last.is_some_and(|kind| kind == "initialize"))
}

fn no_such_server(id: ServerId) -> Error {
    Error::not_found(format!("server {id} no longer exists"))
}

fn rows(connection: &Connection, sql: &str, by: impl rusqlite::Params) -> Result<Vec<Server>> {
    query(connection, sql, by, read)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Server> {
    let id = row.get(0)?;

    Ok(Server {
        id,
        name: row.get(1)?,
        user: row.get(2)?,
        port: row.get(3)?,
        blueprint: row.get(4)?,
        unit: server_unit(id),
        desired_state: row.get(5)?,
        actual_state: row.get(6)?,
        actual_sub_state: row.get(7)?,
        actual_state_updated_at: row.get(8)?,
        last_error: row.get(9)?,
        enabled: row.get(10)?,
        user_id: row.get(11)?,
        blueprint_id: row.get(12)?,
        actual_since: row.get(13)?,
        restarts: row.get(14)?,
        last_end: row.get(15)?,
        drift: drifted(row, 16)?,
        version: row.get(19)?,
        restart_unresponsive: row.get(20)?,
        responding: row.get(21)?,
        players: row.get(22)?,
        bots: row.get(23)?,
        max_players: row.get(24)?,
        map: row.get(25)?,
        response_ms: row.get(26)?,
        answered_at: row.get(27)?,
        build: row.get::<_, Option<i64>>(28)?.map(i64::unsigned_abs),
        build_since: row.get(29)?,
        ulid: row.get(30)?,
    })
}

#[cfg(test)]
mod tests;
