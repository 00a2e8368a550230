//! How a server moves, whatever becomes of its orders.

use proptest::prelude::*;

use super::*;

const DEADLINE: i64 = 1_000_000;

fn host(name: &str) -> FleetHost {
    name.parse().unwrap()
}

fn moved() -> Move {
    Move {
        server: Ulid::from_parts(1, 1),
        name: "Friday".to_owned(),
        owner: "anna".to_owned(),
        from: Some(host("ams-1")),
        start: false,
        needs: Needs::default(),
        epoch: 3,
        to: None,
        unread: 0,
        refused: BTreeMap::new(),
        step: MoveStep::Waiting,
        stuck_since: None,
        why: String::new(),
    }
}

fn server(players: Option<u32>) -> ServerStatus {
    ServerStatus {
        id: Ulid::from_parts(1, 1),
        number: 1,
        name: "Friday".to_owned(),
        owner: "anna".to_owned(),
        port: 27015,
        desired: "running".to_owned(),
        actual: "running".to_owned(),
        players,
        max_players: Some(8),
        map: None,
        build: None,
        overlays: Vec::new(),
        moved_to: None,
        epoch: 3,
        drift: false,
    }
}

fn facts(source: Source<'_>) -> Facts<'_> {
    Facts {
        now: 1,
        deadline: Some(DEADLINE),
        is_aborted: false,
        source,
        knows_blueprint: false,
        is_its_turn: true,
        choice: Ok(host("chi-1")),
        is_target_silent: false,
        is_source_lost: false,
        handed_over: None,
        placed: None,
        overtaken: None,
        given_up: None,
    }
}

fn order(fate: Fate, detail: &str) -> Option<OrderFacts> {
    Some(OrderFacts {
        fate,
        is_accepted: fate != Fate::Refused,
        detail: detail.to_owned(),
    })
}

/// The answer to the order to hand it over.
fn handed() -> String {
    let key = crate::base::keys::OpeningKey::generate();
    let handed = HandedOver {
        name: "Friday".to_owned(),
        owner: "anna".to_owned(),
        overlays: Vec::new(),
        blueprint: String::new(),
        sealed_by: key.public(),
    };
    serde_json::to_string(&handed).unwrap()
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again() {
    let (mut own, empty) = (moved(), server(Some(0)));
    let mut facts = facts(Source::Here(&empty));
    next(&mut own, &facts);
    facts.handed_over = order(Fate::Succeeded, "");
    assert_eq!(next(&mut own, &facts), [Act::HandOver]);
    assert_eq!((own.step, own.epoch), (MoveStep::HandingOver, 5));

    assert_eq!(next(&mut own, &facts), [Act::HandOver]);
    assert_eq!(next(&mut own, &facts), []);
    assert_eq!(own.step, MoveStep::Failed, "not for ever");
}

#[test]
fn a_server_moves_when_it_is_empty_and_stops_only_once_it_runs_elsewhere() {
    let (mut own, empty) = (moved(), server(Some(0)));
    let mut facts = facts(Source::Here(&empty));
    assert_eq!(next(&mut own, &facts), [Act::HandOver]);
    assert_eq!((own.epoch, own.start), (4, true));

    facts.handed_over = order(Fate::Succeeded, &handed());
    assert_eq!(
        next(&mut own, &facts),
        [Act::Claim(host("chi-1")), Act::Place]
    );
    facts.placed = order(Fate::UnderWay, "");
    assert_eq!(next(&mut own, &facts), []);

    facts.placed = order(Fate::Succeeded, "");
    let give_up = Act::GiveUp {
        host: host("ams-1"),
        to: Some(host("chi-1")),
        gently: true,
    };
    assert_eq!(next(&mut own, &facts), [give_up]);
    assert_eq!(own.step, MoveStep::Leaving);

    // A player came back: its host waits for them.
    let back = server(Some(2));
    facts.source = Source::Here(&back);
    facts.given_up = order(Fate::UnderWay, "");
    assert_eq!(next(&mut own, &facts), []);
    assert_eq!((own.step, &*own.why), (MoveStep::Leaving, "2 people play"));
    facts.given_up = order(Fate::Succeeded, "");
    next(&mut own, &facts);
    assert_eq!((own.step, &*own.why), (MoveStep::Moved, ""));
}

#[test]
fn a_server_with_players_waits_for_the_deadline() {
    for (players, why) in [
        (Some(1), "1 person plays"),
        (Some(5), "5 people play"),
        (None, "who plays is not known"),
    ] {
        let (mut own, played) = (moved(), server(players));
        let mut facts = facts(Source::Here(&played));
        assert_eq!(next(&mut own, &facts), []);
        assert_eq!((own.step, &*own.why), (MoveStep::Waiting, why));

        facts.now = DEADLINE;
        assert_eq!(next(&mut own, &facts), [Act::HandOver]);
    }

    // One that does not run is empty, and does not run on its new host.
    let mut stopped = server(None);
    (stopped.actual, stopped.desired) = ("stopped".to_owned(), "stopped".to_owned());
    let mut own = moved();
    assert_eq!(
        next(&mut own, &facts(Source::Here(&stopped))),
        [Act::HandOver]
    );
    assert!(!own.start);
}

#[test]
fn a_host_that_refuses_fails_or_falls_silent_is_left_for_another() {
    for (fate, silent, has_it) in [
        (Fate::Refused, false, false),
        (Fate::Failed, false, true),
        (Fate::Unknown, false, true),
        (Fate::UnderWay, true, true),
    ] {
        let (mut own, empty) = (moved(), server(Some(0)));
        let mut facts = facts(Source::Here(&empty));
        next(&mut own, &facts);
        facts.handed_over = order(Fate::Succeeded, &handed());
        next(&mut own, &facts);
        facts.placed = order(fate, "full");
        facts.is_target_silent = silent;

        let acts = next(&mut own, &facts);
        assert_eq!((own.step, own.epoch), (MoveStep::Waiting, 5));
        assert!(own.refused.contains_key(&host("chi-1")));
        let give_up = acts.iter().any(|act| {
            matches!(act, Act::GiveUp { host: other, gently: false, .. } if *other == host("chi-1"))
        });
        assert_eq!(give_up, has_it, "{fate}");
        assert_eq!(
            acts.last(),
            Some(&Act::Claim(host("ams-1"))),
            "it is still there"
        );

        facts.choice = Ok(host("fra-1"));
        facts.handed_over = None;
        facts.placed = None;
        assert_eq!(next(&mut own, &facts), [Act::HandOver]);
        assert_eq!((own.epoch, own.to), (6, Some(host("fra-1"))));
    }
}

#[test]
fn without_a_host_a_move_waits_for_a_while_and_a_new_server_does_not() {
    let (mut own, empty) = (moved(), server(Some(0)));
    let mut facts = facts(Source::Here(&empty));
    facts.choice = Err("no host takes it: chi-1 is cordoned".to_owned());
    next(&mut own, &facts);
    assert_eq!(own.step, MoveStep::Waiting);
    facts.now += PATIENCE;
    next(&mut own, &facts);
    assert_eq!(own.step, MoveStep::Failed);
    assert!(own.why.contains("chi-1 is cordoned"), "{own:?}");

    let mut new = Move {
        from: None,
        epoch: 0,
        ..moved()
    };
    facts.source = Source::None;
    next(&mut new, &facts);
    assert_eq!(new.step, MoveStep::Failed);
}

#[test]
fn an_abort_leaves_what_has_not_begun_and_finishes_what_has() {
    let (mut own, empty) = (moved(), server(Some(0)));
    let mut facts = facts(Source::Here(&empty));
    next(&mut own, &facts);
    facts.handed_over = order(Fate::Succeeded, &handed());
    next(&mut own, &facts);

    facts.is_aborted = true;
    facts.placed = order(Fate::Succeeded, "");
    assert!(!next(&mut own, &facts).is_empty());
    assert_eq!(own.step, MoveStep::Leaving);

    let mut other = moved();
    assert_eq!(next(&mut other, &facts), []);
    assert_eq!(other.step, MoveStep::NotBegun);
}

#[test]
fn from_a_dead_host_nothing_is_waited_for() {
    let mut own = moved();
    let mut facts = facts(Source::None);
    facts.knows_blueprint = true;
    assert_eq!(
        next(&mut own, &facts),
        [Act::Claim(host("chi-1")), Act::Place]
    );
    facts.placed = order(Fate::Succeeded, "");
    let give_up = Act::GiveUp {
        host: host("ams-1"),
        to: Some(host("chi-1")),
        gently: false,
    };
    assert_eq!(next(&mut own, &facts), [give_up]);
    assert_eq!(own.step, MoveStep::Moved);
}

/// What happens to an order, or around it.
fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::UnderWay),
        4 => Just(Fate::Succeeded),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Unknown),
    ]
}

#[test]
fn once_its_new_host_has_it_another_controller_may_move_it_on() {
    let here = server(Some(0));
    let mut own = Move {
        step: MoveStep::Leaving,
        to: Some(host("chi-1")),
        ..moved()
    };
    let mut facts = Facts {
        overtaken: Some("dal-1".to_owned()),
        given_up: order(Fate::UnderWay, ""),
        ..facts(Source::Here(&here))
    };
    assert_eq!(next(&mut own, &facts), []);
    assert_eq!(own.step, MoveStep::Leaving);
    facts.given_up = order(Fate::Succeeded, "");
    assert_eq!(next(&mut own, &facts), []);
    assert_eq!(own.step, MoveStep::Moved);
}

proptest! {
    #[test]
    fn whatever_happens_a_server_is_given_up_only_after_another_host_runs_it(
        happens in prop::collection::vec(
            (fates(), prop::option::of(0..3_u32), any::<bool>(), 0..4_u8), 1..80,
        ),
    ) {
        let mut own = moved();
        let (mut sent, mut now, mut claimed) = (BTreeMap::new(), 1, 3);
        let mut runs_elsewhere = false;
        let handed = handed();
        for (fate, players, is_target_silent, kind) in happens {
            now += 10_000;
            // One of the orders that were sent has become something else.
            let epoch = own.epoch;
            let key = (epoch, kind);
            if let Some(Some(OrderFacts { fate: Fate::UnderWay, .. })) = sent.get(&key) {
                let detail = if kind == 0 { handed.as_str() } else { "" };
                sent.insert(key, order(fate, detail));
            }
            let here = server(players);
            let facts = Facts {
                now,
                is_target_silent,
                handed_over: sent.get(&(epoch, 0)).cloned().flatten(),
                placed: sent.get(&(epoch, 1)).cloned().flatten(),
                given_up: sent.get(&(epoch, 2)).cloned().flatten(),
                ..facts(Source::Here(&here))
            };
            if facts.placed.as_ref().is_some_and(|order| order.fate == Fate::Succeeded) {
                runs_elsewhere = true;
            }

            let (before, was) = (own.step, own.epoch);
            let acts = next(&mut own, &facts);
            prop_assert!(own.epoch >= was, "epochs never fall");
            if before == MoveStep::Waiting && own.step == MoveStep::HandingOver {
                prop_assert!(players == Some(0) || now >= DEADLINE, "people were playing");
            }
            for act in acts {
                match act {
                    Act::HandOver => { sent.insert((own.epoch, 0), order(Fate::UnderWay, "")); }
                    Act::Place => { sent.insert((own.epoch, 1), order(Fate::UnderWay, "")); }
                    Act::Claim(_) => {
                        prop_assert!(own.epoch > claimed, "a claim is newer than the last");
                        claimed = own.epoch;
                    }
                    Act::GiveUp { host: whose, .. } => {
                        sent.insert((own.epoch, 2), order(Fate::UnderWay, ""));
                        if whose == host("ams-1") {
                            prop_assert!(runs_elsewhere, "stopped before it ran elsewhere");
                        }
                    }
                }
            }
            if own.step == MoveStep::Waiting {
                runs_elsewhere = false;
            }
        }
    }
}
