//! kill -9 of each program of left4me and power cuts of the host, at ten points of an update
//! (`tests/lab/at`): no server is down for it, no half build is used, and the next update goes
//! through.

use crate::builds::SERVERS;
use crate::lab::{Lab, Suite, repository, s, wait_for, wait_until};
use crate::probe::version;

/// MiB: so much that a copy takes longer than a look at it.
const SIZE: u32 = 128;

/// What dies, where, and how steamcmd behaves meanwhile.
type Death = (&'static str, &'static str, &'static str);

pub fn whatever_dies_before_a_restart_is_not_noticed(lab: &Lab) {
    prepare(lab);
    // Each Debian has one half.
    let deaths: [Death; 7] = match lab.suite() {
        Suite::Bookworm => [
            ("check", "worker", "info=hang"),
            ("download", "runner", "hang=1"),
            ("commit", "worker", "hang_at=commit"),
            ("seed", "publisher", ""),
            ("copy", "worker", ""),
            ("published", "publisher", ""),
            ("switched", "worker", ""),
        ],
        Suite::Trixie => [
            ("check", "runner", "info=hang"),
            ("download", "worker", "hang=1"),
            ("commit", "runner", "hang_at=commit"),
            ("seed", "worker", ""),
            ("copy", "publisher", ""),
            ("published", "worker", ""),
            ("switched", "publisher", ""),
        ],
    };
    for (build, death) in (101..).zip(deaths) {
        dies(lab, build, death);
    }
}

pub fn whatever_dies_afterwards_leaves_no_server_down(lab: &Lab) {
    prepare(lab);
    let cuts: [Death; 4] = match lab.suite() {
        Suite::Bookworm => [
            ("check", "host", "info=hang"),
            ("commit", "host", "hang_at=commit"),
            ("copy", "host", ""),
            ("switched", "host", ""),
        ],
        Suite::Trixie => [
            ("download", "host", "hang=1"),
            ("seed", "host", ""),
            ("published", "host", ""),
            ("removal", "host", ""),
        ],
    };
    let deaths: [Death; 5] = [
        ("stopped", "worker", ""),
        ("started", "worker", ""),
        ("removal", "publisher", ""),
        ("stopped", "host", ""),
        ("started", "host", ""),
    ];
    for (build, death) in (101..).zip(deaths.into_iter().chain(cuts)) {
        dies(lab, build, death);
    }
}

fn prepare(lab: &Lab) {
    lab.set("LEFT4ME_CANCEL_GRACE_SECONDS=2");
    lab.twenty_on_build_100(SIZE);
    lab.push(&repository().join("tests/lab/at"), "/root/at");
}

/// The update to `build` is interrupted; then the next one is not.
fn dies(lab: &Lab, build: u64, (point, victim, behaviour): Death) {
    let what = format!("{victim} at {point}, build {build}");
    eprintln!("{:?}: {what}", lab.suite());
    if point == "seed" {
        // As on a host whose admin has freed the room.
        lab.sh("find /var/lib/left4me/installation -mindepth 1 -delete");
    }
    let (before, boot, probe) = (lab.game_pids(), lab.boot_id(), lab.probe(SERVERS));
    lab.steamcmd(&format!(
        "buildid={build} files={SIZE} record=1 {behaviour}"
    ));
    lab.sh(&format!(
        "rm -f /root/at.done
         systemd-run --quiet --collect --unit=at --property=RuntimeMaxSec=180 /root/at {point} {victim} {build}"
    ));
    let job = lab.enqueue(&["update", "--rolling", "10"]);
    if victim == "host" {
        lab.wait_for_boot_after(&boot);
    } else {
        wait_until(&format!("{what}: it is met"), s(120), || {
            lab.is("test -e /root/at.done")
        });
    }
    let ended = lab.ended(job, 120);
    eprintln!("{:?}: {what}: {} {}", lab.suite(), ended.state, ended.error);

    // What was down for it comes up by itself.
    let seen = if victim == "host" {
        drop(probe);
        lab.probe(SERVERS).stop()
    } else {
        wait_for(&format!("{what}: all answer"), s(60), || {
            let seen = probe.read();
            if seen.silent().is_empty() {
                Ok(())
            } else {
                Err(format!("{:?}", seen.silent()))
            }
        });
        probe.stop()
    };
    seen.no_build_was_mixed();
    for server in 1..=SERVERS {
        let last = seen.last(server);
        assert!(
            last == version(build) || last == version(build - 1),
            "{what}: {server}: {last}"
        );
    }
    let is_early = !["stopped", "started", "removal", "switched", "published"].contains(&point);
    if victim != "host" && is_early {
        assert_eq!(lab.game_pids(), before, "{what}");
        seen.no_query_was_missed(&what);
        assert_eq!(lab.current_build(), build - 1, "{what}");
    }

    lab.steamcmd(&format!("buildid={build} files={SIZE}"));
    lab.job(&["update", "--rolling", "10"]);
    lab.all_answer_with(SERVERS, build);
    assert_eq!(lab.current_build(), build, "{what}");
    let hidden: Vec<_> = lab
        .builds()
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    // What is left of a removal goes with the next build that is copied or removed.
    if point != "removal" {
        assert_eq!(hidden, [""; 0], "{what}");
    }
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "{what}: failed units"
    );
}
