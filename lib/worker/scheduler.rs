//! The worker's loop: each tick settles what ended, advances cancellations, claims jobs and starts
//! tasks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::WorkerCli;
use super::holds::Holds;
use super::report::{Report, Reporter, spawn};
use super::wake::{Wake, WakeReason};
use crate::base::clock::Moment;
use crate::base::names::ServerId;
use crate::base::{Error, Result, clock, failpoint, notify};
use crate::cancel::cleaner::{self, CleanUp};
use crate::cancel::journal::log_queued;
use crate::cancel::tracked::Action;
use crate::cancel::tracker::Tracker;
use crate::db::{Db, cancellations, candidates, jobs, queue, runners};
use crate::host::units::Observed;
use crate::queue::clock_steps::ClockSteps;
use crate::queue::context::{Connections, WorkerContext};
use crate::queue::journal::Started;
use crate::queue::log::{self, Writer};
use crate::queue::observe::{self, StateReport};
use crate::queue::slots::Slots;
use crate::queue::tick::Engine;
use crate::queue::waiting::Waiting;
use crate::queue::wake;
use crate::queue::work::{Ended, Work};
use crate::queue::{recover, run};
use crate::wire::session::Sessions;
use crate::wire::{Cancel, Stream};

/// The pause after a tick that failed.
const RETRY: Duration = Duration::from_secs(1);

/// The pause between two STATUS lines for systemd.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// How much longer than the grace a stopping worker waits for its commands.
pub(super) const STOP_MARGIN: Duration = Duration::from_secs(10);

pub(super) struct Scheduler {
    db: Db,
    engine: Engine,
    tracker: Tracker,
    context: WorkerContext,
    reporter: Reporter,
    reports: Receiver<Report>,
    /// What systemd reported of servers, and is not in the database yet.
    unwritten: Vec<(ServerId, Observed)>,
    /// How many observations are under way or unwritten.
    observing: usize,
    /// The jobs that wait for a condition.
    holds: Holds,
    clock: ClockSteps,
    idle: Duration,
    grace: Duration,
    /// Where the delivery of alerts is notified.
    alerts: PathBuf,
    link: PathBuf,
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
        let (sender, reports) = channel();
        let waker = wake.waker();
        let reporter = Reporter { sender, waker };
        let of_tasks = reporter.clone();
        let (log, writer) = log::start(&cli.paths.database(), move |ended| {
            of_tasks.send(Report::Ended(ended));
        })?;

        let context = WorkerContext {
            paths: Arc::new(cli.paths()),
            log,
            connections: Connections::default(),
            sessions: Sessions::default(),
            waiting: Waiting::new(wake.waker()),
            console: cli.console.console_socket.as_path().into(),
            answer_limit: Duration::from_secs(u64::from(cli.builds.answer_seconds)),
            keep_builds: usize::try_from(cli.builds.keep_builds).unwrap_or(usize::MAX),
        };

        let pauses = cli.cleaning.clean_retry_seconds.clone();
        let scheduler = Self {
            db,
            engine: Engine::new(worker_id(), Slots::of(&cli.own), context.waiting.clone()),
            tracker: Tracker::new(cli.grace.duration(), pauses),
            holds: Holds::new(cli.console.console_socket.clone(), reporter.clone()),
            context,
            reporter,
            reports,
            unwritten: Vec::new(),
            observing: 0,
            clock: ClockSteps::new(Moment::now()),
            idle: Duration::from_secs(cli.own.idle_seconds.into()),
            grace: cli.grace.duration(),
            alerts: cli.alerts.alerts_socket.clone(),
            link: cli.fleet.link_socket.clone(),
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

            let mut busy = failed || self.engine.is_busy() || self.observing > 0;
            if stopping != Stopping::No && !busy {
                return Ok(());
            }
            busy |= self.holds.is_busy();
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
                        "commands did not end in time; the next worker fails their jobs",
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
        let cancelling = self.tracker.deadline().map(until).into_iter();
        let held = self.held.then_some(STATUS_PAUSE);
        cancelling.chain(held).chain(self.holds.due()).min()
    }

    /// Collects what ended, and runs one tick of the queue. True when the database failed.
    fn tick(&mut self, stopping: bool) -> bool {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Ended(ended) => {
                    self.context.connections.forget_task(ended.task);
                    self.context.waiting.end(ended.task);
                    self.engine.note(ended);
                }
                Report::CleanedUp(report) => self.tracker.add_report(report),
                Report::Observed(server, observed) => self.unwritten.push((server, observed)),
                Report::Answered(answer) => self.holds.answered(answer),
                Report::Warned(job, failures) => self.holds.warned(job, failures),
            }
        }

        let clock = self.clock.apply(&mut self.db, Moment::now());
        let result = clock
            .and_then(|()| self.write_observations())
            .and_then(|()| self.log_queued_cancellations())
            .and_then(|()| match stopping {
                true => Ok(()),
                false => self.holds.look(&mut self.db, &self.engine),
            })
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
        let (jobs, result, actions) = self.db.write(|tx| {
            let mut tick = self.engine.settle(tx, now)?;
            let actions = tracker.advance(&mut tick)?;
            self.engine.schedule(&mut tick, stopping)?;
            Ok((tick.jobs, tick.result, actions))
        })?;

        // What is kept in memory changes only now: a tick that failed is tried again.
        self.engine.commit(jobs);
        self.tracker = tracker;

        self.run_actions(actions);
        result.started.iter().for_each(Started::log);
        for ended in &result.finished {
            ended.log();
            self.context.log.forget(ended.job);
        }

        result.reports.iter().for_each(StateReport::log);
        if !result.finished.is_empty() || !result.reports.is_empty() {
            self.wake_alerts();
        } else if !result.started.is_empty() {
            wake::link_for_news(self.db.connection(), &self.link);
        }
        for work in result.to_start {
            self.start_task(work);
        }

        self.observe(result.recheck);

        // Not earlier: what is committed has to be started, even if this query fails.
        self.held = !runners::left(self.db.connection())?.is_empty();
        Ok(())
    }

    /// After a commit that may have filled the outbox of alerts, and has events for a fleet.
    pub(super) fn wake_alerts(&self) {
        wake::alerts(self.db.connection(), &self.alerts);
        wake::link_for_news(self.db.connection(), &self.link);
    }

    fn has_work(&self, stopping: bool) -> Result<bool> {
        Ok(cancellations::any_live(self.db.connection())?
            || self.engine.has_pending()
            || self.context.waiting.take_freed_slot()
            || if stopping {
                self.engine.has_jobs()
            } else {
                self.engine.has_room() && self.any_claimable()?
            })
    }

    /// Whether a job could be claimed if no other one is in its way.
    fn any_claimable(&self) -> Result<bool> {
        let connection = self.db.connection();
        Ok(jobs::any_ready(connection)?
            || !candidates::confirmed(connection, clock::now_ms())?.is_empty())
    }

    /// Runs the actions of the cancellations, now that the tick is committed.
    fn run_actions(&mut self, actions: Vec<Action>) {
        for action in actions {
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
                        self.context.note(job, task, Stream::Stderr, &message);
                    }

                    self.context.connections.end(&tasks, how);
                    failpoint::hit("cancel.signalled");
                }
                Action::CloseConnections(tasks) => self.context.connections.close(&tasks),
                Action::CleanUp(work) => {
                    failpoint::hit("cancel.settled");
                    self.clean_up(work);
                }
                Action::Log(message) => {
                    message.log();
                    if message.is_last() {
                        failpoint::hit("cancel.finished");
                    }
                }
            }
        }
    }

    fn clean_up(&mut self, work: CleanUp) {
        let id = work.id;
        let reporter = self.reporter.clone();
        let paths = Arc::clone(&self.context.paths);
        let clean = move || {
            let report = cleaner::clean_up(&work, &paths.root, &paths.helper);
            reporter.send(Report::CleanedUp(report));
        };

        if spawn("clean-up".to_owned(), clean).is_err() {
            let report = cleaner::timed_out(id, clock::now_ms());
            self.tracker.add_report(report);
        }
    }

    /// Whether a job waits that could run: exiting now would leave it behind.
    fn has_claimable(&self) -> bool {
        let connection = self.db.connection();
        if cancellations::any_live(connection).unwrap_or(true) {
            return true;
        }
        let is_paused = || queue::pause(connection).is_ok_and(|pause| pause.is_some());
        self.any_claimable().unwrap_or(true) && !is_paused()
    }

    fn start_task(&self, work: Work) {
        let context = self.context.clone();
        let (job, task) = (work.job, work.task);
        let started = spawn(format!("task-{task}"), move || run::run(&context, &work));
        if let Err(error) = started {
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
        let reporter = self.reporter.clone();
        let observe = move || {
            for server in servers {
                let observed = Observed::ask(&helper, &server.into());
                reporter.send(Report::Observed(server, observed));
            }
        };

        if spawn("observe".to_owned(), observe).is_ok() {
            self.observing += count;
        }
    }

    fn write_observations(&mut self) -> Result<()> {
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
        if !reports.is_empty() {
            self.wake_alerts();
        }
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
