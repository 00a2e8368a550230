//! The poller itself: what it leaves alone, what it survives, what it keeps and what it costs. Its
//! timer is off here, so that each poll is one that was asked for.

use serde_json::Value;

use crate::lab::{Lab, s, wait_for, wait_until};
use crate::rows::{DATABASE, POLLER, drift, game, unit};

const ALL: [u32; 3] = [1, 2, 3];

/// Starting and stopping a server by hand as often as this would reach the limit of its units.
const NO_START_LIMIT: &str = "[Unit]\nStartLimitIntervalSec=0\n";

pub fn a_poll_is_cheap_careful_and_survives_what_it_meets(lab: &Lab) {
    lab.describe(&["one", "two", "three"]);
    lab.write(
        "/etc/systemd/system/left4me-server@.service.d/no-start-limit.conf",
        NO_START_LIMIT,
    );

    lab.ok(&["systemctl", "daemon-reload"]);
    lab.job(&["install"]);
    lab.stop_the_polls_timer();
    lab.job(&["start", "--all"]);
    a_server_with_a_running_job_is_left_to_it(lab);
    a_server_with_a_queued_job_is_left_to_it(lab);
    a_worker_that_nobody_told_is_woken(lab);
    without_the_bus_rows_are_unknown_and_never_stopped(lab);
    a_locked_database_is_waited_for_and_the_newest_state_wins(lab);
    pollers_at_once_neither_hang_nor_lie(lab);
    a_missing_unit_file_is_named(lab);
    a_row_without_sense_is_named_and_skipped(lab);
    samples_are_kept_for_their_time_only(lab);
    a_poll_is_cheaper_than_asking_for_each_server(lab);
}

/// What a poll that looks at a server's unit writes: when it looked, and what it saw. What its game
/// answers is written in any case, and makes another version of the row.
fn stamps(row: &Value) -> [&Value; 2] {
    ["actual_state", "actual_state_updated_at"].map(|key| &row[key])
}

/// A poll that looks at the second server, and leaves the first one alone.
#[track_caller]
fn a_poll_leaves_the_first_alone(lab: &Lab) {
    let (mine, other) = (lab.row(1), lab.row(2));
    lab.poll();
    assert_eq!(
        stamps(&lab.row(1)),
        stamps(&mine),
        "the row of a server with a job"
    );

    let looked_at = |row: &Value| row["actual_state_updated_at"].as_i64();
    assert!(
        looked_at(&lab.row(2)) > looked_at(&other),
        "the poll looked at the others"
    );
}

fn a_server_with_a_running_job_is_left_to_it(lab: &Lab) {
    // A job that lasts: the game is deaf to its signal.
    let deaf = format!("{}/standin.ignore-signals", game(1));
    lab.ok(&["touch", &deaf]);
    let job = lab.enqueue(&["stop", "--server", "1"]);
    let is_stopping = || lab.unit(&unit(1), "ActiveState") == "deactivating";
    wait_until("the job stops the server", s(10), is_stopping);
    a_poll_leaves_the_first_alone(lab);
    assert!(
        is_stopping() && lab.show(job).state == "running",
        "the job still ran"
    );

    lab.sh(&format!("rm {deaf}; kill -INT {}", lab.main_pid(1)));
    assert_eq!(lab.ended(job, 30).state, "succeeded");
    lab.is_stopped(1, "1");
    lab.poll();
    lab.is_stopped(1, "1");
    let stopped = lab.soon_event(1, "server.stopped", 1);
    assert_eq!(stopped.cause, format!("job {job}"), "{stopped:?}");
    assert!(
        lab.events(1, "server.drifted").is_empty(),
        "{:#?}",
        lab.history(1)
    );
}

fn a_server_with_a_queued_job_is_left_to_it(lab: &Lab) {
    lab.ok(&["left4me-job", "pause"]);
    let job = lab.enqueue(&["start", "--server", "1"]);
    // What the job is about to do happens without it; the row is the job's all the same.
    lab.ok(&["systemctl", "start", &unit(1)]);
    a_poll_leaves_the_first_alone(lab);
    assert_eq!(
        (
            lab.row(1)["actual_state"].as_str(),
            lab.show(job).state.as_str()
        ),
        (Some("stopped"), "queued")
    );

    lab.ok(&["left4me-job", "resume"]);
    assert_eq!(lab.ended(job, 30).state, "succeeded");
    lab.runs(1, "1");
    assert!(
        lab.events(1, "server.drifted").is_empty(),
        "{:#?}",
        lab.history(1)
    );
}

/// A lost notification, as when a worker dies between the job's row and its first look.
fn a_worker_that_nobody_told_is_woken(lab: &Lab) {
    lab.ok(&[
        "systemctl",
        "stop",
        "left4me-worker.socket",
        "left4me-worker.service",
    ]);

    let job: i64 = lab
        .sh("left4me-job enqueue restart --server 3 2>/dev/null || true")
        .parse()
        .expect("a job's id");
    lab.ok(&["systemctl", "start", "left4me-worker.socket"]);
    assert_eq!(
        lab.unit("left4me-worker.service", "ActiveState"),
        "inactive",
        "the worker was not notified"
    );

    assert_eq!(lab.show(job).state, "queued");
    lab.poll();
    assert_eq!(lab.ended(job, 30).state, "succeeded");
    // No work, no poke: a worker that is not needed stays away.
    lab.ok(&["systemctl", "stop", "left4me-worker.service"]);
    lab.poll();
    assert_eq!(
        lab.unit("left4me-worker.service", "ActiveState"),
        "inactive",
        "a worker without work"
    );
}

fn without_the_bus_rows_are_unknown_and_never_stopped(lab: &Lab) {
    let told = || {
        ALL.map(|id| {
            lab.history(id)
                .iter()
                .map(|event| event.kind.clone())
                .collect::<Vec<_>>()
        })
    };

    lab.polls_have_ended();
    let before = told();
    lab.ok(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    lab.poll_by_hand().ends_with(69).complains_of(&["bus"]);
    let are_unknown = || {
        for id in ALL {
            let row = lab.row(id);
            assert_eq!(
                (row["actual_state"].as_str(), drift(&row)),
                (Some("unknown"), ""),
                "{row:#}"
            );
        }
    };

    are_unknown();
    // `--wait` needs the bus itself.
    lab.ok(&["systemctl", "start", POLLER]);
    wait_for("the poller fails", s(20), || {
        let state = lab.ok(&[
            "systemctl",
            "show",
            "--property",
            "ActiveState,Result,ExecMainStatus",
            POLLER,
        ]);

        let is_so = state.contains("ActiveState=failed") && state.contains("ExecMainStatus=69");
        if is_so { Ok(()) } else { Err(state) }
    });

    are_unknown();
    lab.ok(&["systemctl", "start", "dbus.socket", "dbus.service"]);
    lab.poll();
    for id in ALL {
        lab.runs(id, &id.to_string());
    }
    assert_eq!(
        told(),
        before,
        "a poller that was blind is nothing that happened to a server"
    );

    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

/// Changes of a server, each with a poller by hand that looks when it is made, beside those that
/// systemd starts; prints the exit codes that are neither 0 nor 69.
fn changes_with_pollers(server: u32, changes: &str) -> String {
    format!(
        "pids=; for change in {changes}; do systemctl $change {unit}
             runuser -u left4me -- /usr/libexec/left4me/left4me-poller 2>/dev/null & pids+=\" $!\"
         done
         for pid in $pids; do code=0; wait $pid || code=$?; (( code == 0 || code == 69 )) || \
         echo \"exit code $code\"; done",
        unit = unit(server)
    )
}

/// After all polls have ended the row is what the unit is, and it does not need one more poll for
/// that.
#[track_caller]
fn the_row_is_right_in_the_end(lab: &Lab, id: u32) {
    lab.polls_have_ended();
    let row = lab.row(id);
    let expected = if lab.unit(&unit(id), "ActiveState") == "active" {
        ("running", "")
    } else {
        ("stopped", "down")
    };

    assert_eq!(
        (row["actual_state"].as_str(), drift(&row)),
        (Some(expected.0), expected.1),
        "{row:#}"
    );
}

fn a_locked_database_is_waited_for_and_the_newest_state_wins(lab: &Lab) {
    let lock = format!(
        "rm -f /tmp/locked; printf 'BEGIN IMMEDIATE;\\n.shell touch /tmp/locked; sleep \
        10\\nCOMMIT;\\n' | sqlite3 {DATABASE}"
    );

    lab.ok(&[
        "systemd-run",
        "--quiet",
        "--collect",
        "--unit=lab-lock",
        "--uid=left4me",
        "bash",
        "-c",
        &lock,
    ]);

    wait_until("the database is locked", s(5), || {
        lab.is("test -e /tmp/locked")
    });
    a_poller_sees_only_what_it_needs(lab);
    // What the first pollers have seen is old when they may write it.
    let codes = lab.sh(&changes_with_pollers(2, "stop start stop start stop"));
    assert_eq!(
        codes, "",
        "what pollers said after ten seconds without a database"
    );

    wait_until("the lock is over", s(20), || {
        lab.is("! systemctl --quiet is-active lab-lock.service")
    });
    the_row_is_right_in_the_end(lab, 2);
    lab.ok(&["systemctl", "start", &unit(2)]);
    lab.soon(2, "running without drift", |row| {
        row["actual_state"] == "running" && row["drift"].is_null()
    });
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

/// From within a poller that waits for the database: what is there, what can be written, what can
/// be executed.
fn a_poller_sees_only_what_it_needs(lab: &Lab) {
    lab.ok(&["systemctl", "start", POLLER]);
    let pid = wait_for("a poller waits", s(5), || {
        let pid = lab.unit(POLLER, "MainPID");
        let is_inside = format!(
            "test -e /proc/{pid}/root/var/lib/left4me/db/left4me.db \
             -a ! -e /proc/{pid}/root/usr/bin/sh"
        );

        if pid != "0" && lab.is(&is_inside) {
            Ok(pid)
        } else {
            Err(pid)
        }
    });

    let flags = |path: &str| {
        let found = lab.sh(&format!(
            "awk '$5 == \"{path}\" {{ flags = $6 }} END {{ print flags }}' /proc/{pid}/mountinfo"
        ));
        found.split(',').map(str::to_owned).collect::<Vec<_>>()
    };

    for (path, writable, executable) in [
        ("/", false, false),
        ("/etc", false, false),
        ("/run/left4me", false, false),
        ("/var/lib/left4me/db", true, false),
        ("/usr/libexec/left4me/left4me-poller", false, true),
    ] {
        let flags = flags(path);
        let has = |flag: &str| flags.iter().any(|found| found == flag);
        assert_eq!(
            (has("rw"), !has("noexec")),
            (writable, executable),
            "{path} in the poller's root: {flags:?}"
        );
    }

    let data = lab.ok(&["ls", "-A", &format!("/proc/{pid}/root/var/lib/left4me")]);
    assert_eq!(data, "db", "what the poller sees of left4me's data");
    let seen = lab.sh(&format!(
        "grep -c ' /var/lib/left4me/runtime/' /proc/{pid}/mountinfo || true"
    ));
    assert_eq!(seen, "0", "mounts of servers in the poller's root");
}

fn pollers_at_once_neither_hang_nor_lie(lab: &Lab) {
    let loops = "loops=; for _ in 1 2 3; do
             (for _ in {1..10}; do runuser -u left4me -- /usr/libexec/left4me/left4me-poller \
             2>/dev/null || echo \"exit code $?\"; done) &
             loops+=\" $!\"
         done";
    for (last, changes) in [
        ("stop", "stop start restart stop start stop"),
        ("start", "start stop start"),
    ] {
        let codes = lab.sh(&format!(
            "{loops}\n{}\nwait $loops",
            changes_with_pollers(2, changes)
        ));

        assert_eq!(codes, "", "pollers at once");
        the_row_is_right_in_the_end(lab, 2);
        assert_eq!(lab.row(2)["actual_state"] == "running", last == "start");
    }

    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units, and so no lost triggers"
    );
}

fn a_missing_unit_file_is_named(lab: &Lab) {
    const FILE: &str = "/usr/lib/systemd/system/left4me-server@.service";
    let told = || ALL.map(|id| lab.history(id).len());
    let before = told();
    lab.sh(&format!("mv {FILE} /root/; systemctl daemon-reload"));
    let poll = lab
        .poll_by_hand()
        .complains_of(&["left4me-server@.service"]);
    assert_ne!(poll.code, 0, "{poll}");
    for id in ALL {
        // Its game still runs.
        let row = lab.row(id);
        assert!(
            ["running", "unknown"]
                .iter()
                .any(|state| row["actual_state"] == *state),
            "{row:#}"
        );
    }

    assert_eq!(told(), before, "nothing has happened to the servers");
    lab.sh(&format!(
        "mv /root/left4me-server@.service {FILE}; systemctl daemon-reload"
    ));
    // Without that file nothing held the overlays up; with it, systemd ends the games that are left
    // without one.
    for id in ALL {
        wait_until("systemd ends a game without its overlay", s(20), || {
            lab.unit(&unit(id), "ActiveState") == "inactive"
        });
        lab.soon(id, "that it is down", |row| {
            row["actual_state"] == "stopped" && drift(row) == "down"
        });
    }

    lab.job(&["start", "--all"]);
    lab.poll();
    for id in ALL {
        lab.runs(id, &id.to_string());
    }
}

fn a_row_without_sense_is_named_and_skipped(lab: &Lab) {
    lab.sql(
        "INSERT INTO servers (id, user_id, name, port, blueprint_id, desired_state, created_at,
         updated_at) VALUES (-5, 1, 'nonsense', 27900, 1, 'running', 0, 0)",
    );

    let before = lab.row(1);
    lab.poll_by_hand().ends_with(0).complains_of(&["-5"]);
    assert_ne!(
        lab.row(1)["actual_state_updated_at"],
        before["actual_state_updated_at"],
        "the others are looked at"
    );

    lab.poll();
    assert!(!lab.warnings("--", "-5").is_empty(), "the journal tells it");
    assert_eq!(
        lab.sql("SELECT actual_state, actual_state_updated_at IS NULL FROM servers WHERE id = -5"),
        "unknown|1"
    );

    assert!(
        lab.ok(&["left4me", "server", "list"]).contains("nonsense"),
        "the row is still shown"
    );

    lab.sql("DELETE FROM servers WHERE id = -5");
    let quiet = lab.poll_by_hand().ends_with(0);
    assert_eq!(quiet.stderr, "", "{quiet}");
}

fn samples_are_kept_for_their_time_only(lab: &Lab) {
    const TABLES: [(&str, i64); 2] = [("samples", 24), ("samples_10min", 30 * 24)];
    wait_until("ten minutes that do not end just now", s(45), || {
        lab.is("(( $(date +%s) % 600 < 560 ))")
    });
    let now = lab.sh("date +%s%3N").parse::<i64>().expect("milliseconds");
    // As if this poll were the first one of its ten minutes, which removes what is too old.
    lab.sql("DELETE FROM samples_10min");
    for (table, hours) in TABLES {
        for age in [hours + 1, hours - 1] {
            let at = now - age * 3_600_000;
            lab.sql(&format!(
                "INSERT INTO {table} (server_id, at, memory_bytes, cpu_ns, restarts)
                 VALUES (1, {at}, 1, 1, 0)"
            ));
        }
    }

    let newest = lab.sql("SELECT max(at) FROM samples WHERE server_id = 1");
    lab.poll();
    assert_ne!(
        lab.sql("SELECT max(at) FROM samples WHERE server_id = 1"),
        newest,
        "each poll adds a sample"
    );

    for (table, hours) in TABLES {
        let oldest = lab.sql(&format!("SELECT min(at) FROM {table} WHERE server_id = 1"));
        assert_eq!(
            oldest,
            (now - (hours - 1) * 3_600_000).to_string(),
            "the oldest of {table}"
        );
    }

    let per_server = "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM samples_10min
                      WHERE at > 0 GROUP BY server_id)";
    assert_eq!(
        lab.sql(per_server),
        "2,1,1",
        "one sample for each ten minutes, and the one that was put there"
    );

    lab.poll();
    assert_eq!(
        lab.sql(per_server),
        "2,1,1",
        "two polls in the same ten minutes"
    );

    let last = lab.sql(
        "SELECT cpu_ns > 0, restarts FROM samples WHERE server_id = 1 ORDER BY at DESC LIMIT 1",
    );
    assert_eq!(last, "1|0", "what a sample says");
}

/// 300 servers, 200 of them with a unit that runs and a mount. Two hundred overlays at once take a
/// small machine minutes, and for a look any process and any mount will do: so a unit of its own
/// stands in for the real one.
fn a_poll_is_cheaper_than_asking_for_each_server(lab: &Lab) {
    const SERVERS: u32 = 300;
    const UNITS: u32 = 200;
    const POLLS: f64 = 10.0;
    const PROPERTIES: &str = "ActiveState,SubState,Result,NRestarts,ExecMainStatus,ActiveEnterTimestamp,MainPID,\
                              MemoryCurrent,CPUUsageNSec,UnitFileState";
    lab.ok(&["systemctl", "stop", "left4me-server@*.service"]);
    let stand_in = "[Service]\nType=exec\nExecStart=/usr/bin/sleep \
                   infinity\n[Install]\nWantedBy=multi-user.target\n";
    lab.write("/etc/systemd/system/left4me-server@.service", stand_in);
    lab.write(
        "/run/systemd/system/left4me-poller.service.d/counted.conf",
        COUNTED,
    );

    lab.sh(&format!(
        "systemctl daemon-reload
         for i in {{4..{SERVERS}}}; do left4me server create s$i --blueprint versus --user admin \
         >/dev/null; done
         for i in {{1..{UNITS}}}; do
             mkdir -p /var/lib/left4me/runtime/$i/merged; mount -t tmpfs none \
             /var/lib/left4me/runtime/$i/merged
         done
         systemctl start left4me-server@{{1..{UNITS}}}.service"
    ));

    // The first one writes what is new of 200 servers.
    let first = cpu_of_a_unit(lab);
    assert_eq!(
        lab.sql("SELECT count(*) FROM servers WHERE actual_state = 'running'"),
        UNITS.to_string()
    );

    let versions = || lab.sql("SELECT sum(version) FROM servers");
    let before = versions();

    let poll = Cost::of(
        lab,
        &format!(
            "for _ in {{1..{POLLS}}}; do runuser -u left4me -- \
            /usr/libexec/left4me/left4me-poller; done"
        ),
    );

    let show = format!(
        "for i in {{1..{SERVERS}}}; \
         do systemctl show left4me-server@$i.service -p {PROPERTIES} >/dev/null; done"
    );

    let shows = Cost::of(lab, &show);
    let unit = cpu_of_a_unit(lab)
        .min(cpu_of_a_unit(lab))
        .min(cpu_of_a_unit(lab));
    assert_eq!(versions(), before, "polls that saw nothing new");

    let (own, all) = (poll.own / POLLS, (poll.own + poll.others) / POLLS);
    let told = format!(
        "{SERVERS} rows, {UNITS} units, milliseconds of CPU: a poll {own:.1}, with PID 1 and the \
        bus {all:.1}; as a unit, with \
         its sandbox, {unit:.1} (the first one {first:.1}); {SERVERS} times systemctl show {:.1}, \
         with PID 1 and the bus {:.1}",
        shows.own,
        shows.own + shows.others
    );

    eprintln!("{told}");
    assert!(own < 150.0, "a poll takes less than 150 ms: {told}");
    assert!(
        shows.own >= 20.0 * own,
        "a poll is 20 times cheaper: {told}"
    );

    assert!(
        shows.own + shows.others >= 20.0 * all,
        "for PID 1 and the bus too: {told}"
    );

    // Most of it is systemd's making of namespaces, which no `systemctl show` needs; and it must
    // not grow with the servers.
    assert!(
        shows.own + shows.others >= 15.0 * unit,
        "even with its sandbox: {told}"
    );
}

/// systemd forgets what a unit has used when it has ended; a slice for it alone remembers.
const COUNTED: &str = "[Service]\nSlice=counted.slice\n";

/// CPU time of a poll by systemd, with making its sandbox, ms.
#[track_caller]
fn cpu_of_a_unit(lab: &Lab) -> f64 {
    let used = || {
        let used = lab.sh("systemctl start counted.slice; sed -n 's/^usage_usec //p' \
                   /sys/fs/cgroup/counted.slice/cpu.stat");
        used.parse::<f64>().expect("microseconds") / 1e3
    };

    let before = used();
    lab.poll();
    used() - before
}

/// CPU time, ms.
struct Cost {
    /// Of the commands and their children.
    own: f64,
    /// Of PID 1 and the bus meanwhile, to a hundredth of a second.
    others: f64,
}

impl Cost {
    #[track_caller]
    fn of(lab: &Lab, commands: &str) -> Self {
        // `times` ends with user and system time of the children, "0m1.234s 0m0.567s"; a tick is 10
        // ms.
        let script = format!(
            "bus=$(systemctl show --value --property MainPID dbus.service)
             ticks() {{ awk '{{ sum += $14 + $15 }} END {{ print sum * 10 }}' /proc/1/stat \
             /proc/$bus/stat; }}
             before=$(ticks)
             ( {commands}
               times ) | tail -n 1 | sed 's/[ms]/ /g'
             echo $(( $(ticks) - before ))"
        );

        let printed = lab.sh(&script);
        let numbers: Vec<f64> = printed
            .split_whitespace()
            .map(|word| word.parse().expect("a number"))
            .collect();
        let [minutes, seconds, system_minutes, system_seconds, others] = numbers[..] else {
            panic!("{printed}")
        };
        Cost {
            own: ((minutes + system_minutes) * 60.0 + seconds + system_seconds) * 1000.0,
            others,
        }
    }
}
