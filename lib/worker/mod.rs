//! left4me-worker: claims jobs, runs their tasks, writes down what happens, and leaves when there is nothing to do. It
//! spawns nothing and talks to nobody but the database, the helper and the runner.

mod wake;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::{CommandFactory as _, Parser};
use nix::sys::stat::{Mode, umask};

use crate::base::clock::Moment;
use crate::base::config::{CleanRetry, Grace, HandSockets, Logging, Paths, WorkerSettings, WorkerSocket, parse};
use crate::base::names::ServerId;
use crate::base::{Error, Result, clock, failpoint, journal, lock, notify, undumpable, users};
use crate::cancel;
use crate::cancel::cleaner::{self, CleanUp, Report};
use crate::cancel::tracker::{Act, Tracker};
use crate::db::{Db, cancellations, jobs, queue, runners};
use crate::host::instance;
use crate::host::units::Observed;
use crate::queue::hands::{Connections, Hands, Places};
use crate::queue::journal::Started;
use crate::queue::log::{self, Writer};
use crate::queue::observe::{self, News};
use crate::queue::recover::{self, wait_for_the_dead};
use crate::queue::run;
use crate::queue::settling::Settling;
use crate::queue::steps::Steps;
use crate::queue::turn::Engine;
use crate::queue::work::{Ended, Work};
use crate::wire::{Cancel, Stream};
use wake::{Bell, Event, Wake};

/// After a turn that failed, the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Between two STATUS lines for systemd.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// How much longer than the grace a stopping worker waits for its commands.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Run the jobs of the queue
///
/// left4me-worker.socket starts it. Run by hand, it serves the same queue in the foreground.
#[derive(Parser)]
#[command(name = "left4me-worker", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    hands: HandSockets,
    #[command(flatten)]
    grace: Grace,
    #[command(flatten)]
    cleaning: CleanRetry,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    own: WorkerSettings,
}

const EXAMPLES: &str = "Examples:\n  systemctl start left4me-worker.socket      the usual way: each enqueue wakes it\n  left4me-worker --idle-seconds 0            in the foreground, until the queue is empty";

impl Cli {
    fn places(&self) -> Places {
        Places {
            root: self.paths.root.clone(),
            helper: self.hands.helper_socket.clone(),
            runner: self.hands.runner_socket.clone(),
        }
    }
}

/// The program's command line, for its manual page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<Cli>();
    journal::start(cli.logging.log);
    journal::exit_code(serve(&cli))
}

/// The story: take the poke, take the lock, mend, work, leave.
fn serve(cli: &Cli) -> Result<()> {
    // The poke is read before anything can fail: a datagram left in the socket would start us again and again.
    let mut wake = Wake::open(&cli.worker.worker_socket)?;
    let database = cli.paths.database();
    // By hand, as root: what is written must belong to whom the data belongs to.
    users::drop_root(&database)?;
    umask(Mode::from_bits_truncate(instance::UMASK));
    let mut db = Db::open(&database)?;
    let _lock = lock::take(&database, "worker")?;
    db.stay()?;
    wake.listen(&cli.worker.worker_socket, &database)?;

    notify::ready("starting");
    let dead = recover::look(&db)?;
    let patience = cli.grace.duration() + STOP_MARGIN;
    let left = wait_for_the_dead(&dead, patience, notify::watchdog);
    for runner in &left {
        let unit = runner.unit.as_deref().unwrap_or("a command");
        tracing::error!("{unit} still has processes of a dead worker's command: what it works on waits for its end");
    }
    recover::lose(&mut db, &dead.runners, &left, clock::now_ms())?;
    let mut servers = dead.servers;
    let pauses = &cli.cleaning.clean_retry_seconds;
    loop {
        let (cancelled, look) = cancel::recover::recover(&mut db, &cli.places(), pauses, notify::watchdog)?;
        for job in cancelled {
            tracing::warn!(job_id = job.0, "a dead worker was cancelling job {job}: it is cancelled now");
        }
        servers.extend(look);
        let recovered = recover::recover(&mut db, clock::now_ms())?;
        for (job, state) in &recovered.jobs {
            tracing::warn!(job_id = job.0, "a dead worker left job {job} behind: it is {state} now");
        }
        if !recovered.more_to_cancel {
            break;
        }
    }
    servers.sort_unstable();
    servers.dedup();

    let (mut worker, writer) = Worker::start(cli, db, &wake)?;
    worker.look_at(servers);
    // When commands would not end, their threads still hold the log: the process goes without waiting for them, and
    // whoever starts next mends what is left.
    worker.work(&mut wake)?;
    // Not STOPPING=1, unless it was told to stop: a restart of the socket passes a service over
    // that is on its way out, and then cannot start beside it.
    notify::status("leaving");
    worker.leave(writer);
    Ok(())
}

/// A server that was looked at anew, and what it was found to be.
type Looked = (ServerId, Observed);

struct Worker {
    db: Db,
    engine: Engine,
    tracker: Tracker,
    hands: Hands,
    ended: Receiver<Ended>,
    reports: (Sender<Report>, Receiver<Report>),
    looked: (Sender<Looked>, Receiver<Looked>),
    /// Looked at, and not written down yet.
    seen: Vec<Looked>,
    looking: usize,
    bell: Bell,
    steps: Steps,
    idle: Duration,
    grace: Duration,
    told: Option<Instant>,
    /// Processes that would not die, and hold what they work on.
    held: bool,
}

/// How far the worker is in leaving because it was told to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Ending { deadline: Instant, killed: bool },
}

impl Worker {
    fn start(cli: &Cli, db: Db, wake: &Wake) -> Result<(Self, Writer)> {
        let (sender, ended) = channel();
        let bell = wake.bell();
        let (log, writer) = log::start(&cli.paths.database(), move |end| {
            drop(sender.send(end));
            bell.ring();
        })?;
        let hands = Hands {
            places: Arc::new(cli.places()),
            log,
            connections: Connections::default(),
            settling: Settling::default(),
        };
        let bell = wake.bell();
        hands.settling.wake_by(move || bell.ring());
        let worker = Self {
            db,
            engine: Engine::new(worker_id(), cli.own.slots(), hands.settling.clone()),
            tracker: Tracker::new(cli.grace.duration(), cli.cleaning.clean_retry_seconds.clone()),
            hands,
            ended,
            reports: channel(),
            looked: channel(),
            seen: Vec::new(),
            looking: 0,
            bell: wake.bell(),
            steps: Steps::new(Moment::now()),
            idle: Duration::from_secs(cli.own.idle_seconds.into()),
            grace: cli.grace.duration(),
            told: None,
            // The first turn looks.
            held: true,
        };
        Ok((worker, writer))
    }

    /// Turns until it is idle for long or told to stop.
    fn work(&mut self, wake: &mut Wake) -> Result<()> {
        let mut stopping = Stopping::No;
        let mut idle_since: Option<Instant> = None;
        let watchdog = notify::watchdog_interval().unwrap_or(Duration::from_secs(3600));
        loop {
            let failed = self.turn(stopping != Stopping::No);
            // The next worker settles what the new file says of jobs; this one's commands end with
            // their connections.
            self.db.must_be_current()?;
            notify::watchdog();
            if !failed && let Err(error) = self.tell_status() {
                tracing::warn!("{error}");
            }
            let left_behind = self.engine.has_left_behind();
            let busy = failed || self.engine.running_jobs() > 0 || self.looking > 0 || left_behind;
            if stopping != Stopping::No && !busy {
                return Ok(());
            }
            idle_since = if busy { None } else { idle_since.or_else(|| Some(Instant::now())) };
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
                // Something waits that could not be claimed: a look now and then is enough.
                wait = wait.min(if left.is_zero() { STATUS_PAUSE } else { left });
            }
            if !failed {
                let due = self.tracker.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
                let due = if self.tracker.has_news() { Some(Duration::ZERO) } else { due };
                wait = due.into_iter().chain(self.held.then_some(STATUS_PAUSE)).fold(wait, Duration::min);
            }
            if let Stopping::Ending { deadline, killed } = stopping {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() && killed {
                    return Err(Error::failed("commands did not end in time; their jobs are failed at the next start"));
                }
                if left.is_zero() {
                    stopping = self.kill_all();
                }
                wait = wait.min(left);
            }
            if wake.wait(wait)? == Event::Stop {
                stopping = self.stop(stopping);
            }
        }
    }

    /// Takes in what ended, writes it down, claims and begins. True when the database did not take it.
    fn turn(&mut self, stopping: bool) -> bool {
        while let Ok(ended) = self.ended.try_recv() {
            self.hands.connections.forget_task(ended.task);
            self.hands.settling.end(ended.task);
            self.engine.note(ended);
        }
        while let Ok(report) = self.reports.1.try_recv() {
            self.tracker.note(report);
        }
        let clock = self.steps.attend(&mut self.db, Moment::now());
        let result = clock.and_then(|()| self.write_looked()).and_then(|()| self.tell_of_queued()).and_then(|()| {
            if self.held {
                self.held = recover::release(&mut self.db)?;
            }
            let something = cancellations::any_live(self.db.connection())?
                || self.engine.has_news()
                || self.hands.settling.take_changed()
                || self.tracker.has_news()
                || if stopping {
                    self.engine.running_jobs() > 0
                } else {
                    self.engine.has_room() && jobs::any_queued(self.db.connection())?
                };
            if !something {
                return Ok(());
            }
            let now = clock::now_ms();
            let mut tracker = self.tracker.clone();
            let outcome = self
                .engine
                .turn(&mut self.db, stopping, now, |tx, live, outcome| tracker.attend(tx, live, outcome, now))?;
            self.tracker = tracker;
            self.act();
            outcome.started.iter().for_each(Started::tell);
            for ended in &outcome.finished {
                ended.tell();
                self.hands.log.forget(ended.job);
            }
            outcome.news.iter().for_each(News::tell);
            for work in outcome.begin {
                self.begin(work);
            }
            self.look_at(outcome.look);
            // Not before: what is committed has to be begun, whatever this says.
            self.held = !runners::left(self.db.connection())?.is_empty();
            Ok(())
        });
        if let Err(error) = &result {
            tracing::error!("{error}; trying again");
            notify::status(&format!("waiting for the database: {error}"));
        }
        result.is_err()
    }

    /// What cancelling wants done, now that it is committed.
    fn act(&mut self) {
        for act in self.tracker.take_acts() {
            match act {
                Act::End { job, tasks, how, words } => {
                    failpoint::hit("cancel.identified");
                    // First the words: a command that obeys at once would otherwise have its end in the log before them,
                    // and the job may be over before they are.
                    for &task in &tasks {
                        self.hands.log.note(job, task, Stream::Stderr, format!("left4me: {words}"));
                    }
                    self.hands.connections.end(&tasks, how);
                    failpoint::hit("cancel.told");
                }
                Act::Close(tasks) => self.hands.connections.close(&tasks),
                Act::CleanUp(work) => {
                    failpoint::hit("cancel.settled");
                    self.clean_up(work);
                }
                Act::Note(entry) => entry.tell(),
                Act::Tell(told) => {
                    told.tell();
                    if told.is_last() {
                        failpoint::hit("cancel.finished");
                    }
                }
            }
        }
    }

    fn clean_up(&mut self, work: CleanUp) {
        let id = work.id;
        let (sender, bell, places) = (self.reports.0.clone(), self.bell.clone(), Arc::clone(&self.hands.places));
        let clean = move || {
            drop(sender.send(cleaner::clean_up(&work, &places.root, &places.helper)));
            bell.ring();
        };
        if std::thread::Builder::new().name("clean-up".to_owned()).spawn(clean).is_err() {
            self.tracker.note(cleaner::given_up(id, clock::now_ms()));
        }
    }

    /// Whether something waits that nothing holds back: leaving now would strand it.
    fn has_claimable(&self) -> bool {
        let connection = self.db.connection();
        if cancellations::any_live(connection).unwrap_or(true) {
            return true;
        }
        jobs::any_queued(connection).unwrap_or(true) && !queue::pause(connection).is_ok_and(|pause| pause.is_some())
    }

    fn begin(&self, work: Work) {
        let hands = self.hands.clone();
        let (job, task) = (work.job, work.task);
        let thread = std::thread::Builder::new().name(format!("task-{task}")).stack_size(512 * 1024);
        if let Err(error) = thread.spawn(move || run::run(&hands, &work)) {
            self.hands.log.ended(Ended::failed(job, task, format!("no thread could be started: {error}")));
        }
    }

    /// STATUS for `systemctl status`: at most once a second, because counting a long queue is not free.
    fn tell_status(&mut self) -> Result<()> {
        if self.told.is_some_and(|told| told.elapsed() < STATUS_PAUSE) {
            return Ok(());
        }
        self.told = Some(Instant::now());
        let (queued, running) = jobs::counts(self.db.connection())?;
        let paused = if queue::pause(self.db.connection())?.is_some() { ", paused" } else { "" };
        notify::status(&format!("{running} running, {queued} queued{paused}"));
        Ok(())
    }

    /// Re-reads servers whose job's worker died, or that changed during their job; one after the other, because an update
    /// may have all of them.
    fn look_at(&mut self, servers: Vec<ServerId>) {
        if servers.is_empty() {
            return;
        }
        let count = servers.len();
        let helper = self.hands.places.helper.clone();
        let (sender, bell) = (self.looked.0.clone(), self.bell.clone());
        let look = move || {
            for server in servers {
                drop(sender.send((server, Observed::ask(&helper, &server.into()))));
                bell.ring();
            }
        };
        if std::thread::Builder::new().name("look".to_owned()).spawn(look).is_ok() {
            self.looking += count;
        }
    }

    fn write_looked(&mut self) -> Result<()> {
        self.seen.extend(self.looked.1.try_iter());
        if self.seen.is_empty() {
            return Ok(());
        }
        let mut news: Vec<News> = Vec::new();
        self.db.write(|tx| {
            for (server, seen) in &self.seen {
                news.extend(observe::look(tx, *server, seen)?);
            }
            Ok(())
        })?;
        news.iter().for_each(News::tell);
        self.looking = self.looking.saturating_sub(self.seen.len());
        self.seen.clear();
        Ok(())
    }

    /// Logs the jobs that were cancelled before any worker had them: the requester may have no
    /// journal, and the worker's is where admins look.
    fn tell_of_queued(&mut self) -> Result<()> {
        if cancellations::any_for_journal(self.db.connection())? {
            let told = self.db.write(|tx| cancellations::take_for_journal(tx))?;
            told.iter().for_each(cancel::journal::before_execution);
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
        tracing::info!("told to stop: ending {} running tasks", self.engine.running_tasks());
        notify::stopping("ending running commands");
        self.hands.connections.end_all(Cancel::Terminate);
        Stopping::Ending { deadline: Instant::now() + self.grace + STOP_MARGIN, killed: false }
    }

    fn kill_all(&mut self) -> Stopping {
        self.hands.connections.end_all(Cancel::Kill);
        Stopping::Ending { deadline: Instant::now() + STOP_MARGIN, killed: true }
    }

    fn leave(self, writer: Writer) {
        let Self { db, hands, .. } = self;
        drop(hands);
        writer.finish(true);
        db.checkpoint();
    }
}

/// A name that no other run of a worker has: it fences the jobs that this one claims.
fn worker_id() -> String {
    format!("{}-{}", std::process::id(), clock::now_ms())
}
