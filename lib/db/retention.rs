//! Removes old jobs, logs, events and sessions, in small transactions. [`crate::domain::retention`]
//! decides what is old; queued and running jobs, and what they or a process that is left need, stay
//! at any age.
//!
//! Other old rows go when a new one of their kind comes: samples (samples.rs), crashes
//! (crashes.rs), journal lines of crashes (events.rs), request keys (request_keys.rs), and some of
//! the sessions (sessions.rs).

use std::time::Duration;

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::base::Result;
use crate::db::{Db, execute, first, one};
use crate::domain::retention::{Age, Retention, Verdict};

/// The approximate number of rows that one transaction reads or deletes.
const BATCH: i64 = 1000;

/// A task is deleted with its dependencies and runners, so it counts as this many rows.
const ROWS_OF_A_TASK: i64 = 4;

/// The pause between two transactions, in which a waiting writer gets the lock.
const BREATH: Duration = Duration::from_millis(2);

/// About how many bytes the lines `l` take in the file: 32 besides the text, and whole pages for a
/// long line, which does not fit into one with others.
const BYTES: &str = "coalesce(sum(octet_length(l.line) + 32
                     + iif(octet_length(l.line) > 960, 4064, 0)), 0)";

/// How many rows were deleted, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    pub jobs: i64,
    pub log_lines: i64,
    /// What these lines take in the file, about.
    pub log_bytes: i64,
    pub events: i64,
    pub sessions: i64,
    /// When the oldest of these jobs and events ended or happened, unix ms.
    pub oldest: Option<i64>,
}

impl Pruned {
    fn saw(&mut self, at: Option<i64>) {
        self.oldest = self.oldest.into_iter().chain(at).min();
    }
}

/// When the rules were last applied by [`record_run`], unix ms.
pub fn last_run(connection: &Connection) -> Result<Option<i64>> {
    one(
        connection,
        "SELECT pruned_at FROM poll WHERE id = 1",
        [],
        |row| row.get(0),
    )
}

/// Records the time by which the rules were applied.
pub fn record_run(tx: &Connection, at: i64) -> Result<()> {
    execute(tx, "UPDATE poll SET pruned_at = ?1 WHERE id = 1", [at])?;
    Ok(())
}

/// Counts what [`prune`] would delete. Reads only.
pub fn count(db: &mut Db, rules: &Retention) -> Result<Pruned> {
    let excess = excess(db, rules)?;

    db.read(|tx| {
        let mut found = Pruned::default();
        let mut after = 0;
        while let Some(job) = next_job(tx, after)? {
            match rules.of_job(job.age) {
                Verdict::KeepRest => break,
                Verdict::Remove if !job.is_needed => {
                    found.jobs += 1;
                    found.saw(job.age.ended_at);
                }
                _ => {}
            }
            after = job.id;
        }

        after = 0;
        while let Some(job) = next_log(tx, after)? {
            match rules.of_log(job.age, job.id <= excess) {
                Verdict::KeepRest => break,
                Verdict::Remove => {
                    let (lines, bytes) = log_size(tx, job.id)?;
                    found.log_lines += lines;
                    found.log_bytes += bytes;
                    found.saw(job.age.ended_at);
                }
                Verdict::Keep => {}
            }
            after = job.id;
        }

        after = 0;
        while let Some(event) = next_event(tx, after)? {
            match rules.of_event(event.at) {
                Verdict::KeepRest => break,
                Verdict::Remove if !event.is_needed => {
                    found.events += 1;
                    found.saw(Some(event.at));
                }
                _ => {}
            }
            after = event.id;
        }

        if let Some(before) = rules.sessions_before() {
            let sql = "SELECT count(*) FROM sessions WHERE coalesce(ended_at, expires_at) < ?1";
            found.sessions = one(tx, sql, [before], |row| row.get(0))?;
        }

        Ok(found)
    })
}

/// Deletes what the rules remove, in transactions of about a thousand rows. An interruption leaves
/// a consistent file, and the next call continues. Costs little when there is nothing to delete: no
/// step reads more of the history than it deletes.
pub fn prune(db: &mut Db, rules: &Retention) -> Result<Pruned> {
    let excess = excess(db, rules)?;
    let mut done = Pruned::default();

    in_batches(db, |tx, after| drop_jobs(tx, rules, after, &mut done))?;
    in_batches(db, |tx, after| {
        drop_logs(tx, rules, excess, after, &mut done)
    })?;
    in_batches(db, |tx, after| drop_events(tx, rules, after, &mut done))?;
    if let Some(before) = rules.sessions_before() {
        in_batches(db, |tx, _| drop_sessions(tx, before, &mut done))?;
    }

    Ok(done)
}

/// Runs `batch` in one transaction after another, until it returns none. It gets the id after which
/// to continue.
fn in_batches(
    db: &mut Db,
    mut batch: impl FnMut(&Connection, i64) -> Result<Option<i64>>,
) -> Result<()> {
    let mut next = Some(0);
    while let Some(after) = next {
        next = db.write(|tx| batch(tx, after))?;
        if next.is_some() {
            std::thread::sleep(BREATH);
        }
    }

    Ok(())
}

/// A job as the rules see it.
struct JobRow {
    id: i64,
    age: Age,
    /// A process that is left, or a cancellation that is not done with, needs its rows.
    is_needed: bool,
}

/// The first job after `after` of those in `which`, by id.
fn job_row(tx: &Connection, sql: &str, after: i64) -> Result<Option<JobRow>> {
    first(tx, sql, [after], |row| {
        Ok(JobRow {
            id: row.get(0)?,
            age: Age {
                created_at: row.get(1)?,
                ended_at: row.get(2)?,
            },
            is_needed: row.get(3)?,
        })
    })
}

/// The columns of [`JobRow`]. Jobs in the list are few, and found by partial indexes.
const JOB: &str = "id, created_at, finished_at, id IN (
             SELECT t.job_id FROM runners r CROSS JOIN tasks t ON t.id = r.task_id
             WHERE r.ended_at IS NULL
             UNION ALL SELECT t.job_id FROM runners r CROSS JOIN tasks t ON t.id = r.task_id
             WHERE r.tree = 'left'
             UNION ALL SELECT job_id FROM cancellations WHERE state IN ('requested', 'running')
             UNION ALL SELECT job_id FROM cancellations WHERE for_journal = 1)";

fn next_job(tx: &Connection, after: i64) -> Result<Option<JobRow>> {
    let sql = format!("SELECT {JOB} FROM jobs WHERE id > ?1 ORDER BY id LIMIT 1");
    job_row(tx, &sql, after)
}

/// The first job after `after` that has log lines.
fn next_log(tx: &Connection, after: i64) -> Result<Option<JobRow>> {
    let sql = format!(
        "SELECT {JOB} FROM jobs WHERE id = (SELECT job_id FROM job_logs WHERE job_id > ?1
         ORDER BY job_id LIMIT 1)"
    );
    job_row(tx, &sql, after)
}

/// How many lines a log has, and about how many bytes they take.
fn log_size(tx: &Connection, job: i64) -> Result<(i64, i64)> {
    let sql = format!("SELECT count(*), {BYTES} FROM job_logs l WHERE job_id = ?1");
    one(tx, &sql, [job], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The newest job whose log, with those of all later jobs, exceeds the logs' limit; 0 when they all
/// are within it. Nothing is read while the whole file is smaller than the limit. Otherwise logs
/// are read from the newest on, each in a transaction of its own, which is as much as the limit.
fn excess(db: &mut Db, rules: &Retention) -> Result<i64> {
    let Some(limit) = rules.log_bytes() else {
        return Ok(0);
    };
    if db.used_bytes()? <= limit {
        return Ok(0);
    }

    let (mut total, mut job) = (0, i64::MAX);
    while total <= limit {
        let sql = "SELECT job_id FROM job_logs WHERE job_id < ?1 ORDER BY job_id DESC LIMIT 1";
        let found = db.read(|tx| {
            let older = first(tx, sql, [job], |row| row.get::<_, i64>(0))?;
            older.map(|id| Ok((id, log_size(tx, id)?.1))).transpose()
        })?;

        let Some((id, bytes)) = found else {
            return Ok(0);
        };
        job = id;
        total += bytes;
    }

    Ok(job)
}

/// Deletes about [`BATCH`] rows of the jobs after `after`. Returns the job after which to continue;
/// none when no old job is left.
fn drop_jobs(
    tx: &Connection,
    rules: &Retention,
    after: i64,
    done: &mut Pruned,
) -> Result<Option<i64>> {
    let (mut last, mut left) = (after, BATCH);
    while left > 0 {
        let Some(job) = next_job(tx, last)? else {
            return Ok(None);
        };
        left -= 1;

        let is_done = match rules.of_job(job.age) {
            Verdict::KeepRest => return Ok(None),
            Verdict::Remove if !job.is_needed => drop_job(tx, &job, &mut left, done)?,
            _ => true,
        };
        if !is_done {
            break;
        }

        last = job.id;
    }

    Ok(Some(last))
}

/// Deletes up to `left` rows of a job, and reduces `left` by them. False when some are left.
fn drop_job(tx: &Connection, job: &JobRow, left: &mut i64, done: &mut Pruned) -> Result<bool> {
    if !drop_lines(tx, job, left, done)? {
        return Ok(false);
    }

    let most = 1 + *left / ROWS_OF_A_TASK;
    let tasks = drop_tasks(tx, job.id, most)?;
    *left -= tasks * ROWS_OF_A_TASK;
    if tasks == most {
        return Ok(false);
    }

    done.jobs += rows(execute(tx, "DELETE FROM jobs WHERE id = ?1", [job.id])?);
    done.saw(job.age.ended_at);
    Ok(true)
}

/// The same for the logs of jobs, up to the job `excess` because of their size.
fn drop_logs(
    tx: &Connection,
    rules: &Retention,
    excess: i64,
    after: i64,
    done: &mut Pruned,
) -> Result<Option<i64>> {
    let (mut last, mut left) = (after, BATCH);
    while left > 0 {
        let Some(job) = next_log(tx, last)? else {
            return Ok(None);
        };
        left -= 1;

        let is_done = match rules.of_log(job.age, job.id <= excess) {
            Verdict::KeepRest => return Ok(None),
            Verdict::Remove => drop_lines(tx, &job, &mut left, done)?,
            Verdict::Keep => true,
        };
        if !is_done {
            break;
        }

        last = job.id;
    }

    Ok(Some(last))
}

/// Deletes the first `left` lines of a job, and reduces `left` by them. False when some are left.
fn drop_lines(tx: &Connection, job: &JobRow, left: &mut i64, done: &mut Pruned) -> Result<bool> {
    let most = (*left).max(1);
    let sql = format!(
        "SELECT count(*), {BYTES} FROM (SELECT line FROM job_logs WHERE job_id = ?1
         ORDER BY seq LIMIT ?2) l"
    );
    let (lines, bytes): (i64, i64) = one(tx, &sql, [job.id, most], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    if lines == 0 {
        return Ok(true);
    }

    let sql = "DELETE FROM job_logs WHERE job_id = ?1 AND seq IN (SELECT seq FROM job_logs
               WHERE job_id = ?1 ORDER BY seq LIMIT ?2)";
    execute(tx, sql, [job.id, most])?;

    *left -= lines;
    done.log_lines += lines;
    done.log_bytes += bytes;
    done.saw(job.age.ended_at);
    Ok(lines < most)
}

/// Deletes at most `most` of the last tasks of a job, with their dependencies and runners.
fn drop_tasks(tx: &Connection, job: i64, most: i64) -> Result<i64> {
    let sql = "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE job_id = ?1
               ORDER BY position DESC LIMIT ?2)";
    Ok(rows(execute(tx, sql, [job, most])?))
}

/// An event as the rules see it.
struct EventRow {
    id: i64,
    at: i64,
    /// Its job has not ended, or it is the newest event, from which followers count on.
    is_needed: bool,
}

fn next_event(tx: &Connection, after: i64) -> Result<Option<EventRow>> {
    let sql = "SELECT id, at, id = (SELECT max(id) FROM events)
               OR EXISTS (SELECT 1 FROM jobs j WHERE j.id = e.job_id AND j.finished_at IS NULL)
               FROM events e WHERE id > ?1 ORDER BY id LIMIT 1";
    first(tx, sql, [after], |row| {
        Ok(EventRow {
            id: row.get(0)?,
            at: row.get(1)?,
            is_needed: row.get(2)?,
        })
    })
}

fn drop_events(
    tx: &Connection,
    rules: &Retention,
    after: i64,
    done: &mut Pruned,
) -> Result<Option<i64>> {
    let mut last = after;
    for _ in 0..BATCH {
        let Some(event) = next_event(tx, last)? else {
            return Ok(None);
        };
        match rules.of_event(event.at) {
            Verdict::KeepRest => return Ok(None),
            Verdict::Remove if !event.is_needed => {
                execute(tx, "DELETE FROM events WHERE id = ?1", [event.id])?;
                done.events += 1;
                done.saw(Some(event.at));
            }
            _ => {}
        }

        last = event.id;
    }

    Ok(Some(last))
}

fn drop_sessions(tx: &Connection, before: i64, done: &mut Pruned) -> Result<Option<i64>> {
    let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions
               WHERE coalesce(ended_at, expires_at) < ?1 LIMIT ?2)";
    let removed = rows(execute(tx, sql, params![before, BATCH])?);
    done.sessions += removed;
    Ok((removed == BATCH).then_some(0))
}

fn rows(changed: usize) -> i64 {
    i64::try_from(changed).unwrap_or(i64::MAX)
}
