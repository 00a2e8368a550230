//! A cancellation whose job or task ended before the worker began with it.

use rusqlite::Connection;

use crate::base::Result;
use crate::db::cancellations::{self, Cancellation};
use crate::db::jobs;
use crate::domain::cancellation::{Progress, Step};
use crate::domain::job::JobState;
use crate::domain::task::TaskState;

/// Completes the record with a message that says how the job or the task ended.
pub fn settle(tx: &Connection, record: &Cancellation, now: i64) -> Result<()> {
    let job = jobs::get(tx, record.job_id)?;
    let task = record
        .task_id
        .and_then(|id| job.tasks.iter().find(|task| task.id == id));
    let (what, is_cancelled) = match task {
        Some(task) => {
            let what = format!("task {} of job {} {}", task.id, job.id, task.state);
            (what, task.state == TaskState::Cancelled)
        }
        None => (
            format!("job {} {}", job.id, job.state),
            job.state == JobState::Cancelled,
        ),
    };

    let message = if is_cancelled {
        what
    } else {
        format!("already finished: {what}")
    };

    for step in [Step::Identify, Step::Finish] {
        cancellations::begin_step(tx, record.id, step, now)?;
        cancellations::end_step(tx, record.id, step, true, &message, now)?;
    }

    cancellations::finish(tx, record.id, Progress::Completed, &message, now)?;
    Ok(())
}
