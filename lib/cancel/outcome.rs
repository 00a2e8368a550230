//! How a cancellation settles one task, in its row and in memory, whether its job is queued or
//! runs; and the record of one that came too late.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::TaskId;
use crate::cancel::messages;
use crate::db::cancellations::{self, Cancellation};
use crate::db::{jobs, tasks};
use crate::domain::cancellation::{Progress, Scope, Step, TaskOutcome};
use crate::domain::job::JobState;
use crate::domain::task::TaskState;
use crate::queue::active::ActiveJob;

/// The task whose cancellation caused this one's.
pub fn cause(job: &ActiveJob, outcome: &TaskOutcome) -> Option<TaskId> {
    outcome
        .caused_by
        .and_then(|at| job.tasks.get(at))
        .map(|task| task.id)
}

/// Gives the task the state that the cancellation decided. False when it has ended already.
pub fn settle(
    tx: &Connection,
    job: &mut ActiveJob,
    outcome: &TaskOutcome,
    scope: Scope,
    (who, why): (&str, &str),
    now: i64,
) -> Result<bool> {
    let error = messages::end_of_task(&messages::by(who, why), cause(job, outcome));
    let task = &mut job.tasks[outcome.at];
    let waived = matches!(scope, Scope::Task { at, cascade: false } if at == outcome.at);

    let end = tasks::Cancelled {
        state: outcome.end,
        error: &error,
        waived,
        was_running: task.was_running,
    };

    if !tasks::cancel(tx, task.id, &end, now)? {
        return Ok(false);
    }

    task.state = outcome.end;
    task.error = Some(error);
    task.settle(waived);
    job.cancelled_by
        .get_or_insert_with(|| (who.to_owned(), why.to_owned()));
    Ok(true)
}

/// Completes the record of a cancellation whose job or task ended before the worker began with it.
pub fn record_ended(tx: &Connection, record: &Cancellation, now: i64) -> Result<()> {
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
