//! Jobs that wait until nobody plays, or until a time: the real worker with a stand-in for
//! left4me-console.

use left4me::base::clock;
use left4me::base::names::{JobId, ServerId};
use left4me::db::servers;
use left4me::domain::job::JobState;
use left4me::domain::server::DesiredState;
use left4me::queue::conditions::needs_worker;
use nix::sys::signal::Signal;
use rusqlite::params;
use serde_json::Value;

use crate::support::games::Console;
use crate::support::host::{TestHost, stop};
use crate::support::{SocketUnit, ended, until};

/// A helper that does at once what it is asked for.
const HELPER: &str = r#"#!/bin/bash
read -r request <&3
printf '%s\n' '{"stdout":"ActiveState=inactive"}' '{"stdout":"SubState=dead"}' '{"exit":0,"ended_by":"exit","tree":"empty"}' >&3
"#;

/// A host with two servers that should run and do.
struct Scene {
    // The sockets first: they are closed before their directory is removed.
    console: Console,
    _helper: SocketUnit,
    host: TestHost,
}

impl Scene {
    fn new() -> Self {
        let host = TestHost::with_servers(2);
        let console = Console::at(&host.root.join("console.sock"));
        let helper = host.helper(HELPER);
        let scene = Self {
            console,
            _helper: helper,
            host,
        };
        scene.sql("UPDATE servers SET desired_state = 'running'");
        for server in [1, 2] {
            scene.seen(server, Some(0));
        }
        scene
    }

    /// Enqueues a job, given the words after `enqueue`.
    fn enqueue(&self, words: &str) -> JobId {
        let words: Vec<&str> = words.split(' ').collect();
        self.host.enqueue(&words)
    }

    fn sql(&self, sql: &str) {
        self.host.db().connection().execute_batch(sql).unwrap();
    }

    /// What a poll records now: the server runs, and so many people play; none if it is silent.
    fn seen(&self, server: i64, players: Option<i64>) {
        let (db, now) = (self.host.db(), clock::now_ms());
        let row = "INSERT INTO server_game (server_id, responding, players, answered_at, asked_at)
                   VALUES (?1, 'yes', ?2, ?3, ?3) ON CONFLICT DO UPDATE
                   SET players = ?2, answered_at = ?3, unanswered = 0";
        match players {
            Some(count) => db.connection().execute(row, params![server, count, now]),
            None => db.connection().execute(
                "UPDATE server_game SET unanswered = unanswered + 1 WHERE server_id = ?1",
                [server],
            ),
        }
        .unwrap();
        for sql in [
            "UPDATE servers SET actual_state = 'running', actual_state_updated_at = ?1",
            "UPDATE poll SET polled_at = ?1",
        ] {
            db.connection().execute(sql, [now]).unwrap();
        }
    }

    /// So many people play, and a poll has seen it.
    fn players(&self, server: i64, count: u8) {
        self.console.set_players(server, Some(count));
        self.seen(server, Some(count.into()));
    }

    fn waiting(&self, id: JobId) -> String {
        let job = self.host.show(id);
        job["waiting"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs a worker until it has nothing to do, and checks that the job still waits, and for what.
    #[track_caller]
    fn waits(&self, id: JobId, why: &str) {
        self.host.drain();
        assert_eq!(self.waiting(id), why);
        assert_eq!(self.host.state(id), JobState::Queued);
        let job = self.host.show(id);
        assert_eq!(job["runners"], serde_json::json!([]), "nothing was begun");
    }

    fn desired(&self, server: i64) -> DesiredState {
        let server = servers::get(self.host.db().connection(), ServerId(server));
        server.unwrap().unwrap().desired_state
    }
}

/// The error and exit code of a job that was cancelled.
#[track_caller]
fn cancelled(job: &Value) -> String {
    assert_eq!(
        (job["state"].as_str(), job["exit_code"].as_i64()),
        (Some("cancelled"), Some(1)),
        "{job}"
    );
    assert_eq!(job["waiting"], Value::Null);
    job["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_job_waits_says_why_and_acts_after_the_last_player_has_left() {
    let scene = Scene::new();
    scene.players(1, 3);
    let (code, out, err) = scene
        .host
        .job(&["enqueue", "stop", "--server", "1", "--when-empty"]);
    assert!(
        code == 0 && err.ends_with("waiting: 3 players on S1\n"),
        "{err}"
    );
    let id: JobId = out.trim().parse().unwrap();

    scene.waits(id, "3 players on S1");
    assert_eq!(
        scene.desired(1),
        DesiredState::Running,
        "it should run as yet"
    );
    assert!(
        scene.console.games().asked.is_empty(),
        "the poll says enough"
    );
    let (_, list, _) = scene.host.job(&["list"]);
    assert!(list.contains("queued (waiting)"), "{list}");
    assert!(
        list.contains(&format!("job {id} waiting: 3 players on S1")),
        "{list}"
    );
    let (_, show, _) = scene.host.job(&["show", &id.to_string()]);
    assert!(show.contains("waiting      3 players on S1"), "{show}");
    assert!(show.contains("condition    when empty"), "{show}");

    scene.players(1, 1);
    scene.waits(id, "1 player on S1");
    scene.players(1, 0);
    scene.host.drain();
    assert_eq!(scene.host.state(id), JobState::Succeeded);
    assert_eq!(
        scene.console.games().asked,
        ["1"],
        "it asks right before the stop"
    );
    assert_eq!(scene.desired(1), DesiredState::Stopped);
}

#[test]
fn a_player_who_came_after_the_poll_is_not_thrown_out() {
    let scene = Scene::new();
    scene.console.set_players(1, Some(1));
    let id = scene.enqueue("restart --server 1 --when-empty");
    scene.waits(id, "1 player on S1");
    scene.waits(id, "1 player on S1");
    assert_eq!(scene.console.games().asked.len(), 1, "once for each poll");

    // The next poll still sees the player, the one after that does not.
    scene.players(1, 1);
    scene.waits(id, "1 player on S1");
    scene.players(1, 0);
    scene.host.drain();
    assert_ne!(scene.host.state(id), JobState::Queued);
}

#[test]
fn what_does_not_answer_is_not_empty() {
    let scene = Scene::new();
    scene.seen(1, None);
    let id = scene.enqueue("stop --server 1 --when-empty");
    scene.waits(id, "S1 does not answer");

    scene.seen(1, Some(0));
    scene.console.set_players(1, None);
    scene.waits(id, "S1 does not answer (the game is silent)");

    scene.seen(1, Some(0));
    let hour = "UPDATE server_game SET answered_at = answered_at - 3600000";
    scene.sql(hour);
    scene.waits(id, "S1 does not answer (the game is silent)");

    let Scene { host, console, .. } = &scene;
    assert_eq!(console.games().asked.len(), 1);
    assert_eq!(host.state(id), JobState::Queued);
    scene.seen(1, Some(0));
    // Dropped in reverse: the directory last.
    let Scene {
        host,
        _helper,
        console,
    } = scene;
    drop(console);
    host.drain();
    let job = host.show(id);
    let waiting = job["waiting"].as_str().unwrap();
    assert!(
        waiting.starts_with("nobody can be asked who plays: "),
        "{waiting}"
    );
}

#[test]
fn a_server_that_does_not_run_is_empty() {
    let scene = Scene::new();
    scene.players(2, 2);
    scene.sql("UPDATE servers SET actual_state = 'failed' WHERE id = 1");
    let id = scene.enqueue("stop --server 1 --when-empty");
    let both = scene.enqueue("stop --all --when-empty");
    scene.host.drain();
    assert_eq!(scene.host.state(id), JobState::Succeeded);
    assert_eq!(scene.waiting(both), "2 players on S2");
    assert!(scene.console.games().asked.is_empty());
}

#[test]
fn a_waiting_job_holds_no_slot_and_no_server() {
    let mut scene = Scene::new();
    scene.host.in_place = true;
    scene.players(1, 3);
    let one = scene.enqueue("stop --server 1 --when-empty");
    let all = scene.enqueue("update --when-empty");
    let other = scene.enqueue("initialize --server 1");
    assert_eq!(scene.host.show(other)["queue_position"], 1);
    assert_eq!(scene.host.show(one)["queue_position"], Value::Null);

    let mut worker = scene.host.command(
        crate::support::WORKER,
        &["--idle-seconds", "0", "--slots", "1"],
    );
    assert_eq!(ended(&mut worker.spawn().unwrap()), 0);
    assert!(scene.host.state(other).is_terminal());
    assert_eq!(
        (scene.waiting(one), scene.waiting(all)),
        ("3 players on S1".to_owned(), "3 players on S1".to_owned())
    );
}

#[test]
fn players_are_warned_and_the_deadline_is_kept() {
    let scene = Scene::new();
    scene.players(1, 3);
    let id = scene.enqueue("stop --server 1 --when-empty --until 3s --then go --warn 2s,1s,10m");
    // A worker that would exit at once stays for what is near.
    scene.host.drain();
    assert_eq!(scene.host.state(id), JobState::Succeeded);
    assert_eq!(
        scene.console.said(1),
        [
            "say The server stops in 2 seconds",
            "say The server stops in 1 second"
        ]
    );

    let lines = scene.host.lines(id);
    assert_eq!(
        &lines[..2],
        [
            "told the players on S1: The server stops in 2 seconds",
            "told the players on S1: The server stops in 1 second",
        ]
    );
    assert!(
        lines[2].starts_with("goes ahead at ") && lines[2].ends_with(": 3 players on S1"),
        "{lines:?}"
    );

    let db = scene.host.db();
    let told: i64 = db
        .connection()
        .query_row(
            "SELECT count(*) FROM events WHERE kind = 'job.warned' AND server_id = 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(told, 2);
}

#[test]
fn a_warning_that_fails_is_logged_and_stops_nothing() {
    let scene = Scene::new();
    scene.players(1, 3);
    scene.console.games().refuses = true;
    let id = scene.host.enqueue(&[
        "stop",
        "--server",
        "1",
        "--until",
        "2s",
        "--warn",
        "1s=Back; \"soon\"",
    ]);
    assert!(
        scene.waiting(id).starts_with("until "),
        "{}",
        scene.waiting(id)
    );
    scene.host.drain();
    assert_eq!(scene.host.state(id), JobState::Succeeded);
    assert_eq!(scene.console.said(1), ["say Back soon in 1 second"]);
    let lines = scene.host.lines(id);
    let failure = "the players on S1 were not told: the game has banned this host";
    assert!(lines.iter().any(|line| line == failure), "{lines:?}");
}

#[test]
fn at_its_deadline_a_job_may_give_up() {
    let scene = Scene::new();
    scene.players(1, 3);
    let id = scene.enqueue("restart --server 1 --when-empty --until 1s --then give-up");
    scene.host.drain();
    let error = cancelled(&scene.host.show(id));
    assert!(
        error.starts_with("gave up at ") && error.ends_with(": 3 players on S1"),
        "{error}"
    );
    assert_eq!(scene.host.lines(id), [error]);
    assert_eq!(scene.desired(1), DesiredState::Running);

    let (code, _, err) = scene.host.job(&["retry", &id.to_string()]);
    assert!(
        code == 4 && err.contains("enqueue a new job with another --until"),
        "{err}"
    );
}

#[test]
fn a_wait_survives_workers_that_die() {
    let scene = Scene::new();
    scene.players(1, 3);
    let id = scene.enqueue("stop --server 1 --when-empty --until 60s --then go --warn 1m");
    for _ in 0..2 {
        let mut worker = scene.host.worker(60);
        until("the warning", || {
            (!scene.console.said(1).is_empty()).then_some(())
        });
        stop(&worker, Signal::SIGKILL);
        ended(&mut worker);
    }
    assert_eq!(scene.console.said(1), ["say The server stops in 1 minute"]);
    let waiting = scene.waiting(id);
    assert!(waiting.starts_with("3 players on S1 (until "), "{waiting}");

    let mut worker = scene.host.worker(60);
    scene.players(1, 0);
    until("the job has ended", || {
        scene.host.state(id).is_terminal().then_some(())
    });
    assert_eq!(scene.host.state(id), JobState::Succeeded);
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn a_waiting_job_can_be_cancelled() {
    let scene = Scene::new();
    scene.players(1, 3);
    let id = scene.enqueue("stop --server 1 --when-empty");
    let (code, _, err) = scene
        .host
        .job(&["cancel", &id.to_string(), "--reason", "match"]);
    assert_eq!(code, 0, "{err}");
    assert!(cancelled(&scene.host.show(id)).contains("cancelled before execution"));

    scene.players(1, 0);
    scene.host.drain();
    assert!(scene.console.games().asked.is_empty());
}

#[test]
fn a_job_is_void_when_another_has_served_its_purpose() {
    let scene = Scene::new();
    scene.players(1, 3);
    scene.players(2, 3);
    let waits = scene.enqueue("restart --all --when-empty");
    let one = scene.enqueue("stop --server 1 --yes");
    scene.host.drain();
    assert_eq!(scene.host.state(one), JobState::Succeeded);
    assert_eq!(scene.waiting(waits), "3 players on S2");

    let other = scene.enqueue("stop --server 2");
    scene.host.drain();
    scene.host.drain();
    let error = cancelled(&scene.host.show(waits));
    assert_eq!(
        error,
        format!("no longer needed: job {one} (stop) has succeeded meanwhile")
    );
    assert_eq!(scene.host.state(other), JobState::Succeeded);
}

#[test]
fn a_restart_of_several_leaves_those_stopped_that_were_stopped_while_it_waited() {
    let scene = Scene::new();
    scene.players(1, 3);
    scene.players(2, 3);
    let waits = scene.enqueue("restart --all --when-empty");
    scene.enqueue("stop --server 1 --yes");
    scene.host.drain();
    assert_eq!(scene.waiting(waits), "3 players on S2");

    scene.players(2, 0);
    scene.sql("UPDATE servers SET actual_state = 'stopped' WHERE id = 1");
    scene.host.drain();
    scene.host.drain();
    // No game comes up here, so the restart of the other one fails; but it was tried.
    assert_eq!(scene.host.state(waits), JobState::Failed);
    let server = scene
        .host
        .left4me(&["server", "show", "1", "--json"])
        .json();
    assert_eq!(server["desired_state"], "stopped");
    let tasks = scene.host.show(waits)["tasks"].clone();
    let of_first = tasks
        .as_array()
        .unwrap()
        .iter()
        .filter(|task| task["server"] == 1);
    for task in of_first {
        assert_eq!(task["state"], "skipped", "{task:#}");
        let why = task["error"].as_str().unwrap();
        assert!(why.contains("(stop) has succeeded meanwhile"), "{why}");
    }
}

#[test]
fn an_update_stops_and_starts_what_runs_when_it_begins() {
    let mut scene = Scene::new();
    scene.host.in_place = true;
    scene.players(1, 3);
    scene
        .sql("UPDATE servers SET desired_state = 'stopped', actual_state = 'stopped' WHERE id = 2");
    let id = scene.enqueue("update --when-empty");
    let stops = || {
        let job = scene.host.show(id);
        let tasks = job["tasks"].as_array().unwrap().iter();
        let stops = tasks.filter(|task| task["kind"] == "stop");
        stops
            .map(|task| task["server"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(stops(), [1]);

    scene.sql("UPDATE servers SET desired_state = 'running' WHERE id = 2");
    scene.players(1, 0);
    scene.seen(2, Some(0));
    scene.host.drain();
    assert_eq!(stops(), [1, 2]);
    assert!(scene.host.state(id).is_terminal());
}

#[test]
fn a_paused_queue_warns_nobody_and_starts_nothing() {
    let scene = Scene::new();
    scene.players(1, 3);
    scene.host.job(&["pause"]);
    let id = scene.enqueue("stop --server 1 --until 2s --warn 1s");
    scene.host.drain();
    assert!(scene.console.said(1).is_empty());
    let job = scene.host.show(id);
    assert_eq!(
        (&job["state"], &job["waiting"]),
        (&"queued".into(), &Value::Null)
    );

    scene.host.job(&["resume"]);
    scene.host.drain();
    assert_eq!(scene.host.state(id), JobState::Succeeded);
}

#[test]
fn the_same_job_is_one_with_the_same_condition() {
    let scene = Scene::new();
    scene.players(1, 3);
    let host = &scene.host;
    let waits = host.enqueue(&[
        "stop",
        "--server",
        "1",
        "--when-empty",
        "--until",
        "2h",
        "--then",
        "go",
    ]);
    let again = [
        "stop",
        "--server",
        "1",
        "--unique",
        "--when-empty",
        "--until",
        "2h",
        "--then",
        "go",
    ];
    assert_eq!(host.enqueue(&again), waits);
    let other = host.enqueue(&["stop", "--server", "1", "--unique", "--when-empty"]);
    let plain = host.enqueue(&["stop", "--server", "1", "--unique"]);
    assert!(waits < other && other < plain);

    host.job(&["cancel", &waits.to_string()]);
    let (code, out, err) = host.job(&["retry", &waits.to_string()]);
    assert_eq!(code, 0, "{err}");
    let retried = host.show(out.trim().parse().unwrap());
    let condition = &retried["condition"];
    assert_eq!(
        condition,
        &host.show(waits)["condition"],
        "until the same moment"
    );
    assert_eq!(
        (&condition["then"], &condition["when_empty"]),
        (&"go".into(), &true.into())
    );
}

#[test]
fn conditions_that_make_no_sense_are_refused_in_one_line() {
    let scene = Scene::new();
    for (words, why) in [
        ("start --server 1 --when-empty", "start takes no condition"),
        ("stop --server 1 --until 0m", "longer than 0"),
        ("stop --server 1 --until 25:00", "neither a time of day"),
        (
            "stop --server 1 --when-empty --until 1h",
            "needs --then go or --then give-up",
        ),
        (
            "stop --server 1 --when-empty --warn 5m",
            "--warn needs --until",
        ),
        (
            "stop --server 1 --until 1h --warn 5x",
            "durations up to a day",
        ),
        (
            "stop --server 1 --until 1h --then maybe",
            "one of go, give-up",
        ),
        (
            "stop --all --rolling 1 --when-empty",
            "cannot wait for a condition",
        ),
    ] {
        let args: Vec<&str> = ["enqueue"].into_iter().chain(words.split(' ')).collect();
        let (code, out, err) = scene.host.job(&args);
        assert_eq!((code, out.as_str()), (2, ""), "{words}: {err}");
        assert!(err.contains(why), "{words}: {err}");
    }
}

/// The poller asks at each poll.
#[test]
fn a_worker_is_woken_for_what_is_near_and_not_before() {
    let scene = Scene::new();
    scene.players(1, 3);
    let needs = |after: i64| {
        let db = scene.host.db();
        needs_worker(db.connection(), clock::now_ms() + after * 1000).unwrap()
    };
    assert!(!needs(0), "nothing waits");

    scene.enqueue("stop --server 1 --when-empty --until 1h --then go --warn 10m");
    assert!(!needs(0), "it only waits");
    assert!(
        !needs(48 * 60) && needs(49 * 60),
        "a minute before the warning"
    );
    scene.players(1, 0);
    assert!(needs(0), "the last player has left");
    scene.host.job(&["pause"]);
    assert!(!needs(0), "nothing can start");
    assert!(needs(3600), "its time has come");
}
