//! `left4me prune`: what it removes by the settings or by an age, and what it never touches.

use left4me::base::clock;
use left4me::domain::retention::DAY;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::host::TestHost;

const LONG_AGO: i64 = 1_000_000_000_000;

fn sql(host: &TestHost, sql: &str) {
    host.db().connection().execute_batch(sql).unwrap();
}

fn count(host: &TestHost, sql: &str) -> i64 {
    let connection = Connection::open(host.database()).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A host with server S1, and without events.
fn fresh() -> TestHost {
    let host = TestHost::with_servers(1);
    sql(&host, "DELETE FROM events");
    host
}

/// The report of `left4me prune` with these arguments, without the size of the file.
fn prune(host: &TestHost, args: &[&str]) -> Value {
    let args = [&["prune", "--json"], args].concat();
    let mut report = host.left4me(&args).json();
    for size in ["file_bytes", "returned_bytes"] {
        assert!(report[size].is_i64(), "{report}");
        report.as_object_mut().unwrap().remove(size);
    }

    report
}

/// The report of a run that removed nothing.
fn nothing() -> Value {
    json!({"jobs": 0, "log_lines": 0, "log_bytes": 0, "events": 0, "sessions": 0, "oldest": null})
}

/// Job 1 ended long ago with 2500 lines, job 2 just now; job 3, as old as job 1, still runs.
fn with_jobs() -> TestHost {
    let host = fresh();
    let now = clock::now_ms();
    sql(
        &host,
        &format!(
            "INSERT INTO jobs (operation, state, requested_by, created_at, updated_at, started_at,
             finished_at, exit_code, worker_id)
         VALUES ('stop', 'succeeded', 'x', {LONG_AGO}, 1, {LONG_AGO}, {LONG_AGO}, 0, 'w'),
             ('stop', 'failed', 'x', {now}, 1, {now}, {now}, 1, 'w'),
             ('stop', 'running', 'x', {LONG_AGO}, 1, {LONG_AGO}, NULL, NULL, 'w');
         INSERT INTO job_targets VALUES (1, 7), (2, 7), (3, 7);
         INSERT INTO tasks (job_id, position, kind, state, started_at, finished_at)
         VALUES (1, 0, 'stop', 'succeeded', 1, 1), (1, 1, 'stop', 'succeeded', 1, 1),
             (2, 0, 'stop', 'failed', 1, 1);
         INSERT INTO task_dependencies VALUES (2, 1, 'success');
         INSERT INTO runners (task_id, verb, started_at, ended_at, ended_by)
         VALUES (1, 'disable', 1, 1, 'exit');
         INSERT INTO cancellations (job_id, task_id, requested_by, previous_state, state,
             created_at, finished_at)
         VALUES (1, 2, 'x', 'running', 'completed', 1, 1);
         INSERT INTO job_logs (job_id, seq, at, stream, line) WITH RECURSIVE n(i) AS (SELECT 1
         UNION ALL SELECT i + 1 FROM n WHERE i < 2500) SELECT 1, i, 1, 'stdout', 'x' FROM n
         UNION ALL SELECT 2, i, 1, 'stdout', 'x' FROM n WHERE i < 4
         UNION ALL SELECT 3, i, 1, 'stdout', 'x' FROM n WHERE i < 4;
         INSERT INTO sessions (user_id, hash, created_at, last_seen_at, expires_at)
         VALUES (1, zeroblob(32), 1, 1, 5), (1, randomblob(32), 1, 1, {now})"
        ),
    );

    host
}

#[test]
fn pruning_removes_only_jobs_that_ended_long_ago() {
    let host = with_jobs();
    let dry = prune(&host, &["--older-than", "30", "--dry-run"]);
    assert_eq!(
        dry,
        json!({"jobs": 1, "log_lines": 2500, "log_bytes": 2500 * 33, "events": 0,
            "sessions": 1, "oldest": LONG_AGO})
    );
    assert_eq!(
        count(&host, "SELECT count(*) FROM jobs"),
        3,
        "a dry run removes nothing"
    );

    assert_eq!(prune(&host, &["--older-than", "30"]), dry);

    assert_eq!(
        count(&host, "SELECT count(*) FROM jobs WHERE id IN (2, 3)"),
        2
    );

    assert_eq!(count(&host, "SELECT count(*) FROM job_logs"), 6);

    for table in ["runners", "task_dependencies", "cancellations"] {
        assert_eq!(
            count(&host, &format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }

    assert_eq!(count(&host, "SELECT count(*) FROM tasks"), 1);
    assert_eq!(
        count(&host, "SELECT count(*) FROM pragma_foreign_key_check"),
        0
    );

    assert_eq!(prune(&host, &["--older-than", "30"]), nothing());
}

#[test]
fn many_small_jobs_and_one_with_many_tasks_are_pruned() {
    let host = fresh();
    sql(
        &host,
        &format!(
            "INSERT INTO jobs (operation, state, requested_by, created_at, updated_at, started_at,
             finished_at, exit_code, worker_id) WITH RECURSIVE n(i) AS (SELECT 1
         UNION ALL SELECT i + 1 FROM n
         WHERE i < 1200) SELECT 'stop', 'succeeded', 'x', {LONG_AGO}, 1, {LONG_AGO}, {LONG_AGO},
             0, 'w' FROM n;
         INSERT INTO job_logs (job_id, seq, at, stream, line) SELECT id, 1, 1, 'stdout', 'x'
         FROM jobs;
         INSERT INTO tasks (job_id, position, kind, state, started_at, finished_at) SELECT 700,
             id, 'stop', 'succeeded', 1, 1 FROM jobs;
         INSERT INTO cancellations (job_id, requested_by, previous_state, state, created_at,
             finished_at) SELECT id, 'x', 'running', 'completed', 1, 1 FROM jobs;
         INSERT INTO cancellation_steps (cancellation_id, step, started_at) SELECT id, 'block', 1
         FROM cancellations;
         INSERT INTO cancellation_tasks (cancellation_id, task_id, previous_state) SELECT 700,
             id, 'running' FROM tasks;
         INSERT INTO runners (task_id, verb, started_at, ended_at, ended_by,
             cancellation_id) SELECT id, 'disable', 1, 1, 'kill', 700 FROM tasks"
        ),
    );

    let pruned = prune(&host, &["--older-than", "1"]);
    assert_eq!(
        pruned,
        json!({"jobs": 1200, "log_lines": 1200, "log_bytes": 1200 * 33, "events": 0,
            "sessions": 0, "oldest": LONG_AGO})
    );

    let tables = [
        "jobs",
        "tasks",
        "job_logs",
        "runners",
        "cancellations",
        "cancellation_steps",
        "cancellation_tasks",
    ];

    for table in tables {
        assert_eq!(
            count(&host, &format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
}

#[test]
fn pruning_logs_keeps_the_jobs() {
    let host = with_jobs();
    assert!(
        host.left4me(&["prune", "--older-than", "30", "--logs-only"])
            .done()
            .contains("2500 log lines")
    );

    assert_eq!(
        (
            count(&host, "SELECT count(*) FROM jobs"),
            count(&host, "SELECT count(*) FROM job_logs")
        ),
        (3, 6)
    );

    for bad in [
        &["prune", "--older-than", "0"][..],
        &["prune", "--older-than", "-1"],
        &["prune", "--older-than", "x"],
    ] {
        host.left4me(bad).refused(2, &["--older-than"]);
    }
}

/// A finished job of this age in days, with lines of about a kibibyte.
fn finished(host: &TestHost, days: i64, lines: i64) {
    let at = clock::now_ms() - days * DAY;
    sql(
        host,
        &format!(
            "INSERT INTO jobs (operation, state, requested_by, created_at, updated_at, started_at,
                 finished_at, exit_code, worker_id)
             VALUES ('stop', 'succeeded', 'x', {at}, 1, {at}, {at}, 0, 'w');
             INSERT INTO tasks (job_id, position, kind, state, started_at, finished_at)
             SELECT max(id), 0, 'stop', 'succeeded', 1, 1 FROM jobs;
             INSERT INTO events (at, kind, actor, job_id)
             SELECT {at}, 'job.succeeded', 'x', max(id) FROM jobs;
             INSERT INTO job_logs (job_id, seq, at, stream, line)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {lines})
             SELECT (SELECT max(id) FROM jobs), i, 1, 'stdout', hex(zeroblob(480)) FROM n"
        ),
    );
}

#[test]
fn by_the_settings_logs_go_first_then_jobs_and_events() {
    let host = fresh();
    for days in [400, 200, 100, 80, 1] {
        finished(&host, days, 3);
    }

    let dry = prune(&host, &["--dry-run"]);
    assert_eq!(
        (&dry["jobs"], &dry["log_lines"], &dry["events"]),
        (&json!(1), &json!(9), &json!(1)),
        "{dry}"
    );
    assert!(dry["oldest"].as_i64().unwrap() < clock::now_ms() - 399 * DAY);
    assert_eq!(count(&host, "SELECT count(*) FROM job_logs"), 15);

    assert_eq!(prune(&host, &[]), dry, "a dry run says what a run does");
    assert_eq!(count(&host, "SELECT min(id) FROM jobs"), 2);
    assert_eq!(count(&host, "SELECT min(job_id) FROM job_logs"), 4);
    assert_eq!(count(&host, "SELECT min(job_id) FROM events"), 2);
    assert_eq!(prune(&host, &[]), nothing());

    let later = |name: &str, value: &str| {
        let mut command = host.command(crate::support::LEFT4ME, &["prune"]);
        let done = command.env(name, value).output().unwrap();
        crate::support::Finished::from(done).done()
    };

    later("LEFT4ME_KEEP_EVENTS_DAYS", "90");
    assert_eq!(count(&host, "SELECT min(job_id) FROM events"), 4);
    later("LEFT4ME_KEEP_JOBS_DAYS", "90");
    assert_eq!(count(&host, "SELECT min(id) FROM jobs"), 4);
    later("LEFT4ME_KEEP_LOGS_DAYS", "2");
    assert_eq!(count(&host, "SELECT min(job_id) FROM job_logs"), 5);
}

#[test]
fn zero_keeps_all_and_a_bad_value_names_its_setting() {
    let host = fresh();
    finished(&host, 4000, 3);
    let keep = [
        "--keep-jobs-days=0",
        "--keep-logs-days=0",
        "--keep-logs-mib=0",
        "--keep-events-days=0",
    ];
    assert_eq!(prune(&host, &keep), nothing());

    let mut command = host.command(crate::support::LEFT4ME, &["prune"]);
    let bad = command
        .env("LEFT4ME_KEEP_LOGS_MIB", "2GB")
        .output()
        .unwrap();
    crate::support::Finished::from(bad).refused(2, &["LEFT4ME_KEEP_LOGS_MIB", "whole number"]);
}

#[test]
fn the_oldest_logs_go_beyond_a_size_but_not_those_of_the_last_day() {
    let host = fresh();
    for (days, lines) in [(5, 500), (4, 500), (3, 500), (2, 500), (0, 800), (0, 800)] {
        finished(&host, days, lines);
    }

    // Those of today have 1.5 MiB, each other one half a MiB.
    assert_eq!(prune(&host, &["--keep-logs-mib", "4"]), nothing());
    let removed = prune(&host, &["--keep-logs-mib", "2"]);
    assert_eq!(removed["log_lines"], 1500, "{removed}");
    assert_eq!(count(&host, "SELECT min(job_id) FROM job_logs"), 4);

    let removed = prune(&host, &["--keep-logs-mib", "1"]);
    assert_eq!(removed["log_lines"], 500, "{removed}");
    assert_eq!(
        count(&host, "SELECT count(DISTINCT job_id) FROM job_logs"),
        2
    );
    assert_eq!(count(&host, "SELECT count(*) FROM jobs"), 6, "jobs stay");
}

#[test]
fn what_a_process_or_a_record_still_needs_is_never_removed() {
    let host = fresh();
    for _ in 0..6 {
        finished(&host, 4000, 1);
    }

    sql(
        &host,
        "INSERT INTO runners (task_id, verb, started_at, ended_at, ended_by, tree)
         VALUES (1, 'disable', 1, 1, 'kill', 'left'), (2, 'disable', 1, NULL, NULL, NULL),
             (3, 'disable', 1, 1, 'kill', 'empty');
         INSERT INTO cancellations (job_id, requested_by, previous_state, state, created_at,
             finished_at, for_journal)
         VALUES (4, 'x', 'queued', 'completed', 1, 1, 1),
             (5, 'x', 'running', 'running', 1, NULL, 0);
         INSERT INTO jobs (operation, state, requested_by, created_at, updated_at, started_at,
             worker_id)
         VALUES ('stop', 'running', 'x', 1, 1, 1, 'w'), ('stop', 'queued', 'x', 1, 1, NULL, NULL);
         INSERT INTO events (at, kind, actor, job_id) VALUES (1, 'job.queued', 'x', 8);
         INSERT INTO events (at, kind, actor) VALUES (2, 'queue.paused', 'x');",
    );

    for args in [&[][..], &["--older-than", "1"]] {
        prune(&host, args);
    }

    let ids = "SELECT group_concat(id) FROM (SELECT id FROM jobs ORDER BY id)";
    let connection = Connection::open(host.database()).unwrap();
    let left: String = connection.query_row(ids, [], |row| row.get(0)).unwrap();
    assert_eq!(left, "1,2,4,5,7,8");
    assert_eq!(
        count(&host, "SELECT count(*) FROM events"),
        2,
        "that of the queued job, and the newest, from which followers count on"
    );
}

/// Dates are out of order after the clock was set, and where a person wrote rows by hand.
#[test]
fn old_rows_behind_many_young_ones_are_found_once_a_week() {
    let host = fresh();
    let now = clock::now_ms();
    let add = |count: i64, at: i64| {
        sql(
            &host,
            &format!(
                "INSERT INTO jobs (operation, state, requested_by, created_at, updated_at,
                     started_at, finished_at, exit_code, worker_id)
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
                 SELECT 'stop', 'succeeded', 'x', {at}, 1, {at}, {at}, 0, 'w' FROM n;
                 INSERT INTO events (at, kind, actor) SELECT {at}, 'x', 'x' FROM jobs
                 WHERE created_at = {at}"
            ),
        );
    };

    add(1500, now);
    add(3, LONG_AGO);
    finished(&host, 1, 1);
    let first = prune(&host, &[]);
    assert_eq!(
        (&first["jobs"], &first["events"]),
        (&json!(3), &json!(3)),
        "{first}"
    );

    add(3, LONG_AGO);
    finished(&host, 1, 1);
    let week = "UPDATE poll SET pruned_at = pruned_at";
    sql(&host, &format!("{week} - 7 * {DAY}"));
    assert_eq!(prune(&host, &["--dry-run"])["jobs"], 3);
    sql(&host, &format!("{week} + 7 * {DAY}"));
    assert_eq!(prune(&host, &[])["jobs"], 0);
    assert_eq!(prune(&host, &["--older-than", "30"])["jobs"], 3);
}

#[test]
fn a_clock_that_is_years_ahead_removes_a_week_at_most() {
    let host = fresh();
    for days in (0..90).step_by(10) {
        finished(&host, 85 - days, 1);
    }
    prune(&host, &[]);
    assert_eq!(count(&host, "SELECT count(*) FROM job_logs"), 9);

    // As if the clock had been right when it ran before, and were ten years ahead now.
    let years = 3650 * DAY;
    for (table, column) in [("poll", "pruned_at"), ("jobs", "created_at")] {
        sql(
            &host,
            &format!("UPDATE {table} SET {column} = {column} - {years}"),
        );
    }
    sql(
        &host,
        &format!("UPDATE jobs SET finished_at = finished_at - {years}"),
    );
    let removed = prune(&host, &[]);
    assert_eq!(
        (&removed["jobs"], &removed["log_lines"]),
        (&json!(0), &json!(1)),
        "{removed}"
    );

    // An age on the command line means the clock of now.
    assert_eq!(prune(&host, &["--older-than", "30"])["jobs"], 9);
}

#[test]
fn the_file_of_an_older_version_is_rewritten_once_and_shrinks_from_then_on() {
    let host = fresh();
    for _ in 0..2 {
        finished(&host, 4000, 12_000);
    }

    // An older version's file has no free pages that could be returned.
    let connection = Connection::open(host.database()).unwrap();
    connection
        .execute_batch("PRAGMA auto_vacuum = NONE; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let mode = || count(&host, "PRAGMA auto_vacuum");
    assert_eq!(mode(), 0);

    let size = || host.database().metadata().unwrap().len();
    let before = size();
    let said = host.left4me(&["prune"]).done();
    assert!(said.contains("less than before"), "{said}");
    assert_eq!(mode(), 2);
    assert!(size() < before / 5, "{before} to {}", size());

    finished(&host, 4000, 12_000);
    host.left4me(&["prune"]).done();
    assert!(
        size() < before / 3,
        "its free pages but for some are returned"
    );

    finished(&host, 4000, 12_000);
    host.left4me(&["prune", "--older-than", "30", "--vacuum"])
        .done();
    assert!(size() < 1 << 20, "{}", size());
    host.left4me(&["prune", "--vacuum", "--dry-run"])
        .refused(2, &["--dry-run"]);
}

#[test]
fn jobs_are_accepted_and_end_while_a_long_history_is_removed() {
    let host = fresh();
    for _ in 0..20 {
        finished(&host, 4000, 2000);
    }

    let mut pruning = host
        .command(crate::support::LEFT4ME, &["prune"])
        .spawn()
        .unwrap();
    let mut accepted = 0;
    while pruning.try_wait().unwrap().is_none() || accepted < 3 {
        host.enqueue(&["stop", "--server", "S1"]);
        accepted += 1;
    }

    assert!(pruning.wait().unwrap().success());
    assert_eq!(
        count(&host, "SELECT count(*) FROM jobs WHERE state = 'queued'"),
        accepted
    );
    assert_eq!(count(&host, "SELECT count(*) FROM job_logs"), 0);
}
