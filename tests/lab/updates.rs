//! Updates that ask first: with nothing new no player notices, and without an answer neither.

use std::time::Instant;

use crate::lab::{Lab, s, wait_until};
use crate::site::Job;

const SERVERS: [&str; 3] = ["one", "two", "three"];

pub fn an_update_asks_first_and_stops_nothing_for_nothing(lab: &Lab) {
    lab.set("LEFT4ME_STEAM_RETRY_SECONDS=0");
    lab.steamcmd("buildid=100");
    lab.describe(&SERVERS);
    lab.job(&["install"]);
    for name in SERVERS {
        lab.job(&["start", "--server", name]);
    }
    lab.ok(&[
        "left4me",
        "alert",
        "add",
        "ops",
        "--mail",
        "ops@example.org",
        "--events",
        "update",
    ]);

    an_update_with_nothing_new_is_over_at_once(lab);
    a_check_says_what_is_new_and_players_stay(lab);
    without_an_answer_nothing_is_stopped(lab);
    something_new_restarts_each_server_once(lab);
    the_files_are_repaired_on_request(lab);
    an_interrupted_update_is_mended_by_the_next(lab);
}

fn pids(lab: &Lab) -> Vec<String> {
    (1..=3).map(|id| lab.main_pid(id)).collect()
}

/// The job's result, as `left4me-job show` has it.
fn result(lab: &Lab, job: &Job) -> String {
    let shown = lab.json(&["left4me-job", "show", &job.id.to_string(), "--json"]);
    shown["result"].as_str().unwrap_or_default().to_owned()
}

/// The doctor's words about the build.
fn doctor(lab: &Lab) -> String {
    let said = lab.run(&["left4me", "doctor"]).stdout;
    let about = said.lines().filter(|line| line.contains("game build"));
    about.collect()
}

fn an_update_with_nothing_new_is_over_at_once(lab: &Lab) {
    let before = pids(lab);
    let start = Instant::now();
    let job = lab.job(&["update"]);
    assert!(start.elapsed() < s(20), "{:?}", start.elapsed());
    assert_eq!(result(lab, &job), "build 100 is current: nothing to do");
    assert_eq!(pids(lab), before, "no server was restarted");
    for (id, name) in (1..).zip(SERVERS) {
        lab.runs(id, name);
    }

    // The nightly timer does the same.
    let count = lab.job_count();
    lab.ok(&["systemctl", "start", "left4me-update.service"]);
    let nightly = job.id + 1;
    assert_eq!(lab.job_count(), count + 1);
    let nightly = lab.ended(nightly, 60);
    assert_eq!(result(lab, &nightly), "build 100 is current: nothing to do");
    assert_eq!(pids(lab), before);
    assert!(
        doctor(lab).contains("build 100 is current"),
        "{}",
        doctor(lab)
    );
}

fn a_check_says_what_is_new_and_players_stay(lab: &Lab) {
    let before = pids(lab);
    for (behaviour, words) in [
        ("buildid=100", "build 100 is current"),
        ("buildid=100 info=old", "build 100 is current"),
        (
            "buildid=101 info=old",
            "build 101 is available (installed: 100)",
        ),
        (
            "buildid=101 info=long",
            "build 101 is available (installed: 100)",
        ),
        // Another session is asked.
        (
            "buildid=101 info=lone",
            "build 101 is available (installed: 100)",
        ),
    ] {
        lab.steamcmd(behaviour);
        let job = lab.job(&["check"]);
        let found = result(lab, &job);
        assert!(found.starts_with(words), "{behaviour}: {found}");
        assert!(found.contains(", published 2025-11-19 "), "{found}");
        let log = lab.log(job.id);
        assert!(log.len() < 200, "{behaviour}: {} lines", log.len());
    }
    assert_eq!(pids(lab), before);

    assert!(
        doctor(lab).contains("build 101 is available (installed: 100), known since 20"),
        "{}",
        doctor(lab)
    );
    let told = lab.sh(
        "sqlite3 /var/lib/left4me/db/left4me.db \"SELECT count(*) FROM alert_outbox o
         JOIN events e ON e.id = o.event_id WHERE e.kind = 'update.available'\"",
    );
    assert_eq!(told, "1", "once for each new build");
}

fn without_an_answer_nothing_is_stopped(lab: &Lab) {
    let before = pids(lab);
    for (behaviour, words) in [
        ("fatal=offline", &["Steam cannot be reached", "network"][..]),
        ("login=connection", &["Steam cannot be reached", "network"]),
        ("login=limit", &["too many logins", "half an hour"]),
        ("user_info=timeout", &["did not answer in time"]),
        ("appinfo=timeout", &["did not answer in time"]),
        ("fatal=space", &["the disk is full", "MiB free"]),
        ("info=nothing", &["did not say which build"]),
        ("info=broken", &["did not say which build"]),
        ("info=no_branch", &["public branch", "update --validate"]),
    ] {
        lab.steamcmd(behaviour);
        lab.failing_job(&["update"], words);
        assert_eq!(pids(lab), before, "{behaviour}");
    }

    let job = lab.failing_job(&["update"], &["public branch"]);
    let shown = lab.ok(&["left4me-job", "show", &job.id.to_string()]);
    assert!(!shown.contains(" stop "), "{shown}");
    for (id, name) in (1..).zip(SERVERS) {
        lab.runs(id, name);
    }
}

fn something_new_restarts_each_server_once(lab: &Lab) {
    let before = pids(lab);
    lab.steamcmd("buildid=101");
    let job = lab.job(&["update"]);
    lab.logged(
        job.id,
        "stdout",
        &["build 101 is available (installed: 100)"],
    );
    lab.logged(job.id, "stdout", &["fully installed"]);
    for (id, name) in (1..).zip(SERVERS) {
        lab.runs(id, name);
        lab.answers(name);
    }
    assert!(pids(lab).iter().zip(&before).all(|(now, then)| now != then));

    let job = lab.job(&["check"]);
    assert!(result(lab, &job).starts_with("build 101 is current"));
    assert!(
        doctor(lab).contains("build 101 is current"),
        "{}",
        doctor(lab)
    );
}

fn the_files_are_repaired_on_request(lab: &Lab) {
    let before = pids(lab);
    let job = lab.job(&["update", "--validate"]);
    lab.logged(job.id, "stdout", &["fully installed"]);
    assert_eq!(pids(lab), before, "nothing was damaged");

    let file = "/var/lib/left4me/builds/101/bin/engine_srv.so";
    lab.sh(&format!("echo damaged >{file}"));
    lab.job(&["update", "--validate"]);
    assert!(
        !lab.sh(&format!("cat {file} | tr -d '\\0'"))
            .contains("damaged")
    );
    assert!(pids(lab).iter().zip(&before).all(|(now, then)| now != then));
    for (id, name) in (1..).zip(SERVERS) {
        lab.runs(id, name);
    }
}

/// The worker dies during the download: no server notices.
fn an_interrupted_update_is_mended_by_the_next(lab: &Lab) {
    lab.steamcmd("buildid=101 available=102 hang=1");
    let job = lab.enqueue(&["update"]);
    wait_until("steamcmd downloads", s(60), || {
        lab.log(job)
            .iter()
            .any(|line| line.line.contains("0x101) committing"))
    });
    lab.ok(&["kill", "-9", &lab.unit("left4me-worker.service", "MainPID")]);
    assert_eq!(lab.ended(job, 60).state, "failed");

    lab.steamcmd("buildid=101");
    let job = lab.job(&["update"]);
    assert_eq!(result(lab, &job), "build 101 is current: nothing to do");
    for (id, name) in (1..).zip(SERVERS) {
        lab.runs(id, name);
    }
}
