//! The thread that watches the database for all streams. After each commit it reads the news of all
//! feeds once, and wakes their subscribers. It sleeps while there are none.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use rusqlite::Connection;

use super::feed::lock;
use super::{Inner, changes, jobs};
use crate::base::Result;
use crate::db::Db;
use crate::db::change_feed::{self, Rights};
use crate::db::watch::Watch;

/// The pause after a failed read.
const RETRY: Duration = Duration::from_secs(1);

pub struct Pump {
    inner: Arc<Inner>,
    watch: Watch,
    db: Db,
    rights: Rights,
    /// A commit was seen that the change feed has not read yet.
    unchecked: bool,
    again: bool,
}

impl Pump {
    pub fn new(inner: &Arc<Inner>) -> Result<Self> {
        let path = &inner.settings.database;
        let db = Db::open_existing(path)?;
        db.stay()?;
        let watch = Watch::new(path)?;
        let rights = change_feed::rights_lost(db.connection(), Rights::default())?.1;
        Ok(Self {
            inner: Arc::clone(inner),
            watch,
            db,
            rights,
            unchecked: false,
            again: false,
        })
    }

    /// Runs until the hub is closed.
    pub fn run(mut self) {
        loop {
            let fresh = self.inner.take_wakeup();
            if self.inner.closed.load(Ordering::Acquire) {
                return;
            }
            let linger = self.inner.sweep(Instant::now());
            let followed = self.inner.streams.load(Ordering::Acquire) > 0;
            let next = if followed { self.serve(fresh) } else { None };
            self.wait(followed, next.into_iter().chain(linger).min());
        }
    }

    /// Reads what was committed. Returns the longest time until the next call.
    fn serve(&mut self, fresh: bool) -> Option<Duration> {
        let checked = self.watch.check();
        let news = fresh || self.again || !matches!(checked, Ok(false));

        self.unchecked |= news;
        if !self.unchecked {
            return None;
        }

        let Self {
            inner,
            db,
            rights,
            unchecked,
            ..
        } = self;

        let result = checked.and_then(|_| {
            db.read(|tx| {
                if news {
                    read_rights(inner, tx, rights)?;
                    read_jobs(inner, tx)?;
                }

                read_changes(inner, tx, unchecked)
            })
        });

        self.again = result.is_err();

        result.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the database for live streams; retrying in 1 s");
            Some(RETRY)
        })
    }

    fn wait(&self, followed: bool, next: Option<Duration>) {
        let watched = self.watch.descriptor().filter(|_| followed);
        let due = followed.then(|| self.watch.due());
        let time = next.into_iter().chain(due).min();
        let mut fds = vec![PollFd::new(self.inner.wakeups.as_fd(), PollFlags::POLLIN)];
        fds.extend(watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));

        // Rounded up, so that a wait never turns into a spin. A signal may end it early, which does
        // no harm.
        let timeout = time.map_or(PollTimeout::NONE, |time| {
            let ms = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });

        nix::poll::poll(&mut fds, timeout).ok();
    }
}

fn read_rights(inner: &Inner, connection: &Connection, known: &mut Rights) -> Result<()> {
    let (lost, now) = change_feed::rights_lost(connection, *known)?;
    *known = now;
    if lost {
        inner.rights.fetch_add(1, Ordering::AcqRel);
        inner.wake_all();
    }
    Ok(())
}

fn read_jobs(inner: &Inner, connection: &Connection) -> Result<()> {
    let feeds: Vec<_> = lock(&inner.feeds)
        .jobs
        .iter()
        .map(|(job, feed)| (*job, Arc::clone(feed)))
        .collect();
    for (job, feed) in feeds {
        inner.reads.fetch_add(1, Ordering::Relaxed);
        let read = jobs::read(connection, job, &feed, inner.settings.ring_bytes);
        // A failed read may have got some lines.
        if !matches!(read, Ok(false)) {
            feed.wake();
        }
        read?;
    }

    Ok(())
}

fn read_changes(
    inner: &Inner,
    connection: &Connection,
    unchecked: &mut bool,
) -> Result<Option<Duration>> {
    let Some(feed) = lock(&inner.feeds).changes.clone() else {
        *unchecked = false;
        return Ok(None);
    };

    let now = Instant::now();
    let early = feed
        .state()
        .due()
        .and_then(|due| due.checked_duration_since(now))
        .filter(|wait| !wait.is_zero());
    if early.is_some() {
        return Ok(early);
    }

    let changed = feed.state().check(connection, now)?;
    if changed {
        feed.wake();
    }

    // The last percentage before a quiet time is reported too.
    *unchecked = feed.state().has_pending_progress();
    Ok(unchecked.then_some(changes::MIN_INTERVAL))
}

impl Inner {
    /// Drops feeds without subscribers. Returns the time until the next console is due.
    fn sweep(&self, now: Instant) -> Option<Duration> {
        let mut feeds = lock(&self.feeds);
        feeds.jobs.retain(|_, feed| !feed.is_unused());
        if feeds.changes.as_ref().is_some_and(|feed| feed.is_unused()) {
            feeds.changes = None;
        }

        let mut next = None;
        feeds.consoles.retain(|_, (feed, thread)| {
            let mut console = feed.state();
            if !feed.is_unused() {
                console.unused_since = None;
                return true;
            }

            let since = *console.unused_since.get_or_insert(now);
            let left = (since + self.settings.linger).saturating_duration_since(now);
            if left.is_zero() {
                console.end();
                thread.unpark();
                return false;
            }

            next = Some(next.map_or(left, |next: Duration| next.min(left)));
            true
        });

        next
    }
}
