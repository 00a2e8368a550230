//! An upgrade of a host of the version before builds were published beside each other: its game
//! files become the first build without a download, and its servers notice nothing.
//!
//! The old state comes from a fixture (`tests/lab/before_builds`), taken from a host of that
//! version; its `lay-down` says what is in it.

use crate::lab::{Lab, s, standin, wait_for};
use crate::probe::version;
use crate::upgrade::{install_the_new_package, lay_down};

const DATA: &str = "/var/lib/left4me";

pub fn a_host_without_builds_publishes_what_it_has(lab: &Lab) {
    lay_down(lab, "before_builds");
    let probe = lab.probe(2);
    let before = running(lab);
    let files = files(lab, "installation");

    install_the_new_package(lab);
    assert_eq!(
        running(lab),
        before,
        "an upgrade leaves processes and mounts alone"
    );
    probe.read().no_query_was_missed("during the upgrade");
    the_game_files_are_the_first_build(lab, &files);
    assert_eq!(lab.job_count(), 4, "no job was needed");
    for (name, state) in [
        ("Friday", "running"),
        ("Saturday", "running"),
        ("Resting", "stopped"),
    ] {
        wait_for("states are known", s(30), || {
            let row = lab.server(name);
            if row["actual_state"] == state {
                Ok(())
            } else {
                Err(format!("{row:#}"))
            }
        });
    }

    // A crash brings it back on its old mount.
    lab.ok(&["kill", "-KILL", &lab.main_pid(2)]);
    wait_for("Saturday answers again", s(30), || {
        let seen = probe.read();
        if seen.gaps_of(2).is_empty() || !seen.silent().is_empty() {
            Err("not yet")
        } else {
            Ok(())
        }
        .map_err(str::to_owned)
    });
    drop(probe);

    a_second_upgrade_changes_nothing(lab, &files);
    a_power_cut_leaves_them_running(lab);
    an_update_brings_the_next_build(lab);
}

#[derive(Debug, PartialEq)]
struct Running {
    pids: [String; 2],
    mounts: Vec<String>,
}

fn running(lab: &Lab) -> Running {
    Running {
        pids: [1, 2].map(|id| lab.main_pid(id)),
        mounts: lab.mounts(),
    }
}

/// The files of a tree, with their inodes.
fn files(lab: &Lab, tree: &str) -> String {
    lab.sh(&format!(
        "cd {DATA}/{tree} && find . -type f ! -name .left4me -printf '%P %i %T@\n' | sort"
    ))
}

fn the_game_files_are_the_first_build(lab: &Lab, before: &str) {
    assert_eq!(lab.current_build(), 100);
    assert_eq!(lab.builds(), ["100"]);
    assert_eq!(
        files(lab, "builds/100"),
        before,
        "the same files, not copies"
    );
    assert_eq!(files(lab, "installation"), "", "nothing is in two places");
    for id in 1..=3 {
        let env = lab.sh(&format!("cat {DATA}/instances/{id}/instance.env"));
        assert!(env.contains("/builds/100\""), "{env}");
        assert!(!env.contains("/installation"), "{env}");
    }
    let list = lab.ok(&["left4me", "build", "list"]);
    assert!(list.contains("100"), "{list}");
}

fn a_second_upgrade_changes_nothing(lab: &Lab, files: &str) {
    let before = running(lab);
    install_the_new_package(lab);
    assert_eq!(running(lab), before);
    the_game_files_are_the_first_build(lab, files);
}

fn a_power_cut_leaves_them_running(lab: &Lab) {
    let boot = lab.boot_id();
    // Nothing is stopped first.
    lab.run(&["systemctl", "reboot", "--force", "--force"]);
    lab.wait_for_boot_after(&boot);
    let seen = lab.probe(2).stop();
    assert_eq!(seen.last(1), version(100));
    for (id, name) in [(1, "Friday"), (2, "Saturday")] {
        wait_for(&format!("{name} is known to run"), s(30), || {
            let row = lab.server(name);
            if row["actual_state"] == "running" {
                Ok(())
            } else {
                Err(format!("{row:#}"))
            }
        });
        lab.runs(id, name);
    }
}

fn an_update_brings_the_next_build(lab: &Lab) {
    lab.set("LEFT4ME_STEAM_RETRY_SECONDS=0");
    lab.push(
        &standin("standin-srcds"),
        "/usr/local/lib/left4me-standin/srcds",
    );
    lab.job(&["start", "--server", "Resting"]);
    let seen = lab.probe(3).stop();
    assert_eq!(
        seen.last(3),
        version(100),
        "it starts with the files of before"
    );

    lab.steamcmd("buildid=101");
    lab.job(&["update", "--rolling", "1"]);
    lab.all_answer_with(3, 101);
    for (id, name) in [(1, "Friday"), (2, "Saturday"), (3, "Resting")] {
        lab.runs(id, name);
        let stats = format!("{DATA}/runtime/{id}/upper/left4dead2/addons/sourcemod/data/stats.db");
        assert_eq!(lab.ok(&["cat", &stats]), format!("stats of server {id}"));
    }
    assert_eq!(lab.builds(), ["100", "101"]);

    lab.job(&["rollback"]);
    lab.all_answer_with(3, 100);
}
