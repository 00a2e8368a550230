//! The body of one stream: the events of its source and a comment at each heartbeat. It ends when
//! the client loses the right to read it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::{Inner, sse};

/// The result of a rights check, once it is known.
pub type RightsCheck = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The client of a stream.
pub struct Reader {
    /// Whether it may still read. Checked at each heartbeat, and each time a user loses a right;
    /// nothing is sent before the result.
    pub check: Box<dyn Fn() -> RightsCheck + Send>,
    /// Dropped with the stream.
    pub guard: Box<dyn Send>,
}

/// Where a stream's events come from.
pub trait Source: Send + Unpin {
    /// Registers to be woken when there is more. Called before each poll.
    fn watch(&self, waker: &Waker);

    /// The next events; none at the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// A body that lives until the client leaves, loses its rights, or the source ends.
pub struct Stream<S> {
    source: S,
    inner: Arc<Inner>,
    reader: Reader,
    checking: Option<RightsCheck>,
    rights: u64,
    beat: Option<Pin<Box<Sleep>>>,
    /// A heartbeat is due whose comment was not sent yet.
    quiet: bool,
    over: bool,
}

impl<S: Source> Stream<S> {
    pub(super) fn new(inner: &Arc<Inner>, source: S, reader: Reader) -> Self {
        inner.streams.fetch_add(1, Ordering::AcqRel);
        let rights = inner.rights.load(Ordering::Acquire);
        let inner = Arc::clone(inner);
        Self {
            source,
            inner,
            reader,
            checking: None,
            rights,
            beat: None,
            quiet: false,
            over: false,
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.source.watch(cx.waker());
        if self.over || self.inner.closed.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }

        self.heartbeat(cx);

        let rights = self.inner.rights.load(Ordering::Acquire);
        if std::mem::replace(&mut self.rights, rights) != rights {
            self.checking = Some((self.reader.check)());
        }

        if let Some(checking) = &mut self.checking {
            match checking.as_mut().poll(cx) {
                Poll::Ready(true) => self.checking = None,
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }

        if std::mem::take(&mut self.quiet) {
            return Poll::Ready(Some(sse::COMMENT));
        }

        self.source.poll(cx)
    }

    /// Checks the clock, however busy the source is.
    fn heartbeat(&mut self, cx: &mut Context<'_>) {
        let time = self.inner.settings.heartbeat;
        let beat = self
            .beat
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        while beat.as_mut().poll(cx).is_ready() {
            beat.as_mut().reset(Instant::now() + time);
            self.quiet = true;
            self.checking = Some((self.reader.check)());
        }
    }
}

impl<S: Source> Body for Stream<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        let next = stream.next(cx);
        stream.over |= matches!(next, Poll::Ready(None));
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        self.inner.streams.fetch_sub(1, Ordering::AcqRel);
    }
}
