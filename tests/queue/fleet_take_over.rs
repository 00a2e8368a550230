//! A controller dies during a rollout, and another one goes on with it. Over the real tables of several
//! hosts and an engine in memory, as in `fleet_moves`.

use std::collections::BTreeMap;

use left4me::base::names::FleetHost;
use left4me::base::ulid::Ulid;
use left4me::base::{Error, Exit};
use left4me::db::fleet::rollouts::{self, Rollout};
use left4me::db::fleet::{hosts, orders_out, orders_to_send};
use left4me::domain::fleet::rollout::{Request, RolloutKind, RolloutState, order_id};
use left4me::domain::fleet::rules::OrderState;
use left4me::queue::fleet::driving;
use left4me::queue::fleet::seen_rollout::SeenRollout;

use crate::fleet_moves::{Fleet, MINUTE, host, new_server, update};

const NAMES: [&str; 3] = ["ams-1", "chi-1", "dal-1"];

/// When the first controller dies, within the turn in which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// Its last steps are on its disk alone.
    BeforePublishing,
    /// The engine has the document of its last steps, and none of their orders.
    AfterDocument,
    /// The engine has all.
    AfterOrders,
}

const DEATHS: [Death; 3] = [
    Death::BeforePublishing,
    Death::AfterDocument,
    Death::AfterOrders,
];

impl Fleet {
    fn two_controllers() -> Self {
        Self::of(&["fra-1", "fra-2"])
    }

    /// fra-1 dies in its turn number `turns`, and is silent for so long that it may be taken for dead.
    fn dies(&mut self, id: Ulid, turns: usize, death: Death) {
        for _ in 0..turns {
            self.turn(id);
        }
        match death {
            Death::BeforePublishing => self.cut_off("fra-1"),
            Death::AfterDocument => {
                self.carrier.only_documents.insert("fra-1".to_owned());
            }
            Death::AfterOrders => {}
        }
        self.turn(id);
        self.cut_off("fra-1");
        self.paused.insert("fra-1");
        self.is_silent(id);
    }

    fn is_silent(&mut self, id: Ulid) {
        self.turn(id);
        self.now += 6 * MINUTE;
        self.turn(id);
    }

    fn returns(&mut self, id: Ulid) {
        self.carrier.cut_off.clear();
        self.carrier.only_documents.clear();
        self.paused.clear();
        for _ in 0..4 {
            self.turn(id);
        }
    }

    fn take_over(&self, name: &str, id: Ulid, force: bool) -> Result<Rollout, Error> {
        let (member, by) = (self.member(name), "bob");
        let mut db = member.host.db();
        driving::take_over(&mut db, id, (by, &member.name), force, self.now)
    }

    /// Whether the second controller knows of it: the first may die before it told anything.
    fn is_known(&self, name: &str, id: Ulid) -> bool {
        let db = self.member(name).host.db();
        rollouts::get(db.connection(), id).unwrap().is_some()
    }

    fn updates(&self, name: &str) -> i64 {
        let db = self.member(name).host.db();
        let sql = "SELECT count(*) FROM jobs WHERE operation = 'update'";
        let row = db.connection().query_row(sql, [], |row| row.get(0));
        row.unwrap()
    }

    fn driver_in_bucket(&self, id: Ulid) -> &FleetHost {
        &self.carrier.rollouts[&id].0.driver
    }

    /// How it is shown on a controller: its state, and who drives it.
    fn shown(&self, name: &str, id: Ulid) -> (String, String) {
        let db = self.member(name).host.db();
        let all = hosts::all(db.connection()).unwrap();
        let seen = SeenRollout::of(self.rollout_at(name, id), &all, self.now);
        (seen.state(), seen.driver_text())
    }
}

/// A drain whose controller dies at any step: each server ends in one place.
fn a_drain_goes_on(death: Death) {
    for turns in [0, 1, 2, 3, 5] {
        let at = format!("{death:?} {turns}");
        let mut fleet = Fleet::two_controllers();
        let servers = fleet.member("ams-1").servers();
        let id = fleet.drain("ams-1", None);
        fleet.dies(id, turns, death);
        if !fleet.is_known("fra-2", id) {
            assert_eq!((turns, death), (0, Death::BeforePublishing));
            continue;
        }
        if fleet.rollout_at("fra-2", id).state.has_ended() {
            continue;
        }

        fleet.take_over("fra-2", id, false).unwrap();
        let rollout = fleet.turns_at("fra-2", id, 30);
        assert_eq!(
            rollout.state,
            RolloutState::Succeeded,
            "{at}: {}",
            rollout.detail
        );
        let places = |fleet: &Fleet| {
            let places = servers.iter().map(|server| {
                let on: Vec<String> = fleet.runs_on(*server).into_iter().map(Into::into).collect();
                on
            });
            places.collect::<Vec<_>>()
        };
        let before = places(&fleet);
        for on in &before {
            assert_eq!(on.len(), 1, "{at}: {before:?}");
            assert_ne!(on[0], "ams-1", "{at}");
        }

        // The first one returns: it sends nothing that changes anything, and drives no more.
        fleet.returns(id);
        assert_eq!(places(&fleet), before, "{at}");
        assert_eq!(fleet.orders("ams-1", "unplace"), 2, "{at}");
        let old = fleet.rollout_at("fra-1", id);
        assert_eq!(old.driver.as_deref(), Some("fra-2"), "{at}");
        assert_eq!(old.state, RolloutState::Succeeded, "{at}");
        assert_eq!(fleet.driver_in_bucket(id).as_str(), "fra-2", "{at}");
        let open = orders_to_send::waiting(fleet.member("fra-1").host.db().connection(), 9);
        assert_eq!(open.unwrap(), [], "{at}");
    }
}

#[test]
fn a_drain_goes_on_when_its_controller_dies_before_it_tells_of_its_last_step() {
    a_drain_goes_on(Death::BeforePublishing);
}

#[test]
fn a_drain_goes_on_when_its_controller_dies_before_it_sends_what_it_has_told_of() {
    a_drain_goes_on(Death::AfterDocument);
}

#[test]
fn a_drain_goes_on_when_its_controller_dies_after_it_has_sent_its_orders() {
    a_drain_goes_on(Death::AfterOrders);
}

#[test]
fn an_evacuation_goes_on_and_a_host_that_was_not_dead_after_all_stops_what_moved() {
    for death in DEATHS {
        for turns in [0, 1, 2] {
            let at = format!("{death:?} {turns}");
            let mut fleet = Fleet::two_controllers();
            let servers = fleet.member("ams-1").servers();
            fleet.cut_off("ams-1");
            fleet.now += 10 * MINUTE;
            let id = fleet.evacuate("ams-1");
            fleet.dies(id, turns, death);
            if !fleet.is_known("fra-2", id) {
                continue;
            }
            if !fleet.rollout_at("fra-2", id).state.has_ended() {
                fleet.take_over("fra-2", id, false).unwrap();
                let rollout = fleet.turns_at("fra-2", id, 30);
                assert_eq!(
                    rollout.state,
                    RolloutState::Succeeded,
                    "{at}: {}",
                    rollout.detail
                );
            }

            // ams-1 comes back, and fra-1 does not.
            fleet.carrier.cut_off.remove("ams-1");
            for _ in 0..3 {
                fleet.turn(id);
            }
            for server in servers {
                assert_eq!(fleet.runs_on(server).len(), 1, "{at}");
                assert_ne!(fleet.runs_on(server), ["ams-1"], "{at}");
            }
        }
    }
}

/// An update whose controller dies in each of its waves, and between them: no host is updated twice.
fn an_update_goes_on(death: Death) {
    for turns in [0, 1, 2, 8] {
        let at = format!("{death:?} {turns}");
        let mut fleet = Fleet::two_controllers();
        let id = fleet.begin(RolloutKind::Update, update(&NAMES, "1,rest"));
        fleet.dies(id, turns, death);
        if !fleet.is_known("fra-2", id) {
            assert_eq!((turns, death), (0, Death::BeforePublishing));
            continue;
        }

        fleet.take_over("fra-2", id, false).unwrap();
        let rollout = fleet.turns_at("fra-2", id, 30);
        assert_eq!(
            (rollout.state, rollout.detail.as_str()),
            (RolloutState::Succeeded, "3 of 3 hosts updated"),
            "{at}"
        );
        fleet.returns(id);
        for name in NAMES {
            assert_eq!(fleet.updates(name), 1, "{at}: {name}");
        }
    }
}

#[test]
fn an_update_goes_on_when_its_controller_dies_before_it_tells_of_its_last_step() {
    an_update_goes_on(Death::BeforePublishing);
}

#[test]
fn an_update_goes_on_when_its_controller_dies_before_it_sends_what_it_has_told_of() {
    an_update_goes_on(Death::AfterDocument);
}

#[test]
fn an_update_goes_on_when_its_controller_dies_after_it_has_sent_its_orders() {
    an_update_goes_on(Death::AfterOrders);
}

#[test]
fn a_controller_that_is_heard_of_keeps_its_rollout_unless_it_is_taken_by_force() {
    let mut fleet = Fleet::two_controllers();
    fleet.busy = NAMES.into();
    let id = fleet.begin(RolloutKind::Update, update(&NAMES, "1,rest"));
    fleet.is_silent(id);
    fleet.turn(id);
    assert_eq!(
        fleet.shown("fra-2", id),
        ("running".to_owned(), "fra-1".to_owned())
    );
    let refused = fleet.take_over("fra-2", id, false).unwrap_err();
    assert_eq!(refused.exit, Exit::Conflict);
    let text = refused.to_string();
    assert!(text.contains("fra-1, which drives update"), "{text}");
    assert!(text.contains("--although-it-drives"), "{text}");

    fleet.take_over("fra-2", id, true).unwrap();
    fleet.turn(id);
    fleet.turn(id);
    let (state, driver) = fleet.shown("fra-1", id);
    assert_eq!(
        (state.as_str(), driver.as_str()),
        ("taken over by fra-2", "fra-2")
    );
    let mut db = fleet.member("fra-1").host.db();
    let (now, is_new) = (fleet.now, |tx: &_, now| rollouts::abort(tx, id, now));
    assert!(
        !db.write(|tx| is_new(tx, now)).unwrap(),
        "it is not its own"
    );

    fleet.busy.clear();
    let rollout = fleet.turns_at("fra-2", id, 30);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert!(NAMES.iter().all(|name| fleet.updates(name) == 1));
}

#[test]
fn a_controller_that_was_cut_off_sends_nothing_of_what_it_went_on_to_do() {
    let mut fleet = Fleet::two_controllers();
    fleet.busy = NAMES.into();
    let id = fleet.begin(RolloutKind::Update, update(&NAMES, "1,rest"));
    for _ in 0..3 {
        fleet.turn(id);
    }
    // It drives on, but cannot tell.
    fleet.cut_off("fra-1");
    fleet.is_silent(id);
    let (state, driver) = fleet.shown("fra-2", id);
    assert_eq!(state, "running");
    assert!(driver.starts_with("fra-1, silent since "), "{driver}");
    let mut db = fleet.member("fra-1").host.db();
    let now = fleet.now;
    assert!(db.write(|tx| rollouts::abort(tx, id, now)).unwrap());
    fleet.turn(id);

    fleet.take_over("fra-2", id, false).unwrap();
    fleet.turn(id);
    fleet.carrier.cut_off.clear();
    fleet.turn(id);
    fleet.busy.clear();
    let rollout = fleet.turns_at("fra-2", id, 30);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    let old = fleet.rollout_at("fra-1", id);
    assert_eq!(
        old.state,
        RolloutState::Succeeded,
        "its abort came too late"
    );
    assert!(NAMES.iter().all(|name| fleet.updates(name) == 1));
}

#[test]
fn of_two_controllers_that_take_over_at_once_one_drives() {
    let mut fleet = Fleet::of(&["fra-1", "fra-2", "fra-3"]);
    let id = fleet.begin(RolloutKind::Update, update(&NAMES, "1,rest"));
    fleet.dies(id, 2, Death::AfterOrders);
    for name in ["fra-2", "fra-3"] {
        fleet.take_over(name, id, false).unwrap();
    }
    let rollout = fleet.turns_at("fra-2", id, 30);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    let drivers = ["fra-2", "fra-3"].map(|name| fleet.rollout_at(name, id).driver);
    assert_eq!(drivers, [None, Some("fra-2".to_owned())]);
    assert!(NAMES.iter().all(|name| fleet.updates(name) == 1));
}

#[test]
fn an_abort_after_a_take_over_takes_back_what_the_first_controller_has_sent() {
    let mut fleet = Fleet::two_controllers();
    fleet.busy = NAMES.into();
    let id = fleet.begin(RolloutKind::Update, update(&NAMES, "2,rest"));
    fleet.dies(id, 1, Death::AfterOrders);
    fleet.take_over("fra-2", id, false).unwrap();
    fleet.turn(id);
    let mut db = fleet.member("fra-2").host.db();
    let now = fleet.now;
    assert!(db.write(|tx| rollouts::abort(tx, id, now)).unwrap());
    let rollout = fleet.turns_at("fra-2", id, 10);
    assert_eq!(rollout.state, RolloutState::Aborted, "{}", rollout.detail);
    assert!(
        rollout.detail.contains("not asked: dal-1"),
        "{}",
        rollout.detail
    );

    // The orders that the first one had sent have ended as well.
    fleet.busy.clear();
    fleet.returns(id);
    let fra = fleet.member("fra-1").host.db();
    for name in ["ams-1", "chi-1"] {
        let order = order_id(id, &host(name), "update");
        let order = orders_out::get(fra.connection(), order).unwrap().unwrap();
        assert_eq!(order.state, OrderState::Cancelled, "{name}");
        let sql = "SELECT count(*) FROM jobs WHERE operation = 'update' AND state = 'succeeded'";
        let db = fleet.member(name).host.db();
        let ran: i64 = db
            .connection()
            .query_row(sql, [], |row| row.get(0))
            .unwrap();
        assert_eq!(ran, 0, "{name}");
    }
}

#[test]
fn no_engine_reads_a_blueprint_and_a_controller_goes_on_with_it() {
    let mut fleet = Fleet::two_controllers();
    let request = new_server(fleet.now);
    let server = request.moves[0].server;
    fleet.busy = NAMES.into();
    let id = fleet.begin(RolloutKind::Place, Request::Moves(Box::new(request)));
    fleet.dies(id, 0, Death::AfterDocument);
    let (_, message) = &fleet.carrier.rollouts[&id];
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD
        .decode(&message.body)
        .unwrap();
    let body = String::from_utf8(body).unwrap();
    assert!(!body.contains("sv_password"), "{body}");
    assert!(body.contains("\"sealed\""), "{body}");
    // A viewer shows it, and learns nothing.
    let viewer = fleet.member("chi-1");
    fleet.carrier.deliver_buckets(viewer, fleet.now);
    let shown = fleet.rollout_at("chi-1", id);
    assert_eq!(
        (shown.request, shown.driver.as_deref()),
        (None, Some("fra-1"))
    );
    let refused = fleet.take_over("chi-1", id, true).unwrap_err();
    assert!(
        refused.to_string().contains("cannot be gone on with here"),
        "{refused}"
    );

    fleet.take_over("fra-2", id, false).unwrap();
    fleet.busy.clear();
    let rollout = fleet.turns_at("fra-2", id, 10);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert_eq!(fleet.runs_on(server).len(), 1);
}

#[test]
fn an_engine_that_loses_all_gets_the_documents_of_open_rollouts_again() {
    let mut fleet = Fleet::two_controllers();
    fleet.busy = NAMES.into();
    let id = fleet.begin(RolloutKind::Update, update(&NAMES, "1,rest"));
    fleet.turn(id);
    fleet.carrier.lose_all();
    fleet.turn(id);
    assert_eq!(fleet.driver_in_bucket(id).as_str(), "fra-1");

    // An old one that an engine brings again is not believed.
    let (_, message) = fleet.carrier.rollouts[&id].clone();
    let other = Fleet::two_controllers();
    let week = 9 * 24 * 60 * MINUTE;
    let fra = fleet.member("fra-2");
    let read = left4me::queue::fleet::read::deliver(
        &mut other.member("fra-2").host.db(),
        &fra.accepting(),
        left4me::wire::gate::Source::Rollouts,
        "",
        &[message],
        fleet.now + week,
    );
    assert_eq!(read.unwrap().noise, 1);
    assert!(!other.is_known("fra-2", id));
}

#[test]
fn a_controller_whose_database_was_restored_goes_on_from_what_it_had_published() {
    let mut fleet = Fleet::two_controllers();
    let id = fleet.begin(RolloutKind::Update, update(&NAMES, "1,1,rest"));
    // As it was before anything happened.
    let backup = fleet.rollout_at("fra-1", id);
    for _ in 0..12 {
        fleet.turn(id);
    }
    let sql = format!(
        "UPDATE fleet_rollouts SET progress = '{{}}', version = 1, published = 0 WHERE id = '{id}';
         DELETE FROM fleet_orders_out;"
    );
    let db = fleet.member("fra-1").host.db();
    db.connection().execute_batch(&sql).unwrap();
    assert_eq!(fleet.rollout_at("fra-1", id).progress, backup.progress);

    let rollout = fleet.turns_at("fra-1", id, 30);
    assert_eq!(rollout.state, RolloutState::Succeeded, "{}", rollout.detail);
    assert_eq!((rollout.driver, rollout.epoch), (None, 2));
    let updates: BTreeMap<_, _> = NAMES.map(|name| (name, fleet.updates(name))).into();
    assert!(updates.values().all(|count| *count == 1), "{updates:?}");
}
