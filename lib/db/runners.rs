//! Runners: one row per connection to a runner or helper.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::control_group::{BadGroup, ControlGroup, is_ours};
use crate::base::names::{CancellationId, JobId, TaskId};
use crate::db::{query, run, text, text_or_null};
use crate::wire::batch::BatchVerb;
use crate::wire::{EndedBy, Served, Tree};

/// A connection, as `left4me-job show` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Runner {
    pub id: i64,
    pub task_id: TaskId,
    /// The verb of its request.
    pub verb: String,
    /// The unit instance that served it.
    pub unit: Option<String>,
    /// The process that served it.
    pub pid: Option<i64>,
    pub cgroup: Option<String>,
    /// Unix ms.
    pub started_at: i64,
    /// Unix ms; none while it is open.
    pub ended_at: Option<i64>,
    pub exit_code: Option<i64>,
    /// How it ended: exit, terminate, kill; lost when the connection broke.
    pub ended_by: Option<String>,
    /// Whether processes of its tree were left: empty or left.
    pub tree: Option<String>,
}

impl Runner {
    /// A description: `left4me-runner@3.service (install of task 31, process 4711)`.
    pub fn message(&self) -> String {
        let unit = self
            .unit
            .as_deref()
            .filter(|unit| is_ours(unit))
            .unwrap_or("a command");
        let pid = self
            .pid
            .map_or_else(String::new, |pid| format!(", process {pid}"));
        format!("{unit} ({} of task {}{pid})", self.verb, self.task_id)
    }

    /// Whether it was an operation of a batch that the helper has ended. It had no process of its
    /// own, and its unit goes on for other servers.
    pub fn ended_in_batch(&self) -> bool {
        let verbs = [BatchVerb::Enable, BatchVerb::Disable, BatchVerb::Show];
        verbs.iter().any(|verb| self.verb == verb.as_str()) && self.tree.as_deref() == Some("empty")
    }

    /// The control group of its processes; none when it never reported one.
    pub fn group(&self) -> std::result::Result<Option<ControlGroup>, BadGroup> {
        self.cgroup.as_deref().map(str::parse).transpose()
    }

    /// What is wrong with its row, if anything.
    pub fn invalid(&self) -> Option<String> {
        let bad = self.group().err()?;
        let group: String = self
            .cgroup
            .as_deref()
            .unwrap_or_default()
            .chars()
            .take(100)
            .collect();
        Some(format!(
            "{}: {group:?} {bad}; it is not followed",
            self.message()
        ))
    }

    /// The message that it has a process which survived SIGKILL.
    pub fn unkillable(&self) -> String {
        format!("{} has a process that cannot be killed", self.message())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code; none when the connection broke before it arrived.
    pub exit: Option<i32>,
    /// How it ended; none when the connection broke.
    pub ended_by: Option<EndedBy>,
    /// What is left of its tree; none when that is unknown.
    pub tree: Option<Tree>,
}

/// Records a new connection; returns its row.
pub fn begin(tx: &Connection, task: TaskId, verb: &str, now: i64) -> Result<i64> {
    let sql = "INSERT INTO runners (task_id, verb, started_at) VALUES (?1, ?2, ?3)";
    run(tx, sql, params![task, verb, now])?;
    Ok(tx.last_insert_rowid())
}

/// Records which process serves it. A forwarded request reports more than one: the last one stays.
pub fn started(tx: &Connection, id: i64, served: &Served) -> Result<()> {
    let group = served.group.as_ref().map(ControlGroup::as_str);
    let sql =
        "UPDATE runners SET unit = ?2, pid = ?3, cgroup = ?4 WHERE id = ?1 AND ended_at IS NULL";
    run(tx, sql, params![id, served.unit, served.pid, group])
}

pub fn end(tx: &Connection, id: i64, end: End, now: i64) -> Result<()> {
    let ended_by = match end.ended_by {
        Some(EndedBy::Exit) => "exit",
        Some(EndedBy::Terminate) => "terminate",
        Some(EndedBy::Kill) => "kill",
        None => "lost",
    };

    let tree = end.tree.map(|tree| tree_word(tree == Tree::Left));
    let sql = "UPDATE runners SET ended_at = ?2, exit_code = ?3, ended_by = ?4, tree = ?5
               WHERE id = ?1 AND ended_at IS NULL";
    run(tx, sql, params![id, now, end.exit, ended_by, tree])
}

/// Ends, as lost, a row that a dead worker left open. `left`: whether its processes still exist;
/// none when that is unknown.
pub fn lose(tx: &Connection, id: i64, left: Option<bool>, now: i64) -> Result<()> {
    let sql = "UPDATE runners SET ended_at = ?2, ended_by = 'lost', tree = ?3
               WHERE id = ?1 AND ended_at IS NULL";
    run(tx, sql, params![id, now, left.map(tree_word)])
}

fn tree_word(left: bool) -> &'static str {
    if left { "left" } else { "empty" }
}

/// Records whether processes of a lost connection are left.
pub fn set_tree(tx: &Connection, id: i64, left: bool) -> Result<()> {
    let sql = "UPDATE runners SET tree = ?2 WHERE id = ?1 AND ended_at IS NOT NULL";
    run(tx, sql, params![id, tree_word(left)])
}

/// Records that this cancellation ended those commands of `task` that did not exit by themselves.
pub fn ended_by(tx: &Connection, cancellation: CancellationId, task: TaskId) -> Result<()> {
    let sql = "UPDATE runners SET cancellation_id = ?1
               WHERE task_id = ?2 AND cancellation_id IS NULL AND ended_by IN ('terminate',
               'kill', 'lost')";
    run(tx, sql, params![cancellation, task])
}

const COLUMNS: &str = "r.id, r.task_id, r.verb, r.unit, r.pid, r.cgroup, r.started_at, r.ended_at, \
                      r.exit_code, r.ended_by, r.tree";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Runner> {
    Ok(Runner {
        id: row.get(0)?,
        task_id: row.get(1)?,
        verb: text(row, 2)?,
        unit: text_or_null(row, 3)?,
        pid: row.get(4)?,
        cgroup: text_or_null(row, 5)?,
        started_at: row.get(6)?,
        ended_at: row.get(7)?,
        exit_code: row.get(8)?,
        ended_by: text_or_null(row, 9)?,
        tree: text_or_null(row, 10)?,
    })
}

fn rows(connection: &Connection, which: &str, of: i64) -> Result<Vec<Runner>> {
    let sql = format!("SELECT {COLUMNS} FROM runners r WHERE {which} ORDER BY r.id");
    query(connection, &sql, [of], from_row)
}

/// The open connections: at its start, a worker finds here what a dead one may have left running.
pub fn open(connection: &Connection) -> Result<Vec<Runner>> {
    rows(connection, "?1 = 0 AND r.ended_at IS NULL", 0)
}

/// The connections with processes that survived SIGKILL, as last checked.
pub fn left(connection: &Connection) -> Result<Vec<Runner>> {
    rows(connection, "?1 = 0 AND r.tree = 'left'", 0)
}

/// All connections of a job, in the order of their start.
pub fn of_job(connection: &Connection, job: JobId) -> Result<Vec<Runner>> {
    rows(
        connection,
        "r.task_id IN (SELECT id FROM tasks WHERE job_id = ?1)",
        job.0,
    )
}

/// All connections of a task, in the order of their start.
pub fn of_task(connection: &Connection, task: TaskId) -> Result<Vec<Runner>> {
    rows(connection, "r.task_id = ?1", task.0)
}

/// The connections that a cancellation ended.
pub fn of_cancellation(connection: &Connection, id: CancellationId) -> Result<Vec<Runner>> {
    rows(connection, "r.cancellation_id = ?1", id.0)
}
