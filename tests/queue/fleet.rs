//! Orders between hosts, from the sender's row to their end: over the real tables, with an engine in
//! memory that loses, doubles and forgets.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use left4me::base::keys::{Purpose, SigningKey};
use left4me::base::ulid::Ulid;
use left4me::db::fleet::events_out::EventOut;
use left4me::db::fleet::{hosts, self_row};
use left4me::db::{events, jobs};
use left4me::domain::fleet::order::What;
use left4me::domain::fleet::status::HostStatus;
use left4me::queue::fleet::withdraw::{Withdrawn, withdraw};
use left4me::queue::fleet::{outbox, read, status};
use left4me::wire::gate::{Message, Source};
use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::fleet::{Carrier, TestMember, enqueue, fleet, message};

const HOUR: i64 = 3_600_000;

/// A controller, a host that obeys it, and the time.
fn two() -> (Vec<TestMember>, Carrier, i64) {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    (members, Carrier::default(), left4me::base::clock::now_ms())
}

fn count(member: &TestMember, sql: &str) -> i64 {
    let db = member.host.db();
    db.connection()
        .query_row(sql, [], |row| row.get(0))
        .unwrap()
}

fn jobs_of(member: &TestMember) -> i64 {
    count(member, "SELECT count(*) FROM jobs")
}

#[test]
fn an_order_is_told_at_each_step_up_to_the_end_of_its_job() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let server = ams.servers()[0];
    let order = fra.send(ams, enqueue("restart", &[server]), now);
    assert_eq!(fra.state(order), ("kept".to_owned(), None));

    carrier.turn(fra, now);
    assert_eq!(fra.state(order), ("sent".to_owned(), None));

    carrier.carry(&members, now);
    assert_eq!(fra.state(order), ("accepted".to_owned(), Some(1)));
    let job = jobs::get(ams.host.db().connection(), left4me::base::names::JobId(1)).unwrap();
    assert_eq!(
        (job.operation.as_str(), job.requested_by.as_str()),
        ("restart", "anna@fra-1")
    );
    assert_eq!(job.servers.len(), 1);

    ams.end_job(1, "failed");
    carrier.carry(&members, now);
    assert_eq!(fra.state(order).0, "failed");
    let known = hosts::get(fra.host.db().connection(), "ams-1").unwrap();
    assert!(known.is_some());
}

#[test]
fn an_order_that_comes_again_and_again_runs_once_and_its_sender_is_told_again() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.carry(&members, now);
    ams.end_job(1, "succeeded");
    carrier.carry(&members, now);
    assert_eq!(fra.state(order).0, "succeeded");

    // The same message, under other sequences.
    let again = carrier.orders[0].clone();
    for minute in 1..=20 {
        for _ in 0..5 {
            let mut again = again.clone();
            again.sequence = carrier.orders.len() as u64 + 1;
            carrier.orders.push(again);
        }
        carrier.carry(&members, now + minute * 1000);
    }
    assert_eq!(jobs_of(ams), 1);
    let told = count(ams, "SELECT count(*) FROM events WHERE kind LIKE 'order.%'");
    assert!(told <= 5, "the table of events does not fill: {told}");

    carrier.orders.push(again);
    carrier.orders.last_mut().unwrap().sequence = carrier.orders.len() as u64;
    carrier.carry(&members, now + 60_000);
    let last = events::last(ams.host.db().connection(), None, 1).unwrap();
    assert_eq!(
        (last[0].kind.as_str(), last[0].detail.as_str()),
        ("order.ended", "succeeded")
    );
}

#[test]
fn an_engine_that_loses_everything_at_any_point_only_delays() {
    for lost_after in 0..5 {
        let (members, mut carrier, now) = two();
        let [fra, ams] = &members[..] else { panic!() };
        let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
        let steps: [&dyn Fn(&mut Carrier); 5] = [
            &|carrier| carrier.turn(fra, now),
            &|carrier| carrier.turn(ams, now),
            &|carrier| carrier.turn(ams, now),
            &|carrier| carrier.turn(fra, now),
            &|_| ams.end_job(1, "succeeded"),
        ];
        for (at, step) in steps.iter().enumerate() {
            step(&mut carrier);
            if at == lost_after {
                carrier.lose_all();
                // So that its job is there before it ends.
                carrier.carry(&members, now + 100_000);
            }
        }
        carrier.carry(&members, now + 200_000);
        assert_eq!(
            fra.state(order).0,
            "succeeded",
            "lost after step {lost_after}"
        );
        assert_eq!(jobs_of(ams), 1, "lost after step {lost_after}");
    }
}

#[test]
fn an_end_that_was_lost_with_the_stream_of_events_is_told_again() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.carry(&members, now);
    ams.end_job(1, "succeeded");
    carrier.turn(ams, now);

    // Two days later it is not among the events that are told again.
    carrier.lose_all();
    carrier.carry(&members, now + 48 * HOUR);
    carrier.carry(&members, now + 48 * HOUR + 60_000);
    assert_eq!(fra.state(order).0, "succeeded");
    assert_eq!(fra.order(order).attempt, 2);
}

#[test]
fn a_stream_that_has_lost_its_end_is_read_from_its_beginning() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let orders: Vec<Ulid> = ["restart", "stop", "start"]
        .map(|operation| {
            let order = fra.send(ams, enqueue(operation, &ams.servers()), now);
            carrier.carry(&members, now);
            order
        })
        .to_vec();

    // The same stream, without its last two messages; a new one gets their number.
    carrier.orders.truncate(1);
    let new = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.carry(&members, now + 1);
    assert_eq!(fra.state(new), ("accepted".to_owned(), Some(4)));
    assert!(orders.iter().all(|&order| fra.state(order).0 == "accepted"));
    assert_eq!(jobs_of(ams), 4);
}

#[test]
fn a_lost_order_is_sent_again_only_while_its_host_is_there() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.turn(fra, now);
    carrier.orders.clear();
    carrier.orders.push(message(
        &SigningKey::generate(),
        Purpose::Order,
        "ams-1",
        b"nothing",
        1,
    ));

    carrier.turn(fra, now + HOUR);
    assert_eq!(fra.order(order).attempt, 1, "its host is silent");

    let mut own = status_of(ams, now + HOUR);
    own.at = now + HOUR;
    tell_status(fra, ams, &own, now + HOUR);
    carrier.turn(fra, now + HOUR + 1);
    assert_eq!(
        (fra.order(order).attempt, fra.state(order).0.as_str()),
        (2, "sent")
    );
    carrier.carry(&members, now + HOUR + 2);
    assert_eq!(fra.state(order), ("accepted".to_owned(), Some(1)));
    let noise = self_row::get(ams.host.db().connection())
        .unwrap()
        .unwrap()
        .noise;
    assert_eq!(noise, 1);
}

#[test]
fn without_an_answer_nothing_is_known_and_a_late_answer_is_believed() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.turn(fra, now);
    carrier.cut_off.insert("fra-1".to_owned());
    carrier.carry(&members, now);
    carrier.cut_off.clear();
    carrier.cut_off.insert("ams-1".to_owned());
    let taken = carrier.take(fra, now + 25 * HOUR);
    assert_eq!(taken.orders.len(), 0);
    assert_eq!(fra.state(order).0, "unknown");
    let told = count(
        fra,
        "SELECT count(*) FROM events WHERE kind = 'order.unknown'",
    );
    assert_eq!(told, 1);

    carrier.cut_off.clear();
    carrier.carry(&members, now + 25 * HOUR);
    assert_eq!(fra.state(order), ("accepted".to_owned(), Some(1)));
}

#[test]
fn an_order_that_comes_after_its_time_is_refused_and_so_is_what_a_host_does_not_know() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let late = fra.send(ams, enqueue("restart", &ams.servers()), now);
    let foreign = fra.send(ams, enqueue("restart", &[Ulid::new(now)]), now);
    let unknown = fra.send(ams, enqueue("format", &ams.servers()), now);
    carrier.turn(fra, now);
    let after = now + 24 * HOUR + 1;
    carrier.deliver(ams, Source::Orders, 0, now);
    carrier.carry(&members, now);

    assert_eq!(fra.state(late).0, "accepted");
    for (order, why) in [(foreign, "is not on this host"), (unknown, "format")] {
        assert_eq!(fra.state(order).0, "refused");
        let detail = fra.order(order).detail;
        assert!(detail.contains(why), "{detail}");
    }
    assert_eq!(jobs_of(ams), 1);

    let late = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.turn(fra, now);
    carrier.deliver(ams, Source::Orders, 3, after);
    carrier.carry(&members, after);
    assert_eq!(fra.order(late).detail, "it came after its time");
    assert_eq!(jobs_of(ams), 1);
}

#[test]
fn only_what_a_controller_signed_for_this_host_is_an_order() {
    let members = fleet(&["fra-1", "ams-1", "sgp-1"], &["fra-1"]);
    let (fra, ams, sgp) = (&members[0], &members[1], &members[2]);
    let now = left4me::base::clock::now_ms();
    let mut carrier = Carrier::default();
    fra.send(sgp, enqueue("restart", &ams.servers()), now);
    carrier.turn(fra, now);

    // To another host; signed by a host, which is no controller; signed as something else; damaged.
    let other = carrier.orders[0].clone();
    let body =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &other.body).unwrap();
    let mut damaged = other.clone();
    damaged.body = damaged.body.replacen('A', "B", 1);
    let controller = fra.controller.as_ref().unwrap();
    let mut wrong = vec![
        other,
        damaged,
        message(&ams.key, Purpose::Order, "ams-1", &body, 0),
        message(controller, Purpose::Roster, "ams-1", &body, 0),
    ];
    for (at, message) in wrong.iter_mut().enumerate() {
        message.subject = "ams-1".to_owned();
        message.sequence = at as u64 + 1;
    }

    let mut db = ams.host.db();
    let read = read::deliver(&mut db, &ams.accepting(), Source::Orders, "g", &wrong, now).unwrap();
    assert_eq!((read.sequence, read.noise, read.carried_out), (4, 4, false));
    assert_eq!(count(ams, "SELECT count(*) FROM fleet_orders_in"), 0);
    assert_eq!(count(ams, "SELECT noise FROM fleet_self"), 4);

    // A repeated request, after its answer was lost, counts nothing twice.
    let read = read::deliver(&mut db, &ams.accepting(), Source::Orders, "g", &wrong, now).unwrap();
    assert_eq!((read.sequence, read.noise), (4, 0));
}

#[test]
fn an_order_that_never_left_is_withdrawn_at_once_and_one_that_was_taken_is_asked_for() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let by = ("anna", &fra.name);
    let mut db = fra.host.db();
    let early = fra.send(ams, enqueue("restart", &ams.servers()), now);
    assert_eq!(
        withdraw(&mut db, early, by, "", now).unwrap(),
        Withdrawn::AtOnce
    );
    assert_eq!(fra.state(early).0, "withdrawn");
    assert_eq!(
        withdraw(&mut db, early, by, "", now)
            .unwrap_err()
            .exit
            .code(),
        4
    );

    // Taken, but the engine has not acknowledged it: it may be anywhere.
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    let taken = carrier.take(fra, now);
    assert_eq!(taken.orders.len(), 1);
    let asked = withdraw(&mut db, order, by, "", now).unwrap();
    let Withdrawn::Asked(withdrawal) = asked else {
        panic!()
    };
    carrier.carry(&members, now);
    assert_eq!(fra.state(order).0, "withdrawn");
    assert_eq!(fra.state(withdrawal).0, "succeeded");

    // Then it comes after all.
    carrier.publish(fra, &taken);
    carrier.carry(&members, now);
    assert_eq!(
        (jobs_of(ams), fra.state(order).0.as_str()),
        (0, "withdrawn")
    );
}

#[test]
fn an_order_that_is_withdrawn_while_link_takes_orders_either_never_leaves_or_is_asked_for() {
    let (members, carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let servers = ams.servers();
    let (mut at_once, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let (is_over, takes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The time ends it when the other thread has panicked.
            while !is_over.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE * 2 {
                let orders = carrier.take(fra, now).orders;
                let new = orders.iter().filter(|order| taken.insert(order.id));
                takes.fetch_add(new.count(), Ordering::Relaxed);
            }
        });
        let mut db = fra.host.db();
        let mut sent = 0;
        // Both have to come first now and then.
        while sent < 300 || at_once.len() < 50 || takes.load(Ordering::Relaxed) < 20 {
            let order = fra.send(ams, enqueue("restart", &servers), now);
            let withdrawn = withdraw(&mut db, order, ("anna", &fra.name), "", now).unwrap();
            if withdrawn == Withdrawn::AtOnce {
                at_once.insert(order);
            }
            sent += 1;
            if begun.elapsed() > PATIENCE {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(!at_once.is_empty() && !taken.is_empty(), "they met");
    let both: Vec<_> = at_once.intersection(&taken).collect();
    assert_eq!(
        both,
        Vec::<&Ulid>::new(),
        "of {} and {}",
        at_once.len(),
        taken.len()
    );
}

#[test]
fn a_withdrawal_cancels_a_job_that_waits_and_is_too_late_for_one_that_runs() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let by = ("anna", &fra.name);
    let mut db = fra.host.db();
    let queued = fra.send(ams, enqueue("restart", &ams.servers()), now);
    let running = fra.send(ams, enqueue("stop", &ams.servers()), now);
    carrier.carry(&members, now);
    ams.start_job(left4me::base::names::JobId(2));
    for order in [queued, running] {
        withdraw(&mut db, order, by, "", now).unwrap();
    }
    carrier.carry(&members, now);
    carrier.carry(&members, now);

    assert_eq!(fra.state(queued).0, "cancelled");
    assert_eq!(fra.state(running), ("accepted".to_owned(), Some(2)));
    ams.end_job(2, "succeeded");
    carrier.carry(&members, now);
    assert_eq!(fra.state(running).0, "succeeded");
}

#[test]
fn two_orders_for_the_same_job_both_learn_its_end() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let unique = || match enqueue("restart", &ams.servers()) {
        What::Enqueue(asked) => What::Enqueue(left4me::domain::fleet::order::Enqueue {
            unique: true,
            ..asked
        }),
        other => other,
    };
    let (one, other) = (fra.send(ams, unique(), now), fra.send(ams, unique(), now));
    carrier.carry(&members, now);
    assert_eq!((fra.state(one).1, fra.state(other).1), (Some(1), Some(1)));
    ams.end_job(1, "succeeded");
    carrier.carry(&members, now);
    let ends = [one, other].map(|order| fra.state(order).0);
    assert_eq!(ends, ["succeeded", "succeeded"]);
}

#[test]
fn a_host_speaks_for_itself_alone_and_never_for_an_order_of_another() {
    let members = fleet(&["fra-1", "ams-1", "sgp-1"], &["fra-1"]);
    let (fra, ams, sgp) = (&members[0], &members[1], &members[2]);
    let (mut carrier, now) = (Carrier::default(), left4me::base::clock::now_ms());
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.turn(fra, now);

    let tell = |host: &str| {
        let event = serde_json::json!({"v": 1, "host": host, "seq": 900, "at": now,
            "kind": "order.ended", "order": order, "detail": "succeeded"});
        event.to_string()
    };
    let (own, foreign) = (tell("sgp-1"), tell("ams-1"));
    let wrong = [
        // About its own subject, an order that is not for it; then for another host.
        message(&sgp.key, Purpose::Event, "sgp-1", own.as_bytes(), 1),
        message(&sgp.key, Purpose::Event, "sgp-1", foreign.as_bytes(), 2),
        message(&sgp.key, Purpose::Event, "ams-1", foreign.as_bytes(), 3),
        message(&ams.key, Purpose::Status, "ams-1", foreign.as_bytes(), 4),
    ];
    let mut db = fra.host.db();
    let read = read::deliver(&mut db, &fra.accepting(), Source::Events, "g", &wrong, now).unwrap();
    assert_eq!(read.noise, 3);
    assert_eq!(fra.state(order).0, "sent");
}

#[test]
fn what_a_console_was_told_stays_on_its_host_and_pruning_stops_at_what_was_not_told() {
    let (members, mut carrier, now) = two();
    let ams = &members[1];
    let secret = "rcon_password hunter2";
    let mut db = ams.host.db();
    db.write(|tx| {
        let server = left4me::base::names::ServerId(1);
        events::add_command(tx, now, "anna", server, secret, "").map(drop)
    })
    .unwrap();
    let taken = carrier.take(ams, now);
    let bodies: Vec<&str> = taken
        .events
        .iter()
        .map(|event| event.body.as_str())
        .collect();
    assert!(
        bodies.iter().all(|body| !body.contains("hunter2")),
        "{bodies:?}"
    );
    let told = bodies
        .iter()
        .map(|body| serde_json::from_str::<Value>(body).unwrap());
    let mut commands = told.filter(|event| event["kind"] == "server.command");
    let last = commands.next().unwrap();
    assert_eq!(last["server"], ams.servers()[0].to_string());

    // Old, and not told.
    let old = now - 80 * 24 * HOUR;
    db.write(|tx| {
        let event = events::NewEvent::new("queue.paused", "anna", "");
        (0..3).try_for_each(|_| events::add(tx, old, &event))?;
        events::add(tx, now, &event)
    })
    .unwrap();
    let prune = |days: &str| {
        let keep = ams
            .host
            .command(crate::support::LEFT4ME, &["prune"])
            .env("LEFT4ME_KEEP_EVENTS_DAYS", days)
            .output()
            .unwrap();
        assert!(keep.status.success(), "{keep:?}");
    };
    prune("60");
    let left = format!("SELECT count(*) FROM events WHERE at = {old}");
    assert_eq!(count(ams, &left), 3);

    carrier.carry(&members, now);
    prune("60");
    assert_eq!(count(ams, &left), 0);
}

#[test]
fn a_long_answer_to_an_order_is_told_whole_and_any_other_long_event_is_cut() {
    let ams = &fleet(&["ams-1"], &[])[0];
    let told = |kind: &str, detail: String| {
        let event = EventOut {
            id: 1,
            at: 1,
            kind: kind.to_owned(),
            actor: "anna".to_owned(),
            order: None,
            job: None,
            operation: None,
            server: None,
            detail,
        };
        outbox::event(&ams.name, event).detail.len()
    };
    assert_eq!(told("order.ended", "x".repeat(100_000)), 100_000);
    assert_eq!(told("order.ended", "\u{1}".repeat(100_000)), 4000);
    assert_eq!(told("job.failed", "x".repeat(100_000)), 4000);
}

#[test]
fn a_place_that_no_move_can_have_reached_is_noise() {
    use base64::Engine as _;
    let (members, _, now) = two();
    let fra = &members[0];
    let noise = |sequence: u64, epoch: u64| {
        let body = format!("{{\"host\":\"ams-1\",\"epoch\":{epoch}}}");
        let place = Message {
            sequence,
            subject: members[1].servers()[0].to_string(),
            key: String::new(),
            signature: String::new(),
            body: base64::engine::general_purpose::STANDARD.encode(body),
        };
        let (db, host) = (&mut fra.host.db(), fra.accepting());
        let read = read::deliver(db, &host, Source::Places, "", &[place], now);
        read.unwrap().noise
    };
    assert_eq!(noise(1, u64::MAX), 1);
    assert_eq!(noise(2, 0), 1);
    assert_eq!(noise(3, 2), 0);
    assert_eq!(noise(4, 1_002), 0);
    assert_eq!(noise(5, 2_003), 1);
}

#[test]
fn cordon_and_uncordon_are_told_in_the_status_and_a_server_is_not_placed_yet() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let cordon = fra.send(
        ams,
        What::Cordon {
            reason: "disk".to_owned(),
        },
        now,
    );
    carrier.carry(&members, now);
    assert_eq!(fra.state(cordon).0, "succeeded");
    let seen = status_of(ams, now);
    assert_eq!((seen.cordoned, seen.used, seen.servers.len()), (true, 2, 2));
    assert_eq!(seen.servers[0].id, ams.servers()[0]);

    let again = fra.send(ams, What::Uncordon {}, now);
    carrier.carry(&members, now);
    assert_eq!(fra.state(again).0, "succeeded");
    assert!(!status_of(ams, now).cordoned);
}

#[test]
fn an_order_cancels_the_job_of_another_one() {
    let (members, mut carrier, now) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    carrier.carry(&members, now);
    let cancel = |order| What::Cancel {
        order: Some(order),
        job: None,
        force: false,
        reason: "wrong host".to_owned(),
    };
    let first = fra.send(ams, cancel(order), now);
    carrier.carry(&members, now);
    assert_eq!(
        (fra.state(order).0, fra.state(first).0),
        ("cancelled".into(), "succeeded".into())
    );

    let second = fra.send(ams, cancel(order), now);
    carrier.carry(&members, now);
    assert_eq!(fra.state(second).0, "refused");
    let detail = fra.order(second).detail;
    assert!(detail.contains("cancelled"), "{detail}");
}

fn status_of(member: &TestMember, now: i64) -> HostStatus {
    let host = status::Host {
        name: &member.name,
        capacity: None,
        ports: member.ports(),
        root: &member.root,
    };
    status::status(&mut member.host.db(), &host, now).unwrap()
}

/// Brings the status of a host to another one.
fn tell_status(to: &TestMember, of: &TestMember, status: &HostStatus, now: i64) {
    let body = serde_json::to_vec(status).unwrap();
    let told = message(&of.key, Purpose::Status, of.name.as_str(), &body, 1);
    let mut db = to.host.db();
    let read = read::deliver(&mut db, &to.accepting(), Source::Hosts, "", &[told], now).unwrap();
    assert_eq!(read.noise, 0);
    drop(outbox::sent(
        &mut db,
        &Default::default(),
        &Default::default(),
        now,
    ));
}
