//! Waking on another process's commit, without polling and without a read transaction.
//!
//! A commit appends to the -wal file: inotify tells of that within microseconds and costs nothing while nobody writes.
//! It may come before the commit is visible (SQLite writes, then syncs, then publishes), so `PRAGMA data_version`
//! decides, asked again with growing pauses until it moved or the write turned out to be none of a commit. A slow
//! safety poll covers what inotify cannot see: a replaced file, a file system without it. docs/development.md has the
//! measurements.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rusqlite::{Connection, OpenFlags};

use crate::base::Result;
use crate::db::error::in_file;

/// Without a word from inotify, the version is asked this often.
const SAFETY: Duration = Duration::from_secs(1);

/// The pauses after a write that has not become a commit yet.
const SETTLE: [u64; 8] = [0, 1, 1, 2, 4, 8, 16, 32];

/// Watches one database file for commits of others (and of this process's other connections).
pub struct Watch {
    connection: Connection,
    inotify: Option<Inotify>,
    seen: i64,
}

impl Watch {
    /// Starts watching. What was committed before is not told.
    ///
    /// # Errors
    /// 69 or 77 when the file cannot be opened.
    pub fn new(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| in_file(path, &error))?;
        connection
            .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(|error| in_file(path, &error))?;
        // The first read opens the -wal file, so that there is something to watch.
        let seen = version(&connection).map_err(|error| in_file(path, &error))?;
        Ok(Self { connection, inotify: watch_wal(path), seen })
    }

    /// The descriptor that becomes readable when something was written; for a caller with a poll loop of its own, which
    /// then calls [`Watch::moved`]. `None` where inotify is not to be had.
    #[must_use]
    pub fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inotify.as_ref().map(|inotify| inotify.as_fd())
    }

    /// Waits until something was committed, at most until `deadline`. False when the time ran out.
    ///
    /// # Errors
    /// 69 when the file cannot be read any more.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            if self.moved()? {
                return Ok(true);
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => SAFETY,
            };
            if left.is_zero() {
                return Ok(false);
            }
            if self.sleep(left.min(SAFETY)) && self.settle()? {
                return Ok(true);
            }
        }
    }

    /// Whether something was committed since the last time this said so.
    ///
    /// # Errors
    /// 69 when the file cannot be read any more.
    pub fn moved(&mut self) -> Result<bool> {
        self.drain();
        let now = version(&self.connection)?;
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }

    /// For a caller with a poll loop of its own, after a wake: takes in what inotify told, and waits, some milliseconds at
    /// the most, for a write to become a visible commit. Whether something was committed.
    ///
    /// # Errors
    /// 69 when the file cannot be read any more.
    pub fn settled(&mut self) -> Result<bool> {
        if self.sleep(Duration::ZERO) { self.settle() } else { self.moved() }
    }

    /// After a write: true as soon as it has become a visible commit.
    fn settle(&mut self) -> Result<bool> {
        for pause in SETTLE {
            if pause > 0 {
                self.sleep(Duration::from_millis(pause));
            }
            if self.moved()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sleeps until inotify says something (true) or the time is over (false).
    fn sleep(&self, time: Duration) -> bool {
        let Some(inotify) = &self.inotify else {
            nix::poll::poll(&mut [], timeout(time)).ok();
            return false;
        };
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, timeout(time)).is_ok_and(|ready| ready > 0)
    }

    fn drain(&self) {
        if let Some(inotify) = &self.inotify {
            while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    }
}

/// Changes with each commit of another connection. Not cached: a cached statement would keep the file's state open.
fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

fn watch_wal(path: &Path) -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    inotify.add_watch(Path::new(&wal), AddWatchFlags::IN_MODIFY).ok()?;
    Some(inotify)
}

/// Rounded up, so that a wait never turns into a spin.
fn timeout(time: Duration) -> PollTimeout {
    let ms = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}
