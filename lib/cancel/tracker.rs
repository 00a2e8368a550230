//! The worker's side: what is being cancelled, and which step comes next. Within the worker's turn, in its transaction;
//! what is to be done outside of it is handed back as [`Act`]s.
//!
//! Like the worker's memory of its jobs this is a copy that is replaced only when the turn was committed.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::config::Pauses;
use crate::base::names::{CancellationId, JobId, ServerId, TaskId};
use crate::base::{Result, failpoint};
use crate::cancel::cleaner::{self, CleanUp, Report};
use crate::cancel::fate;
use crate::cancel::journal::{self, Entry, Sent};
use crate::cancel::told::{self, StepTold};
use crate::cancel::too_late;
use crate::db::cancellations::{self, Affected, Cancellation};
use crate::db::events::{self, NewEvent};
use crate::db::runners::{self, Runner};
use crate::db::{jobs, tasks};
use crate::domain::cancellation::{Fate, Progress, Scope, Step, fates};
use crate::domain::job::JobState;
use crate::domain::task::TaskState;
use crate::process::ladder;
use crate::queue::journal::Finished;
use crate::queue::live::LiveJob;
use crate::queue::observe::{self, Cause};
use crate::queue::turn::Outcome;
use crate::wire::Cancel;

/// How much longer than the ladder may take a command's end is waited for; then its connection is closed.
const MARGIN: Duration = Duration::from_secs(2);

/// How long cleaning and looking may take.
const CHECKING: Duration = Duration::from_secs(15);

/// What is to be done once the turn is committed.
#[derive(Clone, Debug)]
pub enum Act {
    /// The commands of these tasks are told to end; their job's log gets the words.
    End {
        /// The job.
        job: JobId,
        /// Its tasks.
        tasks: Vec<TaskId>,
        /// How urgently.
        how: Cancel,
        /// For the log.
        words: String,
    },
    /// Their connections are closed: nobody waits for them any longer.
    Close(Vec<TaskId>),
    /// To be cleaned and looked at, in a thread of its own; the report goes to [`Tracker::note`].
    CleanUp(CleanUp),
    /// For the journal, besides the steps.
    Note(Entry),
    /// A step is over: for the journal.
    Tell(StepTold),
}

/// A cancellation under way.
#[derive(Clone, Debug)]
struct Tracked {
    id: CancellationId,
    job: JobId,
    task: Option<TaskId>,
    who: String,
    why: String,
    force: bool,
    scope: Scope,
    fates: Vec<Fate>,
    /// Those of them whose commands had begun.
    running: Vec<TaskId>,
    /// What they were told first.
    first: Cancel,
    /// When --force was added, unix ms.
    escalated_at: Option<i64>,
    phase: Phase,
    /// When the step that is under way began, unix ms.
    since: i64,
    /// Whether a step could not do all it should.
    failed: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Commands are ending.
    Terminating { deadline: Instant, closed: bool },
    /// The cleaner is at it.
    Checking { deadline: Instant },
}

/// All that is being cancelled.
#[derive(Clone, Debug)]
pub struct Tracker {
    grace: Duration,
    pauses: Pauses,
    tracked: Vec<Tracked>,
    reports: Vec<Report>,
    /// A report has come that no turn has seen.
    has_news: bool,
    acts: Vec<Act>,
}

impl Tracker {
    /// Nothing so far. `grace`: what runner and helper give a command that was asked to end. `pauses`: between
    /// the tries to clean.
    #[must_use]
    pub fn new(grace: Duration, pauses: Pauses) -> Self {
        Self { grace, pauses, tracked: Vec::new(), reports: Vec::new(), has_news: false, acts: Vec::new() }
    }

    /// What the cleaner found, for the next turn.
    pub fn note(&mut self, report: Report) {
        self.reports.push(report);
        self.has_news = true;
    }

    /// What is to be done now that the turn is committed.
    pub fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// Whether a report has come since the last turn.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_news
    }

    /// When a turn is due though nothing has happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = |tracked: &Tracked| match tracked.phase {
            Phase::Terminating { deadline, .. } => Some(deadline),
            Phase::Checking { deadline } => (!self.waits_for_others(tracked)).then_some(deadline),
        };
        self.tracked.iter().filter_map(deadline).min()
    }

    /// A job's own end comes when no other cancellation of it is under way.
    fn waits_for_others(&self, tracked: &Tracked) -> bool {
        tracked.task.is_none() && self.tracked.iter().any(|other| other.job == tracked.job && other.id != tracked.id)
    }

    /// Takes every cancellation as far as it can go now.
    ///
    /// # Errors
    /// 69 when the database cannot be written.
    pub fn attend(&mut self, tx: &Connection, live: &mut Vec<LiveJob>, outcome: &mut Outcome, now: i64) -> Result<()> {
        self.has_news = false;
        for record in cancellations::live(tx)? {
            match self.tracked.iter().position(|tracked| tracked.id == record.id) {
                Some(at) if record.force && !self.tracked[at].force => self.escalate(at, live, &record),
                Some(_) => {}
                None => self.open(tx, live, &record, now)?,
            }
        }
        for at in 0..self.tracked.len() {
            self.settle(tx, live, at, now)?;
        }
        // Those of single tasks first: the job's waits for them.
        for whole_jobs in [false, true] {
            let over: Vec<CancellationId> = self.tracked.iter().map(|tracked| tracked.id).collect();
            for id in over {
                if let Some(at) = self.tracked.iter().position(|tracked| tracked.id == id)
                    && self.tracked[at].task.is_none() == whole_jobs
                {
                    self.conclude(tx, live, outcome, at, now)?;
                }
            }
        }
        // One that came after it was given up is for nobody any more.
        self.reports.retain(|report| self.tracked.iter().any(|tracked| tracked.id == report.id));
        Ok(())
    }

    /// block and identify: from here on nothing more of it begins.
    fn open(&mut self, tx: &Connection, live: &mut [LiveJob], record: &Cancellation, now: i64) -> Result<()> {
        failpoint::hit("cancel.seen");
        let id = record.id;
        cancellations::begin(tx, id)?;
        let Some(job) = live.iter_mut().find(|job| job.id == record.job_id) else {
            return too_late::settle(tx, record, now);
        };
        let scope = match record.task_id.map(|task| job.position(task)) {
            None => Scope::Job,
            Some(Some(at)) => Scope::Task { at, cascade: record.cascade },
            Some(None) => return too_late::settle(tx, record, now),
        };
        let mut fates = fates(&job.known(), scope);
        // What a worker that died has settled already.
        for settled in cancellations::affected(tx, id)? {
            if let Some(at) = job.position(settled.id).filter(|&at| job.tasks[at].state.is_terminal()) {
                let caused_by = settled.caused_by.and_then(|id| job.position(id));
                fates.push(Fate { at, end: job.tasks[at].state, caused_by });
            }
        }
        if fates.is_empty() && scope != Scope::Job {
            return too_late::settle(tx, record, now);
        }
        let who = record.requested_by.clone();
        let mut tracked = Tracked {
            id,
            job: job.id,
            task: record.task_id,
            why: record.reason.clone(),
            force: record.force,
            scope,
            running: Vec::new(),
            first: if record.force { Cancel::Kill } else { Cancel::Terminate },
            escalated_at: record.escalated_at,
            phase: Phase::Terminating { deadline: Instant::now() + self.patience(record.force), closed: false },
            since: now,
            failed: false,
            fates,
            who,
        };
        self.acts.push(Act::Note(Entry::Begun(record.clone())));
        job.cancellations += 1;
        for fate in &tracked.fates {
            job.tasks[fate.at].blocked = true;
        }
        self.step(tx, &mut tracked, Step::Block, true, blocked(scope), now)?;
        failpoint::hit("cancel.blocked");
        let ended = job.tasks.iter().filter(|task| task.state.is_terminal()).count();
        for fate in &tracked.fates {
            let cause = fate::cause(job, fate);
            let task = &mut job.tasks[fate.at];
            cancellations::touch(tx, id, task.id, cause)?;
            if task.is_running() {
                tasks::set_cancelling(tx, task.id)?;
                task.state = TaskState::Cancelling;
            }
        }
        let had_begun = |task: &Affected| ["running", "cancelling"].contains(&task.previous_state.as_str());
        let affected = cancellations::affected(tx, id)?;
        tracked.running.extend(affected.iter().filter(|task| had_begun(task)).map(|task| task.id));
        let (running, pending) = (tracked.running.len(), affected.len() - tracked.running.len());
        let found = format!("{running} running, {pending} pending, {ended} ended");
        self.step(tx, &mut tracked, Step::Identify, true, found, now)?;
        cancellations::begin_step(tx, id, Step::Terminate, now)?;
        if !tracked.running.is_empty() {
            self.acts.push(tracked.end(tracked.running.clone()));
        }
        self.tracked.push(tracked);
        Ok(())
    }

    /// It is to be killed now.
    fn escalate(&mut self, at: usize, live: &[LiveJob], record: &Cancellation) {
        let limit = Instant::now() + self.patience(true);
        let tracked = &mut self.tracked[at];
        (tracked.force, tracked.escalated_at) = (true, record.escalated_at);
        self.acts.push(Act::Note(Entry::Escalated(record.clone())));
        let not_ended = tracked.not_ended(live);
        if let (Phase::Terminating { deadline, .. }, false) = (&mut tracked.phase, not_ended.is_empty()) {
            *deadline = limit.min(*deadline);
            self.acts.push(tracked.end(not_ended));
        }
    }

    /// Once all commands have ended, or were waited for long enough: the tasks get their states, all in this
    /// transaction, and the cleaner its work.
    fn settle(&mut self, tx: &Connection, live: &mut [LiveJob], at: usize, now: i64) -> Result<()> {
        let mut tracked = self.tracked[at].clone();
        let Phase::Terminating { deadline, closed } = tracked.phase else { return Ok(()) };
        let not_ended = tracked.not_ended(live);
        if !not_ended.is_empty() && Instant::now() < deadline {
            return Ok(());
        }
        if !not_ended.is_empty() && !closed {
            // Runner or helper did not answer. Once the connection is closed, the task's thread at least has its end.
            self.acts.push(Act::Close(not_ended));
            self.tracked[at].phase = Phase::Terminating { deadline: Instant::now() + MARGIN, closed: true };
            return Ok(());
        }
        failpoint::hit("cancel.ended");
        let Some(job) = live.iter_mut().find(|job| job.id == tracked.job) else { return Ok(()) };
        let mut of_tasks: Vec<Runner> = Vec::new();
        for &task in &tracked.running {
            runners::ended_by(tx, tracked.id, task)?;
            of_tasks.extend(runners::of_task(tx, task)?);
        }
        let ended = runners::of_cancellation(tx, tracked.id)?;
        self.tell_signals(tx, &tracked, &ended, closed, now)?;
        // Who did not say how it ended has left nothing, for all we know; but we do not know.
        let mut wrong: Vec<String> = ended.iter().filter_map(told::trouble).collect();
        for task in job.tasks.iter_mut().filter(|task| not_ended.contains(&task.id)) {
            task.abandoned = true;
            wrong.push(format!("task {} did not end in time: what it works on waits until it has", task.id));
        }
        let what = std::iter::once(told::ended(&ended)).chain(wrong.iter().cloned()).collect::<Vec<_>>().join("; ");
        self.step(tx, &mut tracked, Step::Terminate, wrong.is_empty(), what, now)?;
        cancellations::begin_step(tx, tracked.id, Step::Settle, now)?;
        for fate in &tracked.fates {
            settle_task(tx, job, &tracked, fate, now)?;
        }
        failpoint::hit("cancel.settling");
        let settled = told::settled(&tracked.fates);
        self.step(tx, &mut tracked, Step::Settle, true, settled, now)?;
        cancellations::begin_step(tx, tracked.id, Step::Clean, now)?;
        let ran = || job.tasks.iter().filter(|task| tracked.running.contains(&task.id));
        let servers = ran().filter_map(|task| task.server).collect();
        let changed = ran().filter(|task| task.kind.as_ref().is_ok_and(|kind| kind.changes_unit()));
        let look = changed.filter_map(|task| task.server).collect();
        self.acts.push(Act::CleanUp(CleanUp {
            id: tracked.id,
            runners: of_tasks,
            servers,
            look,
            pauses: self.pauses.clone(),
        }));
        tracked.phase = Phase::Checking { deadline: Instant::now() + CHECKING + self.pauses.total() };
        self.tracked[at] = tracked;
        Ok(())
    }

    /// Once the cleaner has reported: the record is completed, and a job that was meant as a whole has its end.
    fn conclude(
        &mut self,
        tx: &Connection,
        live: &mut Vec<LiveJob>,
        outcome: &mut Outcome,
        at: usize,
        now: i64,
    ) -> Result<()> {
        let mut tracked = self.tracked[at].clone();
        let Phase::Checking { deadline } = tracked.phase else { return Ok(()) };
        if self.waits_for_others(&tracked) {
            return Ok(());
        }
        let report = match self.reports.iter().position(|report| report.id == tracked.id) {
            Some(at) => self.reports.swap_remove(at),
            None if Instant::now() >= deadline => {
                // Nobody has seen whether a command that was lost is gone.
                let lost = runners::of_cancellation(tx, tracked.id)?.into_iter().filter(|runner| runner.tree.is_none());
                Report { left: lost.map(|runner| runner.id).collect(), ..cleaner::given_up(tracked.id, now) }
            }
            None => return Ok(()),
        };
        let (cleaned, detail) = split(report.cleaned);
        self.step(tx, &mut tracked, Step::Clean, cleaned, detail, report.cleaned_at)?;
        let (verified, detail) = split(report.verified);
        self.step(tx, &mut tracked, Step::Verify, verified, detail, now)?;
        for row in report.left {
            runners::set_tree(tx, row, true)?;
        }
        for (server, observed) in &report.observed {
            outcome.news.extend(observe::record(tx, *server, observed, &Cause::Job(tracked.job, &tracked.who))?);
        }
        let by = told::by(&tracked.who, &tracked.why);
        let found = live.iter().position(|job| job.id == tracked.job);
        let ended = match (tracked.task, found) {
            (None, Some(found)) => {
                let job = live.remove(found);
                if !jobs::cancel(tx, job.id, JobState::Cancelling, &format!("cancelled {by}"), now)? {
                    tracing::warn!(job_id = job.id.0, "job {} was not ours to cancel any more", job.id);
                }
                let detail = told::settled(&tracked.fates);
                events::add(tx, now, &tracked.event("job.cancelled", None, job.only_server(), &detail))?;
                outcome.leave_servers(tx, &job, now)?;
                outcome.finished.push(Finished::of(&job, JobState::Cancelled, 1, Some(by.clone())));
                format!("job {} cancelled {by}{}", job.id, told::left_stopped(&job))
            }
            (task, found) => {
                if let Some(found) = found {
                    live[found].cancellations = live[found].cancellations.saturating_sub(1);
                }
                let task = task.map_or_else(String::new, |task| format!("task {task} of "));
                format!("{task}job {} cancelled {by}", tracked.job)
            }
        };
        failpoint::hit("cancel.finishing");
        self.step(tx, &mut tracked, Step::Finish, true, ended.clone(), now)?;
        let (state, message) = if tracked.failed {
            (Progress::Failed, format!("{ended}, but not all could be done: see its steps"))
        } else {
            (Progress::Completed, ended)
        };
        cancellations::finish(tx, tracked.id, state, &message, now)?;
        self.tracked.retain(|other| other.id != tracked.id);
        Ok(())
    }

    /// Writes down that a step is over, and has it told.
    fn step(
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
        let ended_something = step == Step::Terminate && !tracked.running.is_empty();
        let signal = ended_something.then_some(match tracked.first {
            Cancel::Terminate => "SIGTERM",
            Cancel::Kill => "SIGKILL",
        });
        let duration_ms = (now - tracked.since).max(0);
        self.acts.push(Act::Tell(StepTold {
            job: tracked.job,
            task: tracked.task,
            cancellation: tracked.id,
            step,
            ok,
            detail,
            signal,
            duration_ms,
        }));
        tracked.since = now;
        tracked.failed |= !ok;
        Ok(())
    }

    /// Adds the journal's lines of each signal, and records a grace that was over too early.
    fn tell_signals(&mut self, tx: &Connection, of: &Tracked, ended: &[Runner], closed: bool, now: i64) -> Result<()> {
        let sent = Sent {
            job: of.job,
            cancellation: of.id,
            at: of.since,
            is_kill: of.first == Cancel::Kill,
            grace: self.grace,
            force: of.force,
            escalated_at: of.escalated_at,
        };
        if sent.has_timed_out(ended, closed, now) {
            cancellations::set_timed_out(tx, of.id)?;
        }
        let signals = ended.iter().flat_map(|runner| journal::signals(runner, &sent, now));
        self.acts.extend(signals.map(|signal| Act::Note(Entry::Signal(signal))));
        Ok(())
    }

    fn patience(&self, force: bool) -> Duration {
        let grace = if force { Duration::ZERO } else { self.grace + ladder::LINGER };
        grace + ladder::EMPTY_WAIT + MARGIN
    }
}

impl Tracked {
    /// Tasks whose commands have not ended.
    fn not_ended(&self, live: &[LiveJob]) -> Vec<TaskId> {
        let Some(job) = live.iter().find(|job| job.id == self.job) else { return Vec::new() };
        let theirs = job.tasks.iter().filter(|task| self.running.contains(&task.id));
        theirs.filter(|task| task.state == TaskState::Cancelling && !task.ended).map(|task| task.id).collect()
    }

    fn end(&self, tasks: Vec<TaskId>) -> Act {
        let how = if self.force { Cancel::Kill } else { Cancel::Terminate };
        let urgency = if self.force { ", at once" } else { "" };
        let words = format!("being cancelled{urgency} {}", told::by(&self.who, &self.why));
        Act::End { job: self.job, tasks, how, words }
    }

    fn event<'a>(
        &'a self,
        kind: &'a str,
        task: Option<TaskId>,
        server: Option<ServerId>,
        detail: &'a str,
    ) -> NewEvent<'a> {
        NewEvent { kind, actor: &self.who, job: Some(self.job), task, server, detail, reason: &self.why }
    }
}

/// One task gets the state that the cancellation has for it, unless it has an end already.
fn settle_task(tx: &Connection, job: &mut LiveJob, tracked: &Tracked, fate: &Fate, now: i64) -> Result<()> {
    if !fate::settle(tx, job, fate, tracked.scope, (&tracked.who, &tracked.why), now)? {
        return Ok(());
    }
    let (cause, task) = (fate::cause(job, fate), &job.tasks[fate.at]);
    let kind = format!("task.{}", fate.end);
    let what = task.kind.as_ref().map_or_else(Clone::clone, ToString::to_string);
    let detail = match cause {
        Some(cause) => format!("{what}: goes with task {cause}"),
        None => what,
    };
    events::add(tx, now, &tracked.event(&kind, Some(task.id), task.server, &detail))
}

fn blocked(scope: Scope) -> String {
    match scope {
        Scope::Job => "no further task of the job starts",
        Scope::Task { cascade: true, .. } => "neither the task nor what depends on it starts",
        Scope::Task { cascade: false, .. } => "the task does not start",
    }
    .to_owned()
}

fn split(result: Result<String, String>) -> (bool, String) {
    match result {
        Ok(words) => (true, words),
        Err(words) => (false, words),
    }
}
