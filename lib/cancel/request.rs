//! A request to cancel, checked and written in one transaction. A queued job ends right there.
//! A running job is cancelled by the worker, which the caller notifies afterwards.

use rusqlite::Connection;

use crate::base::names::{CancellationId, JobId, TaskId};
use crate::base::{Error, Result};
use crate::cancel::result::{self, CancelResult};
use crate::cancel::{messages, outcome};
use crate::db::cancellations::{self, Cancellation, New};
use crate::db::events::{self, NewEvent};
use crate::db::jobs::{self, Job};
use crate::db::{Db, logs};
use crate::domain::cancellation::{Progress, Scope, Step, TaskOutcome, outcomes};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::task::TaskState;
use crate::queue::active::ActiveJob;
use crate::queue::observe::{self, Cause};
use crate::wire::Stream;

/// What to cancel, and how.
#[derive(Clone, Copy, Debug)]
pub struct CancelRequest<'a> {
    pub job: JobId,
    /// Only this task of it.
    pub task: Option<TaskId>,
    /// Kill at once, without SIGTERM and grace.
    pub force: bool,
    /// Cancel also what depends on the task.
    pub cascade: bool,
    /// For an update or rollback: the servers that it has stopped stay stopped.
    pub leave_stopped: bool,
    /// Why; empty when no reason was given.
    pub reason: &'a str,
    pub requested_by: &'a str,
}

impl<'a> CancelRequest<'a> {
    /// Cancels the whole job, with the usual grace period and without a reason. Callers set what
    /// differs: `CancelRequest { force: true, ..CancelRequest::new(job, user) }`.
    pub fn new(job: JobId, requested_by: &'a str) -> Self {
        Self {
            job,
            task: None,
            force: false,
            cascade: true,
            leave_stopped: false,
            reason: "",
            requested_by,
        }
    }
}

/// Writes the request. A repeated request for the same job or task returns the same record, which
/// `force` escalates, and to which `leave_stopped` is added. If the job or task has ended already, nothing is written: the result has
/// `success: false` and no cancellation.
///
/// Fails if the job does not exist, or the task is not one of its tasks; with 2 if `leave_stopped`
/// does not fit to the job.
pub fn request(db: &mut Db, request: &CancelRequest<'_>, now: i64) -> Result<CancelResult> {
    db.write(|tx| request_in(tx, request, now))
}

/// The same, as a part of a transaction.
pub fn request_in(tx: &Connection, request: &CancelRequest<'_>, now: i64) -> Result<CancelResult> {
    let job = jobs::get(tx, request.job)?;
    let task = request.task.map(|id| task_state(&job, id)).transpose()?;
    check_leave_stopped(&job, request)?;
    if let Some(active) = active_for(tx, request)? {
        return repeat(tx, request, &active, now);
    }
    if job.state.is_terminal() || task.is_some_and(|(_, state)| state.is_terminal()) {
        return Ok(CancelResult::already_finished(&job, task));
    }

    let new = New {
        job: job.id,
        task: request.task,
        requested_by: request.requested_by,
        reason: request.reason,
        force: request.force,
        cascade: request.cascade,
        leave_stopped: request.leave_stopped,
        previous_state: task.map_or_else(|| job.state.as_str(), |(_, state)| state.as_str()),
    };

    let id = cancellations::insert(tx, &new, now)?;

    if job.state == JobState::Queued {
        settle_queued(tx, request, id, now)?;
    } else {
        let cancels_job = request.task.is_none() && job.state == JobState::Running;
        if cancels_job && !jobs::set_cancelling(tx, job.id, now)? {
            return Err(Error::conflict(format!(
                "job {} is no longer running: try again",
                job.id
            )));
        }

        let detail = if request.force { "forced" } else { "" };
        add_event(tx, request, cancelling_event(request), detail, now)?;
    }

    result::of(tx, id)
}

/// Only updates and rollbacks start servers again that they have stopped, and only as a whole.
fn check_leave_stopped(job: &Job, request: &CancelRequest<'_>) -> Result<()> {
    let rolls_out = job
        .operation
        .parse::<Operation>()
        .is_ok_and(Operation::rolls_out)
        || job.roll_of.is_some();
    match (request.leave_stopped, rolls_out, request.task) {
        (true, false, _) => Err(Error::usage(format!(
            "leave-stopped does not fit to job {} ({}): only an update or rollback starts servers \
             again when it is cancelled",
            job.id, job.operation
        ))),
        (true, true, Some(_)) => Err(Error::usage(
            "leave-stopped is for the whole job, not for one of its tasks",
        )),
        _ => Ok(()),
    }
}

fn task_state(job: &Job, id: TaskId) -> Result<(TaskId, TaskState)> {
    let found = job.tasks.iter().find(|task| task.id == id);
    found
        .map(|task| (id, task.state))
        .ok_or_else(|| no_task(job.id, id))
}

fn no_task(job: JobId, task: TaskId) -> Error {
    Error::not_found(format!(
        "job {job} has no task {task}: `left4me-job show {job}` lists its tasks"
    ))
}

/// The cancellation that is under way already: of the whole job, or of the same task.
fn active_for(tx: &Connection, request: &CancelRequest<'_>) -> Result<Option<Cancellation>> {
    match (cancellations::live_of(tx, request.job, None)?, request.task) {
        (None, Some(_)) => cancellations::live_of(tx, request.job, request.task),
        (found, _) => Ok(found),
    }
}

/// Answers a repeated request with the existing record. A new `force` or `leave_stopped` applies from
/// now on.
fn repeat(
    tx: &Connection,
    request: &CancelRequest<'_>,
    active: &Cancellation,
    now: i64,
) -> Result<CancelResult> {
    // A forced request for one task does not kill the whole job.
    let same_target = request.task == active.task_id;
    if request.leave_stopped && same_target {
        cancellations::leave_stopped(tx, active.id)?;
    }
    if request.force && same_target && cancellations::escalate(tx, active.id, now)? {
        let kind = cancelling_event(request);
        add_event(
            tx,
            request,
            kind,
            "forced: running commands are killed",
            now,
        )?;
    }
    result::of(tx, active.id)
}

fn cancelling_event(request: &CancelRequest<'_>) -> &'static str {
    if request.task.is_some() {
        "task.cancelling"
    } else {
        "job.cancelling"
    }
}

fn add_event(
    tx: &Connection,
    request: &CancelRequest<'_>,
    kind: &str,
    detail: &str,
    now: i64,
) -> Result<()> {
    events::add(tx, now, &new_event(request, kind, detail))
}

fn new_event<'a>(request: &'a CancelRequest<'_>, kind: &'a str, detail: &'a str) -> NewEvent<'a> {
    NewEvent {
        kind,
        actor: request.requested_by,
        job: Some(request.job),
        task: request.task,
        server: None,
        order: None,
        detail,
        reason: request.reason,
    }
}

/// Cancels a queued job, or one task of it, in this transaction. When a single task is cancelled,
/// the others stay queued. The job ends when no task is left.
fn settle_queued(
    tx: &Connection,
    request: &CancelRequest<'_>,
    id: CancellationId,
    now: i64,
) -> Result<()> {
    let by = messages::by(request.requested_by, request.reason);
    let mut job = ActiveJob::load(tx, request.job)?;
    let scope = match request.task {
        Some(task) => Scope::Task {
            at: job.position(task).ok_or_else(|| no_task(job.id, task))?,
            cascade: request.cascade,
        },
        None => Scope::Job,
    };

    let outcomes: Vec<TaskOutcome> = outcomes(&job.known(), scope);
    for outcome in &outcomes {
        cancellations::touch(
            tx,
            id,
            job.tasks[outcome.at].id,
            outcome::cause(&job, outcome),
        )?;
        outcome::settle(
            tx,
            &mut job,
            outcome,
            scope,
            (request.requested_by, request.reason),
            now,
        )?;

        let task = &job.tasks[outcome.at];
        let kind = format!("task.{}", outcome.end);
        let detail = task.error.as_deref().unwrap_or_default();
        let event = NewEvent {
            task: Some(task.id),
            server: task.server,
            ..new_event(request, &kind, detail)
        };

        events::add(tx, now, &event)?;
    }

    let job_ended = job.tasks.iter().all(|task| task.state.is_terminal());
    if job_ended {
        let line = format!("cancelled before execution {by}");
        jobs::cancel(tx, request.job, JobState::Queued, &line, now)?;
        logs::append(tx, request.job, now, Stream::Stderr, &line)?;
        let whole = CancelRequest {
            task: None,
            ..*request
        };

        add_event(tx, &whole, "job.cancelled", "before execution", now)?;
        for server in job.all_servers() {
            observe::judge_server(
                tx,
                server,
                &Cause::Job(request.job, request.requested_by),
                now,
            )?;
        }
    }

    for step in Step::ALL {
        cancellations::begin_step(tx, id, step, now)?;
        let detail = match step {
            Step::Block if job_ended => "it never starts".to_owned(),
            Step::Block => "they never start".to_owned(),
            Step::Identify => format!("0 running, {} pending", outcomes.len()),
            Step::Settle => messages::settled(&outcomes),
            Step::Finish if job_ended => "job cancelled".to_owned(),
            Step::Finish => "the job stays queued".to_owned(),
            Step::Terminate | Step::Clean | Step::Verify => "nothing was running".to_owned(),
        };

        cancellations::end_step(tx, id, step, true, &detail, now)?;
    }

    let job = request.job;
    let message = match request.task {
        Some(task) if job_ended => {
            format!("task {task} and with it job {job} cancelled before execution {by}")
        }
        Some(task) => format!("task {task} of job {job} cancelled before execution {by}"),
        None => format!("job {job} cancelled before execution {by}"),
    };

    cancellations::finish(tx, id, Progress::Completed, &message, now)?;
    cancellations::leave_for_journal(tx, id)
}
