//! Observations: the columns of servers that only polls of their units write.
//!
//! `version` grows when an observed value changes. A poll outside of a job reads the versions
//! first, then the units, and writes only to rows that still have the version it read. So an older
//! observation never overwrites a newer one.

use std::collections::HashSet;

use rusqlite::{Connection, Row, params};

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::drift::{Drifted, drifted};
use crate::db::{changes, execute, first, query, run};
use crate::domain::drift::Drift;
use crate::domain::history::Known;
use crate::domain::server::DesiredState;

/// A server as a poll of its unit needs it.
#[derive(Clone, Debug)]
pub struct Watched {
    pub id: ServerId,
    /// The row's version when it was read.
    pub version: i64,
    pub desired: DesiredState,
    /// What the last poll saw.
    pub known: Known,
    /// How its last run ended.
    pub last_end: Option<String>,
    /// The error of the last failed task.
    pub last_error: Option<String>,
    pub drift: Option<Drifted>,
}

/// An invalid row: the table was edited by hand.
#[derive(Clone, Debug)]
pub struct BadRow {
    pub id: i64,
    /// What is wrong with it.
    pub why: String,
}

const COLUMNS: &str = "id, version, desired_state, actual_state, actual_state_updated_at,
                       active_enter_us, exit_us, restarts, enabled, last_end, last_error, drift,
                       drift_since, drift_why";

fn watched(row: &Row<'_>) -> rusqlite::Result<Watched> {
    Ok(Watched {
        id: row.get(0)?,
        version: row.get(1)?,
        desired: row.get(2)?,
        known: Known {
            actual: row.get(3)?,
            looked_at: row.get(4)?,
            active_enter_us: unsigned(row.get(5)?),
            exit_us: unsigned(row.get(6)?),
            restarts: row.get(7)?,
            enabled: row.get(8)?,
        },
        last_end: row.get(9)?,
        last_error: row.get(10)?,
        drift: drifted(row, 11)?,
    })
}

/// SQLite has no unsigned integers. Microseconds since boot fit for 292,000 years.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// All servers, ordered by id; for an invalid row, what is wrong with it.
pub fn all(connection: &Connection) -> Result<Vec<Result<Watched, BadRow>>> {
    let sql = format!("SELECT {COLUMNS} FROM servers ORDER BY id");
    query(connection, &sql, [], |row| {
        let id: i64 = row.get(0)?;
        if id < 1 {
            return Ok(Err(BadRow {
                id,
                why: "ids begin with 1".to_owned(),
            }));
        }

        Ok(watched(row).map_err(|error| BadRow {
            id,
            why: error.to_string(),
        }))
    })
}

/// One server; none when it does not exist.
pub fn get(connection: &Connection, id: ServerId) -> Result<Option<Watched>> {
    let sql = format!("SELECT {COLUMNS} FROM servers WHERE id = ?1");
    first(connection, &sql, [id], watched)
}

/// The oldest job that has not ended; NULL when there is none. Jobs that wait for a condition do not
/// count, here and below: they leave their servers alone, perhaps for days. The states repeat those of the
/// partial indexes literally; otherwise SQLite would not use them. Every search for a server's
/// unfinished jobs starts there, so that its cost does not grow with ended or queued jobs.
macro_rules! oldest_live {
    () => {
        "(SELECT min(id) FROM (SELECT min(id) AS id FROM jobs WHERE state = 'queued'
             AND on_hold = 0 UNION ALL SELECT min(id) FROM jobs WHERE state IN ('running', 'cancelling')))"
    };
}

/// A job that has been queued for longer than this, ms, no longer prevents the judgement of its
/// servers.
const WAITED_TOO_LONG: i64 = 300_000;

/// The same for a running job, ms.
const RAN_TOO_LONG: i64 = 300_000;

/// The same for an installation, which downloads gigabytes, ms.
const INSTALLED_TOO_LONG: i64 = 1_800_000;

/// Whether job j is still within its time limit. Parameters: the moments before which a job waited,
/// ran and installed for too long.
macro_rules! in_time {
    ($waited:literal, $ran:literal, $installed:literal) => {
        concat!(
            "CASE WHEN j.state = 'queued' THEN j.created_at > ",
            $waited,
            " WHEN j.operation IN ('install', \
             'update') THEN coalesce(j.started_at, j.created_at) > ",
            $installed,
            " ELSE coalesce(j.started_at, j.created_at) > ",
            $ran,
            " END"
        )
    };
}

/// The servers with an unfinished job that is within its time limit: the worker polls them itself.
pub fn in_jobs(connection: &Connection, now: i64) -> Result<HashSet<ServerId>> {
    // A running job also has the servers of its tasks; an update has no others.
    let servers: Vec<ServerId> = query(
        connection,
        concat!(
            "SELECT s.id FROM servers s WHERE EXISTS (
             SELECT 1 FROM job_targets t CROSS JOIN jobs j ON j.id = t.job_id
             WHERE t.server_id = s.id AND t.job_id >= ",
            oldest_live!(),
            " AND j.state IN ('queued', 'running', 'cancelling') AND j.on_hold = 0 AND ",
            in_time!("?1", "?2", "?3"),
            ")
         UNION SELECT k.server_id FROM jobs j CROSS JOIN tasks k ON k.job_id = j.id
               WHERE j.state IN ('running', 'cancelling') AND k.server_id IS NOT NULL AND ",
            in_time!("?1", "?2", "?3")
        ),
        moments(now),
        |row| row.get(0),
    )?;
    Ok(servers.into_iter().collect())
}

fn moments(now: i64) -> [i64; 3] {
    [
        now - WAITED_TOO_LONG,
        now - RAN_TOO_LONG,
        now - INSTALLED_TOO_LONG,
    ]
}

/// A job that has not ended, as the judgement of drift needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveJob {
    pub id: i64,
    pub operation: String,
    pub is_queued: bool,
    /// Since when it is queued or running, unix ms.
    pub since: i64,
    /// Whether it is within its time limit.
    pub is_in_time: bool,
}

/// A job of the server that has not ended; a running one comes before queued ones.
pub fn job_under_way(connection: &Connection, id: ServerId, now: i64) -> Result<Option<ActiveJob>> {
    let Some(job) = active_job(connection, id)? else {
        return Ok(None);
    };
    let [waited, ran, installed] = moments(now);

    first(
        connection,
        concat!(
            "SELECT j.id, j.operation, j.state = 'queued', iif(j.state = 'queued', j.created_at,
             coalesce(j.started_at, j.created_at)), ",
            in_time!("?2", "?3", "?4"),
            " FROM jobs j WHERE j.id = ?1"
        ),
        params![job, waited, ran, installed],
        |row| {
            Ok(ActiveJob {
                id: row.get(0)?,
                operation: crate::db::text(row, 1)?,
                is_queued: row.get(2)?,
                since: row.get(3)?,
                is_in_time: row.get(4)?,
            })
        },
    )
}

/// A job of the server that has not ended.
pub fn active_job(connection: &Connection, id: ServerId) -> Result<Option<i64>> {
    first(
        connection,
        concat!(
            "SELECT j.id FROM job_targets t CROSS JOIN jobs j ON j.id = t.job_id
             WHERE t.server_id = ?1 AND t.job_id >= ",
            oldest_live!(),
            " AND j.state IN ('queued', 'running', 'cancelling') AND j.on_hold = 0
             UNION ALL
             SELECT j.id FROM jobs j CROSS JOIN tasks k ON k.job_id = j.id
             WHERE j.state IN ('running', 'cancelling') AND k.server_id = ?1 LIMIT 1"
        ),
        [id.0],
        |row| row.get(0),
    )
}

/// The result of one poll of a unit.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// State and monotonic times.
    pub known: &'a Known,
    /// SubState; none when it is unknown.
    pub sub: Option<&'a str>,
    /// How its last run ended.
    pub last_end: Option<&'a str>,
    /// Since when it has that state, unix ms; used when the state has changed, or belongs to
    /// another run.
    pub since: i64,
    /// When the unit was polled, unix ms.
    pub now: i64,
}

/// Writes an observation if the row still has the version that was read. False when it has a newer
/// one, or when the server does not exist.
pub fn write(tx: &Connection, id: ServerId, version: i64, seen: &Seen<'_>) -> Result<bool> {
    let Seen {
        known,
        sub,
        last_end,
        since,
        now,
    } = seen;

    let sql = "UPDATE servers
               SET version = version + (actual_state <> ?3 OR actual_sub_state IS NOT ?4
               OR active_enter_us <> ?5 OR exit_us <> ?6 OR restarts <> ?7
               OR last_end IS NOT ?9 OR enabled IS NOT ?8), actual_since = CASE
               WHEN actual_since IS NULL OR actual_state <> ?3
               OR active_enter_us <> ?5 THEN ?10 ELSE actual_since END, actual_state = ?3,
               actual_sub_state = ?4, active_enter_us = ?5, exit_us = ?6, restarts = ?7,
               enabled = ?8, last_end = ?9, actual_state_updated_at = ?11
               WHERE id = ?1 AND version = ?2";
    changes(
        tx,
        sql,
        params![
            id,
            version,
            known.actual.as_str(),
            sub,
            signed(known.active_enter_us),
            signed(known.exit_us),
            known.restarts,
            known.enabled,
            last_end,
            since,
            now
        ],
    )
}

/// Sets these servers to unknown, if their rows still have the versions that were read; the time of
/// the last poll stays. Returns how many were known before.
pub fn forget(tx: &Connection, rows: &[(ServerId, i64)], now: i64) -> Result<usize> {
    let sql = "UPDATE servers
               SET version = version + 1, actual_state = 'unknown', actual_sub_state = NULL,
               actual_since = ?2 WHERE id = ?1 AND version = ?3 AND actual_state <> 'unknown'";
    let known = rows
        .iter()
        .map(|(id, version)| execute(tx, sql, params![id, now, version]));
    known.sum()
}

/// Records that a poll saw a change of a server that has a job; the server's row stays unchanged.
pub fn miss(tx: &Connection, id: ServerId) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO missed_looks (server_id) VALUES (?1)";
    run(tx, sql, [id])
}

/// Whether a poll saw a change of the server while it had a job. Clears that mark.
pub fn take_missed(tx: &Connection, id: ServerId) -> Result<bool> {
    changes(tx, "DELETE FROM missed_looks WHERE server_id = ?1", [id])
}

/// Sets or clears a drift.
pub fn set_drift(tx: &Connection, id: ServerId, drift: Option<(Drift, i64, &str)>) -> Result<()> {
    let (kind, since, why) = match drift {
        Some((kind, since, why)) => (Some(kind.as_str()), Some(since), Some(why)),
        None => (None, None, None),
    };

    let sql = "UPDATE servers
               SET version = version + 1, drift = ?2, drift_since = ?3, drift_why = ?4
               WHERE id = ?1";
    run(tx, sql, params![id, kind, since, why])
}

/// The servers whose last run ended with exactly this text.
pub fn ended_with(connection: &Connection, end: &str) -> Result<Vec<ServerId>> {
    let sql = "SELECT id FROM servers WHERE last_end = ?1 AND id > 0 ORDER BY id";
    query(connection, sql, [end], |row| row.get(0))
}

/// Replaces the text about a server's last end by a fuller one, also in the reason of its drift,
/// and records the last error. False when it has ended in another way since.
pub fn explain(
    tx: &Connection,
    id: ServerId,
    bare: &str,
    full: &str,
    error: &str,
    now: i64,
) -> Result<bool> {
    let sql = "UPDATE servers
               SET version = version + 1, last_end = ?3, drift_why = replace(drift_why, ?2, ?3),
               last_error = ?4, updated_at = ?5 WHERE id = ?1 AND last_end = ?2";
    changes(tx, sql, params![id, bare, full, error, now])
}

#[cfg(test)]
mod tests;
