//! The steps: what may happen next, and what it does.

use left4me::base::names::{FleetHost, JobId};
use left4me::base::ulid::Ulid;
use left4me::domain::fleet::event::End;
use left4me::domain::fleet::order::{Order, What};
use left4me::domain::fleet::rules::{
    self, Cursor, Facts, GRACE, Known, OrderState, Outgoing, Reason, Told, Verdict, WithdrawHere,
    Withdrawal,
};
use left4me::domain::job::JobState;

use super::state::{
    ATTEMPTS, Event, Forgery, GENERATIONS, Message, ORDERS, Place, Row, State, World,
};

/// When the time of the first order is over.
pub const NOT_AFTER: i64 = 1_000;
const LATE: i64 = NOT_AFTER + GRACE + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    Orders,
    Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    // The sender and its link.
    Take,
    Publish {
        order: usize,
        is_swallowed: bool,
    },
    Sent,
    ReadEvent,
    SettleByEvent,
    Expire(usize),
    Withdraw,
    /// It has waited long, or not long enough, for an answer.
    SendAgain(usize),
    SenderDies,
    // The host and its link.
    ReadOrder,
    Judge,
    Queue(usize),
    Start(usize),
    End(usize),
    TakeEvents,
    PublishEvent {
        is_swallowed: bool,
    },
    SentEvent,
    HostDies,
    // The engine and the world.
    Wipe(Of),
    LoseLast(Of),
    Lose(Of, usize),
    Double(Of, usize),
    Forge(Forgery),
    TimeIsOver,
}

fn cursor(place: Option<Place>) -> Option<Cursor<'static>> {
    place.map(|place| Cursor {
        generation: GENERATIONS[usize::from(place.generation)],
        sequence: u64::from(place.sequence),
    })
}

impl World {
    pub fn possible(&self, s: &State, out: &mut Vec<Action>) {
        self.forced(s, out);
        let is_still = out.is_empty();
        for order in 0..ORDERS {
            let may = is_still && self.has_patience || s.left.hastes > 0;
            if may && self.is_unanswered(s, order) {
                out.push(Action::SendAgain(order));
            }
        }
        self.free(s, out);
    }

    /// Whether nothing happens any more, whatever a clock does.
    pub fn is_quiet(&self, s: &State) -> bool {
        let mut forced = Vec::new();
        self.forced(s, &mut forced);
        let may = |order| self.has_patience && self.is_unanswered(s, order);
        forced.is_empty() && !(0..ORDERS).any(may)
    }

    /// What happens sooner or later.
    fn forced(&self, s: &State, out: &mut Vec<Action>) {
        let link = &s.sender.link;
        if link.is_idle() && self.has_to_take(s) {
            out.push(Action::Take);
        }
        for &(order, attempt) in &link.taken {
            let message = self.message(order, attempt);
            for is_swallowed in self.swallowed(s.orders.seen.contains(&message)) {
                out.push(Action::Publish {
                    order,
                    is_swallowed,
                });
            }
        }
        if link.taken.is_empty() && !link.acked.is_empty() {
            out.push(Action::Sent);
        }
        match link.read {
            None if self.next_event(s).is_some() => out.push(Action::ReadEvent),
            None => {}
            Some(_) => out.push(Action::SettleByEvent),
        }
        if s.is_late && self.expired(s).is_some() {
            out.push(Action::Expire(0));
        }

        let link = &s.host.link;
        let is_new = s.host.mark_of != s.events.generation;
        let has_to_tell = is_new || usize::from(s.host.mark) < s.host.events.len();
        match link.read {
            None if self.next_order(s).is_some() => out.push(Action::ReadOrder),
            None => {}
            Some(_) => out.push(Action::Judge),
        }
        for order in 0..ORDERS {
            match s.host.jobs[order] {
                _ if s.host.unqueued[order] => out.push(Action::Queue(order)),
                Some(JobState::Queued) => out.push(Action::Start(order)),
                Some(JobState::Running) => out.push(Action::End(order)),
                _ => {}
            }
        }
        if link.is_idle() && has_to_tell {
            out.push(Action::TakeEvents);
        }
        if let Some(&number) = link.taken.first() {
            let was_seen = s.events.seen.iter().any(|event| event.number == number);
            for is_swallowed in self.swallowed(was_seen) {
                out.push(Action::PublishEvent { is_swallowed });
            }
        }
        if !link.acked.is_empty() {
            out.push(Action::SentEvent);
        }
    }

    /// What may happen.
    fn free(&self, s: &State, out: &mut Vec<Action>) {
        if s.left.deaths > 0 {
            let sender = &s.sender.link;
            if !sender.is_idle() || sender.read.is_some() {
                out.push(Action::SenderDies);
            }
            let host = &s.host.link;
            if !host.is_idle() || host.read.is_some() || s.host.unqueued.contains(&true) {
                out.push(Action::HostDies);
            }
        }
        for (of, last) in [(Of::Orders, s.orders.last()), (Of::Events, s.events.last())] {
            if last == 0 {
                continue;
            }
            if s.left.wipes > 0 {
                out.push(Action::Wipe(of));
            }
            if s.left.losses > 0 {
                out.push(Action::LoseLast(of));
            }
            for at in 0..usize::from(last) {
                let is_there = match of {
                    Of::Orders => s.orders.messages[at].is_some(),
                    Of::Events => s.events.messages[at].is_some(),
                };
                if is_there && s.left.losses > 0 {
                    out.push(Action::Lose(of, at));
                }
                if is_there && s.left.doubles > 0 {
                    out.push(Action::Double(of, at));
                }
            }
        }
        if s.left.forgeries > 0 {
            out.push(Action::Forge(Forgery::Unsigned));
            out.push(Action::Forge(Forgery::Misdirected));
        }
        if self.withdraws && s.sender.rows[1].is_none() && self.withdrawal(s).is_some() {
            out.push(Action::Withdraw);
        }
        if self.expires && !s.is_late {
            out.push(Action::TimeIsOver);
        }
    }

    /// Whether what is published is swallowed: each way in which that may go.
    fn swallowed(&self, was_seen: bool) -> Vec<bool> {
        match was_seen && self.swallows {
            true => vec![false, true],
            false => vec![false],
        }
    }

    pub fn apply(&self, s: &mut State, action: Action) {
        match action {
            Action::Take => self.take(s),
            Action::Publish {
                order,
                is_swallowed,
            } => self.publish(s, order, is_swallowed),
            Action::Sent => sent(s),
            Action::ReadEvent => {
                s.sender.link.read = self.next_event(s);
                if !self.rules.the_cursor_moves_with_what_was_read {
                    s.sender.cursor = s.sender.link.read.map(|(place, _)| place);
                }
            }
            Action::SettleByEvent => self.settle_by_event(s),
            Action::Expire(order) => {
                let next = self.expired(s);
                set(s, order, |row| row.state = next.unwrap_or(row.state));
            }
            Action::Withdraw => self.withdraw_at_sender(s),
            Action::SendAgain(order) => {
                if !self.is_still(s) {
                    s.left.hastes -= 1;
                }
                again(s, order);
            }
            Action::SenderDies => {
                s.left.deaths -= 1;
                s.sender.link.dies();
            }

            Action::ReadOrder => {
                s.host.link.read = self.next_order(s);
                if !self.rules.the_cursor_moves_with_what_was_read {
                    s.host.cursor = s.host.link.read.map(|(place, _)| place);
                }
            }
            Action::Judge => self.judge(s),
            Action::Queue(order) => {
                s.host.unqueued[order] = false;
                s.host.jobs[order] = Some(JobState::Queued);
            }
            Action::Start(order) => s.host.jobs[order] = Some(JobState::Running),
            Action::End(order) => end(s, order, JobState::Succeeded, End::Succeeded),
            Action::TakeEvents => self.take_events(s),
            Action::PublishEvent { is_swallowed } => publish_event(s, is_swallowed),
            Action::SentEvent => self.sent_event(s),
            Action::HostDies => {
                s.left.deaths -= 1;
                s.host.link.dies();
                s.host.unqueued = [false; ORDERS];
            }
            action => self.befalls(s, action),
        }
    }

    /// What comes from outside.
    fn befalls(&self, s: &mut State, action: Action) {
        match action {
            Action::Wipe(of) => {
                s.left.wipes -= 1;
                match of {
                    Of::Orders => s.orders.wipe(),
                    Of::Events => s.events.wipe(),
                }
            }
            Action::LoseLast(of) => {
                s.left.losses -= 1;
                match of {
                    Of::Orders => drop(s.orders.messages.pop()),
                    Of::Events => drop(s.events.messages.pop()),
                }
            }
            Action::Lose(of, at) => {
                s.left.losses -= 1;
                match of {
                    Of::Orders => s.orders.messages[at] = None,
                    Of::Events => s.events.messages[at] = None,
                }
            }
            Action::Double(of, at) => {
                s.left.doubles -= 1;
                match of {
                    Of::Orders => s.orders.messages.push(s.orders.messages[at]),
                    Of::Events => s.events.messages.push(s.events.messages[at]),
                }
            }
            Action::Forge(forgery) => {
                s.left.forgeries -= 1;
                s.orders.messages.push(Some(Message {
                    order: 0,
                    attempt: 1,
                    forgery: Some(forgery),
                }));
            }
            Action::TimeIsOver => s.is_late = true,
            _ => unreachable!("{action:?}"),
        }
    }

    fn is_still(&self, s: &State) -> bool {
        let mut forced = Vec::new();
        self.forced(s, &mut forced);
        forced.is_empty()
    }

    // The sender.

    fn facts(&self, s: &State, events_begin_again: bool) -> Facts<'static> {
        Facts {
            now: 0,
            generation: s.orders.name(),
            last: u64::from(s.orders.last()),
            status_at: None,
            events_begin_again,
        }
    }

    fn asks_for(&self, reason: Reason) -> bool {
        match reason {
            Reason::NoReceipt => self.rules.goes_again_without_a_receipt,
            Reason::NoEnd => self.rules.asks_again_for_the_end,
            Reason::OrdersLost | Reason::EventsLost => self.rules.goes_again_into_a_new_stream,
        }
    }

    /// Whether it is sent again when much time passes while its host is there.
    fn is_unanswered(&self, s: &State, order: usize) -> bool {
        let Some(outgoing) = s.outgoing(self, order) else {
            return false;
        };
        let facts = Facts {
            now: i64::MAX / 2,
            status_at: Some(1),
            ..self.facts(s, false)
        };
        let reason = rules::resend(&outgoing, &facts);
        outgoing.attempt < u32::from(ATTEMPTS) && reason.is_some_and(|why| self.asks_for(why))
    }

    /// Sends again what the streams have lost.
    fn look(&self, s: &mut State, events_begin_again: bool) {
        let facts = self.facts(s, events_begin_again);
        for order in 0..ORDERS {
            let reason = s
                .outgoing(self, order)
                .and_then(|order| rules::resend(&order, &facts));
            let has_few = s.sender.rows[order].is_some_and(|row| row.attempt < ATTEMPTS);
            if has_few && reason.is_some_and(|why| self.asks_for(why)) {
                again(s, order);
            }
        }
    }

    fn begins_again(&self, s: &State) -> bool {
        let last = u64::from(s.events.last());
        self.rules.a_new_stream_is_read_from_its_beginning
            && rules::begins_again(cursor(s.sender.cursor), s.events.name(), last)
    }

    /// Whether a Take changes anything.
    fn has_to_take(&self, s: &State) -> bool {
        let again = self.begins_again(s);
        let facts = self.facts(s, again);
        let goes_again = |order: usize, outgoing: &Outgoing<'_>| {
            rules::resend(outgoing, &facts).is_some_and(|why| self.asks_for(why))
                && s.sender.rows[order].is_some_and(|row| row.attempt < ATTEMPTS)
        };
        again
            || (0..ORDERS).any(|order| {
                s.outgoing(self, order).is_some_and(|outgoing| {
                    rules::is_to_be_sent(&outgoing) || goes_again(order, &outgoing)
                })
            })
    }

    /// `GateRequest::Take` on the sender, one transaction.
    fn take(&self, s: &mut State) {
        let again = self.begins_again(s);
        self.look(s, again);
        if again {
            s.sender.cursor = Some(Place {
                generation: s.events.generation,
                sequence: 0,
            });
        }

        for order in 0..ORDERS {
            let outgoing = s.outgoing(self, order);
            if !outgoing.is_some_and(|order| rules::is_to_be_sent(&order)) {
                continue;
            }
            let place = Place {
                generation: s.orders.generation,
                sequence: s.orders.last(),
            };
            let is_guess = !self.rules.is_sent_until_acknowledged;
            let mut attempt = 0;
            set(s, order, |row| {
                row.is_taken = true;
                attempt = row.attempt;
                if is_guess {
                    row.sent = Some(place);
                    row.state = OrderState::Sent;
                }
            });
            s.sender.link.taken.push((order, attempt));
        }
    }

    fn message(&self, order: usize, attempt: u8) -> Message {
        let attempt = match self.rules.an_attempt_has_its_own_number {
            true => attempt,
            false => 1,
        };
        Message {
            order,
            attempt,
            forgery: None,
        }
    }

    fn publish(&self, s: &mut State, order: usize, is_swallowed: bool) {
        let taken = &mut s.sender.link.taken;
        let Some(at) = taken.iter().position(|taken| taken.0 == order) else {
            return;
        };
        let taken = taken.remove(at);
        let message = self.message(order, taken.1);
        let sequence = s.orders.publish(message, is_swallowed);
        s.sender.link.acked.push((taken, sequence));
        s.sender.link.acked.sort_unstable();
    }

    fn next_event(&self, s: &State) -> Option<(Place, Event)> {
        let (cursor, last) = (cursor(s.sender.cursor), u64::from(s.events.last()));
        s.events.next(match cursor {
            Some(cursor) if !self.rules.a_new_stream_is_read_from_its_beginning => cursor.sequence,
            cursor => rules::read_from(cursor, s.events.name(), last),
        })
    }

    /// `GateRequest::Deliver` on the sender, one transaction.
    fn settle_by_event(&self, s: &mut State) {
        let Some((place, event)) = s.sender.link.read.take() else {
            return;
        };
        let generation = GENERATIONS[usize::from(place.generation)];
        let last = u64::from(place.sequence);
        let is_noticed = self.rules.a_new_stream_is_read_from_its_beginning;
        if is_noticed && rules::begins_again(cursor(s.sender.cursor), generation, last) {
            self.look(s, true);
        }
        s.sender.cursor = Some(place);

        let Some(before) = s.sender.rows[event.order].map(|row| row.state) else {
            return;
        };
        let after = match (self.rules.an_end_is_final, event.told) {
            (true, told) => rules::settle(before, told).unwrap_or(before),
            (false, Told::Accepted(_)) => OrderState::Accepted,
            (false, Told::Ended(end)) => end.into(),
        };
        let was_final = before.is_settled() && before != OrderState::Unknown;
        s.violations.left_an_end |= was_final && after != before;
        set(s, event.order, |row| row.state = after);
    }

    fn expired(&self, s: &State) -> Option<OrderState> {
        rules::expire(s.sender.rows[0]?.state, NOT_AFTER, LATE)
    }

    fn withdrawal(&self, s: &State) -> Option<WithdrawHere> {
        let row = s.sender.rows[0]?;
        let was_taken = row.is_taken && self.rules.what_was_taken_is_not_withdrawn_here;
        let here = rules::withdraw_here(&s.outgoing(self, 0)?, "enqueue", was_taken);
        (!matches!(here, WithdrawHere::No(_))).then_some(here)
    }

    fn withdraw_at_sender(&self, s: &mut State) {
        match self.withdrawal(s) {
            Some(WithdrawHere::AtOnce) => set(s, 0, |row| row.state = OrderState::Withdrawn),
            Some(WithdrawHere::Ask) => {
                s.sender.rows[1] = Some(Row {
                    state: OrderState::Kept,
                    attempt: 1,
                    is_taken: false,
                    sent: None,
                });
            }
            _ => {}
        }
    }

    // The host.

    fn next_order(&self, s: &State) -> Option<(Place, Message)> {
        let (cursor, last) = (cursor(s.host.cursor), u64::from(s.orders.last()));
        s.orders.next(match cursor {
            Some(cursor) if !self.rules.a_new_stream_is_read_from_its_beginning => cursor.sequence,
            cursor => rules::read_from(cursor, s.orders.name(), last),
        })
    }

    /// `GateRequest::Deliver` on the host, one transaction.
    fn judge(&self, s: &mut State) {
        let Some((place, message)) = s.host.link.read.take() else {
            return;
        };
        s.host.cursor = Some(place);

        let order = message.order;
        let here: FleetHost = "ams-1".parse().unwrap();
        let elsewhere = "ams-2".parse().unwrap();
        let is_forged = message.forgery == Some(Forgery::Unsigned);
        let is_foreign = message.forgery == Some(Forgery::Misdirected);
        let known = s.host.rows[order];
        let known = known
            .filter(|_| self.rules.a_known_order_is_not_carried_out && message.forgery.is_none());
        let is_late = s.is_late && order == 0;
        let verdict = rules::accept(
            &Ok(Order {
                id: Ulid::from_parts(1, order as u128),
                to: match is_foreign && self.rules.obeys_what_is_for_it {
                    true => elsewhere,
                    false => here.clone(),
                },
                from: "anna@fra-1".to_owned(),
                not_after: NOT_AFTER,
                what: What::Uncordon {},
            }),
            !is_forged || !self.rules.believes_signatures_only,
            known.as_ref(),
            &here,
            match is_late && self.rules.refuses_what_is_late {
                true => LATE,
                false => 0,
            },
        );

        match verdict {
            Verdict::Noise(_) => {}
            Verdict::CarryOut if message.forgery.is_some() => s.violations.obeyed_a_forgery = true,
            Verdict::CarryOut if order == 1 && self.withdraws => self.withdraw(s),
            Verdict::CarryOut => {
                s.violations.accepted_late |= is_late;
                s.violations.ran_twice |= s.host.jobs[order].is_some();
                let job = Some(JobId(order as i64 + 1));
                s.host.rows[order] = Some(Known::Accepted { job, end: None });
                s.host.events.push((order, Told::Accepted(job)));
                match self.rules.row_and_job_are_one_transaction {
                    true => s.host.jobs[order] = Some(JobState::Queued),
                    false => s.host.unqueued[order] = true,
                }
            }
            Verdict::Refuse(_) => {
                s.host.rows[order] = Some(Known::Refused);
                s.host.events.push((order, Told::Ended(End::Refused)));
            }
            Verdict::TellAgain if self.rules.a_known_order_is_told_again => tell_again(s, order),
            Verdict::TellAgain => {}
        }
    }

    fn withdraw(&self, s: &mut State) {
        let known = s.host.rows[0];
        let refused = match rules::withdraw(known.as_ref().map(|known| (known, s.host.jobs[0]))) {
            Withdrawal::Tombstone => {
                if self.rules.a_withdrawal_leaves_a_tombstone {
                    s.host.rows[0] = Some(Known::Tombstone);
                }
                s.host.events.push((0, Told::Ended(End::Withdrawn)));
                false
            }
            Withdrawal::CancelJob(_) => {
                end(s, 0, JobState::Cancelled, End::Cancelled);
                false
            }
            Withdrawal::Done => {
                tell_again(s, 0);
                false
            }
            Withdrawal::TooLate(_) => {
                tell_again(s, 0);
                true
            }
        };
        let (row, end) = match refused {
            true => (Known::Refused, End::Refused),
            false => {
                let end = Some(End::Succeeded);
                (Known::Accepted { job: None, end }, End::Succeeded)
            }
        };
        s.host.rows[1] = Some(row);
        s.host.events.push((1, Told::Ended(end)));
    }

    /// `GateRequest::Take` on the host, one transaction.
    fn take_events(&self, s: &mut State) {
        if s.host.mark_of != s.events.generation {
            s.host.mark_of = s.events.generation;
            if self.rules.a_new_stream_is_told_the_last_day {
                let mark = rules::mark_after_loss(i64::from(s.host.mark), Some(1));
                s.host.mark = mark as u8;
            }
        }
        if usize::from(s.host.mark) < s.host.events.len() {
            let next = s.host.mark + 1;
            s.host.link.taken.push(next);
            if !self.rules.the_mark_moves_when_the_engine_has_it {
                s.host.mark = next;
            }
        }
    }

    fn sent_event(&self, s: &mut State) {
        let name = |generation: u8| GENERATIONS[usize::from(generation)];
        for (number, _) in std::mem::take(&mut s.host.link.acked) {
            let mine = match self.rules.the_mark_moves_in_its_own_stream_only {
                true => s.host.mark_of,
                false => s.events.generation,
            };
            // As left4me-link knows it by now, perhaps no longer the one that has the event.
            let told = name(s.events.generation);
            let acked = i64::from(number);
            let mark = i64::from(s.host.mark);
            s.host.mark = rules::mark_after_sent(mark, name(mine), acked, told) as u8;
            if !self.rules.the_mark_moves_in_its_own_stream_only {
                s.host.mark_of = mine;
            }
        }
    }
}

fn set(s: &mut State, order: usize, change: impl FnOnce(&mut Row)) {
    if let Some(row) = &mut s.sender.rows[order] {
        change(row);
    }
}

fn again(s: &mut State, order: usize) {
    set(s, order, |row| {
        row.state = rules::after_resend(row.state);
        row.attempt += 1;
        row.sent = None;
    });
}

/// `GateRequest::Sent` on the sender: the generation is that which left4me-link knows by now,
/// perhaps no longer the one that has the order.
fn sent(s: &mut State) {
    let generation = s.orders.generation;
    for ((order, attempt), sequence) in std::mem::take(&mut s.sender.link.acked) {
        set(s, order, |row| {
            let (newest, attempt) = (u32::from(row.attempt), u32::from(attempt));
            if let Some(state) = rules::acknowledged(row.state, newest, attempt) {
                row.state = state;
                row.sent = Some(Place {
                    generation,
                    sequence,
                });
            }
        });
    }
}

fn publish_event(s: &mut State, is_swallowed: bool) {
    for number in std::mem::take(&mut s.host.link.taken) {
        let (order, told) = s.host.events[usize::from(number) - 1];
        let event = Event {
            number,
            order,
            told,
        };
        let sequence = s.events.publish(event, is_swallowed);
        s.host.link.acked.push((number, sequence));
    }
}

fn tell_again(s: &mut State, order: usize) {
    if let Some(known) = s.host.rows[order] {
        let told = rules::tell_again(&known);
        s.host
            .events
            .extend(told.into_iter().map(|told| (order, told)));
    }
}

/// The job ends, and its event tells it.
fn end(s: &mut State, order: usize, state: JobState, end: End) {
    s.host.jobs[order] = Some(state);
    if let Some(Known::Accepted { end: told, .. }) = &mut s.host.rows[order] {
        *told = Some(end);
    }
    s.host.events.push((order, Told::Ended(end)));
}
