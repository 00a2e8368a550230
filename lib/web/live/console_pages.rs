//! Pages of consoles. Each page needs a connection to the helper and a unit there, so a few threads
//! read the pages of all streams; requests wait in a queue. A page has a time limit, and is
//! cancelled when its stream closes.

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

/// Pages that are read at once.
const READERS: usize = 3;
/// Lines in one request to the helper.
pub const LINES: u32 = 500;

/// Lines, and the cursor of the last one; none if there are no lines.
pub type LinePage = (Piece, Option<Cursor>);

/// Requests for pages, and the threads that serve them.
#[derive(Default)]
pub struct ConsolePages(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<PageRequest>,
    readers: usize,
}

struct PageRequest {
    server: ServerId,
    cursor: Cursor,
    link: Arc<Mutex<Link>>,
    answer: oneshot::Sender<Result<LinePage>>,
}

/// Shared by a stream and the thread that reads its page.
#[derive(Default)]
struct Link {
    gone: bool,
    canceller: Option<Canceller>,
}

/// A requested page. Dropping it cancels the request.
pub struct PageFuture {
    link: Arc<Mutex<Link>>,
    answer: oneshot::Receiver<Result<LinePage>>,
}

impl Future for PageFuture {
    type Output = Result<LinePage>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<LinePage>> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(
            answer.unwrap_or_else(|_| Err(Error::unavailable("a page of a console was not read"))),
        )
    }
}

impl Drop for PageFuture {
    fn drop(&mut self) {
        self.answer.close();
        let mut link = lock(&self.link);
        link.gone = true;
        if let Some(canceller) = link.canceller.take() {
            canceller.hang_up();
        }
    }
}

impl Inner {
    /// Requests the lines after `cursor` in a server's journal.
    pub fn page(self: &Arc<Self>, server: ServerId, cursor: Cursor) -> PageFuture {
        let (sender, answer) = oneshot::channel();
        let link = Arc::new(Mutex::new(Link::default()));
        let page = PageFuture {
            link: Arc::clone(&link),
            answer,
        };

        let mut queue = lock(&self.console_pages.0);

        queue.waiting.retain(|request| !request.answer.is_closed());
        queue.waiting.push_back(PageRequest {
            server,
            cursor,
            link,
            answer: sender,
        });

        if queue.readers < READERS {
            let inner = Arc::clone(self);
            match spawn("console-page", move || inner.read_pages()) {
                Ok(_) => queue.readers += 1,
                Err(error) => {
                    tracing::warn!(%error, "cannot start a thread for console pages; \
                                            they have to wait");
                    if queue.readers == 0 {
                        // No thread would ever serve them: the streams ask again.
                        queue.waiting.clear();
                    }
                }
            }
        }

        page
    }

    /// Serves requests until the queue is empty.
    fn read_pages(&self) {
        while let Some(request) = self.next_request() {
            if request.answer.is_closed() {
                continue;
            }

            // A panic must not cost a thread; the stream then gets an error.
            let page = catch_unwind(AssertUnwindSafe(|| read(self, &request)));
            lock(&request.link).canceller = None;

            let Ok(page) = page else { continue };
            if let Err(error) = &page
                && !request.answer.is_closed()
            {
                tracing::warn!(server = request.server.0, %error, "cannot read a page of a \
                    console");
            }

            drop(request.answer.send(page));
        }
    }

    fn next_request(&self) -> Option<PageRequest> {
        let mut queue = lock(&self.console_pages.0);
        let request = queue
            .waiting
            .pop_front()
            .filter(|_| !self.closed.load(Ordering::Acquire));
        if request.is_none() {
            queue.readers -= 1;
            queue.waiting.clear();
        }

        request
    }
}

/// Reads one page. Lines that arrived before an error or the deadline are a page too.
fn read(inner: &Inner, request: &PageRequest) -> Result<LinePage> {
    let deadline = Instant::now() + inner.settings.page_time;
    let (server, lines, after) = (
        request.server.into(),
        Some(LINES),
        Some(request.cursor.clone()),
    );

    let journal = HelperRequest::Journal {
        server,
        lines,
        follow: false,
        entries: true,
        after,
    };

    let mut connection = Connection::open(&inner.settings.helper, &journal)?;

    connection.set_deadline(deadline);
    {
        let mut link = lock(&request.link);
        // From here on the thread is held until the helper's side has ended: its units are few,
        // too.
        match link.gone {
            true => connection.canceller().hang_up(),
            false => link.canceller = Some(connection.canceller()),
        }
    }

    let (mut piece, mut last, mut position) = (Piece::default(), None, 0);
    let filled = entry::read(&mut connection, |entries| {
        for entry in entries {
            position += 1;
            entry::push(&mut piece, position, &entry);
            last = Some(entry.cursor);
            if piece.is_full() {
                return Err(Error::failed("the page is full"));
            }
        }

        Ok(())
    });

    match (filled, last) {
        (Err(error), None) => Err(error),
        (_, last) => Ok((piece, last)),
    }
}
