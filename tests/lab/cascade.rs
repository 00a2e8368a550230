//! One task of many cancelled, with and without those that depend on it, and then the job: in an
//! update in place over twenty servers that really run.

use std::collections::BTreeMap;

use crate::lab::{Lab, s, wait_for, wait_until};

const SERVERS: u32 = 20;

/// LEFT4ME_WORKER_SLOTS here.
const SLOTS: usize = 4;

const GRACE: u64 = 2;

pub fn an_update_over_twenty_servers_is_cancelled_task_by_task(lab: &Lab) {
    lab.set(&format!(
        "LEFT4ME_CANCEL_GRACE_SECONDS={GRACE}\nLEFT4ME_WORKER_SLOTS={SLOTS}\n\
         LEFT4ME_BUILDS=in-place"
    ));
    let names: Vec<String> = (1..=SERVERS).map(|id| format!("s{id}")).collect();
    lab.describe(&names.iter().map(String::as_str).collect::<Vec<_>>());
    lab.deaf_games_last();
    lab.job(&["install"]);
    lab.job(&["start", "--all"]);
    all_run(lab);
    an_install_that_is_cancelled_alone_brings_every_server_back(lab);
    tasks_then_the_job_are_cancelled_and_untouched_servers_still_run(lab);
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

fn an_install_that_is_cancelled_alone_brings_every_server_back(lab: &Lab) {
    let before = pids(lab);
    lab.steamcmd("lines=1 hang=1");
    let job = lab.enqueue(&["update"]);
    wait_until("all have stopped, and steamcmd runs", s(120), || {
        lab.log(job).iter().any(|line| line.line == "line 1")
    });
    assert!(pids(lab).values().all(|pid| pid == "0"), "{:?}", pids(lab));
    let install = lab.task(job, "install-runtime", None);
    cancel(
        lab,
        job,
        install,
        &["--no-cascade", "--reason", "Steam is slow"],
    );

    let ended = lab.ended(job, 120);
    assert_eq!(
        (ended.state.as_str(), ended.exit_code),
        ("succeeded", Some(0)),
        "{}",
        ended.error
    );

    let tasks = lab.tasks(job);
    assert_eq!(tasks["stop"], everywhere("succeeded"));
    assert_eq!(tasks["install-runtime"][&0], "cancelled");
    assert_eq!(tasks["start-if-ran"], everywhere("succeeded"));
    all_run(lab);
    let after = pids(lab);
    assert!(
        after.iter().all(|(id, pid)| *pid != before[id]),
        "each was stopped, and started again"
    );

    lab.steamcmd("");
}

/// The games are deaf, so that of the stops those are under way that have a slot, and no other.
fn tasks_then_the_job_are_cancelled_and_untouched_servers_still_run(lab: &Lab) {
    let before = pids(lab);
    let all: Vec<u32> = (1..=SERVERS).collect();
    lab.be_deaf(&all);
    let job = lab.enqueue(&["update"]);
    stops_run(lab, job, &[1, 2, 3, 4]);

    // Without cascade nothing but this task changes, and the next stop has its slot.
    let first = cancel(lab, job, lab.task(job, "stop", Some(1)), &["--no-cascade"]);
    assert_eq!(
        first["tasks_affected"].as_array().map(Vec::len),
        Some(1),
        "{first:#}"
    );

    stops_run(lab, job, &[2, 3, 4, 5]);
    let mut stop = everywhere("pending");
    stop.extend([(1, "cancelled".to_owned())]);
    stop.extend([2, 3, 4, 5].map(|id| (id, "running".to_owned())));
    let mut start = everywhere("pending");
    assert_eq!(
        tasks(lab, job),
        of([
            ("check-build", &one("succeeded")),
            ("stop", &stop),
            ("install-runtime", &one("pending")),
            ("start-if-ran", &start)
        ])
    );

    // With cascade the install goes, too, and the start of this server; not those of the others.
    let target = lab.task(job, "stop", Some(2));
    let second = cancel(lab, job, target, &["--reason", "not this one"]);
    let affected = second["tasks_affected"].as_array().expect("tasks");
    let mut caused: Vec<_> = affected
        .iter()
        .map(|task| (task["id"].as_i64(), task["caused_by"].as_i64()))
        .collect();
    caused.sort_unstable();
    let (install, initialize_it, start_of_it) = (
        lab.task(job, "install-runtime", None),
        lab.task(job, "initialize", Some(2)),
        lab.task(job, "start-if-ran", Some(2)),
    );

    let goes_with = |task| (Some(task), Some(target));
    assert_eq!(
        caused,
        [
            (Some(target), None),
            goes_with(install),
            goes_with(initialize_it),
            goes_with(start_of_it)
        ],
        "{second:#}"
    );

    stops_run(lab, job, &[3, 4, 5, 6]);
    stop.extend([(2, "cancelled".to_owned()), (6, "running".to_owned())]);
    start.extend([(2, "skipped".to_owned())]);
    assert_eq!(
        tasks(lab, job),
        of([
            ("check-build", &one("succeeded")),
            ("stop", &stop),
            ("install-runtime", &one("skipped")),
            ("start-if-ran", &start)
        ])
    );

    assert_eq!(lab.show(job).state, "running", "the job goes on");

    // One that obeys has its end, and keeps it.
    lab.obey(&[3]);
    stops_run(lab, job, &[4, 5, 6, 7]);
    let third = lab
        .run(&[
            "left4me-job",
            "cancel",
            &job.to_string(),
            "--leave-stopped",
            "--reason",
            "enough",
        ])
        .ends_with(0);
    assert!(third.stdout.contains("enough"), "{third}");
    for id in 4..=i64::from(SERVERS) {
        stop.insert(id, "cancelled".to_owned());
    }
    stop.insert(3, "succeeded".to_owned());
    for (id, state) in &mut start {
        *state = if *id == 2 { "skipped" } else { "cancelled" }.to_owned();
    }
    assert_eq!(
        tasks(lab, job),
        of([
            ("check-build", &one("succeeded")),
            ("stop", &stop),
            ("install-runtime", &one("skipped")),
            ("start-if-ran", &start)
        ])
    );

    let ended = lab.show(job);
    assert_eq!(
        (ended.state.as_str(), ended.exit_code),
        ("cancelled", Some(1)),
        "{}",
        ended.error
    );

    let records = lab.json(&[
        "left4me-job",
        "cancellations",
        "--job",
        &job.to_string(),
        "--json",
    ]);

    let states: Vec<_> = records
        .as_array()
        .expect("a list")
        .iter()
        .map(|record| &record["state"])
        .collect();
    assert_eq!(states, ["completed"; 3], "{records:#}");

    for id in 8..=SERVERS {
        assert_eq!(lab.main_pid(id), before[&id], "server {id} was not touched");
        assert_eq!(
            lab.unit(&format!("left4me-server@{id}.service"), "ActiveState"),
            "active",
            "server {id}"
        );

        lab.answers(&format!("s{id}"));
    }

    assert!(
        lab.is("! systemctl list-units --all --plain --no-legend 'left4me-helper@*' | grep -q ."),
        "helpers"
    );

    let wanted = lab.sql("SELECT desired_state, count(*) FROM servers GROUP BY 1");
    assert_eq!(
        wanted,
        format!("running|{SERVERS}"),
        "the desired states are not touched by it"
    );

    lab.obey(&all);
    for id in 1..=7 {
        let unit = format!("left4me-server@{id}.service");
        wait_until(&format!("{unit} has ended"), s(30), || {
            lab.unit(&unit, "ActiveState") == "inactive"
        });
    }

    lab.job(&["start", "--all"]);
    all_run(lab);
}

/// Cancels a task, which has to succeed within grace and margin; gives the result.
#[track_caller]
fn cancel(lab: &Lab, job: i64, task: i64, options: &[&str]) -> serde_json::Value {
    let (job, task) = (job.to_string(), task.to_string());
    let result = lab.json(
        &[
            &["left4me-job", "cancel", &job, "--task", &task, "--json"],
            options,
        ]
        .concat(),
    );

    assert!(
        result["success"] == true && result["state"] == "cancelled",
        "{result:#}"
    );

    lab.ok(&["journalctl", "--sync"]);
    let journal = [
        "journalctl",
        "--output=cat",
        &format!("LEFT4ME_TASK_ID={task}"),
        "LEFT4ME_STEP=finish",
    ];

    assert_eq!(
        lab.ok(&journal).lines().count(),
        1,
        "the journal finds it by its task"
    );

    result
}

/// Waits until of the job's stops exactly these run, and systemd is at it.
#[track_caller]
fn stops_run(lab: &Lab, job: i64, servers: &[i64]) {
    wait_for(&format!("the stops of {servers:?} run"), s(30), || {
        let stops = lab.tasks(job).remove("stop").unwrap_or_default();
        let running: Vec<i64> = stops
            .iter()
            .filter(|(_, state)| *state == "running")
            .map(|(id, _)| *id)
            .collect();
        let is_stopping = |id: &i64| {
            lab.unit(&format!("left4me-server@{id}.service"), "ActiveState") == "deactivating"
        };
        if running == servers && servers.iter().all(is_stopping) {
            Ok(())
        } else {
            Err(format!("{stops:?}"))
        }
    });
}

type States = BTreeMap<i64, String>;

fn everywhere(state: &str) -> States {
    (1..=i64::from(SERVERS))
        .map(|id| (id, state.to_owned()))
        .collect()
}

fn one(state: &str) -> States {
    BTreeMap::from([(0, state.to_owned())])
}

/// The tasks of a job without those that initialize: they go as the starts behind them.
fn tasks(lab: &Lab, job: i64) -> BTreeMap<String, States> {
    let mut tasks = lab.tasks(job);
    tasks.remove("initialize");
    tasks
}

fn of(kinds: [(&str, &States); 4]) -> BTreeMap<String, States> {
    kinds
        .into_iter()
        .map(|(kind, states)| (kind.to_owned(), states.clone()))
        .collect()
}

/// The process of each server's game; 0 when it does not run.
fn pids(lab: &Lab) -> BTreeMap<u32, String> {
    let pids = lab.sh(&format!(
        "for i in {{1..{SERVERS}}}; do systemctl show -P MainPID left4me-server@$i.service; done"
    ));
    (1..).zip(pids.lines().map(str::to_owned)).collect()
}

#[track_caller]
fn all_run(lab: &Lab) {
    let states = lab.sh(&format!(
        "systemctl show -P ActiveState left4me-server@{{1..{SERVERS}}}.service | sort | uniq -c; \
         systemctl is-enabled left4me-server@{{1..{SERVERS}}}.service | sort | uniq -c"
    ));

    let states: Vec<_> = states
        .lines()
        .map(str::trim)
        .filter(|line| !line.ends_with(' ') && !line.is_empty())
        .collect();
    assert!(
        states
            .iter()
            .any(|line| *line == format!("{SERVERS} active")),
        "{states:?}"
    );

    assert!(
        states
            .iter()
            .any(|line| *line == format!("{SERVERS} enabled")),
        "{states:?}"
    );

    assert_eq!(
        lab.sql("SELECT actual_state, count(*) FROM servers GROUP BY 1"),
        format!("running|{SERVERS}")
    );
}
