//! A connection with a limit on slow readers: a peer that reads next to nothing for a while is
//! disconnected, so that pending data does not stay in memory.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::listen::Connection;

/// Bytes that a peer has to read within each time limit. One that reads fewer could hold its
/// pending data without end.
const MIN_BYTES: usize = 16 * 1024;

/// A connection with a time limit on writing.
pub struct WriteLimited {
    stream: Connection,
    budget: WaitBudget,
}

impl WriteLimited {
    /// Disconnects the peer if it reads less than 16 KiB in `budget` of waiting.
    pub fn new(stream: Connection, budget: Duration) -> Self {
        Self {
            stream,
            budget: WaitBudget::new(budget),
        }
    }

    fn check(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = self.budget.account(context, written);
        if let Poll::Ready(Err(error)) = &written
            && error.kind() == io::ErrorKind::TimedOut
        {
            // Otherwise the kernel would keep its part and retry.
            self.stream.forget_unsent();
        }

        written
    }
}

/// The time spent waiting since the peer last took [`MIN_BYTES`]. Only time with pending data
/// counts: a stream without events is not the peer's fault.
struct WaitBudget {
    limit: Duration,
    left: Duration,
    taken: usize,
    /// While a write waits: since when, and the deadline.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl WaitBudget {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            left: limit,
            taken: 0,
            waiting: None,
        }
    }

    /// Passes a finished write on; counts the time of a pending one.
    fn account(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(done) = written {
            if let Some((since, _)) = self.waiting.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            self.taken = self
                .taken
                .saturating_add(done.as_ref().copied().unwrap_or(0));
            if self.taken >= MIN_BYTES {
                (self.left, self.taken) = (self.limit, 0);
            }
            return Poll::Ready(done);
        }

        let left = self.left;
        let (_, deadline) = self
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        ready!(deadline.as_mut().poll(context));
        self.waiting = None;
        self.left = Duration::ZERO;

        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client reads too slowly",
        )))
    }
}

impl AsyncRead for WriteLimited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteLimited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);
    /// Long enough to mean never.
    const LONG: Duration = Duration::from_secs(20);

    /// Writes until it is disconnected or has written `bytes`.
    async fn write(to: &mut DuplexStream, bytes: usize) -> io::Result<()> {
        let (mut budget, mut written) = (WaitBudget::new(LIMIT), 0);
        while written < bytes {
            let part = [0; 8192];
            written += poll_fn(|context| {
                let done = Pin::new(&mut *to).poll_write(context, &part);
                budget.account(context, done)
            })
            .await?;
        }

        Ok(())
    }

    /// Reads `at_once` bytes at a time, with a rest between.
    async fn read(mut from: DuplexStream, at_once: usize, rest: Duration) {
        let mut part = vec![0; at_once];
        while from.read_exact(&mut part).await.is_ok() {
            sleep(rest).await;
        }
    }

    fn run<T>(story: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async { timeout(LONG, story).await.expect("it ends") })
    }

    #[test]
    fn a_client_that_reads_byte_by_byte_is_disconnected() {
        run(async {
            let (mut ours, theirs) = duplex(64);
            let reader = tokio::spawn(read(theirs, 1, Duration::from_millis(5)));
            let begun = Instant::now();
            let error = write(&mut ours, usize::MAX).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());
            reader.abort();
        });
    }

    #[test]
    fn a_slow_client_that_reads_enough_stays_connected() {
        run(async {
            let (mut ours, theirs) = duplex(64);
            tokio::spawn(read(theirs, MIN_BYTES, LIMIT / 4));
            let begun = Instant::now();
            write(&mut ours, 12 * MIN_BYTES).await.unwrap();
            assert!(
                begun.elapsed() > LIMIT * 2,
                "it took long: {:?}",
                begun.elapsed()
            );
        });
    }

    #[test]
    fn time_without_pending_data_does_not_count() {
        run(async {
            let (mut ours, mut theirs) = duplex(64);
            let mut budget = WaitBudget::new(LIMIT);
            for _ in 0..3 {
                let event = [0; 64];
                let done = poll_fn(|context| {
                    let done = Pin::new(&mut ours).poll_write(context, &event);
                    budget.account(context, done)
                });

                assert_eq!(done.await.unwrap(), 64);
                theirs.read_exact(&mut [0; 64]).await.unwrap();
                sleep(LIMIT).await;
            }

            assert_eq!(budget.left, LIMIT);
        });
    }
}
