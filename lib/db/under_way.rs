//! Running jobs, how long they have run, and their times after a step of the clock.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::JobId;
use crate::db::{query, run, text};
use crate::domain::operation::Operation;

/// A job that is running or being cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    pub id: JobId,
    /// Its operation; none for an unknown word.
    pub operation: Option<Operation>,
    /// Unix ms.
    pub started_at: i64,
}

impl UnderWay {
    /// How long it has run, in ms, if that is longer than its operation should take.
    pub fn overdue(&self, now: i64) -> Option<i64> {
        let age = now.saturating_sub(self.started_at);
        // An operation of a later version counts as a short one.
        let limit = self.operation.unwrap_or(Operation::Start).overdue_after();
        (age > limit).then_some(age)
    }
}

/// A step of the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// By how much, ms; negative for a clock that was set back.
    pub by: i64,
    /// Times between this moment and `now`, unix ms, were written after the step.
    pub after: i64,
    /// Unix ms.
    pub now: i64,
}

/// Adjusts the times of jobs that have not ended, and of their parts, to the clock's step.
pub fn shift(tx: &Connection, step: Step) -> Result<()> {
    const LIVE: &str = "SELECT id FROM jobs WHERE state IN ('running', 'cancelling')";

    let queued = "state = 'queued'";
    let (running, tasks) = (
        "state IN ('running', 'cancelling')",
        format!("job_id IN ({LIVE})"),
    );

    let runners = format!("task_id IN (SELECT id FROM tasks WHERE job_id IN ({LIVE}))");
    let cancellations = "state IN ('requested', 'running')";

    let steps = format!("cancellation_id IN (SELECT id FROM cancellations WHERE {cancellations})");
    for (table, column, whose) in [
        ("jobs", "created_at", queued),
        ("jobs", "created_at", running),
        ("jobs", "started_at", running),
        ("tasks", "started_at", &tasks),
        ("tasks", "finished_at", &tasks),
        ("runners", "started_at", &runners),
        ("runners", "ended_at", &runners),
        ("cancellation_steps", "started_at", &steps),
        ("cancellation_steps", "finished_at", &steps),
        ("cancellations", "escalated_at", cancellations),
        ("cancellations", "created_at", cancellations),
    ] {
        let sql = format!(
            "UPDATE {table} SET {column} = {column} + ?1
             WHERE {whose} AND NOT ({column} > ?2 AND {column} <= ?3)"
        );
        run(tx, &sql, params![step.by, step.after, step.now])?;
    }

    Ok(())
}

/// All jobs that are running or being cancelled, ordered by id.
pub fn all(connection: &Connection) -> Result<Vec<UnderWay>> {
    let sql = "SELECT id, operation, coalesce(started_at, created_at) FROM jobs
         WHERE state IN ('running', 'cancelling') ORDER BY id";
    query(connection, sql, [], |row| {
        let operation = text(row, 1)?.parse().ok();
        Ok(UnderWay {
            id: row.get(0)?,
            operation,
            started_at: row.get(2)?,
        })
    })
}
