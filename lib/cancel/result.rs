//! The result or progress of a cancellation: one shape for the command line's `--json` and the web.

use rusqlite::Connection;
use serde::Serialize;

use crate::base::Result;
use crate::base::names::{CancellationId, JobId, TaskId};
use crate::db::cancellations::{self, Affected, Cancellation, StepRow};
use crate::db::jobs::{self, Job};
use crate::db::runners::{self, Runner};
use crate::domain::cancellation::{Progress, Step};
use crate::domain::task::TaskState;

/// A command that a cancellation ended.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Terminated {
    /// The unit instance that served it.
    pub unit: Option<String>,
    /// The request that it carried out.
    pub verb: String,
    /// The task that it ran for.
    pub task_id: TaskId,
    /// Its process.
    pub pid: Option<i64>,
    /// terminate, kill, or lost when the connection broke.
    pub ended_by: Option<String>,
    /// empty, or left when a process could not be killed.
    pub tree: Option<String>,
}

/// The result or progress of a cancellation.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct CancelResult {
    /// Whether the job or task is cancelled, or is being cancelled without a failure so far.
    pub success: bool,
    /// The job.
    pub job_id: JobId,
    /// The task, when only one is cancelled.
    pub task: Option<TaskId>,
    /// The state when the cancellation was requested.
    pub previous_state: String,
    /// The state now.
    pub state: String,
    /// One sentence for people.
    pub message: String,
    /// The record; none when there was nothing to cancel.
    pub cancellation_id: Option<CancellationId>,
    /// requested, running, completed, failed; none without a record.
    pub cancellation_state: Option<Progress>,
    /// Who requested it.
    pub requested_by: Option<String>,
    /// Why; empty when no reason was given.
    pub reason: String,
    /// Each step; while the cancellation runs, also those that have not begun.
    pub steps: Vec<StepRow>,
    /// The tasks that it affects.
    pub tasks_affected: Vec<Affected>,
    /// The commands that it ended.
    pub runners_terminated: Vec<Terminated>,
    /// Whether the commands were killed at once.
    pub force_used: bool,
    /// Whether the servers stay stopped that the update or rollback has stopped.
    pub leave_stopped: bool,
    /// When --force was added, unix ms; none when it was set from the start, or never.
    pub escalated_at: Option<i64>,
    /// Whether a command outlived its grace without --force.
    pub timed_out: bool,
    /// What could not be done.
    pub errors: Vec<String>,
}

impl CancelResult {
    /// Whether the cancellation has ended, or there is none.
    pub fn is_over(&self) -> bool {
        self.cancellation_state.is_none_or(Progress::is_over)
    }

    /// The result for a job or task that had ended before the request.
    pub(super) fn already_finished(job: &Job, task: Option<(TaskId, TaskState)>) -> Self {
        let (what, state) = match task {
            Some((id, state)) => (format!("task {id} of job {}", job.id), state.to_string()),
            None => (format!("job {}", job.id), job.state.to_string()),
        };

        Self {
            success: false,
            job_id: job.id,
            task: task.map(|(id, _)| id),
            previous_state: state.clone(),
            message: format!("already finished: {what} {state}"),
            state,
            cancellation_id: None,
            cancellation_state: None,
            requested_by: None,
            reason: String::new(),
            steps: Vec::new(),
            tasks_affected: Vec::new(),
            runners_terminated: Vec::new(),
            force_used: false,
            leave_stopped: false,
            escalated_at: None,
            timed_out: false,
            errors: Vec::new(),
        }
    }
}

/// Reads the result or progress of a cancellation.
///
/// Fails if there is no such cancellation.
pub fn of(connection: &Connection, id: CancellationId) -> Result<CancelResult> {
    let record = cancellations::get(connection, id)?;
    let steps = cancellations::steps(connection, id)?;
    let affected = cancellations::affected(connection, id)?;

    let state = match record.task_id {
        None => jobs::state(connection, record.job_id)?.0.to_string(),
        Some(task) => state_of(connection, &record, task)?,
    };

    let failed = steps.iter().filter(|step| step.ok == Some(false));
    let errors = failed.filter_map(|step| step.detail.clone()).collect();
    let runners = runners::of_cancellation(connection, id)?;
    let terminated = runners.into_iter().map(terminated).collect();

    Ok(CancelResult {
        success: match record.state {
            Progress::Requested | Progress::Running => true,
            Progress::Completed => state == TaskState::Cancelled.as_str(),
            Progress::Failed => false,
        },
        job_id: record.job_id,
        task: record.task_id,
        message: message(&record, &steps),
        previous_state: record.previous_state,
        state,
        cancellation_id: Some(id),
        cancellation_state: Some(record.state),
        requested_by: Some(record.requested_by),
        reason: record.reason,
        steps: with_pending(steps, record.state),
        tasks_affected: affected,
        runners_terminated: terminated,
        force_used: record.force,
        leave_stopped: record.leave_stopped,
        escalated_at: record.escalated_at,
        timed_out: record.timed_out,
        errors,
    })
}

/// While the cancellation runs, adds the steps that have not begun.
fn with_pending(steps: Vec<StepRow>, state: Progress) -> Vec<StepRow> {
    if state.is_over() {
        return steps;
    }
    let begun = |step| steps.iter().find(|row| row.step == step).cloned();
    Step::ALL
        .map(|step| begun(step).unwrap_or_else(|| StepRow::pending(step)))
        .to_vec()
}

fn state_of(connection: &Connection, record: &Cancellation, task: TaskId) -> Result<String> {
    let job = jobs::get(connection, record.job_id)?;
    let found = job.tasks.iter().find(|other| other.id == task);
    Ok(found.map_or_else(
        || record.previous_state.clone(),
        |task| task.state.to_string(),
    ))
}

fn message(record: &Cancellation, steps: &[StepRow]) -> String {
    match (&record.message, steps.last()) {
        (Some(message), _) => message.clone(),
        (None, Some(step)) => format!("being cancelled by {}: {}", record.requested_by, step.step),
        (None, None) => format!(
            "requested by {}; the worker has not started on it",
            record.requested_by
        ),
    }
}

fn terminated(runner: Runner) -> Terminated {
    Terminated {
        unit: runner.unit,
        verb: runner.verb,
        task_id: runner.task_id,
        pid: runner.pid,
        ended_by: runner.ended_by,
        tree: runner.tree,
    }
}
