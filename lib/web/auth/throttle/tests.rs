//! Tests of `web::auth::throttle`.

use super::*;

fn address(text: &str) -> Sender {
    Sender::Address(text.parse().unwrap())
}

/// An attempt with a wrong password.
fn fail(throttle: &Throttle, account: &str, sender: Sender, now: u64) -> Option<Duration> {
    match throttle.attempt(account, sender, now) {
        Ok(mut attempt) => {
            attempt.count();
            None
        }
        Err(wait) => Some(wait),
    }
}

#[test]
fn after_five_failures_each_wait_is_longer_up_to_a_minute() {
    let throttle = Throttle::default();
    let home = address("192.0.2.1");

    let mut now = 1_000_000;
    for _ in 0..5 {
        assert_eq!(fail(&throttle, "anna", home, now), None);
    }

    let mut waits = Vec::new();
    for _ in 0..9 {
        let wait = fail(&throttle, "anna", home, now)
            .expect("has to wait")
            .as_secs();
        waits.push(wait);
        now += wait * 1000;
        assert_eq!(fail(&throttle, "anna", home, now), None, "the wait is over");
    }

    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(fail(&throttle, "berta", home, now), None, "another account");
    assert_eq!(
        fail(&throttle, "anna", home, now + WINDOW + 1),
        None,
        "forgotten"
    );
}

#[test]
fn a_wait_is_at_its_longest_after_any_number_of_failures() {
    let mut table = FailureTable::default();
    for times in [24, 70, 83, 84, 90, 1000, u32::MAX] {
        table.set(
            7,
            Some(Failures {
                times,
                last: 0,
                until: 0,
            }),
        );

        assert_eq!(
            table.fail(7, &PAIR, 0).after.until,
            PAIR.max_wait,
            "{times}"
        );
    }
}

#[test]
fn a_good_password_forgives_the_account() {
    let throttle = Throttle::default();
    let home = address("192.0.2.1");
    for _ in 0..5 {
        fail(&throttle, "anna", home, 0);
    }

    assert!(fail(&throttle, "anna", home, 500).is_some() && throttle.is_needed(500));
    throttle.attempt("anna", home, 1000).ok().unwrap().forgive();
    assert_eq!(fail(&throttle, "anna", home, 1000), None);
    assert!(throttle.is_needed(1000 + WINDOW - 1) && !throttle.is_needed(1000 + WINDOW));
}

#[test]
fn many_accounts_from_one_network_make_it_wait() {
    let throttle = Throttle::default();
    for number in 0..20 {
        assert_eq!(
            fail(
                &throttle,
                &format!("user{number}"),
                address("2001:db8::1"),
                0
            ),
            None
        );
    }

    assert!(fail(&throttle, "other", address("2001:db8::ffff"), 0).is_some());
    assert_eq!(
        fail(&throttle, "other", address("2001:db8:0:1::1"), 0),
        None
    );

    // The same for a user of this host.
    for number in 0..20 {
        assert_eq!(
            fail(&throttle, &format!("user{number}"), Sender::Local(1000), 0),
            None
        );
    }

    assert!(fail(&throttle, "other", Sender::Local(1000), 0).is_some());
    assert_eq!(fail(&throttle, "other", Sender::Local(1001), 0), None);
}

#[test]
fn an_attacker_elsewhere_does_not_lock_the_owner_out() {
    let throttle = Throttle::default();
    for _ in 0..6 {
        fail(&throttle, "anna", address("192.0.2.1"), 0);
    }

    assert!(fail(&throttle, "anna", address("192.0.2.1"), 500).is_some());
    assert_eq!(fail(&throttle, "anna", address("198.51.100.1"), 500), None);

    // Attempts from many addresses make the account wait.
    for number in 0..60 {
        fail(
            &throttle,
            "anna",
            address(&format!("203.0.113.{number}")),
            500,
        );
    }

    assert!(fail(&throttle, "anna", address("198.51.100.2"), 500).is_some());

    // A signed-in user may still change the password.
    assert_eq!(
        fail(&throttle, "anna", Sender::Session(SessionId(1)), 500),
        None
    );
}

#[test]
fn behind_an_untrusted_proxy_no_client_locks_the_others_out() {
    let throttle = Throttle::default();
    for number in 0..1000 {
        assert_eq!(
            fail(&throttle, &format!("user{number}"), Sender::Unknown, 0),
            None
        );
    }

    for _ in 0..49 {
        assert_eq!(fail(&throttle, "anna", Sender::Unknown, 0), None);
    }

    assert_eq!(fail(&throttle, "berta", Sender::Unknown, 0), None);

    // The account itself is still protected.
    fail(&throttle, "anna", Sender::Unknown, 0);
    assert!(
        fail(&throttle, "anna", Sender::Unknown, 0)
            .is_some_and(|wait| wait <= Duration::from_secs(60))
    );
}

#[test]
fn an_attempt_whose_password_was_not_checked_leaves_no_trace() {
    let throttle = Throttle::default();
    let home = address("192.0.2.1");
    for _ in 0..1000 {
        drop(throttle.attempt("anna", home, 0).ok().unwrap());
    }

    assert!(!throttle.is_needed(0) && throttle.table().order.is_empty());
    for _ in 0..4 {
        fail(&throttle, "anna", home, 0);
    }

    // While the fifth attempt is under way, the next one has to wait.
    let fifth = throttle.attempt("anna", home, 0).ok().unwrap();

    assert!(fail(&throttle, "anna", home, 0).is_some());
    drop(fifth);
    assert_eq!(fail(&throttle, "anna", home, 0), None);
    assert!(fail(&throttle, "anna", home, 0).is_some());
}

#[test]
fn a_flood_of_other_keys_does_not_evict_one_under_attack() {
    let throttle = Throttle::default();
    let home = address("192.0.2.1");
    for _ in 0..12 {
        fail(&throttle, "anna", home, 0);
        fail(&throttle, "anna", home, 0);
    }

    assert!(fail(&throttle, "anna", home, 0).is_some());

    // More attempts than the password check allows in one window.
    let begun = Instant::now();

    for number in 0..70_000_u32 {
        let from = Sender::Address(IpAddr::V6((u128::from(number) << 64).into()));
        assert_eq!(
            fail(&throttle, &format!("user{number}"), from, 10),
            None,
            "a newcomer has to wait: {number}"
        );
    }

    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );

    assert!(
        fail(&throttle, "anna", home, 20).is_some(),
        "the flood freed the account"
    );

    // A new name cannot be guessed without limit either.
    let mut tries = 0;
    while fail(&throttle, "berta", home, 30).is_none() {
        fail(
            &throttle,
            &format!("other{tries}"),
            Sender::Local(tries),
            30,
        );

        tries += 1;
    }

    assert!(tries <= 5, "{tries} tries");

    let table = throttle.table();
    assert!(table.entries.len() == MAX_KEYS && table.order.len() == MAX_KEYS);
}
