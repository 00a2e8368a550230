//! Several feeds in one stream: over HTTP/1.1 a browser opens six connections to a host, and a
//! stream keeps one for as long as its page is open.
//!
//! The stream starts with the changes. Before events of another feed, it sends `topic` with the
//! feed's index in the request (null for the changes). That event also clears the client's
//! Last-Event-ID, so that an event without an id does not inherit one of another feed. A feed that
//! ends, or cannot be opened, sends `over`. A client reconnects with its position in each feed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde_json::json;

use super::changes::ChangesSource;
use super::stream::{Reader, Source, Stream};
use super::{Inner, sse};
use crate::base::names::{JobId, ServerId};

/// One feed beside the changes, and the position after which it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A job's log, after this line.
    Job(JobId, Option<i64>),
    /// A server's console, after this cursor in the journal.
    Console(ServerId, Option<String>),
}

/// An opened feed, or why it could not be opened.
pub(super) type Opened = Result<Box<dyn Source>, String>;

/// The changes and the other feeds of one browser.
pub struct ManySource {
    changes: ChangesSource,
    feeds: Vec<Option<Box<dyn Source>>>,
    /// Feeds that could not be opened. Reported first.
    refused: VecDeque<(usize, String)>,
    /// The feed of the last events; none for the changes.
    topic: Option<usize>,
    /// Sent after the `topic` event.
    held: Option<Bytes>,
    /// The feed that is polled first, so that a busy one does not block the others.
    next: usize,
}

/// The body of `GET /live`.
pub type ManyStream = Stream<ManySource>;

impl ManySource {
    pub(super) fn stream(
        inner: &Arc<Inner>,
        changes: ChangesSource,
        opened: Vec<Opened>,
        reader: Reader,
    ) -> ManyStream {
        let (mut feeds, mut refused) = (Vec::new(), VecDeque::new());
        for (number, feed) in opened.into_iter().enumerate() {
            feeds.push(match feed {
                Ok(feed) => Some(feed),
                Err(why) => {
                    refused.push_back((number, why));
                    None
                }
            });
        }

        let source = Self {
            changes,
            feeds,
            refused,
            topic: None,
            held: None,
            next: 0,
        };

        Stream::new(inner, source, reader)
    }

    /// `events` of this feed, after a `topic` event if the last ones were of another.
    fn of(&mut self, topic: Option<usize>, events: Bytes) -> Poll<Option<Bytes>> {
        if self.topic == topic {
            return Poll::Ready(Some(events));
        }
        self.topic = topic;
        self.held = Some(events);
        Poll::Ready(Some(sse::one(Some(&""), "topic", &topic)))
    }
}

/// The event of a feed that has ended.
fn over(why: Option<&str>) -> Bytes {
    sse::one(None, "over", &json!({"why": why}))
}

impl Source for ManySource {
    fn watch(&self, waker: &Waker) {
        self.changes.watch(waker);
        self.feeds
            .iter()
            .flatten()
            .for_each(|feed| feed.watch(waker));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(held));
        }

        if let Some((number, why)) = self.refused.pop_front() {
            return self.of(Some(number), over(Some(&why)));
        }

        match self.changes.poll(cx) {
            Poll::Ready(Some(events)) => return self.of(None, events),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }

        for step in 0..self.feeds.len() {
            let number = (self.next + step) % self.feeds.len();

            let Some(feed) = &mut self.feeds[number] else {
                continue;
            };
            match feed.poll(cx) {
                Poll::Ready(Some(events)) => {
                    self.next = number + 1;
                    return self.of(Some(number), events);
                }
                Poll::Ready(None) => {
                    self.feeds[number] = None;
                    return self.of(Some(number), over(None));
                }
                Poll::Pending => {}
            }
        }

        Poll::Pending
    }
}
