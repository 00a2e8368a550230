//! Stale files: what a game wrote that hides newer game files after an update, from the restart that
//! finds it to the reset that drops it.

use crate::field_content::inside;
use crate::lab::Lab;

const DATA: &str = "/var/lib/left4me";
const UPPER: &str = "/var/lib/left4me/runtime/1/upper/left4dead2";
const GAME: &str = "/var/lib/left4me/runtime/1/merged/left4dead2";

pub fn files_that_hide_newer_ones_are_found_and_dropped_on_request(lab: &Lab) {
    lab.describe(&["one", "two"]);
    lab.sh(&format!(
        "mkdir -p {DATA}/overlays/demo/left4dead2/cfg; echo overlay >{DATA}/overlays/demo/left4dead2/cfg/ours.cfg
         chown -R left4me: {DATA}/overlays/demo"
    ));
    lab.job(&["install"]);
    publish(lab, 900, "first");
    for server in ["one", "two"] {
        lab.job(&["start", "--server", server]);
        lab.answers(server);
    }
    nothing_is_found_before_an_update(lab);
    the_game_writes(lab);
    a_restart_on_another_build_lists_them(lab);
    people_of_the_group_can_look_without_the_queue(lab);
    a_reset_drops_these_and_keeps_the_rest(lab);
    the_game_cannot_hold_up_the_search(lab);
}

/// Lays a build beside the others, with these game files, and makes it the current one.
fn publish(lab: &Lab, build: u32, content: &str) {
    let builds = format!("{DATA}/builds");
    lab.sh(&format!(
        "mkdir -p {builds}; cd {builds}; from={DATA}/installation; [ ! -e current ] || from=$(readlink -f current)
         cp -a $from {build}; cd {build}/left4dead2; mkdir -p cfg maps
         for name in cfg/changed.cfg cfg/gone.cfg cfg/ours.cfg maps/same.nav maps/new.nav; do
         echo {content} >$name; done; echo same >maps/same.nav
         chown -R left4me-steam: {builds}; ln -sfn {build} {builds}/current; chown -h left4me-steam: {builds}/current"
    ));
}

fn nothing_is_found_before_an_update(lab: &Lab) {
    assert_eq!(stale(lab, 1)["count"], 0);
    assert!(!doctor(lab).contains("stale files"));
}

fn the_game_writes(lab: &Lab) {
    // The time stays that of the old build, as when a plugin rewrites a file that it read.
    inside(
        lab,
        1,
        &format!(
            "cd {GAME}; for name in cfg/changed.cfg maps/new.nav cfg/ours.cfg; do echo mine >$name; done
             rm cfg/gone.cfg; echo same >maps/same.nav; echo mine >maps/own.nav
             name=$(printf 'maps/odd\\nname\\033[2J.nav'); echo mine >\"$name\""
        ),
    );
    assert_eq!(lab.sh(&format!("cat {UPPER}/cfg/changed.cfg")), "mine");
}

fn a_restart_on_another_build_lists_them(lab: &Lab) {
    // Whole seconds are not needed: times have nanoseconds.
    publish(lab, 901, "second");
    lab.sh(&format!(
        "name=$(printf 'maps/odd\\nname\\033[2J.nav'); echo second >{DATA}/builds/901/left4dead2/\"$name\""
    ));
    lab.job(&["restart", "--all"]);
    lab.answers("one");

    let found = stale(lab, 1);
    let files = found["files"].as_array().unwrap().iter();
    let paths: Vec<&str> = files.map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "left4dead2/cfg/changed.cfg",
            "left4dead2/maps/new.nav",
            "left4dead2/maps/odd\\x0aname\\x1b[2J.nav",
        ],
        "{found}"
    );
    assert_eq!(
        (&found["count"], &found["is_whole"]),
        (&3.into(), &true.into())
    );
    assert_eq!(stale(lab, 2)["count"], 0, "the other server wrote nothing");

    let shown = lab.ok(&["left4me", "server", "show", "one"]);
    assert!(
        shown.contains("3 files") && shown.contains("left4dead2/cfg/changed.cfg (5 B)"),
        "{shown}"
    );
    let doctor = doctor(lab);
    assert!(
        doctor.contains("stale files of server 1 (one)") && !doctor.contains("server 2 (two)"),
        "{doctor}"
    );
    assert_eq!(lab.sh(&format!("cat {GAME}/cfg/changed.cfg")), "mine");
}

fn people_of_the_group_can_look_without_the_queue(lab: &Lab) {
    lab.sh("useradd --create-home --groups left4me looker");
    let look = |verb| lab.run_as("looker", &["sudo", "-n", "left4me-helper", verb, "1"]);
    let looked = look("stale").ends_with(0);
    assert!(
        looked.stdout.contains("left4dead2/maps/new.nav") && looked.stdout.contains("\"count\":3"),
        "{looked}"
    );
    look("purge-stale")
        .ends_with(4)
        .complains_of(&["stop it first"]);
    lab.run_as("looker", &["cat", &format!("{UPPER}/cfg/changed.cfg")])
        .ends_with(1);
}

fn a_reset_drops_these_and_keeps_the_rest(lab: &Lab) {
    let job = lab.job(&["reset", "--stale", "--server", "one"]);
    lab.logged(job.id, "stdout", &["dropped left4dead2/maps/new.nav"]);
    lab.logged(job.id, "stdout", &["server 1: dropped 3 files"]);
    lab.answers("one");

    let game = lab.sh(&format!(
        "cd {GAME}; cat cfg/changed.cfg maps/new.nav cfg/ours.cfg maps/own.nav maps/same.nav
         [ ! -e cfg/gone.cfg ] && echo deleted"
    ));
    assert_eq!(game, "second\nsecond\nmine\nmine\nsame\ndeleted");
    assert_eq!(stale(lab, 1)["count"], 0);
    assert!(!doctor(lab).contains("stale files"));
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

/// Its search has the same user, so the game can stop it. Then the search has an end, and so has the
/// job; the server is up.
fn the_game_cannot_hold_up_the_search(lab: &Lab) {
    const DROP_IN: &str = "/run/systemd/system/left4me-stale@.service.d";
    // As shipped it takes two minutes.
    lab.write(
        &format!("{DROP_IN}/soon.conf"),
        "[Service]\nTimeoutStartSec=5\nTimeoutStopSec=5\n",
    );
    lab.ok(&["systemctl", "daemon-reload"]);
    lab.job(&["stop", "--server", "one"]);
    publish(lab, 902, "third");
    lab.sh(&format!(
        "cat >{UPPER}/standin.run <<'X'\n\
         (for i in $(seq 60000); do for d in /proc/[0-9]*; do read -r name <$d/comm && \
         [ \"$name\" = left4me-helper ] && kill -STOP ${{d#/proc/}} && exit; done; done) 2>/dev/null &\nX\n\
         chown left4me_1: {UPPER}/standin.run"
    ));
    let job = lab.job(&["start", "--server", "one"]);
    lab.answers("one");
    assert_eq!(job.state, "succeeded");
    assert_eq!(
        lab.sh("pgrep -c -f stale-files || true"),
        "0",
        "no search is left"
    );
    lab.sh(&format!("rm -r {DROP_IN}; systemctl daemon-reload"));
}

/// What was found last, as `--json` has it.
fn stale(lab: &Lab, server: u32) -> serde_json::Value {
    let shown = lab.json(&["left4me", "server", "show", &server.to_string(), "--json"]);
    shown["stale"].clone()
}

fn doctor(lab: &Lab) -> String {
    lab.run(&["left4me", "doctor"]).stdout
}
