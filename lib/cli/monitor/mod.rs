//! `left4me-job monitor`: servers, jobs, the queue and a log on one screen. It is drawn again after each commit of whoever
//! works on the database, never by a clock; only while a job runs, its time goes on by the second.

mod act;
mod cursor;
mod draw;
mod input;
mod keys;
mod log;
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
use self::snapshot::Snapshot;
use self::state::{Action, State};
use self::terminal::Screen;
pub use self::terminal::must_be_there as must_have_terminal;
use self::wake::{Commits, Wake, Woken};
use crate::base::{Result, clock, lock};
use crate::cli::Context;
use crate::db::Db;

/// Commits are looked at no more often than this: a busy queue has thousands a second.
const CALM: Duration = Duration::from_millis(50);
/// While a job runs, its time goes on this often.
const TICK: Duration = Duration::from_secs(1);

/// Servers, jobs, the queue and a log on one screen, live
#[derive(clap::Args)]
#[command(after_help = "\
Keys:
  Tab, arrows, j/k   the next list; up and down in it. The log is that of the selected job
  P                  pause the queue, or let it go on
  C                  cancel the selected job; asks, with F for force, and for a reason
  S                  start the selected server when it shall be stopped, stop it when it shall run; asks
  L                  the whole log: / searches, n and N go on, F follows, Esc leaves it
  ?                  help
  Q                  quit; jobs go on

It needs a terminal of at least 60x15. NO_COLOR is heeded.")]
pub struct Args {}

/// What is known about the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// No job runs.
    Idle,
    /// It runs jobs.
    Working,
    /// Jobs count as running, and nobody runs them.
    Lost,
    /// Jobs wait, may be claimed, and no worker is there to do it.
    Absent,
}

/// The screen and what it shows.
struct Monitor {
    seen: Snapshot,
    state: State,
    worker: Worker,
    /// When the database is to be looked at; none when nothing has changed.
    due: Option<Instant>,
    /// Whether the screen shows something else than it should.
    is_stale: bool,
    looked_at: Instant,
    ticked_at: Instant,
}

/// Runs the verb, on a terminal.
pub fn run(context: &mut Context, _: &Args) -> Result<ExitCode> {
    context.db.stay()?;
    let mut wake = Wake::open(context.db.path())?;
    let mut screen = Screen::enter()?;
    let mut monitor = Monitor::new();
    let theme = Theme::of_environment();
    loop {
        if monitor.due.is_some_and(|due| due <= Instant::now()) {
            monitor.look(&mut context.db, screen.rows())?;
        }
        if std::mem::take(&mut monitor.is_stale) {
            let Monitor { seen, state, worker, .. } = &mut monitor;
            screen.draw(|frame| draw(frame, seen, state, *worker, &theme, clock::now_ms()))?;
        }
        let woken = wake.wait(monitor.deadline(), monitor.commits())?;
        if let Some(end) = monitor.take(woken, context, &mut screen, &wake)? {
            return Ok(end);
        }
    }
}

impl Monitor {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            seen: Snapshot::default(),
            state: State::default(),
            worker: Worker::Idle,
            due: Some(now),
            is_stale: true,
            looked_at: now,
            ticked_at: now,
        }
    }

    /// Reads the database. The lock is looked at before and after: a worker that has let it go before has ended its jobs
    /// before, and one that came meanwhile has it after.
    fn look(&mut self, db: &mut Db, rows: u16) -> Result<()> {
        let before = is_worker_there(db.path());
        let state = &mut self.state;
        self.seen = db.read(|tx| {
            let mut seen = Snapshot::read(tx)?;
            state.refresh(&seen);
            let selected = state.selected_job(&seen);
            seen.read_tail(tx, selected, rows)?;
            if let Some(log) = &mut state.log {
                snapshot::read_log(tx, log, draw::log_rows(rows))?;
            }
            Ok(seen)
        })?;
        let is_missing = before == Some(false) && is_worker_there(db.path()) == Some(false);
        self.worker = match (self.seen.live, is_missing) {
            (0, true) if self.seen.queued > 0 && self.seen.pause.is_none() => Worker::Absent,
            (0, _) => Worker::Idle,
            (_, true) => Worker::Lost,
            (_, false) => Worker::Working,
        };
        self.looked_at = Instant::now();
        self.is_stale = true;
        // A search goes on at once; keys are looked at in between.
        self.due = self.state.log.as_ref().is_some_and(log::Log::is_searching).then_some(self.looked_at);
        Ok(())
    }

    /// When to wake without being woken.
    fn deadline(&self) -> Option<Instant> {
        let tick = (self.seen.live > 0).then_some(self.ticked_at + TICK);
        [self.due, tick].into_iter().flatten().min()
    }

    fn commits(&self) -> Commits {
        if self.due.is_some() { Commits::Leave } else { Commits::Heed }
    }

    /// Takes in what woke us. The exit code when that was the end.
    fn take(
        &mut self,
        woken: Woken,
        context: &mut Context,
        screen: &mut Screen,
        wake: &Wake,
    ) -> Result<Option<ExitCode>> {
        if woken.hung_up {
            return Ok(Some(killed_by(Signal::SIGHUP)));
        }
        self.is_stale |= !woken.signals.is_empty() || !woken.keys.is_empty();
        for signal in woken.signals {
            match signal {
                Signal::SIGWINCH => self.look_now(),
                Signal::SIGTSTP => screen.suspend(wake.mask())?,
                Signal::SIGCONT => screen.resume()?,
                other => return Ok(Some(killed_by(other))),
            }
        }
        if woken.committed {
            self.due = Some(self.looked_at + CALM);
        }
        for key in woken.keys {
            #[cfg(debug_assertions)]
            panic_for_the_test(&key);
            match self.state.key(&key, &self.seen) {
                Action::Quit => return Ok(Some(ExitCode::SUCCESS)),
                Action::Suspend => screen.suspend(wake.mask())?,
                Action::Repaint => screen.repaint()?,
                Action::Draw => {}
                Action::Look => self.look_now(),
                action => {
                    self.state.message = act(context, &action, clock::now_ms());
                    self.look_now();
                }
            }
            // The next key may mean what this one brings to the screen.
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.look(&mut context.db, screen.rows())?;
            }
        }
        if self.ticked_at.elapsed() >= TICK {
            self.tick(context.db.path());
        }
        Ok(None)
    }

    fn look_now(&mut self) {
        self.due = Some(Instant::now());
    }

    /// A second has passed. A worker that was killed commits nothing: that it is gone shows here.
    fn tick(&mut self, database: &Path) {
        self.ticked_at = Instant::now();
        self.is_stale |= self.seen.live > 0;
        if self.seen.live > 0 && is_worker_there(database).is_some_and(|there| there == (self.worker == Worker::Lost)) {
            self.look_now();
        }
    }
}

fn is_worker_there(database: &Path) -> Option<bool> {
    lock::is_held(database, "worker")
}

/// As a shell says it.
fn killed_by(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1))
}

/// Only a program that was built for tests can be asked to panic.
#[cfg(debug_assertions)]
fn panic_for_the_test(key: &keys::Key) {
    assert!(
        *key != keys::Key::Char('!') || std::env::var_os("LEFT4ME_TEST_PANIC").is_none(),
        "the test asked for this panic"
    );
}
