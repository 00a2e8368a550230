//! The main road: installed by apt, a job enqueued at the command line, a game server under its own
//! unit, every line kept, alive after a reboot, gone after delete.

use crate::lab::{Lab, s, wait_until};
use crate::rows::ENABLED;
use crate::site::STEAM;

const SERVER: &str = "Friday night";
const UNIT: &str = "left4me-server@1.service";
const MERGED: &str = "/var/lib/left4me/runtime/1/merged";

/// Quotes and what a shell or systemd would expand: the game gets it as it was given.
const ODD: &str = "'d'$HOME,${HOME}%n%%#*?`id`";

pub fn a_queued_start_becomes_a_server_that_outlives_a_reboot(lab: &Lab) {
    the_package_puts_everything_in_place(lab);
    lab.describe(&[SERVER]);
    the_doctor_says_what_is_missing(lab);
    an_install_keeps_every_line_once_and_in_order(lab);
    a_start_is_a_running_server(lab);
    a_blueprint_applies_at_the_next_restart(lab);
    a_reboot_needs_no_job(lab);
    a_stop_leaves_nothing_mounted(lab);
    a_delete_leaves_the_row(lab);
}

fn the_package_puts_everything_in_place(lab: &Lab) {
    assert_eq!(lab.unit("left4me.target", "UnitFileState"), "enabled");
    for unit in ENABLED {
        assert_eq!(lab.unit(unit, "ActiveState"), "active", "{unit}");
    }
    the_polls_interval_is_a_setting(lab);
    lab.ok(&["left4me", "migrate"]);
    for (path, expected) in [
        ("/run/left4me", "750 root:left4me"),
        ("/run/left4me/worker.sock", "660 root:left4me"),
        ("/run/left4me/helper.sock", "600 left4me:left4me"),
        ("/run/left4me/runner.sock", "600 left4me:left4me"),
        ("/run/left4me/publisher.sock", "600 left4me:left4me"),
        ("/var/lib/left4me", "751 root:left4me"),
        ("/var/lib/left4me/db", "2770 left4me:left4me"),
        ("/var/lib/left4me/db/left4me.db", "660 left4me:left4me"),
        ("/etc/sudoers.d/left4me", "440 root:root"),
    ] {
        assert_eq!(
            lab.ok(&["stat", "--format", "%a %U:%G", path]),
            expected,
            "{path}"
        );
    }

    for page in ["left4me", "left4me-job", "l4d2ctl"] {
        assert!(
            lab.is(&format!(
                "zcat /usr/share/man/man1/{page}.1.gz | grep -q '^\\.TH'"
            )),
            "man page of {page}"
        );

        assert!(
            lab.is(&format!(
                "bash -n /usr/share/bash-completion/completions/{page}"
            )),
            "completion of {page}"
        );

        lab.ok(&[page, "--help"]);
    }

    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

/// A timer cannot read settings; systemd's generator does.
fn the_polls_interval_is_a_setting(lab: &Lab) {
    let intervals = || lab.unit("left4me-poller.timer", "TimersMonotonic");
    let every = |seconds: &str| format!("OnUnitActiveUSec={seconds}s");
    assert!(
        intervals().contains(&every("30")) && intervals().contains("OnBootUSec=15s"),
        "{}",
        intervals()
    );

    let settings = "/etc/left4me/left4me.env";
    for (setting, seconds) in [
        ("LEFT4ME_POLL_SECONDS=7", "7"),
        ("LEFT4ME_POLL_SECONDS=x", "30"),
    ] {
        lab.sh(&format!(
            "cp -a {settings} /root/settings; echo {setting} >>{settings}; systemctl daemon-reload"
        ));
        let found = intervals();
        lab.sh(&format!(
            "cp -a /root/settings {settings}; systemctl daemon-reload"
        ));
        assert!(
            found.contains(&every(seconds)) && found.contains("OnBootUSec=15s"),
            "{setting}: {found}"
        );
    }
}

/// A minimal Debian lacks the 32-bit libraries; and what an admin breaks by hand is found.
fn the_doctor_says_what_is_missing(lab: &Lab) {
    let findings = |words: &[&str]| {
        let doctor = lab.run(&["left4me", "doctor"]);
        let told = format!("{}\n{}", doctor.stdout, doctor.stderr);
        assert_ne!(doctor.code, 0, "{doctor}");
        for word in words {
            assert!(
                told.contains(word),
                "doctor says nothing of '{word}'\n{doctor}"
            );
        }
    };

    findings(&["lib32"]);
    lab.sh(
        "systemctl stop left4me-helper.socket; chmod 600 /var/lib/left4me/db/left4me.db; chown \
           root /run/left4me/runner.sock",
    );

    lab.sh(&format!("mv {STEAM}/steamcmd.sh {STEAM}/steamcmd.away"));
    findings(&["helper.sock", "left4me.db", "runner.sock", "steamcmd"]);
    lab.sh(
        "chmod 660 /var/lib/left4me/db/left4me.db; chown left4me /run/left4me/runner.sock; \
           systemctl start left4me-helper.socket",
    );

    lab.sh(&format!("mv {STEAM}/steamcmd.away {STEAM}/steamcmd.sh"));
}

fn an_install_keeps_every_line_once_and_in_order(lab: &Lab) {
    lab.steamcmd("record=1 lines=2000 children=2");
    let job = lab.job(&["install"]);
    assert_eq!((job.state.as_str(), job.exit_code), ("succeeded", Some(0)));
    let printed = lab.ok(&["cat", &format!("{STEAM}/standin-printed.log")]);
    let log = lab.log(job.id);
    let kept: Vec<&str> = log
        .iter()
        .filter(|line| line.stream == "stdout" && !line.line.starts_with("left4me: "))
        // The publisher's own line.
        .filter(|line| !line.line.starts_with("published: "))
        .map(|line| line.line.as_str())
        .collect();
    let printed: Vec<&str> = printed.lines().collect();
    assert!(
        printed.len() > 4000,
        "two passes of 2000 lines and more, not {}",
        printed.len()
    );

    if let Some(at) = (0..printed.len().max(kept.len())).find(|&at| printed.get(at) != kept.get(at))
    {
        panic!(
            "line {at}: steamcmd printed {:?}, job {} has {:?}",
            printed.get(at),
            job.id,
            kept.get(at)
        );
    }

    assert_eq!(
        lab.processes_of("left4me-steam"),
        "",
        "processes after the install"
    );
}

fn a_start_is_a_running_server(lab: &Lab) {
    lab.sh("install -D -m 644 /dev/stdin /var/lib/left4me/workshop_cache/42.vpk <<<addon");
    lab.sh(
        "d=/var/lib/left4me/overlays/demo/left4dead2/addons; mkdir -p $d; ln -s \
           /var/lib/left4me/workshop_cache/42.vpk $d/",
    );

    lab.job(&["start", "--server", "1"]);
    lab.runs(1, SERVER);
    assert_eq!(lab.answers(SERVER), "first name");

    let console = lab.console(UNIT);
    assert!(
        console.contains("Connection to Steam servers successful."),
        "the Steam library is found\n{console}"
    );

    assert!(
        console.contains(&format!("cwd={MERGED}")),
        "it runs in its merged tree\n{console}"
    );

    let pid = lab.main_pid(1);
    assert_eq!(
        lab.ok(&["cat", &format!("{MERGED}/left4dead2/standin.started")]),
        pid,
        "the game writes into its tree"
    );

    let addon = format!("{MERGED}/left4dead2/addons/42.vpk");
    let seen = lab.ok(&["nsenter", "--target", &pid, "--mount", "cat", &addon]);
    assert_eq!(
        seen, "addon",
        "a link into the workshop cache holds inside the server's sandbox"
    );

    assert_eq!(lab.unit(UNIT, "Slice"), "l4d2-game.slice");

    // Starting what runs already changes nothing for the players.
    lab.job(&["start", "--server", SERVER]);
    assert_eq!(
        lab.main_pid(1),
        pid,
        "start of a running server leaves it alone"
    );
}

fn a_blueprint_applies_at_the_next_restart(lab: &Lab) {
    lab.write("/root/server.cfg", "hostname \"second name\"\n");
    lab.ok(&[
        "left4me",
        "blueprint",
        "edit",
        "versus",
        "--arg=+map",
        "--arg=c2m1_highway",
        "--arg=+sv_tags",
        &format!("--arg={ODD}"),
        "--config-file",
        "/root/server.cfg",
    ]);

    assert_eq!(
        lab.answers(SERVER),
        "first name",
        "a running server keeps what it started with"
    );

    lab.job(&["restart", "--server", "1"]);
    lab.runs(1, SERVER);
    assert_eq!(lab.answers(SERVER), "second name");
    let console = lab.console(UNIT);
    let last_start = console.rsplit("argv[0]=").next().unwrap_or_default();
    for argument in ["c2m1_highway", ODD] {
        let given = last_start
            .lines()
            .any(|line| line.starts_with("argv[") && line.ends_with(&format!("]={argument}")));
        assert!(
            given,
            "the game got the argument {argument} as it is\n{last_start}"
        );
    }
}

fn a_reboot_needs_no_job(lab: &Lab) {
    let jobs = lab.job_count();
    lab.reboot();
    wait_until("the server is active after the reboot", s(60), || {
        lab.unit(UNIT, "ActiveState") == "active"
    });
    lab.runs(1, SERVER);
    assert_eq!(lab.answers(SERVER), "second name");
    assert_eq!(lab.job_count(), jobs, "jobs after the reboot");
}

fn a_stop_leaves_nothing_mounted(lab: &Lab) {
    lab.job(&["stop", "--server", "1"]);
    lab.is_stopped(1, SERVER);
    assert_eq!(lab.mounts(), Vec::<String>::new(), "mounts after the stop");
    assert_eq!(
        lab.processes_of("left4me_1"),
        "",
        "processes after the stop"
    );

    let console = lab.console(UNIT);
    assert!(
        console.contains("Server shutting down"),
        "the game was asked, not killed\n{console}"
    );

    // Stopping what is stopped is no failure.
    lab.job(&["stop", "--server", "1"]);
}

fn a_delete_leaves_the_row(lab: &Lab) {
    lab.job(&["start", "--server", "1"]);
    lab.job(&["delete", "--server", "1"]);
    for path in ["/var/lib/left4me/instances/1", "/var/lib/left4me/runtime/1"] {
        assert!(
            lab.is(&format!("! test -e {path}")),
            "{path} is still there"
        );
    }

    lab.is_stopped(1, SERVER);
    assert_eq!(lab.server(SERVER)["id"], 1, "the row stays");
    lab.ok(&["left4me", "server", "remove", SERVER]);
    lab.run(&["left4me", "server", "show", SERVER])
        .ends_with(3)
        .complains_of(&[SERVER]);
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}
