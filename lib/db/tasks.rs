//! Tasks and their dependencies. A state changes only by the guarded UPDATEs here.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::{JobId, ServerId, TaskId};
use crate::db::{changes, first, one, query, run, text, text_or_null};
use crate::domain::outcome::{self, Facts, ServerOutcome};
use crate::domain::plan::Plan;
use crate::domain::task::{Needs, TaskState};

/// A task, as `--json` shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Task {
    /// The row's id.
    pub id: TaskId,
    /// The kind. A string, because a row may hold a kind that this version does not know.
    pub kind: String,
    /// Its server; none for the game files.
    pub server: Option<ServerId>,
    /// Its state.
    pub state: TaskState,
    /// The tasks it depends on.
    pub depends_on: Vec<TaskId>,
    /// Unix ms.
    pub started_at: Option<i64>,
    /// Unix ms.
    pub finished_at: Option<i64>,
    /// 0 on success.
    pub exit_code: Option<i64>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// For a stop task: whether the server ran.
    #[serde(skip)]
    pub was_running: Option<bool>,
    /// For a stop task: whether the server's game answered; none if it was not asked.
    #[serde(skip)]
    pub answered: Option<bool>,
    /// It was cancelled, but counts as succeeded for its dependents.
    #[serde(skip)]
    pub waived: bool,
    /// What it needs of each task in `depends_on`.
    #[serde(skip)]
    pub needs: Vec<Needs>,
}

/// The outcome for each server of a plan, in the plan's order.
pub fn outcomes(tasks: &[Task]) -> Vec<ServerOutcome> {
    let servers = by_server(tasks).into_iter();
    servers
        .map(|(server, facts)| outcome::of(server, &facts))
        .collect()
}

/// The servers that are stopped for the job of these tasks, in the plan's order.
pub fn down_for(tasks: &[Task]) -> Vec<ServerId> {
    let servers = by_server(tasks).into_iter();
    servers
        .filter(|(_, facts)| outcome::is_down_for(facts))
        .map(|(server, _)| server)
        .collect()
}

/// The tasks of each server, in the plan's order.
fn by_server(tasks: &[Task]) -> Vec<(ServerId, Vec<Facts<'_>>)> {
    let mut order: Vec<ServerId> = Vec::new();
    let mut facts: HashMap<ServerId, Vec<Facts<'_>>> = HashMap::new();
    for task in tasks {
        let Some(server) = task.server else { continue };
        let theirs = facts.entry(server).or_insert_with(|| {
            order.push(server);
            Vec::new()
        });

        theirs.push(Facts {
            kind: &task.kind,
            state: task.state,
            error: task.error.as_deref(),
            was_running: task.was_running,
        });
    }

    order
        .into_iter()
        .map(|server| (server, facts.remove(&server).unwrap_or_default()))
        .collect()
}

/// Inserts a plan's tasks, pending, and their dependencies, after those that the job has. Gives
/// their ids.
pub fn insert_plan(tx: &Connection, job: JobId, plan: &Plan) -> Result<Vec<TaskId>> {
    let last = "SELECT coalesce(max(position) + 1, 0) FROM tasks WHERE job_id = ?1";
    let first_free: i64 = one(tx, last, [job], |row| row.get(0))?;
    let insert = "INSERT INTO tasks (job_id, position, kind, server_id) VALUES (?1, ?2, ?3, ?4)";
    let depend = "INSERT INTO task_dependencies (task_id, depends_on, needs) VALUES (?1, ?2, ?3)";

    let mut ids: Vec<i64> = Vec::with_capacity(plan.tasks.len());
    for (position, task) in (first_free..).zip(&plan.tasks) {
        let row = params![job, position, task.kind.as_str(), task.server];
        run(tx, insert, row)?;

        let id = tx.last_insert_rowid();
        for &(before, needs) in &task.after {
            // A task depends only on earlier ones, so the id is known; a wrong plan would violate
            // the foreign key.
            run(tx, depend, params![id, ids.get(before), needs.as_str()])?;
        }

        ids.push(id);
    }

    Ok(ids.into_iter().map(TaskId).collect())
}

/// Replaces the tasks of a job of which none has begun.
pub fn replace_plan(tx: &Connection, job: JobId, plan: &Plan) -> Result<()> {
    run(tx, "DELETE FROM tasks WHERE job_id = ?1", [job])?;
    insert_plan(tx, job, plan).map(drop)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: row.get(0)?,
        kind: text(row, 1)?,
        server: row.get(2)?,
        state: row.get(3)?,
        depends_on: Vec::new(),
        started_at: row.get(4)?,
        finished_at: row.get(5)?,
        exit_code: row.get(6)?,
        error: text_or_null(row, 7)?,
        was_running: row.get(8)?,
        waived: row.get(9)?,
        answered: row.get(11)?,
        needs: Vec::new(),
    })
}

/// A job's tasks in the order of its plan, with their dependencies.
pub fn of_job(connection: &Connection, job: JobId) -> Result<Vec<Task>> {
    Ok(of_jobs(connection, &[job])?
        .remove(&job)
        .unwrap_or_default())
}

/// The same for each of these jobs; one without tasks is left out.
pub fn of_jobs(connection: &Connection, jobs: &[JobId]) -> Result<HashMap<JobId, Vec<Task>>> {
    let wanted = serde_json::Value::from_iter(jobs.iter().map(|job| job.0)).to_string();
    // SQLite keeps the order of a CROSS JOIN, so it reads each job's tasks by their index.
    let mut statement = connection.prepare_cached(
        "SELECT t.id, t.kind, t.server_id, t.state, t.started_at, t.finished_at, t.exit_code,
         t.error, t.was_running, t.waived, t.job_id, t.answered FROM json_each(?1) wanted
         CROSS JOIN tasks t ON t.job_id = wanted.value ORDER BY t.job_id, t.position",
    )?;

    let mut all: HashMap<JobId, Vec<Task>> = HashMap::with_capacity(jobs.len());
    let mut places = HashMap::new();

    let mut rows = statement.query([&wanted])?;
    while let Some(row) = rows.next()? {
        let (job, task) = (row.get(10)?, from_row(row)?);
        let tasks = all.entry(job).or_default();
        places.insert(task.id, tasks.len());
        tasks.push(task);
    }

    let mut statement = connection.prepare_cached(
        "SELECT t.job_id, d.task_id, d.depends_on, d.needs
         FROM json_each(?1) wanted CROSS JOIN tasks t ON t.job_id = wanted.value
         CROSS JOIN task_dependencies d ON d.task_id = t.id ORDER BY d.task_id, d.depends_on",
    )?;

    let mut rows = statement.query([&wanted])?;
    while let Some(row) = rows.next()? {
        let place = places.get(&row.get(1)?);
        let tasks = all.get_mut(&row.get(0)?);
        if let Some(task) = tasks
            .zip(place)
            .and_then(|(tasks, place)| tasks.get_mut(*place))
        {
            task.depends_on.push(row.get(2)?);
            let is_end = row.get::<_, String>(3)? == Needs::End.as_str();
            task.needs
                .push(if is_end { Needs::End } else { Needs::Success });
        }
    }

    Ok(all)
}

/// The job of a task, if the task exists.
pub fn job_of(connection: &Connection, id: TaskId) -> Result<Option<JobId>> {
    let sql = "SELECT job_id FROM tasks WHERE id = ?1";
    first(connection, sql, [id], |row| row.get(0))
}

/// pending -> running. False when it is no longer pending or its job is not running.
pub fn start(tx: &Connection, id: TaskId, now: i64) -> Result<bool> {
    let sql =
        "UPDATE tasks SET state = 'running', started_at = ?2 WHERE id = ?1 AND state = 'pending'
             AND (SELECT state FROM jobs WHERE id = job_id) = 'running'";
    changes(tx, sql, params![id, now])
}

#[derive(Clone, Debug)]
pub struct Finish<'a> {
    pub state: TaskState,
    /// 0 on success.
    pub exit_code: Option<i64>,
    /// Why it failed, or was skipped.
    pub error: Option<&'a str>,
    /// For a stop task: whether the server ran.
    pub was_running: Option<bool>,
    /// For a stop task: whether the server's game answered.
    pub answered: Option<bool>,
    /// For a stop task: whether the server was up.
    pub was_up: Option<bool>,
    /// The worker ended it.
    pub interrupted: bool,
}

/// running -> succeeded, failed or cancelled. False when it is no longer running: it has ended or
/// is being cancelled.
pub fn finish(tx: &Connection, id: TaskId, finish: &Finish<'_>, now: i64) -> Result<bool> {
    let sql = "UPDATE tasks
               SET state = ?2, exit_code = ?3, error = ?4, was_running = ?5, answered = ?6,
               was_up = ?7, interrupted = ?8, finished_at = ?9
               WHERE id = ?1 AND state = 'running'";
    changes(
        tx,
        sql,
        params![
            id,
            finish.state.as_str(),
            finish.exit_code,
            finish.error,
            finish.was_running,
            finish.answered,
            finish.was_up,
            finish.interrupted,
            now
        ],
    )
}

/// Records on which build the server did not come up.
pub fn set_failed_build(tx: &Connection, id: TaskId, build: u64) -> Result<()> {
    let sql = "UPDATE tasks SET failed_build = ?2 WHERE id = ?1";
    run(tx, sql, params![id, build.cast_signed()])
}

/// pending -> skipped, because a dependency did not succeed. False when it is not pending.
pub fn skip(tx: &Connection, id: TaskId, why: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE tasks SET state = 'skipped', error = ?2, finished_at = ?3
               WHERE id = ?1 AND state = 'pending'";
    changes(tx, sql, params![id, why, now])
}

/// running -> cancelling; from then on it can only become cancelled. False when it is no longer
/// running.
pub fn set_cancelling(tx: &Connection, id: TaskId) -> Result<bool> {
    let sql = "UPDATE tasks SET state = 'cancelling' WHERE id = ?1 AND state = 'running'";
    changes(tx, sql, [id])
}

/// How a cancelled task ends.
#[derive(Clone, Debug)]
pub struct Cancelled<'a> {
    /// Cancelled or skipped.
    pub state: TaskState,
    /// Who cancelled it and why.
    pub error: &'a str,
    /// Its dependents continue as if it had succeeded.
    pub waived: bool,
    /// For a stop task that found it out before: whether the server ran.
    pub was_running: Option<bool>,
}

/// pending or cancelling -> cancelled or skipped. False in any other state.
pub fn cancel(tx: &Connection, id: TaskId, end: &Cancelled<'_>, now: i64) -> Result<bool> {
    let sql = "UPDATE tasks
               SET exit_code = CASE state WHEN 'cancelling' THEN 1 END, state = ?2, error = ?3,
               waived = ?4, was_running = coalesce(?5, was_running), finished_at = ?6
               WHERE id = ?1 AND state IN ('pending', 'cancelling')";
    changes(
        tx,
        sql,
        params![
            id,
            end.state.as_str(),
            end.error,
            end.waived,
            end.was_running,
            now
        ],
    )
}

/// Ends the tasks of a job that a dead or stopping worker leaves: running -> failed, cancelling ->
/// cancelled, pending -> skipped. Returns them with their servers and new states.
pub fn abandon(
    tx: &Connection,
    job: JobId,
    why: &str,
    now: i64,
) -> Result<Vec<(TaskId, Option<ServerId>, String)>> {
    let sql = "UPDATE tasks
         SET exit_code = CASE state WHEN 'pending' THEN NULL ELSE 1 END, error = ?2,
         interrupted = (state = 'running'),
         finished_at = ?3, state = CASE state WHEN 'running' THEN 'failed'
         WHEN 'cancelling' THEN 'cancelled' ELSE 'skipped' END
         WHERE job_id = ?1 AND state IN ('pending', 'running', 'cancelling')
         RETURNING id, server_id, state";
    query(tx, sql, params![job, why, now], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })
}

/// The servers of a job's running tasks.
pub fn running_servers(connection: &Connection, job: JobId) -> Result<Vec<ServerId>> {
    let sql = "SELECT DISTINCT server_id FROM tasks
               WHERE job_id = ?1 AND server_id IS NOT NULL AND state = 'running'";
    query(connection, sql, [job], |row| row.get(0))
}

/// The servers of a job's tasks that have started: their state may have changed.
pub fn started_servers(connection: &Connection, job: JobId) -> Result<Vec<ServerId>> {
    let sql = "SELECT DISTINCT server_id FROM tasks
               WHERE job_id = ?1 AND server_id IS NOT NULL AND started_at IS NOT NULL";
    query(connection, sql, [job], |row| row.get(0))
}
