//! Rollouts: moves of servers, and updates in waves.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::lists::Part;
use crate::db::{changes, first, query, run, text, text_or_null};
use crate::domain::fleet::driving::OpenOrder;
use crate::domain::fleet::rollout::{Progress, Request, RolloutKind, RolloutState};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rollout {
    pub id: Ulid,
    pub kind: RolloutKind,
    /// It may hold blueprints, and so secrets. None where another host drives it and it cannot be read
    /// here.
    #[serde(skip)]
    pub request: Option<Request>,
    pub progress: Progress,
    pub state: RolloutState,
    pub requested_by: String,
    /// How it ended, or what it waits for.
    pub detail: String,
    /// Unix ms.
    pub created_at: i64,
    pub updated_at: i64,
    pub ended_at: Option<i64>,
    /// The host that drives it; None for this one.
    pub driver: Option<String>,
    /// Grows with each take-over.
    pub epoch: u64,
    /// Grows with each change.
    #[serde(skip)]
    pub version: u64,
    /// The version from which this host goes on, while the engine does not have its take-over.
    #[serde(skip)]
    pub taken_from: Option<u64>,
    /// When another host took it over from here.
    pub lost_at: Option<i64>,
    /// Orders of its former driver to give servers up, whose end is not known.
    #[serde(skip)]
    pub orders: Vec<OpenOrder>,
}

pub(super) const ROLLOUT: &str =
    "id, kind, request, progress, state, requested_by, detail, created_at,
                       updated_at, ended_at, driver, epoch, version, taken_from, lost_at, orders";

/// A row whose documents a later version may have written.
pub(super) fn rollout(row: &Row<'_>) -> rusqlite::Result<Result<Rollout, String>> {
    let (id, kind, state): (Ulid, String, String) = (row.get(0)?, text(row, 1)?, text(row, 4)?);
    let (request, progress) = (text_or_null(row, 2)?, text(row, 3)?);
    let orders = text(row, 15)?;
    let parse = || {
        let request = request.as_deref().map(serde_json::from_str).transpose()?;
        let progress = serde_json::from_str(&progress)?;
        let orders = serde_json::from_str(&orders)?;
        serde_json::Result::Ok((request, progress, orders))
    };
    let (request, progress, orders) = match parse() {
        Ok(documents) => documents,
        Err(error) => return Ok(Err(format!("rollout {id} cannot be read: {error}"))),
    };
    Ok(Ok(Rollout {
        id,
        // A CHECK of the table allows only these words.
        kind: RolloutKind::parse(&kind).unwrap_or(RolloutKind::Move),
        request,
        progress,
        state: RolloutState::parse(&state).unwrap_or(RolloutState::Failed),
        requested_by: text(row, 5)?,
        detail: text(row, 6)?,
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
        ended_at: row.get(9)?,
        driver: text_or_null(row, 10)?,
        epoch: row.get::<_, i64>(11)?.unsigned_abs(),
        version: row.get::<_, i64>(12)?.unsigned_abs(),
        taken_from: row.get::<_, Option<i64>>(13)?.map(i64::unsigned_abs),
        lost_at: row.get(14)?,
        orders,
    }))
}

pub fn add(
    tx: &Connection,
    id: Ulid,
    kind: RolloutKind,
    request: &Request,
    by: &str,
    now: i64,
) -> Result<()> {
    let sql = "INSERT INTO fleet_rollouts (id, kind, request, requested_by, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
    run(tx, sql, params![id, kind.as_str(), json(request)?, by, now])
}

/// Fails with 3 if there is none of this id.
pub fn find(connection: &Connection, id: Ulid) -> Result<Rollout> {
    get(connection, id)?.ok_or_else(|| {
        Error::not_found(format!(
            "there is no rollout {id}; `left4me fleet rollouts` lists them"
        ))
    })
}

/// The newest ones, newest first.
pub fn newest(connection: &Connection, part: Part) -> Result<Vec<Rollout>> {
    let sql = format!("SELECT {ROLLOUT} FROM fleet_rollouts ORDER BY id DESC LIMIT ?1 OFFSET ?2");
    let rows = query(connection, &sql, [part.limit, part.offset], rollout)?;
    Ok(rows.into_iter().flatten().collect())
}

/// The rollout, if it is known.
pub fn get(connection: &Connection, id: Ulid) -> Result<Option<Rollout>> {
    let sql = format!("SELECT {ROLLOUT} FROM fleet_rollouts WHERE id = ?1");
    let found = first(connection, &sql, params![id], rollout)?;
    found.transpose().map_err(Error::failed)
}

/// The ids of those that this host drives, or is taking over, and that have not ended, oldest first.
pub fn open(connection: &Connection) -> Result<Vec<Ulid>> {
    let sql = "SELECT id FROM fleet_rollouts WHERE ended_at IS NULL AND driver IS NULL ORDER BY id";
    query(connection, sql, [], |row| row.get(0))
}

/// The servers that other rollouts of this host move, which have not ended.
pub fn moved_by_others(connection: &Connection, own: Ulid) -> Result<BTreeSet<Ulid>> {
    let sql = format!(
        "SELECT {ROLLOUT} FROM fleet_rollouts WHERE ended_at IS NULL AND driver IS NULL
         AND id <> ?1 AND kind <> 'update'"
    );
    let mut servers = BTreeSet::new();
    for other in query(connection, &sql, [own], rollout)?
        .into_iter()
        .flatten()
    {
        let asked = match &other.request {
            Some(Request::Moves(request)) if other.progress.moves.is_empty() => &request.moves,
            _ => &other.progress.moves,
        };
        let open = asked.iter().filter(|one| !one.step.has_ended());
        servers.extend(open.map(|one| one.server));
    }
    Ok(servers)
}

/// Records how far it is. Nothing is written if that is the same as before, or another host drives it.
pub fn save(
    tx: &Connection,
    id: Ulid,
    progress: &Progress,
    state: RolloutState,
    detail: &str,
    now: i64,
) -> Result<bool> {
    let ended_at = state.has_ended().then_some(now);
    let sql = "UPDATE fleet_rollouts SET progress = ?2, state = ?3, detail = ?4, ended_at = ?5,
               updated_at = ?6, version = version + 1
               WHERE id = ?1 AND ended_at IS NULL AND driver IS NULL AND taken_from IS NULL
               AND (progress <> ?2 OR state <> ?3 OR detail <> ?4)";
    let row = params![id, json(progress)?, state.as_str(), detail, ended_at, now];
    changes(tx, sql, row)
}

/// Says that nothing more is to be begun. False if it has ended, is being aborted, or this host does
/// not drive it.
pub fn abort(tx: &Connection, id: Ulid, now: i64) -> Result<bool> {
    let sql = "UPDATE fleet_rollouts SET state = 'aborting', updated_at = ?2, version = version + 1
               WHERE id = ?1 AND state = 'running' AND driver IS NULL AND taken_from IS NULL";
    changes(tx, sql, params![id, now])
}

pub(super) fn json<T: Serialize>(document: &T) -> Result<String> {
    serde_json::to_string(document)
        .map_err(|error| Error::failed(format!("a rollout cannot be encoded: {error}")))
}
