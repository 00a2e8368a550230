//! Tests of `poller::unresponsive`.

use super::*;
use crate::base::Error;
use crate::base::names::JobId;
use crate::db::{events, jobs, servers};
use crate::domain::condition::Condition;
use crate::domain::condition::warning::Warnings;
use crate::domain::drift::Drift;
use crate::domain::game::RESTART_INTERVAL;
use crate::domain::server::DesiredState;
use crate::domain::update::UpdateOptions;
use crate::poller::game::tests::running;
use crate::queue::enqueue::enqueue;

const SERVER: ServerId = ServerId(1);
const CURSOR: &str = "s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;b=6c7c6013a26343b29e964691ff25d04c;\
                      m=4fc72436e;t=4c508a72423d9;x=d3e5610681098c10";

/// Two servers whose games have answered nothing for long.
fn silent() -> (tempfile::TempDir, Db) {
    let (dir, db) = running(2);
    let now = clock::now_ms();
    db.connection()
        .execute(
            "INSERT INTO server_game (server_id, responding, answered_at, asked_at, unanswered)
             SELECT id, 'no', ?1 - 150000, ?1, 5 FROM servers",
            [now],
        )
        .unwrap();
    (dir, db)
}

fn drifts(db: &Db) -> Vec<Option<Drift>> {
    let servers = servers::all(db.connection()).unwrap().into_iter();
    servers
        .map(|server| server.drift.map(|drift| drift.kind))
        .collect()
}

fn entry(ago: i64, line: &str) -> JournalEntry {
    JournalEntry {
        cursor: CURSOR.parse().unwrap(),
        at: clock::now_ms() - ago,
        from: "srcds".to_owned(),
        line: line.to_owned(),
    }
}

#[test]
fn a_server_that_loads_a_map_is_not_unresponsive_and_its_neighbour_is() {
    let (_dir, mut db) = silent();
    let load = "---- Host_Changelevel ----";
    let journal = |server| match server {
        SERVER => Ok(vec![entry(300_000, "x"), entry(60_000, load)]),
        _ => Ok(vec![entry(300_000, load), entry(200_000, "x")]),
    };

    judge(&mut db, &[SERVER, ServerId(2)], journal).unwrap();
    assert_eq!(drifts(&db), [None, Some(Drift::Unresponsive)]);

    let told = events::last(db.connection(), None, 10).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].kind, "server.unresponsive");
    assert!(
        told[0].detail.contains("its last answer was at"),
        "{}",
        told[0].detail
    );

    // It is told once, and the journal is not read again.
    let nothing = |_| -> Result<Vec<JournalEntry>> { panic!("asked again") };
    judge(&mut db, &[ServerId(2)], nothing).unwrap();
    assert_eq!(events::last(db.connection(), None, 10).unwrap().len(), 1);
}

#[test]
fn without_a_journal_nothing_is_ruled_out() {
    let (_dir, mut db) = silent();
    judge(&mut db, &[SERVER], |_| Err(Error::unavailable("no helper"))).unwrap();
    assert_eq!(drifts(&db), [None, None]);
}

#[test]
fn a_restart_is_a_setting_and_comes_once_an_hour_with_its_cause() {
    let (_dir, mut db) = silent();
    judge(&mut db, &[SERVER, ServerId(2)], |_| Ok(Vec::new())).unwrap();
    assert_eq!(drifts(&db), [Some(Drift::Unresponsive); 2]);
    let now = clock::now_ms();
    assert!(!restart(&mut db, now).unwrap(), "off by default");

    db.write(|tx| game::set_restart(tx, now, "anna", SERVER, true))
        .unwrap();
    assert!(restart(&mut db, now).unwrap());
    assert!(!restart(&mut db, now).unwrap(), "it is under way");

    let all = jobs::list(
        db.connection(),
        &jobs::Filter {
            limit: 10,
            ..jobs::Filter::default()
        },
    )
    .unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].requested_by.as_str(), all[0].servers.as_slice()),
        (POLLER, &[SERVER][..])
    );
    let queued = events::last(db.connection(), Some(all[0].id), 10).unwrap();
    assert!(
        queued[0].reason.contains("its last answer was at"),
        "{queued:?}"
    );

    // It failed, and the game is as silent as before.
    let end = "UPDATE jobs SET state = 'failed', started_at = 1, finished_at = 1, exit_code = 1,
               worker_id = 'w'";
    db.connection().execute_batch(end).unwrap();
    assert!(!restart(&mut db, now + RESTART_INTERVAL - 1).unwrap());
    assert!(restart(&mut db, now + RESTART_INTERVAL).unwrap());
}

/// A restart of anna's that waits until nobody plays.
fn hold_restart(db: &mut Db) -> JobId {
    let held = JobRequest {
        operation: Operation::Restart,
        targets: Targets::Named(vec![ServerRef::Id(SERVER)]),
        unique: false,
        rolling: None,
        update: UpdateOptions::default(),
        condition: Some(Condition {
            when_empty: true,
            deadline: None,
            warnings: Warnings::default(),
        }),
        requester: Requester::local("anna"),
    };
    enqueue(db, &held, clock::now_ms()).unwrap().job_id
}

/// Otherwise it would wait for ever: a game that does not answer is never empty.
#[test]
fn a_restart_that_waits_until_nobody_plays_does_not_stand_in_the_way() {
    let (_dir, mut db) = silent();
    let held = hold_restart(&mut db);
    judge(&mut db, &[SERVER], |_| Ok(Vec::new())).unwrap();
    assert_eq!(drifts(&db)[0], Some(Drift::Unresponsive));

    let now = clock::now_ms();
    db.write(|tx| game::set_restart(tx, now, "anna", SERVER, true))
        .unwrap();
    assert!(restart(&mut db, now).unwrap());
    let active = observations::active_job(db.connection(), SERVER).unwrap();
    assert!(active.is_some_and(|job| job != held.0), "{active:?}");
    assert!(jobs::is_on_hold(db.connection(), held).unwrap());
    assert!(!restart(&mut db, now).unwrap(), "one is enough");
}

#[test]
fn a_server_that_is_stopped_at_the_same_moment_is_not_restarted() {
    let (dir, mut db) = silent();
    let now = clock::now_ms();
    let nothing = |_| Ok(vec![entry(300_000, "x")]);
    judge(&mut db, &[SERVER], nothing).unwrap();
    db.write(|tx| game::set_restart(tx, now, "anna", SERVER, true))
        .unwrap();

    let mut other = Db::open_existing(&dir.path().join("left4me.db")).unwrap();
    let db = &mut db;
    let restarts = std::thread::scope(|scope| {
        let restart = other.write(|tx| {
            servers::set_desired(tx, SERVER, DesiredState::Stopped, now)?;
            // Nothing shows that until it is committed, and the restart has to wait for that.
            let restart = scope.spawn(move || restart(db, now).unwrap());
            std::thread::sleep(Duration::from_millis(500));
            Ok(restart)
        });
        restart.unwrap().join().unwrap()
    });
    assert!(!restarts);
}
