//! Tests of `db::observations`.

use super::*;
use crate::db::with_servers;
use crate::domain::server::ActualState;

fn see(
    db: &Connection,
    version: i64,
    actual: ActualState,
    enabled: Option<bool>,
    now: i64,
) -> bool {
    let known = Known {
        actual,
        looked_at: None,
        active_enter_us: 7,
        exit_us: 0,
        restarts: 0,
        enabled,
    };

    let seen = Seen {
        known: &known,
        sub: Some("x"),
        last_end: None,
        since: now,
        now,
    };

    write(db, ServerId(1), version, &seen).unwrap()
}

fn version_and_time(db: &Connection) -> (i64, Option<i64>) {
    let row = get(db, ServerId(1)).unwrap().unwrap();
    (row.version, row.known.looked_at)
}

#[test]
fn the_version_grows_with_what_is_seen_and_the_time_with_every_look() {
    let db = with_servers(1);
    assert!(see(&db, 1, ActualState::Running, Some(true), 5));
    assert_eq!(version_and_time(&db), (2, Some(5)));
    assert!(see(&db, 2, ActualState::Running, Some(true), 6));
    assert_eq!(version_and_time(&db), (2, Some(6)));
    assert!(see(&db, 2, ActualState::Stopped, Some(true), 7));
    assert_eq!(version_and_time(&db), (3, Some(7)));
}

#[test]
fn what_was_seen_earlier_is_not_written_over_what_was_seen_later() {
    let db = with_servers(1);
    let early = get(&db, ServerId(1)).unwrap().unwrap().version;
    assert!(see(&db, early, ActualState::Failed, Some(true), 6));
    assert!(!see(&db, early, ActualState::Running, Some(true), 5));
    assert_eq!(
        get(&db, ServerId(1)).unwrap().unwrap().known.actual,
        ActualState::Failed
    );
}

#[test]
fn a_nonsense_row_does_not_hide_the_others() {
    let db = with_servers(3);
    db.execute_batch(
        "UPDATE servers SET id = -5 WHERE id = 2;
         PRAGMA ignore_check_constraints = 1;
         UPDATE servers SET desired_state = 'flying' WHERE id = 3",
    )
    .unwrap();

    let rows = all(&db).unwrap();
    let bad: Vec<i64> = rows
        .iter()
        .filter_map(|row| row.as_ref().err().map(|bad| bad.id))
        .collect();
    assert_eq!((rows.len(), bad), (3, vec![-5, 3]));
}

#[test]
fn servers_of_jobs_that_have_not_ended_are_the_workers() {
    let db = with_servers(5);
    db.execute_batch(
        "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at)
         VALUES (1, 'start', 'x', 1, 1);
         INSERT INTO job_targets VALUES (1, 2);
         INSERT INTO jobs (id, operation, requested_by, created_at, updated_at, state,
             started_at, worker_id)
         VALUES (2, 'update', 'x', 1, 1, 'running', 1, 'w'),
             (3, 'stop', 'x', 1, 1, 'cancelling', 1, 'w');
         INSERT INTO tasks (job_id, position, kind, server_id)
         VALUES (2, 0, 'stop', 3), (2, 1, 'install-runtime', NULL);
         INSERT INTO job_targets VALUES (3, 4);
         INSERT INTO jobs (id, operation, requested_by, created_at, updated_at, state,
             finished_at, exit_code) VALUES (4, 'start', 'x', 1, 1, 'succeeded', 1, 0);
         INSERT INTO job_targets VALUES (4, 5);",
    )
    .unwrap();

    let mut ids: Vec<i64> = in_jobs(&db, 2)
        .unwrap()
        .into_iter()
        .map(|id| id.0)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [2, 3, 4]);
    assert_eq!(active_job(&db, ServerId(3)).unwrap(), Some(2));

    // The stop has run for too long, the start has waited for too long; an update may take half
    // an hour.
    let later = |now| {
        let mut ids: Vec<i64> = in_jobs(&db, now)
            .unwrap()
            .into_iter()
            .map(|id| id.0)
            .collect();
        ids.sort_unstable();
        ids
    };

    assert_eq!(
        (later(300_000), later(300_002), later(1_800_002)),
        (vec![2, 3, 4], vec![3], vec![])
    );

    let job = job_under_way(&db, ServerId(2), 300_002).unwrap().unwrap();
    assert!(
        !job.is_in_time && job.is_queued && job.since == 1 && job.operation == "start",
        "{job:?}"
    );

    assert!(
        job_under_way(&db, ServerId(3), 300_002)
            .unwrap()
            .unwrap()
            .is_in_time
    );

    assert_eq!(active_job(&db, ServerId(5)).unwrap(), None);
}

#[test]
fn what_nobody_can_tell_any_more_keeps_when_it_was_last_seen() {
    let db = with_servers(2);
    see(&db, 1, ActualState::Running, Some(true), 5);
    assert_eq!(
        forget(&db, &[(ServerId(1), 1), (ServerId(2), 1)], 8).unwrap(),
        0,
        "it was seen since"
    );

    assert_eq!(
        forget(&db, &[(ServerId(1), 2), (ServerId(2), 1)], 9).unwrap(),
        1
    );

    assert_eq!(
        forget(&db, &[(ServerId(1), 3), (ServerId(2), 1)], 10).unwrap(),
        0,
        "told once"
    );

    let row = get(&db, ServerId(1)).unwrap().unwrap();
    assert_eq!(
        (
            row.known.actual,
            row.known.looked_at,
            row.known.active_enter_us
        ),
        (ActualState::Unknown, Some(5), 7)
    );
}
