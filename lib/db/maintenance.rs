//! Maintenance of the whole file: check its health, copy it, prune old rows. The first two open it
//! without migrating it.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, params};
use serde::Serialize;

use crate::base::{Error, Result};
use crate::db::error::in_file;
use crate::db::{Db, execute, file, first, migrate};

/// The approximate number of rows that one transaction deletes.
const BATCH: i64 = 1000;

/// A task is deleted with its dependencies and runners, so it counts as this many rows.
const ROWS_OF_A_TASK: i64 = 4;

/// The pause between two transactions, in which a waiting writer gets the lock.
const BREATH: Duration = Duration::from_millis(2);

/// The result of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its schema version; this program's is [`migrate::LATEST`].
    pub schema: i64,
    /// The complaints of `PRAGMA quick_check`; empty when the file is sound.
    pub complaints: Vec<String>,
}

/// Checks the file, without migrating or changing it.
///
/// Fails with 69 or 77 when it cannot be read.
pub fn check(path: &Path) -> Result<Health> {
    Db::peek(path, |tx| {
        let health = || -> rusqlite::Result<Health> {
            Ok(Health {
                schema: migrate::version(tx)?,
                complaints: complaints(tx, "quick_check")?,
            })
        };

        health().map_err(|error| in_file(path, &error))
    })
}

/// Whether the database's write lock is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It was taken and released.
    Free,
    /// Another program holds it.
    Busy,
    /// No program has the file open: there is no lock, and none was taken.
    Unused,
}

/// How long to wait for the lock.
const LOCK_TIME: Duration = Duration::from_millis(300);

/// Takes and releases the write lock, without a change. A file that no program has open stays
/// closed, because opening it would create files beside it.
///
/// Fails with 69 or 77 when the file cannot be written.
pub fn take_lock(path: &Path) -> Result<Lock> {
    if file::beside(path, "-wal").symlink_metadata().is_err() {
        return Ok(Lock::Unused);
    }

    let connection = file::open(path)?;
    let locked = || -> rusqlite::Result<()> {
        connection.busy_timeout(LOCK_TIME)?;
        // Closing must not write the log back.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")
    };

    match locked() {
        Ok(()) => Ok(Lock::Free),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(Lock::Busy),
        Err(error) => Err(in_file(path, &error)),
    }
}

/// Copies the database at `from`, in the state of one moment, into the empty file `to`, and checks
/// the copy. Other programs read and write meanwhile. The copy is one file, without a write-ahead
/// log.
///
/// Fails with 69 or 77 when one of the files cannot be used; 1 when the copy fails its check.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let source = file::open(from)?;
    source
        .busy_timeout(Duration::from_secs(15))
        .map_err(|error| in_file(from, &error))?;

    let mut target = file::open(to)?;
    let mut found = || -> rusqlite::Result<Vec<String>> {
        let backup = Backup::new(&source, &mut target)?;
        // One step for all pages is one read transaction, which another process' commits cannot
        // restart.
        while !matches!(backup.step(-1)?, StepResult::Done) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(backup);
        target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        complaints(&target, "integrity_check")
    };

    let found = found().map_err(|error| in_file(to, &error))?;
    match found.first() {
        None => Ok(()),
        Some(first) => Err(Error::failed(format!(
            "the copy of {} fails its check: {first}",
            from.display()
        ))),
    }
}

/// The complaints of a full check of the file, including references between tables.
pub(super) fn complaints_of(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = complaints(connection, "integrity_check")?;
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    if let Some(row) = rows.next()? {
        found.push(format!(
            "a row of {} refers to one that is not there",
            row.get::<_, String>(0)?
        ));
    }

    Ok(found)
}

fn complaints(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA {check}(10)"))?;
    let lines = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// What to delete of ended jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The jobs with all their rows, and ended sessions.
    Everything,
    /// Only the lines of the jobs' logs.
    Logs,
}

/// How many rows were deleted, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    pub jobs: i64,
    pub log_lines: i64,
    pub sessions: i64,
}

/// Counts what [`prune`] would delete. Reads only.
pub fn count(db: &mut Db, before: i64, depth: Depth) -> Result<Pruned> {
    db.read(|tx| {
        let number = |sql: &str| tx.query_row(sql, [before], |row| row.get::<_, i64>(0));
        let log_lines = number(
            "SELECT count(*) FROM job_logs WHERE job_id IN (SELECT id FROM jobs
             WHERE state IN ('succeeded', 'failed', 'cancelled') AND finished_at < ?1)",
        )?;

        if depth == Depth::Logs {
            return Ok(Pruned {
                log_lines,
                ..Pruned::default()
            });
        }

        Ok(Pruned {
            log_lines,
            jobs: number(
                "SELECT count(*) FROM jobs
                 WHERE state IN ('succeeded', 'failed', 'cancelled') AND finished_at < ?1",
            )?,
            sessions: number(
                "SELECT count(*) FROM sessions WHERE coalesce(ended_at, expires_at) < ?1",
            )?,
        })
    })
}

/// Deletes what ended before `before` (unix ms), in transactions of about a thousand rows. Events
/// stay, because they record who did what. An interruption leaves a consistent file, and the next
/// call continues.
pub fn prune(db: &mut Db, before: i64, depth: Depth) -> Result<Pruned> {
    let (mut done, mut next) = (Pruned::default(), Some(0));
    while let Some(after) = next {
        let (removed, then) = db.write(|tx| drop_jobs(tx, before, depth, after))?;
        done.jobs += removed.jobs;
        done.log_lines += removed.log_lines;
        next = then;
        std::thread::sleep(BREATH);
    }

    if depth == Depth::Everything {
        loop {
            let removed = db.write(|tx| drop_sessions(tx, before))?;
            done.sessions += removed;
            if removed < BATCH {
                break;
            }
            std::thread::sleep(BREATH);
        }
    }

    Ok(done)
}

/// Deletes about [`BATCH`] rows of the jobs after `after` that ended before `before`. Returns what
/// it deleted, and the job after which to continue; none when no job is left.
fn drop_jobs(
    tx: &Connection,
    before: i64,
    depth: Depth,
    after: i64,
) -> Result<(Pruned, Option<i64>)> {
    let (mut done, mut last, mut left) = (Pruned::default(), after, BATCH);
    while left > 0 {
        let Some(job) = next_ended(tx, before, last)? else {
            return Ok((done, None));
        };
        let lines = drop_lines(tx, job, left)?;

        done.log_lines += lines;
        left -= lines + 1;
        if left <= 0 {
            break;
        }

        if depth == Depth::Everything {
            let most = 1 + left / ROWS_OF_A_TASK;
            let tasks = drop_tasks(tx, job, most)?;
            left -= tasks * ROWS_OF_A_TASK;
            if tasks == most {
                break;
            }
            done.jobs += rows(execute(tx, "DELETE FROM jobs WHERE id = ?1", [job])?);
        }

        last = job;
    }

    Ok((done, Some(last)))
}

/// The next job by id that ended before `before`.
fn next_ended(tx: &Connection, before: i64, after: i64) -> Result<Option<i64>> {
    let sql = "SELECT id FROM jobs
         WHERE id > ?2 AND state IN ('succeeded', 'failed', 'cancelled') AND finished_at < ?1
         ORDER BY id LIMIT 1";
    first(tx, sql, [before, after], |row| row.get(0))
}

/// Deletes at most `most` of the first lines of a job.
fn drop_lines(tx: &Connection, job: i64, most: i64) -> Result<i64> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM job_logs WHERE job_id = ?1 AND seq IN (SELECT seq FROM job_logs
         WHERE job_id = ?1 ORDER BY seq LIMIT ?2)",
    )?;
    Ok(rows(statement.execute([job, most])?))
}

/// Deletes at most `most` of the last tasks of a job, with their dependencies and runners.
fn drop_tasks(tx: &Connection, job: i64, most: i64) -> Result<i64> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE job_id = ?1
         ORDER BY position DESC LIMIT ?2)",
    )?;
    Ok(rows(statement.execute([job, most])?))
}

fn drop_sessions(tx: &Connection, before: i64) -> Result<i64> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions
         WHERE coalesce(ended_at, expires_at) < ?1 LIMIT ?2)",
    )?;
    Ok(rows(statement.execute(params![before, BATCH])?))
}

fn rows(changed: usize) -> i64 {
    i64::try_from(changed).unwrap_or(i64::MAX)
}
