//! One cancellation that the worker carries out, and how its tasks are settled.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::Result;
use crate::base::config::Pauses;
use crate::base::names::{CancellationId, JobId, ServerId, TaskId};
use crate::cancel::action::Action;
use crate::cancel::cleaner::CleanUp;
use crate::cancel::journal::Sent;
use crate::cancel::{messages, outcome};
use crate::db::cancellations::{self, Cancellation};
use crate::db::events::{self, NewEvent};
use crate::db::jobs;
use crate::db::runners::Runner;
use crate::domain::cancellation::{Scope, TaskOutcome, outcomes};
use crate::domain::job::JobState;
use crate::domain::task::TaskState;
use crate::queue::active::ActiveJob;
use crate::queue::journal::Finished;
use crate::queue::tick_result::TickResult;
use crate::wire::Cancel;

/// A cancellation under way.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub id: CancellationId,
    pub job: JobId,
    pub task: Option<TaskId>,
    pub who: String,
    pub why: String,
    pub force: bool,
    pub scope: Scope,
    pub outcomes: Vec<TaskOutcome>,
    /// The tasks whose commands had begun.
    pub running: Vec<TaskId>,
    /// The first signal that their commands got.
    pub first: Cancel,
    /// When --force was added, unix ms.
    pub escalated_at: Option<i64>,
    pub phase: Phase,
    /// When the current step began, unix ms.
    pub since: i64,
    /// Whether a step failed.
    pub failed: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Commands are ending. `closed`: their connections were closed.
    Terminating { deadline: Instant, closed: bool },
    /// The cleaner is working.
    Checking { deadline: Instant },
}

impl Tracked {
    pub(super) fn new(
        record: &Cancellation,
        scope: Scope,
        outcomes: Vec<TaskOutcome>,
        deadline: Instant,
        now: i64,
    ) -> Self {
        Self {
            id: record.id,
            job: record.job_id,
            task: record.task_id,
            who: record.requested_by.clone(),
            why: record.reason.clone(),
            force: record.force,
            scope,
            outcomes,
            running: Vec::new(),
            first: if record.force {
                Cancel::Kill
            } else {
                Cancel::Terminate
            },
            escalated_at: record.escalated_at,
            phase: Phase::Terminating {
                deadline,
                closed: false,
            },
            since: now,
            failed: false,
        }
    }

    /// The tasks whose commands have not ended.
    pub(super) fn not_ended(&self, active: &[ActiveJob]) -> Vec<TaskId> {
        let Some(job) = active.iter().find(|job| job.id == self.job) else {
            return Vec::new();
        };

        let tasks = job
            .tasks
            .iter()
            .filter(|task| self.running.contains(&task.id));
        let not_ended = tasks.filter(|task| task.state == TaskState::Cancelling && !task.ended);
        not_ended.map(|task| task.id).collect()
    }

    pub(super) fn end_commands(&self, tasks: Vec<TaskId>) -> Action {
        let how = if self.force {
            Cancel::Kill
        } else {
            Cancel::Terminate
        };

        let urgency = if self.force { ", at once" } else { "" };
        let message = format!(
            "being cancelled{urgency} {}",
            messages::by(&self.who, &self.why)
        );

        Action::EndCommands {
            job: self.job,
            tasks,
            how,
            message,
        }
    }

    pub(super) fn sent(&self, grace: Duration) -> Sent {
        Sent {
            job: self.job,
            cancellation: self.id,
            at: self.since,
            is_kill: self.first == Cancel::Kill,
            grace,
            force: self.force,
            escalated_at: self.escalated_at,
        }
    }

    /// What to clean up and verify after the commands of `runners` ended.
    pub(super) fn clean_up(
        &self,
        job: &ActiveJob,
        runners: Vec<Runner>,
        pauses: Pauses,
    ) -> CleanUp {
        let ran = || {
            job.tasks
                .iter()
                .filter(|task| self.running.contains(&task.id))
        };

        let changes_unit =
            ran().filter(|task| task.kind.as_ref().is_ok_and(|kind| kind.changes_unit()));
        CleanUp {
            id: self.id,
            runners,
            servers: ran().filter_map(|task| task.server).collect(),
            observe: changes_unit.filter_map(|task| task.server).collect(),
            pauses,
        }
    }

    pub(super) fn event<'a>(
        &'a self,
        kind: &'a str,
        task: Option<TaskId>,
        server: Option<ServerId>,
        detail: &'a str,
    ) -> NewEvent<'a> {
        let (actor, reason) = (&self.who, &self.why);
        NewEvent {
            kind,
            actor,
            job: Some(self.job),
            task,
            server,
            detail,
            reason,
        }
    }

    /// Gives one task the state that the cancellation decided, unless it has ended already.
    pub(super) fn settle(
        &self,
        tx: &Connection,
        job: &mut ActiveJob,
        outcome: &TaskOutcome,
        now: i64,
    ) -> Result<()> {
        if !outcome::settle(tx, job, outcome, self.scope, (&self.who, &self.why), now)? {
            return Ok(());
        }

        let (cause, task) = (outcome::cause(job, outcome), &job.tasks[outcome.at]);
        let kind = format!("task.{}", outcome.end);
        let what = task
            .kind
            .as_ref()
            .map_or_else(Clone::clone, ToString::to_string);

        let detail = match cause {
            Some(cause) => format!("{what}: goes with task {cause}"),
            None => what,
        };

        events::add(
            tx,
            now,
            &self.event(&kind, Some(task.id), task.server, &detail),
        )
    }

    /// Ends the job when it is cancelled as a whole. Returns the message for the record.
    pub(super) fn finish_job(
        &self,
        tx: &Connection,
        active: &mut Vec<ActiveJob>,
        outcome: &mut TickResult,
        now: i64,
    ) -> Result<String> {
        let by = messages::by(&self.who, &self.why);
        let found = active.iter().position(|job| job.id == self.job);
        if let (None, Some(found)) = (self.task, found) {
            let job = active.remove(found);
            if !jobs::cancel(
                tx,
                job.id,
                JobState::Cancelling,
                &format!("cancelled {by}"),
                now,
            )? {
                tracing::warn!(
                    job_id = job.id.0,
                    "job {} was not ours to cancel any more",
                    job.id
                );
            }

            let detail = messages::settled(&self.outcomes);
            let event = self.event("job.cancelled", None, job.only_server(), &detail);
            events::add(tx, now, &event)?;
            outcome.leave_servers(tx, &job, now)?;
            outcome
                .finished
                .push(Finished::of(&job, JobState::Cancelled, 1, Some(by.clone())));
            return Ok(format!(
                "job {} cancelled {by}{}",
                job.id,
                messages::left_stopped(&job)
            ));
        }

        if let Some(found) = found {
            active[found].cancellations = active[found].cancellations.saturating_sub(1);
        }
        let task = self
            .task
            .map_or_else(String::new, |task| format!("task {task} of "));
        Ok(format!("{task}job {} cancelled {by}", self.job))
    }
}

/// The outcome of each task, with those that a dead worker has settled already.
pub(super) fn all_outcomes(
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
pub(super) fn blocked(scope: Scope) -> String {
    match scope {
        Scope::Job => "no further task of the job starts",
        Scope::Task { cascade: true, .. } => "neither the task nor what depends on it starts",
        Scope::Task { cascade: false, .. } => "the task does not start",
    }
    .to_owned()
}
