//! Waits for keys, signals, replies of games and commits of other processes in one poll().

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::keys::{Key, KeyReader};
use crate::base::{Error, Result};
use crate::db::watch::Watch;

/// A write that is not visible as a commit after this time is not one: nothing waits longer for a
/// lock. From then on, only inotify wakes us.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);
/// The rest of an escape sequence arrives within this time, also over a slow line.
const REST_OF_KEY: Duration = Duration::from_millis(50);

/// Whether to wake up on commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    Watch,
    /// A reload is scheduled already.
    Ignore,
}

/// What happened during a wait.
#[derive(Debug, Default)]
pub struct Events {
    pub keys: Vec<Key>,
    pub committed: bool,
    /// Whether a command to a game has ended.
    pub replied: bool,
    pub signals: Vec<Signal>,
    /// Whether the terminal is gone.
    pub hung_up: bool,
}

pub struct Wake {
    watch: Watch,
    /// When inotify last reported a write.
    written_at: Option<Instant>,
    /// When the watch was last checked.
    checked_at: Instant,
    signals: SignalFd,
    mask: SigSet,
    reader: KeyReader,
}

impl Wake {
    /// Starts to collect signals and commits.
    ///
    /// Fails if the database cannot be watched, or if the kernel gives no descriptor.
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
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(io)?;
        Ok(Self {
            watch: Watch::new(database)?,
            written_at: None,
            checked_at: Instant::now(),
            signals,
            mask,
            reader: KeyReader::default(),
        })
    }

    /// The signals that are blocked, because they are read from a descriptor.
    pub fn mask(&self) -> &SigSet {
        &self.mask
    }

    /// Waits for an event, at most until `deadline`.
    /// `replies` is readable when a command to a game has ended.
    pub fn wait(
        &mut self,
        deadline: Option<Instant>,
        commits: Commits,
        replies: BorrowedFd<'_>,
    ) -> Result<Events> {
        let stdin = std::io::stdin();
        let watched = self
            .watch
            .descriptor()
            .filter(|_| commits == Commits::Watch);
        let mut fds = vec![
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(replies, PollFlags::POLLIN),
        ];

        fds.extend(watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));

        match poll(&mut fds, poll_timeout(self.remaining(deadline, commits))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(io(error)),
        }

        let has = |fd: Option<&PollFd<'_>>, what| {
            fd.and_then(PollFd::revents)
                .is_some_and(|events| events.intersects(what))
        };

        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        let (readable, hung_up) = (has(fds.first(), PollFlags::POLLIN), has(fds.first(), gone));
        let replied = has(fds.get(2), PollFlags::POLLIN);
        let written = has(fds.get(3), PollFlags::POLLIN);
        let mut events = Events {
            hung_up,
            replied,
            ..Events::default()
        };

        if readable && !hung_up {
            match read(stdin.as_fd(), &mut self.reader) {
                Some(keys) => events.keys = keys,
                None => events.hung_up = true,
            }
        } else if self.reader.is_waiting() {
            events.keys.extend(self.reader.flush());
        }

        while let Some(signal) = self.signals.read_signal().map_err(io)? {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            events.signals.extend(Signal::try_from(number));
        }

        events.committed = commits == Commits::Watch && self.check(written)?;
        Ok(events)
    }

    /// Checks the watch after a write or when a check is due; returns whether something was
    /// committed.
    fn check(&mut self, written: bool) -> Result<bool> {
        let now = Instant::now();
        if written {
            self.written_at = Some(now);
        }

        if !written && self.check_due().is_none_or(|due| due > now) {
            return Ok(false);
        }

        self.checked_at = now;
        self.watch.check()
    }

    /// When to check the watch although inotify reports nothing.
    fn check_due(&self) -> Option<Instant> {
        let may_come = self
            .written_at
            .is_some_and(|at| at.elapsed() < COMMIT_TIMEOUT);
        (may_come || self.watch.descriptor().is_none()).then(|| self.checked_at + self.watch.due())
    }

    /// How long to wait; none for no limit.
    fn remaining(&self, deadline: Option<Instant>, commits: Commits) -> Option<Duration> {
        let check = self.check_due().filter(|_| commits == Commits::Watch);
        let next = [deadline, check].into_iter().flatten().min();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        let rest = self.reader.is_waiting().then_some(REST_OF_KEY);
        [left, rest].into_iter().flatten().min()
    }
}

/// Reads the pending keys; none if the terminal is gone. Call it only when there is input.
fn read(terminal: BorrowedFd<'_>, reader: &mut KeyReader) -> Option<Vec<Key>> {
    let mut bytes = [0_u8; 4096];
    match nix::unistd::read(terminal.as_fd(), &mut bytes) {
        Ok(0) => None,
        Ok(length) => Some(reader.feed(&bytes[..length])),
        Err(Errno::EINTR | Errno::EAGAIN) => Some(Vec::new()),
        Err(error) => {
            tracing::debug!(%error, fd = terminal.as_raw_fd(), "the terminal cannot be read");
            None
        }
    }
}

/// Rounds up to milliseconds, so that the loop never spins.
fn poll_timeout(time: Option<Duration>) -> PollTimeout {
    let Some(time) = time else {
        return PollTimeout::NONE;
    };
    let ms = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

fn io(errno: Errno) -> Error {
    Error::from(std::io::Error::from(errno))
}
