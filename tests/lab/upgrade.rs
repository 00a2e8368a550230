//! An upgrade of an existing host: the previous version's package, database and trees, with two
//! servers that run.
//!
//! The old state comes from a fixture (`tests/lab/old`), not from a second build. It was taken from
//! a host of that version; `tests/lab/old/lay-down` says what is in it.

use std::path::{Path, PathBuf};

use crate::lab::{Lab, deb, repository, s, standin, wait_until};

const DATA: &str = "/var/lib/left4me";
const DATABASE: &str = "/var/lib/left4me/db/left4me.db";
const STANDIN: &str = "/usr/local/lib/left4me-standin/srcds";

/// Counts of the rows that the fixture's database holds.
const ROWS: [(&str, u32); 6] = [
    ("users", 3),
    ("blueprints", 3),
    ("servers", 4),
    ("overlays", 2),
    ("job_logs", 43),
    ("tokens", 1),
];

/// An instance of l4d2ctl's, with a name that no Unix user can have.
const LONG: &str = "an-instance-with-a-long-name";

/// What the processes of a server and its mount are, which an upgrade must not change.
#[derive(Debug, PartialEq)]
struct Running {
    pids: [String; 3],
    mounts: Vec<String>,
}

const WANTS: &str = "/etc/systemd/system/left4me.target.wants";

pub fn an_existing_host_keeps_its_servers_and_loses_nothing(lab: &Lab) {
    lay_down_the_old_state(lab);
    let before = running(lab);
    lab.sh("systemctl disable left4me-web.socket");
    let enabled = enabled(lab);

    install_the_new_package(lab);
    assert_eq!(
        running(lab),
        before,
        "an upgrade leaves processes and mounts alone"
    );

    let new = [
        "left4me-prune.timer",
        "left4me-alerts.socket",
        "left4me-notify.socket",
        "left4me-schedules.socket",
        "left4me-publisher.socket",
        "left4me-console.socket",
    ];
    let is_new = |link: &str| new.iter().any(|unit| link == format!("{WANTS}/{unit}"));
    let after = self::enabled(lab);
    let kept: Vec<&str> = after.lines().filter(|link| !is_new(link)).collect();
    assert_eq!(
        kept.join("\n"),
        enabled,
        "an upgrade keeps what an admin enabled and disabled"
    );
    assert_eq!(
        after.lines().count(),
        kept.len() + new.len(),
        "and enables what this version adds"
    );
    for unit in new {
        assert_eq!(lab.unit(unit, "ActiveState"), "active", "{unit}");
    }

    the_database_has_moved_with_every_row(lab);
    directories_have_the_owners_of_this_version(lab);
    arguments_are_converted_or_named(lab);
    states_are_told_as_they_are(lab);

    a_crash_of_a_server_of_before_is_answered(lab);
    a_restart_takes_the_tree_over(lab);
    a_server_that_rested_starts_with_its_files(lab);
    a_server_with_bad_arguments_stays_down_and_says_why(lab);
    a_second_upgrade_changes_nothing(lab);
    a_reboot_brings_all_of_them_back(lab);
    a_reset_empties_what_came_over(lab);
}

/// Makes of the lab what a fixture describes.
#[track_caller]
pub fn lay_down(lab: &Lab, name: &str) {
    let fixture = tar(name);
    lab.push(&fixture, "/root/old.tar");
    lab.push(&standin("standin-srcds"), STANDIN);
    lab.sh(&format!(
        "mkdir /root/old && tar -C /root/old -xf /root/old.tar && /root/old/lay-down {STANDIN}"
    ));
    std::fs::remove_file(fixture).ok();
}

fn lay_down_the_old_state(lab: &Lab) {
    lay_down(lab, "old");

    // The trial is fair: this is what such a host looked like.
    for port in [27000, 27001, 27005] {
        wait_until("a server of the old version answers", s(30), || {
            answers(lab, port)
        });
    }

    let users = lab.sh("ps -o user:32= -p $(systemctl show -P MainPID left4me-server@1.service)");
    assert_eq!(users, "left4me-game");
    let command =
        lab.sh("tr '\\0' ' ' </proc/$(systemctl show -P MainPID left4me-server@1.service)/cmdline");
    assert!(
        command.contains("-norestart"),
        "started by the old unit: {command}"
    );
}

/// The fixture as one file.
fn tar(name: &str) -> PathBuf {
    let file = std::env::temp_dir().join(format!("left4me-{name}-{}.tar", std::process::id()));
    let status = crate::lab::command("tar")
        .args([
            Path::new("-C"),
            &repository().join("tests/lab").join(name),
            Path::new("-cf"),
            &file,
            Path::new("."),
        ])
        .status()
        .expect("tar runs");
    assert!(status.success(), "tar: {status}");
    file
}

fn answers(lab: &Lab, port: u16) -> bool {
    lab.run(&[STANDIN, "--query", &format!("127.0.0.1:{port}")])
        .code
        == 0
}

fn running(lab: &Lab) -> Running {
    let pid = |instance: &str| lab.unit(&format!("left4me-server@{instance}.service"), "MainPID");
    Running {
        pids: ["1", "2", LONG].map(pid),
        mounts: lab.mounts(),
    }
}

/// What comes up by itself at a boot, as links.
fn enabled(lab: &Lab) -> String {
    lab.sh("find /etc/systemd/system -name 'left4me*' -type l -printf '%p\n' | sort")
}

/// The package under test, over the one that is installed, and the stand-in for steamcmd.
#[track_caller]
pub fn install_the_new_package(lab: &Lab) {
    let inside = format!(
        "/root/{}",
        deb().file_name().expect("a file").to_string_lossy()
    );

    lab.push(&deb(), &inside);
    lab.ok(&[
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--yes",
        "--quiet",
        "install",
        "--reinstall",
        "--allow-downgrades",
        &inside,
    ]);

    lab.push(
        &standin("standin-steamcmd"),
        &format!("{}/steamcmd.sh", crate::site::STEAM),
    );

    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

fn the_database_has_moved_with_every_row(lab: &Lab) {
    assert_eq!(
        lab.sh(&format!("find {DATA} -maxdepth 1 -name 'left4me.db*'")),
        "",
        "left at the old place"
    );

    assert_eq!(
        lab.ok(&["stat", "--format", "%a %U:%G", DATABASE]),
        "660 left4me:left4me"
    );

    assert_eq!(
        lab.ok(&["sqlite3", DATABASE, "PRAGMA integrity_check"]),
        "ok"
    );

    for (table, rows) in ROWS {
        let found = lab.ok(&[
            "sqlite3",
            DATABASE,
            &format!("SELECT count(*) FROM {table}"),
        ]);

        assert_eq!(found, rows.to_string(), "rows of {table}");
    }

    let log = lab.log(1);
    assert_eq!(
        log[0].line, "Redirecting stderr to 'stderr.txt'",
        "the log of a job of before"
    );
}

fn directories_have_the_owners_of_this_version(lab: &Lab) {
    for (path, expected) in [
        (DATA, "751 root:left4me"),
        ("/var/lib/left4me/db", "2770 left4me:left4me"),
        ("/var/lib/left4me/runtime", "711 root:root"),
        ("/var/lib/left4me/instances", "711 left4me:left4me"),
    ] {
        assert_eq!(
            lab.ok(&["stat", "--format", "%a %U:%G", path]),
            expected,
            "{path}"
        );
    }
}

/// Arguments that were legal before: what is safe is converted, the rest is named wherever an admin
/// looks.
fn arguments_are_converted_or_named(lab: &Lab) {
    let spaces = lab.ok(&["left4me", "blueprint", "show", "spaces"]);
    for word in [
        "-tickrate",
        "60",
        "+map",
        "c2m1_highway",
        "hostname \"Bob's best server\"",
    ] {
        assert!(spaces.contains(word), "'{word}' is lost\n{spaces}");
    }

    assert!(!spaces.contains("+hostname"), "{spaces}");
    let evil = lab
        .run(&["left4me", "blueprint", "show", "evil"])
        .ends_with(0);
    assert!(
        !evil.to_string().contains("-autoupdate"),
        "a server plays the same without it\n{evil}"
    );

    assert!(
        evil.to_string().contains("@args.txt"),
        "what is refused is shown\n{evil}"
    );

    let doctor = lab.run(&["left4me", "doctor"]).to_string();
    assert!(
        doctor.contains("server 3") && doctor.contains("@args.txt"),
        "doctor names it\n{doctor}"
    );
}

fn states_are_told_as_they_are(lab: &Lab) {
    for (server, state) in [
        ("Friday", "running"),
        ("Bobs", "running"),
        ("Resting", "stopped"),
    ] {
        wait_until(&format!("{server} is {state}"), s(20), || {
            lab.server(server)["actual_state"] == state
        });
    }
}

/// It still has its old mount and user: Restart= brings it back on those.
fn a_crash_of_a_server_of_before_is_answered(lab: &Lab) {
    for (instance, port) in [("1", 27000), (LONG, 27005)] {
        let unit = format!("left4me-server@{instance}.service");
        let before = lab.unit(&unit, "MainPID");
        lab.ok(&["kill", "-KILL", &before]);
        wait_until("the crashed server is back", s(30), || {
            lab.unit(&unit, "ActiveState") == "active" && lab.unit(&unit, "MainPID") != before
        });
        wait_until("and answers", s(30), || answers(lab, port));
    }

    assert_eq!(lab.answers("Friday"), "first name");
}

fn a_restart_takes_the_tree_over(lab: &Lab) {
    lab.job(&["restart", "--server", "Friday", "--server", "Bobs"]);
    for (id, name) in [(1, "Friday"), (2, "Bobs")] {
        lab.runs(id, name);
        belongs_to_the_server(lab, id);
    }

    for verb in ["stop", "start"] {
        lab.ok(&["l4d2ctl", verb, LONG]);
    }
    wait_until("the long name answers", s(30), || answers(lab, 27005));
    let owner = lab.ok(&[
        "stat",
        "--format",
        "%U",
        &format!("{DATA}/runtime/{LONG}/upper/left4dead2/logs/1.log"),
    ]);

    assert!(owner.starts_with("left4me__"), "{owner}");
    assert_eq!(lab.answers("Friday"), "first name");
    assert_eq!(
        lab.answers("Bobs"),
        "Bob's best server",
        "what was an argument is a line of server.cfg"
    );

    // What the game had linked to is still root's.
    assert_eq!(lab.ok(&["stat", "--format", "%U", "/etc/shadow"]), "root");
}

/// Whatever server `id` had written is still there, and is its own user's.
#[track_caller]
fn belongs_to_the_server(lab: &Lab, id: u32) {
    let upper = format!("{DATA}/runtime/{id}/upper");
    let uid = lab.ok(&["id", "--user", &format!("left4me_{id}")]);
    let stats = format!("{upper}/left4dead2/addons/sourcemod/data/stats.db");
    assert_eq!(lab.ok(&["cat", &stats]), format!("stats of server {id}"));
    assert_eq!(
        lab.sh(&format!("find {upper} -name '*.log' | wc -l")),
        "500",
        "the game's logs"
    );

    assert_eq!(
        lab.sh(&format!("find {upper} ! -uid {uid} -o ! -gid {uid} | head")),
        "",
        "not the server's own"
    );

    let link = lab.ok(&["readlink", &format!("{upper}/left4dead2/link")]);
    assert_eq!(link, "/etc/shadow");
}

fn a_server_that_rested_starts_with_its_files(lab: &Lab) {
    lab.job(&["start", "--server", "Resting"]);
    lab.runs(4, "Resting");
    belongs_to_the_server(lab, 4);
}

fn a_server_with_bad_arguments_stays_down_and_says_why(lab: &Lab) {
    lab.failing_job(&["start", "--server", "Evil"], &["@args.txt"]);
    assert_eq!(
        lab.unit("left4me-server@3.service", "ActiveState"),
        "inactive"
    );
}

fn a_second_upgrade_changes_nothing(lab: &Lab) {
    let before = running(lab);
    install_the_new_package(lab);
    assert_eq!(running(lab), before);
    the_database_has_moved_with_every_row_and_more(lab);
}

/// Jobs have come since, nothing has gone.
fn the_database_has_moved_with_every_row_and_more(lab: &Lab) {
    assert!(lab.job_count() > 4, "the jobs of before and ours");
    assert_eq!(
        lab.ok(&["sqlite3", DATABASE, "PRAGMA integrity_check"]),
        "ok"
    );
}

fn a_reboot_brings_all_of_them_back(lab: &Lab) {
    lab.reboot();
    for (id, name) in [(1, "Friday"), (2, "Bobs"), (4, "Resting")] {
        lab.answers(name);
        wait_until(&format!("{name} is known to run"), s(30), || {
            lab.server(name)["actual_state"] == "running"
        });
        lab.runs(id, name);
        belongs_to_the_server(lab, id);
    }
}

fn a_reset_empties_what_came_over(lab: &Lab) {
    lab.job(&["reset", "--server", "Resting"]);
    lab.runs(4, "Resting");
    assert_eq!(
        lab.sh(&format!(
            "find {DATA}/runtime/4/upper -name '*.log' | wc -l"
        )),
        "0"
    );
}
