//! Removes old jobs, logs, events, sessions and records of alerts. [`crate::domain::retention`] decides what is old;
//! queued and running jobs, and what they or a process that is left need, stay at any age.
//!
//! Rows are searched in read transactions, and deleted in small ones with pauses between them, so
//! that no other program waits for long.
//!
//! Other old rows go when a new one of their kind comes: samples (samples.rs), crashes
//! (crashes.rs), journal lines of crashes (events.rs), request keys (request_keys.rs), and some of
//! the sessions (sessions.rs).

use std::time::Duration;

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::base::Result;
use crate::db::fleet::{old as fleet, orders_in};
use crate::db::{Db, deliveries, execute, first, one};
use crate::domain::retention::{Age, Retention, Verdict};

/// The approximate number of rows that one transaction deletes, and of those that a search finds
/// at a time.
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
    fn saw(&mut self, at: i64) {
        self.oldest = self.oldest.into_iter().chain([at]).min();
    }
}

/// When the rules were last applied by [`record_run`], unix ms.
pub fn last_run(connection: &Connection) -> Result<Option<i64>> {
    let sql = "SELECT pruned_at FROM poll WHERE id = 1";
    one(connection, sql, [], |row| row.get(0))
}

/// Records the time by which the rules were applied.
pub fn record_run(tx: &Connection, at: i64) -> Result<()> {
    execute(tx, "UPDATE poll SET pruned_at = ?1 WHERE id = 1", [at])?;
    Ok(())
}

/// Counts what [`prune`] would delete. Reads only.
pub fn count(db: &mut Db, rules: &Retention) -> Result<Pruned> {
    let excess = excess(db, rules)?;
    let mut done = Pruned::default();

    each_batch(db, rules, jobs, |_, found| {
        for job in found {
            done.jobs += 1;
            done.saw(job.at);
        }
        Ok(())
    })?;

    each_batch(db, rules, logs(excess), |db, found| {
        for job in found {
            let (lines, bytes) = log_size(db.connection(), job.id)?;
            done.log_lines += lines;
            done.log_bytes += bytes;
            done.saw(job.at);
        }
        Ok(())
    })?;

    each_batch(db, rules, events, |_, found| {
        for event in found {
            done.events += 1;
            done.saw(event.at);
        }
        Ok(())
    })?;

    if let Some(before) = rules.sessions_before() {
        let sql = "SELECT count(*) FROM sessions WHERE coalesce(ended_at, expires_at) < ?1";
        done.sessions = one(db.connection(), sql, [before], |row| row.get(0))?;
    }

    Ok(done)
}

/// Deletes what the rules remove. An interruption leaves a consistent file, and the next call
/// continues.
pub fn prune(db: &mut Db, rules: &Retention) -> Result<Pruned> {
    let excess = excess(db, rules)?;
    let mut done = Pruned::default();

    each_batch(db, rules, jobs, |db, found| {
        drop_all(db, found, |tx, job, left| {
            drop_job(tx, job, left, &mut done)
        })
    })?;

    each_batch(db, rules, logs(excess), |db, found| {
        drop_all(db, found, |tx, job, left| {
            drop_lines(tx, job, left, &mut done)
        })
    })?;

    each_batch(db, rules, events, |db, found| {
        drop_all(db, found, |tx, event, left| {
            drop_event(tx, event, left, &mut done)
        })
    })?;

    if let Some(before) = rules.sessions_before() {
        while drop_sessions(db, before, &mut done)? {
            std::thread::sleep(BREATH);
        }
    }

    let fleet_before = rules.events_before();
    while db.write(|tx| fleet::prune(tx, rules.now(), fleet_before, BATCH))? {
        std::thread::sleep(BREATH);
    }

    if let Some(before) = rules.alerts_before() {
        while db.write(|tx| deliveries::prune(tx, before, BATCH))? {
            std::thread::sleep(BREATH);
        }
    }

    Ok(done)
}

/// A job or an event that is old.
#[derive(Clone, Copy)]
struct Old {
    id: i64,
    /// When it ended or happened, unix ms.
    at: i64,
}

/// Old rows, and the id after which to continue; none at the end of the search.
type Batch = (Vec<Old>, Option<i64>);

/// Searches from the first row on and passes what is old to `work`, batch by batch.
fn each_batch(
    db: &mut Db,
    rules: &Retention,
    search: impl Fn(&Connection, &Retention, i64) -> Result<Batch>,
    mut work: impl FnMut(&mut Db, &[Old]) -> Result<()>,
) -> Result<()> {
    // Rows by hand may have any id.
    let mut next = Some(i64::MIN);
    while let Some(after) = next {
        let (found, then) = db.read(|tx| search(tx, rules, after))?;
        work(db, &found)?;
        next = then;
    }

    Ok(())
}

/// Collects old rows until there are enough, or until too many in a row are young.
struct Search {
    found: Vec<Old>,
    young: u32,
}

impl Search {
    fn new() -> Self {
        Self {
            found: Vec::new(),
            young: 0,
        }
    }

    /// Adds a row that nothing needs. Returns how the search ends with it, if it does.
    fn add(
        &mut self,
        verdict: Verdict,
        row: Old,
        rules: &Retention,
        is_needed: impl FnOnce() -> Result<bool>,
    ) -> Result<Option<Option<i64>>> {
        match verdict {
            Verdict::Young => self.young += 1,
            Verdict::Remove if !is_needed()? => {
                self.young = 0;
                self.found.push(row);
            }
            _ => {}
        }

        let is_full = i64::try_from(self.found.len()).is_ok_and(|count| count >= BATCH);
        Ok(match is_full {
            true => Some(Some(row.id)),
            false => (self.young > rules.patience).then_some(None),
        })
    }
}

/// Old jobs.
fn jobs(tx: &Connection, rules: &Retention, after: i64) -> Result<Batch> {
    let sql = "SELECT id, created_at, finished_at FROM jobs WHERE id > ?1 ORDER BY id";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([after])?;

    let mut search = Search::new();
    while let Some(row) = rows.next()? {
        let age = Age {
            created_at: row.get(1)?,
            ended_at: row.get(2)?,
        };

        let job = old(row.get(0)?, age);
        let is_needed = || is_job_needed(tx, job.id);
        if let Some(next) = search.add(rules.of_job(age), job, rules, is_needed)? {
            return Ok((search.found, next));
        }
    }

    Ok((search.found, None))
}

/// Jobs whose log is old, or too large with those of the jobs after it: those up to `excess`.
fn logs(excess: i64) -> impl Fn(&Connection, &Retention, i64) -> Result<Batch> {
    move |tx, rules, after| {
        let mut search = Search::new();
        let mut last = after;
        while let Some((id, age)) = next_log(tx, last)? {
            let verdict = rules.of_log(age, id <= excess);
            if let Some(next) = search.add(verdict, old(id, age), rules, || Ok(false))? {
                return Ok((search.found, next));
            }
            last = id;
        }

        Ok((search.found, None))
    }
}

/// Old events, but those of jobs that have not ended, those that a fleet has not been told, and the newest,
/// from which followers count.
fn events(tx: &Connection, rules: &Retention, after: i64) -> Result<Batch> {
    let newest: i64 = one(tx, "SELECT coalesce(max(id), 0) FROM events", [], |row| {
        row.get(0)
    })?;

    let told = fleet::last_told(tx, rules.now())?;
    let end = told.map_or(newest, |told| newest.min(told.saturating_add(1)));

    let sql = "SELECT id, at, job_id FROM events WHERE id > ?1 AND id < ?2 ORDER BY id";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([after, end])?;

    let mut search = Search::new();
    while let Some(row) = rows.next()? {
        let (id, at, job): (i64, i64, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let live = "SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND finished_at IS NULL)";
        let is_needed = || one(tx, live, [job], |row| row.get(0));
        if let Some(next) = search.add(rules.of_event(at), Old { id, at }, rules, is_needed)? {
            return Ok((search.found, next));
        }
    }

    Ok((search.found, None))
}

fn old(id: i64, age: Age) -> Old {
    Old {
        id,
        at: age.ended_at.unwrap_or(age.created_at),
    }
}

/// Whether a process that is left, or a cancellation that is not done with, needs an ended job.
fn is_job_needed(tx: &Connection, job: i64) -> Result<bool> {
    // The sets are few, and each has an index.
    let sql = "SELECT ?1 IN (
             SELECT t.job_id FROM runners r CROSS JOIN tasks t ON t.id = r.task_id
             WHERE r.ended_at IS NULL
             UNION ALL SELECT t.job_id FROM runners r CROSS JOIN tasks t ON t.id = r.task_id
             WHERE r.tree = 'left'
             UNION ALL SELECT job_id FROM cancellations WHERE state IN ('requested', 'running')
             UNION ALL SELECT job_id FROM cancellations WHERE for_journal = 1)";
    one(tx, sql, [job], |row| row.get(0))
}

/// The first job after `after` that has log lines.
fn next_log(tx: &Connection, after: i64) -> Result<Option<(i64, Age)>> {
    let sql = "SELECT id, created_at, finished_at FROM jobs WHERE id = (SELECT job_id
               FROM job_logs WHERE job_id > ?1 ORDER BY job_id LIMIT 1)";
    first(tx, sql, [after], |row| {
        let age = Age {
            created_at: row.get(1)?,
            ended_at: row.get(2)?,
        };
        Ok((row.get(0)?, age))
    })
}

/// How many lines a log has, and about how many bytes they take.
fn log_size(tx: &Connection, job: i64) -> Result<(i64, i64)> {
    let sql = format!("SELECT count(*), {BYTES} FROM job_logs l WHERE job_id = ?1");
    one(tx, &sql, [job], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The newest job whose log, with those of all later jobs, exceeds the logs' limit; `i64::MIN`
/// when they all are within it. Nothing is read while the whole file is smaller than the limit. Otherwise logs
/// are read from the newest on, each in a transaction of its own, which is as much as the limit.
fn excess(db: &mut Db, rules: &Retention) -> Result<i64> {
    const NONE: i64 = i64::MIN;
    let Some(limit) = rules.log_bytes() else {
        return Ok(NONE);
    };
    if db.used_bytes()? <= limit {
        return Ok(NONE);
    }

    let (mut total, mut job) = (0, i64::MAX);
    while total <= limit {
        let sql = "SELECT job_id FROM job_logs WHERE job_id < ?1 ORDER BY job_id DESC LIMIT 1";
        let found = db.read(|tx| {
            let older = first(tx, sql, [job], |row| row.get::<_, i64>(0))?;
            older.map(|id| Ok((id, log_size(tx, id)?.1))).transpose()
        })?;

        let Some((id, bytes)) = found else {
            return Ok(NONE);
        };
        job = id;
        total += bytes;
    }

    Ok(job)
}

/// Deletes rows in transactions of about [`BATCH`] rows. `drop` deletes up to `left` rows of one,
/// reduces `left` by them, and returns whether none are left; otherwise it gets the same one again.
fn drop_all(
    db: &mut Db,
    found: &[Old],
    mut drop: impl FnMut(&Connection, &Old, &mut i64) -> Result<bool>,
) -> Result<()> {
    let mut rest = found;
    while !rest.is_empty() {
        rest = db.write(|tx| {
            let mut left = BATCH;
            while let Some((one, others)) = rest.split_first()
                && left > 0
                && drop(tx, one, &mut left)?
            {
                rest = others;
            }
            Ok(rest)
        })?;

        std::thread::sleep(BREATH);
    }

    Ok(())
}

fn drop_job(tx: &Connection, job: &Old, left: &mut i64, done: &mut Pruned) -> Result<bool> {
    if !drop_lines(tx, job, left, done)? {
        return Ok(false);
    }

    let most = 1 + (*left).max(0) / ROWS_OF_A_TASK;
    let tasks = drop_tasks(tx, job.id, most)?;
    *left -= tasks * ROWS_OF_A_TASK;
    if tasks == most {
        return Ok(false);
    }

    orders_in::keep_end_of(tx, job.id)?;
    done.jobs += rows(execute(tx, "DELETE FROM jobs WHERE id = ?1", [job.id])?);
    done.saw(job.at);
    *left -= 1;
    Ok(true)
}

/// Deletes the first lines of a job.
fn drop_lines(tx: &Connection, job: &Old, left: &mut i64, done: &mut Pruned) -> Result<bool> {
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
    done.saw(job.at);
    Ok(lines < most)
}

/// Deletes at most `most` of the last tasks of a job, with their dependencies and runners.
fn drop_tasks(tx: &Connection, job: i64, most: i64) -> Result<i64> {
    let sql = "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE job_id = ?1
               ORDER BY position DESC LIMIT ?2)";
    Ok(rows(execute(tx, sql, [job, most])?))
}

fn drop_event(tx: &Connection, event: &Old, left: &mut i64, done: &mut Pruned) -> Result<bool> {
    done.events += rows(execute(tx, "DELETE FROM events WHERE id = ?1", [event.id])?);
    done.saw(event.at);
    *left -= 1;
    Ok(true)
}

/// Deletes some of the old sessions. Whether there may be more.
fn drop_sessions(db: &mut Db, before: i64, done: &mut Pruned) -> Result<bool> {
    let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions
               WHERE coalesce(ended_at, expires_at) < ?1 LIMIT ?2)";
    let removed = rows(db.write(|tx| execute(tx, sql, params![before, BATCH]))?);
    done.sessions += removed;
    Ok(removed == BATCH)
}

fn rows(changed: usize) -> i64 {
    i64::try_from(changed).unwrap_or(i64::MAX)
}
