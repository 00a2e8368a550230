//! Each rule, over all the states and answers there are.

use super::OrderState::{Accepted, Kept, Sent, Unknown};
use super::*;
use crate::base::ulid::Ulid;
use crate::domain::fleet::order::What;

const ENDS: [End; 5] = [
    End::Succeeded,
    End::Failed,
    End::Cancelled,
    End::Refused,
    End::Withdrawn,
];

fn all_told() -> Vec<Told> {
    let accepted = [None, Some(JobId(17))].map(Told::Accepted);
    accepted.into_iter().chain(ENDS.map(Told::Ended)).collect()
}

fn sent(state: OrderState) -> Outgoing<'static> {
    Outgoing {
        state,
        attempt: 1,
        sent_at: Some(1_000),
        generation: Some("a"),
        sequence: Some(9),
        not_after: 10_000_000,
        withdrawal: None,
    }
}

const QUIET: Facts<'static> = Facts {
    now: 1_000,
    generation: "a",
    last: 9,
    status_at: None,
    events_begin_again: false,
};

fn late(facts: Facts<'static>, now: i64) -> Facts<'static> {
    Facts {
        now,
        status_at: Some(now),
        ..facts
    }
}

#[test]
fn an_end_is_final_and_only_the_host_s_word_makes_one() {
    for state in OrderState::ALL {
        for told in all_told() {
            let Some(next) = settle(state, told) else {
                continue;
            };
            assert!(
                !state.is_settled() || state == Unknown,
                "{state} became {next} by {told:?}"
            );
            match told {
                Told::Accepted(_) => assert_eq!(next, Accepted),
                Told::Ended(End::Refused) if state == Accepted => assert_eq!(next, Unknown),
                Told::Ended(end) => assert_eq!(next, OrderState::from(end)),
            }
        }
    }
}

#[test]
fn the_order_in_which_receipt_and_end_come_does_not_matter() {
    for end in ENDS.into_iter().filter(|end| *end != End::Refused) {
        let (receipt, end) = (Told::Accepted(Some(JobId(1))), Told::Ended(end));
        for state in [Kept, Sent, Unknown] {
            let after = |first, second| {
                let state = settle(state, first).unwrap_or(state);
                settle(state, second).unwrap_or(state)
            };
            assert_eq!(after(receipt, end), after(end, receipt));
        }
    }
}

#[test]
fn past_its_time_an_order_without_a_receipt_is_unknown_never_failed() {
    for state in OrderState::ALL {
        let expired = expire(state, 5_000, 5_001 + GRACE);
        let expected = matches!(state, Kept | Sent).then_some(Unknown);
        assert_eq!(expired, expected, "{state}");
        assert_eq!(expire(state, 5_000, 5_000 + GRACE), None);
    }
}

#[test]
fn an_order_is_sent_again_when_its_host_is_there_and_silent() {
    let order = sent(Sent);
    assert_eq!(resend(&order, &QUIET), None);
    assert_eq!(resend(&order, &late(QUIET, 60_999)), None);
    assert_eq!(
        resend(&order, &late(QUIET, 61_000)),
        Some(Reason::NoReceipt)
    );

    // A host that is away would not answer another attempt, either.
    for status_at in [None, Some(1_000)] {
        let away = Facts {
            status_at,
            ..late(QUIET, 9_000_000)
        };
        assert_eq!(resend(&order, &away), None);
    }

    // Each attempt waits longer, and none for more than six hours.
    let mut before = 0;
    for attempt in 1..40 {
        let order = Outgoing { attempt, ..order };
        let wait = (0..=PATIENCE)
            .step_by(60_000)
            .find(|wait| resend(&order, &late(QUIET, 1_000 + wait)).is_some());
        let wait = wait.unwrap();
        assert!(wait > before || wait == PATIENCE, "{attempt}: {wait}");
        before = wait;
    }
}

#[test]
fn an_order_is_sent_again_when_the_stream_has_lost_it() {
    let order = sent(Sent);
    for (generation, last) in [("b", 9), ("b", 100), ("a", 8), ("a", 0)] {
        let facts = Facts {
            generation,
            last,
            ..QUIET
        };
        assert_eq!(resend(&order, &facts), Some(Reason::OrdersLost));
        // The host has it: only its end matters, which comes by EVENTS.
        assert_eq!(resend(&sent(Accepted), &facts), None);
    }
    // While there is no connection nothing is known of the stream.
    let away = Facts {
        generation: "",
        last: 0,
        ..QUIET
    };
    assert_eq!(resend(&order, &away), None);
}

#[test]
fn the_end_of_an_accepted_order_is_asked_for_when_it_may_be_lost() {
    let order = sent(Accepted);
    let again = Facts {
        events_begin_again: true,
        ..QUIET
    };
    assert_eq!(resend(&order, &again), Some(Reason::EventsLost));
    assert_eq!(after_resend(Accepted), Accepted);
    assert_eq!(resend(&order, &late(QUIET, 600_999)), None);
    assert_eq!(resend(&order, &late(QUIET, 601_000)), Some(Reason::NoEnd));
}

#[test]
fn what_is_settled_or_not_sent_yet_is_not_sent_again() {
    let worst = Facts {
        generation: "b",
        last: 0,
        events_begin_again: true,
        ..late(QUIET, i64::MAX / 2)
    };
    for state in OrderState::ALL {
        let waiting = Outgoing {
            sent_at: None,
            ..sent(state)
        };
        assert_eq!(resend(&waiting, &worst), None);
        assert_eq!(is_to_be_sent(&waiting), !state.is_settled());
        assert!(!is_to_be_sent(&sent(state)));
        assert_eq!(resend(&sent(state), &worst).is_some(), !state.is_settled());
    }
}

#[test]
fn an_acknowledgement_counts_for_its_own_attempt_only() {
    assert_eq!(acknowledged(Kept, 2, 1), None);
    assert_eq!(acknowledged(Kept, 2, 2), Some(Sent));
    assert_eq!(acknowledged(Accepted, 2, 2), Some(Accepted));
    for state in OrderState::ALL.into_iter().filter(|s| s.is_settled()) {
        assert_eq!(acknowledged(state, 1, 1), None);
    }
}

#[test]
fn a_withdrawal_holds_its_order_back_until_its_host_has_answered() {
    let worst = late(
        Facts {
            generation: "b",
            ..QUIET
        },
        9_000_000,
    );
    for withdrawal in OrderState::ALL {
        let is_answered = withdrawal.is_settled() && withdrawal != Unknown;
        let order = Outgoing {
            withdrawal: Some(withdrawal),
            ..sent(Sent)
        };
        let unsent = Outgoing {
            sent_at: None,
            ..order
        };
        assert_eq!(resend(&order, &worst).is_some(), is_answered);
        assert_eq!(is_to_be_sent(&unsent), is_answered);
    }
}

#[test]
fn what_link_never_had_is_withdrawn_at_once_and_what_has_ended_not_at_all() {
    let here = |state, was_taken| withdraw_here(&sent(state), "enqueue", was_taken);
    assert_eq!(here(Kept, false), WithdrawHere::AtOnce);
    for state in [Kept, Sent, Accepted, Unknown] {
        assert_eq!(here(state, true), WithdrawHere::Ask);
        let again = Outgoing {
            withdrawal: Some(Sent),
            ..sent(state)
        };
        assert!(matches!(
            withdraw_here(&again, "enqueue", true),
            WithdrawHere::No(_)
        ));
    }
    for end in ENDS {
        assert!(matches!(here(end.into(), true), WithdrawHere::No(_)));
    }
    assert!(matches!(
        withdraw_here(&sent(Kept), "withdraw", false),
        WithdrawHere::No(_)
    ));
}

fn order(to: &str, not_after: i64) -> Result<Order, Box<Unreadable>> {
    Ok(Order {
        id: Ulid::from_parts(1, 1),
        to: to.parse().unwrap(),
        from: "anna@fra-1".to_owned(),
        not_after,
        what: What::Uncordon {},
    })
}

#[test]
fn an_order_is_carried_out_only_if_all_of_it_is_right() {
    let here = "ams-1".parse().unwrap();
    let judge = |order: &_, signed, known| accept(order, signed, known, &here, 1_000);
    let good = order("ams-1", 1_000);
    assert_eq!(judge(&good, true, None), Verdict::CarryOut);

    let is_noise = |verdict| matches!(verdict, Verdict::Noise(_));
    assert!(is_noise(judge(&good, false, None)));
    assert!(is_noise(judge(&order("ams-2", 1_000), true, None)));
    let frameless = Order::from_bytes(b"{\"stream\":\"ORDERS\",\"seq\":9}");
    assert!(is_noise(judge(&frameless, true, None)));

    let is_refused = |verdict| matches!(verdict, Verdict::Refuse(_));
    assert!(is_refused(judge(&order("ams-1", 999), true, None)));
    let too_long = order("ams-1", 1_001 + LONGEST_TIME);
    assert!(is_refused(judge(&too_long, true, None)));
    let of_later = Err(Box::new(Unreadable {
        id: Some(Ulid::from_parts(1, 1)),
        to: Some(here.clone()),
        from: Some("anna@fra-1".to_owned()),
        not_after: 2_000,
        kind: "dance".to_owned(),
        why: "unknown variant `dance`".to_owned(),
    }));
    assert_eq!(
        judge(&of_later, true, None),
        Verdict::Refuse("unknown variant `dance`".to_owned())
    );
}

#[test]
fn an_order_that_has_come_before_is_never_carried_out_and_its_answer_is_told_again() {
    let here = "ams-1".parse().unwrap();
    let ends = ENDS.map(Some).into_iter().chain([None]);
    let accepted = ends.map(|end| Known::Accepted { job: None, end });
    let all = accepted.chain([Known::Refused, Known::Tombstone]);
    for known in all {
        // Past its time, too: late is only what was not known in time.
        for not_after in [0, 1_000] {
            let verdict = accept(&order("ams-1", not_after), true, Some(&known), &here, 1_000);
            assert_eq!(verdict, Verdict::TellAgain);
        }

        // What is told again brings any sender to the same state as the first time.
        let told = tell_again(&known);
        let apply = |state, told| settle(state, told).unwrap_or(state);
        let state = told.into_iter().fold(Sent, apply);
        let expected = match known {
            Known::Accepted { end: None, .. } => Accepted,
            Known::Accepted {
                end: Some(End::Refused),
                ..
            } => Unknown,
            Known::Accepted { end: Some(end), .. } => end.into(),
            Known::Refused => OrderState::Refused,
            Known::Tombstone => OrderState::Withdrawn,
        };
        assert_eq!(state, expected, "{known:?}");
    }
}

#[test]
fn a_withdrawal_stops_what_has_not_started() {
    let job = Known::Accepted {
        job: Some(JobId(17)),
        end: None,
    };
    assert_eq!(withdraw(None), Withdrawal::Tombstone);
    assert_eq!(withdraw(Some((&Known::Tombstone, None))), Withdrawal::Done);
    for state in JobState::ALL {
        let withdrawal = withdraw(Some((&job, Some(state))));
        match state {
            JobState::Queued => assert_eq!(withdrawal, Withdrawal::CancelJob(JobId(17))),
            _ => assert!(matches!(withdrawal, Withdrawal::TooLate(_)), "{state}"),
        }
    }
}

#[test]
fn a_stream_is_read_on_where_it_was_left_and_from_its_beginning_when_it_was_lost() {
    let cursor = Some(Cursor {
        generation: "a",
        sequence: 5,
    });
    assert_eq!(read_from(None, "a", 9), 0);
    assert_eq!(read_from(cursor, "a", 9), 5);
    assert_eq!(read_from(cursor, "a", 5), 5);
    assert_eq!(read_from(cursor, "a", 4), 0);
    assert_eq!(read_from(cursor, "b", 9), 0);
    assert_eq!(read_from(cursor, "", 0), 5);
    // A stream that has lost its end: after its messages were read again, they are not read a third
    // time.
    let after = cursor_after("a", 4);
    assert_eq!(read_from(Some(after), "a", 4), 4);
    assert!(!begins_again(None, "a", 9));
}

#[test]
fn after_a_loss_the_last_day_is_told_again_but_no_more_than_the_limit() {
    for (mark, first_of_day, expected) in [
        (100, Some(41), 40),
        (100, None, 100),
        // What was not told yet is told anyway.
        (100, Some(150), 100),
        (50_000, Some(1), 40_000),
        (0, Some(1), 0),
    ] {
        assert_eq!(mark_after_loss(mark, first_of_day), expected);
    }
}

#[test]
fn an_acknowledgement_of_another_stream_moves_no_mark() {
    assert_eq!(mark_after_sent(5, "a", 9, "a"), 9);
    assert_eq!(mark_after_sent(9, "a", 5, "a"), 9);
    assert_eq!(mark_after_sent(5, "b", 9, "a"), 5);
}
