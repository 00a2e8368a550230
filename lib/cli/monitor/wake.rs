//! What the monitor waits for, in one poll(): keys, signals, commits of others.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::keys::{Key, Reader};
use crate::base::{Error, Result};
use crate::db::watch::Watch;

/// A write that is no visible commit after so long will not be one: nothing waits longer for a lock. From then on only a
/// word of inotify's wakes us.
const LATEST: Duration = Duration::from_secs(20);
/// The rest of a key that began comes sooner than this, also over a slow line; else it was the escape key.
const REST_OF_KEY: Duration = Duration::from_millis(50);

/// Whether commits are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// They wake us.
    Heed,
    /// One was told already, and will be looked at.
    Leave,
}

/// Why the wait was over.
#[derive(Debug, Default)]
pub struct Woken {
    /// What was pressed.
    pub keys: Vec<Key>,
    /// Whether something was committed.
    pub committed: bool,
    /// Signals that came.
    pub signals: Vec<Signal>,
    /// The terminal is gone.
    pub hung_up: bool,
}

/// All that is waited for.
pub struct Wake {
    watch: Watch,
    /// When inotify told of a write last, and when the watch was asked last.
    written_at: Option<Instant>,
    looked_at: Instant,
    signals: SignalFd,
    mask: SigSet,
    reader: Reader,
}

impl Wake {
    /// Signals are taken from here on, and commits told.
    ///
    /// # Errors
    /// 69 when the database cannot be watched, 1 when the kernel gives no descriptor.
    pub fn open(database: &Path) -> Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
            Signal::SIGCONT,
            Signal::SIGWINCH,
        ] {
            mask.add(signal);
        }
        mask.thread_block().map_err(io)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(io)?;
        Ok(Self {
            watch: Watch::new(database)?,
            written_at: None,
            looked_at: Instant::now(),
            signals,
            mask,
            reader: Reader::default(),
        })
    }

    /// The signals that are blocked because they are waited for.
    #[must_use]
    pub fn mask(&self) -> &SigSet {
        &self.mask
    }

    /// Waits for something, at most until `deadline`.
    ///
    /// # Errors
    /// 1 when the kernel refuses to wait, 69 when the database cannot be read any more.
    pub fn wait(&mut self, deadline: Option<Instant>, commits: Commits) -> Result<Woken> {
        let stdin = std::io::stdin();
        let watched = self.watch.descriptor().filter(|_| commits == Commits::Heed);
        let mut fds =
            vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout(self.patience(deadline, commits))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(io(error)),
        }
        let has =
            |fd: Option<&PollFd<'_>>, what| fd.and_then(PollFd::revents).is_some_and(|events| events.intersects(what));
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        let (readable, hung_up) = (has(fds.first(), PollFlags::POLLIN), has(fds.first(), gone));
        let written = has(fds.get(2), PollFlags::POLLIN);
        let mut woken = Woken { hung_up, ..Woken::default() };
        if readable && !hung_up {
            match read(stdin.as_fd(), &mut self.reader) {
                Some(keys) => woken.keys = keys,
                None => woken.hung_up = true,
            }
        } else if self.reader.is_waiting() {
            woken.keys.extend(self.reader.give_up());
        }
        while let Some(signal) = self.signals.read_signal().map_err(io)? {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            woken.signals.extend(Signal::try_from(number));
        }
        woken.committed = commits == Commits::Heed && self.look(written)?;
        Ok(woken)
    }

    /// Asks the watch, when it has something to tell or wants to be asked. Whether something was committed.
    fn look(&mut self, written: bool) -> Result<bool> {
        let now = Instant::now();
        if written {
            self.written_at = Some(now);
        }
        if !written && self.look_due().is_none_or(|due| due > now) {
            return Ok(false);
        }
        self.looked_at = now;
        self.watch.look()
    }

    /// When the watch wants to be asked though nothing was told.
    fn look_due(&self) -> Option<Instant> {
        let may_come = self.written_at.is_some_and(|at| at.elapsed() < LATEST);
        (may_come || self.watch.descriptor().is_none()).then(|| self.looked_at + self.watch.due())
    }

    /// How long to wait; none for ever.
    fn patience(&self, deadline: Option<Instant>, commits: Commits) -> Option<Duration> {
        let look = self.look_due().filter(|_| commits == Commits::Heed);
        let next = [deadline, look].into_iter().flatten().min();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        let rest = self.reader.is_waiting().then_some(REST_OF_KEY);
        [left, rest].into_iter().flatten().min()
    }
}

/// The keys that are there; none when the terminal is gone. To be called when something can be read.
fn read(terminal: BorrowedFd<'_>, reader: &mut Reader) -> Option<Vec<Key>> {
    let mut bytes = [0_u8; 4096];
    match nix::unistd::read(terminal.as_fd(), &mut bytes) {
        Ok(0) => None,
        Ok(length) => Some(reader.take(&bytes[..length])),
        Err(Errno::EINTR | Errno::EAGAIN) => Some(Vec::new()),
        Err(error) => {
            tracing::debug!(%error, fd = terminal.as_raw_fd(), "the terminal cannot be read");
            None
        }
    }
}

/// Rounded up, so that a wait never turns into a spin.
fn timeout(time: Option<Duration>) -> PollTimeout {
    let Some(time) = time else { return PollTimeout::NONE };
    let ms = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

fn io(errno: Errno) -> Error {
    Error::from(std::io::Error::from(errno))
}
