//! An update that is cancelled, at each of its steps: no server is down for it. In place, what it
//! stopped is started again, unless it is told to leave it.

use std::time::Duration;

use crate::builds::SERVERS;
use crate::lab::{Lab, s, wait_until};
use crate::probe::{Seen, version};

pub fn a_cancelled_update_leaves_no_server_down(lab: &Lab) {
    lab.set("LEFT4ME_CANCEL_GRACE_SECONDS=2");
    lab.twenty_on_build_100(64);
    before_the_roll_no_server_is_touched(lab);
    in_the_roll_each_is_on_one_build_or_the_other(lab);
    in_place_what_was_stopped_is_started_again_or_left(lab);
}

fn cancel(lab: &Lab, job: i64, options: &[&str]) {
    let job = job.to_string();
    lab.ok(&[&["left4me-job", "cancel", &job], options].concat());
}

#[track_caller]
fn all_answer(seen: &Seen, when: &str) {
    assert_eq!(seen.silent(), [0; 0], "{when}");
    seen.no_build_was_mixed();
}

fn before_the_roll_no_server_is_touched(lab: &Lab) {
    let (before, probe) = (lab.game_pids(), lab.probe(SERVERS));
    for (kind, behaviour) in [
        ("check-build", "buildid=101 files=64 info=hang"),
        ("install-runtime", "buildid=101 files=64 hang=1"),
        ("install-runtime", "buildid=101 files=64 hang_at=commit"),
        ("install-runtime", "buildid=101 files=64 seconds=30"),
        ("publish-build", "buildid=101 files=64"),
    ] {
        lab.steamcmd(behaviour);
        let job = lab.enqueue(&["update"]);
        wait_until(&format!("{kind} runs, with {behaviour}"), s(60), || {
            let state = lab.sql(&format!(
                "SELECT state FROM tasks WHERE job_id = {job} AND kind = '{kind}'"
            ));
            // A copy of so little may be over before it is seen.
            state == "running" || state == "succeeded"
        });
        if behaviour.contains("hang") {
            std::thread::sleep(Duration::from_millis(500));
        }
        let cancelled = lab.run(&["left4me-job", "cancel", &job.to_string()]);
        let ended = lab.ended(job, 60);
        if kind == "publish-build" && ended.state == "succeeded" {
            eprintln!("the copy was over before it was cancelled: {cancelled}");
            continue;
        }
        assert_eq!(ended.state, "cancelled", "{behaviour}: {cancelled}");
        assert!(
            lab.processes_of("left4me-steam").is_empty(),
            "{behaviour}: {}",
            lab.processes_of("left4me-steam")
        );
        assert_eq!(
            lab.builds()
                .iter()
                .filter(|name| name.starts_with('.'))
                .count(),
            0
        );
        if lab.current_build() == 100 {
            assert_eq!(lab.game_pids(), before, "{behaviour}");
            assert_eq!(lab.builds(), ["100"], "{behaviour}");
            probe.read().no_query_was_missed(behaviour);
        }
    }
    // A copy that was over first has begun to restart servers: those that were met are on their way up.
    wait_until("all answer", s(60), || probe.read().silent().is_empty());
    all_answer(&probe.stop(), "before the roll");

    lab.steamcmd("buildid=101 files=64");
    lab.job(&["update"]);
    lab.all_answer_with(SERVERS, 101);
}

/// The games take long to start, so that each step is met.
fn in_the_roll_each_is_on_one_build_or_the_other(lab: &Lab) {
    lab.maps_load_for(3000);
    let mut build = 101;
    for (step, met) in [
        (
            "the first are stopped",
            "! systemctl is-active -q left4me-server@1",
        ),
        (
            "the first start",
            "systemctl is-active -q left4me-server@1 && ! systemctl show -P MainPID left4me-server@1 | grep -qx $(cat /root/first)",
        ),
        (
            "the next are stopped",
            "! systemctl is-active -q left4me-server@5",
        ),
        (
            "the last are stopped",
            "! systemctl is-active -q left4me-server@20",
        ),
    ] {
        build += 1;
        lab.steamcmd(&format!("buildid={build} files=64"));
        lab.sh("systemctl show -P MainPID left4me-server@1 >/root/first");
        let probe = lab.probe(SERVERS);
        let job = lab.enqueue(&["update", "--rolling", "4"]);
        let until =
            format!("for _ in {{1..6000}}; do if {met}; then exit; fi; sleep 0.01; done; exit 1");
        lab.ok(&["bash", "-c", &until]);
        cancel(lab, job, &[]);
        assert_eq!(lab.ended(job, 90).state, "cancelled", "{step}");
        wait_until(&format!("{step}: all answer"), s(60), || {
            probe.read().silent().is_empty()
        });
        let seen = probe.stop();
        all_answer(&seen, step);
        // A game may answer before the job has ended that starts its server again.
        wait_until(&format!("{step}: no job is left"), s(60), || {
            lab.sql("SELECT count(*) FROM jobs WHERE finished_at IS NULL") == "0"
        });
        for server in 1..=SERVERS {
            let last = seen.last(server);
            assert!(
                last == version(build) || last == version(build - 1),
                "{step}: {last}"
            );
            lab.runs(server, &format!("s{server}"));
        }
        if step == "the first are stopped" {
            assert_eq!(seen.last(20), version(build - 1), "{step}: untouched");
        }

        lab.maps_load_for(0);
        lab.job(&["update"]);
        lab.all_answer_with(SERVERS, build);
        lab.maps_load_for(3000);
    }
    lab.maps_load_for(0);
}

fn in_place_what_was_stopped_is_started_again_or_left(lab: &Lab) {
    let build = lab.current_build();
    lab.set("LEFT4ME_BUILDS=in-place");
    lab.steamcmd(&format!("buildid={} files=64 hang=1", build + 1));
    for leave in [false, true] {
        let job = lab.enqueue(&["update"]);
        wait_until("all are stopped, and steamcmd runs", s(90), || {
            lab.is(&format!(
                "pgrep -u left4me-steam steamcmd >/dev/null && \
                 ! systemctl is-active -q left4me-server@{{1..{SERVERS}}}"
            ))
        });
        cancel(lab, job, if leave { &["--leave-stopped"] } else { &[] });
        assert_eq!(lab.ended(job, 120).state, "cancelled");
        if leave {
            std::thread::sleep(s(5));
            let active = lab.sh("systemctl list-units --plain --no-legend --state=active 'left4me-server@*' | wc -l");
            assert_eq!(active, "0", "they were to be left stopped");
        } else {
            let seen = lab.probe(SERVERS).stop();
            all_answer(&seen, "started again");
        }
    }

    lab.steamcmd(&format!("buildid={} files=64", build + 1));
    lab.job(&["update"]);
    lab.job(&["start", "--all"]);
    lab.all_answer_with(SERVERS, build + 1);
    assert!(
        !lab.is("test -e /var/lib/left4me/builds/current"),
        "in place no build is published"
    );

    // And back.
    lab.set("LEFT4ME_BUILDS=beside");
    lab.steamcmd(&format!("buildid={} files=64", build + 2));
    lab.job(&["update"]);
    lab.all_answer_with(SERVERS, build + 2);
    assert_eq!(lab.current_build(), build + 2);
}
