//! The worker's side of cancellation: tracks every cancellation under way and decides its next
//! step. It runs within the worker's tick, in its transaction, and returns [`Action`]s for what
//! happens outside of it.
//!
//! Like the worker's memory of its jobs, the tracker is a copy that replaces the former one only
//! after the commit.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::config::Pauses;
use crate::base::names::CancellationId;
use crate::base::{Result, failpoint};
use crate::cancel::action::{Action, FinishedStep};
use crate::cancel::cleaner::{self, CleanUpReport};
use crate::cancel::journal::{self, JournalMessage};
use crate::cancel::tracked::{Phase, Tracked, all_outcomes, blocked};
use crate::cancel::{already_ended, messages, outcome};
use crate::db::cancellations::{self, Affected, Cancellation};
use crate::db::runners::{self, Runner};
use crate::db::tasks;
use crate::domain::cancellation::{Progress, Scope, Step};
use crate::domain::task::TaskState;
use crate::process::escalation;
use crate::queue::active::ActiveJob;
use crate::queue::observe::{self, Cause};
use crate::queue::tick_result::TickResult;
use crate::wire::Cancel;

/// How much longer than the kill escalation the tracker waits before it closes the connection of a
/// command that has not ended.
const MARGIN: Duration = Duration::from_secs(2);

/// How long cleaning and verifying may take, besides the pauses between attempts.
const CHECK_TIME: Duration = Duration::from_secs(15);

/// All cancellations under way.
#[derive(Clone, Debug)]
pub struct Tracker {
    grace: Duration,
    pauses: Pauses,
    tracked: Vec<Tracked>,
    reports: Vec<CleanUpReport>,
    /// A report has come since the last tick.
    has_pending: bool,
    actions: Vec<Action>,
}

impl Tracker {
    /// An empty tracker. `grace`: the time that runner and helper leave between SIGTERM and
    /// SIGKILL. `pauses`: between the attempts to clean up.
    #[must_use]
    pub fn new(grace: Duration, pauses: Pauses) -> Self {
        Self {
            grace,
            pauses,
            tracked: Vec::new(),
            reports: Vec::new(),
            has_pending: false,
            actions: Vec::new(),
        }
    }

    /// Adds a report of the cleaner, for the next tick.
    pub fn add_report(&mut self, report: CleanUpReport) {
        self.reports.push(report);
        self.has_pending = true;
    }

    /// Takes the actions of the tick that was committed.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether a report has come since the last tick.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.has_pending
    }

    /// When a tick is due although nothing has happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = |tracked: &Tracked| match tracked.phase {
            Phase::Terminating { deadline, .. } => Some(deadline),
            Phase::Checking { deadline } => (!self.waits_for_others(tracked)).then_some(deadline),
        };
        self.tracked.iter().filter_map(deadline).min()
    }

    /// A job ends only when no other cancellation of it is under way.
    fn waits_for_others(&self, tracked: &Tracked) -> bool {
        let is_other = |other: &Tracked| other.job == tracked.job && other.id != tracked.id;
        tracked.task.is_none() && self.tracked.iter().any(is_other)
    }

    /// Takes every cancellation as far as it can go now.
    pub fn advance(
        &mut self,
        tx: &Connection,
        active: &mut Vec<ActiveJob>,
        outcome: &mut TickResult,
        now: i64,
    ) -> Result<()> {
        self.has_pending = false;
        for record in cancellations::active(tx)? {
            match self
                .tracked
                .iter()
                .position(|tracked| tracked.id == record.id)
            {
                Some(at) if record.force && !self.tracked[at].force => {
                    self.escalate(at, active, &record);
                }
                Some(_) => {}
                None => self.begin(tx, active, &record, now)?,
            }
        }

        for at in 0..self.tracked.len() {
            self.settle(tx, active, at, now)?;
        }

        // Those of single tasks first: the job's own waits for them.
        for whole_jobs in [false, true] {
            let ids: Vec<CancellationId> = self.tracked.iter().map(|tracked| tracked.id).collect();
            for id in ids {
                if let Some(at) = self.tracked.iter().position(|tracked| tracked.id == id)
                    && self.tracked[at].task.is_none() == whole_jobs
                {
                    self.finish(tx, active, outcome, at, now)?;
                }
            }
        }

        // A report that came after its deadline has no use any more.
        self.reports
            .retain(|report| self.tracked.iter().any(|tracked| tracked.id == report.id));
        Ok(())
    }

    /// The steps `block` and `identify`: from here on no further task of it starts.
    fn begin(
        &mut self,
        tx: &Connection,
        active: &mut [ActiveJob],
        record: &Cancellation,
        now: i64,
    ) -> Result<()> {
        failpoint::hit("cancel.found");
        let id = record.id;
        cancellations::begin(tx, id)?;

        let Some(job) = active.iter_mut().find(|job| job.id == record.job_id) else {
            return already_ended::settle(tx, record, now);
        };
        let scope = match record.task_id.map(|task| job.position(task)) {
            None => Scope::Job,
            Some(Some(at)) => Scope::Task {
                at,
                cascade: record.cascade,
            },
            Some(None) => return already_ended::settle(tx, record, now),
        };

        let outcomes = all_outcomes(tx, id, job, scope)?;
        if outcomes.is_empty() && scope != Scope::Job {
            return already_ended::settle(tx, record, now);
        }

        let deadline = Instant::now() + self.time_limit(record.force);
        let mut tracked = Tracked::new(record, scope, outcomes, deadline, now);
        self.actions
            .push(Action::Log(JournalMessage::Begun(record.clone())));

        job.cancellations += 1;
        for outcome in &tracked.outcomes {
            job.tasks[outcome.at].blocked = true;
        }
        self.end_step(tx, &mut tracked, Step::Block, true, blocked(scope), now)?;
        failpoint::hit("cancel.blocked");

        let ended = job
            .tasks
            .iter()
            .filter(|task| task.state.is_terminal())
            .count();
        for outcome in &tracked.outcomes {
            let cause = outcome::cause(job, outcome);
            let task = &mut job.tasks[outcome.at];
            cancellations::touch(tx, id, task.id, cause)?;
            if task.is_running() {
                tasks::set_cancelling(tx, task.id)?;
                task.state = TaskState::Cancelling;
            }
        }

        let had_begun =
            |task: &Affected| ["running", "cancelling"].contains(&task.previous_state.as_str());
        let affected = cancellations::affected(tx, id)?;
        tracked.running.extend(
            affected
                .iter()
                .filter(|task| had_begun(task))
                .map(|task| task.id),
        );

        let (running, pending) = (
            tracked.running.len(),
            affected.len() - tracked.running.len(),
        );

        let found = format!("{running} running, {pending} pending, {ended} ended");
        self.end_step(tx, &mut tracked, Step::Identify, true, found, now)?;

        cancellations::begin_step(tx, id, Step::Terminate, now)?;
        if !tracked.running.is_empty() {
            self.actions
                .push(tracked.end_commands(tracked.running.clone()));
        }

        self.tracked.push(tracked);
        Ok(())
    }

    /// --force was added: kill what still runs.
    fn escalate(&mut self, at: usize, active: &[ActiveJob], record: &Cancellation) {
        let limit = Instant::now() + self.time_limit(true);
        let tracked = &mut self.tracked[at];
        (tracked.force, tracked.escalated_at) = (true, record.escalated_at);
        self.actions
            .push(Action::Log(JournalMessage::Escalated(record.clone())));

        let not_ended = tracked.not_ended(active);
        if let (Phase::Terminating { deadline, .. }, false) =
            (&mut tracked.phase, not_ended.is_empty())
        {
            *deadline = limit.min(*deadline);
            self.actions.push(tracked.end_commands(not_ended));
        }
    }

    /// The steps `terminate` and `settle`, once all commands have ended or their time is over. The
    /// tasks get their states in this transaction, and the cleaner gets its work.
    fn settle(
        &mut self,
        tx: &Connection,
        active: &mut [ActiveJob],
        at: usize,
        now: i64,
    ) -> Result<()> {
        let mut tracked = self.tracked[at].clone();
        let Phase::Terminating { deadline, closed } = tracked.phase else {
            return Ok(());
        };
        let not_ended = tracked.not_ended(active);

        if !not_ended.is_empty() && Instant::now() < deadline {
            return Ok(());
        }

        if !not_ended.is_empty() && !closed {
            // Runner or helper did not answer. Closing the connection ends at least the task's
            // thread in the worker.
            self.actions.push(Action::CloseConnections(not_ended));
            let deadline = Instant::now() + MARGIN;
            self.tracked[at].phase = Phase::Terminating {
                deadline,
                closed: true,
            };

            return Ok(());
        }

        failpoint::hit("cancel.ended");
        let Some(job) = active.iter_mut().find(|job| job.id == tracked.job) else {
            return Ok(());
        };

        let mut of_tasks: Vec<Runner> = Vec::new();
        for &task in &tracked.running {
            runners::ended_by(tx, tracked.id, task)?;
            of_tasks.extend(runners::of_task(tx, task)?);
        }

        let ended = runners::of_cancellation(tx, tracked.id)?;
        self.log_signals(tx, &tracked, &ended, closed, now)?;

        // A command that did not report its end has probably left nothing, but that is not known.
        let mut wrong: Vec<String> = ended.iter().filter_map(messages::trouble).collect();
        for task in job
            .tasks
            .iter_mut()
            .filter(|task| not_ended.contains(&task.id))
        {
            task.abandoned = true;
            wrong.push(format!(
                "task {} did not end in time: what it works on waits until it has",
                task.id
            ));
        }

        let all = std::iter::once(messages::ended(&ended)).chain(wrong.iter().cloned());
        let detail = all.collect::<Vec<_>>().join("; ");
        self.end_step(
            tx,
            &mut tracked,
            Step::Terminate,
            wrong.is_empty(),
            detail,
            now,
        )?;

        cancellations::begin_step(tx, tracked.id, Step::Settle, now)?;
        for outcome in &tracked.outcomes {
            tracked.settle(tx, job, outcome, now)?;
        }

        failpoint::hit("cancel.settling");
        let settled = messages::settled(&tracked.outcomes);
        self.end_step(tx, &mut tracked, Step::Settle, true, settled, now)?;

        cancellations::begin_step(tx, tracked.id, Step::Clean, now)?;
        let work = tracked.clean_up(job, of_tasks, self.pauses.clone());
        self.actions.push(Action::CleanUp(work));
        let deadline = Instant::now() + CHECK_TIME + self.pauses.total();
        tracked.phase = Phase::Checking { deadline };
        self.tracked[at] = tracked;
        Ok(())
    }

    /// The steps `clean`, `verify` and `finish`, once the cleaner has reported. A job that is
    /// cancelled as a whole ends here.
    fn finish(
        &mut self,
        tx: &Connection,
        active: &mut Vec<ActiveJob>,
        outcome: &mut TickResult,
        at: usize,
        now: i64,
    ) -> Result<()> {
        let mut tracked = self.tracked[at].clone();
        let Phase::Checking { deadline } = tracked.phase else {
            return Ok(());
        };
        if self.waits_for_others(&tracked) {
            return Ok(());
        }
        let Some(report) = self.report(tx, &tracked, deadline, now)? else {
            return Ok(());
        };

        let (cleaned, detail) = split(report.cleaned);
        self.end_step(
            tx,
            &mut tracked,
            Step::Clean,
            cleaned,
            detail,
            report.cleaned_at,
        )?;

        let (verified, detail) = split(report.verified);
        self.end_step(tx, &mut tracked, Step::Verify, verified, detail, now)?;

        for row in report.left {
            runners::set_tree(tx, row, true)?;
        }

        let cause = Cause::Job(tracked.job, &tracked.who);
        for (server, observed) in &report.observed {
            outcome
                .reports
                .extend(observe::record(tx, *server, observed, &cause)?);
        }

        let ended = tracked.finish_job(tx, active, outcome, now)?;
        failpoint::hit("cancel.finishing");
        self.end_step(tx, &mut tracked, Step::Finish, true, ended.clone(), now)?;
        let (state, message) = if tracked.failed {
            (
                Progress::Failed,
                format!("{ended}, but not all could be done: see its steps"),
            )
        } else {
            (Progress::Completed, ended)
        };

        cancellations::finish(tx, tracked.id, state, &message, now)?;
        self.tracked.retain(|other| other.id != tracked.id);
        Ok(())
    }

    /// The cleaner's report; after `deadline` one that says that there was none.
    fn report(
        &mut self,
        tx: &Connection,
        tracked: &Tracked,
        deadline: Instant,
        now: i64,
    ) -> Result<Option<CleanUpReport>> {
        if let Some(at) = self
            .reports
            .iter()
            .position(|report| report.id == tracked.id)
        {
            return Ok(Some(self.reports.swap_remove(at)));
        }
        if Instant::now() < deadline {
            return Ok(None);
        }

        // It is not known whether a command whose connection broke is gone.
        let ended = runners::of_cancellation(tx, tracked.id)?;
        let lost = ended.into_iter().filter(|runner| runner.tree.is_none());
        let left = lost.map(|runner| runner.id).collect();
        Ok(Some(CleanUpReport {
            left,
            ..cleaner::timed_out(tracked.id, now)
        }))
    }

    /// Records the end of a step, and logs it.
    fn end_step(
        &mut self,
        tx: &Connection,
        tracked: &mut Tracked,
        step: Step,
        ok: bool,
        detail: String,
        now: i64,
    ) -> Result<()> {
        cancellations::begin_step(tx, tracked.id, step, tracked.since)?;
        cancellations::end_step(tx, tracked.id, step, ok, &detail, now)?;

        let sent_signal = step == Step::Terminate && !tracked.running.is_empty();
        let signal = sent_signal.then_some(match tracked.first {
            Cancel::Terminate => "SIGTERM",
            Cancel::Kill => "SIGKILL",
        });

        self.actions.push(Action::LogStep(FinishedStep {
            job: tracked.job,
            task: tracked.task,
            cancellation: tracked.id,
            step,
            ok,
            detail,
            signal,
            duration_ms: (now - tracked.since).max(0),
        }));

        tracked.since = now;
        tracked.failed |= !ok;
        Ok(())
    }

    /// Logs each signal, and records that a command outlived its grace.
    fn log_signals(
        &mut self,
        tx: &Connection,
        tracked: &Tracked,
        ended: &[Runner],
        closed: bool,
        now: i64,
    ) -> Result<()> {
        let sent = tracked.sent(self.grace);
        if sent.has_timed_out(ended, closed, now) {
            cancellations::set_timed_out(tx, tracked.id)?;
        }

        let signals = ended
            .iter()
            .flat_map(|runner| journal::signals(runner, &sent, now));
        let messages = signals.map(|signal| Action::Log(JournalMessage::Signal(signal)));
        self.actions.extend(messages);
        Ok(())
    }

    /// How long the end of a command may take.
    fn time_limit(&self, force: bool) -> Duration {
        let grace = if force {
            Duration::ZERO
        } else {
            self.grace + escalation::LINGER
        };
        grace + escalation::EMPTY_WAIT + MARGIN
    }
}

fn split(result: Result<String, String>) -> (bool, String) {
    match result {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    }
}
