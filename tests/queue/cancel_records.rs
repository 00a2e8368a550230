//! The records of a cancellation with the real programs: the journal's lines, the steps and
//! signals, what could not be cleaned or verified, and what stays unchanged.

use std::path::PathBuf;
use std::process::Child;

use left4me::base::names::JobId;
use left4me::domain::job::JobState;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::host::{TestHost, stop};
use crate::support::{WORKER, alive, ended, marker, until};

/// A helper whose `disable` runs until it is cancelled.
const SLOW_HELPER: &str = r#"#!/bin/bash
read -r request <&3
case $request in
*'"show"'*)
    printf '%s\n' '{"stdout":"ActiveState=active"}' '{"stdout":"SubState=running"}' '{"stdout":"MainPID=77"}' >&3
    printf '{"exit":0,"ended_by":"exit","tree":"empty"}\n' >&3 ;;
*'"disable"'*)
    printf '{"started":{"unit":"left4me-helper@x.service","pid":%d,"cgroup":""}}\n' $$ >&3
    read -r cancel <&3 || exit 0
    printf '{"exit":143,"ended_by":"terminate","tree":"empty"}\n' >&3 ;;
esac
"#;

/// A worker, and the file with its journal.
fn worker(host: &TestHost, env: &[(&str, &str)]) -> (Child, PathBuf) {
    let log_path = host.root.join("worker.log");
    let mut command = host.command(WORKER, &["--idle-seconds", "60"]);
    command
        .envs(env.iter().copied())
        .stderr(std::fs::File::create(&log_path).unwrap());
    (command.spawn().unwrap(), log_path)
}

fn stop_worker(mut worker: Child) {
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

fn has_runner(host: &TestHost, id: JobId, verb: &str) -> bool {
    let job = host.show(id);
    job["runners"]
        .as_array()
        .unwrap()
        .iter()
        .any(|runner| runner["verb"] == verb && runner["pid"].is_i64())
}

/// Server 1 is being stopped, and its instance has a file of an unfinished initialize.
fn stopping(host: &TestHost, env: &[(&str, &str)]) -> (JobId, Child, PathBuf) {
    let id = host.enqueue(&["stop", "--server", "1"]);
    let (worker, log_path) = worker(host, env);
    until("the stop runs", || {
        has_runner(host, id, "disable").then_some(())
    });
    host.root.write("instances/1/layer.new/half", "x");
    (id, worker, log_path)
}

fn journal(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_journal_has_starts_failures_and_each_signal_of_a_cancellation() {
    let host = TestHost::with_servers(1);
    let marker = marker();
    let (mut process, log) = worker(&host, &[]);
    let failed = host.enqueue(&["install"]);

    until("it has failed", || {
        (host.state(failed) == JobState::Failed).then_some(())
    });
    let runner = host.runner(&format!(
        "#!/bin/bash\ntrap '' TERM\nwhile :; do sleep 1; done # {marker}\n"
    ));
    let id = host.enqueue(&["install"]);

    until("the command runs", || {
        has_runner(&host, id, "install").then_some(())
    });
    assert_eq!(
        host.job(&["cancel", &id.to_string(), "--reason", "wrong evening"])
            .0,
        0
    );

    let queued = {
        host.job(&["pause"]);
        let queued = host.enqueue(&["initialize", "--server", "1"]);
        assert_eq!(
            host.job(&["cancel", &queued.to_string(), "--reason", "typo"])
                .0,
            0
        );

        queued
    };

    until("the worker has logged the queued one", || {
        journal(&log)
            .contains(&format!("job {queued} was cancelled before execution by"))
            .then_some(())
    });

    let text = journal(&log);
    let line = |part: String| {
        let found: Vec<&str> = text.lines().filter(|line| line.contains(&part)).collect();
        assert_eq!(found.len(), 1, "{part}: {text}");
        found[0].to_owned()
    };

    assert!(line(format!("job {failed} started: install, for ")).contains("INFO"));

    let failure = line(format!("job {failed} failed: "));
    assert!(
        failure.contains("WARN") && failure.contains("runner.sock"),
        "{failure}"
    );

    let begun = line(format!("cancelling job {id} by "));
    for part in [
        ": wrong evening",
        "previous_state=\"running\"",
        "force=false",
        "cancellation_id=1",
    ] {
        assert!(begun.contains(part), "{part}: {begun}");
    }

    let asked = line("SIGTERM to".to_owned());
    assert!(
        asked.contains("WARN")
            && asked.contains("outcome=\"ignored\"")
            && asked.contains("duration_ms=1000"),
        "{asked}"
    );

    assert!(line("SIGKILL to".to_owned()).contains("outcome=\"ended\""));
    assert!(line(format!("job {queued} was cancelled before")).contains(": typo"));

    let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
    assert_eq!(
        (
            &status["timed_out"],
            &status["escalated_at"],
            &status["force_used"]
        ),
        (&json!(true), &json!(null), &json!(false))
    );

    stop(&process, Signal::SIGTERM);
    assert_eq!(ended(&mut process), 0);
    drop(runner);
}

#[test]
fn the_next_worker_logs_a_cancelled_queued_job_once() {
    let host = TestHost::with_servers(1);
    let id = host.enqueue(&["start", "--server", "1"]);
    assert_eq!(
        host.job(&["cancel", &id.to_string(), "--reason", "typo"]).0,
        0
    );

    let (process, log) = worker(&host, &[]);
    let needle = format!("job {id} was cancelled before execution by");
    until("it is logged", || {
        journal(&log).contains(&needle).then_some(())
    });
    assert!(
        journal(&log).contains("previous_state=\"queued\""),
        "{}",
        journal(&log)
    );

    stop_worker(process);
    let (process, log) = worker(&host, &[]);
    let next = host.enqueue(&["initialize", "--server", "1"]);

    until("the next worker has worked", || {
        (host.state(next) == JobState::Succeeded).then_some(())
    });
    assert!(!journal(&log).contains(&needle), "{}", journal(&log));
    stop_worker(process);
}

#[test]
fn a_failed_cleanup_reports_its_attempts_and_what_is_left() {
    let host = TestHost::with_servers(1);
    let _helper = host.helper(SLOW_HELPER);
    let (id, process, log) = stopping(&host, &[("LEFT4ME_CLEAN_RETRY_SECONDS", "0.05,0.1")]);
    let files = std::fs::File::open(host.root.join("instances/1")).unwrap();
    let lock = Flock::lock(files, FlockArg::LockExclusive).unwrap();
    let (code, out, err) = host.job(&["cancel", &id.to_string()]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        err.contains("after 3 tries: ") && err.contains("server 1"),
        "{err}"
    );

    assert!(out.contains("FAILED: after 3 tries"), "{out}");
    assert!(
        out.contains("(disable of task") && out.contains("ended by SIGTERM"),
        "the command, too: {out}"
    );

    drop(lock);
    let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
    assert_eq!(
        (&status["cancellation_state"], &status["steps"][4]["state"]),
        (&json!("failed"), &json!("failed"))
    );

    assert_eq!(
        status["steps"][5]["ok"], true,
        "the verification succeeded: {status}"
    );

    assert_eq!(
        journal(&log)
            .matches("cleaning failed, next try in")
            .count(),
        2,
        "{}",
        journal(&log)
    );

    assert!(host.root.join("instances/1/layer.new/half").exists());

    stop_worker(process);
}

#[test]
fn a_cleanup_that_succeeds_at_a_later_attempt_says_so() {
    let host = TestHost::with_servers(1);
    let _helper = host.helper(SLOW_HELPER);
    let (id, process, log) = stopping(&host, &[("LEFT4ME_CLEAN_RETRY_SECONDS", "0.05,0.05,4,4")]);
    let files = std::fs::File::open(host.root.join("instances/1")).unwrap();
    let lock = Flock::lock(files, FlockArg::LockExclusive).unwrap();
    assert_eq!(host.job(&["cancel", &id.to_string(), "--no-wait"]).0, 0);

    until("three tries have failed", || {
        (journal(&log).matches("cleaning failed").count() == 3).then_some(())
    });
    // While the cancellation runs, it shows also the steps that have not begun.
    let (_, out, _) = host.job(&["cancel-status", &id.to_string()]);
    assert!(out.contains("clean") && out.contains("running"), "{out}");

    let pending: Vec<&str> = out
        .lines()
        .filter(|line| line.ends_with("pending"))
        .collect();
    assert_eq!(
        pending
            .iter()
            .map(|line| line.split_whitespace().next().unwrap())
            .collect::<Vec<_>>(),
        ["verify", "finish"]
    );

    let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
    let states: Vec<&str> = status["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states,
        [
            "succeeded",
            "succeeded",
            "succeeded",
            "succeeded",
            "running",
            "pending",
            "pending"
        ]
    );

    assert!(status["steps"][6]["started_at"].is_null(), "{status}");

    drop(lock);
    until("it is cancelled", || {
        (host.state(id) == JobState::Cancelled).then_some(())
    });
    let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
    assert_eq!(
        (&status["success"], &status["steps"][4]["detail"]),
        (
            &json!(true),
            &json!("1 temporary file removed, after 4 tries")
        )
    );

    assert!(!host.root.join("instances/1/layer.new").exists());

    stop_worker(process);
}

#[test]
fn a_bad_pause_is_an_error_that_names_the_setting() {
    let host = TestHost::new();
    let output = host
        .command(WORKER, &[])
        .env("LEFT4ME_CLEAN_RETRY_SECONDS", "soon")
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (
            output.status.code(),
            err.contains("LEFT4ME_CLEAN_RETRY_SECONDS")
        ),
        (Some(2), true),
        "{err}"
    );
}

/// Two servers are being stopped; the command of the second one neither answers nor ends.
#[test]
fn the_record_says_which_commands_ended_and_which_are_unknown() {
    let host = TestHost::with_servers(2);
    let mute = SLOW_HELPER.replace(
        "read -r cancel <&3 || exit 0",
        "case $request in *'\"2\"'*) exec sleep 60 ;; esac\n    read -r cancel <&3 || exit 0",
    );

    let _helper = host.helper(&mute);
    let id = host.enqueue(&["stop", "--server", "1", "--server", "2"]);
    let (process, _) = worker(&host, &[]);

    until("both are being stopped", || {
        let job = host.show(id);
        let asked = job["runners"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["verb"] == "disable" && one["pid"].is_i64());
        (asked.count() == 2).then_some(())
    });

    let (code, out, err) = host.job(&["cancel", &id.to_string(), "--force"]);
    assert_eq!(code, 1, "{out}{err}");

    let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
    let detail = |step: usize| status["steps"][step]["detail"].as_str().unwrap();
    assert!(
        detail(2).starts_with("1 of 2 commands ended; ")
            && detail(2).contains("did not say how it ended"),
        "{status}"
    );

    assert!(
        detail(5).contains("cannot tell whether a process of")
            && !detail(5).contains("no process is left"),
        "{status}"
    );

    assert_eq!(status["steps"][5]["ok"], false);

    let ends: Vec<&str> = status["runners_terminated"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["ended_by"].as_str().unwrap())
        .collect();
    assert_eq!(
        (ends.contains(&"terminate"), ends.contains(&"lost")),
        (true, true),
        "{status}"
    );

    assert!(
        out.contains("ended by SIGTERM") && out.contains("): did not say how it ended"),
        "{out}"
    );

    stop_worker(process);
}

#[test]
fn a_failed_task_sets_the_servers_last_error_and_a_success_clears_it() {
    let host = TestHost::with_servers(1);
    let error = || {
        let db = host.db();
        db.connection()
            .query_row("SELECT last_error FROM servers", [], |row| {
                row.get::<_, Option<String>>(0)
            })
            .unwrap()
    };

    // No helper: the stop fails.
    let id = host.enqueue(&["stop", "--server", "1"]);
    host.drain();
    assert_eq!(host.state(id), JobState::Failed);
    assert!(
        error().is_some_and(|error| error.contains("helper.sock")),
        "{:?}",
        error()
    );

    let cancelled = host.enqueue(&["initialize", "--server", "1"]);
    assert_eq!(host.job(&["cancel", &cancelled.to_string()]).0, 0);
    assert!(error().is_some(), "a cancelled job changes nothing");

    host.enqueue(&["initialize", "--server", "1"]);
    host.drain();
    assert_eq!(error(), None);
}

#[test]
fn a_task_that_panics_fails_its_job_and_the_queue_goes_on() {
    let host = TestHost::with_servers(1);
    let id = host.enqueue(&["initialize", "--server", "1"]);
    let (process, log) = worker(&host, &[("LEFT4ME_FAILPOINT", "task.panics")]);

    until("it has failed", || {
        (host.state(id) == JobState::Failed).then_some(())
    });
    let job = host.show(id);
    assert!(
        job["error"]
            .as_str()
            .unwrap()
            .contains("internal error (a panic)"),
        "{job}"
    );

    assert_eq!(job["exit_code"], 1);
    assert!(
        journal(&log).contains(&format!("job {id} failed: internal error (a panic)")),
        "{}",
        journal(&log)
    );

    let next = host.enqueue(&["initialize", "--server", "1"]);
    until("the same worker takes the next job", || {
        host.state(next).is_terminal().then_some(())
    });
    stop_worker(process);
    host.enqueue(&["initialize", "--server", "1"]);
    host.drain();
    assert!(
        host.root.join("instances/1/instance.env").exists(),
        "its files are not locked"
    );
}

#[test]
fn a_cancelled_install_keeps_finished_files_and_partial_downloads() {
    let host = TestHost::with_servers(1);
    host.enqueue(&["initialize", "--server", "1"]);
    host.drain();
    let kept = ["instances/1/instance.env", "instances/1/layer"].map(|path| host.root.join(path));
    assert!(kept.iter().all(|path| path.exists()));

    let before = std::fs::read(&kept[0]).unwrap();
    host.root
        .write("installation/steamapps/downloading/222860/half.vpk", "half");
    let marker = marker();
    let _runner = host.runner(&format!("#!/bin/bash\nexec -a steamcmd sleep {marker}\n"));
    let id = host.enqueue(&["install"]);
    let (process, _) = worker(&host, &[]);

    until("the command runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    assert_eq!(host.job(&["cancel", &id.to_string()]).0, 0);
    assert_eq!(std::fs::read(&kept[0]).unwrap(), before);
    assert!(kept[1].is_dir());

    let half = std::fs::read_to_string(
        host.root
            .join("installation/steamapps/downloading/222860/half.vpk"),
    );

    assert_eq!(half.unwrap(), "half");
    stop_worker(process);
}
