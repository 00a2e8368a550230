//! Each command that the documentation, the shipped comments and the programs' messages tell an
//! administrator to run is run here, and what it promises holds.
//!
//! They are read from those files: a command that is documented tomorrow is run tomorrow, and a
//! verb that this file does not know fails the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::documented::{self, Documented};
use crate::field_service::{all_is_well, prepare};
use crate::lab::{Lab, Output, s, wait_until};

/// What cannot run in a lab, and why. Each has to be documented still.
const EXEMPT: [(&str, &str); 8] = [
    (
        "systemctl status left4me-install",
        "deploy/install --host makes this unit while it runs",
    ),
    (
        "systemctl reload caddy.service",
        "Caddy is not installed there; tests/programs/deploy.rs runs it",
    ),
    (
        "systemctl reload nginx.service",
        "nginx is not installed there; tests/programs/deploy.rs runs it",
    ),
    (
        "systemctl reload prometheus.service",
        "Prometheus is not installed there; tests/programs/deploy.rs runs promtool",
    ),
    (
        "systemctl enable nats-server.service",
        "for a node of a fleet's engine; tests/lab/fleet.rs runs it",
    ),
    (
        "systemctl restart nats-server.service",
        "for a node of a fleet's engine; tests/lab/fleet.rs runs it",
    ),
    (
        "systemctl enable --now left4me-gate.socket {LINK}",
        "starts on a host of a fleet only",
    ),
    (
        "systemctl enable --now left4me-rollout.socket left4me-rollout.service",
        "starts on a host of a fleet only",
    ),
];

/// The order or rollout in examples. A host of no fleet has none, so only the verb and options are checked.
const ORDER: &str = "01KAZ6T5R8Y3W9M2F4B7C1D0XN";

/// What stands for what, in words of commands.
const VALUES: [(&str, &str); 12] = [
    ("left4me-{name}.socket", "left4me-worker.socket"),
    ("{name}", "left4me-web.socket"),
    ("{unit}.socket", "left4me-helper.socket"),
    ("{}", "left4me-worker.socket"),
    ("@{server}", "@1"),
    ("@NAME", "@1"),
    ("@SERVER", "@1"),
    ("@ID", "@1"),
    ("@N", "@1"),
    ("UNIT", "left4me-web.service"),
    (" ID", " 7"),
    (" NAME", " anna"),
];

/// What is written into a unit that is to be edited, where no comment says it: how the unit's name
/// ends, the lines, and the property that they change, with its value. The first that fits counts.
const EDITS: [(&str, &str, &str, &str); 4] = [
    (
        "left4me-server@.service",
        "[Service]\nLogRateLimitBurst=4711\n",
        "LogRateLimitBurst",
        "4711",
    ),
    (
        ".timer",
        "[Timer]\nOnCalendar=\nOnCalendar=05:15\n",
        "TimersCalendar",
        "05:15",
    ),
    (
        "left4me-web.socket",
        "[Socket]\nListenStream=\nListenStream=127.0.0.1:8010\n",
        "Listen",
        "127.0.0.1:8010",
    ),
    (
        ".service",
        "[Service]\nTimeoutStopSec=90\n",
        "TimeoutStopSec",
        "90",
    ),
];

pub fn every_documented_command_does_what_it_says(lab: &Lab) {
    let all = documented::all();
    assert!(
        all.len() > 100,
        "only {} commands are found: where have they gone?",
        all.len()
    );

    set_up(lab);
    let (ours, systemds): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|(documented, _)| !documented.program().ends_with("ctl"));
    let mut exempt: BTreeMap<&str, &str> = EXEMPT.into_iter().collect();
    for (documented, files) in systemds {
        if let Some(reason) = exempt.remove(documented.command.as_str()) {
            eprintln!("not run: {} ({reason})", documented.command);
            continue;
        }

        let told = format!("`{}` of {}", documented.command, files.join(", "));
        match documented.program() {
            "systemctl" => systemctl(lab, documented, &told),
            "journalctl" => journalctl(lab, documented, &told),
            _ => is_known(lab, documented, &told),
        }
    }

    assert!(
        exempt.is_empty(),
        "exempt, and documented no more: {exempt:?}"
    );

    for (documented, files) in ours {
        let told = format!("`{}` of {}", documented.command, files.join(", "));
        is_known(lab, documented, &told);
        look(lab, documented, &told);
    }
}

/// A host as the README makes it: a server that runs, jobs 7 and 8, cancellation 3.
fn set_up(lab: &Lab) {
    prepare(lab);
    lab.sh("left4me overlay add competitive
         left4me blueprint create coop --user anna --overlay competitive --arg=+map --arg=c1m1_hotel
         left4me server create Friday --user anna --blueprint coop
         left4me-job enqueue install --wait
         left4me-job enqueue start --server One --server Friday --wait");
    lab.sh(
        "for i in 1 2 3; do left4me-job enqueue restart --server One --wait; done
         left4me-job pause
         for i in 1 2 3; do left4me-job cancel $(left4me-job enqueue stop --server One); done
         left4me-job resume
         left4me-job cancellations --json | grep -q '\"id\":3'
         left4me-job show 8 --json | grep -q cancelled",
    );

    lab.write(
        "/root/editor",
        "#!/bin/sh\nfor file; do :; done\ncat /root/edit >\"$file\"\n",
    );

    lab.sh("chmod 755 /root/editor");
}

/// A name in braces that the table does not have stands for a service, or a part of its name.
fn filled_in(command: &str) -> String {
    let mut text = VALUES
        .iter()
        .fold(command.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        });
    while let Some(from) = text.find('{')
        && let Some(length) = text[from..].find('}')
    {
        let value = match (
            text[..from].chars().last(),
            text[from + length + 1..].chars().next(),
        ) {
            (Some('-'), _) => "web",
            (Some('@'), _) => "1",
            (_, Some('.')) => "left4me-web",
            _ => "left4me-web.service",
        };

        text.replace_range(from..=from + length, value);
    }

    text
}

/// What a command that systemctl is told to do is run from, and what holds afterwards.
#[track_caller]
fn systemctl(lab: &Lab, documented: &Documented, told: &str) {
    let command = filled_in(&documented.command);
    let filled = Documented {
        command: command.clone(),
        ..documented.clone()
    };

    let arguments = filled.arguments();
    let (verb, units) = arguments.split_first().expect("a verb");
    let list = units
        .iter()
        .map(|unit| format!("'{unit}'"))
        .collect::<Vec<_>>()
        .join(" ");
    let run = |script: &str| done(lab, script, told);
    let now = command.contains(" --now");
    match *verb {
        "status" | "show" | "cat" | "list-units" | "list-timers" | "list-sockets"
        | "list-unit-files" | "is-active" | "is-enabled" => return looks(lab, &command, told),
        "start" => {
            lab.sh(&format!("systemctl stop {list}"));
            run(&command);
        }
        "restart" if units.contains(&"left4me.target") => {
            run(&command);
            all_is_well(lab, told);
            lab.sh("systemctl stop left4me.target");
            run(&command);
        }
        "restart" | "try-restart" | "reload-or-restart" | "daemon-reload" | "preset" | "revert" => {
            run(&command)
        }
        "mask" => {
            run(&command);
            for unit in units {
                assert_eq!(lab.unit(unit, "LoadState"), "masked", "{unit} after {told}");
            }
            lab.sh(&format!("systemctl unmask {list}"));
        }
        "reset-failed" => {
            lab.sh("systemctl restart left4me.target");
            run(&command);
        }
        "stop" => {
            run(&command);
            for unit in units {
                let states = lab.unit(unit, "ActiveState");
                assert!(
                    !states.lines().any(|state| state == "active"),
                    "{unit} after {told}: {states}"
                );
            }

            // A service comes back by its socket; what is stopped here besides does not.
            lab.sh("systemctl start left4me.target");
        }
        "enable" => {
            let flag = if now { "--now" } else { "" };
            let before = units
                .iter()
                .map(|unit| lab.unit(unit, "UnitFileState"))
                .collect::<Vec<_>>();
            lab.sh(&format!("systemctl disable {flag} {list}"));
            run(&command);
            for unit in units {
                assert_eq!(
                    lab.unit(unit, "UnitFileState"),
                    "enabled",
                    "{unit} after {told}"
                );

                assert!(
                    !now || lab.unit(unit, "ActiveState") == "active",
                    "{unit} after {told}"
                );
            }

            for (unit, _) in units
                .iter()
                .zip(before)
                .filter(|(_, before)| before == "disabled")
            {
                lab.sh(&format!("systemctl disable --now {unit}"));
            }
        }
        "disable" => {
            lab.sh(&format!("systemctl enable --now {list}"));
            run(&command);
            for unit in units {
                assert_eq!(
                    lab.unit(unit, "UnitFileState"),
                    "disabled",
                    "{unit} after {told}"
                );

                assert!(
                    !now || lab.unit(unit, "ActiveState") != "active",
                    "{unit} after {told}"
                );
            }
        }
        "unmask" => {
            lab.sh(&format!("systemctl mask {list}"));
            run(&command);
            for unit in units {
                assert_eq!(lab.unit(unit, "LoadState"), "loaded", "{unit} after {told}");
            }
        }
        "edit" => edit(lab, &filled, units, told),
        other => panic!("{told}: this test does not know how to try `systemctl {other}`"),
    }

    for unit in units
        .iter()
        .filter(|unit| unit.ends_with(".service") && !unit.contains('@'))
    {
        assert_eq!(lab.unit(unit, "Result"), "success", "{unit} after {told}");
    }
    all_is_well(lab, told);
}

/// It only looks: the units that it names are there.
#[track_caller]
fn looks(lab: &Lab, command: &str, told: &str) {
    let shown = lab.run(&["bash", "-c", command]);
    // 3: it looked, and the unit does not run.
    let is_fine = shown.code == 0 || command.contains(" status ") && shown.code == 3;
    assert!(
        is_fine && shown.stderr.is_empty() && !shown.stdout.contains("not-found"),
        "{told}\n{shown}"
    );
}

/// In an editor, on a terminal, as an administrator does it.
#[track_caller]
fn edit(lab: &Lab, documented: &Documented, units: &[&str], told: &str) {
    let [unit] = units else {
        panic!("{told}: one unit is edited at a time")
    };
    let known = EDITS.iter().find(|(ending, ..)| unit.ends_with(ending));
    let (lines, property, value) = match (documented.comment.split_once("] "), known) {
        (Some((section, line)), _) => {
            let (name, value) = line.split_once('=').expect("NAME=value");
            (
                format!("{section}]\n{line}\n"),
                name.to_owned(),
                value.to_owned(),
            )
        }
        (None, Some((_, lines, property, value))) => (
            (*lines).to_owned(),
            (*property).to_owned(),
            (*value).to_owned(),
        ),
        _ => panic!("{told}: what is written there? This test has no line for it"),
    };

    lab.write("/root/edit", &lines);
    done(
        lab,
        &format!(
            "SYSTEMD_EDITOR=/root/editor script -qec '{}' /dev/null",
            documented.command
        ),
        told,
    );

    // An instance has what its template has.
    let shown = unit.replace("@.", "@1.");
    // systemd shows spans of time by another name, and as `1min 30s`.
    let property = property.replace("Sec", "USec");
    let value = if value == "90" { "1min 30s" } else { &value };
    let found = lab.unit(&shown, &property);
    assert!(
        found.contains(value),
        "{told}: {property} of {shown} is {found}"
    );

    if unit.ends_with(".socket") {
        lab.sh(&format!("systemctl restart {unit}"));
        assert_eq!(lab.ok(&["ask", value, "/health"]), "200", "{told}");
    }

    lab.sh(&format!(
        "systemctl revert {unit}; systemctl restart left4me.target"
    ));
}

/// Whether a file of Rust below `folder` has the name.
fn is_in_source(folder: &Path, name: &str) -> bool {
    let entries = fs::read_dir(folder).expect("a folder of the source");
    entries
        .map(|entry| entry.expect("an entry of the source").path())
        .any(|path| {
            if path.is_dir() {
                return is_in_source(&path, name);
            }
            path.extension().is_some_and(|end| end == "rs")
                && fs::read_to_string(&path)
                    .expect("a source file")
                    .to_lowercase()
                    .contains(name)
        })
}

/// The journal has the unit, the identifier or the field.
#[track_caller]
fn journalctl(lab: &Lab, documented: &Documented, told: &str) {
    let command = filled_in(&documented.command);
    let words = command
        .split_whitespace()
        .map(|word| word.trim_matches('\''));
    for word in words.filter(|word| word.contains('=') && !word.starts_with('-')) {
        let field = word.split('=').next().unwrap_or_default();
        let name = field.trim_start_matches("LEFT4ME_").to_lowercase();
        assert!(
            is_in_source(&crate::lab::repository().join("lib"), &name),
            "{told}: nothing writes {field}"
        );
    }

    let shown = lab.run(&["bash", "-c", &format!("timeout 3 {command}")]);
    // 124: it follows until it is ended.
    let is_fine = shown.code == 0 || shown.code == 124 && command.contains("-f");
    assert!(is_fine && shown.stderr.is_empty(), "{told}\n{shown}");
    let happened = [
        "LEFT4ME_JOB_ID=7",
        "LEFT4ME_SERVER_ID=1",
        "LEFT4ME_CANCELLATION_ID=3",
        "left4me-server@1",
        "worker.service",
    ];

    if happened.iter().any(|what| command.contains(what)) {
        assert!(
            !shown.stdout.contains("-- No entries --"),
            "{told}\n{shown}"
        );
    }
}

/// The program has the verb, and the verb has each option.
#[track_caller]
fn is_known(lab: &Lab, documented: &Documented, told: &str) {
    let mut words = documented.words();
    let program = words[0];
    // Another host is named before the verb.
    if program == "left4me-job" && words[1] == "--host" && words.len() > 2 {
        words.drain(1..3);
    }
    // The helper has no help of its own: `look` runs its commands.
    if program == "left4me-helper" {
        return;
    }
    let mut verbs = vec![program];
    let mut help = helped(lab, &verbs, told);
    for word in &words[1..] {
        let is_verb = help
            .lines()
            .any(|line| line.split_whitespace().next() == Some(word) && line.starts_with("  "));
        if !help.contains("Commands:") {
            break;
        }
        if !is_verb {
            assert!(
                word.starts_with('-') || *word == "…",
                "{told}: no verb '{word}'"
            );

            break;
        }

        verbs.push(word);
        help = helped(lab, &verbs, told);
    }

    for option in words
        .iter()
        .filter(|word| word.starts_with("--") && word.len() > 2)
    {
        let name = option.split('=').next().unwrap_or(option);
        assert!(
            help.contains(name),
            "{told}: {} has no {name}",
            verbs.join(" ")
        );
    }
}

fn helped(lab: &Lab, verbs: &[&str], told: &str) -> String {
    let asked = lab.run(&[verbs, &["--help"]].concat());
    assert!(asked.code == 0, "{told}\n{asked}");
    asked.stdout
}

/// Runs what only looks.
#[track_caller]
fn look(lab: &Lab, documented: &Documented, told: &str) {
    let command = filled_in(&documented.command);
    let reads = [
        "left4me server list",
        "left4me server show ",
        "left4me server history ",
        "left4me doctor",
        "left4me --version",
        "left4me backup",
        "left4me-job list",
        "left4me-job show ",
        "left4me-job logs ",
        "left4me-job wait ",
        "left4me-job events",
        "left4me-job cancel-status ",
        "left4me-job cancellations",
        "left4me-helper journal ",
        "left4me-job --help",
    ];

    let is_read =
        reads.iter().any(|read| command.starts_with(read)) || command.contains("--dry-run");
    let cannot_be_tried = |word: &str| word == "FILE" || word == ORDER;
    if !is_read || command.split_whitespace().any(cannot_be_tried) {
        return;
    }
    lab.sh("mkdir -p /srv/save; rm -f /srv/save/*");
    let user = if documented.as_left4me {
        "left4me"
    } else {
        "root"
    };

    let shown = lab.run_as(user, &["timeout", "5", "bash", "-c", &command]);
    let follows = command.contains("--follow") && shown.code == 124;
    // By what was found, or by the end of the job.
    let is_judged = ["doctor", "wait", "logs 7 --follow"]
        .iter()
        .any(|verb| command.contains(verb))
        && shown.code == 1;
    assert!(shown.code == 0 || follows || is_judged, "{told}\n{shown}");
}

#[track_caller]
fn done(lab: &Lab, script: &str, told: &str) {
    let output: Output = lab.run(&["timeout", "100", "bash", "-euc", script]);
    assert!(output.code == 0, "{told}\n{output}");
    wait_until(told, s(30), || {
        !lab.is("systemctl list-jobs --no-legend | grep -q left4me")
    });
}
