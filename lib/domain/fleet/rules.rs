//! The rules by which an order comes to its end: what its sender does until it knows the end, and
//! what the host does that receives it. The engine may lose, double and reorder messages, or lose
//! whole streams; with these rules that only delays. `tests/model/fleet.rs` explores them.
//!
//! | rule | who asks it |
//! |---|---|
//! | [`is_to_be_sent`], [`acknowledged`] | the sender, before and after the engine has an attempt |
//! | [`resend`], [`after_resend`] | the sender, whenever it looks at its open orders |
//! | [`told`], [`settle`], [`expire`] | the sender, when events come and time passes |
//! | [`withdraw_here`], [`holds`] | the sender, when an order is withdrawn |
//! | [`accept`], [`tell_again`], [`withdraw`] | the host that receives it |
//! | [`read_from`], [`cursor_after`], [`begins_again`] | each reader of a stream |
//! | [`mark_after_loss`], [`mark_after_sent`] | each host, for the events that it tells |

use super::event::{ACCEPTED, End, FleetEvent};
use super::order::{Order, Unreadable};
use crate::base::names::{FleetHost, JobId};
use crate::base::words::words;
use crate::domain::job::JobState;

words! {
    /// How far an order is, as its sender knows it.
    pub enum OrderState ("a state of an order") {
        /// On this host's disk.
        Kept = "kept",
        /// With the engine.
        Sent = "sent",
        /// The host has it, and has not told its end.
        Accepted = "accepted",
        Refused = "refused",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
        /// Before the host carried it out.
        Withdrawn = "withdrawn",
        /// Its time is over without an answer: nothing is known.
        Unknown = "unknown",
    }
}

impl OrderState {
    /// The states of an order whose end is not known.
    pub const OPEN: [Self; 3] = [Self::Kept, Self::Sent, Self::Accepted];

    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Kept | Self::Sent | Self::Accepted)
    }
}

impl From<End> for OrderState {
    fn from(end: End) -> Self {
        match end {
            End::Succeeded => Self::Succeeded,
            End::Failed => Self::Failed,
            End::Cancelled => Self::Cancelled,
            End::Refused => Self::Refused,
            End::Withdrawn => Self::Withdrawn,
        }
    }
}

/// How long a receipt may take, in ms, while its host is there. Each further attempt waits twice as
/// long as the one before, up to [`PATIENCE`].
pub const RECEIPT_WITHIN: i64 = 60_000;

/// After what time an accepted order is asked about, in ms, while its host is there: its end may be
/// lost. Each further attempt waits twice as long, up to [`PATIENCE`].
pub const END_WITHIN: i64 = 10 * 60_000;

/// The longest wait between two attempts, in ms.
pub const PATIENCE: i64 = 6 * 3_600_000;

/// How long after an order's time its receipt is still waited for, in ms.
pub const GRACE: i64 = 60_000;

/// The longest time that an order can be good for, as its receiver sees it, in ms: the sender's
/// limit, and a day for clocks that differ.
pub const LONGEST_TIME: i64 = 30 * 24 * 3_600_000;

/// How long a host keeps an order's row after the order's time, in ms: longer than the engine keeps
/// any attempt. An order whose row is gone would be refused as late, although it was carried out.
pub const KEPT_AFTER: i64 = 62 * 24 * 3_600_000;

/// The most events that are told again after a loss, and the greatest age of the first, in ms.
pub const TOLD_AGAIN: i64 = 10_000;
pub const TOLD_AGAIN_SINCE: i64 = 24 * 3_600_000;

/// An order at its sender.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub state: OrderState,
    /// Counts from 1.
    pub attempt: u32,
    /// When, and where, the engine acknowledged this attempt. None: it has to be sent.
    pub sent_at: Option<i64>,
    pub generation: Option<&'a str>,
    pub sequence: Option<u64>,
    pub not_after: i64,
    /// The state of the order that withdraws it, if there is one.
    pub withdrawal: Option<OrderState>,
}

/// What the sender knows besides the order.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub now: i64,
    /// Of the stream ORDERS: its generation, empty while unknown, and its last sequence.
    pub generation: &'a str,
    pub last: u64,
    /// When the newest status of the order's host came, by this host's clock.
    pub status_at: Option<i64>,
    /// Whether, in this transaction, the stream EVENTS is found to begin again: see
    /// [`begins_again`].
    pub events_begin_again: bool,
}

/// Why an order is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The host is there, and no receipt has come.
    NoReceipt,
    /// The host is there, and the end has not been told for long.
    NoEnd,
    /// The stream that had the order is lost, or has lost it.
    OrdersLost,
    /// The stream of events is lost, and perhaps the order's end with it.
    EventsLost,
}

/// Whether this attempt is to be sent. An order that was never sent stays so after its time: the
/// host's refusal is better than no answer.
pub fn is_to_be_sent(order: &Outgoing<'_>) -> bool {
    !order.state.is_settled() && order.sent_at.is_none() && !holds(order.withdrawal)
}

/// The state once the engine has acknowledged `attempt`. None for an older attempt, or if the order
/// is settled: then nothing is written down.
pub fn acknowledged(state: OrderState, newest: u32, attempt: u32) -> Option<OrderState> {
    match state {
        _ if attempt != newest || state.is_settled() => None,
        OrderState::Kept => Some(OrderState::Sent),
        state => Some(state),
    }
}

/// Whether a further attempt is needed, and why. It has the same bytes, another number, and no
/// `sent_at`, `generation` and `sequence` yet; the state is [`after_resend`]. Commit that before it
/// is sent. It is never wrong to send an order again: its host carries it out once.
pub fn resend(order: &Outgoing<'_>, facts: &Facts<'_>) -> Option<Reason> {
    let sent_at = order.sent_at?;
    if order.state.is_settled() || holds(order.withdrawal) {
        return None;
    }

    // Only a status that is newer than the attempt shows that its host can answer.
    let is_there = facts.status_at.is_some_and(|at| at > sent_at);
    let is_silent_for = |first| is_there && facts.now >= sent_at + patience(first, order.attempt);
    match order.state {
        OrderState::Accepted if facts.events_begin_again => Some(Reason::EventsLost),
        OrderState::Accepted if is_silent_for(END_WITHIN) => Some(Reason::NoEnd),
        OrderState::Accepted => None,
        _ if is_lost(order, facts) => Some(Reason::OrdersLost),
        _ if is_silent_for(RECEIPT_WITHIN) => Some(Reason::NoReceipt),
        _ => None,
    }
}

fn is_lost(order: &Outgoing<'_>, facts: &Facts<'_>) -> bool {
    !facts.generation.is_empty()
        && (order.generation != Some(facts.generation) || order.sequence > Some(facts.last))
}

/// How long attempt number `attempt` waits for an answer.
fn patience(first: i64, attempt: u32) -> i64 {
    (first << attempt.saturating_sub(1).min(16)).min(PATIENCE)
}

/// The state once a further attempt is decided.
pub fn after_resend(state: OrderState) -> OrderState {
    match state {
        OrderState::Sent => OrderState::Kept,
        state => state,
    }
}

/// What a host tells of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// It carries it out.
    Accepted(Option<JobId>),
    Ended(End),
}

/// What an event tells of its order. Believe it only if `event.host` is the order's host and has
/// signed it.
pub fn told(event: &FleetEvent) -> Option<Told> {
    event.order?;
    match event.end() {
        Some(end) => Some(Told::Ended(end)),
        None if event.kind == ACCEPTED && event.detail == "done" => {
            Some(Told::Ended(End::Succeeded))
        }
        // Any event of its job shows that the host has it, should the receipt be lost.
        None if event.kind == ACCEPTED || event.kind.starts_with("job.") => {
            Some(Told::Accepted(event.job))
        }
        None => None,
    }
}

/// The state after the host has told something. None if nothing changes.
///
/// An end is final. `Unknown` is not: a later answer replaces it, and the order is open again if it
/// was accepted. A host never refuses what it has accepted: then it has lost its rows, and nothing
/// is known.
pub fn settle(state: OrderState, told: Told) -> Option<OrderState> {
    use OrderState::{Accepted, Kept, Sent, Unknown};

    let next = match (state, told) {
        (Accepted, Told::Ended(End::Refused)) => Unknown,
        (Kept | Sent | Accepted | Unknown, Told::Ended(end)) => end.into(),
        (Kept | Sent | Unknown, Told::Accepted(_)) => Accepted,
        _ => return None,
    };
    (next != state).then_some(next)
}

/// The state once an order's time is over: not known, if no receipt has come. An accepted order waits
/// for its end as long as that takes.
pub fn expire(state: OrderState, not_after: i64, now: i64) -> Option<OrderState> {
    let is_over = now > not_after.saturating_add(GRACE);
    (is_over && matches!(state, OrderState::Kept | OrderState::Sent)).then_some(OrderState::Unknown)
}

/// How an order is withdrawn at its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithdrawHere {
    /// left4me-link never had it: it is withdrawn.
    AtOnce,
    /// An order `withdraw` asks its host, and [`holds`] the order back.
    Ask,
    /// It has ended, or is a withdrawal itself, or one of it is under way.
    No(&'static str),
}

/// How an order is withdrawn. `was_taken`: whether left4me-link has ever had it; it may have sent it,
/// even if no acknowledgement is known.
///
/// A withdrawal must be good for longer than the order: so its tombstone is there for as long as the
/// order could arrive.
pub fn withdraw_here(order: &Outgoing<'_>, kind: &str, was_taken: bool) -> WithdrawHere {
    match order.state {
        _ if kind == "withdraw" => WithdrawHere::No("a withdrawal cannot be withdrawn"),
        OrderState::Kept if !was_taken => WithdrawHere::AtOnce,
        _ if holds(order.withdrawal) => WithdrawHere::No("it is being withdrawn already"),
        // Its host may still get it from the engine.
        OrderState::Unknown => WithdrawHere::Ask,
        state if state.is_settled() => WithdrawHere::No("it has ended"),
        _ => WithdrawHere::Ask,
    }
}

/// Whether a withdrawal holds its order back: until the host has answered it. If that answer says that
/// it came too late, the order goes on; if the order's end was lost, it is asked for.
pub fn holds(withdrawal: Option<OrderState>) -> bool {
    use OrderState::{Accepted, Kept, Sent, Unknown};
    matches!(withdrawal, Some(Kept | Sent | Accepted | Unknown))
}

/// What a host knows of an order that it has had: its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// Carried out. `end` is None while its job has not ended.
    Accepted {
        job: Option<JobId>,
        end: Option<End>,
    },
    Refused,
    /// Withdrawn before it came.
    Tombstone,
}

/// What a host does with a message of its stream ORDERS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not an order of a controller: it is counted, nothing else.
    Noise(String),
    /// Carry it out, write its row and tell its receipt, in one transaction.
    CarryOut,
    /// Write its row as refused and tell that, in one transaction.
    Refuse(String),
    /// It has come before. Tell again what is known, with [`tell_again`].
    TellAgain,
}

/// Judges a message. `is_signed`: whether a controller that root installed here signed these bytes.
/// `known` is the row of this order's id.
pub fn accept(
    order: &Result<Order, Box<Unreadable>>,
    is_signed: bool,
    known: Option<&Known>,
    here: &FleetHost,
    now: i64,
) -> Verdict {
    if !is_signed {
        return Verdict::Noise("it is not signed by a controller of this host".to_owned());
    }
    let (to, not_after, wrong) = match order {
        Ok(order) => (&order.to, order.not_after, None),
        Err(bad) if bad.id.is_none() => return Verdict::Noise(bad.why.clone()),
        Err(bad) => {
            let to = bad.to.as_ref().unwrap_or(here);
            (to, bad.not_after, Some(bad.why.clone()))
        }
    };
    if to != here {
        return Verdict::Noise(format!("it is for {to}"));
    }

    // What was decided once stays: neither time nor a newer version of left4me changes it.
    if known.is_some() {
        return Verdict::TellAgain;
    }
    if now > not_after {
        return Verdict::Refuse("it came after its time".to_owned());
    }
    if not_after - now > LONGEST_TIME {
        return Verdict::Refuse("an order is good for at most 29 days".to_owned());
    }
    match wrong {
        Some(why) => Verdict::Refuse(why),
        None => Verdict::CarryOut,
    }
}

/// What a host tells of an order that it has had, as events in this order.
pub fn tell_again(known: &Known) -> Vec<Told> {
    match *known {
        Known::Accepted { job, end } => [Some(Told::Accepted(job)), end.map(Told::Ended)]
            .into_iter()
            .flatten()
            .collect(),
        Known::Refused => vec![Told::Ended(End::Refused)],
        Known::Tombstone => vec![Told::Ended(End::Withdrawn)],
    }
}

/// What a host does with a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// Write a tombstone for the order, which has not come, and tell its end. The withdrawal
    /// succeeds.
    Tombstone,
    /// Cancel its job, which has not started. The withdrawal succeeds.
    CancelJob(JobId),
    /// Tell again what is known of the order. The withdrawal succeeds: nothing came of the order.
    Done,
    /// Tell again what is known of the order, and refuse the withdrawal, with this reason.
    TooLate(&'static str),
}

/// Judges a withdrawal: `known` is the row of the order to be withdrawn, with the state of its job.
pub fn withdraw(known: Option<(&Known, Option<JobState>)>) -> Withdrawal {
    match known {
        None => Withdrawal::Tombstone,
        Some((Known::Refused | Known::Tombstone, _)) => Withdrawal::Done,
        Some((Known::Accepted { job: Some(job), .. }, Some(JobState::Queued))) => {
            Withdrawal::CancelJob(*job)
        }
        Some((Known::Accepted { .. }, Some(JobState::Running | JobState::Cancelling))) => {
            Withdrawal::TooLate("its job is under way; it can be cancelled")
        }
        Some((Known::Accepted { .. }, _)) => Withdrawal::TooLate("it has been carried out"),
    }
}

/// How far a stream has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<'a> {
    pub generation: &'a str,
    pub sequence: u64,
}

/// Whether the stream is another one than the cursor's, or has lost what was read: it is read from
/// its beginning. `generation` and `last` are the stream's; an unknown generation changes nothing.
/// Of EVENTS, ask this before each move of the cursor, and [`resend`] accepted orders in the same
/// transaction.
pub fn begins_again(cursor: Option<Cursor<'_>>, generation: &str, last: u64) -> bool {
    cursor.is_some_and(|cursor| {
        !generation.is_empty() && (cursor.generation != generation || cursor.sequence > last)
    })
}

/// The sequence after which the stream is read next.
pub fn read_from(cursor: Option<Cursor<'_>>, generation: &str, last: u64) -> u64 {
    match cursor {
        Some(cursor) if !begins_again(Some(cursor), generation, last) => cursor.sequence,
        _ => 0,
    }
}

/// Where the cursor stands once messages of this generation up to `sequence` were read, in the same
/// transaction. It moves back, too: when the stream has lost its end.
pub fn cursor_after(generation: &str, sequence: u64) -> Cursor<'_> {
    Cursor {
        generation,
        sequence,
    }
}

/// Where the mark of told events goes when the stream EVENTS is another one: the events after it
/// are told again. `first_of_day` is the first event that is younger than [`TOLD_AGAIN_SINCE`]; None
/// if there is none.
pub fn mark_after_loss(mark: i64, first_of_day: Option<i64>) -> i64 {
    let day = first_of_day.map_or(mark, |first| first.saturating_sub(1));
    day.max(mark.saturating_sub(TOLD_AGAIN))
        .clamp(0, mark.max(0))
}

/// Where the mark goes once the engine has acknowledged all events up to `acked`. `told` is the
/// generation in which they are believed to be, `mine` that of the mark: an acknowledgement of
/// another stream counts for nothing.
pub fn mark_after_sent(mark: i64, mine: &str, acked: i64, told: &str) -> i64 {
    match mine == told {
        true => mark.max(acked),
        false => mark,
    }
}

#[cfg(test)]
mod tests;
