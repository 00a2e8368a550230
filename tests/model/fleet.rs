//! A model of an order's way from one host to another and back: with an engine that loses, doubles,
//! reorders and forgets messages and comes back empty, deaths between every two steps, withdrawals,
//! and a time that ends. The decisions are the code's own.
//!
//! | in the model | in the code |
//! |---|---|
//! | `resend`, `settle`, `accept`, `withdraw`, `read_from`, … | domain/fleet/rules.rs itself |
//! | `take`, `sent`, `settle_by_event` | left4me-gate of the sender: Take, Sent, Deliver |
//! | `judge`, `withdraw` | left4me-gate of the host: Deliver |
//! | `take_events`, `sent_event` | left4me-gate of the host: Take, Sent |
//! | `Link` | what left4me-link has in memory |
//! | `Stream` | JetStream: a log with sequences, a generation, and the ids by which it finds duplicates |
//! | `Start`, `End` | the worker |
//! | `SendAgain` | time: RECEIPT_WITHIN or END_WITHIN is over, and the host is there |
//!
//! A request to gate is one step, since it is one transaction. Orders of one Take are published in
//! any order. No run is endless: an order is sent at most eight times, and only faults need a further
//! attempt. Left out: a host that loses its own database.

mod state;
mod steps;

use left4me::domain::fleet::rules::{Known, OrderState};
use left4me::domain::job::JobState;
use stateright::{Model, Property};

use crate::explore::{holds, rules_that_matter};
use state::{Budget, ORDERS, Rules, State, World};
use steps::Action;

const EACH_END_IS_LEARNED: &str = "each sender learns how its order ended";
const NO_FALSE_END: &str = "no sender learns what is not true";
const RUNS_ONCE: &str = "no order runs twice";
const NO_FORGERY: &str = "no host obeys what no controller sent to it";
const NOT_LATE: &str = "no order is accepted after its time";
const ENDS_ARE_FINAL: &str = "no end is left";

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let witnesses = witnesses().into_iter();
        let witnesses = witnesses.filter(|witness| self.witnesses.contains(&witness.name));
        promises().into_iter().chain(witnesses).collect()
    }
}

fn promises() -> Vec<Property<World>> {
    let always = Property::<World>::always;
    vec![
        always(EACH_END_IS_LEARNED, |world, s| {
            let is_learned = |order: usize| match s.sender.rows[order].map(|row| row.state) {
                None => true,
                Some(OrderState::Unknown) => s.is_late,
                Some(state) => state.is_settled(),
            };
            (0..ORDERS).all(is_learned) || !world.is_quiet(s)
        }),
        always(NO_FALSE_END, |world, s| {
            (0..ORDERS).all(|order| is_true(world, s, order))
        }),
        always(RUNS_ONCE, |_, s| !s.violations.ran_twice),
        always(NO_FORGERY, |_, s| !s.violations.obeyed_a_forgery),
        always(NOT_LATE, |_, s| !s.violations.accepted_late),
        always(ENDS_ARE_FINAL, |_, s| !s.violations.left_an_end),
    ]
}

/// Whether what the sender has settled is so, and stays so: each later state is asked, too.
fn is_true(world: &World, s: &State, order: usize) -> bool {
    let Some(row) = s.sender.rows[order] else {
        return true;
    };
    let has_run = |order: usize| !matches!(s.host.jobs[order], None | Some(JobState::Cancelled));
    let is_withdrawal = order == 1 && world.withdraws;
    match row.state {
        state if !state.is_settled() => true,
        OrderState::Unknown => true,
        OrderState::Withdrawn => !has_run(order),
        OrderState::Succeeded if is_withdrawal => !has_run(0),
        state => s.truth(order) == Some(state),
    }
}

fn is(s: &State, order: usize, state: OrderState) -> bool {
    s.sender.rows[order].is_some_and(|row| row.state == state)
}

fn witnesses() -> Vec<Property<World>> {
    let some = Property::<World>::sometimes;
    vec![
        some("all succeed", |world, s| {
            (0..world.orders).all(|order| is(s, order, OrderState::Succeeded))
        }),
        some("all succeed after a wipe", |world, s| {
            let is_wiped = s.orders.generation > 0 && s.events.generation > 0;
            is_wiped && (0..world.orders).all(|order| is(s, order, OrderState::Succeeded))
        }),
        some("withdrawn here", |_, s| {
            is(s, 0, OrderState::Withdrawn) && s.sender.rows[1].is_none()
        }),
        some("the withdrawal comes first", |_, s| {
            s.host.rows[0] == Some(Known::Tombstone) && is(s, 0, OrderState::Withdrawn)
        }),
        some("its job is cancelled", |_, s| {
            is(s, 0, OrderState::Cancelled)
        }),
        some("it is withdrawn too late", |_, s| {
            is(s, 0, OrderState::Succeeded) && is(s, 1, OrderState::Refused)
        }),
        some("refused", |_, s| is(s, 0, OrderState::Refused)),
        some("not known", |world, s| {
            is(s, 0, OrderState::Unknown) && world.is_quiet(s)
        }),
        some("known late", |_, s| {
            s.is_late && is(s, 0, OrderState::Succeeded)
        }),
    ]
}

const NOTHING_GOES_WRONG: Budget = Budget {
    deaths: 0,
    losses: 0,
    wipes: 0,
    doubles: 0,
    forgeries: 0,
    hastes: 0,
};

const ONE_ORDER: World = World {
    rules: Rules::TRUE,
    orders: 1,
    withdraws: false,
    expires: false,
    swallows: false,
    has_patience: false,
    budget: NOTHING_GOES_WRONG,
    witnesses: &["all succeed"],
};

/// Programs die between every two steps, and messages come twice: no clock is needed.
fn deaths() -> World {
    World {
        budget: Budget {
            deaths: 2,
            doubles: 1,
            ..NOTHING_GOES_WRONG
        },
        ..ONE_ORDER
    }
}

/// Both streams are lost, at any time, and made again: no clock is needed either.
fn wiped() -> World {
    World {
        budget: Budget {
            wipes: 2,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["all succeed after a wipe"],
        ..ONE_ORDER
    }
}

/// The engine does all that it may do wrong.
fn worst() -> World {
    World {
        swallows: true,
        has_patience: true,
        budget: Budget {
            losses: 1,
            wipes: 1,
            ..NOTHING_GOES_WRONG
        },
        ..ONE_ORDER
    }
}

/// Messages are lost, and the sender is too hasty.
fn lossy() -> World {
    World {
        has_patience: true,
        budget: Budget {
            losses: 2,
            hastes: 1,
            ..NOTHING_GOES_WRONG
        },
        ..ONE_ORDER
    }
}

/// The order is withdrawn, at any time.
fn withdrawn() -> World {
    World {
        withdraws: true,
        has_patience: true,
        budget: Budget {
            losses: 1,
            doubles: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &[
            "all succeed",
            "withdrawn here",
            "the withdrawal comes first",
            "its job is cancelled",
            "it is withdrawn too late",
        ],
        ..ONE_ORDER
    }
}

/// Its time is over, at any time.
fn late() -> World {
    World {
        expires: true,
        has_patience: true,
        budget: Budget {
            losses: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["all succeed", "refused", "not known", "known late"],
        ..ONE_ORDER
    }
}

/// Messages that no controller sent to this host.
fn forged() -> World {
    World {
        has_patience: true,
        budget: Budget {
            forgeries: 2,
            wipes: 1,
            ..NOTHING_GOES_WRONG
        },
        ..ONE_ORDER
    }
}

#[test]
fn orders_come_to_their_ends_when_programs_die() {
    holds("deaths", deaths());
}

#[test]
fn orders_come_to_their_ends_when_the_streams_are_lost() {
    holds("wiped", wiped());
}

#[test]
fn orders_come_to_their_ends_whatever_the_engine_does() {
    holds("worst", worst());
}

#[test]
fn orders_come_to_their_ends_when_messages_are_lost() {
    holds("lossy", lossy());
}

#[test]
fn a_withdrawn_order_has_run_or_never_runs_and_its_sender_knows_which() {
    holds("withdrawn", withdrawn());
}

#[test]
fn an_order_whose_time_is_over_is_not_told_to_have_failed() {
    holds("late", late());
}

#[test]
fn forged_orders_are_noise() {
    holds("forged", forged());
}

rules_that_matter! {
    is_sent_until_acknowledged in deaths keeps EACH_END_IS_LEARNED;
    goes_again_into_a_new_stream in wiped keeps EACH_END_IS_LEARNED;
    goes_again_without_a_receipt in lossy keeps EACH_END_IS_LEARNED;
    asks_again_for_the_end in lossy keeps EACH_END_IS_LEARNED;
    an_attempt_has_its_own_number in worst keeps EACH_END_IS_LEARNED;
    an_end_is_final in deaths keeps ENDS_ARE_FINAL;
    what_was_taken_is_not_withdrawn_here in withdrawn keeps NO_FALSE_END;
    believes_signatures_only in forged keeps NO_FORGERY;
    obeys_what_is_for_it in forged keeps NO_FORGERY;
    refuses_what_is_late in late keeps NOT_LATE;
    a_known_order_is_not_carried_out in deaths keeps RUNS_ONCE;
    a_known_order_is_told_again in lossy keeps EACH_END_IS_LEARNED;
    row_and_job_are_one_transaction in deaths keeps EACH_END_IS_LEARNED;
    a_withdrawal_leaves_a_tombstone in withdrawn keeps NO_FALSE_END;
    the_cursor_moves_with_what_was_read in deaths keeps EACH_END_IS_LEARNED;
    a_new_stream_is_read_from_its_beginning in wiped keeps EACH_END_IS_LEARNED;
    the_mark_moves_when_the_engine_has_it in deaths keeps EACH_END_IS_LEARNED;
    a_new_stream_is_told_the_last_day in wiped keeps EACH_END_IS_LEARNED;
    the_mark_moves_in_its_own_stream_only in wiped keeps EACH_END_IS_LEARNED;
}
