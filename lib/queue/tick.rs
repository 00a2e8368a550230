//! The scheduler's tick. One transaction settles what ended, continues or ends jobs, claims new
//! ones and starts tasks. Threads start only after the commit.
//!
//! The scheduler's state in memory is replaced only after the commit. If a tick fails (the database
//! is locked, the disk is full), it is tried again.

use rusqlite::Connection;

use crate::base::names::{JobId, TaskId};
use crate::base::{Exit, Result};
use crate::db::events::{self};
use crate::db::{Db, servers, tasks};
use crate::domain::operation::Operation;
use crate::domain::schedule::Candidate;
use crate::domain::task::{Readiness, TaskKind, TaskState};
use crate::queue::active::ActiveJob;
use crate::queue::claim;
use crate::queue::finish::{fail_unreadable, finish_jobs};
use crate::queue::journal::Started;
use crate::queue::observe::{self, Cause, StateReport};
use crate::queue::settling::Settling;
use crate::queue::tick_result::{TickResult, event};
use crate::queue::work::{Ended, Work};

/// What the worker remembers between ticks.
pub struct Engine {
    worker: String,
    slots: usize,
    jobs: Vec<ActiveJob>,
    ended: Vec<Ended>,
    /// Tasks that only wait and take no slot.
    settling: Settling,
    /// Threads of cancelled tasks that have not ended. What they work on stays taken until they
    /// have.
    left_behind: Vec<(TaskId, Candidate)>,
}

impl Engine {
    /// Creates a worker without jobs. `worker` is its fencing name: no other run of any worker has
    /// it.
    #[must_use]
    pub fn new(worker: String, slots: usize, settling: Settling) -> Self {
        Self {
            worker,
            slots,
            jobs: Vec::new(),
            ended: Vec::new(),
            settling,
            left_behind: Vec::new(),
        }
    }

    /// Records a finished task; the next tick settles it.
    pub fn note(&mut self, ended: Ended) {
        self.ended.push(ended);
    }

    /// Threads that continue after their jobs have ended, given the jobs that are still active in
    /// `active`. They block what they work on but take no slot, so that a disk that hangs under one
    /// server does not stop the others.
    fn left_behind_by(&self, active: &[ActiveJob]) -> Vec<(TaskId, Candidate)> {
        let gone = self
            .jobs
            .iter()
            .filter(|job| !active.iter().any(|other| other.id == job.id));
        let all = self
            .left_behind
            .iter()
            .cloned()
            .chain(gone.flat_map(ActiveJob::left_behind));
        all.filter(|(task, _)| !self.ended.iter().any(|ended| ended.task == *task))
            .collect()
    }

    /// How many tasks take a slot.
    #[must_use]
    pub fn running_tasks(&self) -> usize {
        running(&self.jobs, &self.settling)
    }

    /// Whether threads still work that the worker no longer waits for.
    #[must_use]
    pub fn has_left_behind(&self) -> bool {
        !self.left_behind.is_empty()
    }

    /// The number of active jobs.
    #[must_use]
    pub fn running_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Whether a tick would have something to write, apart from claims.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Whether a slot is free for another job.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.running_tasks() < self.slots
    }

    /// Runs one tick. With `stopping`, it starts nothing new and fails jobs that cannot continue.
    /// `attend` handles cancellations (cancel/ is a higher layer). It runs after the settling and
    /// before any start.
    pub fn tick(
        &mut self,
        db: &mut Db,
        stopping: bool,
        now: i64,
        mut attend: impl FnMut(&Connection, &mut Vec<ActiveJob>, &mut TickResult) -> Result<()>,
    ) -> Result<TickResult> {
        let mut active = self.jobs.clone();
        let mut result = TickResult::default();

        db.write(|tx| {
            for ended in &self.ended {
                result
                    .reports
                    .extend(write_end(tx, &mut active, ended, now)?);
            }

            attend(tx, &mut active, &mut result)?;
            for job in &mut active {
                skip_hopeless(tx, job, now)?;
            }

            // Jobs that are done free their slots before others are claimed.
            finish_jobs(tx, &mut active, &self.worker, stopping, now, &mut result)?;

            if !stopping {
                // Ready tasks of active jobs take free slots before new jobs do.
                let free = self
                    .slots
                    .saturating_sub(running(&active, &self.settling) + ready(&active));
                for id in claim::claim(tx, &self.worker, free, &self.left_behind_by(&active), now)?
                {
                    match load(tx, id, now) {
                        Ok(job) => {
                            result.started.push(Started::of(&job));
                            active.push(job);
                        }
                        // The database itself has failed: the whole tick is tried again.
                        Err(error) if error.exit == Exit::Unavailable => return Err(error),
                        Err(error) => result.finished.push(fail_unreadable(
                            tx,
                            id,
                            &self.worker,
                            &error,
                            now,
                        )?),
                    }
                }

                result.begin = begin(tx, &mut active, self.slots, &self.settling, now)?;

                // A claimed job with nothing to do (an unknown operation) ends at once.
                finish_jobs(tx, &mut active, &self.worker, stopping, now, &mut result)?;
            }

            Ok(())
        })?;

        self.left_behind = self.left_behind_by(&active);
        self.jobs = active;
        self.ended.clear();
        Ok(result)
    }
}

/// The number of tasks that take a slot.
fn running(jobs: &[ActiveJob], settling: &Settling) -> usize {
    let tasks = jobs.iter().flat_map(|job| &job.tasks);
    tasks
        .filter(|task| task.is_running() && !settling.has(task.id))
        .count()
}

/// The number of tasks that could start if there were slots.
fn ready(jobs: &[ActiveJob]) -> usize {
    jobs.iter()
        .map(|job| {
            (0..job.tasks.len())
                .filter(|&task| job.readiness(task) == Some(Readiness::Ready))
                .count()
        })
        .sum()
}

/// Loads a job that was just claimed, with its tasks.
fn load(tx: &Connection, id: JobId, now: i64) -> Result<ActiveJob> {
    let job = ActiveJob::load(tx, id)?;
    let detail = job
        .operation
        .as_ref()
        .map_or_else(String::clone, ToString::to_string);
    events::add(tx, now, &event(&job, "job.started", None, &detail))?;
    Ok(job)
}

fn write_end(
    tx: &Connection,
    active: &mut [ActiveJob],
    ended: &Ended,
    now: i64,
) -> Result<Option<StateReport>> {
    let job = active.iter_mut().find(|job| job.id == ended.job);
    if let Some(task) = job.and_then(|job| job.tasks.iter_mut().find(|task| task.id == ended.task))
        && (task.state == TaskState::Cancelling || task.state.is_terminal())
    {
        // The cancellation decides the outcome of this task, or has already done so.
        task.ended = true;
        task.was_running = task.was_running.or(ended.was_running);
    }

    let finish = tasks::Finish {
        state: ended.state,
        exit_code: Some(ended.exit_code),
        error: ended.error.as_deref(),
        was_running: ended.was_running,
    };

    let written = tasks::finish(tx, ended.task, &finish, now)?;
    let Some(job) = active.iter_mut().find(|job| job.id == ended.job) else {
        return Ok(None);
    };
    let reports = match &ended.observed {
        Some((server, observed)) => observe::record(
            tx,
            *server,
            observed,
            &Cause::Job(job.id, &job.requested_by),
        )?,
        None => None,
    };

    let Some(at) = job.position(ended.task).filter(|&at| !job.tasks[at].ended) else {
        return Ok(reports);
    };
    let task = &mut job.tasks[at];

    task.state = ended.state;
    task.exit_code = ended.exit_code;
    task.error.clone_from(&ended.error);
    task.was_running = ended.was_running;

    if written {
        if let Some(server) = task.server {
            servers::set_last_error(tx, server, ended.error.as_deref(), now)?;
        }
        record_task_end(tx, job, at, now)?;
    }

    Ok(reports)
}

/// Adds the event for the end of a task.
fn record_task_end(tx: &Connection, job: &ActiveJob, at: usize, now: i64) -> Result<()> {
    let task = &job.tasks[at];
    let kind = format!("task.{}", task.state);
    let what = task
        .kind
        .as_ref()
        .map_or_else(Clone::clone, ToString::to_string);
    let detail = task
        .error
        .as_ref()
        .map_or_else(|| what.clone(), |error| format!("{what}: {error}"));
    events::add(tx, now, &event(job, &kind, Some(task), &detail))
}

/// Skips tasks whose dependencies can no longer succeed. In the order of the plan, that also skips
/// the tasks that depend on them.
fn skip_hopeless(tx: &Connection, job: &mut ActiveJob, now: i64) -> Result<()> {
    for at in 0..job.tasks.len() {
        if job.readiness(at) == Some(Readiness::Skip) {
            let task = &mut job.tasks[at];
            let why = "a task that it depends on did not succeed";
            tasks::skip(tx, task.id, why, now)?;
            task.state = TaskState::Skipped;
            task.error = Some(why.to_owned());
            record_task_end(tx, job, at, now)?;
        }
    }

    Ok(())
}

/// Starts ready tasks in the order of their jobs, while slots are free. The input of a task is read
/// here, so changes of a blueprint count until then.
fn begin(
    tx: &Connection,
    active: &mut [ActiveJob],
    slots: usize,
    settling: &Settling,
    now: i64,
) -> Result<Vec<Work>> {
    let mut free = slots.saturating_sub(running(active, settling));
    let mut begin = Vec::new();
    // Nothing is known about an unknown operation, whatever tasks its job has.
    for job in active.iter_mut().filter(|job| job.operation.is_ok()) {
        for at in 0..job.tasks.len() {
            if free == 0 {
                return Ok(begin);
            }

            if job.readiness(at) != Some(Readiness::Ready)
                || !tasks::start(tx, job.tasks[at].id, now)?
            {
                continue;
            }

            job.tasks[at].state = TaskState::Running;
            free -= 1;
            begin.push(work(tx, job, at));
        }
    }

    Ok(begin)
}

fn work(tx: &Connection, job: &ActiveJob, at: usize) -> Work {
    let task = &job.tasks[at];
    let spec = match (&task.kind, task.server) {
        // In a restart, the stop first checks whether the server can start again.
        (Ok(TaskKind::Initialize | TaskKind::Stop), Some(server)) => {
            Some(servers::spec(tx, server))
        }
        _ => None,
    };

    let names = match task.kind {
        // Only for a message; without names it shows ids.
        Ok(TaskKind::InstallRuntime) => servers::names(tx).unwrap_or_default(),
        _ => Vec::new(),
    };

    let stop = job
        .tasks
        .iter()
        .find(|other| other.kind == Ok(TaskKind::Stop) && other.server == task.server);

    // An interrupted update leaves its servers stopped, and its retry must start them. So for an
    // update, a server that should be running counts as one that was running.
    let should_run = matches!((&job.operation, &task.kind, task.server), (Ok(Operation::Update), Ok(TaskKind::Stop), Some(server))
        if servers::should_run(tx, server).unwrap_or(false));

    Work {
        job: job.id,
        task: task.id,
        operation: job.operation.as_ref().ok().copied(),
        kind: task.kind.clone(),
        server: task.server,
        spec,
        should_run,
        names,
        // A stop that was cancelled early has found nothing; then the desired state decides.
        was_running: stop
            .and_then(|stop| stop.was_running)
            .or_else(|| servers::should_run(tx, task.server?).ok()),
    }
}
