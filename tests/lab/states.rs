//! Rows do not lie: whatever happens to a server behind our back is in its row within two seconds,
//! with its cause; drift is told once, and nothing is restarted by us. The poller's timer is off
//! here, but for the reboot.

use serde_json::Value;

use crate::lab::{Lab, s, wait_for, wait_until};
use crate::rows::{SOON, drift, game, says, unit};

const ALL: [u32; 3] = [1, 2, 3];

pub fn a_row_tells_what_systemd_knows_within_two_seconds(lab: &Lab) {
    lab.describe(&["one", "two", "three"]);
    lab.job(&["install"]);
    lab.stop_the_polls_timer();
    lab.job(&["start", "--all"]);
    a_start_is_told_with_its_job(lab);
    a_stop_by_hand_is_drift_until_a_job_ends_it(lab);
    a_crash_is_told_with_its_cause_and_is_no_drift_while_systemd_restarts(lab);
    a_game_that_ends_by_itself_stays_down(lab);
    a_crash_loop_ends_at_the_start_limit(lab);
    a_stop_of_all_at_once_is_told_of_each(lab);
    what_runs_or_would_run_against_our_wish_is_drift(lab);
    what_would_not_start_at_boot_is_drift(lab);
    a_unit_without_a_row_is_told(lab);
    // Those of this story: one of them for each that was down, none by itself.
    assert_eq!(lab.job_count(), 7, "jobs");
}

fn a_start_is_told_with_its_job(lab: &Lab) {
    for id in ALL {
        let started = lab.soon_event(id, "server.started", 1);
        assert!(started.cause.starts_with("job "), "{started:?}");
        let row = lab.soon(id, "running", |row| {
            row["actual_state"] == "running" && row["enabled"] == true
        });
        assert_eq!(
            (drift(&row), row["restarts"].as_i64()),
            ("", Some(0)),
            "{row:#}"
        );

        assert!(row["actual_since"].is_i64(), "{row:#}");
    }
}

/// After `act`, this drift is in the row soon. It is written once and told once, and polls that see
/// it again change nothing: neither the row nor the unit.
#[track_caller]
fn drifts(lab: &Lab, id: u32, kind: &str, why: &str, act: impl FnOnce()) -> Value {
    let told = || {
        let warnings = lab.warnings(&format!("LEFT4ME_SERVER_ID={id}"), "accepts it");
        (lab.events(id, "server.drifted").len(), warnings.len())
    };

    let (events, warnings) = told();
    act();
    let row = lab.soon(id, &format!("drift {kind}: {why}"), |row| {
        drift(row) == kind && says(&row["drift"]["why"], why)
    });
    let row = when_its_game_is_known(lab, id, row);
    let state = lab.unit(&unit(id), "ActiveState");
    lab.poll();
    lab.poll();
    let again = lab.row(id);
    for key in [
        "version",
        "actual_state",
        "actual_since",
        "last_end",
        "drift",
        "enabled",
    ] {
        assert_eq!(
            again[key], row[key],
            "{key} after polls that saw nothing new\n{again:#}"
        );
    }

    let looked_at = |row: &Value| row["actual_state_updated_at"].as_i64();
    assert!(
        looked_at(&again) > looked_at(&row),
        "the polls looked\n{again:#}"
    );

    assert_eq!(
        told(),
        (events + 1, warnings + 1),
        "server.drifted and warnings: {:#?}",
        lab.history(id)
    );

    assert_eq!(
        lab.unit(&unit(id), "ActiveState"),
        state,
        "what polls do to {}",
        unit(id)
    );

    let event = &lab.events(id, "server.drifted")[0];
    assert!(
        event.cause == "outside" && event.detail.contains(why),
        "{event:?}"
    );

    row
}

/// That a game has come up is news as well: the row is the same from then on.
#[track_caller]
fn when_its_game_is_known(lab: &Lab, id: u32, row: Value) -> Value {
    if row["actual_state"] != "running" {
        return row;
    }
    wait_for("its game has answered a poll", s(60), || {
        lab.poll();
        let row = lab.row(id);
        match row["responding"] == "yes" {
            true => Ok(row),
            false => Err(format!("{row:#}")),
        }
    })
}

/// After `act`, the drift is gone from the row soon; that is written once, with its cause.
#[track_caller]
fn drift_ends(lab: &Lab, id: u32, cause: &str, act: impl FnOnce()) {
    let before = lab.events(id, "server.drift_ended").len();
    act();
    lab.soon(id, "no drift", |row| row["drift"].is_null());
    let event = lab.soon_event(id, "server.drift_ended", before + 1);
    assert!(event.cause.starts_with(cause), "{event:?}");
    lab.poll();
    lab.soon_event(id, "server.drift_ended", before + 1);
}

fn a_stop_by_hand_is_drift_until_a_job_ends_it(lab: &Lab) {
    let row = drifts(lab, 1, "down", "stopped on request", || {
        lab.ok(&["systemctl", "disable", "--now", &unit(1)]);
    });
    assert_eq!(
        (&row["actual_state"], &row["enabled"]),
        (&"stopped".into(), &false.into()),
        "{row:#}"
    );

    assert!(
        says(&row["last_end"], "it was stopped on request"),
        "{row:#}"
    );

    let stopped = lab.soon_event(1, "server.stopped", 1);
    assert_eq!(stopped.cause, "outside", "{stopped:?}");

    let shown = lab.ok(&["left4me", "server", "show", "1"]);
    assert!(
        shown.contains("drift") && shown.contains("stopped on request"),
        "{shown}"
    );

    let list = lab.ok(&["left4me", "server", "list"]);
    let mut lines = list.lines();
    assert!(
        lines.next().is_some_and(|head| head.contains("DRIFT")),
        "{list}"
    );

    for (line, is_down) in lines.zip([true, false, false]) {
        assert_eq!(line.contains("down"), is_down, "{list}");
    }
    let json = lab.json(&["left4me", "server", "list", "--json"]);
    assert_eq!(json[0]["drift"], row["drift"], "{json:#}");

    drift_ends(lab, 1, "job ", || {
        lab.job(&["start", "--server", "1"]);
    });
    lab.runs(1, "1");
}

/// systemd restarts a crashed game after 5 s: until then it is starting, and that is no drift.
fn a_crash_is_told_with_its_cause_and_is_no_drift_while_systemd_restarts(lab: &Lab) {
    let count = |kind: &str| [2, 1].map(|id| lab.events(id, kind).len());
    let (drifted, started) = (count("server.drifted"), count("server.started"));
    for (id, how) in [(2, "signal 9"), (1, "out of memory")] {
        let since = lab.row(id)["actual_since"].as_i64();
        if id == 2 {
            lab.ok(&["kill", "-9", &lab.main_pid(id)]);
        } else {
            run_out_of_memory(lab, id);
        }

        let row = lab.soon(id, &format!("starting, after {how}"), |row| {
            row["actual_state"] == "starting" && says(&row["last_end"], how)
        });
        assert!(
            row["drift"].is_null() && row["actual_since"].as_i64() > since,
            "{row:#}"
        );

        let crashed = lab.soon_event(id, "server.crashed", 1);
        assert!(
            crashed.cause == "outside" && crashed.detail.contains(how),
            "{crashed:?}"
        );
    }

    for (id, starts) in [2, 1].into_iter().zip(started) {
        wait_until("the crashed game runs again", s(30), || {
            lab.unit(&unit(id), "SubState") == "running"
        });
        let row = lab.soon(id, "running again", |row| {
            row["actual_state"] == "running" && row["restarts"] == 1
        });
        assert!(
            row["drift"].is_null() && row["last_end"].is_string(),
            "{row:#}"
        );

        let started = lab.soon_event(id, "server.started", starts + 1);
        assert_eq!(started.cause, "outside", "{started:?}");
        its_last_lines_are_kept(lab, id, "server.crashed");
    }

    assert_eq!(
        count("server.drifted"),
        drifted,
        "a crash that systemd mends is no drift"
    );

    let told = lab.ok(&["left4me", "server", "history", "2"]);
    for words in ["crashed", "signal 9", "outside", "job "] {
        assert!(
            told.contains(words),
            "history says nothing of '{words}'\n{told}"
        );
    }

    let newest = lab.json(&[
        "left4me", "server", "history", "2", "--limit", "1", "--json",
    ]);
    assert_eq!(
        (newest.as_array().map(Vec::len), &newest[0]["kind"]),
        (Some(1), &"server.started".into()),
        "{newest:#}"
    );
}

/// The journal of the newest event of that kind; it may come after the event.
#[track_caller]
fn its_last_lines_are_kept(lab: &Lab, id: u32, kind: &str) {
    let journal = wait_for(
        &format!("the last lines of {kind} of server {id}"),
        SOON,
        || {
            let event = lab.events(id, kind).swap_remove(0);
            if event.journal.is_empty() {
                Err(format!("{event:?}"))
            } else {
                Ok(event.journal)
            }
        },
    );

    assert!(
        journal.len() <= 20,
        "the last 20 lines, not {}",
        journal.len()
    );

    let of_the_game = ["VAC secure mode", "argv[", "cwd=", "tick "];
    let is_of_it = |line: &String| of_the_game.iter().any(|word| line.contains(word));
    assert!(
        journal.iter().any(is_of_it),
        "what the game said\n{}",
        journal.join("\n")
    );
}

/// Where the kernel counts memory, the game eats more than it may have. Elsewhere it is ended as
/// systemd-oomd does that, which tells PID 1 by two attributes of the control group; what PID 1
/// makes of it is the same.
fn run_out_of_memory(lab: &Lab, id: u32) {
    let group = format!("/sys/fs/cgroup{}", lab.unit(&unit(id), "ControlGroup"));
    if lab.is(&format!("test -e {group}/memory.max")) {
        lab.ok(&[
            "systemctl",
            "set-property",
            "--runtime",
            &unit(id),
            "MemoryMax=64M",
            "MemorySwapMax=0",
        ]);

        lab.write(&format!("{}/standin.eat", game(id)), "512");
        return;
    }

    eprintln!("no memory controller here: server {id} is killed as systemd-oomd would do it");
    // 188 is setxattr(2); Perl is in every Debian, setfattr is not.
    const ATTRIBUTES: &str = r#"
        for my $word ("user.oomd_ooms", "user.oomd_kill") {
            my ($group, $name, $value) = ($ARGV[0], "$word", "1");
            syscall(188, $group, $name, $value, 1, 0) == 0 or die "$name: $!\n";
        }"#;
    lab.ok(&["perl", "-e", ATTRIBUTES, &group]);
    lab.sh(&format!("echo 1 >{group}/cgroup.kill"));
}

fn a_game_that_ends_by_itself_stays_down(lab: &Lab) {
    let row = drifts(lab, 3, "down", "by itself", || {
        lab.sh(&format!("touch {}/standin.exit0", game(3)));
        wait_until("the unit ends with the game", s(10), || {
            lab.unit(&unit(3), "ActiveState") == "inactive"
        });
    });

    assert_eq!(
        (&row["actual_state"], &row["enabled"]),
        (&"stopped".into(), &true.into()),
        "{row:#}"
    );

    let stopped = lab.soon_event(3, "server.stopped", 1);
    assert!(
        stopped.cause == "outside" && stopped.detail.contains("by itself"),
        "{stopped:?}"
    );

    drift_ends(lab, 3, "job ", || {
        lab.job(&["start", "--server", "3"]);
    });
}

fn a_crash_loop_ends_at_the_start_limit(lab: &Lab) {
    let dropin = "/run/systemd/system/left4me-server@3.service.d/fast.conf";
    lab.write(dropin, "[Service]\nRestartSec=100ms\n");
    lab.ok(&["systemctl", "daemon-reload"]);
    let row = drifts(lab, 3, "down", "start limit", || {
        lab.sh(&format!(
            "cd {}; touch standin.crash-on-start standin.crash",
            game(3)
        ));

        wait_until("systemd gives up", s(20), || {
            lab.unit(&unit(3), "ActiveState") == "failed"
        });
    });

    assert_eq!(row["actual_state"], "failed", "{row:#}");
    assert!(
        says(&row["last_end"], "start limit") && says(&row["last_end"], "signal 11"),
        "{row:#}"
    );

    let failed = lab.soon_event(3, "server.failed", 1);
    assert!(
        failed.cause == "outside" && failed.detail.contains("start limit"),
        "{failed:?}"
    );

    its_last_lines_are_kept(lab, 3, "server.failed");
    assert!(
        !lab.events(3, "server.crashed").is_empty(),
        "{:#?}",
        lab.history(3)
    );

    let failed = lab.sh("systemctl list-units --failed --plain --no-legend | awk '{ print $1 }'");
    assert_eq!(
        failed,
        unit(3),
        "failed units: the poller has no part in it"
    );

    lab.sh(&format!(
        "rm {dropin} /var/lib/left4me/runtime/3/upper/left4dead2/standin.crash-on-start"
    ));
    lab.ok(&["systemctl", "daemon-reload"]);
    drift_ends(lab, 3, "job ", || {
        lab.job(&["start", "--server", "3"]);
    });
    lab.runs(3, "3");
}

fn a_stop_of_all_at_once_is_told_of_each(lab: &Lab) {
    let counts = |kind: &str| ALL.map(|id| lab.events(id, kind).len());
    let (drifted, ended) = (counts("server.drifted"), counts("server.drift_ended"));
    lab.ok(&["systemctl", "stop", "left4me-server@*.service"]);
    // All of them within the time of one.
    wait_for("each row tells that its server is down", SOON, || {
        let rows = lab.json(&["left4me", "server", "list", "--json"]);
        let is_down = |row: &Value| {
            row["actual_state"] == "stopped"
                && drift(row) == "down"
                && says(&row["drift"]["why"], "stopped on request")
        };

        if rows.as_array().expect("a list").iter().all(is_down) {
            Ok(())
        } else {
            Err(format!("{rows:#}"))
        }
    });

    lab.poll();
    assert_eq!(
        counts("server.drifted"),
        drifted.map(|count| count + 1),
        "server.drifted of each"
    );

    let job = lab.job(&["start", "--all"]);
    for id in ALL {
        lab.soon(id, "running without drift", |row| {
            row["actual_state"] == "running" && row["drift"].is_null()
        });
        let event = lab.soon_event(id, "server.drift_ended", ended[id as usize - 1] + 1);
        assert_eq!(event.cause, format!("job {}", job.id), "{event:?}");
    }
}

/// Enabling and disabling is no change of a unit's state, so the poller is not notified: the next
/// poll sees it.
fn then_poll(lab: &Lab, verb: &str, unit: &str) {
    lab.ok(&["systemctl", verb, unit]);
    lab.poll();
}

fn what_runs_or_would_run_against_our_wish_is_drift(lab: &Lab) {
    let (stops, drifted) = (
        lab.events(3, "server.stopped").len(),
        lab.events(3, "server.drifted").len(),
    );

    let job = lab.job(&["stop", "--server", "3"]);
    let stopped = lab.soon_event(3, "server.stopped", stops + 1);
    assert_eq!(stopped.cause, format!("job {}", job.id), "{stopped:?}");
    lab.is_stopped(3, "3");
    lab.poll();
    lab.soon_event(3, "server.drifted", drifted);

    let row = drifts(lab, 3, "up", "", || {
        lab.ok(&["systemctl", "start", &unit(3)]);
    });
    assert_eq!(row["actual_state"], "running", "{row:#}");
    drift_ends(lab, 3, "outside", || {
        lab.ok(&["systemctl", "stop", &unit(3)]);
    });
    drifts(lab, 3, "enabled", "", || then_poll(lab, "enable", &unit(3)));
    drift_ends(lab, 3, "outside", || then_poll(lab, "disable", &unit(3)));
    lab.is_stopped(3, "3");
}

fn what_would_not_start_at_boot_is_drift(lab: &Lab) {
    let pid = lab.main_pid(1);
    drifts(lab, 1, "disabled", "", || {
        then_poll(lab, "disable", &unit(1))
    });
    drift_ends(lab, 1, "outside", || then_poll(lab, "enable", &unit(1)));
    assert_eq!(lab.main_pid(1), pid, "its game was left alone");
    lab.runs(1, "1");
}

fn a_unit_without_a_row_is_told(lab: &Lab) {
    let list = || lab.run(&["left4me", "server", "list"]).ends_with(0);
    assert_eq!(list().stderr, "", "without orphans");
    then_poll(lab, "enable", &unit(77));
    list().complains_of(&[&unit(77)]);
    lab.poll();
    list().complains_of(&[&unit(77)]);
    assert_eq!(
        lab.warnings("--", &unit(77)).len(),
        1,
        "the journal tells it once"
    );

    then_poll(lab, "disable", &unit(77));
    assert_eq!(list().stderr, "", "after it was disabled");
}

pub fn a_reboot_leaves_states_that_are_true(lab: &Lab) {
    lab.describe(&["runs", "rests", "was down"]);
    lab.set("LEFT4ME_POLL_SECONDS=5");
    lab.job(&["install"]);
    lab.job(&["start", "--all"]);
    lab.job(&["stop", "--server", "rests"]);
    lab.ok(&["systemctl", "stop", &unit(3)]);
    lab.soon(3, "that it is down", |row| drift(row) == "down");
    let jobs = lab.job_count();
    let before = lab.sh("date +%s%3N").parse::<i64>().expect("milliseconds");

    lab.reboot();
    let boot = lab.sh("systemctl show --timestamp=unix --value --property UserspaceTimestamp");
    let boot = boot.trim_start_matches('@').parse::<i64>().expect("a time") * 1000;
    for (id, state) in [(1, "running"), (2, "stopped"), (3, "running")] {
        // OnBootSec=15s, and what a busy machine takes besides.
        let row = wait_for(
            &format!("server {id} is {state} after the boot"),
            s(20),
            || {
                let row = lab.row(id);
                let looked_at = row["actual_state_updated_at"].as_i64() > Some(boot);
                if looked_at && row["actual_state"] == state {
                    Ok(row)
                } else {
                    Err(format!("{row:#}"))
                }
            },
        );

        assert!(row["drift"].is_null(), "{row:#}");
        assert_eq!(row["enabled"], state == "running", "{row:#}");
    }

    lab.runs(1, "runs");
    lab.is_stopped(2, "rests");
    assert_eq!(lab.job_count(), jobs, "jobs after the reboot");
    the_way_down_and_up_is_no_drift(lab, before, boot);
    the_timer_polls_as_often_as_it_was_told(lab);
}

fn the_way_down_and_up_is_no_drift(lab: &Lab, before: i64, boot: i64) {
    for id in ALL {
        let history = lab.history(id);
        let since: Vec<&str> = history
            .iter()
            .filter(|e| e.at > before)
            .map(|e| e.kind.as_str())
            .collect();
        let wrong = ["server.drifted", "server.crashed", "server.failed"];
        assert!(
            !since.iter().any(|kind| wrong.contains(kind)),
            "by shutting down or booting: {history:#?}"
        );

        let starts = history
            .iter()
            .filter(|e| e.kind == "server.started" && e.at > boot)
            .collect::<Vec<_>>();
        assert_eq!(
            starts.len(),
            usize::from(id != 2),
            "starts since the boot: {history:#?}"
        );

        assert!(
            starts.iter().all(|start| start.cause == "outside"),
            "{history:#?}"
        );
    }

    assert_eq!(
        lab.events(3, "server.drift_ended").len(),
        1,
        "{:#?}",
        lab.history(3)
    );

    assert_eq!(
        lab.warnings("--boot=0", ""),
        Vec::<String>::new(),
        "what the poller warned of since the boot"
    );

    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

fn the_timer_polls_as_often_as_it_was_told(lab: &Lab) {
    assert_eq!(lab.unit("left4me-poller.timer", "ActiveState"), "active");
    let next_look = |last: i64| {
        wait_for("the timer's next poll", s(40), || {
            let row = lab.row(2);
            let at = row["actual_state_updated_at"].as_i64().expect("a time");
            if at > last {
                Ok(at)
            } else {
                Err(format!("{row:#}"))
            }
        })
    };

    let first = next_look(0);
    let second = next_look(first);
    let third = next_look(second);
    let pause = third - second;
    assert!(
        (4000..9000).contains(&pause),
        "LEFT4ME_POLL_SECONDS=5, and {pause} ms between two polls"
    );

    // What no trigger tells: the timer's poll finds it.
    lab.ok(&["systemctl", "enable", &unit(2)]);
    wait_for("a poll finds the enabled server", s(12), || {
        let row = lab.row(2);
        if drift(&row) == "enabled" {
            Ok(())
        } else {
            Err(format!("{row:#}"))
        }
    });
}
