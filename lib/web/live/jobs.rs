//! The job log feed. The pump reads the new lines of each job once; subscribers take them from the
//! ring, or from pages of the database if the ring does not reach back far enough.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use rusqlite::Connection;
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::feed::{Feed, Subscriber};
use super::ring::{PIECE, Piece, Ring, RingRead};
use super::stream::{Source, Stream};
use super::{Inner, sse};
use crate::base::names::{JobId, TaskId};
use crate::base::{Exit, Result, clock};
use crate::db::{change_feed, jobs, logs};
use crate::domain::job::JobState;

/// Rows in one read, if they are short.
const ROWS: u32 = 256;

/// The state of one job's log.
#[derive(Default)]
pub struct JobLog {
    /// None before the first read.
    ring: Option<Ring>,
    /// The job's state and the event that reports it; none once it has ended.
    state: Option<(JobState, Bytes)>,
    /// The last event, set once every line is in the ring. Empty if the job's row is gone.
    end: Option<Bytes>,
}

/// One line, as the page gets it.
#[derive(Serialize)]
struct Line<'a> {
    seq: i64,
    at: i64,
    task: Option<TaskId>,
    line: &'a str,
}

/// The lines after `after`, about as much as one piece.
fn page(connection: &Connection, job: JobId, after: i64) -> Result<Piece> {
    let mut piece = Piece::default();
    for line in logs::page(connection, job, after, ROWS, PIECE)? {
        let data = Line {
            seq: line.seq,
            at: line.at,
            task: line.task_id,
            line: &sse::text(&line.line),
        };

        piece.push(line.seq, &line.seq, line.stream.as_str(), &data);
    }

    Ok(piece)
}

/// Reads a job's new lines, once for all subscribers. Returns whether there were any.
pub fn read(
    connection: &Connection,
    job: JobId,
    feed: &Feed<JobLog>,
    ring_bytes: usize,
) -> Result<bool> {
    let head = {
        let log = feed.state();
        if log.end.is_some() {
            return Ok(false);
        }
        log.ring.as_ref().map(Ring::head)
    };

    let (state, exit_code) = match jobs::state(connection, job) {
        Err(error) if error.exit == Exit::NotFound => {
            feed.state().end = Some(Bytes::new());
            return Ok(true);
        }
        state => state?,
    };

    // The first read starts the ring at the log's current end.
    let (mut position, mut news) = match head {
        Some(head) => (head, false),
        None => {
            let last = logs::last_seq(connection, job)?;
            feed.state().ring = Some(Ring::new(last, ring_bytes, usize::MAX));
            (last, true)
        }
    };

    loop {
        let mut piece = page(connection, job, position)?;
        let Some(last) = piece.last() else { break };
        (position, news) = (last, true);
        feed.state()
            .ring
            .iter_mut()
            .for_each(|ring| ring.push(std::mem::take(&mut piece)));
    }

    // The state was read before the lines, so the end comes after the last line.
    let mut log = feed.state();
    if log.state.as_ref().is_none_or(|(known, _)| *known != state) {
        news = true;
        let data = json!({"state": state.as_str(), "exit_code": exit_code});
        if state.is_terminal() {
            log.end = Some(sse::one(None, "end", &data));
        } else {
            log.state = Some((
                state,
                sse::one(None, "state", &json!({"state": state.as_str()})),
            ));
        }
    }

    Ok(news)
}

/// One subscriber's position in a job's log.
pub struct JobSource {
    inner: Arc<Inner>,
    job: JobId,
    feed: Subscriber<JobLog>,
    /// The seq of the last line that was sent.
    at: i64,
    state_sent: Option<JobState>,
    step: Reading,
}

enum Reading {
    /// Waits for the database: where the replay starts.
    Opening(oneshot::Receiver<Result<change_feed::Replay>>),
    /// Reads from the ring.
    Ring,
    /// Waits for a page. The number is the ring's base at the time of the request.
    Page(oneshot::Receiver<Result<Piece>>, i64),
    /// The last event was sent.
    Ended,
}

/// The body of `GET /jobs/ID/logs`.
pub type JobStream = Stream<JobSource>;

impl JobSource {
    pub(super) fn new(
        inner: &Arc<Inner>,
        job: JobId,
        feed: Subscriber<JobLog>,
        after: Option<i64>,
    ) -> Self {
        let (after, most) = (after.unwrap_or(0), inner.settings.replay_limit);
        let opening = inner.ask(move |db| change_feed::replay(db.connection(), job, after, most));
        Self {
            inner: Arc::clone(inner),
            job,
            feed,
            at: 0,
            state_sent: None,
            step: Reading::Opening(opening),
        }
    }

    /// What the ring has, or the next thing to do.
    fn next_from_ring(&mut self) -> Poll<Option<Bytes>> {
        let log = self.feed.state();
        let Some(ring) = &log.ring else {
            return if log.end.is_some() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };

        if let Some((state, event)) = log
            .state
            .as_ref()
            .filter(|(state, _)| Some(*state) != self.state_sent && log.end.is_none())
        {
            self.state_sent = Some(*state);
            return Poll::Ready(Some(event.clone()));
        }

        match (ring.after(self.at), &log.end) {
            (RingRead::Events(bytes, at), _) => {
                self.at = at;
                Poll::Ready(Some(bytes))
            }
            (RingRead::Behind, _) => {
                let (job, at, base) = (self.job, self.at, ring.base());
                self.inner.pages.fetch_add(1, Ordering::Relaxed);
                self.step = Reading::Page(
                    self.inner.ask(move |db| page(db.connection(), job, at)),
                    base,
                );

                Poll::Pending
            }
            (RingRead::UpToDate, None) => Poll::Pending,
            (RingRead::UpToDate, Some(end)) => {
                self.step = Reading::Ended;
                Poll::Ready(Some(end.clone()).filter(|end| !end.is_empty()))
            }
        }
    }
}

impl Source for JobSource {
    fn watch(&self, waker: &Waker) {
        self.feed.watch(waker);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            // A stream that cannot read the database ends: its client reconnects and resumes.
            match &mut self.step {
                Reading::Opening(begin) => {
                    let Ok(Ok(replay)) = ready!(Pin::new(begin).poll(cx)) else {
                        return Poll::Ready(None);
                    };
                    self.at = replay.after;
                    self.step = Reading::Ring;
                    if replay.dropped > 0 {
                        return Poll::Ready(Some(left_out(replay)));
                    }
                }
                Reading::Page(page, base) => {
                    let base = *base;
                    let Ok(Ok(piece)) = ready!(Pin::new(page).poll(cx)) else {
                        return Poll::Ready(None);
                    };
                    self.step = Reading::Ring;
                    // Without rows up to the ring's base there is nothing to wait for: they were
                    // pruned.
                    self.at = piece.last().unwrap_or(base);
                    if piece.last().is_some() {
                        return Poll::Ready(Some(piece.into_bytes()));
                    }
                }
                Reading::Ring => {
                    let next = self.next_from_ring();
                    if !matches!(self.step, Reading::Page(..)) {
                        return next;
                    }
                }
                Reading::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// The line that stands for those a replay leaves out. It has no id, so that a client does not take
/// the missing lines for read.
fn left_out(replay: change_feed::Replay) -> Bytes {
    let line = format!("[… {} earlier lines are not shown …]", replay.dropped);
    let data = json!({"seq": replay.after, "at": clock::now_ms(), "task": null, "line": line, "dropped": replay.dropped});
    sse::one(None, "stderr", &data)
}
