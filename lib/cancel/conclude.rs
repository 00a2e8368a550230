//! The later steps of a cancellation: `terminate` and `settle` when its commands have ended;
//! `clean`, `verify` and `finish` when the cleaner has reported.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::config::Pauses;
use crate::base::{Result, failpoint};
use crate::cancel::cleaner::{self, CleanUp, CleanUpReport};
use crate::cancel::journal::{self, JournalMessage, Sent};
use crate::cancel::tracked::{Action, MARGIN, Phase, Tracked};
use crate::cancel::{messages, outcome};
use crate::db::cancellations;
use crate::db::runners::{self, Runner};
use crate::db::{events, jobs};
use crate::domain::cancellation::{Progress, Step, TaskOutcome};
use crate::domain::job::JobState;
use crate::queue::active::{ActiveJob, CancelPhase};
use crate::queue::journal::Finished;
use crate::queue::observe::{self, Cause};
use crate::queue::tick_state::Tick;
use crate::wire::Cancel;

/// How long cleaning and verifying may take, besides the pauses between attempts.
const CHECK_TIME: Duration = Duration::from_secs(15);

impl Tracked {
    /// The steps `terminate` and `settle`, once all commands have ended or their time is over. The
    /// tasks get their states in this transaction, and the cleaner gets its work.
    pub(super) fn terminate(
        &mut self,
        tick: &mut Tick<'_>,
        pauses: &Pauses,
        actions: &mut Vec<Action>,
    ) -> Result<()> {
        let (tx, now) = (tick.tx, tick.now);
        let Phase::Terminating { deadline, closed } = self.phase else {
            return Ok(());
        };
        let Some(job) = tick.job(self.job) else {
            return Ok(());
        };

        let not_ended = self.not_ended(job);
        if !not_ended.is_empty() && Instant::now() < deadline {
            return Ok(());
        }

        if !not_ended.is_empty() && !closed {
            // Runner or helper did not answer. Closing the connection ends at least the task's
            // thread in the worker.
            actions.push(Action::CloseConnections(not_ended));
            self.phase = Phase::Terminating {
                deadline: Instant::now() + MARGIN,
                closed: true,
            };

            return Ok(());
        }

        failpoint::hit("cancel.ended");
        let mut of_tasks: Vec<Runner> = Vec::new();
        for &task in &self.running {
            runners::ended_by(tx, self.id, task)?;
            of_tasks.extend(runners::of_task(tx, task)?);
        }

        let ended = runners::of_cancellation(tx, self.id)?;
        self.log_signals(tx, &ended, closed, now, actions)?;

        // A command that did not report its end has probably left nothing, but that is not known.
        let mut wrong: Vec<String> = ended.iter().filter_map(messages::trouble).collect();
        for id in not_ended {
            if let Some(at) = job.position(id) {
                job.tasks[at].cancel = CancelPhase::Abandoned { waived: false };
            }
            wrong.push(format!(
                "task {id} did not end in time: other jobs on the same target wait until it has"
            ));
        }

        let is_fine = wrong.is_empty();
        let all = std::iter::once(messages::ended(&ended)).chain(wrong);
        let detail = all.collect::<Vec<_>>().join("; ");
        let terminated = if is_fine { Ok(detail) } else { Err(detail) };
        self.end_step(tx, Step::Terminate, terminated, now, actions)?;

        cancellations::begin_step(tx, self.id, Step::Settle, now)?;
        for outcome in &self.outcomes {
            self.settle_task(tx, job, outcome, now)?;
        }

        failpoint::hit("cancel.settling");
        let settled = messages::settled(&self.outcomes);
        self.end_step(tx, Step::Settle, Ok(settled), now, actions)?;

        cancellations::begin_step(tx, self.id, Step::Clean, now)?;
        actions.push(Action::CleanUp(self.clean_up(job, of_tasks, pauses)));
        self.phase = Phase::Checking {
            deadline: Instant::now() + CHECK_TIME + pauses.total(),
            report: None,
        };
        Ok(())
    }

    /// Logs each signal, and records that a command outlived its grace.
    fn log_signals(
        &self,
        tx: &Connection,
        ended: &[Runner],
        closed: bool,
        now: i64,
        actions: &mut Vec<Action>,
    ) -> Result<()> {
        let sent = Sent {
            job: self.job,
            cancellation: self.id,
            at: self.since,
            is_kill: self.first == Cancel::Kill,
            grace: self.grace,
            force: self.force,
            escalated_at: self.escalated_at,
        };

        if sent.has_timed_out(ended, closed, now) {
            cancellations::set_timed_out(tx, self.id)?;
        }

        let signals = ended
            .iter()
            .flat_map(|runner| journal::signals(runner, &sent, now));
        actions.extend(signals.map(|signal| Action::Log(JournalMessage::Signal(signal))));
        Ok(())
    }

    /// Gives one task the state that the cancellation decided, unless it has ended already.
    fn settle_task(
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
        let detail = match cause {
            Some(cause) => format!("{}: goes with task {cause}", task.kind_name()),
            None => task.kind_name().to_owned(),
        };

        let event = self.event(&kind, Some(task.id), task.server, &detail);
        events::add(tx, now, &event)
    }

    /// What to clean up and verify after the commands of `runners` ended.
    fn clean_up(&self, job: &ActiveJob, runners: Vec<Runner>, pauses: &Pauses) -> CleanUp {
        let tasks = job.tasks.iter();
        let ran: Vec<_> = tasks
            .filter(|task| self.running.contains(&task.id))
            .collect();

        let changes_unit = ran
            .iter()
            .filter(|task| task.kind.as_ref().is_ok_and(|kind| kind.changes_unit()));
        CleanUp {
            id: self.id,
            runners,
            servers: ran.iter().filter_map(|task| task.server).collect(),
            observe: changes_unit.filter_map(|task| task.server).collect(),
            pauses: pauses.clone(),
        }
    }

    /// The steps `clean`, `verify` and `finish`, once the cleaner has reported. A job that is
    /// cancelled as a whole ends here. False if it is not that far yet.
    pub(super) fn finish(
        &mut self,
        tick: &mut Tick<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<bool> {
        let (tx, now) = (tick.tx, tick.now);
        let Some(report) = self.take_report(tx, now)? else {
            return Ok(false);
        };

        self.end_step(tx, Step::Clean, report.cleaned, report.cleaned_at, actions)?;
        self.end_step(tx, Step::Verify, report.verified, now, actions)?;
        for row in report.left {
            runners::set_tree(tx, row, true)?;
        }

        let cause = Cause::Job(self.job, &self.who);
        for (server, observed) in &report.observed {
            let report = observe::record(tx, *server, observed, &cause)?;
            tick.result.reports.extend(report);
        }

        let ended = self.finish_job(tick)?;
        failpoint::hit("cancel.finishing");
        self.end_step(tx, Step::Finish, Ok(ended.clone()), now, actions)?;

        let (state, message) = if self.failed {
            let message = format!("{ended}, but not all could be done: see its steps");
            (Progress::Failed, message)
        } else {
            (Progress::Completed, ended)
        };

        cancellations::finish(tx, self.id, state, &message, now)?;
        Ok(true)
    }

    /// The cleaner's report; after the deadline one that says that there was none.
    fn take_report(&mut self, tx: &Connection, now: i64) -> Result<Option<CleanUpReport>> {
        let Phase::Checking { deadline, report } = &mut self.phase else {
            return Ok(None);
        };
        if report.is_some() || Instant::now() < *deadline {
            return Ok(report.take());
        }

        // It is not known whether a command whose connection broke is gone.
        let ended = runners::of_cancellation(tx, self.id)?;
        let lost = ended.into_iter().filter(|runner| runner.tree.is_none());
        Ok(Some(CleanUpReport {
            left: lost.map(|runner| runner.id).collect(),
            ..cleaner::timed_out(self.id, now)
        }))
    }

    /// Ends the job when it is cancelled as a whole. Returns the message for the record.
    fn finish_job(&self, tick: &mut Tick<'_>) -> Result<String> {
        let by = messages::by(&self.who, &self.why);
        let found = tick.jobs.iter().position(|job| job.id == self.job);

        let (None, Some(found)) = (self.task, found) else {
            if let Some(job) = tick.job(self.job) {
                job.cancellations = job.cancellations.saturating_sub(1);
            }
            let task = self
                .task
                .map_or_else(String::new, |task| format!("task {task} of "));
            return Ok(format!("{task}job {} cancelled {by}", self.job));
        };

        let job = tick.jobs.remove(found);
        let (from, error) = (JobState::Cancelling, format!("cancelled {by}"));
        if !jobs::cancel(tick.tx, job.id, from, &error, tick.now)? {
            tracing::warn!(
                job_id = job.id.0,
                "job {} was ended by another program while it was being cancelled",
                job.id
            );
        }

        let detail = messages::settled(&self.outcomes);
        tick.add_event(&self.event("job.cancelled", None, job.only_server(), &detail))?;
        let left_stopped = match tick.judge_servers(&job)? {
            Some((by, servers)) => messages::started_again(&servers, by),
            None => messages::left_stopped(&job),
        };
        let message = format!("job {} cancelled {by}{left_stopped}", job.id);
        let finished = Finished::of(&job, JobState::Cancelled, 1, Some(by));
        tick.result.finished.push(finished);
        Ok(message)
    }
}
