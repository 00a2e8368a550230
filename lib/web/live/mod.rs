//! Live feeds: the source of the server-sent event (SSE) streams.
//!
//! | stream | events | id |
//! |---|---|---|
//! | [`Hub::job`] | `stdout`, `stderr`: `{"seq","at","task","line"}` | the line's seq |
//! | | `state`: `{"state"}` at the beginning and when it changes; `end`: `{"state","exit_code"}`, after the last line | none |
//! | | `stderr` with `"dropped":N`, when a replay leaves N lines out | none |
//! | [`Hub::changes`] | `changed`: `{"servers":[ids],"jobs":[ids],"queue":bool}`, or `"all":true`: fetch everything again | the run and the change's number |
//! | | `topic`: the index of another feed in the request, or null; `over`: `{"why"}`, that feed has ended (`many`) | empty; none |
//! | [`Hub::console`] | `stdout`, `stderr` (systemd's): `{"at","from","line"}` | the entry's cursor in the journal |
//! | | `stderr` from `left4me`, when the follow breaks or resumes | none |
//!
//! `at` is unix ms. Events without an id leave a client's Last-Event-ID unchanged, so it resumes
//! after the last line it has. A comment is sent at each heartbeat.
//!
//! One thread (`pump`) watches the database. After a commit it reads the news of each feed once,
//! encodes it once, puts it into a bounded ring and wakes the subscribers. Subscribers pull: each
//! takes shared bytes from its own position when its peer can take more. One that is further behind
//! than the ring gets pages: of a job from the database (a second thread), of a console from the
//! helper (a few threads). So memory is bounded whatever clients do, and a client that keeps
//! reading gets each line once.

mod changes;
mod console;
mod console_pages;
mod entry;
mod feed;
mod jobs;
mod many;
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
pub use stream::{Reader, RightsCheck, Stream};

use self::changes::{Changes, ChangesSource};
use self::console::{Console, ConsoleSource};
use self::console_pages::ConsolePages;
use self::feed::{Feed, Subscriber, lock};
use self::jobs::{JobLog, JobSource};
use self::many::ManySource;
use crate::base::names::{JobId, ServerId};
use crate::base::{Error, Result, clock};
use crate::db::Db;
use crate::web::limiter::Limiter;

/// Consoles that are followed at once. Each is a thread here, and a connection and a unit of the
/// helper. Keep it below TasksMax= in left4me-web.service.
const CONSOLES: usize = 32;

#[derive(Clone, Debug)]
pub struct LiveSettings {
    pub database: PathBuf,
    /// The path of helper.sock.
    pub helper: PathBuf,
    /// The most lines of a job that a new subscriber gets.
    pub replay_limit: u32,
    /// The time between two comments of a stream.
    pub heartbeat: Duration,
    /// The first pause before a failed console is retried. It doubles up to half a minute.
    pub retry: Duration,
    /// How long a console without subscribers is followed.
    pub linger: Duration,
    /// How long the helper may take for one page of a console.
    pub page_time: Duration,
    /// The size of a job's ring, in bytes.
    pub ring_bytes: usize,
}

impl LiveSettings {
    /// The default times and sizes.
    pub fn new(database: PathBuf, helper: PathBuf, replay_limit: u32) -> Self {
        let (heartbeat, retry) = (Duration::from_secs(15), Duration::from_secs(1));
        let (linger, page_time) = (console::LINGER, Duration::from_secs(5));
        Self {
            database,
            helper,
            replay_limit,
            heartbeat,
            retry,
            linger,
            page_time,
            ring_bytes: 1024 * 1024,
        }
    }
}

/// Counters for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Open streams.
    pub streams: usize,
    /// Reads of a job's new lines, each for all its subscribers.
    pub reads: u64,
    /// Pages read for single subscribers of jobs.
    pub pages: u64,
}

/// All live feeds. A clone is the same hub. When the last clone is dropped, its streams end.
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

/// Shared by hub, streams and threads.
struct Inner {
    settings: LiveSettings,
    feeds: Mutex<Feeds>,
    wakeups: EventFd,
    /// A feed was added that was not read yet.
    fresh: AtomicBool,
    closed: AtomicBool,
    /// Incremented when a user loses a right.
    rights: AtomicU64,
    work: Mutex<Option<mpsc::Sender<Work>>>,
    streams: AtomicUsize,
    reads: AtomicU64,
    pages: AtomicU64,
    console_pages: ConsolePages,
    console_threads: Limiter,
}

#[derive(Default)]
struct Feeds {
    jobs: HashMap<JobId, Arc<Feed<JobLog>>>,
    changes: Option<Arc<Feed<Changes>>>,
    runs: u64,
    consoles: HashMap<ServerId, (Arc<Feed<Console>>, Thread)>,
}

impl Hub {
    /// Starts the hub's two threads. They do not keep the process alive.
    pub fn start(settings: LiveSettings) -> Result<Self> {
        let wakeups = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::failed(format!("no event descriptor: {}", errno.desc())))?;
        let mut reader = Db::open_existing(&settings.database)?;
        let (sender, receiver) = mpsc::channel::<Work>();
        let inner = Arc::new(Inner {
            settings,
            feeds: Mutex::default(),
            wakeups,
            fresh: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            rights: AtomicU64::new(0),
            work: Mutex::new(Some(sender)),
            streams: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            console_pages: ConsolePages::default(),
            console_threads: Limiter::shared(CONSOLES),
        });

        let pump = pump::Pump::new(&inner)?;
        let hub = Self {
            closer: Arc::new(Closer(inner)),
        };

        spawn("live-pump", move || pump.run())?;
        spawn("live-pages", move || {
            receiver.iter().for_each(|work| work(&mut reader))
        })?;

        Ok(hub)
    }

    /// A job's log after line `after`; without it, as much as the replay limit allows.
    pub fn job(&self, job: JobId, after: Option<i64>, reader: Reader) -> JobStream {
        let inner = self.inner();
        let (source, fresh) = inner.job(job, after);
        let stream = Stream::new(inner, source, reader);
        inner.subscribed(fresh);
        stream
    }

    /// The changes that `viewer` may see, and the events of `topics`. With a `last_event_id` of
    /// another feed the first event says `"all":true`; without one, only changes from now on are
    /// sent. A topic of [`Err`] is reported as one that cannot be followed.
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
        inner.subscribed(fresh);

        stream
    }

    /// A server's console after `last_event_id`, a cursor of its journal; its last lines if there
    /// is none, or it is not a cursor.
    pub fn console(
        &self,
        server: ServerId,
        last_event_id: Option<&str>,
        reader: Reader,
    ) -> Result<ConsoleStream> {
        let inner = self.inner();
        let stream = Stream::new(inner, inner.console(server, last_event_id)?, reader);
        inner.subscribed(false);
        Ok(stream)
    }

    /// The counters as of now.
    pub fn counts(&self) -> Counts {
        let Inner {
            streams,
            reads,
            pages,
            ..
        } = &**self.inner();

        Counts {
            streams: streams.load(Ordering::Acquire),
            reads: reads.load(Ordering::Relaxed),
            pages: pages.load(Ordering::Relaxed),
        }
    }

    /// Ends all streams, and each new one at once. Clients reconnect by themselves.
    pub fn shutdown(&self) {
        self.inner().close();
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.closer.0
    }
}

/// Opening feeds. The caller counts the stream and then calls [`Inner::subscribed`].
impl Inner {
    /// A job's log, and whether it is new.
    fn job(self: &Arc<Self>, job: JobId, after: Option<i64>) -> (JobSource, bool) {
        let (feed, fresh) = {
            let mut feeds = lock(&self.feeds);
            let fresh = !feeds.jobs.contains_key(&job);
            let feed = feeds
                .jobs
                .entry(job)
                .or_insert_with(|| Arc::new(Feed::new(JobLog::default())));
            (Subscriber::new(self, feed), fresh)
        };

        (JobSource::new(self, job, feed, after), fresh)
    }

    /// The changes, and whether the feed is new.
    fn changes(
        self: &Arc<Self>,
        viewer: Viewer,
        last_event_id: Option<&str>,
    ) -> (ChangesSource, bool) {
        let mut feeds = lock(&self.feeds);
        let fresh = feeds.changes.is_none();
        let run = format!("{:x}.{}", clock::now_ms(), feeds.runs);
        feeds.runs += u64::from(fresh);

        let feed = feeds
            .changes
            .get_or_insert_with(|| Arc::new(Feed::new(Changes::new(run))));
        let subscriber = Subscriber::new(self, feed);
        drop(feeds);
        (ChangesSource::new(subscriber, viewer, last_event_id), fresh)
    }

    fn console(
        self: &Arc<Self>,
        server: ServerId,
        last_event_id: Option<&str>,
    ) -> Result<ConsoleSource> {
        let feed = {
            let mut feeds = lock(&self.feeds);
            let (feed, _) = match feeds.consoles.entry(server) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let feed = Arc::new(Feed::new(Console::new()));
                    let thread = self.follow(server, &feed)?;
                    entry.insert((feed, thread))
                }
            };

            Subscriber::new(self, feed)
        };

        Ok(ConsoleSource::new(self, server, feed, last_event_id))
    }
}

impl Inner {
    /// Wakes the pump for one more stream.
    fn subscribed(&self, fresh: bool) {
        self.fresh.fetch_or(fresh, Ordering::AcqRel);
        self.wake_pump();
    }

    /// Starts the thread of a console. Called under the hub's lock. Threads are counted, not
    /// consoles: one that was closed may take a moment to end.
    fn follow(self: &Arc<Self>, server: ServerId, feed: &Arc<Feed<Console>>) -> Result<Thread> {
        let full =
            || Error::unavailable("too many consoles are open: load the page again in a moment");
        let permit = self.console_threads.try_acquire().ok_or_else(full)?;
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

    fn wake_pump(&self) {
        // A full counter wakes it too.
        self.wakeups.write(1).ok();
    }

    /// Clears the wakeup. Returns whether a feed was added that was not read yet.
    fn take_wakeup(&self) -> bool {
        self.wakeups.read().ok();
        self.fresh.swap(false, Ordering::AcqRel)
    }

    fn wake_all(&self) {
        let feeds = lock(&self.feeds);
        feeds.jobs.values().for_each(|feed| feed.wake());
        feeds.changes.iter().for_each(|feed| feed.wake());
        feeds.consoles.values().for_each(|(feed, _)| feed.wake());
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);

        for (feed, thread) in lock(&self.feeds).consoles.values() {
            feed.state().end();
            thread.unpark();
        }

        self.wake_all();
        *lock(&self.work) = None;
        self.wake_pump();
    }

    /// Runs `work` on the pages thread. The receiver fails if the hub is closed.
    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Db) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |db| {
            // Skip work whose stream is gone.
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
        .map_err(|error| {
            Error::from(error).within(format!("the thread {name} cannot be started"))
        })?;
    Ok(handle.thread().clone())
}
