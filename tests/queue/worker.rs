//! The worker as a program: the real binaries on a real database, with the runner behind a socket
//! as systemd serves it.

use left4me::base::names::{JobId, ServerId};
use left4me::db::{jobs, servers};
use left4me::domain::job::JobState;
use serde_json::Value;

use crate::support::host::{TestHost, stop};
use crate::support::{WORKER, alive, ended, marker, until};

#[test]
fn no_job_of_eight_clients_is_lost_or_run_twice() {
    let host = TestHost::with_servers(20);
    let mut first = host.worker(5);
    until("the first worker holds the lock", || {
        std::fs::read_to_string(host.root.join("db/left4me.db-worker.lock"))
            .ok()
            .filter(|pid| !pid.is_empty())
    });

    let refused = host.command(WORKER, &[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(4));

    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        words.contains("another worker") && words.contains(&first.id().to_string()),
        "{words}"
    );

    std::thread::scope(|scope| {
        for process in 0..8 {
            let host = &host;
            scope.spawn(move || {
                for number in 0..500 {
                    host.enqueue(&[
                        "initialize",
                        "--server",
                        &format!("S{}", (process + number) % 20 + 1),
                    ]);
                }
            });
        }
    });

    until("every job has ended", || {
        (jobs::counts(host.db().connection()).unwrap() == (0, 0)).then_some(())
    });
    stop(&first, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(ended(&mut first), 0);

    let db = host.db();
    let one = |sql: &str| {
        db.connection()
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };

    assert_eq!(
        one("SELECT count(*) FROM jobs WHERE state = 'succeeded' AND exit_code = 0"),
        4000
    );

    assert_eq!(
        one("SELECT count(*) FROM events WHERE kind = 'job.started'"),
        4000,
        "each ran once"
    );

    assert_eq!(
        one("SELECT count(*) FROM events WHERE kind = 'job.succeeded'"),
        4000,
        "each ended once"
    );

    assert_eq!(
        one("SELECT count(*) FROM job_logs"),
        4000,
        "each wrote its line once"
    );

    assert_eq!(
        one(
            "SELECT coalesce(sum(n), 0) FROM (SELECT max(seq) - count(*) AS n FROM job_logs
             GROUP BY job_id)"
        ),
        0
    );
}

#[test]
fn a_killed_worker_ends_the_tree_and_its_job_fails_with_a_reason() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!(
        "#!/bin/bash\ntrap '' TERM HUP INT\necho downloading\nsetsid bash -c 'trap \"\" TERM HUP; \
        while :; do sleep 1; done' {marker} &\nwhile :; do sleep 1; done\n"
    ));

    let id = host.enqueue(&["install"]);
    let mut worker = host.worker(60);

    until("the stubborn child runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    until("its line is in the log", || {
        host.lines(id)
            .contains(&"downloading".to_owned())
            .then_some(())
    });

    stop(&worker, nix::sys::signal::Signal::SIGKILL);
    ended(&mut worker);

    until("the whole tree is gone", || {
        alive(&marker).is_empty().then_some(())
    });
    assert_eq!(
        host.state(id),
        JobState::Running,
        "the database does not know yet"
    );

    let next = host.enqueue(&["install", "--unique"]);
    assert_eq!(next, id, "the dead worker's job still looks running");

    host.root.script("steam/steamcmd.sh", "#!/bin/sh\nexit 5\n");
    let fresh = host.enqueue(&["install"]);
    host.drain();
    let job = host.show(id);
    assert_eq!(
        (job["state"].as_str(), job["exit_code"].as_i64()),
        (Some("failed"), Some(1))
    );

    assert!(
        host.lines(id)
            .last()
            .unwrap()
            .contains("worker that ran this job died"),
        "{:?}",
        host.lines(id)
    );

    assert_eq!(host.state(fresh), JobState::Failed);
    assert_eq!(job["runners"][0]["ended_by"], "lost");
}

#[test]
fn a_stopped_worker_ends_its_commands_and_fails_their_jobs() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!("#!/bin/bash\nexec -a {marker} sleep 1000\n"));
    let id = host.enqueue(&["install"]);
    let waiting = host.enqueue(&["update"]);
    let mut worker = host.worker(60);

    until("the command runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    stop(&worker, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
    assert!(alive(&marker).is_empty());

    let job = host.show(id);
    assert_eq!(job["state"], "failed");
    assert!(
        job["error"].as_str().unwrap().starts_with("worker stopped"),
        "{job}"
    );

    assert_eq!(
        host.state(waiting),
        JobState::Queued,
        "a queued job waits for the next worker"
    );
}

#[test]
fn a_runner_that_dies_fails_its_job_and_the_worker_goes_on() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!("#!/bin/bash\nexec -a {marker} sleep 1000\n"));
    let id = host.enqueue(&["install"]);
    let mut worker = host.worker(60);
    let child = until("the command runs", || alive(&marker).first().copied());
    let parent = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    let parent: i32 = parent
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();

    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(parent),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();

    until("the job has failed", || {
        (host.state(id) == JobState::Failed).then_some(())
    });
    let error = host.show(id)["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("closed the connection before the command's end"),
        "{error}"
    );

    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child),
        nix::sys::signal::Signal::SIGKILL,
    )
    .ok();

    host.root.script("steam/steamcmd.sh", "#!/bin/sh\nexit 5\n");
    let next = host.enqueue(&["install"]);

    until("the next job has run", || {
        host.state(next).is_terminal().then_some(())
    });
    stop(&worker, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn a_row_that_no_program_would_write_fails_that_job_only() {
    let host = TestHost::with_servers(1);
    host.db()
        .connection()
        .execute_batch(
            "INSERT INTO jobs (operation, requested_by, created_at, updated_at)
             VALUES ('explode', 'x', 1, 1);
             INSERT INTO jobs (operation, requested_by, created_at, updated_at)
             VALUES ('start', 'x', 1, 1);
             INSERT INTO jobs (operation, requested_by, created_at, updated_at)
             VALUES ('initialize', 'x', 1, 1);
             INSERT INTO job_targets VALUES (3, 999);
             INSERT INTO tasks (job_id, position, kind, server_id)
             VALUES (3, 0, 'initialize', 999);
             INSERT INTO jobs (operation, requested_by, created_at, updated_at)
             VALUES ('initialize', 'x', 1, 1);
             INSERT INTO job_targets VALUES (4, 1);
             INSERT INTO tasks (job_id, position, kind, server_id)
             VALUES (4, 0, 'format-disk', 1);",
        )
        .unwrap();

    let good = host.enqueue(&["initialize", "--server", "1"]);
    host.drain();
    let errors: Vec<String> = (1..=4)
        .map(|id| {
            host.show(JobId(id))["error"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        })
        .collect();
    assert!(
        errors[0].contains("unknown operation 'explode'"),
        "{errors:?}"
    );

    assert!(errors[1].contains("without a server"), "{errors:?}");
    assert!(errors[2].contains("999"), "{errors:?}");
    assert!(
        errors[3].contains("unknown task 'format-disk'"),
        "{errors:?}"
    );

    assert_eq!(host.state(good), JobState::Succeeded);
}

#[test]
fn an_unknown_operation_does_nothing_whatever_tasks_it_has() {
    let host = TestHost::with_servers(1);
    let id = host.enqueue(&["initialize", "--server", "1"]);
    host.db()
        .connection()
        .execute("UPDATE jobs SET operation = 'explode'", [])
        .unwrap();
    host.drain();
    let job = host.show(id);
    assert_eq!(
        (job["state"].as_str(), job["tasks"][0]["state"].as_str()),
        (Some("failed"), Some("skipped")),
        "{job}"
    );

    assert!(!host.root.join("instances/1").exists());
}

#[test]
fn a_row_that_is_not_utf8_fails_alone() {
    let host = TestHost::with_servers(1);
    let bad = host.enqueue(&["initialize", "--server", "1"]);
    let good = host.enqueue(&["initialize", "--server", "1"]);
    host.db()
        .connection()
        .execute(
            "UPDATE jobs SET operation = CAST(x'ff41' AS TEXT) WHERE id = ?1",
            [bad.0],
        )
        .unwrap();
    host.drain();
    assert_eq!(
        (host.state(bad), host.state(good)),
        (JobState::Failed, JobState::Succeeded)
    );

    let (code, out, err) = host.job(&["list"]);
    assert!(code == 0 && out.contains("failed"), "{out}{err}");
}

#[test]
fn recovery_sets_the_last_error_of_the_server() {
    let host = TestHost::with_servers(1);
    let id = host.enqueue(&["stop", "--server", "1"]);
    // The rows that a worker leaves when it dies during a task.
    host.db()
        .connection()
        .execute_batch(
            "UPDATE jobs SET state = 'running', started_at = 1, worker_id = 'dead';
             UPDATE tasks SET state = 'running', started_at = 1;",
        )
        .unwrap();
    host.drain();

    assert_eq!(host.state(id), JobState::Failed);

    let error = servers::get(host.db().connection(), ServerId(1))
        .unwrap()
        .unwrap()
        .last_error
        .unwrap();
    assert!(error.contains("died"), "{error}");
}

#[test]
fn initialize_writes_the_instance_and_its_line() {
    let host = TestHost::with_servers(1);
    let id = host.enqueue(&["initialize", "--server", "S1"]);
    host.drain();
    assert_eq!(host.state(id), JobState::Succeeded, "{:?}", host.lines(id));

    let env = std::fs::read_to_string(host.root.join("instances/1/instance.env")).unwrap();
    assert!(env.contains("L4D2_PORT=27000"), "{env}");
    assert!(
        host.root
            .join("instances/1/layer/left4dead2/cfg/server.cfg")
            .is_file()
    );

    assert_eq!(
        host.lines(id),
        ["left4me: server 1: instance and config layer written"]
    );

    let again = host.enqueue(&["initialize", "--server", "S1"]);
    host.drain();
    assert_eq!(
        host.lines(again),
        ["left4me: server 1: instance is up to date"]
    );
}

#[test]
fn a_paused_queue_claims_nothing_until_it_is_resumed() {
    let host = TestHost::with_servers(1);
    assert_eq!(host.job(&["pause", "--reason", "match tonight"]).0, 0);

    let (code, _, err) = host.job(&["pause"]);
    assert_eq!(code, 4, "{err}");

    let id = host.enqueue(&["initialize", "--server", "1"]);
    host.drain();
    assert_eq!(host.state(id), JobState::Queued);

    let (_, _, err) = host.job(&["list"]);
    assert!(
        err.contains("paused by") && err.contains("match tonight"),
        "{err}"
    );

    assert_eq!(host.job(&["resume"]).0, 0);
    assert_eq!(host.job(&["resume"]).0, 4);

    host.drain();
    assert_eq!(host.state(id), JobState::Succeeded);
}

#[test]
fn unique_returns_the_waiting_job_and_adds_none() {
    let host = TestHost::with_servers(2);
    let first = host.enqueue(&["stop", "--server", "1", "--server", "2"]);
    assert_eq!(
        host.enqueue(&["stop", "--server", "S2", "--server", "S1", "--unique"]),
        first
    );

    assert_eq!(host.enqueue(&["stop", "--all", "--unique"]), first);
    assert_ne!(
        host.enqueue(&["stop", "--server", "1", "--unique"]),
        first,
        "other targets are another job"
    );

    assert_ne!(host.enqueue(&["stop", "--all"]), first);
}

#[test]
fn wait_and_follow_report_how_the_job_ended() {
    let host = TestHost::with_servers(1);
    let mut worker = host.worker(20);
    let (code, out, _) = host.job(&["enqueue", "initialize", "--server", "1", "--wait"]);
    assert_eq!((code, out.trim()), (0, "1"));

    let (code, out, err) = host.job(&["enqueue", "initialize", "--server", "1", "--follow"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "left4me: server 1: instance is up to date\n"),
        "{err}"
    );

    // No runner serves the socket here.
    let (code, _, err) = host.job(&["enqueue", "install", "--follow"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("runner.sock") && err.contains("job 3 (install) failed"),
        "{err}"
    );

    assert_eq!(host.job(&["wait", "1", "2"]).0, 0);
    assert_eq!(host.job(&["wait", "1", "3"]).0, 1);
    assert_eq!(host.job(&["wait", "77"]).0, 3);
    assert_eq!(host.job(&["pause"]).0, 0);

    let waiting = host.enqueue(&["install"]);
    let (code, _, err) = host.job(&["wait", &waiting.to_string(), "--timeout", "1"]);
    assert_eq!(code, 1);
    assert!(err.contains("still queued"), "{err}");

    let (code, out, err) = host.job(&["retry", "3"]);
    assert_eq!((code, out.trim()), (0, "5"), "{err}");
    assert_eq!(host.show(JobId(5))["retry_of"], 3);
    assert_eq!(host.job(&["retry", &waiting.to_string()]).0, 4);

    stop(&worker, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn an_invalid_enqueue_is_refused_and_adds_nothing() {
    let host = TestHost::with_servers(1);
    for (args, code, words) in [
        (vec!["start"], 2, "--server"),
        (vec!["install", "--server", "1"], 2, "takes no --server"),
        (vec!["update", "--all"], 2, "takes no --server"),
        (vec!["fly", "--all"], 2, "not an operation"),
        (vec!["start", "--server", "99"], 3, "99"),
        (vec!["start", "--server", "absent"], 3, "absent"),
        (vec!["start", "--server", "../x"], 2, "server name"),
        (vec!["start", "--server", "a\nb"], 2, "server name"),
    ] {
        let (got, _, err) = host.job(&[&["enqueue"], &args[..]].concat());
        assert_eq!(got, code, "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }

    assert_eq!(jobs::counts(host.db().connection()).unwrap(), (0, 0));

    let empty = TestHost::new();
    assert_eq!(empty.job(&["enqueue", "start", "--all"]).0, 3);
}

#[test]
fn enqueueing_a_job_sets_the_desired_state() {
    let host = TestHost::with_servers(1);
    let desired = || {
        servers::get(host.db().connection(), ServerId(1))
            .unwrap()
            .unwrap()
            .desired_state
            .to_string()
    };

    host.enqueue(&["start", "--server", "1"]);
    assert_eq!(desired(), "running");

    host.enqueue(&["reset", "--server", "1"]);
    assert_eq!(desired(), "running");

    host.enqueue(&["delete", "--server", "1"]);
    assert_eq!(desired(), "stopped");
}

#[test]
fn json_has_the_contracts_shape() {
    let host = TestHost::with_servers(1);
    let (_, out, _) = host.job(&["enqueue", "start", "--server", "1", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        serde_json::json!({"job_id": 1, "state": "queued", "queue_position": 1})
    );

    let job = host.show(JobId(1));
    for key in [
        "id",
        "operation",
        "servers",
        "state",
        "queue_position",
        "requested_by",
        "created_at",
        "started_at",
        "finished_at",
        "exit_code",
        "error",
        "condition",
        "waiting",
        "tasks",
    ] {
        assert!(job.get(key).is_some(), "{key} is missing in {job}");
    }

    assert_eq!(
        job["tasks"][1]["depends_on"],
        serde_json::json!([job["tasks"][0]["id"]])
    );

    let (_, out, _) = host.job(&[
        "list", "--json", "--state", "queued", "--server", "S1", "--limit", "1",
    ]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()[0]["id"], 1);
}

#[test]
fn every_line_of_steamcmd_is_logged_once_and_in_order() {
    let host = TestHost::new();
    let _runner =
        host.runner("#!/bin/bash\nfor i in $(seq 20000); do echo \"line $i\"; done\nexit 5\n");
    let id = host.enqueue(&["install"]);
    host.drain();
    let lines: Vec<String> = host
        .lines(id)
        .into_iter()
        .filter(|line| line.starts_with("line "))
        .collect();
    let once: Vec<String> = (1..=20_000)
        .map(|number| format!("line {number}"))
        .collect();
    let runs = lines.len() / once.len();
    assert!(runs >= 1, "{} lines", lines.len());

    let all: Vec<String> = std::iter::repeat_n(once, runs).flatten().collect();
    assert_eq!(lines, all);
}

#[test]
fn a_start_fails_with_the_units_state_when_the_server_is_not_up() {
    let host = TestHost::with_servers(1);
    let answer = |enable: &str, show: &[&str]| {
        let show: String = show
            .iter()
            .map(|line| format!("'{{\"stdout\":\"{line}\"}}' "))
            .collect();
        format!(
            "#!/bin/bash\nread -r request <&3\ncase $request in\n\
             *enable*) printf '%s\\n' \
             '{{\"exit\":{enable},\"ended_by\":\"exit\",\"tree\":\"empty\"}}' >&3 ;;\n\
             *) printf '%s\\n' {show} '{{\"exit\":0,\"ended_by\":\"exit\",\"tree\":\"empty\"}}' \
             >&3 ;;\nesac\n"
        )
    };

    let stopped = ["ActiveState=inactive", "SubState=dead", "Result=success"];
    let missing = [
        "ActiveState=failed",
        "SubState=failed",
        "Result=exit-code",
        "ExecMainCode=1",
        "ExecMainStatus=203",
    ];

    let restarted = [
        "ActiveState=activating",
        "SubState=auto-restart",
        "Result=signal",
        "NRestarts=1",
    ];

    let running = [
        "ActiveState=active",
        "SubState=running",
        "Result=success",
        "MainPID=77",
    ];
    let _helper = host.helper(&answer("0", &running));

    for (enable, show, words) in [
        (
            "0",
            &stopped[..],
            &["server 1 is not up after its start", "inactive, dead"][..],
        ),
        ("0", &restarted, &["not up", "auto-restart, signal"]),
        (
            "1",
            &missing,
            &["enable failed", "203", "srcds_linux is missing"],
        ),
    ] {
        host.root.script("helper.sh", &answer(enable, show));
        let id = host.enqueue(&["start", "--server", "1"]);
        host.drain();
        let job = host.show(id);
        assert_eq!(
            (job["state"].as_str(), job["exit_code"].as_i64()),
            (Some("failed"), Some(1)),
            "{job}"
        );

        let error = job["error"].as_str().unwrap();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{words:?}: {error}"
        );
    }

    host.root.script("helper.sh", &answer("0", &running));
    let id = host.enqueue(&["start", "--server", "1"]);
    host.drain();
    assert_eq!(host.state(id), JobState::Succeeded, "{:?}", host.lines(id));
}

/// The servers of a job's tasks, with the states of these tasks.
fn states(job: &serde_json::Value) -> Vec<(i64, String, String)> {
    let tasks = job["tasks"].as_array().unwrap().iter();
    let word = |task: &serde_json::Value, key: &str| task[key].as_str().unwrap().to_owned();
    tasks
        .map(|task| {
            let server = task["server"].as_i64().unwrap();
            (server, word(task, "kind"), word(task, "state"))
        })
        .collect()
}

#[test]
fn a_rolling_restart_that_fails_leaves_the_rest_running() {
    let host = TestHost::with_servers(3);
    let _helper = host.helper(
        "#!/bin/bash\nread -r request <&3\ncase $request in\n\
         *disable*'\"1\"'* | *'\"1\"'*disable*) code=1 ;; *) code=0 ;;\nesac\n\
         printf '%s\\n' '{\"stdout\":\"ActiveState=active\"}' \
         '{\"stdout\":\"SubState=running\"}' '{\"stdout\":\"MainPID=77\"}' \
         \"{\\\"exit\\\":$code,\\\"ended_by\\\":\\\"exit\\\",\\\"tree\\\":\\\"empty\\\"}\" >&3\n",
    );

    let id = host.enqueue(&["restart", "--all", "--rolling", "2"]);
    host.drain();
    let job = host.show(id);
    let of = |server: i64| -> Vec<String> {
        let tasks = states(&job).into_iter();
        tasks
            .filter(|(other, ..)| *other == server)
            .map(|(_, kind, state)| format!("{kind} {state}"))
            .collect()
    };

    assert_eq!(job["state"], "failed");
    assert_eq!(of(1)[0], "stop failed", "{job}");
    assert!(
        of(2).iter().all(|task| task.ends_with("succeeded")),
        "{job}"
    );
    assert!(of(3).iter().all(|task| task.ends_with("skipped")), "{job}");

    // A retry takes them in turn, too.
    let (_, again) = host.job_json(&["retry", &id.to_string()]);
    let again = host.show(left4me::base::names::JobId(
        again["job_id"].as_i64().unwrap(),
    ));
    let waits = &again["tasks"][6]["depends_on"];
    assert_eq!(
        waits,
        &serde_json::json!([again["tasks"][2]["id"]]),
        "{again}"
    );
}

#[test]
fn an_operation_without_servers_cannot_be_rolling() {
    let host = TestHost::with_servers(1);
    let (code, _, words) = host.job(&["enqueue", "install", "--rolling", "2"]);
    assert_eq!(code, 2);
    assert!(words.contains("install cannot be rolling"), "{words}");
}
