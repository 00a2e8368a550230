//! The doctor on a host that is broken in each way that it knows: it names what is broken, and its
//! advice, run as it is printed, mends that.
//!
//! Each case breaks one thing. Several that do not touch one another are broken at once, as on a
//! host that no one has looked at for long: then all are named, all advice is run, and the doctor
//! finds what it found before.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lab::{Lab, deb, s, wait_for, wait_until};
use crate::site::STEAM;

const ENV: &str = "/etc/left4me/left4me.env";
const DATA: &str = "/var/lib/left4me";
const DATABASE: &str = "/var/lib/left4me/db/left4me.db";
const DROP_INS: &str = "/etc/systemd/system";

/// What is done to the host; the check that finds it; what the finding has to say; and what a
/// person does before the command, where the advice says so.
struct Case {
    breaks: String,
    check: &'static str,
    words: &'static [&'static str],
    first: String,
}

fn case(breaks: impl Into<String>, check: &'static str, words: &'static [&'static str]) -> Case {
    Case {
        breaks: breaks.into(),
        check,
        words,
        first: String::new(),
    }
}

impl Case {
    /// What the advice leaves to a person.
    fn after(self, first: impl Into<String>) -> Self {
        Self {
            first: first.into(),
            ..self
        }
    }
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().unwrap_or_default()
}

/// All findings, as root.
#[track_caller]
fn findings(lab: &Lab) -> Vec<Value> {
    let doctor = lab.run(&["timeout", "60", "left4me", "doctor", "--json"]);
    assert!([0, 1].contains(&doctor.code), "{doctor}");
    let findings: Vec<Value> =
        serde_json::from_str(&doctor.stdout).unwrap_or_else(|error| panic!("{error}: {doctor}"));
    let failed = findings.iter().any(|finding| finding["severity"] == "fail");
    assert_eq!(doctor.code, i32::from(failed), "{doctor}");
    findings
}

/// What is not ok, by check and severity: what stays of it after a case is what was there before.
fn wrong(findings: &[Value]) -> BTreeSet<String> {
    let wrong = findings
        .iter()
        .filter(|finding| finding["severity"] != "ok");
    wrong
        .map(|finding| {
            format!(
                "{} {}: {}",
                text(finding, "severity"),
                text(finding, "check"),
                text(finding, "found")
            )
        })
        .collect()
}

#[track_caller]
fn found(findings: &[Value], check: &str, words: &[&str]) -> Value {
    let is_it = |finding: &&Value| {
        let severity = text(finding, "severity");
        let says = |word: &&str| text(finding, "found").contains(*word);
        ["warn", "fail"].contains(&severity)
            && text(finding, "check") == check
            && words.iter().all(says)
    };

    let finding = findings.iter().find(is_it);
    finding
        .unwrap_or_else(|| {
            panic!(
                "no finding '{check}' with {words:?} in {:#?}",
                wrong(findings)
            )
        })
        .clone()
}

/// Breaks, finds, runs each command as it is printed, and finds what was found before.
#[track_caller]
fn heal(lab: &Lab, before: &BTreeSet<String>, cases: &[Case]) {
    for case in cases {
        lab.sh(&case.breaks);
    }
    let named: Vec<Value> = wait_for("all of it is found", s(20), || {
        let all = findings(lab);
        let missing = cases.iter().find(|case| !is_found(&all, case));
        missing.map_or_else(
            || Ok(all.clone()),
            |case| {
                Err(format!(
                    "{} {:?}: {:#?}",
                    case.check,
                    case.words,
                    wrong(&all)
                ))
            },
        )
    });

    let mut done = BTreeSet::new();
    for case in cases {
        let finding = found(&named, case.check, case.words);
        let (advice, command) = (text(&finding, "advice"), text(&finding, "command"));
        assert!(
            !advice.is_empty() && advice.contains(command),
            "{finding:#}"
        );

        if !case.first.is_empty() {
            lab.sh(&case.first);
        }
        // What two findings say is done once.
        if !command.is_empty() && done.insert(command.to_owned()) {
            let ran = lab.run(&["bash", "-c", &format!("cd /root; {command}")]);
            assert_eq!(ran.code, 0, "{finding:#}\n{ran}");
        }

        assert!(
            !command.is_empty() || !case.first.is_empty(),
            "an advice that a test cannot follow: {finding:#}"
        );
    }

    // The poller looks every 30 s.
    wait_for("the advice heals", s(45), || {
        let left: Vec<String> = wrong(&findings(lab)).difference(before).cloned().collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:#?}"))
        }
    });
}

fn is_found(findings: &[Value], case: &Case) -> bool {
    let says = |finding: &Value| {
        case.words
            .iter()
            .all(|word| text(finding, "found").contains(word))
    };

    let mut of_it = findings.iter().filter(|finding| {
        text(finding, "check") == case.check && text(finding, "severity") != "ok"
    });
    of_it.any(says)
}

pub fn the_doctor_tries_and_its_advice_heals(lab: &Lab) {
    // A minimal Debian lacks the 32-bit libraries, and no network brings them: what the advice
    // would install.
    lab.sh("mkdir -p /lib32; touch /lib32/ld-linux.so.2 \
         /lib32/libstdc++.so.6 /lib32/libgcc_s.so.1 /lib32/libz.so.1");

    lab.describe(&["One"]);
    lab.job(&["install"]);
    let before = wait_for("a host without faults", s(60), || {
        let wrong = wrong(&findings(lab));
        if wrong.is_empty() {
            Ok(wrong)
        } else {
            Err(format!("{wrong:#?}"))
        }
    });

    a_job_waits_for_a_worker_with_bad_settings(lab, &before);
    settings(lab, &before);
    units(lab, &before);
    services(lab, &before);
    it_is_quick_and_leaves_no_trace(lab);
}

pub fn the_doctor_finds_what_cannot_be_written_and_whose_the_accounts_are(lab: &Lab) {
    lab.sh("mkdir -p /lib32; touch /lib32/ld-linux.so.2 \
         /lib32/libstdc++.so.6 /lib32/libgcc_s.so.1 /lib32/libz.so.1");

    lab.describe(&["One"]);
    lab.job(&["install"]);
    let before = wait_for("a host without faults", s(60), || {
        let wrong = wrong(&findings(lab));
        if wrong.is_empty() {
            Ok(wrong)
        } else {
            Err(format!("{wrong:#?}"))
        }
    });

    file_systems(lab, &before);
    files(lab, &before);
    the_database(lab, &before);
    the_queue_and_servers(lab, &before);
    the_game(lab, &before);
    accounts(lab, &before);
    an_ordinary_member_is_told_what_needs_root(lab);
    a_persons_account(lab, &before);
    the_package_is_not_installed_over_a_persons_account(lab);
}

/// Before: all "ok", the worker fails every 2 s, and the job waits without end.
fn a_job_waits_for_a_worker_with_bad_settings(lab: &Lab, before: &BTreeSet<String>) {
    lab.set("LEFT4ME_WORKER_SLOTS=four");
    let job = lab.enqueue(&["initialize", "--server", "One"]);
    wait_for("the unit's own cause", s(20), || {
        let all = findings(lab);
        let unit = all
            .iter()
            .find(|finding| text(finding, "check") == "unit left4me-worker.service");
        let said = unit
            .map(|unit| text(unit, "found").to_owned())
            .unwrap_or_default();
        if said.contains("LEFT4ME_WORKER_SLOTS=four") && said.contains("1 to 256") {
            Ok(())
        } else {
            Err(said)
        }
    });

    heal(
        lab,
        before,
        &[case(
            "true",
            "settings",
            &["LEFT4ME_WORKER_SLOTS=four", "1 to 256", "left4me.env line"],
        )],
    );

    assert_eq!(
        lab.ended(job, 30).state,
        "succeeded",
        "nothing had to be restarted"
    );
}

fn settings(lab: &Lab, before: &BTreeSet<String>) {
    let line = |line: &str| format!("echo '{line}' >>{ENV}");
    let drop_in = format!("{DROP_INS}/left4me-worker.service.d");
    heal(
        lab,
        before,
        &[
            case(
                line("LEFT4ME_WEB_IDLE_SECONDS=-5"),
                "settings",
                &["LEFT4ME_WEB_IDLE_SECONDS=-5", "0 to 86400"],
            ),
            case(
                line("LEFT4ME_WEB_CONNECTIONS=99999"),
                "settings",
                &["LEFT4ME_WEB_CONNECTIONS", "8 to 60000"],
            ),
            case(
                line("LEFT4ME_CLEAN_RETRY_SECONDS=30"),
                "settings",
                &["LEFT4ME_CLEAN_RETRY_SECONDS", "at most 15"],
            ),
            case(
                line("LEFT4ME_DB=left4me.db"),
                "settings",
                &["LEFT4ME_DB=left4me.db", "absolute"],
            ),
            case(
                line("LEFT4ME_PORT_RANGE=80-90"),
                "settings",
                &["LEFT4ME_PORT_RANGE=80-90", "1024"],
            ),
            case(
                line("LEFT4ME_STEAM_ACCOUNT=anna hunter2"),
                "settings",
                &["LEFT4ME_STEAM_ACCOUNT"],
            ),
            case(
                line("LEFT4ME_POLL_SECONDS=0"),
                "settings",
                &["LEFT4ME_POLL_SECONDS=0", "every 30 s"],
            ),
            case(
                line("LEFT4ME_WORKERS_SLOTS=4"),
                "settings",
                &["did you mean LEFT4ME_WORKER_SLOTS?"],
            ),
            case(
                line("LEFT4ME_NONSENSE=1"),
                "settings",
                &["no program reads LEFT4ME_NONSENSE"],
            ),
            case(line("export LEFT4ME_LOG=debug"), "settings", &["without"]),
            case(
                format!(
                    "mkdir -p {drop_in}; \
                     printf '[Service]\\nEnvironment=LEFT4ME_CANCEL_GRACE_SECONDS=10s\\n' \
                     >{drop_in}/grace.conf; systemctl daemon-reload"
                ),
                "settings",
                &[
                    "LEFT4ME_CANCEL_GRACE_SECONDS=10s",
                    "grace.conf line 2",
                    "left4me-worker.service",
                ],
            ),
        ],
    );

    assert!(!lab.run(&["left4me", "doctor"]).stdout.contains("hunter2"));
    heal(
        lab,
        before,
        &[
            case(
                line("LEFT4ME_WORKER_SLOTS 4"),
                "settings",
                &["no NAME=value"],
            ),
            case(line("LEFT4ME_LOG=\"info"), "settings", &["opens a quote"]),
        ],
    );

    heal(
        lab,
        before,
        &[case(
            format!("sed -i '1s/^/\\xef\\xbb\\xbf/' {ENV}"),
            "settings",
            &["byte order mark"],
        )],
    );

    heal(
        lab,
        before,
        &[case(
            format!("printf 'LEFT4ME_LOG=\\xff\\n' >>{ENV}"),
            "settings",
            &["no UTF-8"],
        )],
    );

    heal(
        lab,
        before,
        &[case(
            format!("mv {ENV} {ENV}.away"),
            "settings",
            &["is missing"],
        )],
    );

    lab.sh(&format!(
        "mv {ENV}.away {ENV}; sed -i '/^#*LEFT4ME_LOG=\\xff/d' {ENV}; \
         rm -r {drop_in}; systemctl daemon-reload"
    ));
}

fn units(lab: &Lab, before: &BTreeSet<String>) {
    // The finding says which of these it is, so each has its own way back.
    heal(
        lab,
        before,
        &[
            case(
                "systemctl mask --now left4me-web.socket 2>/dev/null",
                "unit left4me-web.socket",
                &["masked"],
            ),
            case(
                "systemctl mask --runtime left4me-worker.service 2>/dev/null",
                "unit left4me-worker.service",
                &["masked"],
            ),
            case(
                "systemctl mask left4me-server@.service 2>/dev/null",
                "unit left4me-server@.service",
                &["masked"],
            ),
            case(
                "systemctl disable left4me-poller.timer 2>/dev/null",
                "unit left4me-poller.timer",
                &["next boot"],
            ),
            case(
                "systemctl stop left4me-prune.timer",
                "unit left4me-prune.timer",
                &["inactive"],
            ),
            case(
                "systemctl stop left4me-helper.socket",
                "unit left4me-helper.socket",
                &["inactive"],
            ),
            case(
                format!(
                    "mkdir -p {DROP_INS}/left4me-runner.socket.d; printf \
                    '[Socket]\\nListenStream=\\n' \
                         >{DROP_INS}/left4me-runner.socket.d/x.conf; systemctl daemon-reload"
                ),
                "unit left4me-runner.socket",
                &["bad-setting", "changed by", "x.conf"],
            ),
        ],
    );

    let copy = "sed s/WatchdogSec=60/WatchdogSec=50/ /usr/lib/systemd/system/left4me-web.service";
    heal(
        lab,
        before,
        &[
            case(
                format!("{copy} >{DROP_INS}/left4me-web.service; systemctl daemon-reload"),
                "unit left4me-web.service",
                &["overrides the package's unit", "different content"],
            ),
            case(
                format!(
                    "mkdir -p {DROP_INS}/left4me-worker.service.d; \
                         printf '[Service]\\nNice=1\\n' \
                         >{DROP_INS}/left4me-worker.service.d/nice.conf"
                ),
                "unit left4me-worker.service",
                &["changed since systemd read it"],
            ),
        ],
    );

    lab.sh(&format!(
        "rm -r {DROP_INS}/left4me-worker.service.d {DROP_INS}/left4me-web.replaced; \
         systemctl daemon-reload"
    ));

    // A deleted file comes back from the package, one of /etc too.
    let package = deb()
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    lab.sh(&format!(
        "cd /root; test {package} = left4me_*.deb || mv {package} left4me_under-test.deb"
    ));
    heal(
        lab,
        before,
        &[
            case(
                "rm /usr/lib/systemd/system/left4me-poller.timer; systemctl daemon-reload",
                "unit left4me-poller.timer",
                &["missing"],
            ),
            case("rm /etc/sudoers.d/left4me", "sudoers", &["missing"]),
        ],
    );
}

/// Each service that does not answer, and the cause that it said itself.
fn services(lab: &Lab, before: &BTreeSet<String>) {
    let thief = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => \
                 q(127.0.0.1:8000), Listen => 5, ReuseAddr => 1) or die; sleep 600";
    lab.write("/root/thief.pl", thief);
    let steal = "systemctl stop left4me-web.socket; systemd-run --quiet --unit=thief \
                 perl /root/thief.pl; for i in $(seq 50); do ss -tln 2>/dev/null | grep \
                 -q :8000 && break; grep -q ':1F40 .* 0A' /proc/net/tcp && break; \
                 sleep 0.1; done; systemctl start left4me-web.socket 2>/dev/null || true";
    heal(
        lab,
        before,
        &[case(
            steal,
            "unit left4me-web.socket",
            &["Address already in use", "port 8000", "(perl)"],
        )
        .after("systemctl stop thief.service")],
    );

    let web = format!("{DROP_INS}/left4me-web.socket.d");
    let listen = |at: &str| {
        format!(
            "mkdir -p {web}; printf '[Socket]\\nListenStream=\\nListenStream={at}\\n' \
             >{web}/x.conf; systemctl daemon-reload; \
             systemctl restart left4me-web.socket 2>/dev/null || true"
        )
    };

    heal(
        lab,
        before,
        &[case(
            listen("192.0.2.7:8000"),
            "unit left4me-web.socket",
            &["Cannot assign requested address", "x.conf"],
        )
        .after(format!("rm -r {web}; systemctl daemon-reload"))],
    );

    // All addresses are asked, whatever they are.
    lab.sh(&listen(
        "127.0.0.1:8001\\nListenStream=[::]:8002\\nListenStream=/run/left4me-web.sock",
    ));
    let all = findings(lab);
    let fronts: Vec<&str> = all
        .iter()
        .filter(|one| text(one, "check") == "web front")
        .map(|one| text(one, "found"))
        .collect();
    assert_eq!(
        fronts,
        [
            "127.0.0.1:8001 answers",
            "[::]:8002 answers",
            "/run/left4me-web.sock answers"
        ]
    );

    lab.sh(&format!(
        "rm -r {web}; systemctl daemon-reload; systemctl restart left4me-web.socket"
    ));

    // A secret that is not there stops the web front.
    lab.sh(&format!(
        "cp -a {ENV} /root/env; printf 'LEFT4ME_WEB_ORIGIN=https://x.example.org\\n\
                     LEFT4ME_WEB_PROXY_SECRET_FILE=/etc/left4me/proxy.secret\\n' >>{ENV}; \
                     systemctl stop left4me-web.service"
    ));

    heal(lab, before, &[case("true", "proxy", &["proxy.secret"])]);
    heal(
        lab,
        before,
        &[case(
            "chmod 0604 /etc/left4me/proxy.secret; chgrp root /etc/left4me/proxy.secret",
            "proxy",
            &["proxy.secret"],
        )],
    );

    lab.sh(&format!(
        "cp -a /root/env {ENV}; systemctl stop left4me-web.service"
    ));

    // What the sandboxes stand on, and the programs.
    let exec = |what: &str| format!("chmod {what} /usr/libexec/left4me/left4me-runner");
    heal(
        lab,
        before,
        &[
            case(
                "mv /run/left4me-helper-root /run/away",
                "directory helper root",
                &["missing"],
            )
            .after("rm -rf /run/away"),
            case(
                "mv /run/left4me-game-root /run/away",
                "directory game root",
                &["missing"],
            )
            .after("rm -rf /run/away"),
            case(exec("600"), "runner", &["cannot be executed"]).after(exec("711")),
        ],
    );

    let elsewhere = format!("echo LEFT4ME_RUNNER_SOCKET=/run/left4me/other.sock >>{ENV}");
    heal(
        lab,
        before,
        &[case(
            elsewhere,
            "socket runner",
            &["other.sock", "listens at /run/left4me/runner.sock"],
        )
        .after(format!("sed -i /other.sock/d {ENV}"))],
    );

    let stopped = format!(
        "systemctl stop left4me-poller.timer; sqlite3 {DATABASE} 'UPDATE poll SET polled_at = 1'"
    );
    heal(lab, before, &[case(stopped, "poller", &["no poll"])]);
}

/// The doctor starts services and asks them. It leaves no file, no failed unit and no job.
fn it_is_quick_and_leaves_no_trace(lab: &Lab) {
    lab.sh("systemctl stop left4me-web.service left4me-worker.service");
    let jobs = lab.job_count();
    let files = || {
        lab.sh(&format!(
            "find {DATA} -xdev -path {DATA}/db -prune -o \\( -type d -printf '%p %m \
                        %u\\n' -o -printf '%p %m %u %T@\\n' \\) | sort"
        ))
    };

    let before = files();
    let took = lab.sh("start=$(date +%s%N); left4me doctor >/dev/null; \
         echo $(( ($(date +%s%N) - start) / 1000000 ))");

    let again = lab.sh("start=$(date +%s%N); left4me doctor >/dev/null; \
         echo $(( ($(date +%s%N) - start) / 1000000 ))");

    println!("the doctor took {took} ms with services to start, and {again} ms without");
    assert!(took.parse::<u32>().expect("ms") < 10_000, "{took} ms");
    assert_eq!(files(), before);
    assert_eq!(lab.job_count(), jobs);
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        ""
    );
}

fn file_systems(lab: &Lab, before: &BTreeSet<String>) {
    let mount = |name: &str, owner: &str, mode: &str, more: &str| {
        format!(
            "mount -t tmpfs -o mode={mode},uid=$(id -u \
             {owner}),gid=$(id -g {owner}),{more} tmpfs {DATA}/{name}"
        )
    };

    let fill = format!("dd if=/dev/zero of={DATA}/tmp/fill bs=4k 2>/dev/null || true");
    let many = format!("touch {DATA}/backups/{{1..9}} 2>/dev/null || true");
    heal(
        lab,
        before,
        &[
            case(
                format!(
                    "{}; mount -o remount,ro {DATA}/instances",
                    mount("instances", "left4me", "0711", "size=64k")
                ),
                "writing",
                &["/var/lib/left4me/instances is mounted read-only"],
            ),
            case(
                format!("{}; {fill}", mount("tmp", "left4me", "0770", "size=64k")),
                "writing",
                &["left4me/tmp is full"],
            )
            .after(format!("rm {DATA}/tmp/fill")),
            case(
                format!(
                    "{}; {many}",
                    mount("backups", "left4me", "0750", "nr_inodes=5")
                ),
                "writing",
                &["no inodes left", "left4me/backups"],
            )
            .after(format!("rm {DATA}/backups/*")),
            case(
                format!(
                    "{}; mount -o remount,ro {DATA}/workshop_cache",
                    mount("workshop_cache", "left4me-steam", "0755", "size=64k")
                ),
                "writing",
                &["/var/lib/left4me/workshop_cache is mounted read-only"],
            ),
        ],
    );

    lab.sh(&format!(
        "umount {DATA}/instances {DATA}/tmp {DATA}/backups {DATA}/workshop_cache"
    ));
    // Another writer is no fault.
    lab.sh(&format!(
        "systemd-run --quiet --unit=writer bash -c \"(echo 'BEGIN IMMEDIATE;'; \
         sleep 60) | sqlite3 {DATABASE}\""
    ));

    wait_until("another program writes", s(20), || {
        findings(lab)
            .iter()
            .any(|finding| text(finding, "found") == "another program is writing")
    });

    lab.sh("systemctl stop writer.service");
}

fn files(lab: &Lab, before: &BTreeSet<String>) {
    heal(
        lab,
        before,
        &[
            case(format!("rmdir {DATA}/tmp"), "directory tmp", &["missing"]),
            case(
                format!("rm -r {DATA}/backups; touch {DATA}/backups"),
                "directory backups",
                &["not a directory"],
            ),
            case(
                format!("chmod 700 {DATA}/overlays"),
                "directory overlays",
                &["2700", "2770"],
            ),
            case(
                format!("chown root {DATA}/workshop_cache"),
                "directory workshop_cache",
                &["root"],
            ),
            case(
                format!("touch {DATA}/instances/of-root"),
                "inside instances",
                &["of-root"],
            ),
            case(
                "chmod 644 /etc/sudoers.d/left4me",
                "sudoers",
                &["0644", "0440"],
            ),
            case(
                format!("chmod 600 {DATABASE}"),
                "database owner",
                &["0600", "0660"],
            ),
            case("rm /run/left4me/runner.sock", "socket runner", &["missing"]),
            case(
                "chown root /run/left4me/helper.sock",
                "socket helper",
                &["root"],
            ),
            case(
                "rm /run/left4me/worker.sock; touch /run/left4me/worker.sock",
                "socket worker",
                &["not a socket"],
            ),
        ],
    );

    lab.sh(&format!("rm {DATA}/instances/of-root"));
}

fn the_database(lab: &Lab, before: &BTreeSet<String>) {
    let stop = "systemctl stop left4me-worker.service left4me-web.service left4me-poller.service";
    heal(
        lab,
        before,
        &[case(
            format!("touch {DATA}/left4me.db"),
            "database of an older version",
            &["still there"],
        )],
    );

    heal(
        lab,
        before,
        &[case(
            format!(
                "{stop}; v=$(sqlite3 {DATABASE} 'PRAGMA user_version'); sqlite3 \
                {DATABASE} \"PRAGMA user_version = $v\"; \
                     mv {DATABASE} {DATA}/left4me.db; rm -f {DATABASE}-*"
            ),
            "database of an older version",
            &["not moved"],
        )],
    );

    heal(
        lab,
        before,
        &[case(
            format!("{stop}; rm -f {DATABASE}-wal; mkdir {DATABASE}-wal"),
            "database",
            &["-wal is a directory"],
        )],
    );

    // Newest of the numbered backups: the one that is put back.
    lab.sh("left4me backup; left4me backup");
    heal(
        lab,
        before,
        &[case(
            format!("{stop}; rm -f {DATABASE}-*; echo nonsense >{DATABASE}"),
            "database",
            &["damaged"],
        )],
    );

    heal(
        lab,
        before,
        &[case(
            format!("{stop}; rm {DATABASE}*"),
            "database",
            &["missing"],
        )],
    );

    assert!(
        lab.ok(&["left4me", "server", "list"]).contains("One"),
        "it is the backup"
    );
}

fn the_queue_and_servers(lab: &Lab, before: &BTreeSet<String>) {
    heal(
        lab,
        before,
        &[case("left4me-job pause --reason x", "queue", &["paused"])],
    );

    // The doctor finds what root has written there.
    let behaves = |how: &str| {
        lab.steamcmd(how);
        lab.sh(&format!("chown left4me-steam: {STEAM}/standin.conf"));
    };

    behaves("hang=1");
    let job = lab.enqueue(&["install"]);
    wait_until("it runs", s(20), || lab.show(job).state == "running");
    let aged = format!("sqlite3 {DATABASE} 'UPDATE jobs SET started_at = 1 WHERE id = {job}'");
    heal(lab, before, &[case(aged, "job", &["has run for"])]);
    behaves("");

    // A job that no worker takes.
    lab.sh("systemctl stop left4me-poller.timer left4me-worker.socket left4me-worker.service");
    let job = lab.run(&["left4me-job", "enqueue", "initialize", "--server", "One"]);
    assert!(job.code == 0 || job.code == 69, "{job}");
    let aged = format!(
        "sqlite3 {DATABASE} \"UPDATE jobs SET created_at = created_at - 300000
         WHERE state = 'queued'\""
    );

    heal(
        lab,
        before,
        &[
            case(aged, "queue", &["no worker takes job"]),
            case("true", "unit left4me-poller.timer", &["inactive"]),
        ],
    );

    lab.job(&["start", "--server", "One"]);
    lab.answers("One");
    heal(
        lab,
        before,
        &[case(
            "systemctl stop left4me-server@1.service",
            "server 1 (One)",
            &["stopped"],
        )],
    );

    wait_until("it is started again", s(60), || {
        lab.unit("left4me-server@1.service", "ActiveState") == "active"
    });
    let orphan =
        "INSERT INTO orphans (instance, enabled, state, since) VALUES ('77', 1, 'running', 1)";
    let orphan = format!(
        "systemctl stop left4me-poller.timer; systemctl enable left4me-server@77.service \
        2>/dev/null; sqlite3 {DATABASE} \"{orphan}\""
    );

    heal(
        lab,
        before,
        &[
            case(orphan, "orphan", &["left4me-server@77"]),
            case("true", "unit left4me-poller.timer", &["inactive"]),
        ],
    );

    lab.job(&["stop", "--server", "One"]);
}

fn the_game(lab: &Lab, before: &BTreeSet<String>) {
    let installation = format!("{DATA}/installation");
    heal(
        lab,
        before,
        &[
            case(
                format!("chmod 644 {STEAM}/steamcmd.sh"),
                "steamcmd",
                &["cannot be executed"],
            ),
            case(
                format!("rm {installation}/srcds_linux"),
                "installation",
                &["srcds_linux is missing"],
            ),
            case(
                format!(
                    "cd {STEAM}; rm -rf client; mkdir -p .local/share/Steam/steamcmd; mv linux32 \
                    .local/share/Steam/steamcmd; \
                     chown -R left4me-steam: .local"
                ),
                "steamclient.so",
                &["LAN only", "it is in"],
            ),
        ],
    );

    let builds = format!("{DATA}/builds");
    heal(
        lab,
        before,
        &[
            case(
                format!("ln -sfn 9 {builds}/current"),
                "current build",
                &["leads to 9", "no server starts"],
            ),
            case(format!("mkdir {builds}/.new-9"), "builds", &[".new-9"])
                .after(format!("rmdir {builds}/.new-9")),
        ],
    );
    heal(
        lab,
        before,
        &[case(
            format!("rm {builds}/current/bin/engine_srv.so"),
            "current build",
            &["is not complete", "engine_srv.so"],
        )],
    );

    let game = format!("{builds}/current");
    let no_script = format!("rm {game}/srcds_run; mkdir {game}/srcds_run");
    heal(
        lab,
        before,
        &[case(no_script, "srcds_run", &["cannot be read"])],
    );

    let sets_more = format!("echo 'export MALLOC_ARENA_MAX=1' >>{game}/srcds_run");
    let server = format!("{DROP_INS}/left4me-server@.service.d");
    heal(
        lab,
        before,
        &[
            case(sets_more, "srcds_run", &["MALLOC_ARENA_MAX"]).after(format!(
                "mkdir -p {server}; printf '[Service]\\nEnvironment=MALLOC_ARENA_MAX=1\\n' \
                 >{server}/x.conf; systemctl daemon-reload"
            )),
        ],
    );

    heal(
        lab,
        before,
        &[case(
            format!("mv {STEAM}/steamcmd.sh {STEAM}/away"),
            "steamcmd",
            &["missing"],
        )
        .after(format!("mv {STEAM}/away {STEAM}/steamcmd.sh"))],
    );
}

fn accounts(lab: &Lab, before: &BTreeSet<String>) {
    heal(
        lab,
        before,
        &[
            case(
                "usermod --shell /bin/bash left4me",
                "users",
                &["left4me has the login shell /bin/bash"],
            ),
            case(
                "echo left4me-steam:hunter2hunter2 | chpasswd",
                "users",
                &["left4me-steam can sign in with a password"],
            ),
            case(
                "usermod -aG sudo left4me",
                "users",
                &["left4me is in group sudo"],
            ),
            case(
                "usermod -aG adm left4me-steam",
                "users",
                &["left4me-steam is in group adm"],
            ),
            case(
                "usermod --gid users left4me-game",
                "users",
                &["the group of left4me-game is users"],
            ),
        ],
    );
}

/// A member of the group sees what it may, and is told of the rest why it is not checked.
fn an_ordinary_member_is_told_what_needs_root(lab: &Lab) {
    lab.sh("id member >/dev/null 2>&1 || useradd -m -G left4me member");
    let said = lab.run_as("member", &["left4me", "doctor", "--json"]);
    let all: Vec<Value> =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    for check in ["helper", "runner", "publisher", "writing"] {
        let finding = all
            .iter()
            .find(|finding| text(finding, "check") == check)
            .unwrap_or_else(|| panic!("{check}: {said}"));
        assert!(
            finding["severity"] == "skip" && text(finding, "found").contains("needs root"),
            "{finding:#}"
        );
    }

    let web = all
        .iter()
        .find(|finding| text(finding, "check") == "web front")
        .unwrap();
    assert_eq!(web["severity"], "ok", "{web:#}");
    assert!(
        lab.run_as("member", &["left4me", "doctor"])
            .stdout
            .contains("not checked")
    );
}

/// Before: all "ok" with the services under a person's account of this name.
fn a_persons_account(lab: &Lab, before: &BTreeSet<String>) {
    let person = "systemctl stop left4me.target 'left4me-*.service'; \
                  old=$(id -u left4me) oldg=$(id -g left4me); \
                  usermod --uid 1500 left4me 2>/dev/null; groupmod --gid 1500 left4me; \
                  find /var/lib/left4me /etc/left4me /run/left4me -xdev -uid $old \
                  -exec chown -h 1500 {} +; find /var/lib/left4me /etc/left4me \
                  /run/left4me -xdev -gid $oldg -exec chgrp -h 1500 {} +; \
                  systemd-tmpfiles --create left4me.conf; systemctl start left4me.target";
    heal(
        lab,
        before,
        &[case(person, "users", &["uid 1500", "person's account"])],
    );

    assert_eq!(lab.sh("id -u left4me-person"), "1500");
    assert!(lab.sh("id -u left4me").parse::<u32>().expect("a uid") < 1000);
    lab.job(&["initialize", "--server", "One"]);
}

/// Before: installed, and the services ran with the rights of a person in group sudo.
fn the_package_is_not_installed_over_a_persons_account(lab: &Lab) {
    let apt = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--yes",
        "--quiet",
    ];

    lab.ok(&[&apt[..], &["purge", "left4me"]].concat());
    let inside = lab.sh("echo /root/*.deb");
    let refused = |why: &str| {
        let install = lab.run(&[&apt[..], &["install", &inside]].concat());
        assert_ne!(install.code, 0, "{install}");
        let said = format!("{}\n{}", install.stdout, install.stderr);
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("left4me: "))
            .collect();
        assert!(
            ours.len() == 1 && ours[0].contains(why) && ours[0].contains("usermod --login"),
            "{install}"
        );

        for path in [
            "/usr/bin/left4me",
            "/etc/left4me",
            "/usr/lib/systemd/system/left4me.target",
            DATA,
        ] {
            assert!(lab.is(&format!("! test -e {path}")), "{path} was unpacked");
        }
    };

    lab.sh("userdel left4me; useradd -m -s /bin/bash -G sudo left4me; \
         echo left4me:hunter2hunter2 | chpasswd");

    refused("the account left4me has uid 1");
    // As its sentence says.
    lab.sh("usermod --login lena left4me; groupmod --new-name lena left4me");
    lab.sh("userdel left4me-steam; groupadd --gid 1777 left4me-steam");
    refused("the group left4me-steam has gid 1777");
    lab.sh(
        "groupdel left4me-steam; useradd --system -s /bin/bash left4me-steam; echo \
           left4me-steam:hunter2hunter2 | chpasswd",
    );

    refused("the account left4me-steam has the shell /bin/bash");
    lab.sh("usermod --lock --shell /usr/sbin/nologin left4me-steam");
    lab.ok(&[&apt[..], &["install", &inside]].concat());
    assert_eq!(lab.sh("id -nG lena"), "lena sudo");
    assert!(lab.sh("id -u left4me").parse::<u32>().expect("a uid") < 1000);

    // An upgrade goes on, and says so: without it the services would be older, and no safer.
    lab.sh("usermod --shell /bin/bash left4me; echo left4me:hunter2hunter2 | chpasswd");
    let upgrade = lab.run(&["dpkg", "--install", &inside]).ends_with(0);
    assert!(upgrade.stderr.contains("sudo left4me doctor"), "{upgrade}");
    found(
        &findings(lab),
        "users",
        &["left4me can sign in with a password"],
    );
}
