//! Pages of consoles, read by a few threads however many streams ask: each is a connection to the helper, and there a unit.
//! Who waits for its turn costs neither. A page has its time; when its stream goes, the helper is told to end it.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::oneshot;

use super::feed::lock;
use super::ring::Piece;
use super::{Inner, entry, spawn};
use crate::base::names::{Cursor, ServerId};
use crate::base::{Error, Result};
use crate::wire::HelperRequest;
use crate::wire::client::{Canceller, Connection};

/// So many pages are read at once, in all.
const READERS: usize = 3;
/// So many lines the helper is asked for at a time.
pub const LINES: u32 = 500;

/// Lines, and the place of the last one; none when there are no lines.
pub type Page = (Piece, Option<Cursor>);

/// The pages that are to be read.
#[derive(Default)]
pub struct Pages(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Wish>,
    /// Threads that read.
    readers: usize,
}

/// What one stream wants.
struct Wish {
    server: ServerId,
    cursor: Cursor,
    line: Arc<Mutex<Line>>,
    answer: oneshot::Sender<Result<Page>>,
}

/// Between a stream and the thread that reads for it.
#[derive(Default)]
struct Line {
    gone: bool,
    hangup: Option<Canceller>,
}

/// A page that is to come. Dropping it ends its reading.
pub struct Asked {
    line: Arc<Mutex<Line>>,
    answer: oneshot::Receiver<Result<Page>>,
}

impl Future for Asked {
    type Output = Result<Page>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Page>> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.unwrap_or_else(|_| Err(Error::unavailable("a page of a console was not read"))))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.close();
        let mut line = lock(&self.line);
        line.gone = true;
        if let Some(hangup) = line.hangup.take() {
            hangup.hang_up();
        }
    }
}

impl Inner {
    /// Asks for what follows `cursor` in a server's journal.
    pub fn page(self: &Arc<Self>, server: ServerId, cursor: Cursor) -> Asked {
        let (sender, answer) = oneshot::channel();
        let line = Arc::new(Mutex::new(Line::default()));
        let asked = Asked { line: Arc::clone(&line), answer };
        let mut queue = lock(&self.console_pages.0);
        queue.waiting.retain(|wish| !wish.answer.is_closed());
        queue.waiting.push_back(Wish { server, cursor, line, answer: sender });
        if queue.readers < READERS {
            let inner = Arc::clone(self);
            match spawn("console-page", move || inner.read_pages()) {
                Ok(_) => queue.readers += 1,
                Err(error) => {
                    tracing::warn!(%error, "pages of consoles have to wait");
                    if queue.readers == 0 {
                        // Nobody would ever come to them: they ask again.
                        queue.waiting.clear();
                    }
                }
            }
        }
        asked
    }

    /// Until none is wanted.
    fn read_pages(&self) {
        while let Some(wish) = self.next_wish() {
            if wish.answer.is_closed() {
                continue;
            }
            // A panic must not cost a reader for good; whoever waits for the page is told that there is none.
            let page = catch_unwind(AssertUnwindSafe(|| read(self, &wish)));
            lock(&wish.line).hangup = None;
            let Ok(page) = page else { continue };
            if let Err(error) = &page
                && !wish.answer.is_closed()
            {
                tracing::warn!(server = wish.server.0, %error, "a page of a console cannot be read");
            }
            drop(wish.answer.send(page));
        }
    }

    fn next_wish(&self) -> Option<Wish> {
        let mut queue = lock(&self.console_pages.0);
        let wish = queue.waiting.pop_front().filter(|_| !self.closed.load(Ordering::Acquire));
        if wish.is_none() {
            queue.readers -= 1;
            queue.waiting.clear();
        }
        wish
    }
}

/// One page. What came before something broke, or before the time was over, is a page too.
fn read(inner: &Inner, wish: &Wish) -> Result<Page> {
    let deadline = Instant::now() + inner.settings.page_time;
    let (server, lines, after) = (wish.server.into(), Some(LINES), Some(wish.cursor.clone()));
    let request = HelperRequest::Journal { server, lines, follow: false, entries: true, after };
    let mut connection = Connection::open(&inner.settings.helper, &request)?;
    connection.set_deadline(deadline);
    {
        let mut line = lock(&wish.line);
        // From here on the turn is over when the helper's side has ended, not before: its units are few, too.
        match line.gone {
            true => connection.canceller().hang_up(),
            false => line.hangup = Some(connection.canceller()),
        }
    }
    let (mut piece, mut last, mut position) = (Piece::default(), None, 0);
    let mut fill = || -> Result<()> {
        while let Some(answer) = connection.next_answer()? {
            let Some(entry) = entry::of(&answer)? else { continue };
            position += 1;
            entry::push(&mut piece, position, &entry);
            last = Some(entry.cursor);
            if piece.is_full() {
                break;
            }
        }
        Ok(())
    };
    match (fill(), last) {
        (Err(error), None) => Err(error),
        (_, last) => Ok((piece, last)),
    }
}
