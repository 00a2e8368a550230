//! `left4me-job monitor`: servers, jobs, the queue and a log on one screen, and the consoles of
//! games. Commits to the database trigger a redraw; there is no polling. While a job runs, its
//! duration is redrawn every second.

mod act;
mod console;
mod cursor;
mod draw;
mod input;
mod keys;
mod log;
mod send;
mod snapshot;
mod state;
mod terminal;
mod wake;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use self::act::act;
use self::draw::{Theme, draw};
use self::send::Commands;
use self::snapshot::Snapshot;
use self::state::{Action, MonitorState};
use self::terminal::Screen;
pub use self::terminal::require_terminal;
use self::wake::{Commits, Events, Wake};
use crate::base::config::ConsoleSocket;
use crate::base::names::ServerId;
use crate::base::{Result, clock, lock};
use crate::cli::Context;
use crate::db::Db;

/// The shortest time between two reloads: a busy queue has thousands of commits a second.
const RELOAD_INTERVAL: Duration = Duration::from_millis(50);
/// How often the duration of a running job is redrawn.
const TICK: Duration = Duration::from_secs(1);

/// Show servers, jobs, the queue and logs on one screen, live
#[derive(clap::Args)]
#[command(after_help = "\
Keys:
  Tab, arrows, j/k   next list; move in it. The log shown is the selected job's
  P                  pause or resume the queue
  C                  cancel the selected job, after a confirmation (F: kill at once) and a reason
  S                  start or stop the selected server, after a confirmation that names who plays;
                     W waits until nobody does
  R                  restart it, in the same way
  E                  its game's console: Enter sends a command, the arrows go through the former
                     ones, Tab completes, Esc closes
  L                  full log: / searches, n and N repeat, F follows, Esc closes
  ?                  help
  Q                  quit; jobs continue

Needs a terminal of at least 60x15. Honours NO_COLOR.")]
pub struct MonitorArgs {
    #[command(flatten)]
    console: ConsoleSocket,
}

/// The worker's state, from its lock and the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// No job is running.
    Idle,
    /// A worker runs jobs.
    Working,
    /// Jobs are marked as running, but there is no worker.
    Lost,
    /// Jobs are ready to run, but there is no worker.
    Absent,
}

/// The monitor's model: the last snapshot and the state of the screen.
struct Monitor {
    snapshot: Snapshot,
    state: MonitorState,
    worker: Worker,
    /// When to load the next snapshot; none if nothing has changed.
    reload_at: Option<Instant>,
    /// Whether the screen has to be redrawn.
    is_stale: bool,
    loaded_at: Instant,
    ticked_at: Instant,
}

/// Runs the verb; the caller has checked that there is a terminal.
pub fn run(context: &mut Context, args: &MonitorArgs) -> Result<ExitCode> {
    context.db.stay()?;
    let mut commands = Commands::new(&args.console.console_socket)?;
    let mut wake = Wake::open(context.db.path())?;
    let mut screen = Screen::enter()?;
    let mut monitor = Monitor::new();
    let theme = Theme::of_environment();

    loop {
        if monitor.reload_at.is_some_and(|due| due <= Instant::now()) {
            monitor.reload(&mut context.db, screen.rows())?;
        }
        if std::mem::take(&mut monitor.is_stale) {
            let Monitor {
                snapshot,
                state,
                worker,
                ..
            } = &mut monitor;

            screen.draw(|frame| draw(frame, snapshot, state, *worker, &theme, clock::now_ms()))?;
        }

        let replies = commands.descriptor();
        let events = wake.wait(monitor.deadline(), monitor.commits(), replies)?;
        if events.replied {
            for (server, reply) in commands.take(&mut context.db) {
                monitor.console(server, |console| console.replied(reply));
            }
        }
        if let Some(exit) = monitor.handle(events, context, &commands, &mut screen, &wake)? {
            drop(screen);
            commands.finish(&mut context.db);
            return Ok(exit);
        }
    }
}

impl Monitor {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            snapshot: Snapshot::default(),
            state: MonitorState::default(),
            worker: Worker::Idle,
            reload_at: Some(now),
            is_stale: true,
            loaded_at: now,
            ticked_at: now,
        }
    }

    /// Loads a snapshot. The worker's lock is checked before and after, because a worker that
    /// released it before the snapshot has ended its jobs, and one that started meanwhile holds it
    /// afterwards.
    fn reload(&mut self, db: &mut Db, rows: u16) -> Result<()> {
        let was_running = is_worker_running(db.path());
        let state = &mut self.state;
        self.snapshot = db.read(|tx| {
            let mut snapshot = Snapshot::read(tx, clock::now_ms())?;
            state.refresh(&snapshot);
            let selected = state.selected_job(&snapshot);
            snapshot.read_tail(tx, selected, rows)?;
            if let Some(log) = &mut state.log {
                snapshot::read_log(tx, log, draw::log_rows(rows))?;
            }

            Ok(snapshot)
        })?;

        let is_missing = was_running == Some(false) && is_worker_running(db.path()) == Some(false);
        self.worker = match (self.snapshot.live, is_missing) {
            (0, true) if self.snapshot.has_ready() && self.snapshot.pause.is_none() => {
                Worker::Absent
            }
            (0, _) => Worker::Idle,
            (_, true) => Worker::Lost,
            (_, false) => Worker::Working,
        };

        self.loaded_at = Instant::now();

        self.is_stale = true;
        // A search continues at once, after the pending keys.
        self.reload_at = self
            .state
            .log
            .as_ref()
            .is_some_and(log::Log::is_searching)
            .then_some(self.loaded_at);
        Ok(())
    }

    /// When to wake up without an event.
    fn deadline(&self) -> Option<Instant> {
        let tick = (self.snapshot.live > 0).then_some(self.ticked_at + TICK);
        [self.reload_at, tick].into_iter().flatten().min()
    }

    fn commits(&self) -> Commits {
        if self.reload_at.is_some() {
            Commits::Ignore
        } else {
            Commits::Watch
        }
    }

    /// Handles events; returns the exit code when the monitor has to end.
    fn handle(
        &mut self,
        events: Events,
        context: &mut Context,
        commands: &Commands,
        screen: &mut Screen,
        wake: &Wake,
    ) -> Result<Option<ExitCode>> {
        if events.hung_up {
            return Ok(Some(killed_by(Signal::SIGHUP)));
        }

        self.is_stale |= !events.signals.is_empty() || !events.keys.is_empty();
        for signal in events.signals {
            match signal {
                Signal::SIGWINCH => self.reload_now(),
                Signal::SIGTSTP => screen.suspend(wake.mask())?,
                Signal::SIGCONT => screen.resume()?,
                other => return Ok(Some(killed_by(other))),
            }
        }

        if events.committed {
            self.reload_at = Some(self.loaded_at + RELOAD_INTERVAL);
        }

        for key in events.keys {
            #[cfg(debug_assertions)]
            panic_for_test(&key);
            match self.state.key(&key, &self.snapshot) {
                Action::Quit => return Ok(Some(ExitCode::SUCCESS)),
                Action::Suspend => screen.suspend(wake.mask())?,
                Action::Repaint => screen.repaint()?,
                Action::Draw => {}
                Action::Reload => self.reload_now(),
                Action::Send(server, command) => {
                    let sent = commands.send(&mut context.db, server, &command, clock::now_ms());
                    if let Err(error) = sent {
                        self.console(server, |console| console.refused(&error));
                    }
                }
                action => {
                    self.state.message = act(context, &action, clock::now_ms());
                    self.reload_now();
                }
            }

            // The next key may refer to what this one brings to the screen.
            if self.reload_at.is_some_and(|due| due <= Instant::now()) {
                self.reload(&mut context.db, screen.rows())?;
            }
        }

        if self.ticked_at.elapsed() >= TICK {
            self.tick(context.db.path());
        }

        Ok(None)
    }

    /// Changes a server's console, which may be closed meanwhile.
    fn console(&mut self, server: ServerId, change: impl FnOnce(&mut console::Console)) {
        self.is_stale = true;
        if let Some(console) = self.state.consoles.get_mut(&server) {
            change(console);
        }
    }

    fn reload_now(&mut self) {
        self.reload_at = Some(Instant::now());
    }

    /// Runs every second. A killed worker commits nothing, so its lock is checked here.
    fn tick(&mut self, database: &Path) {
        self.ticked_at = Instant::now();
        self.is_stale |= self.snapshot.live > 0;
        let is_running = is_worker_running(database);
        if self.snapshot.live > 0
            && is_running.is_some_and(|running| running == (self.worker == Worker::Lost))
        {
            self.reload_now();
        }
    }
}

fn is_worker_running(database: &Path) -> Option<bool> {
    lock::is_held(database, "worker")
}

/// The exit code that a shell reports for a signal.
fn killed_by(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1))
}

/// Panics on request of a test; only in debug builds.
#[cfg(debug_assertions)]
fn panic_for_test(key: &keys::Key) {
    assert!(
        *key != keys::Key::Char('!') || std::env::var_os("LEFT4ME_TEST_PANIC").is_none(),
        "the test asked for this panic"
    );
}
