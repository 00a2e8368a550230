//! Settles one cancelled task, in its row and in memory. Queued and running jobs both use it.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::TaskId;
use crate::cancel::messages;
use crate::db::tasks;
use crate::domain::cancellation::{Scope, TaskOutcome};
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
    task.waived = waived;
    task.error = Some(error);
    task.cancelled_by = Some((who.to_owned(), why.to_owned()));
    Ok(true)
}
