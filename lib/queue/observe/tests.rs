//! Tests of `queue::observe`.

use super::*;
use crate::base::clock::Moment;
use crate::db::{servers, with_servers};
use crate::domain::server::DesiredState;
use crate::domain::unit::{MainExit, Unit};

const SERVER: ServerId = ServerId(1);

fn at(now: i64) -> Moment {
    Moment {
        now,
        monotonic_us: u64::try_from(now).unwrap() * 1000,
        booted_at: 0,
    }
}

fn running(now: i64, enabled: bool) -> Observed {
    let unit = Unit {
        active: "active".into(),
        sub: "running".into(),
        active_enter_us: 10_000,
        enabled: Some(enabled),
        ..Unit::default()
    };

    Observed { unit, at: at(now) }
}

fn killed(now: i64, sub: &str) -> Observed {
    let unit = Unit {
        active: if sub == "failed" {
            "failed"
        } else {
            "activating"
        }
        .into(),
        sub: sub.into(),
        result: "signal".into(),
        exit: Some(MainExit::Signal(9)),
        active_enter_us: 10_000,
        exit_us: 50_000,
        active_exit_us: 50_001,
        enabled: Some(true),
        ..Unit::default()
    };

    Observed { unit, at: at(now) }
}

/// Records and judges a state, and gives all events so far.
fn see(db: &Connection, observed: &Observed, cause: &Cause<'_>) -> Vec<String> {
    record(db, SERVER, observed, cause).unwrap();
    judge_server(db, SERVER, cause, observed.at.now).unwrap();
    drifts(db)
}

fn drifts(db: &Connection) -> Vec<String> {
    let mut statement = db
        .prepare("SELECT kind || ', ' || coalesce('job ' || job_id, actor) FROM events ORDER BY id")
        .unwrap();
    statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn a_look_after_the_clock_was_set_back_counts_and_one_that_is_late_does_not() {
    let (db, now, hour) = (with_servers(1), 7_200_000, 3_600_000);
    see(&db, &running(now, true), &Cause::Outside);
    assert!(
        record_outside(&db, SERVER, &killed(now - 100, "failed"))
            .unwrap()
            .is_empty(),
        "what was seen since is newer"
    );

    assert!(
        !record_outside(&db, SERVER, &killed(now - hour, "failed"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_drift_is_told_when_it_begins_and_when_it_ends_and_not_in_between() {
    let db = with_servers(1);
    servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
    see(&db, &running(20, true), &Cause::Job(JobId(3), "anna"));
    assert_eq!(drifts(&db), ["server.started, job 3"]);

    // In between: systemd restarts it or gives up.
    see(&db, &killed(60, "auto-restart"), &Cause::Outside);
    let crashed = see(&db, &killed(61, "failed"), &Cause::Outside);
    assert_eq!(
        crashed[1..],
        [
            "server.crashed, outside",
            "server.failed, outside",
            "server.drifted, outside"
        ]
    );

    assert_eq!(
        see(&db, &killed(62, "failed"), &Cause::Outside).len(),
        4,
        "drifts once"
    );

    let server = servers::get(&db, SERVER).unwrap().unwrap();
    let drift = server.drift.unwrap();
    assert_eq!(
        (drift.kind, drift.since, drift.why.as_str()),
        (Drift::Down, 61, "signal 9 (KILL)")
    );

    assert_eq!(
        (server.last_end.as_deref(), server.actual_since),
        (Some("signal 9 (KILL)"), Some(61))
    );

    let mut again = running(90, true);
    again.unit.active_enter_us = 80_000;
    let mended = see(&db, &again, &Cause::Job(JobId(4), "anna"));
    assert_eq!(
        mended[4..],
        ["server.started, job 4", "server.drift_ended, job 4"]
    );

    let server = servers::get(&db, SERVER).unwrap().unwrap();
    assert_eq!((server.drift, server.actual_since), (None, Some(80)));
}

#[test]
fn a_server_with_a_live_job_is_not_judged_and_one_on_its_way_keeps_its_drift() {
    let db = with_servers(1);
    servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
    db.execute_batch(
        "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at)
         VALUES (1, 'start', 'x', 1, 1);
         INSERT INTO job_targets VALUES (1, 1);",
    )
    .unwrap();

    let stopped = Observed {
        unit: Unit::unloaded(false),
        at: at(30),
    };

    assert_eq!(see(&db, &stopped, &Cause::Outside), Vec::<String>::new());
    db.execute(
        "UPDATE jobs SET state = 'failed', finished_at = 1, exit_code = 1",
        [],
    )
    .unwrap();

    assert_eq!(
        see(&db, &stopped, &Cause::Outside),
        ["server.drifted, outside"]
    );

    let why = servers::get(&db, SERVER)
        .unwrap()
        .unwrap()
        .drift
        .unwrap()
        .why;
    assert_eq!(why, "it has not been started; its unit is disabled");
    let mut starting = Observed {
        unit: Unit::unloaded(true),
        at: at(31),
    };

    starting.unit.job = Some("start".into());
    assert_eq!(see(&db, &starting, &Cause::Outside).len(), 1);
    assert!(servers::get(&db, SERVER).unwrap().unwrap().drift.is_some());
}

#[test]
fn a_server_whose_job_waits_or_runs_for_too_long_is_judged_and_the_job_is_named() {
    let db = with_servers(2);
    servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
    db.execute_batch(
        "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at)
         VALUES (7, 'start', 'x', 1, 1);
         INSERT INTO job_targets VALUES (7, 1);",
    )
    .unwrap();

    let stopped = |now| Observed {
        unit: Unit::unloaded(true),
        at: at(now),
    };

    assert_eq!(
        see(&db, &stopped(299_000), &Cause::Outside),
        Vec::<String>::new()
    );

    assert_eq!(
        see(&db, &stopped(361_000), &Cause::Outside),
        ["server.drifted, outside"]
    );

    let drift = servers::get(&db, SERVER).unwrap().unwrap().drift.unwrap();
    assert_eq!(drift.kind, Drift::Down);
    assert!(
        drift.why.contains("job 7 (start) has waited for 6"),
        "{}",
        drift.why
    );

    // The job starts at last, and hangs.
    db.execute(
        "UPDATE jobs SET state = 'running', started_at = 400000, worker_id = 'w'",
        [],
    )
    .unwrap();

    assert_eq!(
        see(&db, &running(420_000, true), &Cause::Outside).len(),
        2,
        "it is on its way again"
    );

    assert!(
        see(&db, &running(701_000, true), &Cause::Outside)
            .ends_with(&["server.drift_ended, outside".to_owned()])
    );
}

#[test]
fn a_look_at_what_has_changed_meanwhile_is_not_written() {
    let db = with_servers(1);
    let early = observations::get(&db, SERVER).unwrap().unwrap();
    see(&db, &killed(60, "failed"), &Cause::Outside);
    let outcome = record_over(&db, &early, &running(20, true), &Cause::Outside).unwrap();
    assert!(matches!(outcome, Written::Outdated));
    assert_eq!(
        servers::get(&db, SERVER).unwrap().unwrap().actual_state,
        ActualState::Failed
    );

    assert!(
        record(&db, ServerId(9), &running(20, true), &Cause::Outside)
            .unwrap()
            .is_none()
    );

    assert!(
        record_outside(&db, SERVER, &running(59, true))
            .unwrap()
            .is_empty(),
        "a later poll was recorded"
    );

    assert_eq!(
        servers::get(&db, SERVER).unwrap().unwrap().actual_state,
        ActualState::Failed
    );
}

#[test]
fn one_kind_of_drift_may_follow_another() {
    let db = with_servers(1);
    see(&db, &running(20, true), &Cause::Outside);
    let drift = servers::get(&db, SERVER).unwrap().unwrap().drift.unwrap();
    assert_eq!(
        (drift.kind, drift.why.as_str()),
        (Drift::Up, "it was started outside left4me")
    );

    see(
        &db,
        &Observed {
            unit: Unit::unloaded(true),
            at: at(30),
        },
        &Cause::Outside,
    );

    assert_eq!(
        servers::get(&db, SERVER)
            .unwrap()
            .unwrap()
            .drift
            .unwrap()
            .kind,
        Drift::Enabled
    );

    let last: Vec<String> = drifts(&db).split_off(2);
    assert_eq!(
        last,
        [
            "server.stopped, outside",
            "server.drift_ended, outside",
            "server.drifted, outside"
        ]
    );
}
/// The game crashes 15 s after each start. A poll happens at each crash and at each restart.
#[test]
fn a_server_that_crashes_15_s_after_each_start_keeps_crashing_until_it_is_started_on_purpose_or_stays_up()
 {
    let db = with_servers(1);
    servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
    let up = |start: i64, restarts: u32| {
        let mut up = running(start + 1, true);
        (up.unit.active_enter_us, up.unit.restarts) =
            (u64::try_from(start).unwrap() * 1000, restarts);
        up
    };

    let down = |start: i64, restarts: u32| {
        let mut down = killed(start + 15_000, "auto-restart");
        let at = |ms: i64| u64::try_from(ms).unwrap() * 1000;
        (down.unit.active_enter_us, down.unit.restarts) = (at(start), restarts);
        (down.unit.exit_us, down.unit.active_exit_us) =
            (at(start + 15_000) - 9, at(start + 15_000) - 8);
        down
    };

    let drift = || servers::get(&db, SERVER).unwrap().unwrap().drift;
    for round in 0..7_u32 {
        let start = 1_000 + i64::from(round) * 20_000;
        see(&db, &up(start, round), &Cause::Outside);
        see(&db, &down(start, round), &Cause::Outside);
        let found = drift().map(|drift| (drift.kind, drift.why));
        let expected = (round >= 2).then(|| {
            (
                Drift::Crashing,
                format!(
                    "crashed {} times in 10 min, last by signal 9 (KILL)",
                    round + 1
                ),
            )
        });

        assert_eq!(found, expected, "after {} crashes", round + 1);
    }

    assert_eq!(
        drifts(&db)
            .iter()
            .filter(|event| event.starts_with("server.drifted"))
            .count(),
        1,
        "drifts once"
    );

    assert_eq!(crash_total(&db), 7);

    // It stays up: the drift ends after ten quiet minutes, and not before.
    see(&db, &up(141_000, 7), &Cause::Outside);
    let mut later = up(141_000, 7);
    later.at = at(700_000);
    see(&db, &later, &Cause::Outside);
    assert!(drift().is_some());
    later.at = at(740_000);
    see(&db, &later, &Cause::Outside);
    assert_eq!(drift(), None);

    // Two more crashes are not three, and a start on purpose resets the count.
    for (start, restarts) in [(800_000, 7), (820_000, 8)] {
        see(&db, &up(start, restarts), &Cause::Outside);
        see(&db, &down(start, restarts), &Cause::Outside);
    }

    assert_eq!(drift(), None);
    see(&db, &up(900_000, 0), &Cause::Job(JobId(4), "anna"));
    see(&db, &down(900_000, 0), &Cause::Outside);
    assert_eq!((drift(), crash_total(&db)), (None, 10));
}

fn crash_total(db: &Connection) -> u64 {
    crate::db::metrics::snapshot(db)
        .unwrap()
        .crashes
        .iter()
        .map(|server| server.count)
        .sum()
}
