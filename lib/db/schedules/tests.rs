//! Tests of `db::schedules`.

use super::*;
use crate::db::with_servers;

fn add(db: &Connection, servers: &[i64], owner: Option<i64>) -> Schedule {
    let servers: Vec<ServerId> = servers.iter().copied().map(ServerId).collect();
    let new = NewSchedule {
        operation: ScheduledOperation::Restart,
        servers: &servers,
        all: servers.is_empty(),
        on: "*-*-* 05:00:00",
        zone: Some("Europe/Berlin"),
        persistent: true,
        rolling: NonZeroU16::new(2),
        no_restart: false,
        condition: &ConditionRequest {
            when_empty: true,
            until: Some("06:00".parse().unwrap()),
            then: Some(AtDeadline::Go),
            warn: Some("10m,30s=Soon".parse().unwrap()),
        },
        owner: owner.map(UserId),
        created_by: "anna",
        next_at: 7,
    };
    insert(db, &new, 5).unwrap()
}

fn ids(schedules: Vec<Schedule>) -> Vec<i64> {
    schedules
        .into_iter()
        .map(|schedule| schedule.id.0)
        .collect()
}

#[test]
fn a_row_gives_back_what_was_asked_for() {
    let db = with_servers(2);
    let schedule = add(&db, &[2, 1], None);
    assert_eq!(schedule.servers, [ServerId(1), ServerId(2)]);
    assert_eq!((schedule.next_at, schedule.created_at), (Some(7), 5));

    let condition = schedule.condition.unwrap();
    assert_eq!(
        condition.message(),
        "when empty, until 06:00, then go, players are warned 2 times"
    );
    let request = condition.request().unwrap();
    assert_eq!(request.until, Some("06:00".parse().unwrap()));
    assert_eq!(request.warn, Some("10m,30s=Soon".parse().unwrap()));
}

#[test]
fn a_user_sees_own_schedules_and_those_for_own_servers_only() {
    let db = with_servers(3);
    db.execute_batch(
        "INSERT INTO users (name, password_hash, created_at, updated_at)
             VALUES ('ben', '', 1, 1);
             UPDATE servers SET user_id = 2 WHERE id = 3;",
    )
    .unwrap();
    add(&db, &[1], None);
    add(&db, &[1, 3], None);
    add(&db, &[3], None);
    add(&db, &[], None);
    add(&db, &[3], Some(1));

    assert_eq!(ids(of_user(&db, UserId(1)).unwrap()), [1, 5]);
    assert_eq!(ids(of_user(&db, UserId(2)).unwrap()), [3, 5]);
    assert_eq!(ids(all(&db).unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(ids(of_server(&db, ServerId(1)).unwrap()), [1, 2, 4]);
    assert_eq!(ids(only_of_server(&db, ServerId(3)).unwrap()), [3, 5]);
    assert_eq!(count(&db, Some(UserId(1))).unwrap(), (5, 1));
}

#[test]
fn a_paused_schedule_has_no_next_run() {
    let db = with_servers(1);
    let id = add(&db, &[1], None).id;
    assert!(set_paused(&db, id, true, 8).unwrap());
    assert!(!set_paused(&db, id, true, 8).unwrap());
    assert_eq!(find(&db, id).unwrap().next_at, None);

    assert!(record_timer(&db, id, Some(9), None).unwrap());
    assert!(!record_timer(&db, id, Some(9), None).unwrap());
    assert!(set_paused(&db, id, false, 8).unwrap());
    assert_eq!(find(&db, id).unwrap().next_at, Some(9));

    let run = NewRun {
        at: 11,
        job: None,
        error: Some("no"),
        next_at: Some(12),
    };
    record_run(&db, id, &run).unwrap();
    let schedule = find(&db, id).unwrap();
    assert_eq!(
        (schedule.last_run_at, schedule.next_at, schedule.since),
        (Some(11), Some(12), 8)
    );
    assert_eq!(schedule.last_error.as_deref(), Some("no"));
    assert!(remove(&db, id).unwrap() && !remove(&db, id).unwrap());
}
