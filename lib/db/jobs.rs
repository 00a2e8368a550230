//! Jobs and their targets. A state changes only by the guarded UPDATEs here; zero changed rows is a
//! result.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{JobId, ServerId, UserId};
use crate::base::{Error, Result, clock};
use crate::db::conditions::{self, JobCondition};
pub use crate::db::job_filter::Filter;
use crate::db::tasks::{self, Task};
use crate::db::{
    changes, exists, first, job_filter, one, query, run, text, text_or_null, update_options,
};
use crate::domain::condition::Condition;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::outcome::ServerOutcome;
use crate::domain::plan::Plan;
use crate::domain::update::UpdateOptions;

/// A job, as `--json` shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// The row's id.
    pub id: JobId,
    /// The operation's word. Not an enum: a row may hold a word that this version does not know.
    pub operation: String,
    /// Its servers.
    pub servers: Vec<ServerId>,
    /// Their names, in the same order; `null` for a server whose row is gone.
    pub server_names: Vec<Option<String>>,
    /// Its state.
    pub state: JobState,
    /// 1 for the next one; only while queued and not waiting for a condition.
    pub queue_position: Option<i64>,
    /// What it waits for before it goes ahead.
    pub condition: Option<JobCondition>,
    /// While it waits for that, the reason: `3 players on Friday (until 06:00)`.
    pub waiting: Option<String>,
    /// Who requested it.
    pub requested_by: String,
    /// The job that this one repeats.
    pub retry_of: Option<JobId>,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms.
    pub started_at: Option<i64>,
    /// Unix ms; set exactly in terminal states.
    pub finished_at: Option<i64>,
    /// 0 on success.
    pub exit_code: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// What it found, if that is all that it had to do: `build 5 is current: nothing to do`.
    pub result: Option<String>,
    /// Its plan, with states.
    pub tasks: Vec<Task>,
    /// The outcome, or the progress, for each server of its plan.
    pub server_outcomes: Vec<ServerOutcome>,
    /// Whether it is queued and waits for its condition.
    #[serde(skip)]
    pub on_hold: bool,
    /// What was asked of an update or rollback.
    #[serde(skip)]
    pub options: UpdateOptions,
    /// The update or rollback for which this restart waited.
    #[serde(skip)]
    pub roll_of: Option<JobId>,
}

#[derive(Clone, Debug)]
pub struct NewJob<'a> {
    pub operation: Operation,
    pub targets: &'a [ServerId],
    pub requested_by: &'a str,
    /// The requester's account, for a request over the web.
    pub user: Option<UserId>,
    /// The job that this one repeats.
    pub retry_of: Option<JobId>,
    /// Of an update or rollback.
    pub options: &'a UpdateOptions,
    /// Whether it waits for a condition.
    pub on_hold: bool,
}

/// Inserts a queued job with its targets, tasks and dependencies. Ids grow in the order of
/// acceptance. Among queued jobs created_at never decreases, even if the clock does, so the order
/// by created_at and id equals the order by id. Jobs that have left the queue do not count: one
/// from a clock that was years ahead would pass its date to all later jobs.
pub fn insert(tx: &Connection, job: &NewJob<'_>, plan: &Plan, now: i64) -> Result<JobId> {
    let sql =
        "INSERT INTO jobs (operation, requested_by, user_id, retry_of, created_at, updated_at,
             on_hold, options)
         VALUES (?1, ?2, ?3, ?4, max(?5, coalesce((SELECT created_at FROM jobs
         WHERE state = 'queued' ORDER BY id DESC LIMIT 1), 0)), ?5, ?6, ?7)";
    let options =
        (*job.options != UpdateOptions::default()).then(|| update_options::json(job.options));
    run(
        tx,
        sql,
        params![
            job.operation.as_str(),
            job.requested_by,
            job.user,
            job.retry_of,
            now,
            job.on_hold,
            options.transpose()?
        ],
    )?;

    let id = JobId(tx.last_insert_rowid());
    for server in job.targets {
        let sql = "INSERT INTO job_targets (job_id, server_id) VALUES (?1, ?2)";
        run(tx, sql, params![id, server])?;
    }

    tasks::insert_plan(tx, id, plan)?;
    Ok(id)
}

/// The oldest queued or running job with the same operation on exactly the same targets, and with
/// the same condition: a job that waits until its servers are empty does not do what is wanted now.
/// A job that is being cancelled does not count: it will not do the work. An update that verifies
/// everything counts for one that does not.
pub fn find_live_twin(
    connection: &Connection,
    operation: Operation,
    targets: &[ServerId],
    condition: Option<&Condition>,
    options: &UpdateOptions,
) -> Result<Option<JobId>> {
    // The second half repeats the partial index's states literally, or SQLite would not use it.
    let sql = "SELECT id FROM jobs WHERE state = 'queued' AND operation = ?1 UNION ALL SELECT id
               FROM jobs
               WHERE state IN ('running', 'cancelling') AND state = 'running' AND operation = ?1
               ORDER BY id";
    let ids: Vec<i64> = query(connection, sql, [operation.as_str()], |row| row.get(0))?;
    let mut wanted = targets.to_vec();
    wanted.sort_unstable();

    for id in ids {
        let id = JobId(id);
        if self::targets(connection, id)? == wanted
            && is_same(conditions::of(connection, id)?.as_ref(), condition)
            && does_as_much(&update_options::of(connection, id)?, options)
        {
            return Ok(Some(id));
        }
    }

    Ok(None)
}

/// Whether a job with the options `one` also does what the options `other` ask for.
fn does_as_much(one: &UpdateOptions, other: &UpdateOptions) -> bool {
    let validate = one.validate && !other.validate;
    one == other
        || validate
            && *other
                == UpdateOptions {
                    validate: false,
                    ..one.clone()
                }
}

/// Whether two conditions, or none, were asked for in the same words.
pub fn is_same(one: Option<&Condition>, other: Option<&Condition>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same_request(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// A job's servers, ascending.
pub fn targets(connection: &Connection, id: JobId) -> Result<Vec<ServerId>> {
    let sql = "SELECT server_id FROM job_targets WHERE job_id = ?1 ORDER BY server_id";
    query(connection, sql, [id], |row| row.get(0))
}

const COLUMNS: &str = "id, operation, state, requested_by, retry_of, created_at, started_at,
                       finished_at, exit_code, error, on_hold, result, options, roll_of";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        operation: text(row, 1)?,
        servers: Vec::new(),
        server_names: Vec::new(),
        state: row.get(2)?,
        queue_position: None,
        condition: None,
        waiting: None,
        requested_by: text(row, 3)?,
        retry_of: row.get(4)?,
        created_at: row.get(5)?,
        started_at: row.get(6)?,
        finished_at: row.get(7)?,
        exit_code: row.get(8)?,
        error: text_or_null(row, 9)?,
        result: text_or_null(row, 11)?,
        tasks: Vec::new(),
        server_outcomes: Vec::new(),
        on_hold: row.get(10)?,
        options: text_or_null(row, 12)?.map_or_else(UpdateOptions::default, update_options::parse),
        roll_of: row.get(13)?,
    })
}

/// Loads what is not in the jobs row itself, except tasks: servers, their names, the condition, the
/// queue position.
fn complete(connection: &Connection, job: &mut Job) -> Result<()> {
    let sql = "SELECT t.server_id, s.name FROM job_targets t
               LEFT JOIN servers s ON s.id = t.server_id WHERE t.job_id = ?1 ORDER BY t.server_id";
    let servers: Vec<(ServerId, _)> = query(connection, sql, [job.id], |row| {
        Ok((row.get(0)?, text_or_null(row, 1)?))
    })?;
    (job.servers, job.server_names) = servers.into_iter().unzip();

    job.condition = conditions::of(connection, job.id)?.map(JobCondition::from);
    if job.on_hold {
        job.waiting = conditions::message(connection, job.id, clock::now_ms())?;
    } else if job.state == JobState::Queued && job.queue_position.is_none() {
        job.queue_position = Some(queue_position(connection, job.id)?);
    }
    Ok(())
}

/// One job with its tasks.
///
/// Fails with 3 when there is none; 69 when the database cannot be read.
pub fn get(connection: &Connection, id: JobId) -> Result<Job> {
    let mut job = row(connection, id)?.ok_or_else(|| no_such_job(id))?;
    complete(connection, &mut job)?;
    job.tasks = tasks::of_job(connection, id)?;
    job.server_outcomes = tasks::outcomes(&job.tasks);
    Ok(job)
}

/// The row of a job, incomplete.
fn row(connection: &Connection, id: JobId) -> Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
    first(connection, &sql, [id], from_row)
}

fn no_such_job(id: JobId) -> Error {
    Error::not_found(format!("no such job: {id}; see `left4me-job list`"))
}

/// A job's state and exit code.
///
/// Fails with 3 when there is none; 69 when the database cannot be read.
pub fn state(connection: &Connection, id: JobId) -> Result<(JobState, Option<i64>)> {
    let sql = "SELECT state, exit_code FROM jobs WHERE id = ?1";
    first(connection, sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .ok_or_else(|| no_such_job(id))
}

/// Jobs, newest first, with their tasks.
pub fn list(connection: &Connection, filter: &Filter) -> Result<Vec<Job>> {
    with_ids(connection, &job_filter::ids(connection, filter)?)
}

/// The jobs with these ids, with their tasks. `ids` must descend; ids without a row are left out.
pub(super) fn with_ids(connection: &Connection, ids: &[JobId]) -> Result<Vec<Job>> {
    let jobs = ids.iter().filter_map(|id| row(connection, *id).transpose());
    all_of(connection, jobs.collect::<Result<_>>()?)
}

/// The approximate size of a job as JSON, in bytes, with its servers and tasks; 0 without a row.
pub(super) fn size(connection: &Connection, id: JobId) -> Result<usize> {
    let sql = "SELECT 400 + coalesce(octet_length(error), 0) +
               (SELECT 200 * count(*) + coalesce(sum(octet_length(error)), 0) FROM tasks
               WHERE job_id = ?1) + (SELECT 40 * count(*) FROM job_targets WHERE job_id = ?1)
               FROM jobs WHERE id = ?1";
    let size: Option<i64> = first(connection, sql, [id], |row| row.get(0))?;
    Ok(size.and_then(|size| size.try_into().ok()).unwrap_or(0))
}

/// Completes jobs whose ids descend. The queue is counted once, not once per job.
fn all_of(connection: &Connection, mut jobs: Vec<Job>) -> Result<Vec<Job>> {
    let sql = "SELECT count(*) FROM jobs
               WHERE state = 'queued' AND on_hold = 0 AND id > ?1 AND id <= ?2";
    let mut newer: Option<(JobId, i64)> = None;
    for job in &mut jobs {
        if job.state == JobState::Queued && !job.on_hold {
            let position = match newer {
                None => queue_position(connection, job.id)?,
                Some((id, position)) => {
                    let between: i64 = one(connection, sql, [job.id, id], |row| row.get(0))?;
                    position - between
                }
            };

            newer = Some((job.id, position));
            job.queue_position = Some(position);
        }

        complete(connection, job)?;
    }

    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let mut tasks = tasks::of_jobs(connection, &ids)?;
    for job in &mut jobs {
        job.tasks = tasks.remove(&job.id).unwrap_or_default();
        job.server_outcomes = tasks::outcomes(&job.tasks);
    }

    Ok(jobs)
}

/// The number of queued jobs up to and including `id`: 1 for the next one. Jobs that wait for a
/// condition do not count. Derived, never stored.
pub fn queue_position(connection: &Connection, id: JobId) -> Result<i64> {
    let sql = "SELECT count(*) FROM jobs WHERE state = 'queued' AND on_hold = 0 AND id <= ?1";
    one(connection, sql, [id], |row| row.get(0))
}

/// Whether the job is queued and waits for a condition.
pub fn is_on_hold(connection: &Connection, id: JobId) -> Result<bool> {
    exists(
        connection,
        "SELECT 1 FROM jobs WHERE id = ?1 AND on_hold = 1",
        [id],
    )
}

/// How many jobs are queued, and how many are running or being cancelled.
pub fn counts(connection: &Connection) -> Result<(i64, i64)> {
    let sql = "SELECT (SELECT count(*) FROM jobs WHERE state = 'queued'),
                    (SELECT count(*) FROM jobs WHERE state IN ('running', 'cancelling'))";
    one(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Whether any job is queued that does not wait for a condition; cheaper than [`counts`].
pub fn any_ready(connection: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND on_hold = 0)";
    one(connection, sql, [], |row| row.get(0))
}

/// Ends the wait for a condition: the job is an ordinary queued job from now on. False when it does
/// not wait.
pub fn release(tx: &Connection, id: JobId, now: i64) -> Result<bool> {
    let sql = "UPDATE jobs SET on_hold = 0, updated_at = ?2 WHERE id = ?1 AND on_hold = 1";
    changes(tx, sql, params![id, now])
}

/// Records what a running job found.
pub fn set_result(tx: &Connection, id: JobId, result: &str, now: i64) -> Result<()> {
    let sql = "UPDATE jobs SET result = ?2, updated_at = ?3 WHERE id = ?1 AND state = 'running'";
    run(tx, sql, params![id, result, now])
}

/// queued -> running, for `worker`. False when it is no longer queued, or waits for a condition.
pub fn claim(tx: &Connection, id: JobId, worker: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE jobs SET state = 'running', started_at = ?3, updated_at = ?3, worker_id = ?2
             WHERE id = ?1 AND state = 'queued' AND on_hold = 0";
    changes(tx, sql, params![id, worker, now])
}

#[derive(Clone, Debug)]
pub struct Finish<'a> {
    pub state: JobState,
    /// 0 on success.
    pub exit_code: i64,
    pub error: Option<&'a str>,
}

/// running -> a terminal state, only by the worker that claimed it. False when the job has ended,
/// is being cancelled, or belongs to another worker.
pub fn finish(
    tx: &Connection,
    id: JobId,
    worker: &str,
    finish: &Finish<'_>,
    now: i64,
) -> Result<bool> {
    let sql =
        "UPDATE jobs SET state = ?3, exit_code = ?4, error = ?5, finished_at = ?6, updated_at = ?6
         WHERE id = ?1 AND state = 'running' AND worker_id = ?2";
    changes(
        tx,
        sql,
        params![
            id,
            worker,
            finish.state.as_str(),
            finish.exit_code,
            finish.error,
            now
        ],
    )
}

/// running -> cancelling; it can then only become cancelled. False when it is no longer running.
pub fn set_cancelling(tx: &Connection, id: JobId, now: i64) -> Result<bool> {
    let sql = "UPDATE jobs SET state = 'cancelling', updated_at = ?2
               WHERE id = ?1 AND state = 'running'";
    changes(tx, sql, params![id, now])
}

/// `from` -> cancelled. A queued job then never starts; a cancelling one is ended only by the
/// worker that holds the lock. False when it is no longer in that state.
pub fn cancel(tx: &Connection, id: JobId, from: JobState, error: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE jobs
               SET state = 'cancelled', exit_code = 1, error = ?2, finished_at = ?3,
               updated_at = ?3, on_hold = 0 WHERE id = ?1 AND state = ?4";
    changes(tx, sql, params![id, error, now, from.as_str()])
}

/// Ends a job of a dead worker: running -> failed, cancelling -> cancelled. Returns the new state.
/// Only a worker that holds the lock may call this: the lock proves that the former one is dead.
pub fn recover(tx: &Connection, id: JobId, error: &str, now: i64) -> Result<Option<JobState>> {
    let sql = "UPDATE jobs
               SET state = CASE state WHEN 'running' THEN 'failed' ELSE 'cancelled' END,
               exit_code = 1, error = ?2, finished_at = ?3, updated_at = ?3
               WHERE id = ?1 AND state IN ('running', 'cancelling') RETURNING state";
    first(tx, sql, params![id, error, now], |row| row.get(0))
}
