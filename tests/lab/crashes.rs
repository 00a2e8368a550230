//! What happens when one of ours dies in the middle: no process is left, the job says why, the
//! queue goes on.

use crate::lab::{Lab, s, wait_for, wait_until};

/// LEFT4ME_CANCEL_GRACE_SECONDS here.
const GRACE: u64 = 3;

/// What ending a tree may take beyond the grace on a busy machine.
const MARGIN: u64 = 7;

/// An installation that does not end, with children, one of them in a session of its own, and deaf
/// to signals.
const STUBBORN: &str = "hang=1 children=3 fork=setsid ignore_term=1 lines=3";

/// Of that: itself, three children, the stubborn one.
const TREE: usize = 5;

pub fn a_death_leaves_no_process_an_honest_job_and_a_working_queue(lab: &Lab) {
    lab.set(&format!("LEFT4ME_CANCEL_GRACE_SECONDS={GRACE}"));
    lab.describe(&["bystander"]);
    lab.job(&["install"]);
    a_killed_worker(lab);
    a_killed_runner(lab);
    a_stopped_worker(lab);
    a_killed_helper(lab);
    a_reboot_in_the_middle(lab);
}

/// Begins an installation that does not end by itself, and returns when its whole tree runs.
fn begin_stubborn_install(lab: &Lab) -> i64 {
    lab.steamcmd(STUBBORN);
    let job = lab.enqueue(&["install"]);
    wait_for("steamcmd's tree runs", s(20), || {
        let tree = lab.processes_of("left4me-steam");
        let commands = tree
            .lines()
            .filter(|line| line.contains("steamcmd"))
            .count();
        if commands >= TREE { Ok(()) } else { Err(tree) }
    });

    wait_until("its lines are in the log", s(10), || {
        lab.log(job).iter().any(|line| line.line == "line 3")
    });
    assert_eq!(lab.show(job).state, "running");
    job
}

/// The tree is gone in time, the job failed with a line that says why, and the next one runs.
fn ends_well(lab: &Lab, job: i64, why: &[&str]) {
    wait_for("the whole tree is gone", s(GRACE + MARGIN), || {
        let left = lab.processes_of("left4me-steam");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });

    let job = lab.ended(job, 30);
    assert_eq!(job.state, "failed");
    assert!(
        job.exit_code.is_some_and(|code| code != 0),
        "an exit code of {:?}",
        job.exit_code
    );

    for word in why {
        assert!(
            job.error.contains(word),
            "job {} says why it failed ('{word}'): {}",
            job.id,
            job.error
        );
    }

    lab.logged(job.id, "stderr", why);
    let show = lab.json(&["left4me-job", "show", &job.id.to_string(), "--json"]);
    for part in show["tasks"]
        .as_array()
        .into_iter()
        .chain(show["runners"].as_array())
        .flatten()
    {
        let ended = if part["kind"].is_string() {
            &part["finished_at"]
        } else {
            &part["ended_at"]
        };

        assert!(
            ended.is_i64(),
            "nothing of an ended job is still running: {part}"
        );
    }

    lab.steamcmd("");
    assert_eq!(lab.job(&["install"]).state, "succeeded", "the next job");
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

fn a_killed_worker(lab: &Lab) {
    let job = begin_stubborn_install(lab);
    lab.ok(&["kill", "-9", &lab.unit("left4me-worker.service", "MainPID")]);
    ends_well(lab, job, &["worker", "died"]);
}

fn a_killed_runner(lab: &Lab) {
    let job = begin_stubborn_install(lab);
    let units =
        lab.sh("systemctl list-units --plain --no-legend 'left4me-runner@*' | awk '{ print $1 }'");
    assert_eq!(
        units.lines().count(),
        1,
        "one connection, one unit: {units}"
    );

    lab.ok(&["kill", "-9", &lab.unit(&units, "MainPID")]);
    ends_well(lab, job, &["install", "runner"]);
}

fn a_stopped_worker(lab: &Lab) {
    let job = begin_stubborn_install(lab);
    let next = lab.enqueue(&["initialize", "--server", "bystander"]);
    // With its socket: what was enqueued in the moment of the stop may start the next worker at
    // once. And with the poller's timer: a poll fails, rightly, when jobs wait and no socket is
    // there.
    lab.ok(&[
        "systemctl",
        "stop",
        "left4me-poller.timer",
        "left4me-poller.service",
    ]);

    lab.ok(&[
        "systemctl",
        "stop",
        "left4me-worker.socket",
        "left4me-worker.service",
    ]);

    assert_eq!(
        lab.processes_of("left4me-steam"),
        "",
        "processes after the worker was stopped"
    );

    assert_eq!(lab.show(job).state, "failed");
    assert_eq!(
        lab.show(next).state,
        "queued",
        "a worker that was told to stop claims nothing more"
    );

    lab.ok(&[
        "systemctl",
        "start",
        "left4me-worker.socket",
        "left4me-poller.timer",
    ]);

    ends_well(lab, job, &["worker", "stop"]);
    assert_eq!(lab.ended(next, 30).state, "succeeded", "what had waited");
}

/// A helper that dies under its verb: the job says so, and the verb can be asked for again.
fn a_killed_helper(lab: &Lab) {
    // The game ignores its signal, so that stopping it takes the unit's whole TimeoutStopSec=.
    lab.job(&["start", "--server", "bystander"]);
    lab.answers("bystander");
    lab.sh("touch /var/lib/left4me/runtime/1/merged/left4dead2/standin.ignore-signals");
    let job = lab.enqueue(&["stop", "--server", "bystander"]);
    let helper = wait_for("the helper waits for the game's end", s(10), || {
        let stopping = lab.unit("left4me-server@1.service", "ActiveState") == "deactivating";
        let pid = lab
            .run(&["pgrep", "--full", "^/usr/libexec/left4me/left4me-helper$"])
            .stdout;
        if stopping && !pid.is_empty() {
            Ok(pid)
        } else {
            Err(pid)
        }
    });

    lab.ok(&["kill", "-9", helper.lines().next().unwrap_or_default()]);
    let job = lab.ended(job, 30);
    assert_eq!(job.state, "failed");
    assert!(
        job.error.contains("disable"),
        "job {} says what broke: {}",
        job.id,
        job.error
    );

    lab.job(&["stop", "--server", "bystander"]);
    lab.is_stopped(1, "bystander");
}

/// The host goes down under an installation: after the boot the job is ended, and not run again.
fn a_reboot_in_the_middle(lab: &Lab) {
    let job = begin_stubborn_install(lab);
    let jobs = lab.job_count();
    lab.reboot();
    let job = lab.ended(job, 30);
    assert_eq!(job.state, "failed");
    assert!(
        job.error.contains("worker"),
        "job {} says why it failed: {}",
        job.id,
        job.error
    );

    assert_eq!(lab.job_count(), jobs, "nothing is enqueued by itself");
    assert_eq!(
        lab.processes_of("left4me-steam"),
        "",
        "nothing is run twice"
    );

    lab.steamcmd("");
    assert_eq!(lab.job(&["install"]).state, "succeeded", "the next job");
}
