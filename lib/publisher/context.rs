//! What every request has in common: its cancellation, its lines, and its errors.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::base::{Error, Exit};
use crate::process::{Outcome, Supervisor};
use crate::wire::{EndedBy, Stream};

/// The least time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// How long a killed request may still remove what it began. The next one removes the rest.
const AFTER_KILL: Duration = Duration::from_secs(2);

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Why a request ends early.
pub(super) enum Stop {
    Cancelled(Outcome),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Failed(error.into())
    }
}

pub(super) type Work<T> = Result<T, Stop>;

pub(super) struct Context<'s> {
    pub supervisor: &'s mut Supervisor,
    /// The data directory.
    pub root: &'s Path,
}

impl Context<'_> {
    /// Ends the request if it was cancelled. Called between any two steps that may take long.
    pub(super) fn check(&mut self) -> Work<()> {
        self.pause(Duration::ZERO)
    }

    pub(super) fn pause(&mut self, time: Duration) -> Work<()> {
        match self.supervisor.pause(time) {
            None => Ok(()),
            Some(outcome) => Err(Stop::Cancelled(outcome)),
        }
    }

    /// Ends the request only if it was killed and what undoes it, since `begun`, takes too long.
    pub(super) fn check_kill(&mut self, begun: Instant) -> Work<()> {
        match self.supervisor.pause(Duration::ZERO) {
            Some(outcome) if outcome.ended_by == EndedBy::Kill && begun.elapsed() > AFTER_KILL => {
                Err(Stop::Cancelled(outcome))
            }
            _ => Ok(()),
        }
    }

    /// A line for the job's log.
    pub(super) fn say(&mut self, line: &str) {
        self.supervisor.write_line(Stream::Stdout, line);
    }
}

/// The error for a path. A full disk says what to do.
pub(super) fn failed(path: &Path, errno: Errno) -> Error {
    let shown = path.display();
    match errno {
        Errno::ACCESS | Errno::PERM => Error::new(
            Exit::NotPermitted,
            format!("{shown}: {errno}: `sudo left4me doctor` says what to do"),
        ),
        Errno::NOSPC | Errno::DQUOT => Error::failed(format!(
            "{shown}: the disk is full: make room, or set LEFT4ME_BUILDS=in-place"
        )),
        errno => Error::failed(format!("{shown}: {errno}")),
    }
}

/// A number of bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, (bytes % unit) * 10 / unit);
    match bytes {
        GIB.. => format!("{} GiB", tenths(GIB)),
        _ => format!("{} MiB", tenths(MIB)),
    }
}

/// Lines that say how far something has come, at most one in five seconds.
pub(super) struct Progress {
    verb: &'static str,
    total: u64,
    done: u64,
    last: Instant,
}

impl Progress {
    pub(super) fn new(verb: &'static str, total: u64) -> Self {
        Self {
            verb,
            total,
            done: 0,
            last: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, context: &mut Context<'_>, bytes: u64) {
        self.done = self.done.saturating_add(bytes).min(self.total);
        if self.last.elapsed() < PROGRESS || self.total == 0 {
            return;
        }
        self.last = Instant::now();
        let percent = u128::from(self.done) * 100 / u128::from(self.total);
        let (done, total) = (size(self.done), size(self.total));
        context.say(&format!("{} {done} of {total} ({percent} %)", self.verb));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_the_unit_that_suits_them() {
        assert_eq!(size(0), "0.0 MiB");
        assert_eq!(size(MIB + MIB / 2), "1.5 MiB");
        assert_eq!(size(9 * GIB + 200 * MIB), "9.1 GiB");
    }
}
