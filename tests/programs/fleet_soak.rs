//! A fleet of real programs on loopback: three nodes of the engine, a controller and two hosts. Orders
//! flow while leaders are killed, a disk is wiped, all nodes lose their power, hosts are cut off, and
//! every program of every host is killed again and again. At the end each order has one row and at most
//! one job where it went, and its sender knows the true end.
//!
//! `LEFT4ME_TEST_SOAK=long` also cuts a host off for ten minutes. Run it so before a release, three
//! times in a row:
//!
//! ```text
//! LEFT4ME_TEST_SOAK=long cargo nextest run --all-features --test programs -E 'test(fleet_soak)' --profile soak
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use left4me::base::clock::now_ms;
use left4me::base::names::FleetHost;
use left4me::base::ulid::Ulid;
use left4me::domain::fleet::order::{Enqueue, What};
use left4me::domain::update::UpdateOptions;

use crate::support::real_fleet::Fleet;

/// How many orders go out.
const ORDERS: usize = 1_000;

/// In what time they do.
const SENDING: Duration = Duration::from_secs(50);

/// In the long form, how many of them go out one by one while a host is cut off for ten minutes.
const TO_A_HOST_AWAY: usize = 200;

/// How long the last of them may take after that.
const SETTLING: Duration = Duration::from_secs(240);

#[test]
fn every_order_comes_to_its_true_end_whatever_dies() {
    let is_long = std::env::var("LEFT4ME_TEST_SOAK").is_ok_and(|word| word == "long");
    let mut fleet = Fleet::up(3, &["fra-1", "ams-1", "chi-1"]);
    let mut plan = trouble(is_long);
    let mut dice = Dice(now_ms().cast_unsigned());
    eprintln!("dice {}", dice.0);

    let begun = Instant::now();
    let mut sent = Vec::new();
    let mut next_kill = Duration::from_millis(200);
    loop {
        let elapsed = begun.elapsed();
        while sent.len() < due(elapsed, is_long) {
            send_one(&fleet, &mut sent);
        }
        while plan.first().is_some_and(|(at, _)| elapsed >= *at) {
            let (_, what) = plan.remove(0);
            eprintln!("{:>6.1} s: {what:?}", elapsed.as_secs_f64());
            what.happen(&mut fleet);
        }
        if elapsed >= next_kill && !plan.is_empty() {
            kill_something(&fleet, &mut dice);
            next_kill = elapsed + Duration::from_millis(100 + dice.roll(500));
        }
        if sent.len() == ORDERS && plan.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }

    let waited = wait_until_settled(&fleet);
    eprintln!(
        "all settled {:.1} s after the last trouble",
        waited.as_secs_f64()
    );
    judge(&fleet, &sent);
}

/// How many orders have gone out by then.
fn due(elapsed: Duration, is_long: bool) -> usize {
    let later = if is_long { TO_A_HOST_AWAY } else { 0 };
    let part = |all: usize, from: f64, time: f64| {
        let share = (elapsed.as_secs_f64() - from) / time;
        (all as f64 * share.clamp(0.0, 1.0)) as usize
    };
    let first = part(ORDERS - later, 0.0, SENDING.as_secs_f64());
    first + part(later, 60.0, 600.0)
}

// ---- what is asked for -------------------------------------------------------------------------

/// An order, and where it went.
type Sent = (Ulid, &'static str);

/// Most succeed and some fail; some are cancelled or withdrawn at once.
fn send_one(fleet: &Fleet, sent: &mut Vec<Sent>) {
    let number = sent.len();
    let host = if number.is_multiple_of(2) {
        "ams-1"
    } else {
        "chi-1"
    };
    let (target, sender) = (fleet.member(host), fleet.member("fra-1"));
    let server = target.servers[number / 2 % target.servers.len()];
    let before = sent.iter().rev().find(|(_, to)| *to == host);
    let what = match (number % 20, before) {
        // There is no helper here, so a stop fails.
        (4 | 5 | 14 | 15, _) => enqueue("stop", server, number),
        (8 | 9, Some((order, _))) => What::Cancel {
            order: Some(*order),
            job: None,
            force: false,
            reason: String::new(),
        },
        (18 | 19, Some((order, _))) => {
            sender.withdraw(*order);
            enqueue("initialize", server, number)
        }
        _ => enqueue("initialize", server, number),
    };
    sent.push((sender.send(&name(host), what), host));
}

fn enqueue(operation: &str, server: Ulid, number: usize) -> What {
    What::Enqueue(Enqueue {
        operation: operation.to_owned(),
        servers: vec![server],
        all: false,
        unique: false,
        rolling: None,
        update: UpdateOptions::default(),
        condition: None,
        reason: format!("soak {number}"),
    })
}

fn name(host: &str) -> FleetHost {
    host.parse().expect("a name")
}

// ---- what goes wrong ---------------------------------------------------------------------------

#[derive(Debug)]
enum Trouble {
    KillLeader,
    /// The nodes that were killed come back.
    StartNodes,
    PowerCut,
    WipeDisk(usize),
    CutOff(&'static str),
    /// Its link does not run, though its connection looks alive.
    Freeze(&'static str),
    Back(&'static str),
    /// Nothing more dies.
    Peace,
}

/// In the order of time.
fn trouble(is_long: bool) -> Vec<(Duration, Trouble)> {
    let s = Duration::from_secs;
    let mut plan = vec![
        (s(4), Trouble::KillLeader),
        (s(8), Trouble::CutOff("chi-1")),
        (s(10), Trouble::StartNodes),
        (s(14), Trouble::KillLeader),
        (s(20), Trouble::StartNodes),
        (s(22), Trouble::Freeze("ams-1")),
        (s(26), Trouble::KillLeader),
        (s(32), Trouble::StartNodes),
        (s(38), Trouble::Back("chi-1")),
        (s(40), Trouble::WipeDisk(1)),
        (s(44), Trouble::Back("ams-1")),
        (s(52), Trouble::PowerCut),
        (s(56), Trouble::Peace),
    ];
    if is_long {
        plan.pop();
        plan.push((s(60), Trouble::CutOff("ams-1")));
        plan.push((s(660), Trouble::Back("ams-1")));
        plan.push((s(664), Trouble::Peace));
    }
    plan
}

impl Trouble {
    fn happen(&self, fleet: &mut Fleet) {
        match self {
            Self::KillLeader => {
                let leader = fleet.engine.leader("ORDERS").unwrap_or(0);
                fleet.engine.kill(leader);
            }
            Self::StartNodes => fleet.engine.start_missing(),
            Self::PowerCut => fleet.engine.cut_power(),
            Self::WipeDisk(node) => fleet.engine.wipe(*node),
            Self::CutOff(host) => fleet.member(host).link.hold(),
            Self::Freeze(host) => {
                fleet
                    .member(host)
                    .link
                    .signal(nix::sys::signal::Signal::SIGSTOP);
            }
            Self::Back(host) => {
                let link = &fleet.member(host).link;
                link.signal(nix::sys::signal::Signal::SIGCONT);
                link.release();
            }
            Self::Peace => {}
        }
    }
}

/// SIGKILL for one program of one host.
fn kill_something(fleet: &Fleet, dice: &mut Dice) {
    let member = &fleet.members[dice.roll(fleet.members.len() as u64) as usize];
    match dice.roll(3) {
        0 => member.link.kill(),
        1 => member.gate.kill(),
        _ => member.worker.kill(),
    };
}

/// Numbers that look random, from a seed that a failure shows.
struct Dice(u64);

impl Dice {
    /// Less than `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

// ---- what came of it ---------------------------------------------------------------------------

/// Returns how long it took.
fn wait_until_settled(fleet: &Fleet) -> Duration {
    let begun = Instant::now();
    let sender = fleet.member("fra-1");
    loop {
        let open = sender.open_orders();
        if open.is_empty() {
            return begun.elapsed();
        }
        if begun.elapsed() > SETTLING {
            fleet.tell_all();
            panic!(
                "{} orders are not settled: {:#?}",
                open.len(),
                &open[..open.len().min(20)]
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn judge(fleet: &Fleet, sent: &[Sent]) {
    let sender = fleet.member("fra-1");
    let states = sender.states();
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (host, target) in [
        ("ams-1", fleet.member("ams-1")),
        ("chi-1", fleet.member("chi-1")),
    ] {
        let truth = target.truth();
        for (order, _) in sent.iter().filter(|(_, to)| *to == host) {
            let (said, is) = (&states[order], truth.get(order));
            *counts.entry(said.clone()).or_default() += 1;
            let is_so = match is {
                Some(is) => said == is,
                // It was withdrawn before left4me-link had it.
                None => said == "withdrawn",
            };
            if !is_so {
                wrong.push(format!("{order} to {host}: {said}, in truth {is:?}"));
            }
        }
        // Each job is of one order, and an order's row has room for one job.
        assert_eq!(
            target.jobs_without_order(),
            0,
            "jobs of {host} that no order explains"
        );
    }
    eprintln!("{counts:?}");
    if !wrong.is_empty() {
        fleet.tell_all();
    }
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        sent.len()
    );
    assert!(counts["succeeded"] > sent.len() / 2, "{counts:?}");
    assert!(counts["failed"] > 0, "{counts:?}");
}
