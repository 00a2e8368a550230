//! A wish to cancel: checked and written down in one transaction. What is queued ends right there; what runs is the
//! worker's, who is to be poked after this.

use rusqlite::Connection;

use crate::base::names::{CancellationId, JobId, TaskId};
use crate::base::{Error, Result};
use crate::cancel::result::{self, CancelResult};
use crate::cancel::{fate, told};
use crate::db::cancellations::{self, Cancellation, New};
use crate::db::events::{self, NewEvent};
use crate::db::jobs::{self, Job};
use crate::db::{Db, logs};
use crate::domain::cancellation::{Fate, Progress, Scope, Step, fates};
use crate::domain::job::JobState;
use crate::domain::task::TaskState;
use crate::queue::live::LiveJob;
use crate::queue::observe::{self, Cause};
use crate::wire::Stream;

/// A wish.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The job.
    pub job: JobId,
    /// Only this task of it.
    pub task: Option<TaskId>,
    /// Kill at once, without asking first.
    pub force: bool,
    /// What depends on the task goes with it.
    pub cascade: bool,
    /// Why; empty when nobody says.
    pub reason: &'a str,
    /// Who asks.
    pub requested_by: &'a str,
}

/// Writes the wish down. Asking again for what is being cancelled is answered with the same record, which `force`
/// escalates. What has ended already is told by a result without success and without a record: nothing was written.
///
/// # Errors
/// 3 for an unknown job, or a task that is not one of its; 69 when the database cannot be written.
pub fn request(db: &mut Db, wish: &Wish<'_>, now: i64) -> Result<CancelResult> {
    db.write(|tx| {
        let job = jobs::get(tx, wish.job)?;
        let task = wish.task.map(|id| task_state(&job, id)).transpose()?;
        if let Some(live) = live_for(tx, wish)? {
            return repeat(tx, wish, &live, now);
        }
        if job.state.is_terminal() || task.is_some_and(|(_, state)| state.is_terminal()) {
            return Ok(CancelResult::already_finished(&job, task));
        }
        let new = New {
            job: job.id,
            task: wish.task,
            requested_by: wish.requested_by,
            reason: wish.reason,
            force: wish.force,
            cascade: wish.cascade,
            previous_state: task.map_or_else(|| job.state.as_str(), |(_, state)| state.as_str()),
        };
        let id = cancellations::insert(tx, &new, now)?;
        if job.state == JobState::Queued {
            settle_queued(tx, wish, id, now)?;
        } else {
            if wish.task.is_none() && job.state == JobState::Running && !jobs::set_cancelling(tx, job.id, now)? {
                return Err(Error::conflict(format!("job {} is not running any more: ask again", job.id)));
            }
            tell(tx, wish, being_cancelled(wish), if wish.force { "forced" } else { "" }, now)?;
        }
        result::of(tx, id)
    })
}

fn task_state(job: &Job, id: TaskId) -> Result<(TaskId, TaskState)> {
    let found = job.tasks.iter().find(|task| task.id == id);
    found.map(|task| (id, task.state)).ok_or_else(|| {
        Error::not_found(format!("job {} has no task {id}: `left4me-job show {}` lists its tasks", job.id, job.id))
    })
}

/// The cancellation that is under way already: of the whole job, or of the same task.
fn live_for(tx: &Connection, wish: &Wish<'_>) -> Result<Option<Cancellation>> {
    match (cancellations::live_of(tx, wish.job, None)?, wish.task) {
        (None, Some(_)) => cancellations::live_of(tx, wish.job, wish.task),
        (found, _) => Ok(found),
    }
}

/// The same wish again: one record. A force that it did not have yet counts from now on.
fn repeat(tx: &Connection, wish: &Wish<'_>, live: &Cancellation, now: i64) -> Result<CancelResult> {
    // Who wants one task killed does not want that for all of the job.
    if wish.force && wish.task == live.task_id && cancellations::escalate(tx, live.id, now)? {
        tell(tx, wish, being_cancelled(wish), "escalated: what runs is killed", now)?;
    }
    result::of(tx, live.id)
}

fn being_cancelled(wish: &Wish<'_>) -> &'static str {
    if wish.task.is_some() { "task.cancelling" } else { "job.cancelling" }
}

fn tell(tx: &Connection, wish: &Wish<'_>, kind: &str, detail: &str, now: i64) -> Result<()> {
    events::add(tx, now, &event(wish, kind, detail))
}

fn event<'a>(wish: &'a Wish<'_>, kind: &'a str, detail: &'a str) -> NewEvent<'a> {
    NewEvent {
        kind,
        actor: wish.requested_by,
        job: Some(wish.job),
        task: wish.task,
        server: None,
        detail,
        reason: wish.reason,
    }
}

/// A job that has not begun: all of it in this transaction. With one task gone the others wait for their turn; when none
/// is left the job has its end.
fn settle_queued(tx: &Connection, wish: &Wish<'_>, id: CancellationId, now: i64) -> Result<()> {
    let by = told::by(wish.requested_by, wish.reason);
    let mut job = LiveJob::load(tx, wish.job)?;
    let scope = match wish.task.and_then(|task| job.position(task)) {
        Some(at) => Scope::Task { at, cascade: wish.cascade },
        None => Scope::Job,
    };
    let fates: Vec<Fate> = fates(&job.known(), scope);
    for fate in &fates {
        cancellations::touch(tx, id, job.tasks[fate.at].id, fate::cause(&job, fate))?;
        fate::settle(tx, &mut job, fate, scope, (wish.requested_by, wish.reason), now)?;
        let task = &job.tasks[fate.at];
        let (kind, detail) = (format!("task.{}", fate.end), task.error.as_deref().unwrap_or_default());
        let event = NewEvent { task: Some(task.id), server: task.server, ..event(wish, &kind, detail) };
        events::add(tx, now, &event)?;
    }
    let whole = job.tasks.iter().all(|task| task.state.is_terminal());
    if whole {
        let line = format!("cancelled before execution {by}");
        jobs::cancel(tx, wish.job, JobState::Queued, &line, now)?;
        logs::append(tx, wish.job, now, Stream::Stderr, &line)?;
        tell(tx, &Wish { task: None, ..*wish }, "job.cancelled", "before execution", now)?;
        for server in job.all_servers() {
            observe::settle(tx, server, &Cause::Job(wish.job, wish.requested_by), now)?;
        }
    }
    for step in Step::ALL {
        cancellations::begin_step(tx, id, step, now)?;
        let detail = match step {
            Step::Block if whole => "it never starts".to_owned(),
            Step::Block => "they never start".to_owned(),
            Step::Identify => format!("0 running, {} pending", fates.len()),
            Step::Settle => told::settled(&fates),
            Step::Finish if whole => "job cancelled".to_owned(),
            Step::Finish => "the job stays queued".to_owned(),
            Step::Terminate | Step::Clean | Step::Verify => "nothing had begun".to_owned(),
        };
        cancellations::end_step(tx, id, step, true, &detail, now)?;
    }
    let message = match wish.task {
        Some(task) if whole => format!("task {task} and with it job {} cancelled before execution {by}", wish.job),
        Some(task) => format!("task {task} of job {} cancelled before execution {by}", wish.job),
        None => format!("job {} cancelled before execution {by}", wish.job),
    };
    cancellations::finish(tx, id, Progress::Completed, &message, now)?;
    cancellations::leave_for_journal(tx, id)
}
