//! Tests of `db::metrics`.

use super::*;
use crate::base::names::{CancellationId, JobId, TaskId};
use crate::db::{Db, cancellations, jobs, retention, with_servers};
use crate::domain::cancellation::Progress;
use crate::domain::retention::{Limits, Retention};

const LIFE: &str = " INSERT INTO jobs (operation, requested_by, created_at, updated_at)
                    VALUES ('start', 'x', 1000, 1000), ('start', 'x', 1000, 1000),
                        ('install', 'x', 1000, 1000), ('stop', 'x', 2000, 1000),
                        ('stop', 'x', 1000, 1000), ('sing', 'x', 9000, 1000),
                        ('dance', 'x', 1000, 1000);
                    INSERT INTO tasks (job_id, position, kind) VALUES (3, 0, 'install-runtime');
                    INSERT INTO runners (task_id, verb, started_at, ended_at, ended_by)
                    VALUES (1, 'install', 1, 2, 'kill'), (1, 'install', 1, 2, 'exit');
                    INSERT INTO cancellations (job_id, requested_by, previous_state, created_at)
                    VALUES (3, 'x', 'running', 1000);
                    INSERT INTO cancellations (job_id, task_id, requested_by, previous_state,
                        created_at) VALUES (3, 1, 'x', 'running', 1000);
                    INSERT INTO cancellation_steps (cancellation_id, step, started_at)
                    VALUES (1, 'clean', 1), (1, 'verify', 1);
                    UPDATE jobs SET state = 'running', worker_id = 'w', started_at = 1040
                    WHERE id IN (1, 2, 3, 7);
                    UPDATE jobs SET state = 'succeeded', exit_code = 0, finished_at = 1100
                    WHERE id IN (1, 7);
                    UPDATE jobs
                    SET state = 'failed', exit_code = 1, finished_at = 9223372036854775807
                    WHERE id = 2;
                    UPDATE jobs SET state = 'cancelled', exit_code = 1, finished_at = 900
                    WHERE id IN (3, 5);
                    UPDATE cancellation_steps SET ok = step = 'verify', finished_at = 2;
                    UPDATE runners SET cancellation_id = 1 WHERE ended_by = 'kill';
                    UPDATE cancellations SET state = 'failed', finished_at = 3000 WHERE id = 1;
                    UPDATE cancellations SET state = 'completed', finished_at = 1000
                    WHERE id = 2;";

fn sizes(durations: &Durations) -> Vec<(i64, u64)> {
    durations
        .counts
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(le, n)| (*le, *n))
        .collect()
}

#[test]
fn jobs_and_cancellations_are_counted_as_they_happen() {
    let db = crate::db::with_servers(1);
    db.execute_batch(LIFE).unwrap();

    let seen = snapshot(&db).unwrap();
    let ended: Vec<_> = seen.ended.iter().filter(|(_, n)| **n > 0).collect();

    assert_eq!(
        ended,
        [
            (&("install", "cancelled"), &1),
            (&("other", "succeeded"), &1),
            (&("start", "failed"), &1),
            (&("start", "succeeded"), &1),
            (&("stop", "cancelled"), &1)
        ]
    );

    let live: Vec<_> = seen.live.iter().filter(|(_, n)| **n > 0).collect();
    assert_eq!(
        live,
        [(&("other", "queued"), &1), (&("stop", "queued"), &1)]
    );

    assert_eq!(sizes(&seen.queue_wait), [(50, 4)]);
    assert_eq!(
        sizes(&seen.job_durations["start"]),
        [(100, 1), (i64::MAX, 1)]
    );

    assert_eq!(
        sizes(&seen.job_durations["install"]),
        [(50, 1)],
        "a clock that went back is no time at all"
    );

    assert_eq!(sizes(&seen.job_durations["stop"]), [], "it never started");
    assert_eq!(sizes(&seen.cancellation_duration), [(50, 1), (2500, 1)]);
    assert!((seen.cancellation_duration.total_ms - 2000.0).abs() < 0.1);
    assert_eq!(
        (seen.cancellation_failures, seen.oldest_queued),
        (1, Some(2000))
    );

    assert_eq!(seen.cancellation_requests, [("job", 1), ("task", 1)].into());
    assert_eq!(
        seen.runners_terminated,
        [("SIGTERM", 0), ("SIGKILL", 1), ("lost", 0)].into()
    );

    assert_eq!(
        (seen.step_failures["clean"], seen.step_failures["verify"]),
        (1, 0)
    );

    assert_eq!((seen.servers["unknown"], seen.servers["running"]), (1, 0));
}

#[test]
fn what_happened_before_the_sums_were_kept_is_in_them() {
    let old = Connection::open_in_memory().unwrap();
    for step in [
        include_str!("../migrations/0001-spine.sql"),
        include_str!("../migrations/0002-poller.sql"),
        include_str!("../migrations/0003-cancel.sql"),
        include_str!("../migrations/0004-web.sql"),
    ] {
        old.execute_batch(step).unwrap();
    }

    old.execute_batch(LIFE).unwrap();
    old.execute_batch(include_str!("../migrations/0005-metrics.sql"))
        .unwrap();
    // What today's queries read besides.
    old.execute_batch(include_str!("../migrations/0011-players.sql"))
        .unwrap();
    old.execute_batch(include_str!("../migrations/0012-alerts.sql"))
        .unwrap();
    old.execute_batch(include_str!("../migrations/0014-schedules.sql"))
        .unwrap();
    old.execute_batch(include_str!("../migrations/0019-fleet.sql"))
        .unwrap();
    old.execute_batch(
        "ALTER TABLE jobs ADD COLUMN on_hold INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE servers ADD COLUMN build INTEGER;
         CREATE TABLE rejected_builds (build INTEGER, at INTEGER, actor TEXT, why TEXT);
         CREATE TABLE job_conditions (job_id INTEGER, when_empty INTEGER, until_at INTEGER,
             released_at INTEGER);",
    )
    .unwrap();
    old.execute_batch(include_str!("../migrations/0015-builds.sql"))
        .unwrap();

    let new = crate::db::with_servers(0);
    new.execute_batch(LIFE).unwrap();
    assert_eq!(snapshot(&old).unwrap(), snapshot(&new).unwrap());
}

#[test]
fn a_grace_that_was_over_is_counted_once_and_those_of_the_past_too() {
    let timeouts = |db: &Connection| snapshot(db).unwrap().cancellation_timeouts;
    let new = crate::db::with_servers(1);

    new.execute_batch(LIFE).unwrap();
    for _ in 0..2 {
        cancellations::set_timed_out(&new, CancellationId(1)).unwrap();
    }
    assert_eq!(timeouts(&new), 1);

    let old = Connection::open_in_memory().unwrap();
    for step in [
        include_str!("../migrations/0001-spine.sql"),
        include_str!("../migrations/0003-cancel.sql"),
        include_str!("../migrations/0005-metrics.sql"),
    ] {
        old.execute_batch(step).unwrap();
    }

    old.execute_batch(LIFE).unwrap();
    old.execute_batch(include_str!("../migrations/0009-records.sql"))
        .unwrap();
    assert_eq!(
        old.query_row(
            "SELECT n FROM metric_sums WHERE metric = 'cancellation_timeouts'",
            [],
            |row| row.get(0)
        ),
        Ok(1)
    );
}

#[test]
fn what_is_pruned_stays_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = Db::open(&directory.path().join("left4me.db")).unwrap();
    db.connection().execute_batch(LIFE).unwrap();
    let before = snapshot(db.connection()).unwrap();
    let all = Limits {
        jobs: Some(0),
        ..Limits::default()
    };
    let rules = Retention::new(10_000, all);
    assert_eq!(retention::prune(&mut db, &rules).unwrap().jobs, 4);

    assert_eq!(snapshot(db.connection()).unwrap(), before);
}

/// Rows written by hand must not keep a job or a cancellation from ending.
#[test]
fn no_time_and_no_word_in_a_row_is_too_odd_to_be_counted() {
    for (created, started) in [
        (i64::MIN, i64::MAX),
        (i64::MAX, i64::MIN),
        (i64::MAX, i64::MAX),
        (0, 0),
    ] {
        let db = crate::db::with_servers(1);
        let sql = "INSERT INTO jobs (operation, requested_by, created_at, \
                   updated_at) VALUES ('a\u{7}\"\n', 'x', ?1, 1)";

        for _ in 0..3 {
            db.execute(sql, [created]).unwrap();
            let id = JobId(db.last_insert_rowid());
            assert!(jobs::claim(&db, id, "w", started).unwrap());
            let finish = jobs::Finish {
                state: JobState::Failed,
                exit_code: 1,
                error: None,
            };

            assert!(jobs::finish(&db, id, "w", &finish, created).unwrap());
        }

        let seen = snapshot(&db).unwrap();
        assert_eq!(
            (
                seen.ended[&(OTHER, "failed")],
                seen.queue_wait.counts.values().sum::<u64>()
            ),
            (3, 3)
        );
    }
}

/// The insert's row id must stay that of the requested row, not that of a row which a trigger
/// adds.
#[test]
fn counting_does_not_disturb_whoever_writes() {
    let db = crate::db::with_servers(1);
    db.execute_batch(LIFE).unwrap();

    let new = cancellations::New {
        job: JobId(4),
        task: Some(TaskId(1)),
        requested_by: "x",
        reason: "",
        force: false,
        cascade: true,
        leave_stopped: false,
        previous_state: "queued",
    };

    let id = cancellations::insert(&db, &new, 5000).unwrap();

    assert_eq!(id, CancellationId(3));
    assert!(cancellations::finish(&db, id, Progress::Failed, "", 5000).unwrap());
    assert!(!cancellations::finish(&db, id, Progress::Failed, "", 5000).unwrap());
    assert_eq!(snapshot(&db).unwrap().cancellation_failures, 2);
}

#[test]
fn events_of_alerts_are_counted_by_what_came_of_them_and_go_with_the_alert() {
    let db = with_servers(1);
    db.execute_batch(
        "INSERT INTO alerts (name, kind, target, events, created_at, created_by)
         VALUES ('ops', 'mail', 'a@x', '[]', 1, 'x'), ('other', 'mail', 'a@x', '[]', 1, 'x');
         INSERT INTO alert_outbox (alert_id, event_id, class, created_at)
         VALUES (1, 1, 'crash', 1), (1, 2, 'crash', 1), (1, 3, 'crash', 1);
         UPDATE alert_outbox SET state = 'sent', ended_at = 2 WHERE id = 1;
         UPDATE alert_outbox SET state = 'merged', ended_at = 2, merged_into = 1 WHERE id = 2;",
    )
    .unwrap();

    let count = |name: &str, result: &'static str| {
        let alerts = snapshot(&db).unwrap().alerts;
        alerts.get(&(name.to_owned(), result)).copied()
    };
    assert_eq!(count("ops", "sent"), Some(1));
    assert_eq!(count("ops", "merged"), Some(1));
    assert_eq!(count("ops", "failed"), Some(0));
    assert_eq!(count("other", "sent"), Some(0));
    assert_eq!(count("ops", "pending"), None);

    db.execute_batch("DELETE FROM alerts WHERE name = 'ops'")
        .unwrap();
    assert_eq!(count("ops", "sent"), None);
    let left: i64 = db
        .query_row(
            "SELECT count(*) FROM metric_sums WHERE metric = 'alerts'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}
