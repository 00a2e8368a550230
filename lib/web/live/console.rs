//! Consoles: one follow of a server's journal, over helper.sock and in a thread of its own, serves all who watch that
//! server. Each line's id is its place in the journal, so a reader goes on where it was, also after a restart of the web:
//! from the ring, or with pages that the helper reads from that place on until they meet the ring.

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

use super::feed::{Feed, Follower};
use super::pages::{self, Asked, Page};
use super::ring::{Next, Piece, Ring};
use super::stream::{Source, Stream};
use super::{Inner, entry, sse};
use crate::base::names::{Cursor, ServerId};
use crate::base::{Error, Result, clock};
use crate::wire::client::{Canceller, Connection};
use crate::wire::{HelperRequest, JournalEntry};

/// So many of the last lines a new reader gets, and a new follow begins with.
const BACKLOG: u32 = 200;
/// So many lines and bytes are kept for readers that come back.
const RING_LINES: usize = 1000;
const RING_BYTES: usize = 256 * 1024;
/// The longest pause before a broken follow, or a page, is tried again.
const LONGEST: Duration = Duration::from_secs(30);
/// After the last reader has gone, the follow goes on for so long: a page that is loaded anew finds it.
pub const LINGER: Duration = Duration::from_secs(5);

/// What readers are told. They may be anybody's players: the details are in the journal, for admins.
const INTERRUPTED: &str = "The console is interrupted. Trying again; an admin finds out why with left4me doctor.";
const GOES_ON: &str = "The console goes on.";

/// What is known of a console. Positions count the lines of this follow.
pub struct Console {
    ring: Ring,
    /// The places of the lines in the ring.
    cursors: VecDeque<(i64, Arc<Cursor>)>,
    /// The last word about the follow itself, counted.
    word: Option<(u64, Bytes)>,
    broken: bool,
    hangup: Option<Canceller>,
    /// Since when nobody reads.
    pub alone_since: Option<Instant>,
    over: bool,
}

impl Console {
    /// Before the first line.
    pub fn new() -> Self {
        let ring = Ring::new(0, RING_BYTES, RING_LINES);
        Self { ring, cursors: VecDeque::new(), word: None, broken: false, hangup: None, alone_since: None, over: false }
    }

    /// Ends the follow.
    pub fn end(&mut self) {
        self.over = true;
        if let Some(hangup) = self.hangup.take() {
            hangup.close();
        }
    }

    fn push(&mut self, entries: Vec<JournalEntry>) {
        let mut piece = Piece::default();
        for entry in entries {
            let position = self.cursors.back().map_or(self.ring.head(), |(position, _)| *position) + 1;
            entry::push(&mut piece, position, &entry);
            self.cursors.push_back((position, Arc::new(entry.cursor)));
            if piece.is_full() {
                self.ring.push(std::mem::take(&mut piece));
            }
        }
        self.ring.push(piece);
        let kept = self.cursors.partition_point(|(position, _)| *position <= self.ring.base());
        self.cursors.drain(..kept);
    }

    /// Tells that the follow broke or goes on, when that is new.
    fn say(&mut self, broken: bool, line: &str) {
        if std::mem::replace(&mut self.broken, broken) == broken {
            return;
        }
        let count = self.word.as_ref().map_or(0, |(count, _)| *count) + 1;
        self.word = Some((count, word(line)));
    }

    fn position(&self, cursor: &Cursor) -> Option<i64> {
        self.cursors.iter().rev().find(|(_, other)| **other == *cursor).map(|(position, _)| *position)
    }

    fn cursor(&self, position: i64) -> Option<Arc<Cursor>> {
        let i = self.cursors.binary_search_by_key(&position, |(position, _)| *position).ok()?;
        self.cursors.get(i).map(|(_, cursor)| Arc::clone(cursor))
    }
}

fn word(line: &str) -> Bytes {
    sse::one(None, "stderr", &json!({"at": clock::now_ms(), "from": "left4me", "line": line}))
}

/// Follows a server's journal until the console is over; after each break again.
pub fn follow(inner: &Inner, server: ServerId, feed: &Feed<Console>) {
    let mut pause = inner.settings.retry;
    while !feed.state().over && !inner.closed.load(Ordering::Acquire) {
        let before = feed.state().ring.head();
        let error = match follow_once(inner, server, feed) {
            Ok(()) => Error::failed("the journal has ended"),
            Err(error) => error,
        };
        let mut console = feed.state();
        console.hangup = None;
        if console.over || inner.closed.load(Ordering::Acquire) {
            return;
        }
        if console.ring.head() > before {
            pause = inner.settings.retry;
        }
        tracing::warn!(server = server.0, %error, "a console is interrupted");
        console.say(true, INTERRUPTED);
        drop(console);
        feed.wake();
        // Unparked when it is over.
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

fn follow_once(inner: &Inner, server: ServerId, feed: &Feed<Console>) -> Result<()> {
    let after = feed.state().cursors.back().map(|(_, cursor)| Cursor::clone(cursor));
    let lines = after.is_none().then_some(BACKLOG);
    let request = HelperRequest::Journal { server: server.into(), lines, follow: true, entries: true, after };
    let mut connection = Connection::open(&inner.settings.helper, &request)?;
    {
        let mut console = feed.state();
        if console.over || inner.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        console.hangup = Some(connection.canceller());
    }
    let mut entries = Vec::new();
    while let Some(answer) = connection.next_answer()? {
        let ended = answer.exit.is_some();
        entries.extend(entry::of(&answer)?);
        // What is here already goes out together.
        if connection.has_buffered() && entries.len() < pages::LINES as usize {
            continue;
        }
        let mut console = feed.state();
        if !ended {
            console.say(false, GOES_ON);
        }
        console.push(std::mem::take(&mut entries));
        drop(console);
        feed.wake();
    }
    Ok(())
}

/// Where a reader stands in a console.
enum Spot {
    /// It is new and gets the last lines.
    New,
    /// Behind this position.
    At(i64),
    /// Behind this place, which is not known to be in the ring.
    After(Arc<Cursor>),
}

/// Where a reader stands in a console.
pub struct ConsoleSource {
    inner: Arc<Inner>,
    server: ServerId,
    feed: Follower<Console>,
    spot: Spot,
    /// The place of the last line it got.
    last: Option<Arc<Cursor>>,
    told: u64,
    paging: Option<Asked>,
    /// After a page that could not be read: no other one is asked for before its end, and the next such one is longer.
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    /// It was told that its pages do not come.
    interrupted: bool,
    /// What the last page was asked for, when it had nothing: not asked again before the ring or the follow moves.
    in_vain: Option<(i64, u64)>,
}

/// The body of `GET /servers/ID/log/stream`.
pub type ConsoleStream = Stream<ConsoleSource>;

impl ConsoleSource {
    pub(super) fn new(
        inner: &Arc<Inner>,
        server: ServerId,
        feed: Follower<Console>,
        last_event_id: Option<&str>,
    ) -> Self {
        let last = last_event_id.and_then(|id| id.parse().ok()).map(Arc::new);
        Self {
            inner: Arc::clone(inner),
            server,
            feed,
            spot: last.clone().map_or(Spot::New, Spot::After),
            last,
            told: 0,
            paging: None,
            pause: None,
            next_pause: inner.settings.retry,
            interrupted: false,
            in_vain: None,
        }
    }

    /// What the ring has for it. None when a page was asked for.
    fn in_ring(&mut self) -> Option<Poll<Option<Bytes>>> {
        let console = self.feed.state();
        let words = console.word.as_ref().map_or(0, |(count, _)| *count);
        if let Some((count, word)) = console.word.as_ref().filter(|(count, _)| *count != self.told) {
            // A reader that comes when all is well again need not hear of what was.
            let stale = self.told == 0 && !console.broken;
            self.told = *count;
            self.pause = None;
            if !stale {
                return Some(Poll::Ready(Some(word.clone())));
            }
        }
        let (base, head) = (console.ring.base(), console.ring.head());
        if matches!(self.spot, Spot::New) && head > 0 {
            self.spot = Spot::At(base.max(head - i64::from(BACKLOG)));
        }
        if let Spot::After(cursor) = &self.spot
            && let Some(position) = console.position(cursor)
        {
            self.spot = Spot::At(position);
        }
        if let Spot::At(position) = self.spot {
            match (console.ring.after(position), &self.last) {
                (Next::Events(bytes, position), _) => {
                    self.last = console.cursor(position).or(self.last.take());
                    self.spot = Spot::At(position);
                    let missed = std::mem::take(&mut self.interrupted);
                    return Some(Poll::Ready(Some(resumed(missed, bytes))));
                }
                (Next::Nothing, _) => return Some(Poll::Pending),
                (Next::Behind, Some(last)) => self.spot = Spot::After(Arc::clone(last)),
                // It got nothing yet, so nothing is missing.
                (Next::Behind, None) => self.spot = Spot::New,
            }
        }
        match &self.spot {
            Spot::After(cursor) if self.pause.is_none() && self.in_vain != Some((head, words)) => {
                self.in_vain = Some((head, words));
                let (server, cursor) = (self.server, Cursor::clone(cursor));
                self.paging = Some(self.inner.page(server, cursor));
                None
            }
            _ => Some(Poll::Pending),
        }
    }

    /// What a page that came has for the reader.
    fn took(&mut self, page: Result<Page>) -> Option<Bytes> {
        let Ok((piece, last)) = page else {
            self.in_vain = None;
            self.pause = Some(Box::pin(tokio::time::sleep(self.next_pause)));
            self.next_pause = (self.next_pause * 2).min(LONGEST);
            // That the follow is broken is told by itself.
            let told = self.interrupted || self.feed.state().broken;
            self.interrupted |= !told;
            return (!told).then(|| word(INTERRUPTED));
        };
        self.next_pause = self.inner.settings.retry;
        // An empty one: what is new comes from the follow, or the next page is asked for when that has moved.
        let last = Arc::new(last?);
        (self.spot, self.last, self.in_vain) = (Spot::After(Arc::clone(&last)), Some(last), None);
        Some(resumed(std::mem::take(&mut self.interrupted), piece.into_bytes()))
    }
}

/// `bytes`, after a word when something was `missed` before.
fn resumed(missed: bool, bytes: Bytes) -> Bytes {
    if missed { [word(GOES_ON), bytes].concat().into() } else { bytes }
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
                if let Some(bytes) = self.took(page) {
                    return Poll::Ready(Some(bytes));
                }
            }
            if self.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_ready()) {
                self.pause = None;
            }
            if let Some(next) = self.in_ring() {
                return next;
            }
        }
    }
}
