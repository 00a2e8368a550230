//! Runners: one row per connection to a runner or helper.

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::{JobId, TaskId};
use crate::wire::{EndedBy, Started, Tree};

/// A connection, as `left4me-job show` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Runner {
    /// The row.
    pub id: i64,
    /// The task it served.
    pub task_id: TaskId,
    /// What it was asked for.
    pub verb: String,
    /// The unit instance that served it.
    pub unit: Option<String>,
    /// The command's process.
    pub pid: Option<i64>,
    /// The command's control group.
    pub cgroup: Option<String>,
    /// Unix ms.
    pub started_at: i64,
    /// Unix ms; none while it lives.
    pub ended_at: Option<i64>,
    /// The command's exit code.
    pub exit_code: Option<i64>,
    /// Which rung of the ladder ended it: exit, terminate, kill; lost when the connection broke.
    pub ended_by: Option<String>,
    /// Whether anything of the tree was left: empty or left.
    pub tree: Option<String>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code; none when the connection broke before it was told.
    pub exit: Option<i32>,
    /// The rung; none when the connection broke.
    pub ended_by: Option<EndedBy>,
    /// What is left; none when nobody could tell.
    pub tree: Option<Tree>,
}

/// Writes down a new connection; gives its row.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn begin(tx: &Connection, task: TaskId, verb: &str, now: i64) -> Result<i64> {
    tx.prepare_cached("INSERT INTO runners (task_id, verb, started_at) VALUES (?1, ?2, ?3)")?
        .execute(params![task.0, verb, now])?;
    Ok(tx.last_insert_rowid())
}

/// Writes down what the other side runs now. A request that takes several commands tells each: the last one stays.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn started(tx: &Connection, id: i64, started: &Started) -> Result<()> {
    let unit = (!started.unit.is_empty()).then_some(&started.unit);
    let cgroup = (!started.cgroup.is_empty()).then_some(&started.cgroup);
    tx.prepare_cached("UPDATE runners SET unit = ?2, pid = ?3, cgroup = ?4 WHERE id = ?1 AND ended_at IS NULL")?
        .execute(params![id, unit, started.pid, cgroup])?;
    Ok(())
}

/// Writes down how it ended.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn end(tx: &Connection, id: i64, end: End, now: i64) -> Result<()> {
    let ended_by = match end.ended_by {
        Some(EndedBy::Exit) => "exit",
        Some(EndedBy::Terminate) => "terminate",
        Some(EndedBy::Kill) => "kill",
        None => "lost",
    };
    let tree = end.tree.map(|tree| match tree {
        Tree::Empty => "empty",
        Tree::Left => "left",
    });
    tx.prepare_cached(
        "UPDATE runners SET ended_at = ?2, exit_code = ?3, ended_by = ?4, tree = ?5 WHERE id = ?1 AND ended_at IS NULL",
    )?
    .execute(params![id, now, end.exit, ended_by, tree])?;
    Ok(())
}

/// Ends, as lost, all rows that a dead worker left open; gives how many.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn end_all_open(tx: &Connection, now: i64) -> Result<usize> {
    Ok(tx.execute("UPDATE runners SET ended_at = ?1, ended_by = 'lost' WHERE ended_at IS NULL", [now])?)
}

/// The control groups of rows that are open: what a dead worker may have left running.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn open_control_groups(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT cgroup FROM runners WHERE ended_at IS NULL AND cgroup IS NOT NULL")?;
    let groups = statement.query_map([], |row| row.get(0))?;
    Ok(groups.collect::<rusqlite::Result<_>>()?)
}

/// All of a job's, in the order they began.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn of_job(connection: &Connection, job: JobId) -> Result<Vec<Runner>> {
    let mut statement = connection.prepare_cached(
        "SELECT r.id, r.task_id, r.verb, r.unit, r.pid, r.cgroup, r.started_at, r.ended_at, r.exit_code, r.ended_by, r.tree
         FROM runners r JOIN tasks t ON t.id = r.task_id WHERE t.job_id = ?1 ORDER BY r.id",
    )?;
    let rows = statement.query_map([job.0], |row| {
        Ok(Runner {
            id: row.get(0)?,
            task_id: TaskId(row.get(1)?),
            verb: row.get(2)?,
            unit: row.get(3)?,
            pid: row.get(4)?,
            cgroup: row.get(5)?,
            started_at: row.get(6)?,
            ended_at: row.get(7)?,
            exit_code: row.get(8)?,
            ended_by: row.get(9)?,
            tree: row.get(10)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
