//! The restarts of an update or rollback: its own tasks, and the jobs that wait for it.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::{exists, first, one, query, run};

/// Records that the restart `job` waits for the update or rollback `roll`.
pub fn set(tx: &Connection, job: JobId, roll: JobId) -> Result<()> {
    let sql = "UPDATE jobs SET roll_of = ?2 WHERE id = ?1";
    run(tx, sql, params![job, roll])
}

/// The restarts for `roll` that still wait for their condition.
pub fn waiting(connection: &Connection, roll: JobId) -> Result<Vec<JobId>> {
    let sql = "SELECT id FROM jobs WHERE roll_of = ?1 AND state = 'queued' ORDER BY id";
    query(connection, sql, [roll], |row| row.get(0))
}

/// For how long after its start a crash is put down to the build, ms.
const CRASHES: i64 = 600_000;

/// How many servers the roll has failed on so far: their start failed, or what has to be written for
/// it, whatever came up in the end; or they crashed soon after it. A server that was not up before does not count, nor does a start
/// that the worker's end has interrupted.
pub fn failures(connection: &Connection, roll: JobId) -> Result<u32> {
    let sql = "WITH starts AS (SELECT t.job_id, t.server_id, t.state, t.finished_at FROM jobs j
                 JOIN tasks t ON t.job_id = j.id AND t.kind IN ('initialize', 'start', 'start-if-ran')
                 WHERE (j.id = ?1 OR j.roll_of = ?1) AND t.interrupted = 0
                 AND (t.state = 'failed' OR t.state = 'succeeded' AND t.kind <> 'initialize'))
               SELECT count(DISTINCT server_id) FROM starts
               WHERE NOT EXISTS (SELECT 1 FROM tasks stop WHERE stop.job_id = starts.job_id
               AND stop.server_id = starts.server_id AND stop.kind = 'stop' AND stop.was_up = 0)
               AND (state = 'failed' OR EXISTS (SELECT 1 FROM server_crashes c
               WHERE c.server_id = starts.server_id
               AND c.at BETWEEN starts.finished_at AND starts.finished_at + ?2))";
    one(connection, sql, params![roll, CRASHES], |row| row.get(0))
}

/// Records which build a job has made the current one.
pub fn set_build(tx: &Connection, job: JobId, build: u64) -> Result<()> {
    let sql = "UPDATE jobs SET build = ?2 WHERE id = ?1";
    run(tx, sql, params![job, build.cast_signed()])
}

/// Why the last roll of a build was stopped, if it was.
pub fn why_stopped(connection: &Connection, build: u64) -> Result<Option<String>> {
    let sql = "SELECT (SELECT e.detail FROM events e WHERE e.job_id = j.id
               AND e.kind = 'update.stopped' LIMIT 1)
               FROM jobs j WHERE j.build = ?1 ORDER BY j.id DESC LIMIT 1";
    let found: Option<Option<String>> =
        first(connection, sql, [build.cast_signed()], |row| row.get(0))?;
    Ok(found.flatten())
}

/// The build on which most servers came up last, apart from `build`: what to go back to. One that has
/// been stopped for long says little: its build may be removed.
pub fn before(connection: &Connection, build: u64) -> Result<Option<u64>> {
    let sql = "SELECT build FROM servers WHERE build IS NOT NULL AND build <> ?1
               GROUP BY build
               ORDER BY sum(desired_state = 'running') DESC, count(*) DESC, build DESC LIMIT 1";
    let found: Option<i64> = first(connection, sql, [build.cast_signed()], |row| row.get(0))?;
    Ok(found.map(i64::unsigned_abs))
}

/// The servers whose restart for a roll still waits.
pub fn waiting_servers(connection: &Connection) -> Result<Vec<ServerId>> {
    let sql = "SELECT t.server_id FROM jobs j JOIN job_targets t ON t.job_id = j.id
               WHERE j.roll_of IS NOT NULL AND j.state = 'queued' ORDER BY t.server_id";
    query(connection, sql, [], |row| row.get(0))
}

/// The restarts of all rolls that still wait.
pub fn all_waiting(connection: &Connection) -> Result<Vec<JobId>> {
    let sql = "SELECT id FROM jobs WHERE roll_of IS NOT NULL AND state = 'queued' ORDER BY id";
    query(connection, sql, [], |row| row.get(0))
}

/// Whether the roll was stopped.
pub fn is_stopped(connection: &Connection, roll: JobId) -> Result<bool> {
    let sql = "SELECT 1 FROM events WHERE job_id = ?1 AND kind = 'update.stopped'";
    exists(connection, sql, [roll])
}

/// Whether the roll itself or a restart for it runs.
pub fn is_under_way(connection: &Connection, roll: JobId) -> Result<bool> {
    let sql = "SELECT 1 FROM jobs WHERE state IN ('running', 'cancelling')
               AND (id = ?1 OR roll_of = ?1)";
    exists(connection, sql, [roll])
}

/// The last server that went back from the build of a roll, and the build.
pub fn last_failure(connection: &Connection, roll: JobId) -> Result<Option<(u64, ServerId)>> {
    let sql = "SELECT t.failed_build, t.server_id FROM jobs j JOIN tasks t ON t.job_id = j.id
               WHERE (j.id = ?1 OR j.roll_of = ?1) AND t.failed_build IS NOT NULL
               ORDER BY t.id DESC LIMIT 1";
    first(connection, sql, [roll], |row| {
        Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?))
    })
}

/// The servers that did not come up on `build`, and have not since.
pub fn failed_on(connection: &Connection, build: u64) -> Result<Vec<ServerId>> {
    let sql = "SELECT DISTINCT t.server_id FROM tasks t JOIN servers s ON s.id = t.server_id
               WHERE t.failed_build = ?1 AND s.build IS NOT ?1 ORDER BY t.server_id";
    query(connection, sql, [build.cast_signed()], |row| row.get(0))
}

/// Whether a server runs `build`.
pub fn works_somewhere(connection: &Connection, build: u64) -> Result<bool> {
    let sql = "SELECT 1 FROM servers WHERE build = ?1";
    exists(connection, sql, [build.cast_signed()])
}

/// The servers that a job began to stop, which ran or should run, and whose start has neither
/// succeeded nor failed by itself.
pub fn left_stopped(connection: &Connection, job: JobId) -> Result<Vec<ServerId>> {
    let sql = "SELECT DISTINCT stop.server_id FROM tasks stop
               WHERE stop.job_id = ?1 AND stop.kind = 'stop' AND stop.started_at IS NOT NULL
               AND (stop.was_running = 1 OR stop.state <> 'failed' AND stop.was_running IS NULL)
               AND EXISTS (SELECT 1 FROM tasks start WHERE start.job_id = ?1
               AND start.server_id = stop.server_id AND start.kind IN ('start', 'start-if-ran')
               AND (start.state NOT IN ('succeeded', 'failed') OR start.interrupted = 1))
               ORDER BY stop.server_id";
    query(connection, sql, [job], |row| row.get(0))
}
