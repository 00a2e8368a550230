//! The package's life: installed again, upgraded, removed, installed again, purged; beside running
//! servers and queued jobs.

use crate::lab::{Lab, deb, s, wait_until};
use crate::rows::ENABLED;

const UNIT: &str = "left4me-server@1.service";

pub fn an_upgrade_touches_nothing_a_removal_keeps_data_and_a_purge_takes_it(lab: &Lab) {
    lab.describe(&["runs", "rests"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "runs"]);
    lab.job(&["start", "--server", "rests"]);
    lab.job(&["stop", "--server", "rests"]);
    lab.answers("runs");
    an_upgrade_leaves_servers_and_queue_alone(lab);
    a_removal_stops_and_keeps_data(lab);
    an_installation_brings_back_what_was_enabled(lab);
    a_purge_removes_everything(lab);
    it_can_be_installed_anew(lab);
}

fn apt(lab: &Lab, words: &[&str]) {
    let get = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--yes",
        "--quiet",
    ];

    lab.ok(&[&get[..], words].concat());
}

/// Where `lab up` left the package inside.
fn inside() -> String {
    format!(
        "/root/{}",
        deb().file_name().expect("a file").to_string_lossy()
    )
}

fn an_upgrade_leaves_servers_and_queue_alone(lab: &Lab) {
    lab.ok(&["left4me-job", "pause", "--reason", "upgrade"]);
    let queued = lab.enqueue(&["initialize", "--server", "rests"]);
    lab.sh("sed -i 's/^#LEFT4ME_WORKER_SLOTS=.*/LEFT4ME_WORKER_SLOTS=3/' /etc/left4me/left4me.env");
    let settings = lab.ok(&["cat", "/etc/left4me/left4me.env"]);
    let before = running(lab);

    // A server that an older left4me started, which had no poller.
    lab.ok(&["systemctl", "stop", "left4me-watch@1.timer"]);
    apt(lab, &["install", "--reinstall", &inside()]);
    assert_eq!(running(lab), before, "after the same package again");
    assert_eq!(
        lab.unit("left4me-watch@1.timer", "ActiveState"),
        "active",
        "the poller is told of it from now on"
    );

    lab.sh(&format!(
        "dpkg-deb -R {} /root/next; sed -i 's/^Version: .*/&+next/' /root/next/DEBIAN/control; \
         dpkg-deb --root-owner-group -b /root/next /root/next.deb",
        inside()
    ));

    apt(lab, &["install", "/root/next.deb"]);
    assert!(
        lab.ok(&[
            "dpkg-query",
            "--show",
            "--showformat",
            "${Version}",
            "left4me"
        ])
        .ends_with("+next")
    );

    assert_eq!(running(lab), before, "after the upgrade");
    assert_eq!(
        lab.ok(&["cat", "/etc/left4me/left4me.env"]),
        settings,
        "the admin's settings"
    );

    assert_eq!(lab.show(queued).state, "queued", "the job that waited");
    lab.ok(&["left4me-job", "resume"]);
    assert_eq!(
        lab.ended(queued, 30).state,
        "succeeded",
        "the job that waited, by the new program"
    );

    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

/// What an upgrade must not change: the game's process, its mount, the sockets' units, the target.
fn running(lab: &Lab) -> String {
    let sockets = "left4me-worker.socket left4me-helper.socket left4me-runner.socket left4me-publisher.socket \
                  left4me-web.socket left4me-alerts.socket left4me-notify.socket \
                  left4me-schedules.socket left4me.target";
    let units = lab.sh(&format!(
        "systemctl show -p Id,ActiveState,InvocationID {sockets}"
    ));
    format!("{} {:?} {units}", lab.main_pid(1), lab.mounts())
}

fn a_removal_stops_and_keeps_data(lab: &Lab) {
    let jobs = lab.job_count();
    lab.sh("systemctl disable --now left4me-web.socket");
    apt(lab, &["remove", "left4me"]);
    assert_eq!(lab.processes_of("left4me_1"), "", "the game's processes");
    assert_eq!(lab.processes_of("left4me"), "", "our processes");
    assert_eq!(lab.mounts(), Vec::<String>::new(), "mounts");
    assert_eq!(
        lab.sh("systemctl list-unit-files --no-legend 'left4me*' || true"),
        "",
        "units"
    );

    for kept in [
        "db/left4me.db",
        "installation/srcds_run",
        "overlays/demo",
        "instances/1",
        "runtime/1/upper",
    ] {
        assert!(
            lab.is(&format!("test -e /var/lib/left4me/{kept}")),
            "{kept} is gone"
        );
    }

    let rows = lab.ok(&[
        "sqlite3",
        "/var/lib/left4me/db/left4me.db",
        "SELECT count(*) FROM jobs",
    ]);

    assert_eq!(rows, jobs.to_string(), "jobs that are kept");
}

fn an_installation_brings_back_what_was_enabled(lab: &Lab) {
    apt(lab, &["install", &inside()]);
    wait_until("the enabled server runs again", s(30), || {
        lab.unit(UNIT, "ActiveState") == "active"
    });
    lab.answers("runs");
    for unit in ENABLED {
        let expected = if unit == "left4me-web.socket" {
            "disabled"
        } else {
            "enabled"
        };

        assert_eq!(lab.unit(unit, "UnitFileState"), expected, "{unit}");
    }

    lab.is_stopped(2, "rests");
    lab.job(&["restart", "--server", "runs"]);
    lab.runs(1, "runs");
    lab.reboot();
    wait_until("the server is active after the reboot", s(60), || {
        lab.unit(UNIT, "ActiveState") == "active"
    });
    lab.answers("runs");
}

fn a_purge_removes_everything(lab: &Lab) {
    apt(lab, &["purge", "left4me"]);
    for gone in [
        "/var/lib/left4me",
        "/etc/left4me",
        "/etc/sudoers.d/left4me",
        "/run/left4me",
        "/run/left4me-root",
        "/run/left4me-helper-root",
        "/run/left4me-check-root",
        "/run/left4me-notify",
        "/run/left4me-notify-root",
        "/run/left4me-game-root",
        "/run/left4me-console",
        "/run/left4me-console-root",
        "/run/left4me-overlay-check",
        "/run/left4me-gate",
        "/run/left4me-link",
        "/run/left4me-link-root",
        "/var/lib/left4me-link",
        "/usr/libexec/left4me",
    ] {
        assert!(
            lab.is(&format!("! test -e {gone}")),
            "{gone} is still there"
        );
    }

    for user in [
        "left4me",
        "left4me-game",
        "left4me-notify",
        "left4me-steam",
        "left4me-console",
        "left4me-link",
    ] {
        assert_eq!(lab.processes_of(user), "", "processes of {user}");
        assert!(
            lab.is(&format!("getent passwd {user}")),
            "the user {user} stays, so that its uid is not given away"
        );
    }

    assert_eq!(
        lab.sh("getent passwd | grep ^left4me_ || true"),
        "",
        "servers' own users"
    );

    assert_eq!(
        lab.sh("find /etc/systemd /usr/lib/systemd -name '*left4me*' -o -name 'l4d2*'"),
        "",
        "units and links"
    );

    assert_eq!(
        lab.sh("systemctl list-units --all --plain --no-legend \
             'left4me*' 'l4d2*' | grep -v not-found || true"),
        "",
        "units"
    );

    assert_eq!(lab.mounts(), Vec::<String>::new(), "mounts");
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

fn it_can_be_installed_anew(lab: &Lab) {
    apt(lab, &["install", &inside()]);
    for unit in ENABLED {
        assert_eq!(lab.unit(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(lab.unit(unit, "UnitFileState"), "enabled", "{unit}");
    }
    assert_eq!(lab.job_count(), 0, "jobs of before the purge");
}
