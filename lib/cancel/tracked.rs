//! One cancellation that the worker carries out, and its first steps: `block` and `identify`. The
//! others are in cancel/conclude.rs.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::names::{CancellationId, JobId, ServerId, TaskId};
use crate::base::{Result, failpoint};
use crate::cancel::cleaner::{CleanUp, CleanUpReport};
use crate::cancel::journal::{FinishedStep, JournalMessage};
use crate::cancel::{messages, outcome};
use crate::db::cancellations::{self, Cancellation};
use crate::db::events::NewEvent;
use crate::db::tasks;
use crate::domain::cancellation::{Scope, Step, TaskOutcome, outcomes};
use crate::domain::task::TaskState;
use crate::process::escalation;
use crate::queue::active::{ActiveJob, CancelPhase};
use crate::queue::tick_state::Tick;
use crate::wire::Cancel;

/// How much longer than the kill escalation the tracker waits before it closes the connection of a
/// command that has not ended.
pub(super) const MARGIN: Duration = Duration::from_secs(2);

/// What the worker does for a cancellation outside the transaction, once that is committed.
#[derive(Clone, Debug)]
pub enum Action {
    /// End the commands of these tasks.
    EndCommands {
        job: JobId,
        tasks: Vec<TaskId>,
        how: Cancel,
        /// A line for the job's log.
        message: String,
    },
    /// Close the connections of these tasks: their commands did not end in time.
    CloseConnections(Vec<TaskId>),
    /// Clean up and verify, in a thread of its own. The report goes to
    /// [`super::tracker::Tracker::add_report`].
    CleanUp(CleanUp),
    /// Write to the journal.
    Log(JournalMessage),
}

#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub id: CancellationId,
    pub job: JobId,
    pub task: Option<TaskId>,
    pub phase: Phase,
    pub who: String,
    pub why: String,
    pub force: bool,
    pub scope: Scope,
    pub outcomes: Vec<TaskOutcome>,
    /// The tasks whose commands had begun.
    pub running: Vec<TaskId>,
    /// The first signal that their commands got.
    pub first: Cancel,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// When --force was added, unix ms.
    pub escalated_at: Option<i64>,
    /// When the current step began, unix ms.
    pub since: i64,
    pub failed: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Commands are ending. `closed`: their connections were closed.
    Terminating { deadline: Instant, closed: bool },
    /// The cleaner is working, or has reported.
    Checking {
        deadline: Instant,
        report: Option<CleanUpReport>,
    },
}

impl Tracked {
    /// The steps `block` and `identify`: after them no cancelled task can start. `None` if nothing
    /// is left to cancel.
    pub(super) fn begin(
        tick: &mut Tick<'_>,
        record: &Cancellation,
        grace: Duration,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Self>> {
        failpoint::hit("cancel.found");
        let (tx, now, id) = (tick.tx, tick.now, record.id);
        cancellations::begin(tx, id)?;

        let found = tick.job(record.job_id);
        let found = found.and_then(|job| Some((scope_of(record, job)?, job)));
        let outcomes = match &found {
            Some((scope, job)) => all_outcomes(tx, id, job, *scope)?,
            None => Vec::new(),
        };

        let is_empty = |scope: Scope| outcomes.is_empty() && scope != Scope::Job;
        let Some((scope, job)) = found.filter(|(scope, _)| !is_empty(*scope)) else {
            outcome::record_ended(tx, record, now)?;
            return Ok(None);
        };

        let mut tracked = Self {
            id,
            job: record.job_id,
            task: record.task_id,
            phase: Phase::Terminating {
                deadline: Instant::now() + time_limit(grace, record.force),
                closed: false,
            },
            who: record.requested_by.clone(),
            why: record.reason.clone(),
            force: record.force,
            scope,
            outcomes,
            running: Vec::new(),
            first: urgency(record.force),
            grace,
            escalated_at: record.escalated_at,
            since: now,
            failed: false,
        };

        actions.push(Action::Log(JournalMessage::Begun(record.clone())));
        job.cancellations += 1;
        for outcome in &tracked.outcomes {
            job.tasks[outcome.at].block();
        }

        tracked.end_step(tx, Step::Block, Ok(blocked(scope).to_owned()), now, actions)?;
        failpoint::hit("cancel.blocked");

        tracked.identify(tx, job, now, actions)?;
        Ok(Some(tracked))
    }

    fn identify(
        &mut self,
        tx: &Connection,
        job: &mut ActiveJob,
        now: i64,
        actions: &mut Vec<Action>,
    ) -> Result<()> {
        let is_terminal = |state: TaskState| state.is_terminal();
        let states = job.tasks.iter().map(|task| task.state);
        let ended = states.filter(|&state| is_terminal(state)).count();

        for outcome in &self.outcomes {
            let cause = outcome::cause(job, outcome);
            let task = &mut job.tasks[outcome.at];
            cancellations::touch(tx, self.id, task.id, cause)?;
            if task.is_running() {
                tasks::set_cancelling(tx, task.id)?;
                task.state = TaskState::Cancelling;
            }
        }

        let affected = cancellations::affected(tx, self.id)?;
        let was_running = affected
            .iter()
            .filter(|task| ["running", "cancelling"].contains(&task.previous_state.as_str()));
        self.running.extend(was_running.map(|task| task.id));

        let running = self.running.len();
        let pending = affected.len() - running;
        let found = format!("{running} running, {pending} pending, {ended} ended");
        self.end_step(tx, Step::Identify, Ok(found), now, actions)?;

        cancellations::begin_step(tx, self.id, Step::Terminate, now)?;
        if !self.running.is_empty() {
            actions.push(self.end_commands(self.running.clone()));
        }

        Ok(())
    }

    /// When --force was added: kill what still runs.
    pub(super) fn escalate(
        &mut self,
        tick: &mut Tick<'_>,
        record: &Cancellation,
        actions: &mut Vec<Action>,
    ) {
        if self.force || !record.force {
            return;
        }
        (self.force, self.escalated_at) = (true, record.escalated_at);
        actions.push(Action::Log(JournalMessage::Escalated(record.clone())));

        let limit = Instant::now() + time_limit(self.grace, true);
        let not_ended = tick
            .job(self.job)
            .map_or_else(Vec::new, |job| self.not_ended(job));
        if let (Phase::Terminating { deadline, .. }, false) =
            (&mut self.phase, not_ended.is_empty())
        {
            *deadline = limit.min(*deadline);
            actions.push(self.end_commands(not_ended));
        }
    }

    /// The tasks whose commands have not ended.
    pub(super) fn not_ended(&self, job: &ActiveJob) -> Vec<TaskId> {
        let tasks = job
            .tasks
            .iter()
            .filter(|task| task.cancel == CancelPhase::Ending);
        tasks
            .map(|task| task.id)
            .filter(|id| self.running.contains(id))
            .collect()
    }

    fn end_commands(&self, tasks: Vec<TaskId>) -> Action {
        let at_once = if self.force { ", at once" } else { "" };
        let by = messages::by(&self.who, &self.why);

        Action::EndCommands {
            job: self.job,
            tasks,
            how: urgency(self.force),
            message: format!("being cancelled{at_once} {by}"),
        }
    }

    pub(super) fn event<'a>(
        &'a self,
        kind: &'a str,
        task: Option<TaskId>,
        server: Option<ServerId>,
        detail: &'a str,
    ) -> NewEvent<'a> {
        NewEvent {
            kind,
            actor: &self.who,
            job: Some(self.job),
            task,
            server,
            order: None,
            detail,
            reason: &self.why,
        }
    }

    /// Records the end of a step, and logs it. `result`: its detail, or what went wrong.
    pub(super) fn end_step(
        &mut self,
        tx: &Connection,
        step: Step,
        result: std::result::Result<String, String>,
        now: i64,
        actions: &mut Vec<Action>,
    ) -> Result<()> {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|wrong| wrong);
        cancellations::begin_step(tx, self.id, step, self.since)?;
        cancellations::end_step(tx, self.id, step, ok, &detail, now)?;

        let sent_signal = step == Step::Terminate && !self.running.is_empty();
        let signal = sent_signal.then_some(match self.first {
            Cancel::Terminate => "SIGTERM",
            Cancel::Kill => "SIGKILL",
        });

        actions.push(Action::Log(JournalMessage::Step(FinishedStep {
            job: self.job,
            task: self.task,
            cancellation: self.id,
            step,
            ok,
            detail,
            signal,
            duration_ms: (now - self.since).max(0),
        })));

        self.since = now;
        self.failed |= !ok;
        Ok(())
    }
}

fn urgency(force: bool) -> Cancel {
    if force {
        Cancel::Kill
    } else {
        Cancel::Terminate
    }
}

/// How long the end of a command may take.
fn time_limit(grace: Duration, force: bool) -> Duration {
    let grace = if force {
        Duration::ZERO
    } else {
        grace + escalation::LINGER
    };
    grace + escalation::EMPTY_WAIT + MARGIN
}

/// What it applies to; none when the job has no such task.
fn scope_of(record: &Cancellation, job: &ActiveJob) -> Option<Scope> {
    let Some(task) = record.task_id else {
        return Some(Scope::Job);
    };
    Some(Scope::Task {
        at: job.position(task)?,
        cascade: record.cascade,
    })
}

/// The outcome of each task, with those that a dead worker has settled already.
fn all_outcomes(
    tx: &Connection,
    id: CancellationId,
    job: &ActiveJob,
    scope: Scope,
) -> Result<Vec<TaskOutcome>> {
    let mut outcomes = outcomes(&job.known(), scope);
    let is_terminal = |at: &usize| job.tasks[*at].state.is_terminal();
    for settled in cancellations::affected(tx, id)? {
        if let Some(at) = job.position(settled.id).filter(is_terminal) {
            let caused_by = settled.caused_by.and_then(|id| job.position(id));
            outcomes.push(TaskOutcome {
                at,
                end: job.tasks[at].state,
                caused_by,
            });
        }
    }

    Ok(outcomes)
}

/// The detail of the step `block`.
fn blocked(scope: Scope) -> &'static str {
    match scope {
        Scope::Job => "no further task of the job starts",
        Scope::Task { cascade: true, .. } => "neither the task nor what depends on it starts",
        Scope::Task { cascade: false, .. } => "the task does not start",
    }
}
