//! Live feeds: what is behind the streams of server-sent events (SSE).
//!
//! | stream | events | id |
//! |---|---|---|
//! | [`Hub::job`] | `stdout`, `stderr`: `{"seq","at","task","line"}` | the line's seq |
//! | | `state`: `{"state"}` at the beginning and when it changes; `end`: `{"state","exit_code"}`, after the last line | none |
//! | | `stderr` with `"dropped":N`, when a replay leaves N lines out | none |
//! | [`Hub::changes`] | `changed`: `{"servers":[ids],"jobs":[ids],"queue":bool}`, or `"all":true`: fetch everything again | the run and the change's number |
//! | | `topic`: the place of another feed in the request, or null; `over`: `{"why"}`, that feed has ended ([`many`]) | empty; none |
//! | [`Hub::console`] | `stdout`, `stderr` (systemd's): `{"at","from","line"}` | the entry's place in the journal |
//! | | `stderr` from `left4me`, when the follow breaks or goes on | none |
//!
//! `at` is unix ms. Events without an id leave a reader's Last-Event-ID as it is, so that it goes on behind the last line
//! it has. A comment comes at each heartbeat.
//!
//! One thread (`pump`) watches the database. After a commit it reads what is new of each feed once, encodes it once, puts it
//! into a bounded ring and wakes the followers. These pull: each takes shared bytes behind its own place when its peer has
//! room. One that is further behind than the ring gets pages: of a job from the database (a second thread), of a console
//! from the helper (a few threads). So memory is bounded whatever readers do, and no line is lost or comes twice for one that keeps reading.

mod changes;
mod console;
mod entry;
mod feed;
mod jobs;
mod many;
mod pages;
mod pump;
mod ring;
mod sse;
mod stream;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{Builder, Thread};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

pub use changes::Viewer;
pub use console::ConsoleStream;
pub use jobs::JobStream;
pub use many::{ManyStream, Topic};
pub use stream::{Answer, Reader, Stream};

use self::changes::{Changes, ChangesSource};
use self::console::{Console, ConsoleSource};
use self::feed::{Feed, Follower, lock};
use self::jobs::{JobSource, Log};
use self::many::ManySource;
use self::pages::Pages;
use crate::base::names::{JobId, ServerId};
use crate::base::{Error, Result, clock};
use crate::db::Db;
use crate::web::limiter::Limiter;

/// So many servers' consoles are followed at once: each is a thread here, a connection and a unit of the helper. What
/// TasksMax= in left4me-web.service allows goes with it.
const CONSOLES: usize = 32;

/// What the hub works with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database file.
    pub database: PathBuf,
    /// helper.sock.
    pub helper: PathBuf,
    /// At most so many lines of a job that were there before its reader came.
    pub replay_limit: u32,
    /// Between two comments of a stream.
    pub heartbeat: Duration,
    /// The first pause before a broken console is tried again; it doubles up to half a minute.
    pub retry: Duration,
    /// How long a console is followed on without readers.
    pub linger: Duration,
    /// How long the helper may take for one page of a console.
    pub page_time: Duration,
    /// What a job's ring may hold, in bytes.
    pub ring_bytes: usize,
}

impl Settings {
    /// With the usual times and sizes.
    #[must_use]
    pub fn new(database: PathBuf, helper: PathBuf, replay_limit: u32) -> Self {
        let (heartbeat, retry) = (Duration::from_secs(15), Duration::from_secs(1));
        let (linger, page_time) = (console::LINGER, Duration::from_secs(5));
        Self { database, helper, replay_limit, heartbeat, retry, linger, page_time, ring_bytes: 1024 * 1024 }
    }
}

/// What has been done so far, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Streams that are open.
    pub streams: usize,
    /// Reads of a followed job's new lines, each for all of its followers.
    pub reads: u64,
    /// Pages that single followers of jobs were read.
    pub pages: u64,
}

/// All live feeds. A clone is the same hub; when the last one goes, its streams end.
#[derive(Clone)]
pub struct Hub {
    closer: Arc<Closer>,
}

struct Closer(Arc<Inner>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

type Work = Box<dyn FnOnce(&mut Db) + Send>;

/// What hub, streams and threads share.
struct Inner {
    settings: Settings,
    rooms: Mutex<Rooms>,
    /// Wakes the pump.
    kicks: EventFd,
    /// A feed is there that was never read.
    fresh: AtomicBool,
    closed: AtomicBool,
    /// Counts how often somebody lost a right.
    rights: AtomicU64,
    work: Mutex<Option<mpsc::Sender<Work>>>,
    streams: AtomicUsize,
    reads: AtomicU64,
    pages: AtomicU64,
    console_pages: Pages,
    /// Consoles' threads.
    following: Limiter,
}

/// What is followed.
#[derive(Default)]
struct Rooms {
    jobs: HashMap<JobId, Arc<Feed<Log>>>,
    changes: Option<Arc<Feed<Changes>>>,
    runs: u64,
    consoles: HashMap<ServerId, (Arc<Feed<Console>>, Thread)>,
}

impl Hub {
    /// Starts the hub's two threads. Neither keeps the process from ending.
    ///
    /// # Errors
    /// 69 or 77 when the database cannot be used; 1 when the system gives no thread.
    pub fn start(settings: Settings) -> Result<Self> {
        let kicks = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::failed(format!("no event descriptor: {}", errno.desc())))?;
        let mut reader = Db::open_existing(&settings.database)?;
        let (sender, receiver) = mpsc::channel::<Work>();
        let inner = Arc::new(Inner {
            settings,
            rooms: Mutex::default(),
            kicks,
            fresh: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            rights: AtomicU64::new(0),
            work: Mutex::new(Some(sender)),
            streams: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            console_pages: Pages::default(),
            following: Limiter::shared(CONSOLES),
        });
        let pump = pump::Pump::new(&inner)?;
        let hub = Self { closer: Arc::new(Closer(inner)) };
        spawn("live-pump", move || pump.run())?;
        spawn("live-pages", move || receiver.iter().for_each(|work| work(&mut reader)))?;
        Ok(hub)
    }

    /// A job's log behind `after`, a seq; from its beginning, or as much of it as is replayed, without.
    #[must_use]
    pub fn job(&self, job: JobId, after: Option<i64>, reader: Reader) -> JobStream {
        let inner = self.inner();
        let (source, fresh) = inner.job(job, after);
        let stream = Stream::new(inner, source, reader);
        inner.followed(fresh);
        stream
    }

    /// What changes, as far as `viewer` sees it, and the events of `topics`. An id that is not of this run, as of a
    /// reader that comes back, or any other word, makes the first event one that says `"all":true`; without an id only
    /// what changes from now on is told. A topic of [`Err`] is told as one that cannot be followed.
    #[must_use]
    pub fn changes(
        &self,
        viewer: Viewer,
        last_event_id: Option<&str>,
        topics: Vec<Result<Topic, String>>,
        reader: Reader,
    ) -> ManyStream {
        let inner = self.inner();
        let (changes, mut fresh) = inner.changes(viewer, last_event_id);
        let open = |topic| -> many::Opened {
            match topic? {
                Topic::Job(job, after) => {
                    let (source, is_fresh) = inner.job(job, after);
                    fresh |= is_fresh;
                    Ok(Box::new(source))
                }
                Topic::Console(server, after) => match inner.console(server, after.as_deref()) {
                    Ok(source) => Ok(Box::new(source)),
                    Err(error) => Err(error.to_string()),
                },
            }
        };
        let opened = topics.into_iter().map(open).collect();
        let stream = ManySource::stream(inner, changes, opened, reader);
        inner.followed(fresh);
        stream
    }

    /// A server's console behind `last_event_id`, a place in its journal; its last lines without, or when that is none.
    ///
    /// # Errors
    /// 69 when too many others are watched, or the system gives no thread.
    pub fn console(&self, server: ServerId, last_event_id: Option<&str>, reader: Reader) -> Result<ConsoleStream> {
        let inner = self.inner();
        let stream = Stream::new(inner, inner.console(server, last_event_id)?, reader);
        inner.followed(false);
        Ok(stream)
    }

    /// What has been done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Inner { streams, reads, pages, .. } = &**self.inner();
        Counts {
            streams: streams.load(Ordering::Acquire),
            reads: reads.load(Ordering::Relaxed),
            pages: pages.load(Ordering::Relaxed),
        }
    }

    /// Ends all streams, those that are still to be asked for too. Their readers come back by themselves.
    pub fn shutdown(&self) {
        self.inner().close();
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.closer.0
    }
}

/// The feeds. Each is followed as soon as its stream is counted, by [`Inner::followed`].
impl Inner {
    /// A job's log, and whether it was never read.
    fn job(self: &Arc<Self>, job: JobId, after: Option<i64>) -> (JobSource, bool) {
        let (feed, fresh) = {
            let mut rooms = lock(&self.rooms);
            let fresh = !rooms.jobs.contains_key(&job);
            let feed = rooms.jobs.entry(job).or_insert_with(|| Arc::new(Feed::new(Log::default())));
            (Follower::new(self, feed), fresh)
        };
        (JobSource::new(self, job, feed, after), fresh)
    }

    /// What changes, and whether it was never read.
    fn changes(self: &Arc<Self>, viewer: Viewer, last_event_id: Option<&str>) -> (ChangesSource, bool) {
        let mut rooms = lock(&self.rooms);
        let fresh = rooms.changes.is_none();
        let run = format!("{:x}.{}", clock::now_ms(), rooms.runs);
        rooms.runs += u64::from(fresh);
        let feed = rooms.changes.get_or_insert_with(|| Arc::new(Feed::new(Changes::new(run))));
        let follower = Follower::new(self, feed);
        drop(rooms);
        (ChangesSource::new(follower, viewer, last_event_id), fresh)
    }

    /// A server's console.
    fn console(self: &Arc<Self>, server: ServerId, last_event_id: Option<&str>) -> Result<ConsoleSource> {
        let feed = {
            let mut rooms = lock(&self.rooms);
            let (feed, _) = match rooms.consoles.entry(server) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let feed = Arc::new(Feed::new(Console::new()));
                    let thread = self.follow(server, &feed)?;
                    entry.insert((feed, thread))
                }
            };
            Follower::new(self, feed)
        };
        Ok(ConsoleSource::new(self, server, feed, last_event_id))
    }
}

impl Inner {
    /// There is one more stream.
    fn followed(&self, fresh: bool) {
        self.fresh.fetch_or(fresh, Ordering::AcqRel);
        self.kick();
    }

    /// Follows a console in a thread of its own. Called under the hub's lock. Threads are counted, not consoles: one that
    /// is let go may take a moment to end.
    fn follow(self: &Arc<Self>, server: ServerId, feed: &Arc<Feed<Console>>) -> Result<Thread> {
        let full = || Error::unavailable("too many consoles are watched at once: load the page again in a moment");
        let permit = self.following.try_acquire().ok_or_else(full)?;
        let (inner, feed) = (Arc::clone(self), Arc::clone(feed));
        let follow = move || {
            console::follow(&inner, server, &feed);
            drop(permit);
        };
        spawn(&format!("console-{server}"), follow).map_err(|error| {
            tracing::warn!(server = server.0, %error, "a console cannot be followed");
            full()
        })
    }

    /// Wakes the pump.
    fn kick(&self) {
        // Full is as good as kicked.
        self.kicks.write(1).ok();
    }

    /// Whether there is a feed that was never read.
    fn take_kick(&self) -> bool {
        self.kicks.read().ok();
        self.fresh.swap(false, Ordering::AcqRel)
    }

    fn wake_all(&self) {
        let rooms = lock(&self.rooms);
        rooms.jobs.values().for_each(|feed| feed.wake());
        rooms.changes.iter().for_each(|feed| feed.wake());
        rooms.consoles.values().for_each(|(feed, _)| feed.wake());
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for (feed, thread) in lock(&self.rooms).consoles.values() {
            feed.state().end();
            thread.unpark();
        }
        self.wake_all();
        *lock(&self.work) = None;
        self.kick();
    }

    /// Has the pages thread do something; the receiver errs when the hub is closed.
    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Db) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |db| {
            // Who is gone before its turn costs nothing.
            if !sender.is_closed() {
                drop(sender.send(work(db)));
            }
        });
        if let Some(queue) = &*lock(&self.work) {
            drop(queue.send(work));
        }
        receiver
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread> {
    let handle = Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::from(error).within(format!("the thread {name} cannot be started")))?;
    Ok(handle.thread().clone())
}
