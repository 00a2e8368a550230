//! Cancellations: who wanted a job ended, and what came of it.

use rusqlite::Connection;
use serde::Serialize;

use crate::base::Result;
use crate::base::names::{JobId, TaskId};
use crate::db::text;

/// A request, as `left4me-job show --json` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Cancellation {
    /// The row.
    pub id: i64,
    /// The task, when only one was meant.
    pub task_id: Option<TaskId>,
    /// Who asked.
    pub requested_by: String,
    /// In whose words.
    pub reason: String,
    /// requested, running, completed or failed.
    pub state: String,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms.
    pub finished_at: Option<i64>,
    /// What came of it.
    pub message: Option<String>,
}

/// All of a job's, in the order they were asked for.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn of_job(connection: &Connection, job: JobId) -> Result<Vec<Cancellation>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, task_id, requested_by, reason, state, created_at, finished_at, message
         FROM cancellations WHERE job_id = ?1 ORDER BY id",
    )?;
    let rows = statement.query_map([job.0], |row| {
        Ok(Cancellation {
            id: row.get(0)?,
            task_id: row.get::<_, Option<i64>>(1)?.map(TaskId),
            requested_by: text(row, 2)?,
            reason: text(row, 3)?,
            state: text(row, 4)?,
            created_at: row.get(5)?,
            finished_at: row.get(6)?,
            message: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
