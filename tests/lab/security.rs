//! Who can do what: the units' sandboxes as systemd rates them, and every door tried by those it is
//! not for.

use crate::lab::{Lab, Output};

/// Each unit with the most exposure it may have (SECURITY: lower is safer).
const BARS: &[(&str, f64)] = &[
    ("left4me-worker.service", 0.3),
    ("left4me-web.service", 0.3),
    ("left4me-backup.service", 0.3),
    ("left4me-prune.service", 0.3),
    ("left4me-alerts.service", 0.3),
    ("left4me-schedules.service", 0.3),
    ("left4me-schedule@1.service", 0.3),
    ("left4me-update.service", 0.3),
    ("left4me-console.service", 0.6),
    ("left4me-helper@1.service", 0.7),
    ("left4me-reload.service", 0.7),
    ("left4me-poller.service", 0.9),
    ("left4me-console-network.service", 1.0),
    ("left4me-purge@1.service", 1.0),
    ("left4me-purge-stale@1.service", 1.0),
    ("left4me-stale@1.service", 1.0),
    ("left4me-notify@1.service", 1.0),
    ("left4me-publisher@1.service", 0.6),
    ("left4me-runner@1.service", 1.8),
    ("left4me-server@1.service", 1.8),
    ("left4me-overlay@1.service", 3.5),
    ("left4me-overlay-check.service", 2.1),
    ("left4me-gate.service", 0.3),
    ("left4me-rollout.service", 0.3),
    // It has the network of a fleet.
    ("left4me-link.service", 1.5),
];

const DATABASE: &str = "/var/lib/left4me/db/left4me.db";
const SOCKETS: [&str; 4] = [
    "/run/left4me/worker.sock",
    "/run/left4me/helper.sock",
    "/run/left4me/runner.sock",
    "/run/left4me/publisher.sock",
];

pub fn units_are_sandboxed_and_doors_open_only_to_whom_they_should(lab: &Lab) {
    lab.describe(&["target"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "1"]);
    lab.answers("target");
    lab.sh("useradd --create-home --groups left4me member; useradd --create-home stranger");
    every_unit_is_at_or_under_its_bar(lab);
    every_unit_is_valid_and_uses_no_sudo(lab);
    the_game_reaches_neither_database_nor_sockets(lab);
    sockets_open_only_to_whom_they_should(lab);
    the_hands_ask_the_kernel_who_it_is(lab);
    people_of_the_group_use_the_queue_and_others_do_not(lab);
    sudo_allows_the_closed_verbs_to_the_group_and_nothing_else(lab);
    a_stranger_leaves_no_trace(lab);
}

fn every_unit_is_at_or_under_its_bar(lab: &Lab) {
    for (unit, bar) in BARS {
        let report = lab.ok(&["systemd-analyze", "security", "--no-pager", unit]);
        let verdict = report.lines().last().unwrap_or_default();
        let exposure = verdict
            .split_once("Overall exposure level for ")
            .and_then(|(_, rest)| {
                rest.split_once(": ")?
                    .1
                    .split_whitespace()
                    .next()?
                    .parse::<f64>()
                    .ok()
            });
        let exposure = exposure.unwrap_or_else(|| panic!("no exposure of {unit} in: {verdict}"));
        assert!(
            exposure <= *bar,
            "{unit} is exposed {exposure}, its bar is {bar}\n{report}"
        );
    }

    // One that is not listed here is not left out of the gate.
    let shipped = lab.sh(
        "dpkg -L left4me | sed -n 's|^/usr/lib/systemd/system/\\(.*\\.service\\)$|\\1|p' | sort",
    );
    for unit in shipped.lines() {
        let listed = BARS
            .iter()
            .any(|(known, _)| known.replace("@1.", "@.") == unit);
        assert!(listed, "{unit} is shipped, but has no bar");
    }

    assert_eq!(shipped.lines().count(), BARS.len(), "{shipped}");
}

fn every_unit_is_valid_and_uses_no_sudo(lab: &Lab) {
    let units = lab.sh(
        "dpkg -L left4me | sed -n 's|^/usr/lib/systemd/system/||p' | sed \
                       's|@\\.|@1.|' | paste -sd' '",
    );

    // The manual pages are there, man(1) is not.
    let verify = lab
        .run(&[
            "bash",
            "-c",
            &format!("systemd-analyze verify --man=no {units}"),
        ])
        .ends_with(0);
    let ours: Vec<&str> = verify
        .stderr
        .lines()
        .filter(|line| line.contains("left4me") || line.contains("l4d2"))
        .collect();
    assert_eq!(ours, Vec::<&str>::new(), "systemd-analyze verify");
    for (unit, _) in BARS {
        assert_eq!(lab.unit(unit, "NoNewPrivileges"), "yes", "{unit}");
        let lines = lab.sh(&format!(
            "systemctl cat {unit} | grep -E '^Exec(Condition|Start|Reload|Stop)'"
        ));
        assert!(!lines.contains("sudo"), "{unit} calls sudo:\n{lines}");
        assert!(
            !lines
                .lines()
                .any(|line| line.contains("=+") || line.contains("=!")),
            "{unit} steps out of its sandbox:\n{lines}"
        );
    }

    lab.ok(&["visudo", "-c"]);
}

/// What the kernel says to who may not.
#[track_caller]
fn is_denied(output: &Output) {
    assert_ne!(output.code, 0, "{output}");
    let told = [
        "Permission denied",
        "permission denied",
        "No such file",
        "unable to open database",
        "Read-only file system",
    ];

    assert!(
        told.iter().any(|words| output.stderr.contains(words)),
        "{output}"
    );
}

/// Connects to a socket as `user`. `logger` is everywhere, and says what the kernel says.
fn connect(lab: &Lab, user: &str, socket: &str) -> Output {
    lab.run_as(
        user,
        &["logger", "--socket-errors=on", "--socket", socket, "x"],
    )
}

fn the_game_reaches_neither_database_nor_sockets(lab: &Lab) {
    // The trial is fair: who may, can.
    lab.run_as(
        "left4me",
        &["sqlite3", DATABASE, "SELECT count(*) FROM jobs"],
    )
    .ends_with(0);

    connect(lab, "left4me", SOCKETS[0]).ends_with(0);

    for user in ["left4me-game", "left4me-steam", "stranger"] {
        is_denied(&lab.run_as(user, &["cat", DATABASE]));
        is_denied(&lab.run_as(user, &["sqlite3", DATABASE, "SELECT count(*) FROM jobs"]));
        is_denied(&lab.run_as(user, &["ls", "/var/lib/left4me"]));
        for socket in SOCKETS {
            is_denied(&connect(lab, user, socket));
        }
    }

    // server.cfg may hold rcon_password: it is for the game alone.
    for user in ["left4me-steam", "stranger"] {
        is_denied(&lab.run_as(user, &["ls", "/var/lib/left4me/instances/1"]));
    }

    // And from within the running server's own namespaces.
    let pid = lab.main_pid(1);
    let uid = lab.ok(&["id", "--user", "left4me_1"]);
    let inside = |argv: &[&str]| {
        let enter = [
            "nsenter", "--target", &pid, "--all", "--setuid", &uid, "--setgid", &uid, "--",
        ];
        lab.run(&[&enter[..], argv].concat())
    };

    inside(&[
        "test",
        "-r",
        "/var/lib/left4me/runtime/1/merged/srcds_linux",
    ])
    .ends_with(0);

    is_denied(&inside(&["cat", DATABASE]));
    is_denied(&inside(&["ls", "/run/left4me"]));
    is_denied(&inside(&["ls", "/var/lib/left4me/instances"]));
    is_denied(&inside(&[
        "sh",
        "-c",
        "echo x >/var/lib/left4me/overlays/demo/x",
    ]));

    for socket in SOCKETS {
        is_denied(&inside(&[
            "logger",
            "--socket-errors=on",
            "--socket",
            socket,
            "x",
        ]));
    }
}

fn sockets_open_only_to_whom_they_should(lab: &Lab) {
    for (user, open) in [
        ("left4me", 4),
        ("member", 1),
        ("stranger", 0),
        ("left4me-steam", 0),
        ("left4me-game", 0),
        ("nobody", 0),
    ] {
        for (index, socket) in SOCKETS.iter().enumerate() {
            let connected = connect(lab, user, socket);
            if index < open {
                connected.ends_with(0);
            } else {
                is_denied(&connected);
            }
        }
    }
}

/// Sends one request to a stream socket as `user`, and gives what is answered. Perl is in every
/// Debian.
fn ask(lab: &Lab, user: &str, socket: &str, request: &str) -> Output {
    const CLIENT: &str = r#"
        socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; connect($s, pack_sockaddr_un($ARGV[0])) or die "$!\n";
        local $/; my $request = <STDIN>; local $SIG{PIPE} = "IGNORE"; syswrite($s, $request); print <$s>;"#;
    lab.run_with(
        user,
        &["perl", "-MSocket", "-e", CLIENT, socket],
        &format!("{request}\n"),
    )
}

/// The second line: even with the sockets' modes wide open, helper and runner serve those only whom
/// they should.
fn the_hands_ask_the_kernel_who_it_is(lab: &Lab) {
    const STOP: &str = r#"{"verb":"disable","server":"1"}"#;
    const INSTALL: &str = r#"{"verb":"install"}"#;
    const UNPUBLISH: &str = r#"{"verb":"unpublish"}"#;
    let [_, helper, runner, publisher] = SOCKETS;
    let show = ask(lab, "left4me", helper, r#"{"verb":"show","server":"1"}"#).ends_with(0);
    assert!(
        show.stdout.contains("ActiveState=active") && show.stdout.ends_with('}'),
        "the trial is fair\n{show}"
    );

    lab.sh("chmod 755 /run/left4me; chmod 666 /run/left4me/{helper,runner,publisher}.sock");
    for user in ["stranger", "member", "left4me-game", "nobody"] {
        for (socket, request) in [(helper, STOP), (runner, INSTALL), (publisher, UNPUBLISH)] {
            let answer = ask(lab, user, socket, request).stdout;
            assert!(
                answer.contains("\"error\"") && answer.contains("{\"exit\":64}"),
                "{user} is refused: {answer}"
            );

            assert!(
                !answer.contains("started"),
                "nothing was begun for {user}: {answer}"
            );
        }

        for verb in ["stop", "start", "delete"] {
            let output = lab.run_as(user, &["l4d2ctl", verb, "1"]);
            assert_ne!(output.code, 0, "{user}: {output}");
        }
    }

    lab.sh("chmod 750 /run/left4me; chmod 600 /run/left4me/{helper,runner,publisher}.sock");

    // What no one may ask for.
    let long = format!(
        r#"{{"verb":"show","server":"1","x":"{}"}}"#,
        "x".repeat(5000)
    );

    for request in [
        r#"{"verb":"mount","server":"1"}"#,
        r#"{"verb":"start","server":"1"}"#,
        r#"{"verb":"show","server":"../1"}"#,
        r#"{"verb":"show","server":"1","unit":"ssh.service"}"#,
        r#"{"verb":"show"}"#,
        "\u{0}\u{1}\u{2}",
        "[[[[",
        "",
        &long,
    ] {
        let answer = ask(lab, "left4me", helper, request).stdout;
        assert!(
            answer.contains("\"error\"") && answer.ends_with("{\"exit\":64}"),
            "{request:.60} is refused: {answer}"
        );
    }

    let answer = ask(
        lab,
        "left4me",
        runner,
        r#"{"verb":"install","command":"id"}"#,
    )
    .stdout;

    assert!(
        answer.contains("\"error\"") && answer.ends_with("{\"exit\":64}"),
        "a command of one's own is refused: {answer}"
    );

    assert_eq!(
        lab.unit("left4me-server@1.service", "ActiveState"),
        "active",
        "nothing of that was obeyed"
    );

    // Each refusal is on record, with who it was.
    let journal = lab.ok(&[
        "journalctl",
        "--no-pager",
        "--output",
        "cat",
        "--unit",
        "left4me-helper@*",
    ]);

    for user in ["stranger", "left4me-game"] {
        let uid = lab.ok(&["id", "--user", user]);
        assert!(
            journal.lines().any(|line| line.contains(&uid)),
            "{user}'s uid {uid} is on record\n{journal}"
        );
    }
}

fn people_of_the_group_use_the_queue_and_others_do_not(lab: &Lab) {
    lab.run_as("member", &["left4me", "server", "list"])
        .ends_with(0);
    let enqueue = [
        "left4me-job",
        "enqueue",
        "initialize",
        "--server",
        "1",
        "--unique",
    ];

    let output = lab.run_as("member", &enqueue).ends_with(0);
    assert_eq!(output.stderr, "", "the worker was poked\n{output}");
    let id = output.stdout.parse().expect("an id");
    let by = &lab.json(&["left4me-job", "show", &output.stdout, "--json"])["requested_by"];
    assert_eq!(by, "member", "who asked is remembered");
    lab.ended(id, 30);

    for user in ["stranger", "left4me-game", "left4me-steam"] {
        for argv in [
            &enqueue[..],
            &["left4me-job", "list"],
            &["left4me", "user", "list"],
        ] {
            lab.run_as(user, argv)
                .ends_with(77)
                .complains_of(&[DATABASE]);
        }
    }
}

fn sudo_allows_the_closed_verbs_to_the_group_and_nothing_else(lab: &Lab) {
    let sudo = |user: &str, argv: &[&str]| lab.run_as(user, &[&["sudo", "-n"], argv].concat());
    sudo("member", &["left4me-helper", "disable", "1"]).ends_with(0);
    assert_eq!(
        lab.unit("left4me-server@1.service", "ActiveState"),
        "inactive"
    );

    sudo("member", &["left4me-helper", "enable", "1"]).ends_with(0);
    assert_eq!(
        lab.unit("left4me-server@1.service", "ActiveState"),
        "active"
    );

    assert_eq!(
        lab.unit("left4me-server@1.service", "UnitFileState"),
        "enabled"
    );

    let show = sudo("member", &["left4me-helper", "show", "1"]).ends_with(0);
    assert!(show.stdout.contains("ActiveState=active"), "{show}");
    sudo(
        "member",
        &["left4me-helper", "journal", "1", "--lines", "5"],
    )
    .ends_with(0);

    sudo("member", &["-u", "left4me", "l4d2ctl", "status", "1"]).ends_with(0);

    for user in ["stranger", "left4me-game", "left4me-steam", "nobody"] {
        let output = sudo(user, &["left4me-helper", "enable", "1"]).ends_with(1);
        assert!(output.stderr.contains("sudo:"), "{output}");
        sudo(user, &["-u", "left4me", "l4d2ctl", "status", "1"]).ends_with(1);
    }

    let refused: &[&[&str]] = &[
        &["left4me-helper"],
        &["left4me-helper", "enable"],
        &["left4me-helper", "enable", "1", "2"],
        &["left4me-helper", "enable", "1 2"],
        &["left4me-helper", "enable", "*"],
        &["left4me-helper", "enable", "1*"],
        &["left4me-helper", "enable", "../1"],
        &["left4me-helper", "enable", "1/../../x"],
        &["left4me-helper", "enable", "1\n2"],
        &["left4me-helper", "enable", "--", "1"],
        &["left4me-helper", "enable", "-1"],
        &["left4me-helper", "enable", "1", "--root=/tmp"],
        &["left4me-helper", "mount", "1"],
        &["left4me-helper", "umount", "1"],
        &["left4me-helper", "start", "1"],
        &["left4me-helper", "purge-files", "1"],
        &["left4me-helper", "stale-files", "1"],
        &["left4me-helper", "drop-stale-files", "1"],
        &["left4me-helper", "journal", "1", "--lines", "5", "--root=/"],
        &["LEFT4ME_ROOT=/tmp", "left4me-helper", "purge", "1"],
        &[
            "-u",
            "left4me",
            "l4d2ctl",
            "initialize",
            "1",
            "-f",
            "/etc/shadow",
            "--root",
            "/tmp",
        ],
        &["l4d2ctl", "stop", "1"],
        &["-u", "left4me", "left4me-job", "list"],
        &["-u", "left4me-game", "true"],
        &["systemctl", "stop", "left4me-server@1.service"],
        &["sh"],
    ];

    for argv in refused {
        let output = sudo("member", argv).ends_with(1);
        assert!(
            output.stderr.contains("sudo:"),
            "sudo itself refuses\n{output}"
        );
    }

    assert_eq!(
        lab.unit("left4me-server@1.service", "ActiveState"),
        "active",
        "nothing of that was done"
    );
}

fn a_stranger_leaves_no_trace(lab: &Lab) {
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );

    let jobs = lab.json(&["left4me-job", "list", "--limit", "1000", "--json"]);
    let strangers = ["stranger", "left4me-game", "left4me-steam", "nobody"];
    for job in jobs.as_array().expect("a list") {
        assert!(
            !strangers.iter().any(|name| job["requested_by"] == *name),
            "{job}"
        );
    }

    lab.job(&["restart", "--server", "1"]);
    lab.runs(1, "target");
}
