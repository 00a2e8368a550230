//! The console feed. One thread per server follows its journal over helper.sock and serves all
//! subscribers of that console. Each line's id is its cursor in the journal, so a subscriber can
//! resume, also after left4me-web restarts: from the ring, or from pages that the helper reads from
//! that cursor until they reach the ring.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::time::Sleep;

use super::console_pages::{LinePage, PageFuture};
use super::feed::{Feed, Subscriber};
use super::ring::{Piece, Ring, RingRead};
use super::stream::{Source, Stream};
use super::{Inner, entry, sse};
use crate::base::names::{Cursor, ServerId};
use crate::base::{Error, Result, clock};
use crate::wire::client::{Canceller, Connection};
use crate::wire::{HelperRequest, JournalEntry};

/// Lines that a new subscriber gets, and that a new follow starts with.
const BACKLOG: u32 = 200;
/// Lines and bytes kept for subscribers that resume.
const RING_LINES: usize = 1000;
const RING_BYTES: usize = 256 * 1024;
/// The longest pause before a failed follow or page is retried.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How long a follow outlives its last subscriber, so that a page reload finds it.
pub const LINGER: Duration = Duration::from_secs(5);

/// Subscribers may be players, so these messages have no details: those are in the journal.
const INTERRUPTED: &str =
    "The console is interrupted and will be retried. Admins: run left4me doctor for the cause.";
const RESUMED: &str = "The console is back.";

/// The state of one console. Positions count the lines of this follow.
pub struct Console {
    ring: Ring,
    /// The cursors of the lines in the ring.
    cursors: VecDeque<(i64, Arc<Cursor>)>,
    /// The last message about the follow itself, with its number.
    notice: Option<(u64, Bytes)>,
    broken: bool,
    canceller: Option<Canceller>,
    /// Since when the console has no subscriber.
    pub unused_since: Option<Instant>,
    closed: bool,
}

impl Console {
    pub fn new() -> Self {
        let ring = Ring::new(0, RING_BYTES, RING_LINES);
        Self {
            ring,
            cursors: VecDeque::new(),
            notice: None,
            broken: false,
            canceller: None,
            unused_since: None,
            closed: false,
        }
    }

    pub fn end(&mut self) {
        self.closed = true;
        if let Some(canceller) = self.canceller.take() {
            canceller.close();
        }
    }

    fn push(&mut self, entries: Vec<JournalEntry>) {
        let mut piece = Piece::default();
        for entry in entries {
            let position = self
                .cursors
                .back()
                .map_or(self.ring.head(), |(position, _)| *position)
                + 1;
            entry::push(&mut piece, position, &entry);
            self.cursors.push_back((position, Arc::new(entry.cursor)));
            if piece.is_full() {
                self.ring.push(std::mem::take(&mut piece));
            }
        }

        self.ring.push(piece);

        let kept = self
            .cursors
            .partition_point(|(position, _)| *position <= self.ring.base());
        self.cursors.drain(..kept);
    }

    /// Records whether the follow is broken, and queues `line` if that is new.
    fn set_broken(&mut self, broken: bool, line: &str) {
        if std::mem::replace(&mut self.broken, broken) == broken {
            return;
        }
        let count = self.notice.as_ref().map_or(0, |(count, _)| *count) + 1;
        self.notice = Some((count, notice(line)));
    }

    fn position(&self, cursor: &Cursor) -> Option<i64> {
        self.cursors
            .iter()
            .rev()
            .find(|(_, other)| **other == *cursor)
            .map(|(position, _)| *position)
    }

    fn cursor(&self, position: i64) -> Option<Arc<Cursor>> {
        let i = self
            .cursors
            .binary_search_by_key(&position, |(position, _)| *position)
            .ok()?;
        self.cursors.get(i).map(|(_, cursor)| Arc::clone(cursor))
    }
}

fn notice(line: &str) -> Bytes {
    sse::one(
        None,
        "stderr",
        &json!({"at": clock::now_ms(), "from": "left4me", "line": line}),
    )
}

/// Follows a server's journal until the console is closed. Retries when the follow breaks.
pub fn follow(inner: &Inner, server: ServerId, feed: &Feed<Console>) {
    let mut pause = inner.settings.retry;
    while !feed.state().closed && !inner.closed.load(Ordering::Acquire) {
        let before = feed.state().ring.head();
        let error = match follow_once(inner, server, feed) {
            Ok(()) => Error::failed("the journal has ended"),
            Err(error) => error,
        };

        let mut console = feed.state();
        console.canceller = None;
        if console.closed || inner.closed.load(Ordering::Acquire) {
            return;
        }

        if console.ring.head() > before {
            pause = inner.settings.retry;
        }

        tracing::warn!(server = server.0, %error, "a console is interrupted");
        console.set_broken(true, INTERRUPTED);
        drop(console);
        feed.wake();

        // Unparked when the console is closed.
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(MAX_RETRY);
    }
}

fn follow_once(inner: &Inner, server: ServerId, feed: &Feed<Console>) -> Result<()> {
    let after = feed
        .state()
        .cursors
        .back()
        .map(|(_, cursor)| Cursor::clone(cursor));
    let lines = after.is_none().then_some(BACKLOG);
    let request = HelperRequest::Journal {
        server: server.into(),
        lines,
        follow: true,
        entries: true,
        after,
    };

    let mut connection = Connection::open(&inner.settings.helper, &request)?;
    {
        let mut console = feed.state();
        if console.closed || inner.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        console.canceller = Some(connection.canceller());
    }

    entry::read(&mut connection, |entries| {
        let mut console = feed.state();
        console.set_broken(false, RESUMED);
        console.push(entries);
        drop(console);
        feed.wake();
        Ok(())
    })
}

enum ReadPosition {
    /// It is new and gets the last lines.
    New,
    /// After this position in the ring.
    At(i64),
    /// After this cursor, which may not be in the ring.
    After(Arc<Cursor>),
}

/// One subscriber's position in a console.
pub struct ConsoleSource {
    inner: Arc<Inner>,
    server: ServerId,
    feed: Subscriber<Console>,
    at: ReadPosition,
    /// The cursor of the last line that was sent.
    last: Option<Arc<Cursor>>,
    notices_sent: u64,
    paging: Option<PageFuture>,
    /// Runs after a page that could not be read. No page is requested before it ends; the next
    /// pause is longer.
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    /// The subscriber was informed that its pages fail.
    interrupted: bool,
    /// The ring's head and the notice count when an empty page was requested. The page is not
    /// requested again before one of them changes.
    empty_page_at: Option<(i64, u64)>,
}

/// The body of `GET /servers/ID/log/stream`.
pub type ConsoleStream = Stream<ConsoleSource>;

impl ConsoleSource {
    pub(super) fn new(
        inner: &Arc<Inner>,
        server: ServerId,
        feed: Subscriber<Console>,
        last_event_id: Option<&str>,
    ) -> Self {
        let last = last_event_id.and_then(|id| id.parse().ok()).map(Arc::new);

        Self {
            inner: Arc::clone(inner),
            server,
            feed,
            at: last.clone().map_or(ReadPosition::New, ReadPosition::After),
            last,
            notices_sent: 0,
            paging: None,
            pause: None,
            next_pause: inner.settings.retry,
            interrupted: false,
            empty_page_at: None,
        }
    }

    /// What the ring has for this subscriber. None if a page was requested instead.
    fn next_from_ring(&mut self) -> Option<Poll<Option<Bytes>>> {
        let console = self.feed.state();
        let notices = console.notice.as_ref().map_or(0, |(count, _)| *count);

        if let Some((count, notice)) = console
            .notice
            .as_ref()
            .filter(|(count, _)| *count != self.notices_sent)
        {
            // A subscriber that connects after a recovery does not need the old message.
            let stale = self.notices_sent == 0 && !console.broken;
            self.notices_sent = *count;
            self.pause = None;
            if !stale {
                return Some(Poll::Ready(Some(notice.clone())));
            }
        }

        // Find the position in the ring, if it is there.
        let (base, head) = (console.ring.base(), console.ring.head());
        if matches!(self.at, ReadPosition::New) && head > 0 {
            self.at = ReadPosition::At(base.max(head - i64::from(BACKLOG)));
        }

        if let ReadPosition::After(cursor) = &self.at
            && let Some(position) = console.position(cursor)
        {
            self.at = ReadPosition::At(position);
        }

        if let ReadPosition::At(position) = self.at {
            match (console.ring.after(position), &self.last) {
                (RingRead::Events(bytes, position), _) => {
                    self.last = console.cursor(position).or(self.last.take());
                    self.at = ReadPosition::At(position);
                    let missed = std::mem::take(&mut self.interrupted);
                    return Some(Poll::Ready(Some(after_gap(missed, bytes))));
                }
                (RingRead::UpToDate, _) => return Some(Poll::Pending),
                (RingRead::Behind, Some(last)) => self.at = ReadPosition::After(Arc::clone(last)),
                // Nothing was sent yet, so nothing is missing.
                (RingRead::Behind, None) => self.at = ReadPosition::New,
            }
        }

        // The ring does not reach back to the cursor: request a page.
        match &self.at {
            ReadPosition::After(cursor)
                if self.pause.is_none() && self.empty_page_at != Some((head, notices)) =>
            {
                self.empty_page_at = Some((head, notices));
                let (server, cursor) = (self.server, Cursor::clone(cursor));
                self.paging = Some(self.inner.page(server, cursor));
                None
            }
            _ => Some(Poll::Pending),
        }
    }

    /// Handles a page, and returns what is to be sent.
    fn page_arrived(&mut self, page: Result<LinePage>) -> Option<Bytes> {
        let Ok((piece, last)) = page else {
            self.empty_page_at = None;
            self.pause = Some(Box::pin(tokio::time::sleep(self.next_pause)));
            self.next_pause = (self.next_pause * 2).min(MAX_RETRY);
            // A broken follow has its own message.
            let is_known = self.interrupted || self.feed.state().broken;
            self.interrupted |= !is_known;
            return (!is_known).then(|| notice(INTERRUPTED));
        };

        self.next_pause = self.inner.settings.retry;

        // An empty page: new lines come from the follow, or the next page is requested once that
        // moved.
        let last = Arc::new(last?);
        (self.at, self.last, self.empty_page_at) =
            (ReadPosition::After(Arc::clone(&last)), Some(last), None);
        Some(after_gap(
            std::mem::take(&mut self.interrupted),
            piece.into_bytes(),
        ))
    }
}

/// `bytes`, after a message if lines were `missed` before.
fn after_gap(missed: bool, bytes: Bytes) -> Bytes {
    if missed {
        [notice(RESUMED), bytes].concat().into()
    } else {
        bytes
    }
}

impl Source for ConsoleSource {
    fn watch(&self, waker: &Waker) {
        self.feed.watch(waker);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(paging) = &mut self.paging {
                let page = ready!(Pin::new(paging).poll(cx));
                self.paging = None;
                if let Some(bytes) = self.page_arrived(page) {
                    return Poll::Ready(Some(bytes));
                }
            }

            if self
                .pause
                .as_mut()
                .is_some_and(|pause| pause.as_mut().poll(cx).is_ready())
            {
                self.pause = None;
            }

            if let Some(next) = self.next_from_ring() {
                return next;
            }
        }
    }
}
