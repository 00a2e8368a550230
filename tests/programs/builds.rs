//! `left4me build`, and schedules of updates with a policy.

use left4me::db::builds;
use left4me::domain::build::Builds;

use crate::support::builds::{asked, kept, publisher, uses};
use crate::support::host::TestHost;

/// Builds 5, 6 (current) and 7 are kept; S1 runs build 6, S2 is stopped on build 5, and S3 runs from
/// before there were builds.
fn host() -> TestHost {
    let host = TestHost::with_servers(3);
    kept(&host, &[5, 6, 7], 6);
    for (server, build) in [(1, Some(6)), (2, Some(5)), (3, None)] {
        uses(&host, server, build);
    }
    host.db()
        .connection()
        .execute_batch(
            "UPDATE servers SET actual_state = 'running';
             UPDATE servers SET actual_state = 'stopped' WHERE id = 2;",
        )
        .unwrap();
    host
}

#[test]
fn builds_are_listed_with_their_servers_and_what_is_known_of_them() {
    let host = host();
    let found = Builds {
        available: 8,
        installed: Some(6),
        ..Builds::default()
    };
    host.db()
        .write(|tx| {
            builds::record(tx, &found, 9)?;
            builds::reject(tx, 7, "left4me-worker", "S1 did not come up", 9)
        })
        .unwrap();

    let listed = host.left4me(&["build", "list"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    let rows: Vec<Vec<&str>> = listed
        .out
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !["", "-"].contains(cell))
                .collect()
        })
        .collect();
    assert_eq!(rows[0][0], "BUILD");
    assert_eq!(rows[1], ["8", "available"]);
    assert_eq!(
        (rows[2][0], *rows[2].last().unwrap()),
        ("7", "rejected by left4me-worker: S1 did not come up")
    );
    assert_eq!(
        (rows[3][0], rows[3][1], *rows[3].last().unwrap()),
        ("6", "yes", "S1")
    );
    assert!(rows[3].contains(&"2.0 GiB"), "{rows:?}");
    assert_eq!((rows[4][0], *rows[4].last().unwrap()), ("5", "S2"));
    assert!(
        listed.err.contains("S3: from before there were builds"),
        "{}",
        listed.err
    );

    let json = host.left4me(&["build", "list", "--json"]).json();
    assert_eq!(json[1]["rejected"]["why"], "S1 did not come up");
    assert_eq!(json[2]["current"], true);
    assert_eq!(json[2]["servers"][0]["running"], true);

    let none = TestHost::new().left4me(&["build", "list"]);
    assert_eq!(none.code, 0);
    assert!(
        none.out.is_empty() && none.err.contains("no build is published yet"),
        "{}",
        none.err
    );
}

#[test]
fn only_a_build_that_nobody_needs_is_removed() {
    let host = host();
    let remove = |build: &str| host.left4me(&["build", "remove", build]);
    remove("6").failed(4, &["build 6 is the current one"]);
    remove("5").failed(
        4,
        &[
            "in use by S2",
            "`left4me-job enqueue initialize --server 2`",
        ],
    );
    remove("4").failed(3, &["build 4 is not kept"]);
    for bad in ["0", "-1", "x", "../5"] {
        assert_eq!(remove(bad).code, 2, "{bad}");
    }

    uses(&host, 2, Some(7));
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET actual_state = 'running' WHERE id = 2")
        .unwrap();
    remove("7").failed(4, &["`left4me-job enqueue restart --server 2`"]);
    assert_eq!(asked(&host), "", "nothing reached the publisher");

    // The publisher does it, or says why it does not.
    remove("5").failed(69, &["publisher.sock"]);
    let refuses = publisher(
        &host,
        "echo '{\"error\":\"the disk is read-only\"}'; echo '{\"exit\":1}'",
    );
    remove("5").failed(1, &["the disk is read-only"]);
    drop(refuses);
    let fails = publisher(
        &host,
        "echo '{\"stderr\":\"builds/5: Input/output error\"}'; echo '{\"exit\":1}'",
    );
    remove("5").failed(1, &["remove failed", "Input/output error"]);
    drop(fails);

    let _publisher = publisher(&host, "echo '{\"exit\":0}'");
    assert_eq!(remove("5").done(), "build 5 is removed\n");
    let (_, events, _) = host.job(&["events"]);
    assert!(events.contains("build.removed"), "{events}");
    assert!(asked(&host).ends_with("{\"verb\":\"remove\",\"build\":5}\n"));
}

#[test]
fn while_a_job_works_on_builds_none_is_removed() {
    let host = host();
    let job = host.enqueue(&["update"]);
    host.db()
        .connection()
        .execute_batch("UPDATE jobs SET state = 'running', started_at = 1, worker_id = 'w'")
        .unwrap();
    let words = format!("job {job} (update) works on the builds");
    host.left4me(&["build", "remove", "7"]).failed(4, &[&words]);
}

#[test]
fn an_update_is_scheduled_with_its_policy() {
    let host = host();
    let add = |args: &[&str]| {
        let all = [&["schedule", "add", "update", "--on", "*-*-* 04:30"], args].concat();
        host.left4me(&all)
    };
    for args in [
        &["--rolling", "4"][..],
        &["--no-restart"],
        &["--when-empty", "--until", "06:00", "--then", "go"],
    ] {
        assert_eq!(add(args).code, 0, "{args:?}");
    }
    add(&["--rolling", "4", "--when-empty"]).failed(2, &["--rolling does not go"]);
    add(&["--no-restart", "--rolling", "4"]).failed(2, &["--no-restart does not go"]);
    host.left4me(&[
        "schedule",
        "add",
        "restart",
        "--all",
        "--on",
        "05:00",
        "--no-restart",
    ])
    .failed(2, &["restart takes no --no-restart"]);

    // Each run asks the same of its job.
    let schedules = host.left4me(&["schedule", "list", "--json"]).json();
    let flags: Vec<bool> = schedules
        .as_array()
        .unwrap()
        .iter()
        .map(|schedule| schedule["no_restart"].as_bool().unwrap())
        .collect();
    assert_eq!(flags, [false, true, false]);
    host.db()
        .connection()
        .execute_batch("UPDATE schedules SET since = 1")
        .unwrap();
    for id in ["1", "2"] {
        let ran = host.left4me(&["schedule", "run", id]);
        assert!(host.job_json(&["list"]).1[0].is_object(), "{}", ran.err);
    }
    let (_, list, _) = host.job(&["list"]);
    assert!(
        list.contains("update (rolling 4)") && list.contains("update (no-restart)"),
        "{list}"
    );
    let shown = host.left4me(&["schedule", "show", "2"]).done();
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("restarts") && line.ends_with("none")),
        "{shown}"
    );
}
