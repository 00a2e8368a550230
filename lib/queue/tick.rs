//! The scheduler's tick, in two halves: [`Engine::settle`] records what ended; [`Engine::schedule`]
//! ends jobs, claims new ones and starts tasks. The worker calls both in one transaction, and
//! between them lets the cancellations proceed (cancel/, a higher layer). Threads start only after
//! the commit.
//!
//! The scheduler's state in memory is replaced only after the commit. If a tick fails (the database
//! is locked, the disk is full), it is tried again.

use rusqlite::Connection;

use crate::base::names::{InstanceName, JobId, TaskId};
use crate::base::{Exit, Result};
use crate::db::events::NewEvent;
use crate::db::{builds, queue, samples, servers, stale, tasks};
use crate::domain::schedule::{Candidate, Schedule};
use crate::domain::task::{Readiness, TaskKind, TaskState};
use crate::queue::active::ActiveJob;
use crate::queue::build;
use crate::queue::claim;
use crate::queue::finish::{fail_unreadable, finish_jobs};
use crate::queue::journal::Started;
use crate::queue::observe::{self, Cause};
use crate::queue::roll;
use crate::queue::slots::Slots;
use crate::queue::tick_state::{Tick, TickResult};
use crate::queue::waiting::Waiting;
use crate::queue::work::{Ended, Work};

/// What the worker remembers between ticks.
pub struct Engine {
    worker: String,
    slots: Slots,
    jobs: Vec<ActiveJob>,
    ended: Vec<Ended>,
    /// Tasks that only wait and take no slot.
    waiting: Waiting,
    /// Threads of cancelled tasks that have not ended. What they work on stays taken until they
    /// have.
    abandoned: Vec<(TaskId, Candidate)>,
}

impl Engine {
    /// Creates a worker without jobs. `worker` is its fencing name: no other run of any worker has
    /// it.
    pub fn new(worker: String, slots: Slots, waiting: Waiting) -> Self {
        Self {
            worker,
            slots,
            jobs: Vec::new(),
            ended: Vec::new(),
            waiting,
            abandoned: Vec::new(),
        }
    }

    /// Records a finished task; the next tick settles it.
    pub fn note(&mut self, ended: Ended) {
        self.ended.push(ended);
    }

    /// Threads that continue after their jobs have ended, given the jobs that are still active in
    /// `active`. They block what they work on but take no slot, so that a disk that hangs under one
    /// server does not stop the others.
    fn abandoned_by(&self, active: &[ActiveJob]) -> Vec<(TaskId, Candidate)> {
        let mut gone = self.jobs.clone();
        gone.retain(|job| !active.iter().any(|other| other.id == job.id));

        let mut all = self.abandoned.clone();
        all.extend(gone.iter().flat_map(ActiveJob::abandoned));
        all.retain(|(task, _)| !self.ended.iter().any(|ended| ended.task == *task));
        all
    }

    /// How many slots are taken.
    pub fn running_tasks(&self) -> usize {
        self.slots.taken(&self.jobs, &self.waiting)
    }

    /// Whether jobs are active, or threads continue that the worker no longer waits for.
    pub fn is_busy(&self) -> bool {
        self.has_jobs() || !self.abandoned.is_empty()
    }

    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether a tick would have something to write, apart from claims.
    pub fn has_pending(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Whether a slot is free for another job.
    pub fn has_room(&self) -> bool {
        self.running_tasks() < self.slots.count
    }

    /// What a queued job must not conflict with in order to start now; none if no job can start:
    /// the queue is paused, or no slot is free.
    pub fn could_claim(&self, connection: &Connection) -> Result<Option<Schedule>> {
        if !self.has_room() || queue::pause(connection)?.is_some() {
            return Ok(None);
        }
        claim::busy(connection, &self.abandoned).map(Some)
    }

    /// Begins a tick: records the tasks that ended since the last one.
    pub fn settle<'t>(&self, tx: &'t Connection, now: i64) -> Result<Tick<'t>> {
        let mut tick = Tick {
            tx,
            now,
            jobs: self.jobs.clone(),
            result: TickResult::default(),
        };

        for ended in &self.ended {
            write_end(&mut tick, ended)?;
        }
        Ok(tick)
    }

    /// Ends jobs, claims new ones, and starts tasks. With `stopping`, it starts nothing new and
    /// fails jobs that cannot continue.
    pub fn schedule(&self, tick: &mut Tick<'_>, stopping: bool) -> Result<()> {
        skip_unreachable(tick)?;

        // Jobs that are done free their slots before others are claimed.
        finish_jobs(tick, &self.worker, stopping)?;
        if stopping {
            return Ok(());
        }

        self.claim(tick)?;
        self.start_tasks(tick)?;

        // A claimed job with nothing to do (an unknown operation) ends at once.
        finish_jobs(tick, &self.worker, stopping)
    }

    /// Takes over the jobs of a tick that was committed.
    pub fn commit(&mut self, jobs: Vec<ActiveJob>) {
        self.abandoned = self.abandoned_by(&jobs);
        self.jobs = jobs;
        self.ended.clear();
    }

    fn claim(&self, tick: &mut Tick<'_>) -> Result<()> {
        // Ready tasks of active jobs take free slots before new jobs do.
        let wanted = self.slots.wanted(&tick.jobs, &self.waiting);
        let free = self.slots.count.saturating_sub(wanted);
        let abandoned = self.abandoned_by(&tick.jobs);

        for id in claim::claim(tick.tx, &self.worker, free, &abandoned, tick.now)? {
            match load(tick, id) {
                Ok(job) => {
                    tick.result.started.push(Started::of(&job));
                    tick.jobs.push(job);
                }
                // The database itself has failed: the whole tick is tried again.
                Err(error) if error.exit == Exit::Unavailable => return Err(error),
                Err(error) => fail_unreadable(tick, id, &self.worker, &error)?,
            }
        }

        Ok(())
    }

    /// Starts ready tasks in the order of their jobs, while slots are free. The tasks of a job that
    /// the helper does in one batch take one slot together: the helper bounds them. The input of a task is
    /// read here, so changes of a blueprint count until then.
    fn start_tasks(&self, tick: &mut Tick<'_>) -> Result<()> {
        let taken = self.slots.taken(&tick.jobs, &self.waiting);
        let mut free = self.slots.count.saturating_sub(taken);
        // Nothing is known about an unknown operation, whatever tasks its job has.
        for job in tick.jobs.iter_mut().filter(|job| job.operation.is_ok()) {
            let mut has_batch = self.slots.has_batch(job, &self.waiting);

            for at in 0..job.tasks.len() {
                // It takes no slot of its own if it joins a batch.
                let is_shared = self.slots.is_shared(&job.tasks[at]);
                let needed = usize::from(!(is_shared && has_batch));

                if needed <= free
                    && job.readiness(at) == Some(Readiness::Ready)
                    && tasks::start(tick.tx, job.tasks[at].id, tick.now)?
                {
                    job.tasks[at].state = TaskState::Running;
                    free -= needed;
                    has_batch |= is_shared;
                    let work = work(tick.tx, job, at, tick.now);
                    tick.result.to_start.push(work);
                }
            }
        }

        Ok(())
    }
}

/// Loads a job that was just claimed, with its tasks.
fn load(tick: &Tick<'_>, id: JobId) -> Result<ActiveJob> {
    let job = ActiveJob::load(tick.tx, id)?;
    let event: NewEvent<'_> = job.event("job.started", None, job.operation_name());
    tick.add_event(&event)?;
    Ok(job)
}

fn write_end(tick: &mut Tick<'_>, ended: &Ended) -> Result<()> {
    let (tx, now) = (tick.tx, tick.now);
    let finish = tasks::Finish {
        state: ended.state,
        exit_code: Some(ended.exit_code),
        error: ended.error.as_deref(),
        was_running: ended.was_running,
        answered: ended.answered,
        was_up: ended.was_up,
        interrupted: ended.interrupted,
    };

    let written = tasks::finish(tx, ended.task, &finish, now)?;
    let Some(number) = tick.jobs.iter().position(|job| job.id == ended.job) else {
        return Ok(());
    };
    let job = &mut tick.jobs[number];
    if let Some((server, observed)) = &ended.observed {
        let cause = Cause::Job(job.id, &job.requested_by);
        let report = observe::record(tx, *server, observed, &cause)?;
        tick.result.reports.extend(report);
    }

    if let Some((server, found)) = ended.stale.as_deref() {
        stale::record(tx, *server, found, now)?;
    }

    let Some(at) = job.position(ended.task) else {
        return Ok(());
    };
    let task = &mut job.tasks[at];
    if let (Some(server), Some(game)) = (task.server, ended.came_up) {
        servers::set_build(tx, server, game.build(), now)?;
    }

    // The cancellation decides the outcome of this task, or has already done so.
    if task.end_thread() {
        task.was_running = task.was_running.or(ended.was_running);
        return Ok(());
    }

    task.state = ended.state;
    task.exit_code = ended.exit_code;
    task.error.clone_from(&ended.error);
    task.was_running = ended.was_running;
    task.answered = ended.answered;
    task.interrupted = ended.interrupted;
    let (server, kind) = (task.server, task.kind.as_ref().ok().copied());

    if written {
        if let Some(server) = server {
            servers::set_last_error(tx, server, ended.error.as_deref(), now)?;
        }
        tick.add_end_event(&tick.jobs[number], at)?;
        match kind {
            Some(TaskKind::CheckBuild) => build::settle(tick, number, ended)?,
            Some(TaskKind::InstallRuntime) => build::installed(tick, ended)?,
            Some(TaskKind::PublishBuild | TaskKind::UseBuild) => {
                roll::switched(tick, number, ended)?;
            }
            Some(TaskKind::Start | TaskKind::StartIfRan) => {
                roll::started(tick, number, at, ended)?;
            }
            // It does not start, either: it stays down, and so would the next.
            Some(TaskKind::Initialize) if ended.state == TaskState::Failed => {
                roll::started(tick, number, at, ended)?;
            }
            _ => {}
        }
    }

    Ok(())
}

/// Skips tasks whose dependencies can no longer succeed. In the order of the plan, that also skips
/// the tasks that depend on them.
fn skip_unreachable(tick: &mut Tick<'_>) -> Result<()> {
    for job in 0..tick.jobs.len() {
        for at in 0..tick.jobs[job].tasks.len() {
            if tick.jobs[job].readiness(at) != Some(Readiness::Skip) {
                continue;
            }

            let why = "a task that it depends on did not succeed";
            tasks::skip(tick.tx, tick.jobs[job].tasks[at].id, why, tick.now)?;
            tick.skipped(job, at, why)?;
        }
    }

    Ok(())
}

fn work(tx: &Connection, job: &ActiveJob, at: usize, now: i64) -> Work {
    use TaskKind::{
        Initialize, InstallRuntime, PublishBuild, RemoveBuilds, Start, StartIfRan, Stop, UseBuild,
    };
    let task = &job.tasks[at];
    let kind = task.kind.as_ref().ok().copied();
    let spec = match (kind, task.server) {
        // In a restart, the stop first checks whether the server can start again; a start may have
        // to go back to an earlier build.
        (Some(Initialize | Stop | Start | StartIfRan), Some(server)) => {
            Some(servers::spec(tx, server))
        }
        _ => None,
    };

    let names = match kind {
        // Only for a message; without names it shows ids.
        Some(InstallRuntime) => servers::names(tx).unwrap_or_default(),
        _ => Vec::new(),
    };

    let stop = job
        .tasks
        .iter()
        .find(|other| other.kind == Ok(TaskKind::Stop) && other.server == task.server);

    // An interrupted update leaves its servers stopped, and its retry must start them. So for an
    // update, a server that should be running counts as one that was running.
    let rolls_out = job.operation.as_ref().is_ok_and(|one| one.rolls_out());
    let should_run = rolls_out
        && kind == Some(Stop)
        && task
            .server
            .is_some_and(|server| servers::should_run(tx, server).unwrap_or(false));

    let (last_build, answered) = match (kind, task.server) {
        (Some(Start | StartIfRan), Some(server)) => {
            let asked = stop.and_then(|stop| stop.answered);
            let since = now - samples::DAY;
            (
                servers::build(tx, server).unwrap_or_default(),
                asked
                    .unwrap_or_else(|| samples::answered_since(tx, server, since).unwrap_or(false)),
            )
        }
        _ => (None, false),
    };

    let rejected = match kind {
        Some(UseBuild | PublishBuild | RemoveBuilds) => builds::rejected(tx).unwrap_or_default(),
        _ => Vec::new(),
    };
    let stopped = match kind {
        Some(RemoveBuilds) => servers::at_rest(tx).unwrap_or_default(),
        _ => Vec::new(),
    };

    Work {
        job: job.id,
        task: task.id,
        operation: job.operation.as_ref().ok().copied(),
        options: job.options.clone(),
        kind: task.kind.clone(),
        server: task.server,
        spec,
        should_run,
        names,
        // A stop that was cancelled early has found nothing; then the desired state decides.
        was_running: stop
            .and_then(|stop| stop.was_running)
            .or_else(|| servers::should_run(tx, task.server?).ok()),
        last_build,
        answered,
        rejected: rejected.iter().map(|one| one.build).collect(),
        stopped: stopped.into_iter().map(InstanceName::from).collect(),
    }
}
