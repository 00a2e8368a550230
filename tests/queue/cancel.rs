//! Cancellation with the real programs: requester and reason, each step, and what is left.
//! tests/lab/cancel.rs tests it with the kernel and systemd.

use std::process::Child;
use std::time::{Duration, Instant};

use left4me::base::names::JobId;
use left4me::cancel::{self, CancelRequest};
use left4me::db::{Db, cancellations, jobs};
use left4me::domain::job::JobState;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::host::{TestHost, stop};
use crate::support::{WORKER, alive, ended, marker, until};

const STEPS: [&str; 7] = [
    "block",
    "identify",
    "terminate",
    "settle",
    "clean",
    "verify",
    "finish",
];

/// The points at which a test kills the worker (LEFT4ME_FAILPOINT), in order.
const FAILPOINTS: [&str; 12] = [
    "cancel.found",
    "cancel.blocked",
    "cancel.identified",
    "cancel.signalled",
    "cancel.ended",
    "cancel.settling",
    "cancel.settled",
    "cancel.cleaning",
    "cancel.cleaned",
    "cancel.verified",
    "cancel.finishing",
    "cancel.finished",
];

/// The points of a worker that finishes what a dead one left.
const RECOVERING: [&str; 5] = [
    "cancel.recovering",
    "cancel.found",
    "cancel.settling",
    "cancel.finishing",
    "cancel.recovered",
];

/// A helper whose `disable` and `enable` run until they are cancelled, and a second longer.
const SLOW_HELPER: &str = r#"#!/bin/bash
read -r request <&3
case $request in
*'"show"'*)
    printf '%s\n' '{"stdout":"ActiveState=active"}' '{"stdout":"SubState=running"}' '{"stdout":"MainPID=77"}' '{"stdout":"UnitFileState=enabled"}' >&3
    printf '{"exit":0,"ended_by":"exit","tree":"empty"}\n' >&3 ;;
*'"disable"'* | *'"enable"'*)
    printf '{"started":{"unit":"left4me-helper@x.service","pid":%d,"cgroup":""}}\n' $$ >&3
    read -r cancel <&3 || exit 0
    sleep 1
    printf '{"exit":143,"ended_by":"terminate","tree":"empty"}\n' >&3 ;;
esac
"#;

/// A helper that answers at once.
const QUICK_HELPER: &str = r#"#!/bin/bash
read -r request <&3
printf '%s\n' '{"stdout":"ActiveState=active"}' '{"stdout":"SubState=running"}' '{"stdout":"MainPID=77"}' '{"exit":0,"ended_by":"exit","tree":"empty"}' >&3
"#;

/// Starts a job and its worker, and waits until its command runs.
fn running_install(host: &TestHost, marker: &str) -> (JobId, Child) {
    let id = host.enqueue(&["install"]);
    let worker = host.worker(60);
    until("the command runs", || {
        (!alive(marker).is_empty() && has_runner(host, id, "install")).then_some(())
    });
    (id, worker)
}

fn stop_worker(mut worker: Child) {
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

/// Checks that the record is complete: each step once, in order, with its times, in agreement with
/// the job.
fn check_complete(host: &TestHost, id: JobId) -> Value {
    let (code, status) = host.job_json(&["cancel-status", &id.to_string()]);
    assert_eq!(code, 0);

    let steps = status["steps"].as_array().unwrap();
    let names: Vec<&str> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(names, STEPS, "{status}");

    for step in steps {
        assert!(
            step["finished_at"].as_i64() >= step["started_at"].as_i64(),
            "{step}"
        );

        assert!(
            step["ok"].is_boolean() && step["detail"].is_string(),
            "{step}"
        );
    }

    let wrong = steps.iter().filter(|step| step["ok"] == false).count();
    assert_eq!(wrong == 0, status["success"] == true, "{status}");

    let job = host.show(id);
    assert_eq!(job["state"], "cancelled", "{job}");
    assert_eq!(job["exit_code"], 1);

    for task in job["tasks"].as_array().unwrap() {
        assert!(task["finished_at"].is_i64(), "{task}");
    }

    for runner in job["runners"].as_array().unwrap() {
        assert!(runner["ended_at"].is_i64(), "{runner}");
    }

    status
}

#[test]
fn a_running_job_is_cancelled_step_by_step_with_requester_and_reason() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!(
        "#!/bin/bash\necho downloading\nexec -a steamcmd sleep {marker}\n"
    ));
    let (id, worker) = running_install(&host, &marker);
    let (code, out, err) = host.job(&["cancel", &id.to_string(), "--reason", "wrong evening"]);
    assert_eq!(code, 0, "{out}{err}");

    let first: Vec<&str> = out
        .lines()
        .take(7)
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(first, STEPS, "{out}");
    assert!(
        out.contains(": wrong evening\n") && out.contains("running -> cancelled"),
        "{out}"
    );

    assert!(alive(&marker).is_empty());

    let status = check_complete(&host, id);
    assert_eq!(status["success"], true);
    assert_eq!(status["previous_state"], "running");
    assert_eq!(status["reason"], "wrong evening");
    assert_eq!(status["force_used"], false);
    assert_eq!(status["errors"], json!([]));
    assert_eq!(status["tasks_affected"][0]["state"], "cancelled");
    assert_eq!(status["runners_terminated"][0]["ended_by"], "terminate");

    let job = host.show(id);
    assert!(
        job["error"].as_str().unwrap().ends_with(": wrong evening"),
        "{job}"
    );

    assert!(
        host.lines(id)
            .iter()
            .any(|line| line.contains("being cancelled by")),
        "{:?}",
        host.lines(id)
    );

    assert!(
        host.lines(id).contains(&"downloading".to_owned()),
        "earlier output stays"
    );

    let (_, events, _) = host.job(&["events", "--job", &id.to_string()]);
    for (kind, times) in [
        ("job.queued", 1),
        ("job.started", 1),
        ("job.cancelling", 1),
        // The installation, and the publication that waited for it.
        ("task.cancelled", 2),
        ("job.cancelled", 1),
    ] {
        assert_eq!(events.matches(kind).count(), times, "{kind}: {events}");
    }

    assert!(events.contains("(wrong evening)"), "{events}");

    let (_, table, _) = host.job(&["cancellations"]);
    assert!(
        table.contains("completed") && table.contains("wrong evening"),
        "{table}"
    );

    // The queue continues.
    host.root.script("steam/steamcmd.sh", "#!/bin/sh\nexit 5\n");
    let next = host.enqueue(&["install"]);
    until("the next job has run", || {
        (host.state(next) == JobState::Failed).then_some(())
    });
    stop_worker(worker);
}

/// A script that ignores signals, with a child in a session of its own that ignores them too.
fn stubborn(marker: &str) -> String {
    format!(
        "#!/bin/bash\ntrap '' TERM INT HUP\nsetsid bash -c 'trap \"\" TERM INT HUP; while :; do \
        sleep 1; done' {marker} &\nwhile :; do sleep 1; done\n"
    )
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&stubborn(&marker));
    let (id, worker) = running_install(&host, &marker);
    let (code, result) = host.job_json(&["cancel", &id.to_string()]);
    assert_eq!((code, &result["success"]), (0, &json!(true)), "{result}");
    assert_eq!(result["runners_terminated"][0]["ended_by"], "kill");

    let terminate = &check_complete(&host, id)["steps"][2];
    let took =
        terminate["finished_at"].as_i64().unwrap() - terminate["started_at"].as_i64().unwrap();
    assert!(took >= 1000, "the grace is one second: {took} ms");
    assert!(alive(&marker).is_empty());

    stop_worker(worker);
}

/// A host with a grace of an hour: a command that ends sooner was killed.
fn with_an_hour_of_grace(marker: &str) -> (TestHost, crate::support::SocketUnit, JobId, Child) {
    let host = TestHost::new();
    let mut runner = host.root.envs();
    runner.retain(|(name, _)| name != "LEFT4ME_CANCEL_GRACE_SECONDS");
    runner.push(("LEFT4ME_CANCEL_GRACE_SECONDS".to_owned(), "3600".to_owned()));
    let steamcmd = host.root.script("steam/steamcmd.sh", &stubborn(marker));
    runner.push((
        "LEFT4ME_STEAMCMD".to_owned(),
        steamcmd.to_string_lossy().into_owned(),
    ));

    let runner = crate::support::accept(
        &host.root.join("runner.sock"),
        &[crate::support::RUNNER],
        &runner,
    );

    let id = host.enqueue(&["install"]);
    let worker = host
        .command(
            WORKER,
            &["--idle-seconds", "60", "--cancel-grace-seconds", "3600"],
        )
        .spawn()
        .unwrap();

    until("the command runs", || {
        (!alive(marker).is_empty()).then_some(())
    });
    (host, runner, id, worker)
}

#[test]
fn force_kills_without_grace() {
    let marker = marker();
    let (host, _runner, id, worker) = with_an_hour_of_grace(&marker);
    let (code, result) = host.job_json(&["cancel", &id.to_string(), "--force"]);
    assert_eq!((code, &result["force_used"]), (0, &json!(true)), "{result}");
    assert_eq!(result["runners_terminated"][0]["ended_by"], "kill");
    assert!(alive(&marker).is_empty());

    check_complete(&host, id);
    stop_worker(worker);
}

#[test]
fn a_repeated_request_is_the_same_record_and_force_escalates_it() {
    let marker = marker();
    let (host, _runner, id, worker) = with_an_hour_of_grace(&marker);
    let task = host.show(id)["tasks"][0]["id"].to_string();
    let (code, first) = host.job_json(&["cancel", &id.to_string(), "--no-wait", "--reason", "one"]);

    assert_eq!(
        (code, &first["success"], &first["state"]),
        (0, &json!(true), &json!("cancelling"))
    );

    let (_, second) = host.job_json(&["cancel", &id.to_string(), "--no-wait", "--reason", "two"]);

    assert_eq!(second["cancellation_id"], first["cancellation_id"]);
    assert_eq!(second["reason"], "one", "the first reason stays");

    until("SIGTERM was sent", || {
        let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
        (status["steps"][2]["state"] == "running").then_some(())
    });

    assert!(!alive(&marker).is_empty(), "it has its grace");

    // A forced request for one task does not kill the whole job.
    let (_, other) = host.job_json(&[
        "cancel",
        &id.to_string(),
        "--task",
        &task,
        "--force",
        "--no-wait",
    ]);

    assert_eq!(
        (&other["cancellation_id"], &other["force_used"]),
        (&first["cancellation_id"], &json!(false))
    );

    let (code, last) = host.job_json(&["cancel", &id.to_string(), "--force"]);
    assert_eq!(
        (code, &last["cancellation_id"]),
        (0, &first["cancellation_id"])
    );

    assert_eq!(last["force_used"], true);
    assert!(alive(&marker).is_empty());

    check_complete(&host, id);
    let (code, again, err) = host.job(&["cancel", &id.to_string()]);
    assert_eq!((code, again.as_str()), (4, ""), "{err}");
    assert!(err.contains("already finished"), "{err}");

    stop_worker(worker);
}

#[test]
fn a_queued_job_ends_at_once_and_never_starts() {
    let host = TestHost::with_servers(1);
    let id = host.enqueue(&["start", "--server", "1"]);
    let (code, out, err) = host.job(&["cancel", &id.to_string(), "--reason", "typo"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("cancelled before execution by") && out.contains(": typo"),
        "{out}"
    );

    let status = check_complete(&host, id);
    assert_eq!(
        (&status["previous_state"], &status["success"]),
        (&json!("queued"), &json!(true))
    );

    let lines = host.lines(id);
    assert!(
        lines.len() == 1 && lines[0].starts_with("cancelled before execution by "),
        "{lines:?}"
    );

    host.drain();
    let job = host.show(id);
    assert!(
        job["started_at"].is_null() && job["runners"] == json!([]),
        "{job}"
    );

    let desired =
        host.db()
            .connection()
            .query_row("SELECT desired_state FROM servers", [], |row| {
                row.get::<_, String>(0)
            });
    assert_eq!(
        desired.unwrap(),
        "running",
        "a cancellation does not change the desired state"
    );
}

#[test]
fn a_cancelled_task_takes_its_dependents_along_only_with_cascade() {
    let host = TestHost::with_servers(1);
    let helper = host.helper(SLOW_HELPER);
    let worker = host.worker(60);

    for cascade in [true, false] {
        let id = host.enqueue(&["restart", "--server", "1"]);
        let stop_task = until("the stop runs", || {
            let job = host.show(id);
            let asked = job["runners"]
                .as_array()
                .unwrap()
                .iter()
                .any(|runner| runner["verb"] == "disable");
            asked.then(|| job["tasks"][0]["id"].to_string())
        });

        if !cascade {
            // From here on the helper answers at once.
            host.root.script("helper.sh", QUICK_HELPER);
        }

        let mut args = vec!["cancel", "--task", &stop_task];
        let id_text = id.to_string();
        args.push(&id_text);

        if !cascade {
            args.push("--no-cascade");
        }

        let (code, result) = host.job_json(&args);
        assert_eq!(
            (code, &result["state"]),
            (0, &json!("cancelled")),
            "{result}"
        );

        until("the job has ended", || {
            host.state(id).is_terminal().then_some(())
        });
        let job = host.show(id);
        let states: Vec<&str> = job["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["state"].as_str().unwrap())
            .collect();

        if cascade {
            assert_eq!(states, ["cancelled", "skipped", "skipped"], "{job}");
            assert_eq!(job["state"], "cancelled");
            assert!(
                job["error"].as_str().unwrap().starts_with("cancelled by"),
                "{job}"
            );

            assert_eq!(
                result["tasks_affected"][2]["caused_by"].to_string(),
                stop_task,
                "{result}"
            );

            let error = job["tasks"][1]["error"].as_str().unwrap();
            assert!(
                error.contains(&format!("goes with task {stop_task}")),
                "{error}"
            );
        } else {
            assert_eq!(states, ["cancelled", "succeeded", "succeeded"], "{job}");
            assert_eq!(job["state"], "succeeded");
        }
    }

    stop_worker(worker);
    drop(helper);
}

#[test]
fn a_queued_job_runs_without_its_cancelled_task() {
    let host = TestHost::with_servers(2);
    host.job(&["pause"]);
    let id = host.enqueue(&["initialize", "--server", "1", "--server", "2"]);
    let tasks = host.show(id)["tasks"].clone();
    let (code, result) = host.job_json(&[
        "cancel",
        &id.to_string(),
        "--task",
        &tasks[0]["id"].to_string(),
    ]);

    assert_eq!(
        (code, &result["state"]),
        (0, &json!("cancelled")),
        "{result}"
    );

    assert_eq!(host.state(id), JobState::Queued);

    host.job(&["resume"]);
    host.drain();
    let job = host.show(id);
    assert_eq!(
        (&job["tasks"][0]["state"], &job["tasks"][1]["state"]),
        (&json!("cancelled"), &json!("succeeded"))
    );

    assert_eq!(job["state"], "succeeded");
    assert!(!host.root.join("instances/1").exists() && host.root.join("instances/2").exists());
}

#[test]
fn a_hundred_commands_take_one_grace() {
    let host = TestHost::with_servers(100);
    let _helper = host.helper(SLOW_HELPER);
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET desired_state = 'running'")
        .unwrap();
    let id = host.enqueue(&["stop", "--all"]);
    let mut worker = host
        .command(WORKER, &["--idle-seconds", "60", "--slots", "100"])
        .spawn()
        .unwrap();

    until("all are being stopped", || {
        let running = host.show(id)["runners"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["verb"] == "disable" && one["pid"].is_i64())
            .count();
        (running == 100).then_some(())
    });

    let begun = Instant::now();
    let (code, result) = host.job_json(&["cancel", &id.to_string()]);
    assert_eq!(code, 0, "{result}");
    assert_eq!(result["runners_terminated"].as_array().unwrap().len(), 100);

    let terminate = &result["steps"][2];
    let took =
        terminate["finished_at"].as_i64().unwrap() - terminate["started_at"].as_i64().unwrap();
    assert!(
        (1000..20_000).contains(&took),
        "one second of grace, not a hundred: {took} ms of {:?}",
        begun.elapsed()
    );

    check_complete(&host, id);
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn a_runner_that_does_not_answer_is_reported_and_the_queue_goes_on() {
    let host = TestHost::with_servers(1);
    let marker = marker();
    // It reads the request, reports that it runs, and then neither answers nor ends.
    let mute = host.root.script(
        "mute.sh",
        &format!(
            "#!/bin/bash\nread -r request <&3\nprintf \
            '{{\"started\":{{\"unit\":\"left4me-runner@1.service\",\"pid\":1,\"cgroup\":\"\"}}}}\\n' >&3\nexec sleep {marker}\n"
        ),
    );

    let guard = crate::support::accept(
        &host.root.join("runner.sock"),
        &["/bin/bash", &mute.to_string_lossy()],
        &host.root.envs(),
    );

    let (id, worker) = running_install(&host, &marker);

    let (code, out, err) = host.job(&["cancel", &id.to_string(), "--force"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        err.contains("install of task") && err.contains("did not say how it ended"),
        "{err}"
    );

    // Outside systemd it is in no unit, whatever it claims: the row has its pid from the kernel.
    let (job, mute) = (host.show(id), alive(&marker));
    let (unit, pid) = (&job["runners"][0]["unit"], &job["runners"][0]["pid"]);
    assert!(
        unit.is_null() && mute.iter().any(|&alive| *pid == alive),
        "{job} {mute:?}"
    );

    assert_eq!(host.state(id), JobState::Cancelled);

    let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
    assert_eq!(
        (&status["success"], &status["cancellation_state"]),
        (&json!(false), &json!("failed")),
        "{status}"
    );

    let (_, failed) = host.job_json(&["cancellations", "--state", "failed"]);
    assert_eq!(failed.as_array().unwrap().len(), 1);

    let next = host.enqueue(&["initialize", "--server", "1"]);
    until("the next job has run", || {
        (host.state(next) == JobState::Succeeded).then_some(())
    });
    stop_worker(worker);
    drop(guard);
}

#[test]
fn a_worker_finishes_a_cancellation_whose_worker_died_at_any_step() {
    for point in FAILPOINTS {
        let host = TestHost::new();
        let marker = marker();
        let _runner = host.runner(&format!("#!/bin/bash\nexec -a steamcmd sleep {marker}\n"));
        let id = host.enqueue(&["install"]);
        let mut worker = host
            .command(WORKER, &["--idle-seconds", "60"])
            .env("LEFT4ME_FAILPOINT", point)
            .spawn()
            .unwrap();

        until("the command runs", || {
            (!alive(&marker).is_empty() && has_runner(&host, id, "install")).then_some(())
        });
        let (code, _, err) = host.job(&["cancel", &id.to_string(), "--no-wait", "--reason", point]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(ended(&mut worker), 137, "it died at {point}");

        recovered(&host, id, point, &marker);
    }
}

#[test]
fn a_worker_finishes_a_recovery_whose_worker_died() {
    for point in RECOVERING {
        let host = TestHost::new();
        let marker = marker();
        let _runner = host.runner(&format!("#!/bin/bash\nexec -a steamcmd sleep {marker}\n"));
        let (id, mut first) = running_install(&host, &marker);
        stop(&first, Signal::SIGKILL);
        ended(&mut first);
        // No worker runs, but the request is recorded.
        let (code, _, err) = host.job(&["cancel", &id.to_string(), "--no-wait", "--reason", point]);
        assert_eq!(
            (code, err.contains("the cancellation waits")),
            (0, true),
            "{err}"
        );

        let mut second = host
            .command(WORKER, &["--idle-seconds", "0"])
            .env("LEFT4ME_FAILPOINT", point)
            .spawn()
            .unwrap();
        assert_eq!(ended(&mut second), 137, "it died at {point}");

        recovered(&host, id, point, &marker);
    }
}

fn recovered(host: &TestHost, id: JobId, point: &str, marker: &str) {
    host.drain();
    // A runner outside systemd has no control group for the worker to wait for; tests/lab/cancel.rs
    // tests that.
    until("nothing runs", || alive(marker).is_empty().then_some(()));
    let status = check_complete(host, id);
    assert_eq!(status["success"], true, "{point}: {status}");
    assert_eq!(status["reason"], point);

    let events = host.job(&["events", "--job", &id.to_string()]).1;
    assert_eq!(
        events.matches("job.cancelled").count(),
        1,
        "{point}: {events}"
    );

    assert!(!cancellations::any_live(host.db().connection()).unwrap());
}

#[test]
fn a_cancelled_task_stays_cancelled_when_the_worker_died() {
    let host = TestHost::with_servers(1);
    let _helper = host.helper(SLOW_HELPER);
    let id = host.enqueue(&["stop", "--server", "1"]);
    let mut worker = host.worker(60);

    until("the stop runs", || {
        has_runner(&host, id, "disable").then_some(())
    });
    let task = host.show(id)["tasks"][0]["id"].to_string();
    stop(&worker, Signal::SIGKILL);
    ended(&mut worker);
    let (code, _, err) = host.job(&["cancel", &id.to_string(), "--task", &task, "--no-wait"]);
    assert_eq!(code, 0, "{err}");

    host.drain();
    let job = host.show(id);
    assert_eq!(
        (&job["state"], &job["tasks"][0]["state"]),
        (&json!("failed"), &json!("cancelled")),
        "{job}"
    );

    let (_, status) = host.job_json(&["cancel-status", &id.to_string()]);
    assert_eq!(
        (
            &status["success"],
            &status["steps"].as_array().unwrap().len()
        ),
        (&json!(true), &7),
        "{status}"
    );

    assert_eq!(status["tasks_affected"][0]["previous_state"], "running");
    assert!(
        job["tasks"][0]["error"]
            .as_str()
            .unwrap()
            .starts_with("cancelled by"),
        "{job}"
    );

    let events = host.job(&["events", "--job", &id.to_string()]).1;
    assert_eq!(
        (
            events.matches("task.cancelled").count(),
            events.matches("job.failed").count()
        ),
        (1, 1),
        "{events}"
    );
}

#[test]
fn the_next_worker_cleans_and_verifies_what_a_dead_one_settled() {
    let host = TestHost::with_servers(1);
    let _helper = host.helper(SLOW_HELPER);
    let id = host.enqueue(&["stop", "--server", "1"]);
    let mut worker = host
        .command(WORKER, &["--idle-seconds", "60"])
        .env("LEFT4ME_FAILPOINT", "cancel.settled")
        .spawn()
        .unwrap();

    until("the stop runs", || {
        has_runner(&host, id, "disable").then_some(())
    });
    host.root.write("instances/1/layer.new/half", "x");
    assert_eq!(host.job(&["cancel", &id.to_string(), "--no-wait"]).0, 0);
    assert_eq!(ended(&mut worker), 137);

    host.drain();
    let status = check_complete(&host, id);
    assert_eq!(
        status["steps"][4]["detail"], "1 temporary file removed",
        "{status}"
    );

    assert!(
        status["steps"][5]["detail"]
            .as_str()
            .unwrap()
            .contains("server 1 is running"),
        "{status}"
    );

    assert!(!host.root.join("instances/1/layer.new").exists());

    let events = host.job(&["events", "--job", &id.to_string()]).1;
    assert!(
        events.contains("1 cancelled") && !events.contains("no task was left"),
        "{events}"
    );
}

fn has_runner(host: &TestHost, id: JobId, verb: &str) -> bool {
    host.show(id)["runners"]
        .as_array()
        .unwrap()
        .iter()
        .any(|runner| runner["verb"] == verb && runner["pid"].is_i64())
}

/// A task's thread can also wait without a connection that could be closed: here for the files of
/// its server.
#[test]
fn a_task_that_outlives_its_cancellation_only_holds_its_server() {
    use nix::fcntl::{Flock, FlockArg};
    let host = TestHost::with_servers(1);
    let files = host.root.join("instances/1");
    std::fs::create_dir(&files).unwrap();
    let lock = Flock::lock(
        std::fs::File::open(&files).unwrap(),
        FlockArg::LockExclusive,
    )
    .unwrap();

    let worker = host.worker(60);
    let first = host.enqueue(&["initialize", "--server", "1"]);

    until("it has begun", || {
        (host.state(first) == JobState::Running).then_some(())
    });
    let second = host.enqueue(&["initialize", "--server", "1"]);
    let (code, out, err) = host.job(&["cancel", &first.to_string(), "--force"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("did not end in time"), "{err}");
    assert_eq!(host.state(first), JobState::Cancelled);

    let third = host.enqueue(&["install"]);
    let other = host.show(third);
    assert_eq!(
        (host.state(second), other["state"].as_str()),
        (JobState::Queued, Some("queued")),
        "they wait"
    );

    assert!(!files.join("instance.env").exists());

    drop(lock);
    until("the server is free again", || {
        (host.state(second) == JobState::Succeeded).then_some(())
    });
    assert_eq!(
        host.lines(second),
        ["left4me: server 1: instance and config layer written"],
        "the first job wrote nothing"
    );

    assert_eq!(host.state(first), JobState::Cancelled);

    until("the install has run", || {
        host.state(third).is_terminal().then_some(())
    });
    stop_worker(worker);
}

#[test]
fn a_worker_stops_although_a_task_outlives_its_cancellation() {
    use nix::fcntl::{Flock, FlockArg};
    let host = TestHost::with_servers(1);
    let files = host.root.join("instances/1");
    std::fs::create_dir(&files).unwrap();
    let _lock = Flock::lock(
        std::fs::File::open(&files).unwrap(),
        FlockArg::LockExclusive,
    )
    .unwrap();

    let first = host.enqueue(&["initialize", "--server", "1"]);
    let mut worker = host.worker(0);

    until("it has begun", || {
        (host.state(first) == JobState::Running).then_some(())
    });
    assert_eq!(host.job(&["cancel", &first.to_string(), "--force"]).0, 1);
    assert!(
        worker.try_wait().unwrap().is_none(),
        "it waits for its thread"
    );

    // After repeated signals it does not wait for the thread.
    until("it has stopped", || {
        stop(&worker, Signal::SIGTERM);
        worker.try_wait().unwrap()
    });

    assert_eq!(ended(&mut worker), 1);
}

#[test]
fn a_cancellation_that_cannot_be_written_is_retried_once_a_second() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!("#!/bin/bash\nexec -a steamcmd sleep {marker}\n"));
    let id = host.enqueue(&["install"]);
    let printed = host.root.join("worker.log");
    let mut worker = host
        .command(WORKER, &["--idle-seconds", "60"])
        .stderr(std::fs::File::create(&printed).unwrap())
        .spawn()
        .unwrap();

    until("the command runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    // Acts like a full disk when a cancellation ends.
    let db = host.db();
    db.connection()
        .execute_batch(
            "CREATE TRIGGER full BEFORE UPDATE OF finished_at ON cancellations BEGIN SELECT
             raise(ABORT, 'disk full'); END;",
        )
        .unwrap();
    assert_eq!(host.job(&["cancel", &id.to_string(), "--no-wait"]).0, 0);

    let failures = || {
        std::fs::read_to_string(&printed)
            .unwrap()
            .matches("trying again")
            .count()
    };

    until("it was retried three times", || {
        (failures() >= 3).then_some(())
    });
    assert!(failures() < 50, "{} times within two seconds", failures());

    db.connection().execute_batch("DROP TRIGGER full").unwrap();
    until("it is cancelled", || {
        (host.state(id) == JobState::Cancelled).then_some(())
    });
    check_complete(&host, id);
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn a_cancel_does_not_wait_for_a_worker_that_cannot_be_woken() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!("#!/bin/bash\nexec -a steamcmd sleep {marker}\n"));
    let id = host.enqueue(&["install"]);
    let mut worker = host
        .command(WORKER, &["--idle-seconds", "60"])
        .env("LEFT4ME_FAILPOINT", "cancel.signalled")
        .spawn()
        .unwrap();

    until("the command runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    assert_eq!(host.job(&["cancel", &id.to_string(), "--no-wait"]).0, 0);
    assert_eq!(ended(&mut worker), 137);

    let (code, _, err) = host.job(&["cancel", &id.to_string()]);
    assert_eq!(
        (code, err.contains("is recorded and waits for a worker")),
        (69, true),
        "{err}"
    );
}

#[test]
fn a_reset_without_its_stop_task_starts_no_stopped_server() {
    let host = TestHost::with_servers(1);
    host.job(&["pause"]);
    let _helper = host.helper(QUICK_HELPER);
    let id = host.enqueue(&["reset", "--server", "1"]);
    let task = host.show(id)["tasks"][0]["id"].to_string();
    assert_eq!(
        host.job(&["cancel", &id.to_string(), "--task", &task, "--no-cascade"])
            .0,
        0
    );

    host.job(&["resume"]);
    host.drain();
    let job = host.show(id);
    assert_eq!(job["state"], "succeeded", "{job}");

    let verbs: Vec<&str> = job["runners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|runner| runner["verb"].as_str().unwrap())
        .collect();
    assert_eq!(verbs, ["purge"], "nothing was started");
}

#[test]
fn a_worker_finishes_its_cancellations_before_it_stops() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&stubborn(&marker));
    let (id, worker) = running_install(&host, &marker);
    let (code, _) = host.job_json(&["cancel", &id.to_string(), "--no-wait"]);
    assert_eq!(code, 0);

    stop_worker(worker);
    assert!(alive(&marker).is_empty());
    check_complete(&host, id);
}

/// Everything that a cancellation may write.
fn content(host: &TestHost) -> String {
    let db = host.db();
    let tables = [
        "jobs",
        "tasks",
        "cancellations",
        "cancellation_steps",
        "cancellation_tasks",
        "events",
        "job_logs",
        "runners",
    ];

    let dump = |table: &str| {
        let mut statement = db
            .connection()
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns)
                .map(|at| Ok(format!("{:?}", row.get_ref(at)?)))
                .collect::<rusqlite::Result<Vec<_>>>()
        });

        format!(
            "{table}: {:?}",
            rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
        )
    };

    tables.map(dump).join("\n")
}

#[test]
fn an_impossible_cancel_is_refused_and_changes_nothing() {
    let host = TestHost::with_servers(2);
    let done = host.enqueue(&["initialize", "--server", "1"]);
    host.drain();
    host.job(&["pause"]);
    let queued = host.enqueue(&["start", "--server", "2"]).to_string();
    let done = done.to_string();
    let foreign = host.show(done.parse().unwrap())["tasks"][0]["id"].to_string();
    let long = "x".repeat(100_000);
    let before = content(&host);
    let cases: [(&[&str], i32, &str); 10] = [
        (&["cancel", &done], 4, "already finished"),
        (
            &["cancel", &done, "--task", &foreign],
            4,
            "already finished",
        ),
        (&["cancel", &queued, "--task", &foreign], 3, "has no task"),
        (&["cancel", "999"], 3, "no such job"),
        (&["cancel", "-1"], 2, ""),
        (&["cancel", &queued, "--no-cascade"], 2, "--task"),
        (&["cancel", &queued, "--reason", &long], 2, "at most 1000"),
        (
            &["cancel", &queued, "--reason", "a\u{1b}[2Jb"],
            2,
            "control",
        ),
        (&["cancel-status", &queued], 3, "has no cancellation"),
        (&["cancellations", "--state", "gone"], 2, "not a state"),
    ];

    for (args, code, words) in cases {
        let (got, out, err) = host.job(args);
        assert_eq!((got, out.as_str()), (code, ""), "{args:.40?}: {err:.300}");
        assert!(err.contains(words), "{args:.40?}: {err:.300}");
    }

    let (code, result) = host.job_json(&["cancel", &done]);
    assert_eq!(
        (code, &result["success"], &result["state"]),
        (4, &json!(false), &json!("succeeded")),
        "{result}"
    );

    assert!(
        result["message"]
            .as_str()
            .unwrap()
            .starts_with("already finished"),
        "{result}"
    );

    assert_eq!(content(&host), before);
}

#[test]
fn the_result_has_the_contracts_shape() {
    let host = TestHost::with_servers(1);
    host.job(&["pause"]);
    let id = host.enqueue(&["start", "--server", "1"]);
    let (_, result) = host.job_json(&["cancel", &id.to_string()]);

    for key in [
        "success",
        "job_id",
        "task",
        "previous_state",
        "state",
        "message",
        "cancellation_id",
        "steps",
        "tasks_affected",
        "runners_terminated",
        "force_used",
        "errors",
    ] {
        assert!(result.get(key).is_some(), "{key} is missing in {result}");
    }

    let (_, shown) = host.job_json(&["cancel-status", &id.to_string()]);
    assert_eq!(shown, result);

    let (_, all) = host.job_json(&[
        "cancellations",
        "--job",
        &id.to_string(),
        "--limit",
        "1",
        "--offset",
        "0",
    ]);

    assert_eq!(all[0]["id"], result["cancellation_id"]);

    let (_, none) = host.job_json(&["cancellations", "--offset", "1"]);
    assert_eq!(none, json!([]));
}

/// Enqueues and cancels ten thousand jobs while a worker claims them as fast as it can.
#[test]
fn no_race_of_claim_and_cancel_is_won_by_both() {
    const RACES: i64 = 10_000;
    let host = TestHost::with_servers(20);
    let mut worker = host.worker(60);
    let accepted = std::sync::mpsc::channel::<JobId>();

    std::thread::scope(|scope| {
        let (sender, host) = (accepted.0, &host);
        scope.spawn(move || {
            let mut db = host.db();
            let socket = host.root.join("worker.sock");
            for number in 0..RACES {
                let server = left4me::base::names::ServerId(number % 20 + 1);
                let id = enqueue(&mut db, server);
                // A lost notification is no error.
                let _ = left4me::queue::wake::worker(&socket);
                sender.send(id).unwrap();
            }
        });

        scope.spawn(move || {
            let mut db = host.db();
            let socket = host.root.join("worker.sock");
            for id in accepted.1 {
                let request = CancelRequest::new(id, "racer");
                cancel::request(&mut db, &request, left4me::base::clock::now_ms()).unwrap();
                let _ = left4me::queue::wake::worker(&socket);
            }
        });
    });

    until("every job has ended", || {
        (jobs::counts(host.db().connection()).unwrap() == (0, 0)).then_some(())
    });
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);

    let db = host.db();
    let count = |sql: &str| {
        db.connection()
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };

    let never_ran = "j.state = 'cancelled' AND j.started_at IS NULL";
    let cut_short = "j.state = 'cancelled' AND j.started_at IS NOT NULL";

    let record = |previous: &str| {
        format!(
            "(SELECT count(*) FROM cancellations c
             WHERE c.job_id = j.id AND c.previous_state = '{previous}'
             AND c.state = 'completed') = 1 AND (SELECT count(*) FROM cancellations c
             WHERE c.job_id = j.id) = 1 AND (SELECT count(*) FROM events e
             WHERE e.job_id = j.id AND e.kind = 'job.cancelled') = 1"
        )
    };

    let started =
        "(SELECT count(*) FROM events e WHERE e.job_id = j.id AND e.kind = 'job.started')";
    let task_ran =
        "EXISTS (SELECT 1 FROM tasks t WHERE t.job_id = j.id AND t.started_at IS NOT NULL)";
    let of = |what: &str| count(&format!("SELECT count(*) FROM jobs j WHERE {what}"));
    let queued = of(&format!(
        "{never_ran} AND {} AND {started} = 0 AND NOT {task_ran}",
        record("queued")
    ));

    let running = of(&format!(
        "{cut_short} AND {} AND {started} = 1",
        record("running")
    ));

    let done = of(&format!(
        "j.state = 'succeeded' AND {started} = 1 AND NOT EXISTS (SELECT 1 FROM cancellations c
         WHERE c.job_id = j.id)"
    ));

    println!("{queued} never ran, {running} were cut short, {done} had ended before");
    assert_eq!(
        queued + running + done,
        RACES,
        "{queued} never ran, {running} were cut short, {done} had ended before"
    );

    assert_eq!((of(never_ran), of(cut_short)), (queued, running));
    assert!(
        queued > 0 && running + done > 0,
        "it was a race: {queued} {running} {done}"
    );

    assert_eq!(
        count("SELECT count(*) FROM cancellations WHERE state <> 'completed'"),
        0
    );
}

fn enqueue(db: &mut Db, server: left4me::base::names::ServerId) -> JobId {
    use left4me::base::names::ServerRef;
    use left4me::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
    let name: ServerRef = server.to_string().parse().unwrap();
    let request = JobRequest {
        operation: left4me::domain::operation::Operation::Initialize,
        targets: Targets::Named(vec![name]),
        unique: false,
        rolling: None,
        update: left4me::domain::update::UpdateOptions::default(),
        condition: None,
        requester: Requester::local("racer"),
    };

    enqueue(db, &request, left4me::base::clock::now_ms())
        .unwrap()
        .job_id
}

#[test]
fn a_race_of_finish_and_cancel_has_one_outcome_that_the_record_shows() {
    let host = TestHost::new();
    let _runner = host.runner("#!/bin/bash\nexit 5\n");
    let worker = host.worker(60);
    let mut outcomes = [0, 0];
    let mut round = 0_u64;

    // Until both outcomes occurred ten times. Each round cancels at another moment of the job.
    while outcomes[0] < 10 || outcomes[1] < 10 {
        assert!(round < 1000, "{outcomes:?}");

        round += 1;
        let id = host.enqueue(&["install"]);
        let mut db = host.db();

        until("it has begun", || {
            (jobs::state(db.connection(), id).unwrap().0 != JobState::Queued).then_some(())
        });
        let moment = Instant::now() + Duration::from_millis(round % 60);
        until("the moment", || (Instant::now() >= moment).then_some(()));
        let force = round.is_multiple_of(2);
        let request = CancelRequest {
            force,
            reason: "race",
            ..CancelRequest::new(id, "racer")
        };

        let asked = cancel::request(&mut db, &request, left4me::base::clock::now_ms()).unwrap();
        let _ = left4me::queue::wake::worker(&host.root.join("worker.sock"));
        let state = until("it has ended", || {
            Some(host.state(id)).filter(|state| state.is_terminal())
        });
        let records = cancellations::of_job(db.connection(), id).unwrap();

        match state {
            JobState::Cancelled => {
                assert!(asked.success && records.len() == 1, "{asked:?}");
                check_complete(&host, id);
                outcomes[0] += 1;
            }
            _ => {
                assert!(
                    !asked.success
                        && asked.message.contains("already finished")
                        && records.is_empty(),
                    "{asked:?}"
                );

                outcomes[1] += 1;
            }
        }
    }

    stop_worker(worker);
}
