//! Operations on what all servers share, and the worker's coming and going.

use crate::lab::{Lab, s, wait_until};
use crate::site::STEAM;

const BACKUPS: &str = "/var/lib/left4me/backups";
const UNIT: &str = "left4me-server@1.service";
const ONE: &str = "/var/lib/left4me/runtime/1/merged";

pub fn an_update_starts_again_what_ran_and_nothing_of_ours_stays_when_idle(lab: &Lab) {
    lab.set("LEFT4ME_WORKER_IDLE_SECONDS=2");
    lab.describe(&["runs", "rests"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "runs"]);
    lab.job(&["start", "--server", "rests"]);
    lab.job(&["stop", "--server", "rests"]);
    an_install_leaves_a_running_server_alone(lab);
    an_update_starts_again_what_ran(lab);
    an_update_that_fails_starts_again_what_ran(lab);
    a_reset_empties_what_the_game_wrote(lab);
    a_crash_is_restarted_and_a_clean_end_is_not(lab);
    the_timers_are_there_and_off_and_their_services_do_it(lab);
    what_is_old_goes_at_night_and_nothing_else(lab);
    nothing_of_ours_is_alive_when_idle_and_a_poke_wakes_it(lab);
}

fn an_install_leaves_a_running_server_alone(lab: &Lab) {
    let pid = lab.main_pid(1);
    lab.job(&["install"]);
    assert_eq!(lab.main_pid(1), pid, "the server was left alone");
}

fn an_update_starts_again_what_ran(lab: &Lab) {
    let pid = lab.main_pid(1);
    lab.steamcmd("buildid=77");
    let job = lab.job(&["update"]);
    lab.logged(job.id, "stdout", &["fully installed"]);
    lab.sh("grep -q '\"buildid\".*\"77\"' \
           /var/lib/left4me/installation/steamapps/appmanifest_222860.acf");
    lab.runs(1, "runs");
    assert_ne!(
        lab.main_pid(1),
        pid,
        "the game was restarted on the new build"
    );
    lab.answers("runs");
    lab.is_stopped(2, "rests");
}

fn an_update_that_fails_starts_again_what_ran(lab: &Lab) {
    lab.steamcmd("state=0x202");
    let job = lab.failing_job(&["update"], &["0x202"]);
    assert_eq!(job.exit_code, Some(8), "steamcmd's own exit code");
    lab.runs(1, "runs");
    lab.answers("runs");
    lab.is_stopped(2, "rests");
    lab.steamcmd("");
}

fn a_reset_empties_what_the_game_wrote(lab: &Lab) {
    let written = format!("{ONE}/left4dead2/cfg/written.cfg");
    lab.sh(&format!("touch {written}; chown left4me_1: {written}"));
    lab.job(&["restart", "--server", "runs"]);
    assert!(
        lab.is(&format!("test -e {written}")),
        "a restart keeps what the game wrote"
    );

    lab.job(&["reset", "--server", "runs"]);
    lab.runs(1, "runs");
    lab.answers("runs");
    assert!(
        lab.is(&format!("! test -e {written}")),
        "a reset removes what the game wrote"
    );

    lab.job(&["start", "--server", "rests"]);
    lab.job(&["stop", "--server", "rests"]);
    assert!(
        lab.is("find /var/lib/left4me/runtime/2/upper -type f | grep -q ."),
        "the game wrote something"
    );

    lab.job(&["reset", "--server", "rests"]);
    lab.is_stopped(2, "rests");
    assert_eq!(
        lab.sh("find /var/lib/left4me/runtime/2/upper -type f"),
        "",
        "what is left in the upper layer"
    );
}

fn a_crash_is_restarted_and_a_clean_end_is_not(lab: &Lab) {
    let pid = lab.main_pid(1);
    lab.sh(&format!("touch {ONE}/left4dead2/standin.crash"));
    wait_until("the crashed game runs again", s(30), || {
        let now = lab.main_pid(1);
        now != "0" && now != pid && lab.unit(UNIT, "SubState") == "running"
    });

    lab.answers("runs");
    lab.sh(&format!("touch {ONE}/left4dead2/standin.exit0"));
    wait_until("the unit ends with the game", s(10), || {
        lab.unit(UNIT, "ActiveState") == "inactive"
    });
    // Longer than RestartSec= would be no proof either; the unit's word is.
    assert_eq!(
        (
            lab.unit(UNIT, "SubState").as_str(),
            lab.unit(UNIT, "Result").as_str()
        ),
        ("dead", "success")
    );

    lab.job(&["start", "--server", "runs"]);
    lab.runs(1, "runs");
}

/// A job of last year, and one of today.
fn what_is_old_goes_at_night_and_nothing_else(lab: &Lab) {
    let timer = "left4me-prune.timer";
    assert_eq!(lab.unit(timer, "UnitFileState"), "enabled");
    assert_eq!(lab.unit(timer, "ActiveState"), "active");

    let today = lab.enqueue(&["stop", "--server", "rests"]);
    assert_eq!(lab.ended(today, 60).state, "succeeded");
    let old = lab.sh("sqlite3 /var/lib/left4me/db/left4me.db \
         \"INSERT INTO jobs (operation, state, requested_by, created_at, updated_at,
             started_at, finished_at, exit_code, worker_id)
         VALUES ('stop', 'succeeded', 'x', 1, 1, 1, 1, 0, 'w');
         INSERT INTO job_logs (job_id, seq, at, stream, line)
         SELECT max(id), 1, 1, 'stdout', 'x' FROM jobs;
         SELECT max(id) FROM jobs\"");
    let before = lab.job_count();
    let dry = lab.json(&["left4me", "prune", "--dry-run", "--json"]);
    assert_eq!(dry["jobs"], 1, "{dry}");
    lab.ok(&["systemctl", "start", "left4me-prune.service"]);

    assert_eq!(lab.job_count(), before - 1);
    assert_eq!(lab.run(&["left4me-job", "show", &old]).code, 3);
    assert_eq!(lab.show(today).state, "succeeded");
    let said = lab.sh("journalctl --unit left4me-prune.service --output cat");
    assert!(said.contains("1 jobs, 1 log lines"), "{said}");
}

fn the_timers_are_there_and_off_and_their_services_do_it(lab: &Lab) {
    for timer in ["left4me-update.timer", "left4me-backup.timer"] {
        assert_eq!(lab.unit(timer, "LoadState"), "loaded", "{timer}");
        assert_eq!(lab.unit(timer, "UnitFileState"), "disabled", "{timer}");
        assert_eq!(lab.unit(timer, "ActiveState"), "inactive", "{timer}");
        lab.ok(&["systemctl", "enable", "--now", timer]);
        assert_eq!(lab.unit(timer, "ActiveState"), "active", "{timer}");
        lab.ok(&["systemctl", "disable", "--now", timer]);
    }

    lab.ok(&["left4me-job", "pause", "--reason", "backup"]);
    let jobs = lab.job_count();
    lab.ok(&["systemctl", "start", "left4me-update.service"]);
    lab.ok(&["systemctl", "start", "left4me-update.service"]);
    assert_eq!(
        lab.job_count(),
        jobs + 1,
        "two nights, one update that waits"
    );

    lab.ok(&["left4me-job", "resume"]);
    let update = lab.json(&["left4me-job", "list", "--limit", "1", "--json"])[0]["id"]
        .as_i64()
        .expect("an id");
    assert_eq!(lab.ended(update, 60).state, "succeeded");

    for _ in 0..9 {
        lab.ok(&["systemctl", "start", "left4me-backup.service"]);
    }
    let kept: Vec<String> = lab
        .sh(&format!("ls {BACKUPS}"))
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(kept.len(), 7, "the last seven backups: {kept:?}");
    let newest = format!("{BACKUPS}/{}", kept[6]);
    assert_eq!(
        lab.ok(&["sqlite3", &newest, "PRAGMA integrity_check"]),
        "ok"
    );

    let rows = |file: &str| lab.ok(&["sqlite3", "-readonly", file, "SELECT count(*) FROM jobs"]);
    assert_eq!(
        rows(&newest),
        rows("/var/lib/left4me/db/left4me.db"),
        "jobs in the backup"
    );

    assert!(
        lab.is(&format!("! find {BACKUPS} -perm /007 -type f | grep -q .")),
        "a backup that everybody can read"
    );
}

fn nothing_of_ours_is_alive_when_idle_and_a_poke_wakes_it(lab: &Lab) {
    // All but left4me-console: while a server runs, each poll asks it who plays. That it exits when
    // nobody asks, console.rs sees.
    let ours = || {
        let all = lab
            .run(&["pgrep", "--list-full", "--full", "^/usr/libexec/left4me/"])
            .stdout;
        let others = all.lines().filter(|line| !line.contains("left4me-console"));
        others.map(str::to_owned).collect::<Vec<_>>()
    };

    wait_until("nothing of left4me is alive", s(20), || ours().is_empty());
    assert_eq!(lab.unit("left4me-worker.service", "Result"), "success");
    // The poller comes and goes.
    wait_until("no process of ours is alive", s(20), || {
        lab.processes_of("left4me").is_empty()
    });
    assert_eq!(lab.processes_of("left4me-steam"), "");
    lab.runs(1, "runs");

    // Cold: the socket starts the worker, which takes the job at once.
    let before = lab.unit("left4me-worker.service", "InvocationID");
    lab.job(&["restart", "--server", "runs"]);
    assert_ne!(
        lab.unit("left4me-worker.service", "InvocationID"),
        before,
        "a worker of its own"
    );

    lab.answers("runs");

    // Jobs of a stopped queue wait, whatever wakes the worker; the next wake-up after `resume` runs
    // them.
    lab.ok(&["left4me-job", "pause"]);
    let waiting = lab.enqueue(&["stop", "--server", "runs"]);
    wait_until("the worker left though a job waits", s(30), || {
        ours().is_empty()
    });
    assert_eq!(lab.show(waiting).state, "queued");
    lab.ok(&["left4me-job", "resume"]);
    assert_eq!(lab.ended(waiting, 30).state, "succeeded");
    lab.is_stopped(1, "runs");
    assert!(
        lab.is(&format!("! test -e {STEAM}/steamapps")),
        "the game is installed in its own place"
    );
}
