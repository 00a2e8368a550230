//! The walls of each unit, tried from inside: a program in the place of the unit's own makes every
//! attack that it knows, and lists what it can write and connect to. And what a steamcmd that was
//! taken over can do to its runner and the queue.

use crate::lab::{Lab, s, standin, wait_for, wait_until};
use crate::site::STEAM;

const INTRUDER: &str = "/usr/local/lib/left4me-standin/intruder";

/// A unit, with what may come of the attacks in it.
struct Unit {
    /// The instance that is tried.
    name: &'static str,
    /// Attacks that get through, each with a reason beside it.
    through: &'static [&'static str],
    /// What can be written.
    written: &'static [&'static str],
    /// What can be connected to; for units of ours besides [`EVERYWHERE`].
    connected: &'static [&'static str],
    /// What of left4me's data is there at all.
    seen: &'static [&'static str],
}

/// Sockets of PID 1 and the journal that our own services can use, as every service of a system.
const EVERYWHERE: &[&str] = &[
    "/run/systemd/notify",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/systemd/io.system.ManagedOOM",
    "/run/systemd/io.systemd.ManagedOOM",
    "/run/systemd/userdb/io.systemd.DynamicUser",
];

/// Where a service of ours may write: its own temporary files, and the pressure of its own memory
/// (systemd 257).
const TEMPORARY: &[&str] = &["/tmp/", "/var/tmp/", "/memory.pressure"];

/// The directories of the data, where the sandbox hides none of them; their own modes hold.
const ALL_DATA: &[&str] = &[
    "backups",
    "builds",
    "db",
    "installation",
    "instances",
    "overlays",
    "runtime",
    "steam",
    "tmp",
    "workshop_cache",
];

/// What a server's upper layer is compared with. Of runtime/ it is what belongs to the server.
const STALE_DATA: &[&str] = &[
    "builds",
    "installation",
    "overlays",
    "runtime",
    "workshop_cache",
];

const DB: &str = "/var/lib/left4me/db/";

const OURS: &[Unit] = &[
    Unit {
        name: "left4me-worker.service",
        through: &[],
        written: &[DB, "/var/lib/left4me/instances/", "/var/lib/left4me/tmp/"],
        connected: &[
            "/run/left4me/worker.sock",
            "/run/left4me/helper.sock",
            "/run/left4me/runner.sock",
            "/run/left4me/publisher.sock",
            "/run/left4me/alerts.sock",
            "/run/left4me/schedules.sock",
            "/run/left4me/console.sock",
        ],
        seen: ALL_DATA,
    },
    Unit {
        name: "left4me-web.service",
        through: &[],
        written: &[DB],
        connected: &[
            "/run/left4me/worker.sock",
            "/run/left4me/helper.sock",
            "/run/left4me/runner.sock",
            "/run/left4me/publisher.sock",
            "/run/left4me/alerts.sock",
            "/run/left4me/schedules.sock",
            "/run/left4me/console.sock",
        ],
        seen: ALL_DATA,
    },
    Unit {
        name: "left4me-poller.service",
        through: &[],
        written: &[DB],
        connected: &[
            "/run/left4me/worker.sock",
            "/run/left4me/helper.sock",
            "/run/left4me/runner.sock",
            "/run/left4me/publisher.sock",
            "/run/left4me/alerts.sock",
            "/run/left4me/schedules.sock",
            "/run/left4me/console.sock",
            "/run/dbus/system_bus_socket",
        ],
        seen: &["db"],
    },
    // It has no network: what it may send comes from the next one.
    Unit {
        name: "left4me-console.service",
        through: &[],
        written: &[],
        connected: &["/run/left4me-console/network.sock"],
        seen: &["instances"],
    },
    Unit {
        name: "left4me-console-network.service",
        through: &["AF_INET"],
        written: &[],
        connected: &[],
        // Empty: where left4me-console.service, which has the same root directory, mounts them.
        seen: &["instances"],
    },
    Unit {
        name: "left4me-backup.service",
        through: &[],
        written: &[DB, "/var/lib/left4me/backups/"],
        connected: &[],
        seen: ALL_DATA,
    },
    Unit {
        name: "left4me-prune.service",
        through: &[],
        written: &[DB],
        connected: &[],
        seen: &["db"],
    },
    // It has the database and no network; left4me-notify has the network and no data.
    Unit {
        name: "left4me-alerts.service",
        through: &[],
        written: &[DB],
        connected: &["/run/left4me-notify/notify.sock"],
        seen: &["db"],
    },
    // Through the helper it makes the timers of schedules.
    Unit {
        name: "left4me-schedules.service",
        through: &[],
        written: &[DB],
        connected: &["/run/left4me/helper.sock"],
        seen: &["db"],
    },
    Unit {
        name: "left4me-schedule@1.service",
        through: &[],
        written: &[DB, "/var/lib/left4me/backups/"],
        connected: &["/run/left4me/worker.sock", "/run/left4me/alerts.sock"],
        seen: ALL_DATA,
    },
    // It has the network, and nothing of left4me's.
    Unit {
        name: "left4me-notify@walls.service",
        through: &["AF_INET", "AF_INET6"],
        written: &[],
        connected: &[],
        seen: &[],
    },
    Unit {
        name: "left4me-update.service",
        through: &[],
        written: &[DB],
        connected: &["/run/left4me/worker.sock"],
        seen: ALL_DATA,
    },
    Unit {
        name: "left4me-purge@1.service",
        through: &[],
        written: &["/var/lib/left4me/runtime/1/upper/"],
        connected: &[],
        seen: &["runtime"],
    },
    Unit {
        name: "left4me-purge-stale@1.service",
        through: &[],
        written: &["/var/lib/left4me/runtime/1/upper/"],
        connected: &[],
        seen: STALE_DATA,
    },
    // The same, but it may run beside the game.
    Unit {
        name: "left4me-stale@1.service",
        through: &[],
        written: &[],
        connected: &[],
        seen: STALE_DATA,
    },
    // Of the data it sees what it copies, and has no network.
    Unit {
        name: "left4me-publisher@walls.service",
        through: &[],
        written: &["/var/lib/left4me/installation/", "/var/lib/left4me/builds/"],
        connected: &[],
        seen: &["builds", "installation"],
    },
    // It is root without capabilities, and tells PID 1 what to do: that is its work.
    Unit {
        name: "left4me-helper@walls.service",
        through: &[],
        written: &["/dev/pts/", "/var/lib/left4me/runtime/"],
        connected: &[
            "/run/systemd/private",
            "/run/systemd/journal/io.systemd.journal",
        ],
        seen: &["instances", "runtime"],
    },
    // It is root without capabilities, and asks PID 1 to reload.
    Unit {
        name: "left4me-reload.service",
        through: &[],
        written: &["/dev/pts/"],
        connected: &["/run/systemd/private"],
        // Empty: where helper@, which has the same root directory, mounts them.
        seen: &["instances", "runtime"],
    },
    // What other hosts ask comes in here: it has the database, and no network.
    Unit {
        name: "left4me-gate.service",
        through: &[],
        written: &[DB],
        connected: &[
            "/run/left4me/worker.sock",
            "/run/left4me/alerts.sock",
            "/run/left4me/link.sock",
        ],
        seen: ALL_DATA,
    },
    // It has the network, and nothing of left4me's but the way to left4me-gate.
    Unit {
        name: "left4me-link.service",
        through: &["AF_INET", "AF_INET6"],
        written: &["/var/lib/left4me-link/", "/run/left4me-link/"],
        connected: &["/run/left4me-gate/gate.sock"],
        seen: &[],
    },
    // It writes orders, and has no network.
    Unit {
        name: "left4me-rollout.service",
        through: &[],
        written: &[DB],
        connected: &["/run/left4me/link.sock", "/run/left4me/alerts.sock"],
        seen: ALL_DATA,
    },
    // It mounts, in the host's namespace: it has no tree of its own that could be read-only.
    Unit {
        name: "left4me-overlay@1.service",
        through: &[
            "mount",
            "umount",
            "fsopen",
            "open_tree",
            "mount_setattr",
            "/bin/sh",
            "a program in a temporary file",
            "the loader with that file",
            "mmap execute of a temporary file",
        ],
        written: &["/"],
        connected: &["/"],
        seen: ALL_DATA,
    },
    // It mounts, too, but in a tree of its own.
    Unit {
        name: "left4me-overlay-check.service",
        through: &["mount", "umount", "fsopen"],
        written: &[
            "/dev/pts/",
            "/run/left4me-overlay-check/",
            "/var/lib/left4me/runtime/",
        ],
        connected: &["/run/systemd/journal/io.systemd.journal"],
        seen: &[
            "builds",
            "installation",
            "overlays",
            "runtime",
            "workshop_cache",
        ],
    },
];

/// What programs of 32 bits and of strangers need; besides, the network is theirs. Files in memory
/// and FIFOs are what any program may have: nothing is opened of theirs without care.
const FOREIGN: &[&str] = &[
    "any call of 32 bits",
    "AF_INET",
    "AF_INET6",
    "AF_NETLINK",
    // In the one socket call of 32 bits no filter sees the family (docs/security.md).
    "AF_ALG, 32 bits",
    "a FIFO",
    "/bin/sh",
    "a program in a temporary file",
    "the loader with that file",
    "a program in memory",
    "execveat",
    "mmap write and execute",
    "mprotect execute",
    "shmat execute",
    "mmap execute of a temporary file",
    "mmap execute of a file in memory",
];

const GAME: Unit = Unit {
    name: "left4me-server@1.service",
    through: FOREIGN,
    written: &[
        "/var/lib/left4me/runtime/1/merged/",
        "/dev/shm/",
        "/dev/mqueue/",
        "/proc/pressure/",
    ],
    // Name look-ups.
    connected: &["/run/systemd/userdb/io.systemd.DynamicUser"],
    seen: &["overlays", "runtime", "steam", "workshop_cache"],
};

const STEAMCMD: Unit = Unit {
    name: "left4me-runner@.service",
    through: FOREIGN,
    written: &[
        "/var/lib/left4me/installation/",
        "/var/lib/left4me/steam/",
        "/var/lib/left4me/workshop_cache/",
        "/dev/shm/",
        "/dev/mqueue/",
        "/dev/pts/",
        "/proc/pressure/",
        // The control group that systemd gave it.
        "/sys/fs/cgroup/l4d2.slice/l4d2-build.slice/left4me-runner@",
    ],
    // PID 1 listens to the runner there, and to no other process of the unit.
    connected: &[
        "/run/systemd/userdb/io.systemd.DynamicUser",
        "/run/systemd/notify",
    ],
    seen: &["installation", "steam", "workshop_cache"],
};

pub fn no_unit_lets_a_program_out(lab: &Lab) {
    lab.push(&standin("standin-intruder"), INTRUDER);
    lab.describe(&["target"]);
    let job = tried_by_steamcmd(
        lab,
        &format!("{INTRUDER} walls; {INTRUDER} walk; {INTRUDER} program32 /tmp/program32"),
    );

    STEAMCMD.judge(&job);
    assert!(
        job.contains(&"program32: exit status: 0".to_owned()),
        "a program of 32 bits runs\n{}",
        job.join("\n")
    );

    lab.job(&["start", "--server", "1"]);
    let game = tried_by_the_game(lab);
    GAME.judge(&game);
    assert!(
        game.contains(&"program32: exit status: 0".to_owned()),
        "a program of 32 bits runs\n{}",
        game.join("\n")
    );

    lab.job(&["stop", "--server", "1"]);
    for (unit, lines) in tried_in_our_own_units(lab) {
        unit.judge(&lines);
    }
}

impl Unit {
    /// Panics unless the lines are what may come of it.
    #[track_caller]
    fn judge(&self, lines: &[String]) {
        let tried = lines
            .iter()
            .filter(|line| line.contains(": denied") || line.contains("GOT THROUGH"))
            .count();
        let walked = lines.iter().filter(|line| line.starts_with("can ")).count();
        assert!(
            tried > 60 && walked > 0,
            "{}: it was tried\n{}",
            self.name,
            lines.join("\n")
        );

        let wrong: Vec<&String> = lines.iter().filter(|line| !self.may(line)).collect();
        assert!(
            wrong.is_empty(),
            "{} lets this through: {wrong:#?}",
            self.name
        );
    }

    fn may(&self, line: &str) -> bool {
        if let Some((attack, _)) = line.split_once(": GOT THROUGH") {
            return self.through.contains(&attack);
        }
        if let Some(path) = line.strip_prefix("can write ") {
            let temporary =
                |place: &&str| path == *place || place.starts_with("/m") && path.ends_with(*place);
            return TEMPORARY.iter().any(temporary)
                || self.written.iter().any(|place| is_in(path, place));
        }

        if let Some(name) = line.strip_prefix("can see ") {
            return self.seen.contains(&name);
        }
        let Some(path) = line.strip_prefix("can connect ") else {
            return !line.contains("not made");
        };
        let is_ours = OURS.iter().any(|unit| unit.name == self.name);
        is_ours && EVERYWHERE.contains(&path)
            || self.connected.iter().any(|place| is_in(path, place))
    }
}

/// `place` itself; and what is below a place that is open on purpose: one that ends so.
fn is_in(path: &str, place: &str) -> bool {
    path == place || path.starts_with(place) && !place.ends_with(".sock")
}

fn tried_by_the_game(lab: &Lab) -> Vec<String> {
    const GAME: &str = "/var/lib/left4me/runtime/1/merged/left4dead2";
    lab.write(
        &format!("{GAME}/standin.run"),
        &format!("{INTRUDER} walls; {INTRUDER} walk; {INTRUDER} program32 /tmp/program32"),
    );

    let out = wait_for("the game has tried", s(30), || {
        let out = lab.run(&["cat", &format!("{GAME}/standin.run.out")]);
        if out.code == 0 {
            Ok(out.stdout)
        } else {
            Err(out.stderr)
        }
    });

    out.lines().map(str::to_owned).collect()
}

/// What steamcmd printed that ran this.
fn tried_by_steamcmd(lab: &Lab, command: &str) -> Vec<String> {
    behave(lab, command);
    let job = lab.job(&["install"]);
    behave(lab, "true");
    lab.log(job.id)
        .into_iter()
        .filter(|line| line.stream == "stdout")
        .map(|line| line.line)
        .collect()
}

fn behave(lab: &Lab, command: &str) {
    lab.write(
        &format!("{STEAM}/standin.conf"),
        &format!("run={command}\n"),
    );
}

/// The intruder takes the place of the program in each unit; all else is as shipped. So that it can
/// be executed it is named in ExecPaths=, and, where the root directory is one of its own, is shown
/// there: a program that was taken over is in both, too.
fn tried_in_our_own_units(lab: &Lab) -> Vec<(&'static Unit, Vec<String>)> {
    lab.sh(
        "systemctl stop left4me-worker.socket left4me-worker.service \
         left4me-web.socket left4me-web.service left4me-poller.timer left4me-prune.timer \
         left4me-alerts.socket left4me-alerts.service left4me-schedules.socket left4me-schedules.service left4me-poller.service left4me-console.service left4me-console-network.service \
         'left4me-overlay@*.service'",
    );
    // Secrets of a fleet, for what has credentials.
    lab.sh("mkdir -p /etc/left4me/fleet; cd /etc/left4me/fleet; touch host.jwt ca.pem; \
         for secret in host.seed host.xseed controller.seed; do echo secret | install -m 600 /dev/stdin $secret; done");

    for unit in OURS {
        let (plus, shown) = match unit.name {
            "left4me-web.service"
            | "left4me-poller.service"
            | "left4me-prune.service"
            | "left4me-console.service"
            | "left4me-console-network.service"
            | "left4me-alerts.service"
            | "left4me-schedules.service"
            | "left4me-notify@walls.service"
            | "left4me-helper@walls.service"
            | "left4me-reload.service"
            | "left4me-gate.service"
            | "left4me-link.service"
            | "left4me-rollout.service"
            | "left4me-overlay-check.service" => ("+", true),
            _ => ("", false),
        };

        let bind = if shown {
            format!("BindReadOnlyPaths={INTRUDER}")
        } else {
            String::new()
        };

        let exec = if unit.name.contains("overlay@") {
            String::new()
        } else {
            format!("ExecPaths={plus}{INTRUDER}")
        };

        // The whole host is what the mounting unit sees: nothing to list there.
        let walk = if exec.is_empty() {
            "/bin/echo can write /"
        } else {
            &format!("{INTRUDER} walk")
        };

        lab.write(
            &format!("/run/systemd/system/{}.d/walls.conf", unit.name),
            &format!(
                "[Unit]\nStopWhenUnneeded=no\nConditionPathExists=\n[Service]\nType=oneshot\nRemainAfterExit=no\nWatchdogSec=0\nRestart=no\n\
                 ExecStop=\nExecStart=\nExecStart={INTRUDER} walls\nExecStart={walk}\n\
                 StandardOutput=append:/root/{}.walls\n{exec}\n{bind}\n",
                unit.name
            ),
        );
    }

    lab.ok(&["systemctl", "daemon-reload"]);
    let tried = OURS.iter().map(|unit| {
        lab.ok(&["systemctl", "start", unit.name]);
        let lines = lab.ok(&["cat", &format!("/root/{}.walls", unit.name)]);
        (unit, lines.lines().map(str::to_owned).collect())
    });

    let tried = tried.collect();
    lab.sh("rm -r /run/systemd/system/left4me-*.d /etc/left4me/fleet; \
         systemctl daemon-reload; systemctl start left4me.target");

    tried
}

pub fn a_taken_over_steamcmd_holds_neither_its_runner_nor_the_queue(lab: &Lab) {
    lab.push(&standin("standin-intruder"), INTRUDER);
    lab.set("LEFT4ME_CANCEL_GRACE_SECONDS=1");
    lab.describe(&["target"]);
    it_sees_nothing_of_its_runner(lab);
    a_runner_that_it_stops_is_ended(lab);
    a_fifo_in_place_of_a_file_blocks_nothing(lab);
    rows_of_nonsense_are_named_and_not_followed(lab);
    lab.steamcmd("");
    assert_eq!(lab.job(&["install"]).state, "succeeded", "the next job");
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

fn it_sees_nothing_of_its_runner(lab: &Lab) {
    let lines = tried_by_steamcmd(lab, &format!("{INTRUDER} takeover"));
    let tried: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("the runner"))
        .collect();
    assert!(tried.len() >= 11, "{lines:#?}");
    assert!(
        tried.iter().all(|line| line.contains(": denied")),
        "{tried:#?}"
    );

    // What is written down of it is what the kernel says: the unit, with its own process.
    let job = lab.json(&["left4me-job", "list", "--limit", "1", "--json"])[0]["id"].to_string();
    let runner = lab.json(&["left4me-job", "show", &job, "--json"])["runners"][0].clone();
    let unit = runner["unit"].as_str().unwrap_or_default();
    let group = runner["cgroup"].as_str().unwrap_or_default();
    assert!(
        unit.starts_with("left4me-runner@") && group.ends_with(unit) && runner["pid"].is_i64(),
        "{runner}"
    );
}

/// Both run as the same user, so a signal cannot be kept from it: PID 1 ends the unit that shows no
/// life.
fn a_runner_that_it_stops_is_ended(lab: &Lab) {
    // As shipped it takes 20 s.
    const DROP_IN: &str = "/run/systemd/system/left4me-runner@.service.d";
    lab.write(
        &format!("{DROP_IN}/soon.conf"),
        "[Service]\nWatchdogSec=8\n",
    );

    lab.ok(&["systemctl", "daemon-reload"]);
    behave(lab, &format!("{INTRUDER} stop-runner; sleep 600"));
    let job = lab.enqueue(&["install"]);
    wait_until("the runner is stopped", s(20), || {
        lab.is("ps -o stat= -C left4me-runner | grep -q T")
    });
    let cancelled = lab.run(&["timeout", "30", "left4me-job", "cancel", &job.to_string()]);
    assert!(
        [0, 1].contains(&cancelled.code),
        "the cancellation has an end\n{cancelled}"
    );

    assert_eq!(lab.show(job).state, "cancelled");
    behave(lab, "true");
    let next = lab.enqueue(&["install"]);
    assert_eq!(lab.ended(next, 60).state, "succeeded", "the queue goes on");
    lab.sh(&format!("rm -r {DROP_IN}; systemctl daemon-reload"));
    assert_eq!(lab.processes_of("left4me-steam"), "");
}

/// What steamcmd can exchange, and runner, doctor and web look at.
fn a_fifo_in_place_of_a_file_blocks_nothing(lab: &Lab) {
    let manifest = "/var/lib/left4me/installation/steamapps/appmanifest_222860.acf";
    lab.sh(&format!("rm {manifest}; mkfifo -m 666 {manifest}"));
    let doctor = lab.run(&["timeout", "20", "left4me", "doctor"]);
    assert!([0, 1].contains(&doctor.code), "doctor answers\n{doctor}");
    lab.sh(&format!("rm {manifest}"));

    let lock = format!("{STEAM}/.left4me-install.lock");
    lab.sh(&format!(
        "rm -f {lock}; mkfifo -m 666 {lock}; chown left4me-steam: {lock}"
    ));
    let job = lab.enqueue(&["install"]);
    let job = lab.ended(job, 20);
    assert!(
        job.state == "failed" && job.error.contains(".left4me-install.lock"),
        "{}",
        job.error
    );

    lab.sh(&format!("rm {lock}"));
}

fn rows_of_nonsense_are_named_and_not_followed(lab: &Lab) {
    let fifo = format!("{STEAM}/left4me-runner@1.service");
    lab.sh(&format!(
        "mkdir {fifo}; mkfifo -m 666 {fifo}/cgroup.events {fifo}/cgroup.procs"
    ));
    lab.ok(&["systemctl", "stop", "left4me-worker.service"]);
    let rows = [
        format!("/../..{fifo}"),
        "/../../../../etc/left4me-helper@1.service".to_owned(),
        "/user.slice/x.service/left4me-runner@1.service".to_owned(),
        "left4me-runner@1.service".to_owned(),
        format!("/{}left4me-runner@1.service", "x/".repeat(3000)),
        "/dev/left4me-runner@1.service/\u{1b}[2J".to_owned(),
    ];

    for (row, ended) in rows
        .iter()
        .flat_map(|row| [(row, "NULL, NULL, NULL"), (row, "1, 'lost', 'left'")])
    {
        lab.run_as(
            "left4me",
            &[
                "sqlite3",
                &lab.database(),
                &format!(
                    "INSERT INTO runners (task_id, verb, unit, pid, cgroup, started_at, ended_at,
                     ended_by, tree) SELECT min(id), 'install', 'left4me-runner@1.service', 1,
                     '{row}', 1, {ended} FROM tasks"
                ),
            ],
        )
        .ends_with(0);
    }

    let list = lab
        .run(&["timeout", "10", "left4me-job", "list"])
        .ends_with(0);
    assert_eq!(
        list.stderr.matches("is not followed").count(),
        2 * rows.len(),
        "{list}"
    );

    assert!(!list.stderr.contains('\u{1b}'), "{list}");
    let doctor = lab.run(&["timeout", "20", "left4me", "doctor"]);
    assert!(
        doctor.stdout.matches("is not followed").count() == 2 * rows.len(),
        "{doctor}"
    );

    // Shorter than the wait for one that is followed.
    let next = lab.enqueue(&["initialize", "--server", "1"]);
    assert_eq!(
        lab.ended(next, 15).state,
        "succeeded",
        "the worker serves the queue"
    );

    assert!(
        lab.console("left4me-worker.service")
            .contains("is not followed"),
        "the journal names it"
    );

    let list = lab.run(&["left4me-job", "list"]).ends_with(0);
    assert_eq!(list.stderr, "", "they are settled");
    lab.sh(&format!("rm -r {fifo}"));
}

impl Lab {
    /// Where the database is; it has moved into a directory of its own.
    fn database(&self) -> String {
        let places = [
            "/var/lib/left4me/db/left4me.db",
            "/var/lib/left4me/left4me.db",
        ];

        places
            .into_iter()
            .find(|place| self.is(&format!("test -e {place}")))
            .expect("a database")
            .to_owned()
    }
}
