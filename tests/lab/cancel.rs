//! Cancelling, with the kernel and systemd in it: what was cancelled is really gone, in time; what
//! cannot be killed is reported and holds up no other job; and a cancellation that is not allowed,
//! or makes no sense, changes nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::{Lab, Output, s, standin, wait_for, wait_until};
use crate::site::STEAM;

/// LEFT4ME_CANCEL_GRACE_SECONDS here.
const GRACE: u64 = 2;

/// What a cancellation may take besides, in milliseconds; with --force that is all.
const MARGIN: u64 = 500;

/// How long a command that was killed may take to be gone before it is told as left
/// (process/escalation.rs), in seconds.
const EMPTY_WAIT: u64 = 5;

const STEPS: [&str; 7] = [
    "block",
    "identify",
    "terminate",
    "settle",
    "clean",
    "verify",
    "finish",
];

/// Where the disk that does not answer is mounted: what lies below is seen by the runner.
const DISK: &str = "/var/lib/left4me/steam/disk";

/// Whether a process waits in the kernel for such a disk.
const STUCK: &str = "grep -Eq 'request_wait_answer|fuse' /proc/[1-9]*/wchan";

/// Ways not to end. The name, the behaviour, and what must be so before the trial is fair.
const KINDS: [(&str, &str, &str); 7] = [
    ("obeys", "hang=1", "true"),
    ("ignores the request", "hang=1 ignore_term=1", "true"),
    (
        "double fork",
        "hang=1 fork=double",
        "pgrep -fx '.* --stubborn-child'",
    ),
    (
        "a session of its own",
        "hang=1 fork=setsid ignore_term=1",
        "pgrep -fx '.* --stubborn-child'",
    ),
    (
        "holds the terminal open",
        "hang=1 hold_pipe=1",
        "pgrep -fx '.* --stubborn-child'",
    ),
    (
        "200 children that fork",
        "hang=1 children=200 respawn=1 ignore_term=1",
        "(( $(pgrep -fc 'steamcmd.sh --child') >= 200 ))",
    ),
    (
        "in the kernel for a while",
        "stuck=DISK/100 hang=1 ignore_term=1",
        STUCK,
    ),
];

pub fn what_was_cancelled_is_really_gone(lab: &Lab) {
    lab.set(&format!("LEFT4ME_CANCEL_GRACE_SECONDS={GRACE}"));
    lab.describe(&[]);
    let _disk = Disk::mount(lab);
    let mut told = Vec::new();
    for force in [false, true] {
        for (kind, behaviour, is_so) in KINDS {
            let job = lab.begin_install(behaviour, is_so);
            let limit = MARGIN + if force { 0 } else { GRACE * 1000 };
            let cancelled = lab.cancel_and_look(
                job,
                &["--reason", kind, if force { "--force" } else { "--json" }],
            );

            told.push(format!(
                "{} ms of {limit}: {kind}{}",
                cancelled.ms,
                if force { ", forced" } else { "" }
            ));

            cancelled.is_gone();
            assert_eq!(cancelled.output.code, 0, "{}", cancelled.output);
            lab.is_cancelled(job, force, kind);
            assert!(
                cancelled.ms <= limit,
                "within {limit} ms; so far:\n{}",
                told.join("\n")
            );
        }
    }

    eprintln!(
        "from the request to the end of `left4me-job cancel`:\n{}",
        told.join("\n")
    );

    lab.steamcmd("");
    assert_eq!(lab.job(&["install"]).state, "succeeded", "the next job");
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

pub fn what_cannot_be_killed_is_told_and_holds_nobody_else(lab: &Lab) {
    lab.set(&format!("LEFT4ME_CANCEL_GRACE_SECONDS={GRACE}"));
    lab.describe(&["one", "two"]);
    lab.job(&["install"]);
    a_stuck_steamcmd(lab);
    a_stuck_runner(lab);
    a_stuck_helper_beside_another(lab);
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

/// steamcmd sleeps in the kernel and no signal ends it.
fn a_stuck_steamcmd(lab: &Lab) {
    let disk = Disk::mount(lab);
    let job = lab.begin_install("stuck=DISK/ever children=3 fork=double", STUCK);
    let unit = lab.instance("left4me-runner");
    let cancelled = lab.cancel_and_look(job, &["--force"]);
    cancelled
        .output
        .ends_with(1)
        .complains_of(&[&unit, "cannot be killed"]);
    let seconds = EMPTY_WAIT * 1000..EMPTY_WAIT * 1000 + 2 * MARGIN;
    assert!(
        seconds.contains(&cancelled.ms),
        "told after {} ms",
        cancelled.ms
    );

    let left: Vec<&str> = cancelled
        .processes
        .lines()
        .filter(|line| !line.contains("<defunct>"))
        .collect();
    assert!(
        left.len() == 1 && left[0].starts_with('D'),
        "all but the one in the kernel are gone\n{}",
        left.join("\n")
    );

    lab.is_told_as_left(job, &unit);
    assert_eq!(lab.show(job).state, "cancelled");

    lab.steamcmd("");
    all_wait_for(lab, disk);
}

/// An installation is about everything: nothing begins while the other one may still write,
/// whichever worker serves the queue.
fn all_wait_for(lab: &Lab, disk: Disk<'_>) {
    let next = [
        lab.enqueue(&["install"]),
        lab.enqueue(&["initialize", "--server", "one"]),
    ];

    lab.ok(&["systemctl", "restart", "left4me-worker.service"]);
    wait_until("the new worker serves the queue", s(10), || {
        lab.unit("left4me-worker.service", "StatusText")
            .contains("2 queued")
    });

    for job in next {
        assert_eq!(
            lab.show(job).state,
            "queued",
            "job {job}, while there is what it could meet"
        );
    }

    disk.let_go();
    for job in next {
        assert_eq!(
            lab.ended(job, 30).state,
            "succeeded",
            "job {job}, once nothing stands in its way"
        );
    }

    wait_until("the units are gone", s(10), || {
        lab.instances("left4me-runner").is_empty()
    });
    assert_eq!(lab.processes_of("left4me-steam"), "");
}

/// The runner itself sleeps in the kernel, before it could begin anything: it opens its lock.
fn a_stuck_runner(lab: &Lab) {
    let disk = Disk::mount(lab);
    let lock = format!("{STEAM}/.left4me-install.lock");
    // No link: the runner follows none there.
    lab.sh(&format!(
        "mv {lock} {lock}.away; touch {lock}; mount --bind {DISK}/ever {lock}"
    ));
    let job = lab.enqueue(&["install"]);
    wait_until("the runner is in the kernel", s(20), || lab.is(STUCK));
    let unit = lab.instance("left4me-runner");
    let cancelled = lab.cancel_and_look(job, &["--force"]);
    cancelled.output.ends_with(1).complains_of(&[&unit]);
    assert!(cancelled.ms < 15_000, "told after {} ms", cancelled.ms);
    lab.is_told_as_left(job, &unit);
    assert_eq!(lab.show(job).state, "cancelled");
    lab.sh(&format!("umount --lazy {lock}; mv {lock}.away {lock}"));
    all_wait_for(lab, disk);
}

/// A helper's systemctl, which starts the purge of a reset, sleeps in the kernel, because a library of
/// its own is on that disk; and another helper waits for a game that is deaf.
fn a_stuck_helper_beside_another(lab: &Lab) {
    const DROP_IN: &str = "/run/systemd/system/left4me-helper@.service.d/stuck.conf";
    lab.deaf_games_last();
    lab.job(&["start", "--all"]);
    let disk = Disk::mount(lab);
    // Which it is differs; neither the helper nor what makes its sandbox needs it.
    let library = lab.sh("realpath $(ldd /usr/bin/systemctl | grep -Eo \
         '/.*/lib(systemd-shared|crypto)[^ ]*' | head -n 1)");

    lab.write(
        DROP_IN,
        &format!("[Service]\nBindPaths={DISK}/ever:{library}\n"),
    );

    lab.ok(&["systemctl", "daemon-reload"]);
    let stuck = lab.enqueue(&["reset", "--server", "one"]);
    wait_until(
        "systemctl is in the kernel, in the only helper",
        s(20),
        || lab.is(STUCK) && lab.instances("left4me-helper").len() == 1,
    );
    let unit = lab.instance("left4me-helper");
    lab.sh(&format!("rm {DROP_IN}; systemctl daemon-reload"));
    lab.be_deaf(&[2]);
    let other = lab.enqueue(&["stop", "--server", "two"]);
    wait_until("the other one waits", s(20), || {
        lab.unit("left4me-server@2.service", "ActiveState") == "deactivating"
    });

    lab.ok(&["left4me-job", "cancel", &stuck.to_string(), "--no-wait"]);
    let cancelled = lab.cancel_and_look(other, &["--force"]);
    assert_eq!(cancelled.output.code, 0, "{}", cancelled.output);
    assert!(
        cancelled.ms <= MARGIN,
        "the other one is cancelled in {} ms",
        cancelled.ms
    );

    assert_eq!(lab.show(stuck).state, "cancelling");
    let held = lab.enqueue(&["initialize", "--server", "one"]);
    assert_eq!(
        lab.job(&["initialize", "--server", "two"]).state,
        "succeeded",
        "the other server is free"
    );

    let told = lab.cancelled(stuck, GRACE + EMPTY_WAIT + 5);
    assert_eq!(told["cancellation_state"], "failed", "{told:#}");
    lab.is_told_as_left(stuck, &unit);
    assert_eq!(
        lab.show(held).state,
        "queued",
        "while a process of job {stuck} lives"
    );

    assert_eq!(
        lab.job(&["initialize", "--server", "two"]).state,
        "succeeded",
        "the other server is still free"
    );

    assert_eq!(
        lab.show(held).state,
        "queued",
        "while a process of job {stuck} lives"
    );

    disk.let_go();
    assert_eq!(
        lab.ended(held, 30).state,
        "succeeded",
        "once nothing stands in its way"
    );

    wait_until("the unit is gone", s(30), || {
        !lab.instances("left4me-helper").contains(&unit)
    });
    lab.obey(&[2]);
    lab.job(&["stop", "--all"]);
}

pub fn who_may_not_and_what_makes_no_sense_changes_nothing(lab: &Lab) {
    lab.set(&format!("LEFT4ME_CANCEL_GRACE_SECONDS={GRACE}"));
    lab.describe(&["one"]);
    lab.sh("useradd --create-home --groups left4me member; useradd --create-home stranger");
    let finished = lab.job(&["install"]).id.to_string();
    let running = lab
        .begin_install("hang=1 ignore_term=1", "true")
        .to_string();
    let queued = lab.enqueue(&["initialize", "--server", "one"]).to_string();
    what_cannot_be_cancelled_is_refused(lab, &finished, &running, &queued);
    asking_twice_is_one_cancellation(lab, &running);
    a_queued_job_never_starts(lab, &queued);
}

fn what_cannot_be_cancelled_is_refused(lab: &Lab, finished: &str, running: &str, queued: &str) {
    let task_of_finished = lab.task(finished, "install-runtime", None).to_string();
    let task_of_queued = lab.task(queued, "initialize", Some(1)).to_string();
    let (long, longer) = ("x".repeat(1001), "x".repeat(100 * 1024));
    let cases: [(&[&str], i32); 16] = [
        (&[finished], 4),
        (&[finished, "--force"], 4),
        (&[finished, "--task", &task_of_finished], 4),
        (&[running, "--task", &task_of_queued], 3),
        (&[running, "--task", &task_of_finished, "--no-cascade"], 3),
        (&[running, "--task", "999999"], 3),
        (&["999999"], 3),
        (&["999999", "--task", &task_of_queued], 3),
        (&["-1"], 2),
        (&["one"], 2),
        (&[running, "--no-cascade"], 2),
        (&[running, "--reason", &long], 2),
        (&[running, "--reason", &longer], 2),
        (&[running, "--reason", "two\nlines"], 2),
        (&[running, "--reason", "\u{1b}[2J\u{7}"], 2),
        (&[queued, "--reason", "\u{9b}31m"], 2),
    ];

    let before = lab.content();
    for user in ["root", "member"] {
        for (arguments, code) in cases {
            let output = lab.run_as(user, &[&["left4me-job", "cancel"], arguments].concat());
            assert_eq!(
                (output.code, output.stdout.as_str()),
                (code, ""),
                "{user}: {:.2000}",
                output.to_string()
            );

            // One line; clap's hint to --help may follow.
            let first = output.stderr.lines().next().unwrap_or_default();
            assert!(
                (1..500).contains(&first.len()) && !first.contains('\u{1b}'),
                "{user}: {first:.2000}"
            );
        }
    }

    for user in ["stranger", "left4me-game", "left4me-steam", "nobody"] {
        for arguments in [
            &[running][..],
            &[queued],
            &[running, "--force"],
            &["999999"],
        ] {
            let output = lab.run_as(user, &[&["left4me-job", "cancel"], arguments].concat());
            output
                .ends_with(77)
                .complains_of(&["/var/lib/left4me/db/left4me.db"]);
        }

        for verb in [&["cancel-status", running][..], &["cancellations"]] {
            lab.run_as(user, &[&["left4me-job"], verb].concat())
                .ends_with(77);
        }
    }

    assert_eq!(
        lab.content(),
        before,
        "what was refused has changed nothing"
    );

    assert_eq!(
        lab.unit(&lab.instance("left4me-runner"), "ActiveState"),
        "active",
        "and what ran runs"
    );
}

fn asking_twice_is_one_cancellation(lab: &Lab, running: &str) {
    let ask = |more: &[&str]| {
        let argv = [
            &["left4me-job", "cancel", running, "--no-wait", "--json"],
            more,
        ]
        .concat();

        let output = lab.run_as("member", &argv).ends_with(0);
        serde_json::from_str::<Value>(&output.stdout).expect("a JSON document")
    };

    let first = ask(&["--reason", "match tonight"]);
    let asked = lab.sql("SELECT count(*), max(id) FROM events; SELECT * FROM cancellations");
    let second = ask(&["--reason", "another reason"]);
    assert_eq!(
        first["cancellation_id"], second["cancellation_id"],
        "{second:#}"
    );

    assert_eq!(second["reason"], "match tonight", "the first one's");
    assert_eq!(
        lab.sql("SELECT count(*), max(id) FROM events; SELECT * FROM cancellations"),
        asked,
        "nothing new"
    );

    let escalated = ask(&["--force"]);
    assert_eq!(
        escalated["cancellation_id"], first["cancellation_id"],
        "{escalated:#}"
    );

    let told = lab.cancelled(running.parse().expect("a number"), 5);
    assert_eq!(
        (&told["requested_by"], &told["force_used"]),
        (&"member".into(), &true.into()),
        "{told:#}"
    );

    assert!(lab.instances("left4me-runner").is_empty(), "its unit");
    let error = lab.show(running.parse().expect("a number")).error;
    assert!(
        error.contains("member") && error.contains("match tonight"),
        "who and why: {error}"
    );

    let before = lab.content();
    for more in [&[][..], &["--force"]] {
        let argv = [&["left4me-job", "cancel", running], more].concat();
        lab.run_as("member", &argv)
            .ends_with(4)
            .complains_of(&["already finished"]);
    }

    assert_eq!(lab.content(), before, "a third one finds it finished");
}

fn a_queued_job_never_starts(lab: &Lab, queued: &str) {
    lab.ok(&["left4me-job", "pause"]);
    let id = queued.parse().expect("a number");
    // The job before it has ended just now: it may have begun, and ended, in between.
    let waiting = if lab.show(id).state == "queued" {
        id
    } else {
        lab.enqueue(&["initialize", "--server", "one"])
    };

    let number = waiting.to_string();
    lab.run_as(
        "member",
        &["left4me-job", "cancel", &number, "--reason", "not today"],
    )
    .ends_with(0);

    lab.logged(
        waiting,
        "stderr",
        &["cancelled before execution by member: not today"],
    );

    lab.ok(&["left4me-job", "resume"]);
    assert_eq!(
        lab.job(&["initialize", "--server", "one"]).state,
        "succeeded",
        "who came after it"
    );

    let job = lab.json(&["left4me-job", "show", &number, "--json"]);
    assert_eq!(
        (&job["state"], &job["started_at"]),
        (&"cancelled".into(), &Value::Null),
        "{job:#}"
    );

    assert_eq!(lab.status(waiting)["cancellation_state"], "completed");
}

// ---- what these stories do --------------------------------------------------------------------

/// The disk that does not answer, while this lives.
struct Disk<'a>(&'a Lab);

impl<'a> Disk<'a> {
    #[track_caller]
    fn mount(lab: &'a Lab) -> Self {
        const PROGRAM: &str = "/usr/local/lib/left4me-standin/stuck";
        lab.push(&standin("standin-stuck"), PROGRAM);
        lab.ok(&["mkdir", "-p", DISK]);
        lab.ok(&[
            "systemd-run",
            "--quiet",
            "--collect",
            "--unit=lab-disk",
            PROGRAM,
            DISK,
        ]);

        let disk = Self(lab);
        wait_until("the disk is mounted", s(10), || {
            lab.is(&format!("mountpoint -q {DISK}"))
        });
        disk
    }

    fn let_go(self) {}
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.0.run(&["systemctl", "stop", "lab-disk.service"]);
    }
}

/// How a cancellation went, and what was there when it had ended.
struct Cancelled {
    /// From the command's beginning to its end.
    ms: u64,
    output: Output,
    /// Instances of the runner.
    units: String,
    /// Those of its user: state, and command line.
    processes: String,
}

impl Cancelled {
    #[track_caller]
    fn is_gone(&self) {
        assert_eq!(
            (self.units.as_str(), self.processes.as_str()),
            ("", ""),
            "what is left\n{}",
            self.output
        );
    }
}

impl Lab {
    /// An installation that does not end, once it is as stubborn as it should be.
    #[track_caller]
    fn begin_install(&self, behaviour: &str, is_so: &str) -> i64 {
        self.steamcmd(&format!("lines=1 {}", behaviour.replace("DISK", DISK)));
        let job = self.enqueue(&["install"]);
        wait_until(&format!("'{behaviour}' is under way"), s(30), || {
            self.log(job).iter().any(|line| line.line == "line 1") && self.is(is_so)
        });
        job
    }

    /// `left4me-job cancel`, timed inside the lab, and what there is at the moment it has ended.
    #[track_caller]
    fn cancel_and_look(&self, job: i64, options: &[&str]) -> Cancelled {
        const SCRIPT: &str = "begun=$EPOCHREALTIME; code=0
            left4me-job cancel \"$@\" || code=$?
            ended=$EPOCHREALTIME
            ps -u left4me-steam -o stat=,args= >/tmp/processes || true
            systemctl list-units --all --plain --no-legend 'left4me-runner@*' >/tmp/units
            echo $(( (${ended/./} - ${begun/./}) / 1000 )) >/tmp/ms
            exit $code";
        let job = job.to_string();
        let output = self.run(&[&["bash", "-c", SCRIPT, "cancel", &job], options].concat());
        let read = |file: &str| self.ok(&["cat", file]);
        let ms = read("/tmp/ms").parse().expect("milliseconds");
        Cancelled {
            ms,
            output,
            units: read("/tmp/units"),
            processes: read("/tmp/processes"),
        }
    }

    /// The job is cancelled, its record complete, and the journal has each step.
    #[track_caller]
    fn is_cancelled(&self, job: i64, force: bool, why: &str) {
        let shown = self.show(job);
        assert_eq!(
            (shown.state.as_str(), shown.exit_code),
            ("cancelled", Some(1)),
            "job {job}: {}",
            shown.error
        );

        assert!(
            shown.error.contains(why),
            "job {job} says why: {}",
            shown.error
        );

        let told = self.status(job);
        assert_eq!(told["cancellation_state"], "completed", "{told:#}");
        let steps = told["steps"].as_array().expect("steps");
        let names: Vec<&str> = steps
            .iter()
            .map(|step| step["step"].as_str().expect("a name"))
            .collect();
        assert_eq!(names, STEPS, "{told:#}");
        for step in steps {
            assert!(
                step["ok"] == true && step["finished_at"].is_i64() && step["detail"].is_string(),
                "{told:#}"
            );
        }

        let [runner] = &told["runners_terminated"].as_array().expect("runners")[..] else {
            panic!("one: {told:#}")
        };
        assert!(
            says(&runner["unit"], "left4me-runner@") && runner["tree"] == "empty",
            "{told:#}"
        );

        assert!(
            ["terminate", "kill"]
                .iter()
                .any(|rung| runner["ended_by"] == *rung),
            "{told:#}"
        );

        self.is_in_the_journal(job, &told, force);
    }

    /// journald has the steps of a cancellation, with what they were about.
    #[track_caller]
    fn is_in_the_journal(&self, job: i64, told: &Value, force: bool) {
        let id = told["cancellation_id"].to_string();
        self.ok(&["journalctl", "--sync"]);
        let journal = self.ok(&[
            "journalctl",
            "--output=json",
            &format!("LEFT4ME_CANCELLATION_ID={id}"),
        ]);

        let lines: Vec<Value> = journal
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let steps: Vec<&str> = lines
            .iter()
            .filter_map(|line| line["LEFT4ME_STEP"].as_str())
            .collect();
        assert_eq!(steps, STEPS, "{journal}");
        let id_of_job = job.to_string();
        assert!(
            lines.iter().all(|line| line["LEFT4ME_JOB_ID"] == id_of_job),
            "{journal}"
        );

        for line in lines.iter().filter(|line| line["LEFT4ME_STEP"].is_string()) {
            let ms = line["LEFT4ME_DURATION_MS"]
                .as_str()
                .and_then(|ms| ms.parse::<u64>().ok());
            assert!(ms.is_some_and(|ms| ms < 60_000), "{line:#}");
        }

        let first = if force { "SIGKILL" } else { "SIGTERM" };
        let terminate = lines
            .iter()
            .find(|line| line["LEFT4ME_STEP"] == "terminate")
            .expect("a step");
        assert_eq!(terminate["LEFT4ME_SIGNAL"], first, "{journal}");

        // The beginning: who, why, and what it was; then each signal with its outcome and duration.
        let begun = &lines[0];
        assert_eq!(begun["LEFT4ME_PREVIOUS_STATE"], "running", "{journal}");
        assert_eq!(
            begun["LEFT4ME_FORCE"].as_str(),
            Some(if force { "true" } else { "false" }),
            "{journal}"
        );

        assert_eq!(begun["LEFT4ME_REASON"], told["reason"], "{journal}");
        let signals = lines
            .iter()
            .filter(|line| line["LEFT4ME_OUTCOME"].is_string())
            .collect::<Vec<_>>();
        assert_eq!(
            signals.first().expect("a signal")["LEFT4ME_SIGNAL"],
            first,
            "{journal}"
        );

        assert!(
            signals
                .iter()
                .all(|line| line["LEFT4ME_DURATION_MS"].is_string()),
            "{journal}"
        );
    }

    /// The record names what would not die, and keeps the rest.
    #[track_caller]
    fn is_told_as_left(&self, job: i64, unit: &str) {
        let told = self.status(job);
        assert_eq!(told["cancellation_state"], "failed", "{told:#}");
        assert!(told["errors"].to_string().contains(unit), "{told:#}");
        let runners = told["runners_terminated"].as_array().expect("runners");
        assert!(
            runners
                .iter()
                .any(|runner| runner["unit"] == unit && runner["tree"] == "left"),
            "{told:#}"
        );

        assert_eq!(
            told["steps"].as_array().map(Vec::len),
            Some(STEPS.len()),
            "{told:#}"
        );
    }

    /// A job's newest cancellation.
    #[track_caller]
    pub fn status(&self, job: i64) -> Value {
        self.json(&["left4me-job", "cancel-status", &job.to_string(), "--json"])
    }

    /// The same, once it is over.
    #[track_caller]
    pub fn cancelled(&self, job: i64, seconds: u64) -> Value {
        wait_for(
            &format!("the cancellation of job {job} is over"),
            s(seconds),
            || {
                let told = self.status(job);
                let is_over = ["completed", "failed"]
                    .iter()
                    .any(|state| told["cancellation_state"] == *state);
                if is_over {
                    Ok(told)
                } else {
                    Err(format!("{told:#}"))
                }
            },
        )
    }

    /// A task's id, by what it does and on which server.
    #[track_caller]
    pub fn task(&self, job: impl ToString, kind: &str, server: Option<i64>) -> i64 {
        let job = self.json(&["left4me-job", "show", &job.to_string(), "--json"]);
        let tasks = job["tasks"].as_array().expect("tasks");
        let found = tasks
            .iter()
            .find(|task| task["kind"] == kind && task["server"].as_i64() == server);
        found
            .and_then(|task| task["id"].as_i64())
            .unwrap_or_else(|| panic!("no {kind} in {job:#}"))
    }

    /// Each task's state: by what it does, then by server.
    #[track_caller]
    pub fn tasks(&self, job: i64) -> BTreeMap<String, BTreeMap<i64, String>> {
        let job = self.json(&["left4me-job", "show", &job.to_string(), "--json"]);
        let mut found: BTreeMap<String, BTreeMap<i64, String>> = BTreeMap::new();
        for task in job["tasks"].as_array().expect("tasks") {
            let text = |key: &str| task[key].as_str().expect("a text").to_owned();
            found
                .entry(text("kind"))
                .or_default()
                .insert(task["server"].as_i64().unwrap_or(0), text("state"));
        }

        found
    }

    /// The instances of a socket's service that systemd has, whatever they are.
    fn instances(&self, service: &str) -> Vec<String> {
        let pattern = format!("{service}@*");
        let units = self.ok(&[
            "systemctl",
            "list-units",
            "--all",
            "--plain",
            "--no-legend",
            &pattern,
        ]);

        units
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    /// The one there is.
    #[track_caller]
    fn instance(&self, service: &str) -> String {
        let mut units = self.instances(service);
        assert_eq!(units.len(), 1, "one connection, one unit: {units:?}");
        units.remove(0)
    }

    /// All that cancelling may write, as one text.
    #[track_caller]
    fn content(&self) -> String {
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

        self.sql(
            &tables
                .map(|table| format!("SELECT '{table}', * FROM {table};"))
                .concat(),
        )
    }

    /// Games that ignore signals take as long as the test wants.
    #[track_caller]
    pub fn deaf_games_last(&self) {
        self.write(
            "/run/systemd/system/left4me-server@.service.d/last.conf",
            "[Service]\nTimeoutStopSec=600\n",
        );
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// Makes the games of these servers deaf.
    #[track_caller]
    pub fn be_deaf(&self, servers: &[u32]) {
        let touch = |id: &u32| {
            format!("touch /var/lib/left4me/runtime/{id}/merged/left4dead2/standin.ignore-signals")
        };
        self.sh(&servers.iter().map(touch).collect::<Vec<_>>().join("\n"));
    }

    /// Lets them hear again, and what they were told meanwhile.
    #[track_caller]
    pub fn obey(&self, servers: &[u32]) {
        for id in servers {
            self.sh(&format!(
                "rm -f /var/lib/left4me/runtime/{id}/merged/left4dead2/standin.ignore-signals
                 unit=left4me-server@{id}.service
                 [[ $(systemctl is-active $unit) != deactivating ]] || kill -INT $(systemctl show \
                 -P MainPID $unit)"
            ));
        }
    }
}

fn says(value: &Value, words: &str) -> bool {
    value.as_str().is_some_and(|text| text.contains(words))
}
