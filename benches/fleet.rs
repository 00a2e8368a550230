//! A fleet, measured: how fast an order comes to its job, what a dead leader costs, how a host catches
//! up, and what left4me-link costs an idle host. The real worker, gate and link of two hosts, and real
//! nats-servers, all on this machine. Figures are in docs/benchmarks.md.
//!
//!     PATH=$PWD/target/programs/trixie/usr/sbin:$PATH cargo bench --bench fleet [-- ORDERS]
//!
//! tests/run brings that nats-server. As root, each node's data is on an ext4 of its own in a file.
//! Times are those in the rows of both hosts, which have one clock here: whole milliseconds.

#![allow(
    clippy::disallowed_methods,
    reason = "it starts the programs it measures, and reads the clock that is asked for"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use left4me::base::clock::now_ms;
use left4me::base::names::FleetHost;
use left4me::base::ulid::Ulid;
use left4me::db::Db;
use left4me::domain::fleet::order::{Enqueue, What};
use left4me::domain::update::UpdateOptions;
use nix::sys::signal::Signal;

use support::real_fleet::{Fleet, Member};

/// Where orders come from, and where they go.
const SENDER: &str = "fra-1";
const TARGET: &str = "ams-1";

/// Orders in each measurement one after the other, unless the command line says otherwise.
const ORDERS: usize = 300;

/// Orders to a host whose worker does not run.
const COLD: usize = 20;

/// Leaders that are killed.
const LEADERS: usize = 5;

/// Orders that wait for a host that was away.
const MISSED: usize = 1_000;

/// How long an idle fleet is watched.
const IDLE: Duration = Duration::from_secs(30);

/// How long anything may take before the benchmark gives up.
const LONGEST: Duration = Duration::from_secs(180);

/// What the package has for a fleet.
const PROGRAMS: [(&str, &str); 3] = [
    ("left4me-link", env!("CARGO_BIN_EXE_left4me-link")),
    ("left4me-gate", env!("CARGO_BIN_EXE_left4me-gate")),
    ("left4me-rollout", env!("CARGO_BIN_EXE_left4me-rollout")),
];

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let orders = words
        .next()
        .map_or(ORDERS, |word| word.parse().expect("a number of orders"));

    println!("load before: {}", load());
    println!("| what | measured |\n|---|---|");
    {
        let fleet = Fleet::up(1, &[SENDER, TARGET]);
        one_by_one(&fleet, orders, "one node");
        cold(&fleet);
    }
    let mut fleet = Fleet::up(3, &[SENDER, TARGET]);
    one_by_one(&fleet, orders, "three nodes");
    failover(&mut fleet);
    catch_up(&fleet);
    idle(&fleet);
    for (name, path) in PROGRAMS {
        let bytes = std::fs::metadata(path).expect("the program").len();
        println!("| {name}, bytes | {bytes} |");
    }
    println!("\nload after: {}\n{}", load(), PROGRAMS[0].1);
}

// ---- what is measured --------------------------------------------------------------------------

/// Each order is written when the one before has ended.
fn one_by_one(fleet: &Fleet, count: usize, engine: &str) {
    let desk = Desk::new(fleet);
    for number in 0..20 {
        desk.send_and_wait(number);
    }
    let sent: Vec<Ulid> = (0..count).map(|i| desk.send_and_wait(i)).collect();

    let all = desk.courses(&sent);
    for (what, time) in [
        ("order to job row", Course::until_row as fn(&Course) -> i64),
        ("order to first task", Course::until_task),
        ("order to receipt at the sender", Course::until_receipt),
        ("order to its end at the sender", Course::until_end),
    ] {
        println!(
            "| {engine}, {what} ({count} orders) | {} |",
            words(&all, time)
        );
    }
}

/// A worker that has nothing to do does not run.
fn cold(fleet: &Fleet) {
    let desk = Desk::new(fleet);
    let send = |number| {
        let worker = &desk.target.worker;
        worker.signal(Signal::SIGTERM);
        wait("the worker has ended", || worker.pid().is_none());
        // What stands for systemd looks at its sockets again.
        std::thread::sleep(Duration::from_millis(200));
        desk.send_and_wait(number)
    };
    let sent: Vec<Ulid> = (0..COLD).map(send).collect();
    let times = words(&desk.courses(&sent), Course::until_task);
    println!(
        "| one node, order to first task, the target's worker does not run ({COLD} orders) | {times} |"
    );
}

/// The leader of the orders dies, and an order is written at once.
fn failover(fleet: &mut Fleet) {
    let mut all = Vec::new();
    for number in 0..LEADERS {
        let leader = fleet.engine.leader("ORDERS").expect("a leader");
        fleet.engine.kill(leader);
        {
            let desk = Desk::new(fleet);
            let sent = desk.send_and_wait(number);
            all.extend(desk.courses(&[sent]));
        }
        fleet.engine.start_missing();
        fleet.engine.settled();
        Desk::new(fleet).send_and_wait(number);
        // The node that came back has what it missed.
        std::thread::sleep(Duration::from_secs(5));
    }
    let list = |time: fn(&Course) -> i64| {
        let mut times: Vec<i64> = all.iter().map(time).collect();
        times.sort_unstable();
        let times = times.iter().map(|ms| format!("{:.1}", *ms as f64 / 1e3));
        times.collect::<Vec<_>>().join(", ")
    };
    println!(
        "| three nodes, the leader killed: until the next order has its row ({LEADERS} times) | {} s |",
        list(Course::until_row)
    );
    println!(
        "| the same, until its sender has the receipt | {} s |",
        list(Course::until_receipt)
    );
}

/// The target's left4me-link does not run while orders are written; then it starts.
fn catch_up(fleet: &Fleet) {
    let desk = Desk::new(fleet);
    desk.target.link.hold();
    wait("its link has ended", || desk.target.link.pid().is_none());

    let begun = now_ms();
    let sent: Vec<Ulid> = (0..MISSED).map(|number| desk.send(number)).collect();
    let open = "SELECT count(*) FROM fleet_orders_out WHERE settled_at IS NULL";
    let kept = format!("{open} AND state = 'kept'");
    wait("the engine has them", || desk.number(&kept) == 0);
    let with_engine = now_ms() - begun;

    let back = now_ms();
    desk.target.link.release();
    wait("all have ended", || desk.number(open) == 0);
    let all = desk.courses(&sent);
    let last = |at: fn(&Course) -> i64| {
        let newest = all.iter().map(at).max().expect("some");
        (newest - back) as f64 / 1e3
    };
    println!(
        "| three nodes, {MISSED} orders written one after the other, until the engine has them | {:.1} s |",
        with_engine as f64 / 1e3
    );
    println!(
        "| the target's link starts after them: until all have rows, receipts, ends | {:.1} s, {:.1} s, {:.1} s |",
        last(|order| order.row),
        last(|order| order.receipt),
        last(|order| order.end)
    );
}

/// Nothing is asked for; statuses and leases go on.
fn idle(fleet: &Fleet) {
    std::thread::sleep(Duration::from_secs(5));
    let processes: Vec<(String, u32)> = fleet
        .members
        .iter()
        .flat_map(|member| {
            let link = member.link.pid().map(|pid| ("left4me-link", pid));
            let gate = member.gate.pid().map(|pid| ("left4me-gate", pid));
            let named = |(name, pid)| (format!("{name} of {}", role(member)), pid);
            link.into_iter().chain(gate).map(named)
        })
        .chain(
            fleet
                .engine
                .nodes
                .iter()
                .filter_map(|node| Some((format!("nats-server {}", node.name), node.pid()?))),
        )
        .collect();

    let before: Vec<Option<f64>> = processes.iter().map(|(_, pid)| cpu_ms(*pid)).collect();
    std::thread::sleep(IDLE);
    for ((name, pid), before) in processes.iter().zip(before) {
        let used = match (before, cpu_ms(*pid)) {
            (Some(before), Some(after)) => format!("{:.0} ms", after - before),
            _ => "it ended meanwhile".to_owned(),
        };
        let resident = status_mb(*pid).unwrap_or_default();
        println!(
            "| {name}, idle after all this: resident, CPU in {} s | {resident:.1} MB, {used} |",
            IDLE.as_secs()
        );
    }
}

fn role(member: &Member) -> &'static str {
    match member.name.as_str() {
        SENDER => "the controller",
        _ => "the target",
    }
}

// ---- orders ------------------------------------------------------------------------------------

/// Both hosts with their databases open.
struct Desk<'a> {
    sender: &'a Member,
    target: &'a Member,
    at_sender: Db,
    at_target: Db,
}

/// When what happened to an order, in Unix ms.
#[derive(Clone, Copy)]
struct Course {
    written: i64,
    row: i64,
    task: i64,
    receipt: i64,
    end: i64,
}

impl Course {
    fn until_row(&self) -> i64 {
        self.row - self.written
    }

    fn until_task(&self) -> i64 {
        self.task - self.written
    }

    fn until_receipt(&self) -> i64 {
        self.receipt - self.written
    }

    fn until_end(&self) -> i64 {
        self.end - self.written
    }
}

impl<'a> Desk<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        let (sender, target) = (fleet.member(SENDER), fleet.member(TARGET));
        Self {
            sender,
            target,
            at_sender: sender.host.db(),
            at_target: target.host.db(),
        }
    }

    fn send(&self, number: usize) -> Ulid {
        let to: FleetHost = TARGET.parse().expect("a name");
        let server = self.target.servers[number % self.target.servers.len()];
        let what = What::Enqueue(Enqueue {
            operation: "initialize".to_owned(),
            servers: vec![server],
            all: false,
            unique: false,
            rolling: None,
            update: UpdateOptions::default(),
            condition: None,
            reason: format!("benchmark {number}"),
        });
        self.sender.send(&to, what)
    }

    fn send_and_wait(&self, number: usize) -> Ulid {
        let order = self.send(number);
        let open = format!(
            "SELECT count(*) FROM fleet_orders_out WHERE id = '{order}' AND settled_at IS NULL"
        );
        wait("the order has ended", || self.number(&open) == 0);
        order
    }

    /// A number that the sender's database knows.
    fn number(&self, sql: &str) -> i64 {
        let connection = self.at_sender.connection();
        let mut query = connection.prepare_cached(sql).expect("a query");
        query.query_row([], |row| row.get(0)).expect("a number")
    }

    /// All must have succeeded.
    fn courses(&self, orders: &[Ulid]) -> Vec<Course> {
        let there = rows(
            &self.at_target,
            "SELECT o.id, o.received_at, min(t.started_at), 0, o.state
             FROM fleet_orders_in o LEFT JOIN tasks t ON t.job_id = o.job_id GROUP BY o.id",
        );
        let here = rows(
            &self.at_sender,
            "SELECT o.id, o.created_at, o.settled_at, min(e.received_at), o.state
             FROM fleet_orders_out o
             LEFT JOIN fleet_events e ON e.order_id = o.id AND e.kind = 'order.accepted' GROUP BY o.id",
        );
        let course = |order: &Ulid| {
            let (id, known) = (order.to_string(), "it has ended");
            let (sent, got) = (&here[&id], &there[&id]);
            assert_eq!(sent.1, "succeeded", "order {id}");
            Course {
                written: sent.0[0].expect(known),
                row: got.0[0].expect(known),
                task: got.0[1].expect(known),
                receipt: sent.0[2].expect(known),
                end: sent.0[1].expect(known),
            }
        };
        orders.iter().map(course).collect()
    }
}

/// Three times and a word of each order.
fn rows(db: &Db, sql: &str) -> HashMap<String, ([Option<i64>; 3], String)> {
    let mut query = db.connection().prepare(sql).expect("a query");
    let row = query.query_map([], |row| {
        let times = [row.get(1)?, row.get(2)?, row.get(3)?];
        Ok((row.get(0)?, (times, row.get(4)?)))
    });
    row.expect("rows").map(|row| row.expect("a row")).collect()
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONGEST, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// ---- figures -----------------------------------------------------------------------------------

fn words(all: &[Course], time: fn(&Course) -> i64) -> String {
    let mut times: Vec<i64> = all.iter().map(time).collect();
    times.sort_unstable();
    let at = |part: f64| {
        let place = (times.len() as f64 * part).ceil() as usize;
        times[place.clamp(1, times.len()) - 1]
    };
    format!(
        "p50 {} ms, p99 {} ms, max {} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// The CPU time of all threads of a process.
fn cpu_ms(pid: u32) -> Option<f64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(threads.flatten().filter_map(of).sum::<f64>() / 1e6)
}

/// The resident memory of a process, in MB.
fn status_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// What else the machine does.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.trim_end().to_owned()
}
