//! What could be lost between two looks at the engine: words of a host that the roster does not name
//! yet, streams that are made again in the middle of reading, and events that never came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use left4me::base::keys::{Purpose, SigningKey};
use left4me::base::ulid::Ulid;
use left4me::db::fleet::{events, hosts, self_row};
use left4me::domain::fleet::event::FleetEvent;
use left4me::domain::fleet::question::Question;
use left4me::domain::fleet::roster::Roster;
use left4me::queue::fleet::answer::EventPart;
use left4me::queue::fleet::answered::{self, Asked};
use left4me::queue::fleet::noise::Noise;
use left4me::queue::fleet::read::{self, Read};
use left4me::queue::fleet::{asked, missing};
use left4me::wire::gate::{Message, Missing, Source, Taken};

use crate::support::fleet::{Carrier, TestMember, enqueue, fleet, message, roster};

/// The roster that fra-1 has signed.
fn signed(fra: &TestMember, roster: &Roster) -> Message {
    let body = serde_json::to_vec(roster).unwrap();
    let key = fra.controller.as_ref().unwrap();
    message(key, Purpose::Roster, "roster", &body, 9)
}

fn deliver(to: &TestMember, from: Source, messages: &[Message]) -> Read {
    let mut db = to.host.db();
    let now = left4me::base::clock::now_ms();
    read::deliver(&mut db, &to.accepting(), from, "made 1", messages, now).unwrap()
}

fn told(host: &str, key: &SigningKey, seq: i64, sequence: u64) -> Message {
    let event = serde_json::json!({"v": 1, "host": host, "seq": seq, "at": 9,
        "kind": "server.crashed", "detail": ""});
    message(
        key,
        Purpose::Event,
        host,
        event.to_string().as_bytes(),
        sequence,
    )
}

fn noise(of: &TestMember) -> i64 {
    let own = self_row::get(of.host.db().connection()).unwrap();
    own.unwrap().noise
}

#[test]
fn what_a_host_told_before_the_roster_named_it_is_read_and_no_noise_is_counted_twice() {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    let (fra, ams) = (&members[0], &members[1]);
    let key = SigningKey::generate();
    let stranger = SigningKey::generate();
    let stream = [
        told("ams-1", &ams.key, 1, 1),
        told("par-1", &key, 1, 2),
        told("evil", &stranger, 1, 3),
    ];
    let last = |host: &str| events::last_of(fra.host.db().connection(), host).unwrap();
    let status = |of: &SigningKey, sequence| {
        let status = serde_json::json!({"v": 1, "host": "par-1", "at": 5, "version": "1",
            "speaks": [1], "operations": [], "capacity": 1, "used": 0, "cordoned": false,
            "queue": {"queued": 0, "running": 0, "paused": false}, "servers": [],
            "last_event": 1});
        message(
            of,
            Purpose::Status,
            "par-1",
            status.to_string().as_bytes(),
            sequence,
        )
    };

    assert_eq!(deliver(fra, Source::Events, &stream).noise, 2);
    assert_eq!(deliver(fra, Source::Hosts, &[status(&key, 4)]).noise, 1);
    assert_eq!(deliver(fra, Source::Hosts, &[status(&key, 4)]).noise, 0);
    assert_eq!((last("ams-1"), last("par-1"), noise(fra)), (1, 0, 3));

    // The same hosts: nothing is read again.
    let mut newer = roster(&members, 2);
    deliver(fra, Source::Roster, &[signed(fra, &newer)]);
    let mut carrier = Carrier::default();
    carrier.events.extend_from_slice(&stream);
    let now = left4me::base::clock::now_ms();
    assert_eq!(carrier.take(fra, now).events_after, 3);

    let mut member = newer.hosts[1].clone();
    member.name = "par-1".parse().unwrap();
    member.key = key.public();
    newer.hosts.push(member);
    newer.version = 3;
    deliver(fra, Source::Roster, &[signed(fra, &newer)]);
    assert_eq!(carrier.take(fra, now).events_after, 0);
    deliver(fra, Source::Events, &stream);
    deliver(fra, Source::Hosts, &[status(&key, 4)]);
    assert_eq!((last("ams-1"), last("par-1"), noise(fra)), (1, 1, 3));
    let par = hosts::get(fra.host.db().connection(), "par-1").unwrap();
    assert!(par.unwrap().status.is_some());
    assert_eq!(carrier.take(fra, now).events_after, 3);

    // Another machine has the name from now on, and counts its events from 1.
    let other = SigningKey::generate();
    newer.hosts[2].key = other.public();
    newer.version = 4;
    deliver(fra, Source::Roster, &[signed(fra, &newer)]);
    assert_eq!(last("par-1"), 0);
    let more = [&stream[..], &[told("par-1", &other, 1, 4)]].concat();
    assert_eq!(deliver(fra, Source::Events, &more).noise, 0);
    assert_eq!((last("par-1"), noise(fra)), (1, 3));
    assert_eq!(
        deliver(fra, Source::Events, &[told("par-1", &key, 2, 5)]).noise,
        1,
        "the old machine is not believed"
    );
}

#[test]
fn an_end_that_was_lost_with_its_stream_is_asked_for_although_only_the_reader_saw_that() {
    for is_of_events in [true, false] {
        let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
        let (fra, ams) = (&members[0], &members[1]);
        let (mut carrier, now) = (Carrier::default(), left4me::base::clock::now_ms());
        let order: Ulid = fra.send(ams, enqueue("restart", &ams.servers()), now);
        carrier.turn(fra, now);
        if is_of_events {
            carrier.carry(&members, now);
            assert_eq!(fra.state(order).0, "accepted");
        }

        // Lost, and made again, after a Take: the next words are of the reader.
        carrier.take(fra, now);
        carrier.lose_all();
        let (from, message) = match is_of_events {
            true => (Source::Events, told("ams-1", &ams.key, 900, 1)),
            false => {
                let key = SigningKey::generate();
                (
                    Source::Orders,
                    message(&key, Purpose::Order, "fra-1", b"x", 1),
                )
            }
        };
        match from {
            Source::Events => carrier.events.push(message),
            _ => carrier.orders.push(message),
        }
        carrier.deliver(fra, from, 0, now + 1);
        assert_eq!(fra.order(order).attempt, 2, "{from:?}");

        // It is found once.
        carrier.deliver(fra, from, 0, now + 2);
        carrier.take(fra, now + 3);
        carrier.carry(&members, now + 4);
        assert_eq!(fra.order(order).attempt, 2, "{from:?}");
        assert_eq!(fra.state(order).0, "accepted");
    }
}

/// Asks a host for what is missing, as both left4me-links carry it.
fn ask(fra: &TestMember, ams: &TestMember, missing: &Missing, now: i64) {
    let (after, noise) = (missing.after, &mut Noise::default());
    let asking = fra.asking(ams, Question::Events { after });
    let question = fra.text(Purpose::Question, serde_json::to_string(&asking).unwrap());
    let mut there = ams.host.db();
    let body = asked::asked(
        &mut there, &ams.name, &fra.name, &question, noise, asking.at,
    );
    let asked = Asked {
        here: &fra.name,
        opening: Some(&fra.opening),
        host: &ams.name,
        id: asking.id,
        question: &asking.question,
    };
    let mut here = fra.host.db();
    let answer = ams.text(Purpose::Answer, body.unwrap());
    let opened = answered::answered(&here, &asked, &answer, noise).unwrap();
    let part: EventPart = serde_json::from_value(opened.value).unwrap();
    missing::take_in(&mut here, &ams.name, after, &part, now).unwrap();
}

fn numbers(of: &TestMember, sql: &str) -> Vec<i64> {
    let db = of.host.db();
    let mut query = db.connection().prepare(sql).unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn events_that_have_not_come_are_asked_for_until_they_are_here_or_their_host_has_them_no_more() {
    const HERE: &str = "SELECT seq FROM fleet_events WHERE host = 'ams-1' ORDER BY seq";
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    let (fra, ams) = (&members[0], &members[1]);
    let (mut carrier, now) = (Carrier::default(), left4me::base::clock::now_ms());
    for operation in ["restart", "stop", "start"] {
        let job = ams.host.enqueue(&[operation, "--all"]).0;
        ams.end_job(job, "succeeded");
    }
    let order = fra.send(ams, enqueue("restart", &ams.servers()), now);
    for _ in 0..2 {
        let taken = carrier.take(fra, now);
        carrier.publish(
            fra,
            &Taken {
                events: Vec::new(),
                ..taken
            },
        );
        carrier.turn(ams, now);
    }
    ams.host.enqueue(&["initialize", "--all"]);
    carrier.turn(ams, now);

    // The engine loses the second and the third event, and all of the order; the last one has come.
    let all: Vec<FleetEvent> = carrier
        .events
        .iter()
        .map(|message| serde_json::from_slice(&STANDARD.decode(&message.body).unwrap()).unwrap())
        .collect();
    let is_left = |index: usize| ![1, 2].contains(&index) && all[index].order != Some(order);
    assert!(is_left(all.len() - 1) && all.iter().any(|event| event.order == Some(order)));
    let left = carrier.events.iter().enumerate();
    let left = left.filter(|(index, _)| is_left(*index));
    let left: Vec<Message> = left.map(|(_, message)| message.clone()).collect();
    deliver(fra, Source::Events, &left);
    assert_eq!(fra.state(order).1, None, "its receipt has not come");
    // Their host has pruned one of them.
    let pruned = all[1].seq;
    let sql = "DELETE FROM events WHERE id = ?1";
    ams.host.db().connection().execute(sql, [pruned]).unwrap();

    let seen_at = |at: i64| {
        let sql = "UPDATE fleet_hosts SET status_received_at = ?1 WHERE name = 'ams-1'";
        fra.host.db().connection().execute(sql, [at]).unwrap();
    };
    let missing = |now: i64| missing::missing(&mut fra.host.db(), &fra.name, now).unwrap();
    seen_at(now);
    assert_eq!(missing(now + 30_000), None, "they may still come");
    let later = now + 90_000;
    seen_at(now - 600_000);
    assert_eq!(missing(later), None, "it is silent");
    seen_at(later);
    let first = missing(later).expect("a gap");
    assert_eq!((first.host.as_str(), first.after), ("ams-1", all[0].seq));
    seen_at(later + 299_000);
    assert_eq!(missing(later + 299_000), None, "it was asked just before");
    assert_eq!(missing(later + 300_000), Some(first.clone()));

    ask(fra, ams, &first, later + 300_000);
    let mut whole: Vec<i64> = all.iter().map(|event| event.seq).collect();
    whole.remove(1);
    assert_eq!(numbers(fra, HERE), whole);
    assert_eq!(fra.state(order).0, "accepted");
    assert_eq!(missing(later + 300_000), None, "it is not asked for again");

    // What a viewer that is new to the fleet never had is no gap.
    let sql = format!("DELETE FROM fleet_events WHERE seq <= {pruned}; DELETE FROM fleet_gaps");
    fra.host.db().connection().execute_batch(&sql).unwrap();
    assert_eq!(missing(later + 300_000), None);
}
