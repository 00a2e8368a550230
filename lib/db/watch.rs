//! Wakes when another process commits, without polling and without a read transaction.
//!
//! A commit appends to the -wal file. inotify reports that within microseconds and costs nothing
//! while no process writes. The report comes before the commit is visible (SQLite writes, then
//! syncs, then publishes), so `PRAGMA data_version` decides, read again with growing pauses. A
//! changed version does not end the pauses: it may come from the commit before the one that inotify
//! reported. A slow safety poll covers what inotify cannot see: a replaced file, which is an error,
//! and a file system without inotify. docs/development.md has the measurements.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rusqlite::Connection;

use crate::base::Result;
use crate::db::error::in_file;
use crate::db::file;
use crate::db::identity::Identity;

/// How often the version is read without a report from inotify.
const SAFETY: Duration = Duration::from_secs(1);

/// The pauses, in milliseconds, within which a write becomes a visible commit.
const SETTLE: [u64; 8] = [0, 1, 1, 2, 4, 8, 16, 32];

/// Watches one database file for commits of other connections, including those of this process.
pub struct Watch {
    connection: Connection,
    identity: Identity,
    inotify: Option<Inotify>,
    seen: i64,
    /// How many of the pauses have passed since inotify reported a write.
    settled: usize,
}

impl Watch {
    /// Starts watching. Earlier commits are not reported.
    ///
    /// Fails with 69 or 77 when the file cannot be opened.
    pub fn new(path: &Path) -> Result<Self> {
        let identity = Identity::of(path);
        let connection = file::open(path)?;
        connection
            .set_db_config(
                rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
                true,
            )
            .map_err(|error| in_file(path, &error))?;

        // The first read opens the -wal file, so that there is a file to watch.
        let seen = version(&connection).map_err(|error| in_file(path, &error))?;
        Ok(Self {
            connection,
            identity,
            inotify: watch_wal(path),
            seen,
            settled: 0,
        })
    }

    /// The descriptor that becomes readable after a write. A caller with its own poll loop then
    /// calls [`Watch::check`]. None without inotify.
    pub fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inotify.as_ref().map(|inotify| inotify.as_fd())
    }

    /// The time after which a caller with its own poll loop calls [`Watch::check`] without a
    /// report.
    pub fn due(&self) -> Duration {
        SETTLE
            .get(self.settled)
            .map_or(SAFETY, |&pause| Duration::from_millis(pause))
    }

    /// Waits for a commit, at most until `deadline`. False when the time ran out.
    ///
    /// Fails with 69 when the file cannot be read any more, or another one has its name.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            if self.check()? {
                return Ok(true);
            }
            let left = deadline.map_or(SAFETY, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Ok(false);
            }
            self.sleep(left.min(self.due()));
        }
    }

    /// Reads inotify's reports. Whether there was a commit since the last call that returned true.
    ///
    /// Fails with 69 when the file cannot be read any more, or another one has its name.
    pub fn check(&mut self) -> Result<bool> {
        self.settled = if self.drain() {
            0
        } else {
            SETTLE.len().min(self.settled + 1)
        };

        self.identity.check()?;
        let now = version(&self.connection)?;
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }

    /// Sleeps until inotify reports a write or the time is over.
    fn sleep(&self, time: Duration) {
        let mut fds = Vec::from_iter(
            self.descriptor()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        // An early wake-up by a signal is harmless.
        nix::poll::poll(&mut fds, timeout(time)).ok();
    }

    /// Reads inotify's reports. Whether there were any.
    fn drain(&self) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let mut told = false;
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {
            told = true;
        }
        told
    }
}

/// Changes with each commit of another connection. Not cached: a cached statement would keep the
/// file's state open.
fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

fn watch_wal(path: &Path) -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    inotify
        .add_watch(
            Path::new(&wal),
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DONT_FOLLOW,
        )
        .ok()?;
    Some(inotify)
}

/// Rounded up, so that a wait never becomes a busy loop.
fn timeout(time: Duration) -> PollTimeout {
    let ms = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}
