//! The database: migrations, refusals, watching, claiming, long logs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use left4me::base::names::{JobId, ServerId, TaskId};
use left4me::db::watch::Watch;
use left4me::db::{Db, jobs, logs, migrate};
use left4me::domain::operation::Operation;
use left4me::domain::update::UpdateOptions;
use left4me::queue::claim::claim;
use left4me::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
use left4me::queue::log;
use left4me::wire::Stream;

use crate::support::JOB;

fn fresh() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("left4me.db")).unwrap();
    (dir, db)
}

/// Servers 1 to `count` of one user.
fn servers(db: &Db, count: i64) {
    db.connection()
        .execute_batch(&format!(
            "INSERT INTO users (name, password_hash, created_at, updated_at)
             VALUES ('alice', '-', 1, 1);
             INSERT INTO blueprints (user_id, name, created_at, updated_at)
             VALUES (1, 'plain', 1, 1);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n
             WHERE i < {count}) INSERT INTO servers (user_id, name, port, blueprint_id,
                 created_at, updated_at) SELECT 1, 'S' || i, 27000 + i, 1, 1, 1 FROM n;"
        ))
        .unwrap();
}

fn queue_one(db: &Db, operation: &str, servers: &[i64]) -> JobId {
    let connection = db.connection();
    connection
        .execute(
            "INSERT INTO jobs (operation, requested_by, created_at, updated_at)
             VALUES (?1, 'x', 1, 1)",
            [operation],
        )
        .unwrap();

    let id = connection.last_insert_rowid();
    for server in servers {
        connection
            .execute("INSERT INTO job_targets VALUES (?1, ?2)", [id, *server])
            .unwrap();
    }

    JobId(id)
}

fn list(path: &Path) -> (Option<i32>, String) {
    let output = Command::new(JOB)
        .args(["list"])
        .env("LEFT4ME_DB", path)
        .env("LEFT4ME_ENV_FILE", "/dev/null")
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_job_dated_in_the_future_affects_only_jobs_queued_behind_it() {
    let (_dir, mut db) = fresh();
    let years = 5_000_000_000_000;
    let mut ask = |now| {
        let requester = Requester {
            name: "x",
            user: None,
            key: None,
            reason: "",
        };

        let request = JobRequest {
            operation: Operation::Install,
            targets: Targets::None,
            unique: false,
            rolling: None,
            update: UpdateOptions::default(),
            condition: None,
            requester,
        };

        let id = enqueue(&mut db, &request, now).unwrap().job_id;
        let created = jobs::get(db.connection(), id).unwrap().created_at;

        if created > years - 1 && now < years {
            let end = "UPDATE jobs SET state = 'cancelled', finished_at = 9, exit_code = 1";
            db.connection().execute_batch(end).unwrap();
        }

        created
    };

    assert_eq!(ask(years), years);
    assert_eq!(
        ask(1_000),
        years,
        "among jobs that wait, the order by date is that by id"
    );

    assert_eq!(ask(2_000), 2_000);
}

#[test]
fn the_last_task_does_not_depend_on_the_clock() {
    let (_dir, db) = fresh();
    servers(&db, 1);
    let sql = "INSERT INTO jobs (operation, requested_by, created_at, updated_at, state,
                   started_at, finished_at, exit_code, worker_id)
               VALUES ('reset', 'x', 1, 1, 'succeeded', 7200, 7300, 0, 'w'),
                   ('start', 'x', 1, 1, 'succeeded', 3600, 3700, 0, 'w');
               INSERT INTO job_targets VALUES (1, 1), (2, 1);
               INSERT INTO tasks (job_id, position, kind, server_id, state, started_at,
                   finished_at)
               VALUES (1, 0, 'purge-instance', 1, 'succeeded', 7200, 7300),
                   (2, 0, 'initialize', 1, 'succeeded', 3600, 3700)";

    db.connection().execute_batch(sql).unwrap();
    assert!(
        left4me::db::servers::may_have_files(db.connection(), ServerId(1)).unwrap(),
        "they were written last"
    );
}

#[test]
fn a_new_file_has_the_latest_schema_is_0660_and_in_wal_mode() {
    let (dir, db) = fresh();
    assert_eq!(migrate::version(db.connection()).unwrap(), migrate::LATEST);

    let mode =
        std::os::unix::fs::MetadataExt::mode(&dir.path().join("left4me.db").metadata().unwrap());
    assert_eq!(mode & 0o777, 0o660);

    let mode: String = db
        .connection()
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");

    let full: i64 = db
        .connection()
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .unwrap();
    assert_eq!(full, 2, "an accepted job survives power loss");
}

#[test]
fn every_table_is_strict() {
    let (_dir, db) = fresh();
    let loose: i64 = db
        .connection()
        .query_row(
            "SELECT count(*) FROM pragma_table_list
             WHERE schema = 'main' AND type = 'table' AND NOT strict AND name NOT LIKE 'sqlite_%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(loose, 0);
}

#[test]
fn programs_that_open_a_new_file_at_once_all_find_it_migrated() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("left4me.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert_eq!(
                        migrate::version(Db::open(&path).unwrap().connection()).unwrap(),
                        migrate::LATEST
                    )
                });
            }
        });
    }
}

/// Applies each migration to the file of the previous one, with rows in it.
#[test]
fn a_migration_keeps_the_rows_of_the_previous_schema() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("left4me.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../lib/db/migrations/0001-spine.sql"))
        .unwrap();
    old.execute_batch(
        "PRAGMA user_version = 1;
         INSERT INTO users (name, password_hash, created_at, updated_at)
         VALUES ('alice', '-', 1, 1);
         INSERT INTO blueprints (user_id, name, created_at, updated_at)
         VALUES (1, 'plain', 1, 1);
         INSERT INTO servers (user_id, name, port, blueprint_id, created_at, updated_at,
             desired_state, actual_state, enabled)
         VALUES (1, 'Friday', 27000, 1, 1, 1, 'running', 'running', 1);
         INSERT INTO events (at, kind, actor, server_id)
         VALUES (1, 'server.created', 'alice', 1);",
    )
    .unwrap();

    drop(old);
    let db = Db::open(&path).unwrap();
    assert_eq!(migrate::version(db.connection()).unwrap(), migrate::LATEST);

    let server = left4me::db::servers::get(db.connection(), left4me::base::names::ServerId(1))
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            server.name.as_str(),
            server.enabled,
            server.version,
            server.drift
        ),
        ("Friday", Some(true), 1, None)
    );

    let events: i64 = db
        .connection()
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(events, 1);

    let broken: i64 = db
        .connection()
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(broken, 0);
}

/// A file of the version that passed launch arguments to a shell script.
#[test]
fn old_launch_arguments_are_converted_where_that_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("left4me.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    for step in [
        include_str!("../../lib/db/migrations/0001-spine.sql"),
        include_str!("../../lib/db/migrations/0002-poller.sql"),
        include_str!("../../lib/db/migrations/0003-cancel.sql"),
        include_str!("../../lib/db/migrations/0004-web.sql"),
        include_str!("../../lib/db/migrations/0005-metrics.sql"),
    ] {
        old.execute_batch(step).unwrap();
    }

    old.execute_batch(
        r#"PRAGMA user_version = 5;
         INSERT INTO users (name, password_hash, created_at, updated_at) VALUES ('alice', '-', 1, 1);
         INSERT INTO blueprints (user_id, name, arguments, config, created_at, updated_at) VALUES
             (1, 'text', '["+map","c2","+hostname","Bob''s server","+rcon_password","hunter2"]', '["hostname \"x\""]', 1, 1),
             (1, 'words', '["-x y","***"]', '[]', 1, 1),
             (1, 'good', '["+map","c1m1_hotel"]', '["a"]', 1, 1),
             (1, 'evil', '["x -port 27001 -ip 127.0.0.1"]', '[]', 1, 1),
             (1, 'broken', '[1]', '[]', 1, 1);
         INSERT INTO servers (user_id, name, port, blueprint_id, created_at, updated_at)
             VALUES (1, 'Friday', 27000, 4, 1, 1);"#,
    )
    .unwrap();

    drop(old);

    let db = Db::open(&path).unwrap();
    let stored = |id| {
        left4me::db::blueprints::stored(db.connection(), left4me::base::names::BlueprintId(id))
            .unwrap()
    };

    assert_eq!(stored(1).arguments, ["+map", "c2"]);
    let lines = [
        "hostname \"Bob's server\"",
        "rcon_password \"hunter2\"",
        "hostname \"x\"",
    ];

    assert_eq!(
        stored(1).config,
        lines,
        "a line that was there still comes last, and wins"
    );

    assert_eq!(
        (stored(2).arguments, stored(2).refused),
        (["-x", "y", "***"].map(str::to_owned).to_vec(), Vec::new())
    );

    assert_eq!(stored(3).arguments, ["+map", "c1m1_hotel"]);
    let times = |id: i64| -> i64 {
        db.connection()
            .query_row(
                "SELECT updated_at FROM blueprints WHERE id = ?1",
                [id],
                |row| row.get(0),
            )
            .unwrap()
    };

    assert!(
        times(1) > 1 && times(3) == 1,
        "an open form notices that its blueprint was changed"
    );

    assert_eq!(
        stored(4).arguments,
        ["x -port 27001 -ip 127.0.0.1"],
        "kept, and named"
    );

    assert!(stored(4).refused[0].contains("one word"), "{:?}", stored(4));
    let spec = left4me::db::servers::spec(db.connection(), left4me::base::names::ServerId(1))
        .unwrap_err()
        .to_string();
    assert!(
        spec.contains("blueprint 4 ('evil')") && spec.contains("blueprint edit 4"),
        "{spec}"
    );

    assert!(stored(5).refused[0].contains("damaged"));
    let refused = left4me::db::blueprints::refused(db.connection()).unwrap();
    assert_eq!(
        refused
            .iter()
            .map(|(blueprint, _)| blueprint.name.as_str())
            .collect::<Vec<_>>(),
        ["evil", "broken"]
    );

    let events =
        "SELECT group_concat(detail, char(10)) FROM events WHERE kind = 'blueprint.converted'";
    let events: String = db
        .connection()
        .query_row(events, [], |row| row.get(0))
        .unwrap();
    assert_eq!(events.lines().count(), 2, "{events}");
    assert!(
        events.contains("'text'") && events.contains("'words'") && !events.contains("hunter2"),
        "{events}"
    );
}

#[test]
fn a_file_from_a_newer_left4me_is_refused_and_untouched() {
    let (dir, db) = fresh();
    db.connection()
        .execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop(db);

    let path = dir.path().join("left4me.db");
    let before = std::fs::read(&path).unwrap();
    let (code, words) = list(&path);
    assert_eq!(code, Some(69));
    assert!(
        words.contains("99") && words.contains("newer") && words.lines().count() == 1,
        "{words}"
    );

    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_missing_or_invalid_database_is_one_line_and_exit_69() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("left4me.db");
    std::fs::write(
        &path,
        "this is not a database, but it is long enough to be asked ".repeat(100),
    )
    .unwrap();

    let (code, words) = list(&path);
    assert_eq!((code, words.lines().count()), (Some(69), 1), "{words}");
    assert!(words.contains("not a database"), "{words}");

    let (code, words) = list(&dir.path().join("missing/left4me.db"));
    assert_eq!((code, words.lines().count()), (Some(69), 1), "{words}");
}

#[test]
fn a_locked_database_is_waited_for_and_nothing_is_lost() {
    let (dir, db) = fresh();
    servers(&db, 1);
    db.connection().execute_batch("BEGIN IMMEDIATE").unwrap();

    let mut child = Command::new(JOB)
        .args(["enqueue", "stop", "--server", "1"])
        .env("LEFT4ME_DB", dir.path().join("left4me.db"))
        .env("LEFT4ME_ENV_FILE", "/dev/null")
        .env("LEFT4ME_WORKER_SOCKET", dir.path().join("worker.sock"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();

    // Once it has the file open, it waits for the lock.
    let deadline = Instant::now() + Duration::from_secs(10);
    let fds = format!("/proc/{}/fd", child.id());
    let opened = || {
        std::fs::read_dir(&fds).is_ok_and(|all| {
            all.flatten().any(|fd| {
                std::fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("left4me.db-wal"))
            })
        })
    };

    while !opened() {
        assert!(Instant::now() < deadline, "it never opened the file");
        std::thread::yield_now();
    }

    assert!(child.try_wait().unwrap().is_none());
    db.connection().execute_batch("COMMIT").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(jobs::counts(db.connection()).unwrap(), (1, 0));
}

#[test]
fn a_watcher_wakes_only_on_commits_of_others() {
    let (dir, mut db) = fresh();
    let path = dir.path().join("left4me.db");
    let mut watch = Watch::new(&path).unwrap();
    assert!(
        !watch
            .wait(Some(Instant::now() + Duration::from_millis(200)))
            .unwrap(),
        "nothing was committed"
    );

    for round in 0..50 {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let woken = watch
                    .wait(Some(Instant::now() + Duration::from_secs(20)))
                    .unwrap();
                sender.send((woken, Instant::now())).unwrap();
            });

            db.write(|tx| Ok(tx.execute("UPDATE queue SET reason = ?1", [round.to_string()])?))
                .unwrap();
            let (woken, _) = receiver.recv().unwrap();
            assert!(woken, "round {round}");
        });
    }
}

/// A commit writes to the file before it is visible. A watcher that checks in between must not miss
/// it.
#[test]
fn a_watcher_misses_no_commit_of_several_in_a_row() {
    const ROUNDS: i64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("left4me.db");
    let mut writer = Db::open(&path).unwrap();
    let reader = Db::open(&path).unwrap();
    let mut watch = Watch::new(&path).unwrap();
    let (go, gone) = std::sync::mpsc::channel::<i64>();
    let writing = std::thread::spawn(move || {
        for round in gone {
            for step in 1..=6 {
                writer
                    .write(
                        |tx| Ok(tx.execute("UPDATE queue SET reason = ?1", [round * 10 + step])?),
                    )
                    .unwrap();
            }
        }
    });

    let mut late = 0;
    for round in 0..ROUNDS {
        let last = (round * 10 + 6).to_string();
        go.send(round).unwrap();
        loop {
            let seen: Option<String> = reader
                .connection()
                .query_row("SELECT reason FROM queue", [], |row| row.get(0))
                .unwrap();
            if seen.as_ref() == Some(&last) {
                break;
            }

            let begun = Instant::now();
            watch
                .wait(Some(Instant::now() + Duration::from_secs(20)))
                .unwrap();

            // Only the fallback check comes after a second.
            late += i32::from(begun.elapsed() > Duration::from_millis(900));
        }
    }

    drop(go);
    writing.join().unwrap();

    // A busy machine may delay some of them.
    assert!(
        late <= 3,
        "{late} of {ROUNDS} times only the fallback check saw it"
    );
}

#[test]
fn a_watcher_holds_no_read_transaction_that_blocks_checkpoints() {
    let (dir, mut db) = fresh();
    let mut watch = Watch::new(&dir.path().join("left4me.db")).unwrap();
    db.write(|tx| Ok(tx.execute("UPDATE queue SET reason = 'x'", [])?))
        .unwrap();
    assert!(
        watch
            .wait(Some(Instant::now() + Duration::from_secs(20)))
            .unwrap()
    );

    let (busy, log, done): (i64, i64, i64) = db
        .connection()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();

    assert_eq!((busy, log, done), (0, 0, 0));
}

#[test]
fn a_state_and_its_columns_cannot_contradict_each_other() {
    let (_dir, db) = fresh();
    let id = queue_one(&db, "install", &[]).0;
    for wrong in [
        "UPDATE jobs SET state = 'succeeded' WHERE id = ?1",
        "UPDATE jobs SET state = 'running' WHERE id = ?1",
        "UPDATE jobs SET finished_at = 5 WHERE id = ?1",
        "UPDATE jobs SET state = 'done' WHERE id = ?1",
        "UPDATE jobs SET exit_code = 0 WHERE id = ?1",
    ] {
        assert!(db.connection().execute(wrong, [id]).is_err(), "{wrong}");
    }
}

#[test]
fn only_the_worker_that_claimed_a_job_can_finish_it() {
    let (_dir, mut db) = fresh();
    let id = queue_one(&db, "install", &[]);
    let finish = |state| jobs::Finish {
        state,
        exit_code: 1,
        error: None,
    };

    use left4me::domain::job::JobState::{Failed, Succeeded};
    db.write(|tx| {
        assert!(
            !jobs::finish(tx, id, "w1", &finish(Failed), 5)?,
            "a queued job cannot be finished"
        );

        assert!(jobs::claim(tx, id, "w1", 5)?);
        assert!(!jobs::claim(tx, id, "w2", 5)?, "claimed once");
        assert!(
            !jobs::finish(tx, id, "w2", &finish(Failed), 6)?,
            "not by another worker"
        );

        assert!(jobs::finish(tx, id, "w1", &finish(Failed), 6)?);
        assert!(
            !jobs::finish(tx, id, "w1", &finish(Succeeded), 7)?,
            "a terminal state is final"
        );

        Ok(())
    })
    .unwrap();

    assert_eq!(jobs::state(db.connection(), id).unwrap().0, Failed);
}

#[test]
fn targets_of_a_process_that_cannot_be_killed_stay_locked() {
    let (_dir, mut db) = fresh();
    servers(&db, 2);
    let undying = queue_one(&db, "stop", &[1]);
    let (one, two) = (queue_one(&db, "stop", &[1]), queue_one(&db, "stop", &[2]));
    let install = queue_one(&db, "install", &[]);

    db.connection()
        .execute_batch(&format!(
            "UPDATE jobs SET state = 'cancelled', exit_code = 1, finished_at = 1
             WHERE id = {undying};
             INSERT INTO tasks (job_id, position, kind, server_id)
             VALUES ({undying}, 7, 'stop', 1);
             INSERT INTO runners (task_id, verb, started_at, ended_at, ended_by,
                 tree) SELECT max(id), 'disable', 1, 2, 'kill', 'left' FROM tasks;"
        ))
        .unwrap();

    assert_eq!(
        db.write(|tx| claim(tx, "w", 9, &[], 5)).unwrap(),
        [two],
        "server 1 is held, and so is all that runs alone"
    );

    db.write(|tx| left4me::db::runners::set_tree(tx, 1, false))
        .unwrap();
    assert_eq!(
        db.write(|tx| claim(tx, "w", 9, &[], 5)).unwrap(),
        [one],
        "{install} waits for both"
    );
}

#[test]
fn an_event_is_never_changed() {
    let (_dir, db) = fresh();
    db.connection()
        .execute_batch("INSERT INTO events (at, kind, actor) VALUES (1, 'job.cancelled', 'anna')")
        .unwrap();
    for column in ["at", "kind", "actor", "detail", "reason"] {
        let error = db
            .connection()
            .execute(&format!("UPDATE events SET {column} = '9'"), [])
            .unwrap_err();
        assert!(error.to_string().contains("only ever added"), "{error}");
    }
}

#[test]
fn a_free_server_is_claimed_behind_a_busy_one_in_queue_order() {
    let (_dir, mut db) = fresh();
    servers(&db, 4);
    for _ in 0..300 {
        queue_one(&db, "stop", &[1]);
    }

    let both = queue_one(&db, "stop", &[1, 2]);
    let two = queue_one(&db, "stop", &[2]);
    let three = queue_one(&db, "stop", &[3]);
    let install = queue_one(&db, "install", &[]);
    let four = queue_one(&db, "stop", &[4]);
    let first = db.write(|tx| claim(tx, "w", 4, &[], 5)).unwrap();

    assert_eq!(
        first,
        [JobId(1), three],
        "server 2 waits for the older job {both}, {four} for the older install"
    );

    assert!(db.write(|tx| claim(tx, "w", 4, &[], 5)).unwrap().is_empty());

    let states = [both, two, install, four]
        .map(|id| jobs::state(db.connection(), id).unwrap().0.to_string());
    assert_eq!(states, ["queued"; 4]);
}

#[test]
fn created_at_never_goes_back_when_the_clock_does() {
    let (_dir, mut db) = fresh();
    use left4me::domain::{operation::Operation, plan::plan};
    let new = jobs::NewJob {
        operation: Operation::Install,
        targets: &[],
        requested_by: "x",
        user: None,
        retry_of: None,
        options: &UpdateOptions::default(),
        on_hold: false,
    };

    let plan = plan(Operation::Install, &[], &[], &UpdateOptions::default());
    let ids =
        [1000, 400, 2000].map(|now| db.write(|tx| jobs::insert(tx, &new, &plan, now)).unwrap());
    let times = ids.map(|id| jobs::get(db.connection(), id).unwrap().created_at);

    assert_eq!(times, [1000, 1000, 2000]);
}

#[test]
fn a_log_of_over_a_million_lines_keeps_head_and_tail() {
    let (dir, db) = fresh();
    let id = queue_one(&db, "install", &[]);
    let (log, writer) = log::start::<()>(&dir.path().join("left4me.db"), |()| {}).unwrap();
    let total: i64 = 1_015_000;

    for chunk in 0..total / 200 {
        let lines = (1..=200)
            .map(|line| (Stream::Stdout, (chunk * 200 + line).to_string()))
            .collect();
        log.lines(id, TaskId(1), lines);
    }

    log.forget(id);
    drop(log);
    writer.finish(false);

    let head = logs::after(db.connection(), id, logs::KEEP_HEAD - 1, 2).unwrap();
    assert_eq!(head[0].line, logs::KEEP_HEAD.to_string());
    assert!(
        head[1].line.contains("lines are omitted here"),
        "{}",
        head[1].line
    );

    let tail = logs::after(db.connection(), id, total - 1, 2).unwrap();
    assert_eq!(tail[0].line, total.to_string());

    let rows: i64 = db
        .connection()
        .query_row("SELECT count(*) FROM job_logs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(
        rows,
        logs::KEEP_HEAD + logs::KEEP_TAIL + 1,
        "head, mark and tail, once the job has ended"
    );

    let left_out: i64 = head[1]
        .line
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap();
    assert_eq!(
        left_out + rows - 1,
        total,
        "every line is there or counted as left out"
    );
}

#[test]
fn the_log_writer_reports_an_end_only_after_its_lines() {
    let (dir, db) = fresh();
    let id = queue_one(&db, "install", &[]);
    let path = dir.path().join("left4me.db");
    let reader = Db::open(&path).unwrap();
    let (seen, receiver) = std::sync::mpsc::channel();
    let reader = std::sync::Mutex::new(reader);
    let (log, writer) = log::start::<i64>(&path, move |expected| {
        let last = logs::last_seq(reader.lock().unwrap().connection(), id).unwrap();
        seen.send((expected, last)).unwrap();
    })
    .unwrap();

    for round in 1..=20_i64 {
        for _ in 0..7 {
            log.note(id, TaskId(1), Stream::Stderr, "x");
        }
        log.ended(round * 7);
        let (expected, last) = receiver.recv().unwrap();
        assert_eq!(expected, last);
    }

    drop(log);
    writer.finish(false);
    drop(db);
}

#[test]
fn the_log_writer_goes_on_after_lines_that_others_have_added() {
    let (dir, mut db) = fresh();
    let id = queue_one(&db, "install", &[]);
    let path = dir.path().join("left4me.db");
    let (committed, receiver) = std::sync::mpsc::channel();
    let (log, writer) = log::start::<()>(&path, move |()| committed.send(()).unwrap()).unwrap();

    log.note(id, TaskId(1), Stream::Stdout, "of a command");
    log.ended(());
    receiver.recv().unwrap();
    // As the scheduler does while the job runs.
    db.write(|tx| logs::append(tx, id, 1, Stream::Stdout, "of the scheduler"))
        .unwrap();
    log.note(id, TaskId(1), Stream::Stdout, "of the next command");
    drop(log);
    // A writer that cannot write would try again without an end otherwise.
    writer.finish(true);

    let lines = logs::after(db.connection(), id, 0, 9).unwrap();
    let lines: Vec<_> = lines
        .iter()
        .map(|line| (line.seq, line.line.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (1, "of a command"),
            (2, "of the scheduler"),
            (3, "of the next command")
        ]
    );
}

#[test]
fn a_user_without_permission_gets_exit_77() {
    let (dir, db) = fresh();
    drop(db);
    let path = dir.path().join("left4me.db");
    std::fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();

    let (code, words) = if nix::unistd::geteuid().is_root() {
        // Root is always permitted, so another user runs a copy that it can reach.
        let copy = dir.path().join("left4me-job");
        std::fs::copy(JOB, &copy).unwrap();

        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args([&copy, Path::new("list")])
            .env("LEFT4ME_DB", &path)
            .env("LEFT4ME_ENV_FILE", "/dev/null")
            .output()
            .unwrap();

        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    } else {
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000))
            .unwrap();
        list(&path)
    };

    assert_eq!((code, words.lines().count()), (Some(77), 1), "{words}");
    assert!(words.contains("group left4me"), "{words}");
}
