//! The scripts in examples/, run as an administrator runs them.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::host::{TestHost, stop};
use crate::support::{JOB, alive, ended, marker, until};

/// Stopping server 1 takes until it is cancelled; everything else is done at once.
const HELPER: &str = r#"#!/bin/bash
read -r request <&3
if [[ $request == *disable*'"1"'* ]]; then
    printf '{"started":{"unit":"left4me-helper@x.service","pid":%d,"cgroup":""}}\n' $$ >&3
    read -r cancel <&3
    printf '{"exit":143,"ended_by":"terminate","tree":"empty"}\n' >&3
    exit
fi
printf '%s\n' '{"stdout":"ActiveState=active"}' '{"stdout":"SubState=running"}' '{"stdout":"MainPID=77"}' '{"exit":0,"ended_by":"exit","tree":"empty"}' >&3
"#;

fn example(host: &TestHost, name: &str, args: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    let mut command = host.command(&script.to_string_lossy(), args);
    let programs = Path::new(JOB).parent().unwrap().display().to_string();
    command.env(
        "PATH",
        format!("{programs}:{}", std::env::var("PATH").unwrap()),
    );

    command
}

fn run(host: &TestHost, name: &str, args: &[&str]) -> (i32, String, String) {
    let output = example(host, name, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn cancel_job_and_watch_cancellation_work_together() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!("#!/bin/bash\nexec -a steamcmd sleep {marker}\n"));
    let id = host.enqueue(&["install"]).to_string();
    let mut worker = host.worker(60);

    until("the command runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    let watching = example(&host, "watch-cancellation", &[&id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (code, out, err) = run(&host, "cancel-job", &[&id, "match tonight"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains(": match tonight") && out.contains("(install-runtime): running -> cancelled"),
        "{out}"
    );

    assert!(out.contains("install ended by terminate"), "{out}");

    let seen = watching.wait_with_output().unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();

    // Time and zone.
    assert_eq!(seen.split_whitespace().nth(2), Some("job.queued"), "{seen}");

    for words in [
        "job.queued by",
        "job.cancelling by",
        "job.cancelled by",
        ": match tonight",
        "terminate\t",
        "finish\t",
    ] {
        assert!(seen.contains(words), "{words}: {seen}");
    }

    let (code, out, err) = run(&host, "cancel-job", &[&id]);
    assert_eq!(
        (code, out.starts_with("already finished")),
        (0, true),
        "{out}{err}"
    );

    assert_eq!(run(&host, "cancel-job", &["999"]).0, 3);

    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn cancel_task_works_with_and_without_cascade() {
    let mut host = TestHost::with_servers(2);
    host.in_place = true;
    std::fs::create_dir_all(host.root.join("instances")).unwrap();
    let _helper = host.helper(HELPER);
    let _runner = host.runner("#!/bin/sh\nexit 5\n");
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET desired_state = 'running'")
        .unwrap();

    let mut worker = host.worker(60);
    let cases = [
        (
            &[][..],
            [
                "stop 1: cancelled",
                "stop 2: succeeded",
                "install-runtime -: skipped",
                "initialize 1: skipped",
                "start-if-ran 1: skipped",
                "initialize 2: succeeded",
                "start-if-ran 2: succeeded",
            ],
        ),
        (
            &["--no-cascade"][..],
            [
                "stop 1: cancelled",
                "stop 2: succeeded",
                "install-runtime -: failed",
                "initialize 1: succeeded",
                "start-if-ran 1: succeeded",
                "initialize 2: succeeded",
                "start-if-ran 2: succeeded",
            ],
        ),
    ];

    for (option, states) in cases {
        let id = host.enqueue(&["update", "--validate"]);
        until("the stop of server 1 runs", || {
            let job = host.show(id);
            let asked = job["runners"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["verb"] == "disable" && one["pid"].is_i64());
            asked.then_some(())
        });

        let id = id.to_string();
        let (code, out, err) = run(
            &host,
            "cancel-task",
            &[option, &[id.as_str(), "stop", "1"]].concat(),
        );

        assert_eq!(code, 0, "{out}{err}");

        let states_seen: Vec<&str> = out
            .lines()
            .rev()
            .take(states.len())
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        assert_eq!(states_seen, states, "{out}{err}");
    }

    assert_eq!(run(&host, "cancel-task", &["1", "format-disk"]).0, 3);
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}
