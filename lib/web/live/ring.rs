//! The last events of a feed, encoded once for all subscribers. It is bounded: a subscriber that
//! falls behind reads from elsewhere.

use std::collections::VecDeque;
use std::fmt::Display;

use bytes::Bytes;
use serde::Serialize;

use super::sse;

/// The size at which a piece ends, bytes. A client holds at most one while it is sent.
pub const PIECE: usize = 32 * 1024;

/// Consecutive events, with the position of each.
#[derive(Default)]
pub struct Piece {
    bytes: Vec<u8>,
    ends: Vec<(i64, usize)>,
}

impl Piece {
    /// Appends an event. `position` is higher than that of the last one.
    pub fn push(&mut self, position: i64, id: &dyn Display, name: &str, data: &impl Serialize) {
        sse::event(&mut self.bytes, Some(id), name, data);
        self.ends.push((position, self.bytes.len()));
    }

    /// Whether it should be sent.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= PIECE
    }

    /// The position of the last event.
    pub fn last(&self) -> Option<i64> {
        self.ends.last().map(|end| end.0)
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

struct StoredPiece {
    bytes: Bytes,
    ends: Vec<(i64, usize)>,
    last: i64,
}

/// What a ring has after a position.
pub enum RingRead {
    /// Events, and the position of the last one.
    Events(Bytes, i64),
    /// Nothing yet.
    UpToDate,
    /// The position is older than the ring.
    Behind,
}

pub struct Ring {
    kept: VecDeque<StoredPiece>,
    /// The ring has everything after this position, up to `head`.
    base: i64,
    head: i64,
    bytes: usize,
    events: usize,
    most_bytes: usize,
    most_events: usize,
}

impl Ring {
    /// An empty ring after `position`. Above `most_bytes` or `most_events` it drops its oldest
    /// piece, but never the newest.
    pub fn new(position: i64, most_bytes: usize, most_events: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            base: position,
            head: position,
            bytes: 0,
            events: 0,
            most_bytes,
            most_events,
        }
    }

    pub fn push(&mut self, piece: Piece) {
        let Some(last) = piece.last() else { return };
        self.bytes += piece.bytes.len();
        self.events += piece.ends.len();
        self.head = last;
        self.kept.push_back(StoredPiece {
            bytes: piece.bytes.into(),
            ends: piece.ends,
            last,
        });

        while (self.bytes > self.most_bytes || self.events > self.most_events)
            && self.kept.len() > 1
        {
            let Some(oldest) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes.len();
            self.events -= oldest.ends.len();
            self.base = oldest.last;
        }
    }

    pub fn after(&self, position: i64) -> RingRead {
        if position < self.base {
            return RingRead::Behind;
        }

        let Some(kept) = self
            .kept
            .get(self.kept.partition_point(|kept| kept.last <= position))
        else {
            return RingRead::UpToDate;
        };

        let before = kept.ends.partition_point(|end| end.0 <= position);
        let begin = before.checked_sub(1).map_or(0, |i| kept.ends[i].1);
        RingRead::Events(kept.bytes.slice(begin..), kept.last)
    }

    /// The position after which it has everything.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// The position of the last event.
    pub fn head(&self) -> i64 {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(bytes: &[u8]) -> Vec<i64> {
        let text = std::str::from_utf8(bytes).unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix("id: ")?.parse().ok())
            .collect()
    }

    proptest! {
        #[test]
        fn from_any_position_the_rest_comes_once_and_in_order_or_is_behind(
            pieces in prop::collection::vec(1_usize..6, 1..20), start in 0_i64..50, from in 0_i64..200, most in 1_usize..400,
        ) {
            let mut ring = Ring::new(start, most, 40);
            let mut at = start;
            for length in pieces {
                let mut piece = Piece::default();
                for _ in 0..length {
                    // Positions may have gaps: a log whose middle was left out.
                    at += if at % 7 == 0 { 3 } else { 1 };
                    piece.push(at, &at, "x", &at);
                }

                ring.push(piece);
            }

            prop_assert!(ring.kept.len() == 1 || (ring.bytes <= most && ring.events <= 40));
            prop_assert_eq!(ring.head(), at);

            let mut position = from;
            let mut seen = Vec::new();
            loop {
                match ring.after(position) {
                    RingRead::Events(bytes, last) => {
                        seen.extend(ids(&bytes));
                        position = last;
                    }
                    RingRead::UpToDate => break,
                    RingRead::Behind => {
                        prop_assert!(from < ring.base());
                        return Ok(());
                    }
                }
            }

            let all: Vec<i64> = ring.kept.iter().flat_map(|kept| kept.ends.iter().map(|end| end.0)).collect();
            prop_assert_eq!(seen, all.into_iter().filter(|id| *id > from).collect::<Vec<_>>());
        }
    }
}
