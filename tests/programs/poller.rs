//! The poller where there is no systemd to ask: what it says, and what it leaves alone. What it
//! sees is tested in the lab.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Output};

use left4me::db::Db;

use crate::support::console::{FakeConsole, look, silence};
use crate::support::{LEFT4ME, POLLER, Root};

/// Servers 1 to 4, all seen running at 5: 1 and 4 without a job, 2 with a queued one, 3 with one
/// that runs. The jobs are new: one that takes too long no longer keeps the poller away.
const SERVERS: &str = " INSERT INTO users (name, password_hash, created_at, updated_at)
                       VALUES ('alice', '-', 1, 1);
                       INSERT INTO blueprints (user_id, name, created_at, updated_at)
                       VALUES (1, 'plain', 1, 1);
                       WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n
                       WHERE i < 4) INSERT INTO servers (user_id, name, port, blueprint_id,
                           created_at, updated_at, desired_state, actual_state,
                           actual_state_updated_at, active_enter_us) SELECT 1, 'S' || i,
                           27000 + i, 1, 1, 1, 'running', 'running', 5, 7 FROM n;
                       INSERT INTO jobs (id, operation, requested_by, created_at, updated_at,
                           state, started_at, worker_id) SELECT 1, 'restart', 'x', now, now,
                           'queued', NULL, NULL FROM (SELECT unixepoch() * 1000 AS now)
                       UNION ALL SELECT 2, 'restart', 'x', now, now, 'running', now, 'w'
                       FROM (SELECT unixepoch() * 1000 AS now);
                       INSERT INTO job_targets VALUES (1, 2), (2, 3);";

fn host() -> (Root, Db) {
    let root = Root::new();
    let db = Db::open(&root.join("db/left4me.db")).unwrap();
    db.connection().execute_batch(SERVERS).unwrap();
    (root, db)
}

fn poll(root: &Root, bus: &str) -> Output {
    Command::new(POLLER)
        .envs(root.envs())
        .env("LEFT4ME_WORKER_SOCKET", root.join("worker.sock"))
        .env("LEFT4ME_HELPER_SOCKET", root.join("helper.sock"))
        .env("LEFT4ME_CONSOLE_SOCKET", root.join("console.sock"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
        .output()
        .unwrap()
}

/// Each server's state, version and when it was looked at.
fn rows(db: &Db) -> Vec<(String, i64, Option<i64>)> {
    let mut statement = db
        .connection()
        .prepare("SELECT actual_state, version, actual_state_updated_at FROM servers ORDER BY id")
        .unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn without_a_bus_states_are_unknown_and_servers_of_jobs_left_alone() {
    let (root, db) = host();
    let worker = UnixDatagram::bind(root.join("worker.sock")).unwrap();
    worker
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    for _ in 0..2 {
        let output = poll(&root, "unix:path=/nonexistent/bus");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{stderr}");
        assert!(
            stderr.lines().count() == 1 && stderr.contains("systemd cannot be asked"),
            "{stderr}"
        );

        let unknown = || ("unknown".to_owned(), 2, Some(5));
        let alone = || ("running".to_owned(), 1, Some(5));
        assert_eq!(
            rows(&db),
            [unknown(), alone(), alone(), unknown()],
            "never a false stopped"
        );

        worker
            .recv(&mut [0; 8])
            .expect("a poke for the jobs that wait, bus or no bus");
    }

    let (drifts, events): (i64, i64) = db
        .connection()
        .query_row(
            "SELECT (SELECT count(*) FROM servers WHERE drift IS NOT NULL), (SELECT count(*)
             FROM events)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(
        (drifts, events),
        (0, 0),
        "not knowing is no drift, and no history"
    );

    let last = left4me::db::poll::last(db.connection()).unwrap();
    assert!(
        last.polled_at.is_none() && last.error.is_some_and(|error| error.contains("bus")),
        "the doctor is told"
    );
}

#[test]
fn a_bus_that_says_nothing_is_as_good_as_gone() {
    let (root, db) = host();
    let path = root.join("bus");
    let _silent = UnixListener::bind(&path).unwrap();
    let _worker = UnixDatagram::bind(root.join("worker.sock")).unwrap();
    let output = poll(&root, &format!("unix:path={}", path.display()));
    assert_eq!(
        output.status.code(),
        Some(69),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    assert!(String::from_utf8_lossy(&output.stderr).contains("no answer within 10 s"));
    assert_eq!(rows(&db)[0].0, "unknown");
}

#[test]
fn a_database_that_another_one_writes_is_waited_for() {
    let (root, db) = host();
    let _worker = UnixDatagram::bind(root.join("worker.sock")).unwrap();
    db.connection().execute_batch("BEGIN IMMEDIATE").unwrap();
    let poller = std::thread::scope(|scope| {
        let poller = scope.spawn(|| poll(&root, "unix:path=/nonexistent/bus"));
        crate::support::until("the poller has its turn", || {
            root.join("db/left4me.db-poller.lock")
                .exists()
                .then_some(())
        });

        assert!(!poller.is_finished());
        db.connection().execute_batch("COMMIT").unwrap();
        poller.join().unwrap()
    });

    assert_eq!(poller.status.code(), Some(69), "only the bus is missing");
    assert_eq!(rows(&db)[0].0, "unknown");
}

#[test]
fn jobs_without_a_worker_are_reported_and_a_paused_queue_is_not_woken() {
    let (root, db) = host();
    let output = poll(&root, "unix:path=/nonexistent/bus");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69));
    assert!(
        stderr.contains("jobs wait") && stderr.contains("worker.sock"),
        "{stderr}"
    );

    db.connection()
        .execute_batch(
            "UPDATE jobs SET state = 'failed', finished_at = 1, exit_code = 1 WHERE id = 2;
             UPDATE queue SET paused_at = 1, paused_by = 'x'",
        )
        .unwrap();
    let worker = UnixDatagram::bind(root.join("worker.sock")).unwrap();
    worker.set_nonblocking(true).unwrap();
    poll(&root, "unix:path=/nonexistent/bus");
    assert!(
        worker.recv(&mut [0; 8]).is_err(),
        "no poke while the queue is paused"
    );
}

/// Whether each game responds, its players and its map.
fn games(db: &Db) -> Vec<(Option<String>, Option<u32>, Option<String>)> {
    let servers = left4me::db::servers::all(db.connection()).unwrap();
    let game = |server: left4me::db::servers::Server| {
        let responding = server.responding.map(|responding| responding.to_string());
        (responding, server.players, server.map)
    };
    servers.into_iter().map(game).collect()
}

/// Without systemd only the servers with jobs are still known to run: S2, which a job waits for,
/// and S3.
#[test]
fn games_are_asked_who_plays_also_while_jobs_wait_for_their_servers() {
    let (root, db) = host();
    let _worker = UnixDatagram::bind(root.join("worker.sock")).unwrap();
    let poll = || poll(&root, "unix:path=/nonexistent/bus");
    let nobody = || (None, None, None);
    let asked = |state: &str, players: Option<u32>| {
        let map = players.map(|_| "c1m1_hotel".to_owned());
        (Some(state.to_owned()), players, map)
    };

    let console = FakeConsole::start(&root.join("console.sock"), |request| {
        (request.server.as_str() == "2").then(|| look(&["Anna", "<b>\u{202e}"]))
    });
    poll();
    let two = asked("yes", Some(2));
    assert_eq!(
        games(&db),
        [nobody(), two.clone(), asked("not-yet", None), nobody()]
    );
    let mut ports: Vec<u16> = console.requests().iter().map(|one| one.port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [27002, 27003], "those that run");
    drop(console);

    // Without left4me-console what was known stays, and the poll says nothing about it.
    let output = poll();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(games(&db)[1], two);

    let _console = FakeConsole::start(&root.join("console.sock"), |_| Some(silence()));
    poll();
    assert_eq!(
        games(&db)[1..3],
        [asked("no", None), asked("not-yet", None)]
    );
}

/// The generator has taken 30 for it, and said so; looks go on.
#[test]
fn a_bad_interval_stops_no_poll_and_the_doctor_names_it() {
    let (root, db) = host();
    let _worker = UnixDatagram::bind(root.join("worker.sock")).unwrap();
    for bad in ["0", "3601", "x", "30s", "-1", "007", ""] {
        db.connection()
            .execute_batch("UPDATE servers SET actual_state = 'running'")
            .unwrap();
        let settings = root.write("settings", format!("LEFT4ME_POLL_SECONDS={bad}\n"));
        let with_settings = |program: &str| {
            let mut command = Command::new(program);
            command.envs(root.envs()).env("LEFT4ME_ENV_FILE", &settings);
            command.env("LEFT4ME_WORKER_SOCKET", root.join("worker.sock"));
            command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
            command
        };

        with_settings(POLLER).output().unwrap();
        assert_eq!(rows(&db)[0].0, "unknown", "{bad}: it looked");
        let doctor = with_settings(LEFT4ME)
            .args(["doctor", "--json"])
            .output()
            .unwrap();
        let found = String::from_utf8_lossy(&doctor.stdout);
        assert!(
            found.contains("LEFT4ME_POLL_SECONDS=") && found.contains("every 30 s it is"),
            "{bad}: {found}"
        );
    }
}

/// What systemd's generator makes of a settings file: the drop-in's intervals, none for no drop-in.
fn generated(settings: &str) -> Option<Vec<String>> {
    let root = Root::new();
    let file = root.write("left4me.env", settings);
    let status = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/systemd/system-generators/left4me"
    ))
    .args([root.path(), root.path(), root.path()])
    .env("LEFT4ME_ENV_FILE", file)
    .status()
    .unwrap();

    assert!(
        status.success(),
        "a generator that fails is told at each boot"
    );

    let text =
        std::fs::read_to_string(root.join("left4me-poller.timer.d/50-poll-seconds.conf")).ok()?;
    Some(
        text.lines()
            .filter(|line| line.starts_with("On"))
            .map(str::to_owned)
            .collect(),
    )
}

/// systemd 252 does not know RestartSteps=, and would warn of it each time it reads the unit.
#[test]
fn restarts_come_further_and_further_apart_where_systemd_can() {
    let drop_in = |library: &str| {
        let root = Root::new();
        root.write(format!("usr/x/systemd/{library}"), "");
        let status = Command::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/systemd/system-generators/left4me"
        ))
        .args([root.path(), root.path(), root.path()])
        .env("LEFT4ME_LIBRARIES", root.join("usr"))
        .env("LEFT4ME_ENV_FILE", "/nonexistent")
        .status()
        .unwrap();

        assert!(
            status.success(),
            "a generator that fails is told at each boot"
        );

        std::fs::read_to_string(root.join("left4me-server@.service.d/50-restart.conf")).ok()
    };

    assert_eq!(drop_in("libsystemd-shared-252.so"), None);
    assert_eq!(drop_in("libsystemd-shared-253.so"), None);
    assert_eq!(drop_in("other.so"), None);
    for library in [
        "libsystemd-shared-254.so",
        "libsystemd-shared-257.so",
        "libsystemd-shared-257.9-1.so",
    ] {
        let text = drop_in(library).unwrap();
        assert!(
            text.contains("RestartSteps=20\n") && text.contains("RestartMaxDelaySec=2min\n"),
            "{text}"
        );
    }
}

#[test]
fn the_setting_becomes_the_timers_interval() {
    let drop_in = |seconds: &str| {
        Some(vec![
            "OnUnitActiveSec=".to_owned(),
            "OnBootSec=15s".to_owned(),
            format!("OnUnitActiveSec={seconds}s"),
        ])
    };

    assert_eq!(generated("# nothing\nLEFT4ME_LOG=info\n"), None);
    assert_eq!(generated("#LEFT4ME_POLL_SECONDS=5\n"), None);
    assert_eq!(generated("LEFT4ME_POLL_SECONDS=30\n"), None);
    assert_eq!(generated("LEFT4ME_POLL_SECONDS=5\n"), drop_in("5"));
    assert_eq!(
        generated("LEFT4ME_POLL_SECONDS=7\nLEFT4ME_POLL_SECONDS=\"3600\"\n"),
        drop_in("3600")
    );

    for bad in [
        "0",
        "3601",
        "99999999999999999999",
        "x",
        "5s",
        "-5",
        "1.5",
        "5;reboot",
        "$(reboot)",
        "007",
    ] {
        assert_eq!(
            generated(&format!("LEFT4ME_POLL_SECONDS={bad}\n")),
            None,
            "{bad}"
        );
    }
}
