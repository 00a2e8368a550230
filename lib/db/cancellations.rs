//! Cancellations: who requested the end of which job or task and why, the steps taken, and the
//! result.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{CancellationId, JobId, ServerId, TaskId};
use crate::base::{Error, Result};
use crate::db::{changes, exists, first, one, query, run, text, text_or_null};
use crate::domain::cancellation::{Progress, Step, StepState};

/// A cancellation and its state, as `--json` prints it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Cancellation {
    /// The row's id.
    pub id: CancellationId,
    /// The job.
    pub job_id: JobId,
    /// The task; none when the request was for the whole job.
    pub task_id: Option<TaskId>,
    /// Who requested it.
    pub requested_by: String,
    /// The reason given; empty without one.
    pub reason: String,
    /// Whether SIGKILL is sent at once.
    pub force: bool,
    /// When --force was added, unix ms; none when the request had it from the start, or never.
    pub escalated_at: Option<i64>,
    /// Whether a command outlived its grace without --force.
    pub timed_out: bool,
    /// Whether the task's dependents are cancelled too.
    pub cascade: bool,
    /// The state of the job or task at the time of the request.
    pub previous_state: String,
    /// requested, running, completed or failed.
    pub state: Progress,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms.
    pub finished_at: Option<i64>,
    /// The result.
    pub message: Option<String>,
}

const COLUMNS: &str = "id, job_id, task_id, requested_by, reason, force, cascade, previous_state,
                       state, created_at, finished_at, message, escalated_at, timed_out";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Cancellation> {
    Ok(Cancellation {
        id: row.get(0)?,
        job_id: row.get(1)?,
        task_id: row.get(2)?,
        requested_by: text(row, 3)?,
        reason: text(row, 4)?,
        force: row.get(5)?,
        cascade: row.get(6)?,
        previous_state: text(row, 7)?,
        state: row.get(8)?,
        created_at: row.get(9)?,
        finished_at: row.get(10)?,
        message: text_or_null(row, 11)?,
        escalated_at: row.get(12)?,
        timed_out: row.get(13)?,
    })
}

#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    pub job: JobId,
    /// The task, when the request is for one task.
    pub task: Option<TaskId>,
    pub requested_by: &'a str,
    pub reason: &'a str,
    /// Whether to send SIGKILL at once.
    pub force: bool,
    /// Whether the task's dependents are cancelled too.
    pub cascade: bool,
    /// The current state of the job or task.
    pub previous_state: &'a str,
}

pub fn insert(tx: &Connection, new: &New<'_>, now: i64) -> Result<CancellationId> {
    let sql = "INSERT INTO cancellations (job_id, task_id, requested_by, reason, force, cascade,
               previous_state, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    run(
        tx,
        sql,
        params![
            new.job,
            new.task,
            new.requested_by,
            new.reason,
            new.force,
            new.cascade,
            new.previous_state,
            now
        ],
    )?;

    Ok(CancellationId(tx.last_insert_rowid()))
}

/// One cancellation.
///
/// Fails with 3 when there is none; 69 when the database cannot be read.
pub fn get(connection: &Connection, id: CancellationId) -> Result<Cancellation> {
    let sql = format!("SELECT {COLUMNS} FROM cancellations WHERE id = ?1");
    let found = first(connection, &sql, [id], from_row)?;
    found.ok_or_else(|| {
        Error::not_found(format!(
            "no such cancellation: {id}; see `left4me-job cancellations`"
        ))
    })
}

/// The active cancellation of this task, or of the job as a whole when `task` is none.
pub fn live_of(
    connection: &Connection,
    job: JobId,
    task: Option<TaskId>,
) -> Result<Option<Cancellation>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM cancellations
             WHERE job_id = ?1 AND task_id IS ?2 AND state IN ('requested', 'running')"
    );
    first(connection, &sql, params![job, task], from_row)
}

/// Whether a cancellation of the job wants the servers that it has stopped to stay stopped.
pub fn leaves_stopped(connection: &Connection, job: JobId) -> Result<bool> {
    let sql = "SELECT 1 FROM cancellations WHERE job_id = ?1 AND leave_stopped = 1";
    exists(connection, sql, [job])
}

/// All active cancellations, oldest first.
pub fn active(connection: &Connection) -> Result<Vec<Cancellation>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM cancellations WHERE state IN ('requested', 'running') ORDER BY id"
    );
    query(connection, &sql, [], from_row)
}

/// Whether any cancellation is active.
pub fn any_live(connection: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM cancellations WHERE state IN ('requested', 'running'))";
    one(connection, sql, [], |row| row.get(0))
}

#[derive(Clone, Debug, Default)]
pub struct CancellationFilter {
    /// Only cancellations of this job.
    pub job: Option<JobId>,
    /// Only cancellations in this state.
    pub state: Option<Progress>,
    /// The most rows to return.
    pub limit: u32,
    pub offset: u32,
}

/// Cancellations, newest first.
pub fn list(connection: &Connection, filter: &CancellationFilter) -> Result<Vec<Cancellation>> {
    let by_job = if filter.job.is_some() {
        "job_id = ?1"
    } else {
        "?1 IS NULL"
    };

    // The state is a literal, so that SQLite can use the partial indexes.
    let by_state = filter
        .state
        .map_or_else(String::new, |state| format!("AND state = '{state}'"));
    let sql = format!(
        "SELECT {COLUMNS} FROM cancellations WHERE {by_job} {by_state}
         ORDER BY id DESC LIMIT ?2 OFFSET ?3"
    );
    query(
        connection,
        &sql,
        params![filter.job, filter.limit, filter.offset],
        from_row,
    )
}

/// All cancellations of a job, in the order of their requests.
pub fn of_job(connection: &Connection, job: JobId) -> Result<Vec<Cancellation>> {
    let sql = format!("SELECT {COLUMNS} FROM cancellations WHERE job_id = ?1 ORDER BY id");
    query(connection, &sql, [job], from_row)
}

/// Escalates to SIGKILL. False when that was done before, or when the cancellation has ended.
pub fn escalate(tx: &Connection, id: CancellationId, now: i64) -> Result<bool> {
    let sql = "UPDATE cancellations SET force = 1, escalated_at = ?2
             WHERE id = ?1 AND force = 0 AND state IN ('requested', 'running')";
    changes(tx, sql, params![id, now])
}

/// Records that a command outlived its grace without --force.
pub fn set_timed_out(tx: &Connection, id: CancellationId) -> Result<()> {
    let sql = "UPDATE cancellations SET timed_out = 1 WHERE id = ?1 AND timed_out = 0";
    run(tx, sql, [id])
}

/// Leaves the journal entry about it to the next worker.
pub fn leave_for_journal(tx: &Connection, id: CancellationId) -> Result<()> {
    let sql = "UPDATE cancellations SET for_journal = 1 WHERE id = ?1";
    run(tx, sql, [id])
}

/// Whether a cancellation lacks its journal entry.
pub fn any_for_journal(connection: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM cancellations WHERE for_journal = 1)";
    one(connection, sql, [], |row| row.get(0))
}

/// Takes the cancellations that lack their journal entry, each only once.
pub fn take_for_journal(tx: &Connection) -> Result<Vec<Cancellation>> {
    let sql = format!(
        "UPDATE cancellations SET for_journal = 0 WHERE for_journal = 1 RETURNING {COLUMNS}"
    );
    let mut taken = query(tx, &sql, [], from_row)?;
    taken.sort_by_key(|one| one.id);
    Ok(taken)
}

/// requested -> running.
pub fn begin(tx: &Connection, id: CancellationId) -> Result<()> {
    let sql = "UPDATE cancellations SET state = 'running' WHERE id = ?1 AND state = 'requested'";
    run(tx, sql, [id])
}

/// Completes the record. False when it was complete already.
pub fn finish(
    tx: &Connection,
    id: CancellationId,
    state: Progress,
    message: &str,
    now: i64,
) -> Result<bool> {
    let sql = "UPDATE cancellations SET state = ?2, message = ?3, finished_at = ?4
             WHERE id = ?1 AND state IN ('requested', 'running')";
    changes(tx, sql, params![id, state.as_str(), message, now])
}

/// A step of a cancellation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StepRow {
    /// The step.
    pub step: Step,
    /// pending, running, succeeded or failed.
    pub state: StepState,
    /// Unix ms; none before it begins.
    pub started_at: Option<i64>,
    /// Unix ms; none before it ends.
    pub finished_at: Option<i64>,
    /// Whether it succeeded.
    pub ok: Option<bool>,
    /// What it found or did, in words.
    pub detail: Option<String>,
}

impl StepRow {
    /// A step that has not begun.
    pub fn pending(step: Step) -> Self {
        Self {
            step,
            state: StepState::Pending,
            started_at: None,
            finished_at: None,
            ok: None,
            detail: None,
        }
    }
}

/// Begins a step. One that a worker began before it died is resumed.
pub fn begin_step(tx: &Connection, id: CancellationId, step: Step, now: i64) -> Result<()> {
    let sql = "INSERT INTO cancellation_steps (cancellation_id, step, started_at) SELECT ?1, ?2,
               ?3 WHERE NOT EXISTS (SELECT 1 FROM cancellation_steps
               WHERE cancellation_id = ?1 AND step = ?2)";
    run(tx, sql, params![id, step.as_str(), now])
}

/// Ends a step that has begun; one that has ended stays unchanged.
pub fn end_step(
    tx: &Connection,
    id: CancellationId,
    step: Step,
    ok: bool,
    detail: &str,
    now: i64,
) -> Result<()> {
    let sql = "UPDATE cancellation_steps SET finished_at = ?3, ok = ?4, detail = ?5
         WHERE cancellation_id = ?1 AND step = ?2 AND finished_at IS NULL";
    run(tx, sql, params![id, step.as_str(), now, ok, detail])
}

/// A cancellation's steps, in the order they were taken.
pub fn steps(connection: &Connection, id: CancellationId) -> Result<Vec<StepRow>> {
    let sql = "SELECT step, started_at, finished_at, ok, detail FROM cancellation_steps
               WHERE cancellation_id = ?1 ORDER BY id";
    query(connection, sql, [id], |row| {
        Ok(StepRow {
            step: row.get(0)?,
            state: StepState::of(row.get(2)?, row.get(3)?),
            started_at: row.get(1)?,
            finished_at: row.get(2)?,
            ok: row.get(3)?,
            detail: text_or_null(row, 4)?,
        })
    })
}

/// A task that a cancellation settles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Affected {
    /// The task.
    pub id: TaskId,
    /// Its kind.
    pub kind: String,
    /// Its server.
    pub server: Option<ServerId>,
    /// Its state when the cancellation was requested.
    pub previous_state: String,
    /// Its current state.
    pub state: String,
    /// The task whose cancellation caused this one's.
    pub caused_by: Option<TaskId>,
}

/// Records that a cancellation settles `task`, with the task's current state. Only the first call
/// counts.
pub fn touch(
    tx: &Connection,
    id: CancellationId,
    task: TaskId,
    caused_by: Option<TaskId>,
) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO cancellation_tasks (cancellation_id, task_id, previous_state,
         caused_by) SELECT ?1, id, state, ?3 FROM tasks WHERE id = ?2";
    run(tx, sql, params![id, task, caused_by])
}

/// The tasks that it settles, in the plan's order.
pub fn affected(connection: &Connection, id: CancellationId) -> Result<Vec<Affected>> {
    let sql = "SELECT t.id, t.kind, t.server_id, c.previous_state, t.state, c.caused_by
               FROM cancellation_tasks c JOIN tasks t ON t.id = c.task_id
               WHERE c.cancellation_id = ?1 ORDER BY t.id";
    query(connection, sql, [id], |row| {
        Ok(Affected {
            id: row.get(0)?,
            kind: text(row, 1)?,
            server: row.get(2)?,
            previous_state: text(row, 3)?,
            state: text(row, 4)?,
            caused_by: row.get(5)?,
        })
    })
}
