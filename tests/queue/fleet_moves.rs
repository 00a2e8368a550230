//! Moves of servers and updates in waves, over the real tables of several hosts and an engine in
//! memory. Workers, players and the time are simulated.

use std::collections::{BTreeMap, BTreeSet};

use left4me::base::names::{FleetHost, JobId, ServerId};
use left4me::base::ulid::Ulid;
use left4me::db::fleet::rollouts::{self, Rollout};
use left4me::db::fleet::{hosts, self_row};
use left4me::domain::condition::Condition;
use left4me::domain::fleet::blueprint::FleetBlueprint;
use left4me::domain::fleet::drain::{Move, MoveStep};
use left4me::domain::fleet::order::{OrderedCondition, What};
use left4me::domain::fleet::placement::{Needs, Policy};
use left4me::domain::fleet::rollout::{
    MovesRequest, Request, RolloutKind, RolloutState, UpdateRequest,
};
use left4me::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
use left4me::queue::fleet::moves::new_move;
use left4me::queue::fleet::{read, status};
use left4me::rollout::drive;
use left4me::wire::gate::{Message, Source};
use rusqlite::params;

use crate::support::fleet::{Carrier, TestMember, fleet, message};

pub const MINUTE: i64 = 60_000;

/// A turn of all hosts, in ms.
const TURN: i64 = 10_000;

/// Hosts with two servers each, S1 and S2 of HOST, which run and are empty. The first ones are controllers;
/// fra-1 begins the rollouts.
pub struct Fleet {
    pub members: Vec<TestMember>,
    pub carrier: Carrier,
    pub now: i64,
    players: BTreeMap<Ulid, u32>,
    /// Hosts whose updates fail.
    bad: BTreeSet<&'static str>,
    /// Hosts whose jobs wait.
    pub busy: BTreeSet<&'static str>,
    /// Hosts whose statuses are on their way for long.
    late: BTreeSet<&'static str>,
    /// Controllers that drive nothing.
    pub paused: BTreeSet<&'static str>,
}

pub fn host(name: &str) -> FleetHost {
    name.parse().unwrap()
}

impl Fleet {
    fn new() -> Self {
        Self::of(&["fra-1"])
    }

    /// With these controllers.
    pub fn of(controllers: &[&str]) -> Self {
        let names = [controllers, &["ams-1", "chi-1", "dal-1"]].concat();
        let members = fleet(&names, controllers);
        for member in &members {
            let sql = format!(
                "UPDATE servers SET name = name || ' of {}', desired_state = 'running',
                 actual_state = 'running', enabled = 1",
                member.name
            );
            member.host.db().connection().execute_batch(&sql).unwrap();
        }
        let mut all = Self {
            members,
            carrier: Carrier::default(),
            now: left4me::base::clock::now_ms(),
            players: BTreeMap::new(),
            bad: BTreeSet::new(),
            busy: BTreeSet::new(),
            late: BTreeSet::new(),
            paused: BTreeSet::new(),
        };
        all.tell_statuses();
        all
    }

    pub fn member(&self, name: &str) -> &TestMember {
        let mut members = self.members.iter();
        members.find(|member| member.name.as_str() == name).unwrap()
    }

    fn fra(&self) -> &TestMember {
        self.member("fra-1")
    }

    pub fn cut_off(&mut self, name: &str) {
        self.carrier.cut_off.insert(name.to_owned());
    }

    pub fn begin(&self, kind: RolloutKind, request: Request) -> Ulid {
        let id = Ulid::new(self.now);
        let mut db = self.fra().host.db();
        db.write(|tx| rollouts::add(tx, id, kind, &request, "anna", self.now))
            .unwrap();
        id
    }

    pub fn drain(&self, name: &str, deadline: Option<i64>) -> Ulid {
        let request = MovesRequest {
            hosts: vec![host(name)],
            deadline: deadline.map(|ms| self.now + ms),
            ..moves(Vec::new())
        };
        self.begin(RolloutKind::Drain, Request::Moves(Box::new(request)))
    }

    /// Starts the servers of a dead host elsewhere.
    pub fn evacuate(&self, name: &str) -> Ulid {
        let db = self.fra().host.db();
        let dead = hosts::find(db.connection(), &host(name)).unwrap();
        let status = dead.status.as_ref().unwrap();
        let none = Needs::default();
        let servers = status.servers.iter();
        let all = servers
            .map(|server| new_move(db.connection(), &host(name), status, server, &none).unwrap());
        let all: Vec<Move> = all.collect();
        let request = MovesRequest {
            is_dead: true,
            blueprints: all.iter().map(|one| (one.server, blueprint())).collect(),
            ..moves(all)
        };
        self.begin(RolloutKind::Evacuate, Request::Moves(Box::new(request)))
    }

    fn rollout(&self, id: Ulid) -> Rollout {
        self.rollout_at("fra-1", id)
    }

    /// A rollout, as this controller knows it.
    pub fn rollout_at(&self, name: &str, id: Ulid) -> Rollout {
        rollouts::find(self.member(name).host.db().connection(), id).unwrap()
    }

    fn controllers(&self) -> impl Iterator<Item = &TestMember> {
        let members = self.members.iter();
        members.filter(|member| member.controller.is_some())
    }

    /// The next steps of all controllers that live, and what the engine gets of them at once.
    fn drive(&mut self, id: Ulid) {
        let drivers = self.members.iter().filter(|member| {
            member.controller.is_some() && !self.paused.contains(member.name.as_str())
        });
        // The second time with what the bucket of places says.
        for member in drivers {
            for _ in 0..2 {
                let mut db = member.host.db();
                if rollouts::open(db.connection()).unwrap().contains(&id) {
                    drive::step(&mut db, &member.name, id, self.now).unwrap();
                    self.carrier.turn(member, self.now);
                }
            }
        }
    }

    /// One turn: the driver, the engine, the workers, the statuses.
    pub fn turn(&mut self, id: Ulid) -> Rollout {
        self.drive(id);
        self.carry();
        for member in &self.members {
            self.work(member);
        }
        self.carry();
        self.tell_statuses();
        self.now += TURN;
        self.rollout(id)
    }

    /// Brings orders from the controllers, and what became of them back.
    fn carry(&mut self) {
        let is_controller = |member: &&TestMember| member.controller.is_some();
        let (controllers, others): (Vec<_>, Vec<_>) = self.members.iter().partition(is_controller);
        for member in &controllers {
            self.carrier.turn(member, self.now);
        }
        for member in others {
            // The second time for the receipts of what came the first time.
            self.carrier.turn(member, self.now);
            self.carrier.turn(member, self.now);
        }
        for member in controllers {
            self.carrier.turn(member, self.now);
            self.carrier.turn(member, self.now);
        }
    }

    /// A few turns after so many minutes in which only statuses were told.
    fn later(&mut self, id: Ulid, minutes: i64) -> Rollout {
        self.now += minutes * MINUTE;
        self.tell_statuses();
        (0..3).for_each(|_| drop(self.turn(id)));
        self.rollout(id)
    }

    fn turns(&mut self, id: Ulid, minutes: i64) -> Rollout {
        self.turns_at("fra-1", id, minutes)
    }

    /// Turns until this controller knows the end, or the time is over.
    pub fn turns_at(&mut self, name: &str, id: Ulid, minutes: i64) -> Rollout {
        let until = self.now + minutes * MINUTE;
        loop {
            self.turn(id);
            let rollout = self.rollout_at(name, id);
            if rollout.state.has_ended() || self.now >= until {
                return rollout;
            }
        }
    }

    /// Ends the jobs of a host that need not wait, as its worker does.
    fn work(&self, member: &TestMember) {
        if self.busy.contains(member.name.as_str()) {
            return;
        }
        let jobs: Vec<(i64, String, Option<i64>)> = {
            let db = member.host.db();
            let sql = "SELECT j.id, j.operation, t.server_id FROM jobs j
                       LEFT JOIN job_targets t ON t.job_id = j.id
                       LEFT JOIN job_conditions c ON c.job_id = j.id WHERE j.state = 'queued'
                       AND (j.on_hold = 0 OR c.until_at <= ?1 OR (SELECT ulid FROM servers s
                           WHERE s.id = t.server_id) NOT IN (SELECT value FROM json_each(?2)))";
            let playing: Vec<String> = self.players.keys().map(Ulid::to_string).collect();
            let playing = serde_json::to_string(&playing).unwrap();
            let mut found = db.connection().prepare(sql).unwrap();
            let rows = found.query_map(params![self.now, playing], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            });
            rows.unwrap().collect::<Result<_, _>>().unwrap()
        };
        for (job, operation, server) in jobs {
            let is_bad = operation == "update" && self.bad.contains(member.name.as_str());
            let (desired, actual) = match operation.as_str() {
                "start" => ("running", "running"),
                "stop" => ("stopped", "stopped"),
                _ => ("running", "running"),
            };
            if let Some(server) = server {
                let sql = "UPDATE servers SET desired_state = ?2, actual_state = ?3, enabled = 0
                           WHERE id = ?1";
                let db = member.host.db();
                db.connection()
                    .execute(sql, params![server, desired, actual])
                    .unwrap();
            }
            member.end_job(job, if is_bad { "failed" } else { "succeeded" });
        }
    }

    /// Brings each host's status to the controllers.
    fn tell_statuses(&mut self) {
        // A status of the same time is not a newer one.
        self.now += 1;
        for member in &self.members {
            if self.carrier.cut_off.contains(member.name.as_str()) {
                continue;
            }
            let own = status::Host {
                name: &member.name,
                capacity: None,
                ports: member.ports(),
                root: &member.root,
            };
            let mut told = status::status(&mut member.host.db(), &own, self.now).unwrap();
            for server in &mut told.servers {
                server.players = Some(self.players.get(&server.id).copied().unwrap_or(0));
            }
            if self.late.contains(member.name.as_str()) {
                told.last_event = 0;
            }
            let body = serde_json::to_vec(&told).unwrap();
            let purpose = left4me::base::keys::Purpose::Status;
            let told = message(&member.key, purpose, member.name.as_str(), &body, 1);
            for controller in self.controllers() {
                if !self.carrier.cut_off.contains(controller.name.as_str()) {
                    deliver(controller, Source::Hosts, told.clone(), self.now);
                }
            }
        }
    }

    /// Cordons a host, which tells that with its next status.
    fn cordon(&self, name: &str) {
        let mut db = self.member(name).host.db();
        db.write(|tx| {
            self_row::ensure(tx)?;
            self_row::set_cordoned(tx, Some("bob"))
        })
        .unwrap();
    }

    /// The hosts on which a server should run.
    pub fn runs_on(&self, server: Ulid) -> Vec<&str> {
        let runs = |member: &&TestMember| {
            let sql = "SELECT count(*) FROM servers WHERE ulid = ?1 AND desired_state = 'running'";
            let db = member.host.db();
            let count: i64 = db
                .connection()
                .query_row(sql, params![server.to_string()], |row| row.get(0))
                .unwrap();
            count == 1
        };
        let members = self.members.iter().filter(runs);
        members.map(|member| member.name.as_str()).collect()
    }

    /// The orders of a kind that a host got.
    pub fn orders(&self, name: &str, kind: &str) -> i64 {
        let db = self.member(name).host.db();
        let sql = "SELECT count(*) FROM fleet_orders_in WHERE kind = ?1 AND state = 'accepted'";
        db.connection()
            .query_row(sql, [kind], |row| row.get(0))
            .unwrap()
    }
}

fn deliver(to: &TestMember, from: Source, message: Message, now: i64) {
    let read = read::deliver(
        &mut to.host.db(),
        &to.accepting(),
        from,
        "",
        &[message],
        now,
    );
    assert_eq!(read.unwrap().noise, 0);
}

pub fn moves(moves: Vec<Move>) -> MovesRequest {
    MovesRequest {
        hosts: Vec::new(),
        is_dead: false,
        moves,
        deadline: None,
        needs: Needs::default(),
        policy: Policy::Spread,
        blueprints: BTreeMap::new(),
    }
}

pub fn blueprint() -> FleetBlueprint {
    FleetBlueprint {
        name: "versus".parse().unwrap(),
        overlays: Vec::new(),
        arguments: Vec::new(),
        config: vec!["sv_password secret".parse().unwrap()],
    }
}

/// A new server, as `left4me fleet place` asks for it.
pub fn new_server(now: i64) -> MovesRequest {
    let server = Ulid::new(now);
    let one = Move {
        server,
        name: "Friday".to_owned(),
        owner: "alice".to_owned(),
        from: None,
        start: true,
        needs: Needs::default(),
        epoch: 0,
        to: None,
        unread: 0,
        refused: BTreeMap::new(),
        step: MoveStep::Waiting,
        stuck_since: None,
        why: String::new(),
    };
    MovesRequest {
        blueprints: [(server, blueprint())].into(),
        ..moves(vec![one])
    }
}

pub fn update(names: &[&str], waves: &str) -> Request {
    let What::Enqueue(asked) = crate::support::fleet::enqueue("update", &[]) else {
        panic!();
    };
    Request::Update(Box::new(UpdateRequest {
        hosts: names.iter().map(|name| host(name)).collect(),
        waves: waves.parse().unwrap(),
        soak: MINUTE,
        stop_after: 1,
        enqueue: asked,
    }))
}

#[test]
fn a_drain_moves_empty_servers_and_those_with_players_when_they_leave_or_at_the_deadline() {
    let mut fleet = Fleet::new();
    let servers = fleet.member("ams-1").servers();
    let (empty, played) = (servers[0], servers[1]);
    fleet.players.insert(played, 3);
    let id = fleet.drain("ams-1", Some(20 * MINUTE));

    let rollout = fleet.turns(id, 10);
    assert_eq!(rollout.state, RolloutState::Running);
    assert!(
        rollout.detail.contains("S2 of ams-1: 3 people play"),
        "{}",
        rollout.detail
    );
    assert_eq!(fleet.runs_on(empty), ["chi-1"]);
    assert_eq!(fleet.runs_on(played), ["ams-1"]);
    assert_eq!(fleet.orders("ams-1", "unplace"), 1);

    let rollout = fleet.turns(id, 15);
    assert_eq!(
        (rollout.state, rollout.detail.as_str()),
        (RolloutState::Succeeded, "2 of 2 servers moved")
    );
    assert_eq!(fleet.runs_on(played).len(), 1);
    assert_ne!(fleet.runs_on(played), ["ams-1"]);
    assert!(fleet.now >= rollout.created_at + 20 * MINUTE);

    // What is left there is not started, and takes no room.
    let ams = fleet.member("ams-1");
    let targets = Targets::Named(vec![left4me::base::names::ServerRef::Id(ServerId(1))]);
    let start = left4me::domain::operation::Operation::Start;
    let request = JobRequest::new(start, targets, Requester::local("anna"));
    let refused = enqueue(&mut ams.host.db(), &request, fleet.now).unwrap_err();
    assert!(
        refused.to_string().contains("has moved to chi-1"),
        "{refused}"
    );
    let told = hosts::get(fleet.fra().host.db().connection(), "ams-1").unwrap();
    let told = told.unwrap().status.unwrap();
    assert_eq!((told.used, told.cordoned), (0, true));
}

#[test]
fn who_comes_back_before_the_old_server_stops_plays_on_until_the_deadline() {
    let mut fleet = Fleet::new();
    let server = fleet.member("ams-1").servers()[0];
    let id = fleet.drain("ams-1", Some(10 * MINUTE));
    fleet.busy.insert("chi-1");
    fleet.turns(id, 2);
    fleet.players.insert(server, 1);
    fleet.busy.clear();

    fleet.turns(id, 3);
    assert_eq!(
        fleet.runs_on(server),
        ["ams-1", "chi-1"],
        "nobody is sent away"
    );
    let rollout = fleet.turns(id, 20);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert_eq!(fleet.runs_on(server), ["chi-1"]);
}

#[test]
fn a_target_that_dies_before_or_after_it_took_the_server_is_left_for_another() {
    for took_it in [false, true] {
        let mut fleet = Fleet::new();
        let server = fleet.member("ams-1").servers()[0];
        let id = fleet.drain("ams-1", None);
        // Its worker does nothing, so that it dies between the order and the end of the job.
        fleet.busy.insert("chi-1");
        let is_placing = |rollout: &Rollout| {
            let mut moves = rollout.progress.moves.iter();
            moves.any(|one| one.server == server && one.step == MoveStep::Placing)
        };
        let is_far_enough = |fleet: &Fleet| match took_it {
            true => fleet.orders("chi-1", "place") > 0,
            false => is_placing(&fleet.rollout(id)),
        };
        while !is_far_enough(&fleet) {
            if !took_it {
                // It hears of nothing that is sent to it from now on.
                fleet.carrier.cut_off.insert("chi-1".to_owned());
            }
            fleet.turn(id);
        }
        fleet.cut_off("chi-1");

        let rollout = fleet.turns(id, 30);
        assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
        assert_eq!(fleet.orders("chi-1", "place") > 0, took_it);
        let is_it = |one: &&Move| one.server == server;
        let one = rollout.progress.moves.iter().find(is_it).unwrap();
        assert_ne!(one.to, Some(host("chi-1")));

        // It returns: whatever it took, it stops.
        fleet.carrier.cut_off.clear();
        fleet.busy.clear();
        fleet.paused.insert("fra-1");
        for _ in 0..5 {
            fleet.turn(id);
        }
        let now_on = one.to.as_ref().unwrap().as_str();
        assert_eq!(fleet.runs_on(server), [now_on], "took it: {took_it}");
    }
}

#[test]
fn a_driver_that_dies_at_any_step_is_followed_by_another_that_ends_it() {
    for dies_at in 0..8 {
        let mut fleet = Fleet::new();
        let servers = fleet.member("ams-1").servers();
        let id = fleet.drain("ams-1", None);
        for _ in 0..dies_at {
            fleet.turn(id);
        }
        fleet.paused.insert("fra-1");
        for _ in 0..4 {
            fleet.turn(id);
        }
        fleet.paused.clear();
        let rollout = fleet.turns(id, 30);
        assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
        for server in servers {
            assert_eq!(fleet.runs_on(server).len(), 1);
            assert_ne!(fleet.runs_on(server), ["ams-1"]);
        }
        assert_eq!(fleet.orders("ams-1", "unplace"), 2);
    }
}

#[test]
fn the_host_decides_and_what_it_refuses_goes_to_another() {
    let mut fleet = Fleet::new();
    let request = new_server(fleet.now);
    let server = request.moves[0].server;
    // Of equal hosts the first by name is chosen: so that it is chi-1, ams-1 is cordoned, too.
    fleet.cordon("ams-1");
    fleet.tell_statuses();
    fleet.cordon("chi-1");
    let id = fleet.begin(RolloutKind::Place, Request::Moves(Box::new(request)));
    let rollout = fleet.turns(id, 10);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert_eq!(fleet.runs_on(server), ["dal-1"]);
    let one = &rollout.progress.moves[0];
    assert!(
        one.refused[&host("chi-1")].contains("chi-1 is cordoned by bob"),
        "{one:?}"
    );
    assert_eq!(one.epoch, 3, "each try has its own");

    let mut again = new_server(fleet.now);
    again.moves[0].name = "Sunday".to_owned();
    again.moves[0].needs.host = Some(host("chi-1"));
    let id = fleet.begin(RolloutKind::Place, Request::Moves(Box::new(again)));
    let rollout = fleet.turns(id, 10);
    assert_eq!(rollout.state, RolloutState::Failed);
    assert!(
        rollout.detail.contains("chi-1 is cordoned"),
        "{}",
        rollout.detail
    );

    // What was placed has its blueprint, as it was sealed.
    let db = fleet.member("dal-1").host.db();
    let config: String = db
        .connection()
        .query_row(
            "SELECT config FROM blueprints WHERE name = 'versus'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(config, "[\"sv_password secret\"]");
}

#[test]
fn a_dead_host_is_evacuated_and_stops_what_moved_when_it_returns() {
    let mut fleet = Fleet::new();
    let servers = fleet.member("ams-1").servers();
    fleet.cut_off("ams-1");
    fleet.now += 10 * MINUTE;
    fleet.tell_statuses();

    let id = fleet.evacuate("ams-1");
    let rollout = fleet.turns(id, 10);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    for server in &servers {
        assert_eq!(
            fleet.runs_on(*server).len(),
            2,
            "the dead host is not asked"
        );
    }

    fleet.carrier.cut_off.clear();
    for _ in 0..3 {
        fleet.turn(id);
    }
    for server in servers {
        assert_eq!(fleet.runs_on(server).len(), 1);
        assert_ne!(fleet.runs_on(server), ["ams-1"]);
    }
}

#[test]
fn an_update_goes_in_waves_and_a_bad_build_stops_at_the_first() {
    let mut fleet = Fleet::new();
    let names = ["ams-1", "chi-1", "dal-1"];
    let id = fleet.begin(RolloutKind::Update, update(&names, "1,rest"));
    let rollout = fleet.turns(id, 10);
    assert_eq!(
        (rollout.state, rollout.detail.as_str()),
        (RolloutState::Succeeded, "3 of 3 hosts updated")
    );
    assert!(names.iter().all(|name| fleet.orders(name, "enqueue") == 1));

    let mut fleet = Fleet::new();
    fleet.bad = names.into();
    let id = fleet.begin(RolloutKind::Update, update(&names, "1,rest"));
    let rollout = fleet.turns(id, 10);
    assert_eq!(rollout.state, RolloutState::Failed);
    let detail = &rollout.detail;
    assert!(
        detail.starts_with("stopped in wave 1: 0 of 3 hosts updated; ams-1: failed"),
        "{detail}"
    );
    let asked = names.map(|name| fleet.orders(name, "enqueue"));
    assert_eq!(asked, [1, 0, 0]);
}

#[test]
fn a_host_that_dies_after_it_has_begun_the_update_counts_as_failed() {
    for is_aborted in [false, true] {
        let mut fleet = Fleet::new();
        fleet.busy.insert("ams-1");
        let id = fleet.begin(RolloutKind::Update, update(&["ams-1", "chi-1"], "1,rest"));
        fleet.turns(id, 2);
        fleet.cut_off("ams-1");
        if is_aborted {
            let mut db = fleet.fra().host.db();
            let now = fleet.now;
            assert!(db.write(|tx| rollouts::abort(tx, id, now)).unwrap());
        }
        let rollout = fleet.later(id, if is_aborted { 4 } else { 115 });
        assert!(!rollout.state.has_ended(), "{}", rollout.detail);

        let rollout = fleet.later(id, 10);
        let expected = match is_aborted {
            true => RolloutState::Aborted,
            false => RolloutState::Failed,
        };
        assert_eq!(rollout.state, expected, "{}", rollout.detail);
        assert!(
            rollout
                .detail
                .contains("it began the update, and has said nothing since"),
            "{}",
            rollout.detail
        );
        assert_eq!(fleet.orders("chi-1", "enqueue"), 0);
    }
}

#[test]
fn a_host_that_dies_before_it_stops_what_has_moved_holds_no_drain_up() {
    let mut fleet = Fleet::new();
    let server = fleet.member("ams-1").servers()[0];
    let id = fleet.drain("ams-1", None);
    fleet.busy.insert("ams-1");
    for _ in 0..60 {
        if fleet.orders("ams-1", "unplace") == 0 {
            fleet.turn(id);
        }
    }
    fleet.cut_off("ams-1");
    let rollout = fleet.later(id, 115);
    assert!(!rollout.state.has_ended(), "{}", rollout.detail);
    let mut moves = rollout.progress.moves.iter();
    let leaves = moves.any(|one| one.server == server && one.step == MoveStep::Leaving);
    assert!(leaves, "{:?}", rollout.progress.moves);
    let rollout = fleet.later(id, 10);
    let mut moves = rollout.progress.moves.iter();
    let own = moves.find(|one| one.server == server).unwrap();
    assert_eq!(own.step, MoveStep::Moved, "{own:?}");
    assert!(
        own.why.contains("it stops the server when it returns"),
        "{own:?}"
    );
}

#[test]
fn a_status_of_before_the_update_does_not_vouch_for_it() {
    let mut fleet = Fleet::new();
    fleet.late.insert("ams-1");
    let request = update(&["ams-1", "chi-1"], "1,rest");
    let id = fleet.begin(RolloutKind::Update, request);
    let rollout = fleet.turns(id, 5);
    assert_eq!(rollout.state, RolloutState::Running, "{}", rollout.detail);
    assert_eq!(fleet.orders("ams-1", "enqueue"), 1);
    assert_eq!(fleet.orders("chi-1", "enqueue"), 0);

    fleet.late.clear();
    let rollout = fleet.turns(id, 20);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert_eq!(fleet.orders("chi-1", "enqueue"), 1);
}

#[test]
fn an_abort_begins_nothing_more_cancels_what_is_queued_and_tells_each_end() {
    let mut fleet = Fleet::new();
    fleet.busy = ["ams-1", "chi-1", "dal-1"].into();
    let id = fleet.begin(
        RolloutKind::Update,
        update(&["ams-1", "chi-1", "dal-1"], "2,rest"),
    );
    fleet.turns(id, 1);
    // On one host the job has begun.
    fleet.member("ams-1").start_job(JobId(1));
    let mut db = fleet.fra().host.db();
    let now = fleet.now;
    assert!(db.write(|tx| rollouts::abort(tx, id, now)).unwrap());

    let rollout = fleet.turns(id, 2);
    assert_eq!(rollout.state, RolloutState::Aborting, "{}", rollout.detail);
    fleet.member("ams-1").end_job(1, "succeeded");
    let rollout = fleet.turns(id, 5);
    assert_eq!(rollout.state, RolloutState::Aborted, "{}", rollout.detail);
    assert_eq!(
        rollout.detail,
        "1 of 3 hosts updated; chi-1: cancelled: before execution; not asked: dal-1"
    );
    assert_eq!(fleet.orders("dal-1", "enqueue"), 0);
}

/// The update itself has ended there: each server restarts by itself, once it is empty.
#[test]
fn an_abort_cancels_the_restarts_that_wait_for_players() {
    for waits in [true, false] {
        let mut fleet = Fleet::new();
        fleet.busy = ["ams-1", "chi-1"].into();
        let Request::Update(mut asked) = update(&["ams-1", "chi-1"], "1,rest") else {
            unreachable!()
        };
        asked.enqueue.condition = Some(OrderedCondition {
            when_empty: true,
            ..OrderedCondition::default()
        });
        let id = fleet.begin(RolloutKind::Update, Request::Update(asked));
        fleet.turn(id);

        let ams = fleet.member("ams-1");
        if waits {
            let targets = Targets::Named(vec![left4me::base::names::ServerRef::Id(ServerId(1))]);
            let restart = left4me::domain::operation::Operation::Restart;
            let request = JobRequest {
                condition: Some(Condition {
                    when_empty: true,
                    deadline: None,
                    warnings: Default::default(),
                }),
                ..JobRequest::new(restart, targets, Requester::local("anna"))
            };
            let mut db = ams.host.db();
            let job = enqueue(&mut db, &request, fleet.now).unwrap().job_id;
            let sql = "UPDATE jobs SET roll_of = 1 WHERE id = ?1";
            db.connection().execute(sql, [job]).unwrap();
        }
        ams.end_job(1, "succeeded");
        let rollout = fleet.turn(id);
        assert_eq!(rollout.state, RolloutState::Running, "{}", rollout.detail);
        let mut db = fleet.fra().host.db();
        let now = fleet.now;
        assert!(db.write(|tx| rollouts::abort(tx, id, now)).unwrap());

        let rollout = fleet.turns(id, 5);
        assert_eq!(rollout.state, RolloutState::Aborted, "{}", rollout.detail);
        let told = match waits {
            true => {
                "0 of 2 hosts updated; ams-1: has the new build; 1 restart that waited was \
                     cancelled; not asked: chi-1"
            }
            false => "1 of 2 hosts updated; not asked: chi-1",
        };
        assert_eq!(rollout.detail, told);
        let sql = "SELECT count(*) FROM jobs WHERE state = 'queued'";
        let db = fleet.member("ams-1").host.db();
        let queued: i64 = db
            .connection()
            .query_row(sql, [], |row| row.get(0))
            .unwrap();
        assert_eq!(queued, 0);
    }
}

#[test]
fn a_server_that_moves_back_has_its_number_and_files_again_and_what_its_host_changed_comes_along() {
    let mut fleet = Fleet::new();
    let server = fleet.member("ams-1").servers()[0];
    let one_way = |fleet: &Fleet, from: &str, to: &str| {
        let db = fleet.fra().host.db();
        let known = hosts::find(db.connection(), &host(from)).unwrap();
        let status = known.status.unwrap();
        let own = status.servers.iter().find(|own| own.id == server).unwrap();
        let needs = Needs {
            host: Some(host(to)),
            ..Needs::default()
        };
        let one = new_move(db.connection(), &host(from), &status, own, &needs).unwrap();
        Request::Moves(Box::new(moves(vec![one])))
    };
    let request = one_way(&fleet, "ams-1", "chi-1");
    let id = fleet.begin(RolloutKind::Move, request);
    let rollout = fleet.turns(id, 10);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);

    let sql = "UPDATE blueprints SET config = '[\"sv_gravity 100\"]' WHERE id = (SELECT
               blueprint_id FROM servers WHERE ulid = ?1)";
    let changed = fleet.member("chi-1").host.db();
    changed
        .connection()
        .execute(sql, params![server.to_string()])
        .unwrap();

    let request = one_way(&fleet, "chi-1", "ams-1");
    let id = fleet.begin(RolloutKind::Move, request);
    let rollout = fleet.turns(id, 10);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert_eq!(fleet.runs_on(server), ["ams-1"]);

    let ams = fleet.member("ams-1").host.db();
    let sql = "SELECT s.id, b.config, (SELECT count(*) FROM servers) FROM servers s
               JOIN blueprints b ON b.id = s.blueprint_id WHERE s.ulid = ?1";
    let row: (i64, String, i64) = ams
        .connection()
        .query_row(sql, params![server.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(row, (1, "[\"sv_gravity 100\"]".to_owned(), 2));
    // The blueprint that the other server uses is as it was.
    let others: i64 = ams
        .connection()
        .query_row(
            "SELECT count(*) FROM blueprints WHERE config = '[]'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(others, 1);
}

#[test]
fn overlays_are_compared_by_what_their_files_hold() {
    let mut fleet = Fleet::new();
    for (name, text) in [("ams-1", "a"), ("chi-1", "b"), ("fra-1", "a")] {
        let member = fleet.member(name);
        let mut db = member.host.db();
        db.write(|tx| {
            let (overlay, path) = ("maps".parse().unwrap(), "maps".parse().unwrap());
            left4me::db::overlays::create(tx, 1, "test", &overlay, &path)
        })
        .unwrap();
        member.host.root.write("overlays/maps/maps/c1.bsp", text);
        left4me::host::overlay_digest::refresh(&mut db, &member.root, 1).unwrap();
    }
    fleet.tell_statuses();

    let mut request = new_server(fleet.now);
    let server = request.moves[0].server;
    let known = left4me::db::fleet::overlays::digests(fleet.fra().host.db().connection()).unwrap();
    request.moves[0].needs.overlays = known;
    request.blueprints.get_mut(&server).unwrap().overlays = vec!["maps".parse().unwrap()];
    let mut elsewhere = request.clone();

    let id = fleet.begin(RolloutKind::Place, Request::Moves(Box::new(request)));
    let rollout = fleet.turns(id, 5);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert_eq!(fleet.runs_on(server), ["ams-1"]);

    elsewhere.moves[0].needs.host = Some(host("chi-1"));
    let id = fleet.begin(RolloutKind::Place, Request::Moves(Box::new(elsewhere)));
    let detail = fleet.turns(id, 5).detail;
    assert!(
        detail.contains("chi-1 has other files in overlay 'maps'"),
        "{detail}"
    );
}
