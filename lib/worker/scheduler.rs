//! The worker's loop: each tick settles what ended, advances cancellations, claims jobs and starts
//! tasks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::WorkerCli;
use super::wake::{Wake, WakeReason, Waker};
use crate::base::clock::Moment;
use crate::base::names::ServerId;
use crate::base::{Error, Result, clock, failpoint, notify};
use crate::cancel::action::Action;
use crate::cancel::cleaner::{self, CleanUp, CleanUpReport};
use crate::cancel::journal::log_queued;
use crate::cancel::tracker::Tracker;
use crate::db::{Db, cancellations, jobs, queue, runners};
use crate::host::units::Observed;
use crate::queue::context::{Connections, WorkerContext};
use crate::queue::journal::Started;
use crate::queue::log::{self, Writer};
use crate::queue::observe::{self, StateReport};
use crate::queue::settling::Settling;
use crate::queue::steps::Steps;
use crate::queue::tick::Engine;
use crate::queue::work::{Ended, Work};
use crate::queue::{recover, run};
use crate::wire::{Cancel, Stream};

/// The pause after a tick that failed.
const RETRY: Duration = Duration::from_secs(1);

/// The pause between two STATUS lines for systemd.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// How much longer than the grace a stopping worker waits for its commands.
pub(super) const STOP_MARGIN: Duration = Duration::from_secs(10);

/// A server and what systemd reported of it.
type Observation = (ServerId, Observed);

pub(super) struct Scheduler {
    db: Db,
    engine: Engine,
    tracker: Tracker,
    context: WorkerContext,
    ended: Receiver<Ended>,
    reports: (Sender<CleanUpReport>, Receiver<CleanUpReport>),
    observations: (Sender<Observation>, Receiver<Observation>),
    /// Received, but not in the database yet.
    unwritten: Vec<Observation>,
    /// How many observations are under way or unwritten.
    observing: usize,
    waker: Waker,
    steps: Steps,
    idle: Duration,
    grace: Duration,
    /// When STATUS was sent last.
    status_sent: Option<Instant>,
    /// Processes that could not be killed hold what they work on.
    held: bool,
}

/// Whether a signal stops the worker, and how far that is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Ending { deadline: Instant, killed: bool },
}

impl Scheduler {
    pub(super) fn start(cli: &WorkerCli, db: Db, wake: &Wake) -> Result<(Self, Writer)> {
        let (sender, ended) = channel();
        let waker = wake.waker();
        let (log, writer) = log::start(&cli.paths.database(), move |end| {
            drop(sender.send(end));
            waker.wake();
        })?;

        let context = WorkerContext {
            paths: Arc::new(cli.paths()),
            log,
            connections: Connections::default(),
            settling: Settling::default(),
        };

        let waker = wake.waker();
        context.settling.wake_by(move || waker.wake());

        let pauses = cli.cleaning.clean_retry_seconds.clone();
        let scheduler = Self {
            db,
            engine: Engine::new(worker_id(), cli.own.slots(), context.settling.clone()),
            tracker: Tracker::new(cli.grace.duration(), pauses),
            context,
            ended,
            reports: channel(),
            observations: channel(),
            unwritten: Vec::new(),
            observing: 0,
            waker: wake.waker(),
            steps: Steps::new(Moment::now()),
            idle: Duration::from_secs(cli.own.idle_seconds.into()),
            grace: cli.grace.duration(),
            status_sent: None,
            // The first tick finds out.
            held: true,
        };

        Ok((scheduler, writer))
    }

    /// Ticks until the worker was idle for long enough, or a signal stopped it.
    pub(super) fn run(&mut self, wake: &mut Wake) -> Result<()> {
        let mut stopping = Stopping::No;
        let mut idle_since: Option<Instant> = None;
        let watchdog = notify::watchdog_interval().unwrap_or(Duration::from_secs(3600));

        loop {
            let failed = self.tick(stopping != Stopping::No);
            // When the database file was replaced, this worker exits: its commands end with their
            // connections, and the next worker recovers the jobs of the new file.
            self.db.must_be_current()?;
            notify::watchdog();
            if !failed && let Err(error) = self.send_status() {
                tracing::warn!("{error}");
            }

            let has_jobs = self.engine.running_jobs() > 0 || self.engine.has_left_behind();
            let busy = failed || has_jobs || self.observing > 0;
            if stopping != Stopping::No && !busy {
                return Ok(());
            }
            idle_since = if busy {
                None
            } else {
                idle_since.or_else(|| Some(Instant::now()))
            };

            let mut wait = if failed {
                RETRY
            } else if busy {
                watchdog.min(STATUS_PAUSE)
            } else {
                watchdog
            };

            if let Some(since) = idle_since {
                let left = self.idle.saturating_sub(since.elapsed());
                if left.is_zero() && !wake.is_pending() && !self.has_claimable() {
                    return Ok(());
                }
                // A job waits that could not be claimed: it is enough to check now and then.
                wait = wait.min(if left.is_zero() { STATUS_PAUSE } else { left });
            }

            if !failed {
                wait = self.time_to_next_tick().map_or(wait, |due| due.min(wait));
            }

            if let Stopping::Ending { deadline, killed } = stopping {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() && killed {
                    return Err(Error::failed(
                        "commands did not end in time; their jobs are failed at the next start",
                    ));
                }

                if left.is_zero() {
                    stopping = self.kill_all();
                }
                wait = wait.min(left);
            }

            if wake.wait(wait)? == WakeReason::Stop {
                stopping = self.stop(stopping);
            }
        }
    }

    /// When a tick is due although nothing happens.
    fn time_to_next_tick(&self) -> Option<Duration> {
        let until = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let cancelling = match self.tracker.has_pending() {
            true => Some(Duration::ZERO),
            false => self.tracker.deadline().map(until),
        };

        cancelling
            .into_iter()
            .chain(self.held.then_some(STATUS_PAUSE))
            .min()
    }

    /// Collects what ended, and runs one tick of the queue. True when the database failed.
    fn tick(&mut self, stopping: bool) -> bool {
        while let Ok(ended) = self.ended.try_recv() {
            self.context.connections.forget_task(ended.task);
            self.context.settling.end(ended.task);
            self.engine.note(ended);
        }

        while let Ok(report) = self.reports.1.try_recv() {
            self.tracker.add_report(report);
        }

        let clock = self.steps.attend(&mut self.db, Moment::now());
        let result = clock
            .and_then(|()| self.write_observations())
            .and_then(|()| self.log_queued_cancellations())
            .and_then(|()| self.run_queue(stopping));
        if let Err(error) = &result {
            tracing::error!("{error}; trying again");
            notify::status(&format!("waiting for the database: {error}"));
        }

        result.is_err()
    }

    /// Settles, claims and starts in one transaction; acts on it after the commit.
    fn run_queue(&mut self, stopping: bool) -> Result<()> {
        if self.held {
            self.held = recover::release(&mut self.db)?;
        }
        if !self.has_work(stopping)? {
            return Ok(());
        }

        let now = clock::now_ms();
        let mut tracker = self.tracker.clone();
        let outcome = self
            .engine
            .tick(&mut self.db, stopping, now, |tx, active, outcome| {
                tracker.advance(tx, active, outcome, now)
            })?;
        self.tracker = tracker;

        self.run_actions();
        outcome.started.iter().for_each(Started::log);
        for ended in &outcome.finished {
            ended.log();
            self.context.log.forget(ended.job);
        }

        outcome.reports.iter().for_each(StateReport::log);
        for work in outcome.begin {
            self.start_task(work);
        }

        self.observe(outcome.recheck);

        // Not earlier: what is committed has to be started, even if this query fails.
        self.held = !runners::left(self.db.connection())?.is_empty();
        Ok(())
    }

    fn has_work(&self, stopping: bool) -> Result<bool> {
        Ok(cancellations::any_live(self.db.connection())?
            || self.engine.has_pending()
            || self.context.settling.take_changed()
            || self.tracker.has_pending()
            || if stopping {
                self.engine.running_jobs() > 0
            } else {
                self.engine.has_room() && jobs::any_queued(self.db.connection())?
            })
    }

    /// Runs the actions of the cancellations, now that the tick is committed.
    fn run_actions(&mut self) {
        for action in self.tracker.take_actions() {
            match action {
                Action::EndCommands {
                    job,
                    tasks,
                    how,
                    message,
                } => {
                    failpoint::hit("cancel.identified");
                    // The log line comes first: a command that ends at once would otherwise log its
                    // end before it, and the job could be over by then.
                    for &task in &tasks {
                        let line = format!("left4me: {message}");
                        self.context.log.note(job, task, Stream::Stderr, line);
                    }

                    self.context.connections.end(&tasks, how);
                    failpoint::hit("cancel.signalled");
                }
                Action::CloseConnections(tasks) => self.context.connections.close(&tasks),
                Action::CleanUp(work) => {
                    failpoint::hit("cancel.settled");
                    self.clean_up(work);
                }
                Action::Log(message) => message.log(),
                Action::LogStep(step) => {
                    step.log();
                    if step.is_last() {
                        failpoint::hit("cancel.finished");
                    }
                }
            }
        }
    }

    fn clean_up(&mut self, work: CleanUp) {
        let id = work.id;
        let (sender, waker) = (self.reports.0.clone(), self.waker.clone());
        let paths = Arc::clone(&self.context.paths);

        let clean = move || {
            drop(sender.send(cleaner::clean_up(&work, &paths.root, &paths.helper)));
            waker.wake();
        };

        if std::thread::Builder::new()
            .name("clean-up".to_owned())
            .spawn(clean)
            .is_err()
        {
            self.tracker
                .add_report(cleaner::timed_out(id, clock::now_ms()));
        }
    }

    /// Whether a job waits that could run: exiting now would leave it behind.
    fn has_claimable(&self) -> bool {
        let connection = self.db.connection();
        if cancellations::any_live(connection).unwrap_or(true) {
            return true;
        }
        let is_paused = || queue::pause(connection).is_ok_and(|pause| pause.is_some());
        jobs::any_queued(connection).unwrap_or(true) && !is_paused()
    }

    fn start_task(&self, work: Work) {
        let context = self.context.clone();
        let (job, task) = (work.job, work.task);
        let thread = std::thread::Builder::new()
            .name(format!("task-{task}"))
            .stack_size(512 * 1024);

        if let Err(error) = thread.spawn(move || run::run(&context, &work)) {
            let error = format!("no thread could be started: {error}");
            self.context.log.ended(Ended::failed(job, task, error));
        }
    }

    /// STATUS for `systemctl status`: at most once a second, because counting a long queue is slow.
    fn send_status(&mut self) -> Result<()> {
        if self
            .status_sent
            .is_some_and(|sent| sent.elapsed() < STATUS_PAUSE)
        {
            return Ok(());
        }
        self.status_sent = Some(Instant::now());

        let (queued, running) = jobs::counts(self.db.connection())?;
        let paused = if queue::pause(self.db.connection())?.is_some() {
            ", paused"
        } else {
            ""
        };

        notify::status(&format!("{running} running, {queued} queued{paused}"));
        Ok(())
    }

    /// Checks servers whose worker died, or that changed during their job. One after the other: an
    /// update may return all servers.
    pub(super) fn observe(&mut self, servers: Vec<ServerId>) {
        if servers.is_empty() {
            return;
        }

        let count = servers.len();
        let helper = self.context.paths.helper.clone();
        let (sender, waker) = (self.observations.0.clone(), self.waker.clone());

        let observe = move || {
            for server in servers {
                drop(sender.send((server, Observed::ask(&helper, &server.into()))));
                waker.wake();
            }
        };

        if std::thread::Builder::new()
            .name("observe".to_owned())
            .spawn(observe)
            .is_ok()
        {
            self.observing += count;
        }
    }

    fn write_observations(&mut self) -> Result<()> {
        self.unwritten.extend(self.observations.1.try_iter());
        if self.unwritten.is_empty() {
            return Ok(());
        }

        let mut reports: Vec<StateReport> = Vec::new();
        self.db.write(|tx| {
            for (server, observed) in &self.unwritten {
                reports.extend(observe::record_outside(tx, *server, observed)?);
            }
            Ok(())
        })?;

        reports.iter().for_each(StateReport::log);
        self.observing = self.observing.saturating_sub(self.unwritten.len());
        self.unwritten.clear();
        Ok(())
    }

    /// Logs the jobs that were cancelled while they were queued. The requester may have no journal,
    /// and admins look into the worker's.
    fn log_queued_cancellations(&mut self) -> Result<()> {
        if cancellations::any_for_journal(self.db.connection())? {
            let records = self.db.write(|tx| cancellations::take_for_journal(tx))?;
            records.iter().for_each(log_queued);
        }
        Ok(())
    }

    /// The first SIGTERM ends the commands, the second kills them.
    fn stop(&mut self, stopping: Stopping) -> Stopping {
        match stopping {
            Stopping::No => {}
            Stopping::Ending { killed: false, .. } => return self.kill_all(),
            Stopping::Ending { killed: true, .. } => return stopping,
        }

        tracing::info!(
            "stopping: ending {} running tasks",
            self.engine.running_tasks()
        );

        notify::stopping("ending running commands");
        self.context.connections.end_all(Cancel::Terminate);
        Stopping::Ending {
            deadline: Instant::now() + self.grace + STOP_MARGIN,
            killed: false,
        }
    }

    fn kill_all(&mut self) -> Stopping {
        self.context.connections.end_all(Cancel::Kill);
        Stopping::Ending {
            deadline: Instant::now() + STOP_MARGIN,
            killed: true,
        }
    }

    pub(super) fn finish(self, writer: Writer) {
        let Self { db, context, .. } = self;
        drop(context);
        writer.finish(true);
        db.checkpoint();
    }
}

/// A unique name for this run of the worker. It marks the jobs that this run claims.
fn worker_id() -> String {
    format!("{}-{}", std::process::id(), clock::now_ms())
}
