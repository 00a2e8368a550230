//! Tests of `queue::schedules`.

use super::*;
use crate::db::{events, jobs};
use crate::domain::condition::ConditionRequest;
use crate::domain::job::JobState;
use crate::domain::scheduled::ScheduledOperation;

/// 2026-11-20 12:00 UTC.
const NOW: i64 = 1_795_176_000_000;
/// After 05:00 in Berlin and in Tokyo: 2026-11-21 05:00 UTC.
const DUE: i64 = NOW + 17 * 3_600_000;
const ANNA: Maker<'_> = Maker {
    name: "anna",
    user: Some((UserId(1), false)),
};
const BEN: Maker<'_> = Maker {
    name: "ben",
    user: Some((UserId(2), false)),
};
const ADMIN: Maker<'_> = Maker {
    name: "admin",
    user: Some((UserId(3), true)),
};
const ROOT: Maker<'_> = Maker {
    name: "root",
    user: None,
};

struct Scene {
    db: Db,
    _directory: tempfile::TempDir,
}

/// Anna has servers 1 (Friday) and 2, Ben has server 3 (Friday).
fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let mut db = Db::open(&directory.path().join("left4me.db")).unwrap();
    db.write(|tx| {
        tx.execute_batch(
            "INSERT INTO users (name, password_hash, is_admin, created_at, updated_at)
             VALUES ('anna', '', 0, 1, 1), ('ben', '', 0, 1, 1), ('admin', '', 1, 1, 1);
             INSERT INTO blueprints (user_id, name, created_at, updated_at)
             VALUES (1, 'plain', 1, 1), (2, 'plain', 1, 1);
             INSERT INTO servers (user_id, name, port, blueprint_id, created_at, updated_at)
             VALUES (1, 'Friday', 27015, 1, 1, 1), (1, 'Sunday', 27016, 1, 1, 1),
                 (2, 'Friday', 27017, 2, 1, 1);
             UPDATE servers SET desired_state = 'running';",
        )?;
        Ok(())
    })
    .unwrap();
    Scene {
        db,
        _directory: directory,
    }
}

fn request(operation: ScheduledOperation, servers: &[&str]) -> ScheduleRequest {
    let names = || servers.iter().map(|name| name.parse().unwrap()).collect();
    ScheduleRequest {
        operation,
        targets: match servers {
            [] => ScheduleTargets::None,
            ["--all"] => ScheduleTargets::All,
            _ => ScheduleTargets::Named(names()),
        },
        on: "*-*-* 05:00:00".parse().unwrap(),
        zone: Some("Europe/Berlin".parse().unwrap()),
        persistent: false,
        rolling: None,
        no_restart: false,
        condition: ConditionRequest::default(),
    }
}

fn restart(servers: &[&str]) -> ScheduleRequest {
    request(ScheduledOperation::Restart, servers)
}

impl Scene {
    fn add(&mut self, request: &ScheduleRequest, maker: &Maker<'_>) -> Result<Schedule> {
        add(&mut self.db, request, maker, BuildMode::Beside, NOW)
    }

    /// The events about schedules, oldest first.
    fn events(&self) -> Vec<(String, String, String)> {
        let events = events::last(self.db.connection(), None, 100).unwrap();
        let about = events
            .into_iter()
            .filter(|event| event.kind.starts_with("schedule."));
        about
            .map(|event| (event.kind, event.actor, event.detail))
            .collect()
    }

    fn job(&self, id: JobId) -> jobs::Job {
        jobs::get(self.db.connection(), id).unwrap()
    }

    fn run(&mut self, id: ScheduleId) -> Result<Due> {
        run(&mut self.db, id, BuildMode::Beside, DUE)
    }

    fn sql(&mut self, sql: &str) {
        self.db.write(|tx| Ok(tx.execute_batch(sql)?)).unwrap();
    }
}

fn code(result: Result<Schedule>) -> u8 {
    result.unwrap_err().exit.code()
}

#[test]
fn a_name_means_the_makers_own_server_and_the_first_run_is_known_at_once() {
    let mut scene = scene();
    let own = scene.add(&restart(&["Friday", "2", "1"]), &ANNA).unwrap();
    assert_eq!(own.servers, [ServerId(1), ServerId(2)]);
    assert_eq!(
        (own.owner, own.created_by.as_str()),
        (Some(UserId(1)), "anna")
    );
    // 05:00 in Berlin.
    assert_eq!(own.next_at, Some(NOW + 16 * 3_600_000));

    let bens = scene.add(&restart(&["Friday"]), &BEN).unwrap();
    assert_eq!(bens.servers, [ServerId(3)]);
    assert_eq!(
        code(scene.add(&restart(&["Friday"]), &ADMIN)),
        2,
        "two have it"
    );
    assert_eq!(
        scene.events()[1],
        (
            "schedule.added".to_owned(),
            "ben".to_owned(),
            "schedule 2: restart, *-*-* 05:00:00 Europe/Berlin".to_owned()
        )
    );
}

#[test]
fn a_user_schedules_nothing_for_others_servers_for_all_or_for_the_host() {
    let mut scene = scene();
    assert_eq!(code(scene.add(&restart(&["3"]), &ANNA)), 3);
    assert_eq!(code(scene.add(&restart(&["1", "3"]), &ANNA)), 3);
    assert_eq!(code(scene.add(&restart(&["--all"]), &ANNA)), 77);
    for operation in [ScheduledOperation::Update, ScheduledOperation::Backup] {
        assert_eq!(code(scene.add(&request(operation, &[]), &ANNA)), 77);
        for maker in [&ADMIN, &ROOT] {
            scene.add(&request(operation, &[]), maker).unwrap();
        }
    }
    assert!(scene.add(&restart(&["--all"]), &ADMIN).unwrap().all);
}

#[test]
fn a_refusal_names_the_option_as_the_interface_does() {
    let mut scene = scene();
    let nothing = request(ScheduledOperation::Restart, &[]);
    for (maker, said) in [(&ROOT, "--server or --all"), (&ADMIN, "server or all")] {
        let error = scene.add(&nothing, maker).unwrap_err();
        assert_eq!(error.exit.code(), 2);
        assert!(error.to_string().ends_with(said), "{error}");
    }
}

#[test]
fn nobody_has_more_than_a_hundred_schedules() {
    let mut scene = scene();
    scene.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
         INSERT INTO schedules (operation, calendar, owner_id, created_at, created_by)
         SELECT 'restart', '*-*-* 05:00:00', 1, 1, 'anna' FROM n;",
    );
    let error = scene.add(&restart(&["1"]), &ANNA).unwrap_err();
    assert_eq!(error.exit.code(), 4);
    assert!(
        error.to_string().contains("you have 100 schedules already"),
        "{error}"
    );
    scene.add(&restart(&["3"]), &BEN).unwrap();

    scene.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 899)
         INSERT INTO schedules (operation, calendar, created_at, created_by)
         SELECT 'restart', '*-*-* 05:00:00', 1, 'root' FROM n;",
    );
    let error = scene.add(&restart(&["1"]), &ROOT).unwrap_err();
    assert!(
        error.to_string().contains("there are 1000 schedules"),
        "{error}"
    );
}

#[test]
fn others_schedules_are_neither_seen_nor_changed() {
    let mut scene = scene();
    let id = scene.add(&restart(&["1"]), &ROOT).unwrap().id;
    scene.add(&restart(&["3"]), &ROOT).unwrap();
    scene.add(&restart(&["1", "3"]), &ROOT).unwrap();

    let seen = |scene: &Scene, maker| visible(scene.db.connection(), maker).unwrap().len();
    assert_eq!(
        [&ANNA, &BEN, &ADMIN, &ROOT].map(|maker| seen(&scene, maker)),
        [1, 1, 3, 3]
    );

    for attempt in [
        set_paused(&mut scene.db, id, true, &BEN, NOW),
        remove(&mut scene.db, id, &BEN, NOW),
        remove(&mut scene.db, ScheduleId(3), &ANNA, NOW),
        remove(&mut scene.db, ScheduleId(99), &ROOT, NOW),
    ] {
        let error = attempt.unwrap_err();
        assert_eq!(error.exit.code(), 3, "{error}");
        assert!(error.to_string().contains("no schedule"), "{error}");
    }
    remove(&mut scene.db, id, &ANNA, NOW).unwrap();
    assert_eq!(seen(&scene, &ANNA), 0);
}

#[test]
fn pause_and_resume_are_told_once() {
    let mut scene = scene();
    let id = scene.add(&restart(&["1"]), &ANNA).unwrap().id;
    for paused in [true, true, false, false] {
        let schedule = set_paused(&mut scene.db, id, paused, &ANNA, NOW).unwrap();
        assert_eq!(schedule.paused, paused);
        assert_eq!(schedule.next_at.is_none(), paused);
    }
    let kinds: Vec<String> = scene.events().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(
        kinds,
        ["schedule.added", "schedule.paused", "schedule.resumed"]
    );
}

#[test]
fn a_run_enqueues_one_job_that_names_the_schedule() {
    let mut scene = scene();
    let mut asked = restart(&["1", "2"]);
    asked.condition.when_empty = true;
    let id = scene.add(&asked, &ANNA).unwrap().id;

    let Due::Job(first) = scene.run(id).unwrap() else {
        panic!("a job was expected")
    };
    let job = scene.job(first.job_id);
    assert_eq!(
        (job.operation.as_str(), job.requested_by.as_str()),
        ("restart", "schedule 1")
    );
    assert_eq!(job.servers, [ServerId(1), ServerId(2)]);
    assert!(job.condition.is_some_and(|condition| condition.when_empty));

    let events = events::last(scene.db.connection(), Some(job.id), 10).unwrap();
    assert_eq!(events[0].reason, "schedule 1 of anna");

    let Due::Job(second) = scene.run(id).unwrap() else {
        panic!("a job was expected")
    };
    assert_eq!(second.job_id, first.job_id, "it has not ended");

    let schedule = schedules::find(scene.db.connection(), id).unwrap();
    assert_eq!(schedule.last_run_at, Some(DUE));
    assert_eq!(schedule.next_at, Some(NOW + 40 * 3_600_000));
    assert_eq!(schedule.last_job_state, Some(JobState::Queued));
}

#[test]
fn a_restart_leaves_stopped_servers_stopped() {
    let mut scene = scene();
    let all = scene.add(&restart(&["--all"]), &ROOT).unwrap().id;
    let own = scene
        .add(&restart(&["Friday", "Sunday"]), &ANNA)
        .unwrap()
        .id;
    scene.sql("UPDATE servers SET desired_state = 'stopped' WHERE id <> 2");
    for id in [all, own] {
        let Ok(Due::Job(job)) = scene.run(id) else {
            panic!("no job")
        };
        assert_eq!(scene.job(job.job_id).servers, [ServerId(2)]);
    }

    scene.sql("UPDATE servers SET desired_state = 'stopped'");
    let none = scene.run(all);
    assert!(matches!(none, Ok(Due::Nothing(why)) if why.contains("should be running")));
    let schedule = schedules::find(scene.db.connection(), all).unwrap();
    assert_eq!(
        (schedule.last_run_at, schedule.last_error),
        (Some(DUE), None)
    );
}

#[test]
fn a_time_of_day_in_a_condition_is_that_of_the_schedules_zone() {
    let mut scene = scene();
    let mut asked = restart(&["1"]);
    asked.zone = Some("Asia/Tokyo".parse().unwrap());
    asked.condition.until = Some("06:00".parse().unwrap());
    let id = scene.add(&asked, &ROOT).unwrap().id;

    let Due::Job(job) = scene.run(id).unwrap() else {
        panic!("a job was expected")
    };
    // 14:00 in Tokyo: sixteen hours until six.
    let until = scene.job(job.job_id).condition.unwrap().until;
    assert_eq!(until, Some(DUE + 16 * 3_600_000));
}

#[test]
fn what_is_paused_or_removed_does_nothing_when_its_time_comes() {
    let mut scene = scene();
    let id = scene.add(&restart(&["1"]), &ROOT).unwrap().id;
    set_paused(&mut scene.db, id, true, &ROOT, NOW).unwrap();
    assert!(matches!(scene.run(id), Ok(Due::Nothing("it is paused"))));
    remove(&mut scene.db, id, &ROOT, NOW).unwrap();
    assert!(matches!(scene.run(id), Ok(Due::Nothing("it was removed"))));
    assert!(
        jobs::list(
            scene.db.connection(),
            &jobs::Filter {
                limit: 10,
                ..jobs::Filter::default()
            }
        )
        .unwrap()
        .is_empty()
    );
}

/// systemd's timer also makes up for what it missed before, as while the schedule was paused.
#[test]
fn a_time_before_it_was_added_or_resumed_does_not_count() {
    let mut scene = scene();
    let id = scene.add(&restart(&["1"]), &ROOT).unwrap().id;
    let early = run(&mut scene.db, id, BuildMode::Beside, NOW + 1);
    assert!(matches!(early, Ok(Due::Nothing(why)) if why.contains("has not come")));

    for paused in [true, false] {
        set_paused(&mut scene.db, id, paused, &ROOT, DUE).unwrap();
    }
    assert!(matches!(
        run(&mut scene.db, id, BuildMode::Beside, DUE + 1),
        Ok(Due::Nothing(_))
    ));
    let next = DUE + 24 * 3_600_000;
    assert!(matches!(
        run(&mut scene.db, id, BuildMode::Beside, next),
        Ok(Due::Job(_))
    ));

    // The clock was years ahead when it was added.
    scene.sql("UPDATE schedules SET since = 9000000000000");
    assert!(matches!(
        run(&mut scene.db, id, BuildMode::Beside, next),
        Ok(Due::Job(_))
    ));
}

#[test]
fn a_schedule_has_the_rights_that_its_owner_has_now() {
    let mut scene = scene();
    let own = scene.add(&restart(&["2"]), &ANNA).unwrap().id;
    let all = scene.add(&restart(&["--all"]), &ADMIN).unwrap().id;
    assert!(matches!(scene.run(own), Ok(Due::Job(_))));
    assert!(matches!(scene.run(all), Ok(Due::Job(_))));

    scene.sql("UPDATE users SET is_admin = 0 WHERE id = 3");
    scene.sql("UPDATE servers SET user_id = 2 WHERE id = 2");
    for (id, said) in [
        (own, "not all of its servers belong to its owner"),
        (all, "only admins schedule something for all servers"),
    ] {
        let error = scene.run(id).unwrap_err();
        assert_eq!((error.exit.code(), error.to_string().as_str()), (77, said));
        let schedule = schedules::find(scene.db.connection(), id).unwrap();
        assert_eq!(schedule.last_error.as_deref(), Some(said));
    }

    scene.sql("UPDATE servers SET user_id = 1 WHERE id = 2; UPDATE users SET disabled_at = 5 WHERE id = 1");
    let error = scene.run(own).unwrap_err().to_string();
    assert!(error.contains("its owner 'anna' is disabled"), "{error}");
    let (kind, actor, detail) = scene.events().pop().unwrap();
    assert_eq!(
        (kind.as_str(), actor.as_str()),
        ("schedule.failed", "schedule 1")
    );
    assert!(
        detail.contains("restart") && detail.contains("is disabled"),
        "{detail}"
    );
}

#[test]
fn a_backup_is_left_to_the_caller_and_recorded() {
    let mut scene = scene();
    let id = scene
        .add(&request(ScheduledOperation::Backup, &[]), &ROOT)
        .unwrap()
        .id;
    assert!(matches!(scene.run(id), Ok(Due::Backup)));
    record_backup(
        &mut scene.db,
        id,
        NOW,
        &Err(Error::failed("the disk is full")),
    )
    .unwrap();
    let schedule = schedules::find(scene.db.connection(), id).unwrap();
    assert_eq!(schedule.last_error.as_deref(), Some("the disk is full"));

    record_backup(&mut scene.db, id, NOW + 9, &Ok(())).unwrap();
    let schedule = schedules::find(scene.db.connection(), id).unwrap();
    assert_eq!(
        (schedule.last_run_at, schedule.last_error),
        (Some(NOW + 9), None)
    );
}

#[test]
fn a_removed_server_takes_the_schedules_with_it_that_have_no_other() {
    let mut scene = scene();
    scene.sql("UPDATE servers SET desired_state = 'stopped'");
    let only = scene.add(&restart(&["1"]), &ANNA).unwrap().id;
    let both = scene.add(&restart(&["1", "2"]), &ANNA).unwrap().id;
    scene.sql("UPDATE servers SET actual_state = 'stopped'");
    scene
        .db
        .write(|tx| servers::remove(tx, NOW, "root", ServerId(1)))
        .unwrap();

    let left = visible(scene.db.connection(), &ROOT).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].id, left[0].servers.as_slice()),
        (both, &[ServerId(2)][..])
    );
    let (kind, actor, detail) = scene.events().pop().unwrap();
    assert_eq!(
        (kind.as_str(), actor.as_str()),
        ("schedule.removed", "root")
    );
    assert!(detail.starts_with(&format!("schedule {only}:")), "{detail}");
}
