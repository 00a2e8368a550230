//! The state at one moment: the sender, the engine, and the host that receives.

use left4me::domain::fleet::event::End;
use left4me::domain::fleet::rules::{Known, OrderState, Outgoing, Told};
use left4me::domain::job::JobState;

/// The most orders. With a withdrawal, the second one withdraws the first.
pub const ORDERS: usize = 2;

/// How often an order is sent at most, so that no run is endless.
pub const ATTEMPTS: u8 = 8;

/// The names of the streams' generations.
pub const GENERATIONS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What the code does. A rule that is false is the fault that the code avoids.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    // The sender: domain/fleet/rules.rs, queue/fleet/resend.rs
    pub is_sent_until_acknowledged: bool,
    pub goes_again_into_a_new_stream: bool,
    pub goes_again_without_a_receipt: bool,
    pub asks_again_for_the_end: bool,
    pub an_attempt_has_its_own_number: bool,
    pub an_end_is_final: bool,
    pub what_was_taken_is_not_withdrawn_here: bool,
    // The host: queue/fleet/accept.rs
    pub believes_signatures_only: bool,
    pub obeys_what_is_for_it: bool,
    pub refuses_what_is_late: bool,
    pub a_known_order_is_not_carried_out: bool,
    pub a_known_order_is_told_again: bool,
    pub row_and_job_are_one_transaction: bool,
    pub a_withdrawal_leaves_a_tombstone: bool,
    // Both: db/fleet/cursors.rs, queue/fleet/outbox.rs
    pub the_cursor_moves_with_what_was_read: bool,
    pub a_new_stream_is_read_from_its_beginning: bool,
    pub the_mark_moves_when_the_engine_has_it: bool,
    pub a_new_stream_is_told_the_last_day: bool,
    pub the_mark_moves_in_its_own_stream_only: bool,
}

impl Rules {
    pub const TRUE: Self = Self {
        is_sent_until_acknowledged: true,
        goes_again_into_a_new_stream: true,
        goes_again_without_a_receipt: true,
        asks_again_for_the_end: true,
        an_attempt_has_its_own_number: true,
        an_end_is_final: true,
        what_was_taken_is_not_withdrawn_here: true,
        believes_signatures_only: true,
        obeys_what_is_for_it: true,
        refuses_what_is_late: true,
        a_known_order_is_not_carried_out: true,
        a_known_order_is_told_again: true,
        row_and_job_are_one_transaction: true,
        a_withdrawal_leaves_a_tombstone: true,
        the_cursor_moves_with_what_was_read: true,
        a_new_stream_is_read_from_its_beginning: true,
        the_mark_moves_when_the_engine_has_it: true,
        a_new_stream_is_told_the_last_day: true,
        the_mark_moves_in_its_own_stream_only: true,
    };
}

/// How often each may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// left4me-link or left4me-gate dies, on either host, and forgets what it has in hand.
    pub deaths: u8,
    /// The engine loses a message, or the last one and its number.
    pub losses: u8,
    /// A stream is lost and made again.
    pub wipes: u8,
    /// The engine gives out a message twice, the second time late.
    pub doubles: u8,
    /// Somebody writes into the host's stream what no controller sent to it.
    pub forgeries: u8,
    /// The sender sends an order again without need.
    pub hastes: u8,
}

/// A setting to explore.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub rules: Rules,
    /// How many orders there are at the start.
    pub orders: usize,
    /// Whether the first may be withdrawn, at any time.
    pub withdraws: bool,
    /// Whether the first one's time may be over, at any time.
    pub expires: bool,
    /// Whether the engine may swallow what it has had before, although it has lost it.
    pub swallows: bool,
    /// Whether, once nothing else happens, the sender sends again what was not answered.
    pub has_patience: bool,
    pub budget: Budget,
    /// What must be reachable, so that the promises are not empty.
    pub witnesses: &'static [&'static str],
}

/// An order's row at its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub state: OrderState,
    pub attempt: u8,
    pub is_taken: bool,
    pub sent: Option<Place>,
}

/// A place in a stream: its generation and a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub generation: u8,
    pub sequence: u8,
}

/// A message of the host's stream ORDERS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    pub order: usize,
    pub attempt: u8,
    pub forgery: Option<Forgery>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forgery {
    Unsigned,
    /// An order to another host, which the engine put here.
    Misdirected,
}

/// A message of the stream EVENTS: the event's number, and what it tells of which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    pub number: u8,
    pub order: usize,
    pub told: Told,
}

/// A stream of the engine. Message n is at n - 1; None is one that was lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream<M> {
    pub generation: u8,
    pub messages: Vec<Option<M>>,
    /// What was published ever, by which the engine finds duplicates.
    pub seen: Vec<M>,
}

/// What left4me-link has in hand and forgets when it dies. `O` is what it sends: taken from gate,
/// and acknowledged by the engine. `M` is what it has read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link<O, M> {
    pub taken: Vec<O>,
    pub acked: Vec<(O, u8)>,
    pub read: Option<(Place, M)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    pub rows: [Option<Row>; ORDERS],
    pub cursor: Option<Place>,
    pub link: Link<(usize, u8), Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    pub rows: [Option<Known>; ORDERS],
    pub jobs: [Option<JobState>; ORDERS],
    pub cursor: Option<Place>,
    /// All its events, with numbers from 1, and how many of them the engine has.
    pub events: Vec<(usize, Told)>,
    pub mark: u8,
    pub mark_of: u8,
    pub link: Link<u8, Message>,
    /// Without the rule: accepted, but not queued yet.
    pub unqueued: [bool; ORDERS],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Violations {
    pub ran_twice: bool,
    pub obeyed_a_forgery: bool,
    pub accepted_late: bool,
    pub left_an_end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub sender: Sender,
    pub orders: Stream<Message>,
    pub events: Stream<Event>,
    pub host: Host,
    /// Whether the time of the first order is over.
    pub is_late: bool,
    pub violations: Violations,
    pub left: Budget,
}

impl<M: Clone + PartialEq> Stream<M> {
    fn new() -> Self {
        Self {
            generation: 0,
            messages: Vec::new(),
            seen: Vec::new(),
        }
    }

    pub fn last(&self) -> u8 {
        self.messages.len() as u8
    }

    pub fn name(&self) -> &'static str {
        GENERATIONS[usize::from(self.generation)]
    }

    /// The next message after this sequence.
    pub fn next(&self, after: u64) -> Option<(Place, M)> {
        let all = self.messages.iter().enumerate().skip(after as usize);
        let mut all = all.filter_map(|(at, message)| Some((at, message.clone()?)));
        all.next().map(|(at, message)| {
            let place = Place {
                generation: self.generation,
                sequence: at as u8 + 1,
            };
            (place, message)
        })
    }

    /// Publishes it; returns the sequence in the acknowledgement.
    pub fn publish(&mut self, message: M, is_swallowed: bool) -> u8 {
        if !is_swallowed {
            self.messages.push(Some(message.clone()));
        }
        if !self.seen.contains(&message) {
            self.seen.push(message);
        }
        self.last()
    }

    pub fn wipe(&mut self) {
        self.generation += 1;
        self.messages.clear();
    }
}

impl<O, M> Link<O, M> {
    fn new() -> Self {
        Self {
            taken: Vec::new(),
            acked: Vec::new(),
            read: None,
        }
    }

    pub fn dies(&mut self) {
        *self = Self::new();
    }

    /// Whether it sends nothing: then it asks gate for more.
    pub fn is_idle(&self) -> bool {
        self.taken.is_empty() && self.acked.is_empty()
    }
}

impl State {
    pub fn new(world: &World) -> Self {
        let row = Row {
            state: OrderState::Kept,
            attempt: 1,
            is_taken: false,
            sent: None,
        };
        Self {
            sender: Sender {
                rows: std::array::from_fn(|order| (order < world.orders).then_some(row)),
                cursor: None,
                link: Link::new(),
            },
            orders: Stream::new(),
            events: Stream::new(),
            host: Host {
                rows: [None; ORDERS],
                jobs: [None; ORDERS],
                cursor: None,
                events: Vec::new(),
                mark: 0,
                mark_of: 0,
                link: Link::new(),
                unqueued: [false; ORDERS],
            },
            is_late: false,
            violations: Violations::default(),
            left: world.budget,
        }
    }

    /// An order, as the rules see it.
    pub fn outgoing(&self, world: &World, order: usize) -> Option<Outgoing<'static>> {
        let row = self.sender.rows[order]?;
        let withdrawal = (order == 0 && world.withdraws)
            .then_some(self.sender.rows[1])
            .flatten();
        Some(Outgoing {
            state: row.state,
            attempt: u32::from(row.attempt),
            sent_at: row.sent.map(|_| 0),
            generation: row
                .sent
                .map(|place| GENERATIONS[usize::from(place.generation)]),
            sequence: row.sent.map(|place| u64::from(place.sequence)),
            not_after: super::steps::NOT_AFTER,
            withdrawal: withdrawal.map(|row| row.state),
        })
    }

    /// How the order has ended in truth. None while that is open.
    pub fn truth(&self, order: usize) -> Option<OrderState> {
        match (self.host.rows[order]?, self.host.jobs[order]) {
            (Known::Refused, _) => Some(OrderState::Refused),
            (Known::Tombstone, _) => Some(OrderState::Withdrawn),
            (_, Some(JobState::Succeeded)) => Some(OrderState::Succeeded),
            (_, Some(JobState::Cancelled)) => Some(OrderState::Cancelled),
            (Known::Accepted { job: None, end }, None) => end.map(End::into),
            _ => None,
        }
    }
}
