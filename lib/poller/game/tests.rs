//! Tests of `poller::game`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rusqlite::params;
use tempfile::TempDir;

use super::*;
use crate::db::events;
use crate::domain::drift::Drift;
use crate::domain::game::Responding;
use crate::wire::console::{ConsoleAnswer, ConsoleRequest};
use crate::wire::parse;

const NONE: &str = "/nonexistent/console.sock";

/// A database with `count` servers that should be running and are.
pub(in crate::poller) fn running(count: u32) -> (TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("left4me.db")).unwrap();
    let sql = "INSERT INTO users (name, password_hash, created_at, updated_at)
                   VALUES ('anna', '-', 1, 1);
               INSERT INTO blueprints (user_id, name, created_at, updated_at)
                   VALUES (1, 'plain', 1, 1);";
    db.connection().execute_batch(sql).unwrap();
    for id in 1..=count {
        let sql = "INSERT INTO servers (user_id, name, port, blueprint_id, created_at, updated_at,
                   desired_state, actual_state, actual_since, active_enter_us, enabled)
                   VALUES (1, 'S' || ?1, 27000 + ?1, 1, 1, 1, 'running', 'running', 1, 7, 1)";
        db.connection().execute(sql, params![id]).unwrap();
    }
    (dir, db)
}

/// A left4me-console for one connection, which gives these answers; none for no answer. It keeps
/// the connection open until its reader is gone, as the real one does.
fn console(
    dir: &TempDir,
    answer: impl Fn(&ConsoleRequest) -> Option<ConsoleResult> + Send + 'static,
) -> PathBuf {
    let path = dir.path().join("console.sock");
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        for line in BufReader::new(socket.try_clone().unwrap()).lines() {
            let Ok(line) = line else { return };
            let request: ConsoleRequest = parse(&line).unwrap();
            if let Some(result) = answer(&request) {
                let answer = ConsoleAnswer {
                    id: request.id,
                    result,
                };
                let line = serde_json::to_string(&answer).unwrap() + "\n";
                socket.write_all(line.as_bytes()).ok();
            }
        }
    });
    path
}

fn answered(players: u8) -> ConsoleResult {
    ConsoleResult::Look {
        info: GameInfo {
            name: "Friday".to_owned(),
            map: "c1m1_hotel".to_owned(),
            game: "Left 4 Dead 2".to_owned(),
            players,
            bots: 1,
            max_players: 8,
            password: false,
            vac: true,
            version: "2.2.4.3".to_owned(),
            response_ms: 12,
        },
        players: (0..players)
            .map(|number| Player {
                name: format!("Anna {number}"),
                score: number.into(),
                seconds: 60,
            })
            .collect(),
    }
}

fn failed(kind: Failure) -> ConsoleResult {
    ConsoleResult::Failed {
        kind,
        message: "why".to_owned(),
    }
}

/// Each server's state of its game: whether it responds, its players, and the polls that it left
/// unanswered.
fn games(db: &Db) -> Vec<(Option<Responding>, Option<u32>, u32)> {
    let servers = servers::all(db.connection()).unwrap().into_iter();
    let state = |server: servers::Server| {
        let game = game::get(db.connection(), server.id).unwrap();
        let unanswered = game.map_or(0, |game| game.unanswered);
        (server.responding, server.players, unanswered)
    };
    servers.map(state).collect()
}

/// No other poll is requested.
fn never() -> bool {
    false
}

fn sample(at: i64) -> Sample {
    Sample {
        at,
        memory_bytes: Some(1 << 30),
        ..Sample::default()
    }
}

#[test]
fn answers_are_recorded_with_the_samples_and_a_failure_of_one_game_is_its_own() {
    let (dir, mut db) = running(5);
    let console = console(&dir, |request| match request.server.as_str() {
        "1" => Some(answered(3)),
        "2" => Some(failed(Failure::NoAnswer)),
        "3" => Some(failed(Failure::Busy)),
        "4" => Some(failed(Failure::BadAnswer)),
        _ => Some(answered(0)),
    });

    let at = clock::now_ms();
    let samples = (1..=6).map(|id| (ServerId(id), sample(at))).collect();
    let silent = look(&mut db, &console, samples, never).unwrap();
    assert_eq!(silent, [], "one poll is no proof");

    let not_yet = (Some(Responding::NotYet), None, 1);
    assert_eq!(
        games(&db),
        [
            (Some(Responding::Yes), Some(3), 0),
            not_yet,
            (None, None, 0),
            not_yet,
            (Some(Responding::Yes), Some(0), 0)
        ]
    );

    let names: Vec<String> = game::players(db.connection(), ServerId(1))
        .unwrap()
        .into_iter()
        .map(|player| player.name)
        .collect();
    assert_eq!(names, ["Anna 0", "Anna 1", "Anna 2"]);

    let players = (1..=5).map(|id| {
        let samples = samples::since(db.connection(), ServerId(id), at - 1, at).unwrap();
        (samples.len(), samples[0].players, samples[0].response_ms)
    });
    assert_eq!(
        players.collect::<Vec<_>>(),
        [
            (1, Some(3), Some(12)),
            (1, None, None),
            (1, None, None),
            (1, None, None),
            (1, Some(0), Some(12))
        ]
    );
}

#[test]
fn without_left4me_console_what_was_known_stays_and_samples_are_recorded() {
    let (dir, mut db) = running(2);
    let first = console(&dir, |_| Some(answered(2)));
    look(&mut db, &first, Vec::new(), never).unwrap();
    let before = games(&db);

    let at = clock::now_ms();
    look(
        &mut db,
        Path::new(NONE),
        vec![(ServerId(1), sample(at))],
        never,
    )
    .unwrap();
    assert_eq!(games(&db), before);
    let samples = samples::since(db.connection(), ServerId(1), at - 1, at).unwrap();
    assert_eq!((samples.len(), samples[0].players), (1, None));

    // It goes away after the first answer.
    let broken = dir.path().join("broken.sock");
    let listener = UnixListener::bind(&broken).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(socket.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        let result = answered(5);
        let answer = ConsoleAnswer { id: 0, result };
        let line = serde_json::to_string(&answer).unwrap() + "\n";
        socket.write_all(line.as_bytes()).unwrap();
    });
    look(&mut db, &broken, Vec::new(), never).unwrap();
    assert_eq!(
        games(&db),
        [(Some(Responding::Yes), Some(5), 0), before[1]],
        "one was answered, and nothing is known of the other"
    );
}

#[test]
fn silent_games_cost_the_others_nothing_and_a_poll_less_than_two_seconds() {
    let (dir, mut db) = running(200);
    let console = console(&dir, |request| {
        let id: u32 = request.server.as_str().parse().unwrap();
        id.is_multiple_of(2).then(|| answered(4))
    });

    let begun = std::time::Instant::now();
    look(&mut db, &console, Vec::new(), never).unwrap();
    assert!(begun.elapsed() >= PATIENCE);
    let games = games(&db);
    let count = |wanted| {
        let responding = games.iter().map(|(responding, ..)| *responding);
        responding.filter(|found| *found == Some(wanted)).count()
    };
    assert_eq!(
        (count(Responding::Yes), count(Responding::NotYet)),
        (100, 100)
    );
}

#[test]
fn another_poll_does_not_wait_for_silent_games_which_it_asks_itself() {
    let (dir, mut db) = running(4);
    let console = console(&dir, |request| {
        let id: u32 = request.server.as_str().parse().unwrap();
        id.is_multiple_of(2).then(|| answered(4))
    });

    let begun = std::time::Instant::now();
    let at = clock::now_ms();
    let samples = (1..=4).map(|id| (ServerId(id), sample(at))).collect();
    let requested = || begun.elapsed() > Duration::from_millis(100);
    look(&mut db, &console, samples, requested).unwrap();
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());

    let four = (Some(Responding::Yes), Some(4), 0);
    let nothing = (None, None, 0);
    assert_eq!(
        games(&db),
        [nothing, four, nothing, four],
        "a game without its time is not silent"
    );
    let samples = samples::since(db.connection(), ServerId(1), at - 1, at).unwrap();
    assert_eq!(samples.len(), 1);
}

#[test]
fn an_answer_of_a_run_that_has_ended_is_not_recorded() {
    for change in [
        "UPDATE servers SET active_enter_us = 8",
        "UPDATE servers SET actual_state = 'stopped'",
        "DELETE FROM servers",
    ] {
        let (dir, mut db) = running(1);
        let path = db.path().to_owned();
        let console = console(&dir, move |_| {
            let other = Db::open_existing(&path).unwrap();
            other.connection().execute_batch(change).unwrap();
            Some(answered(3))
        });

        let samples = vec![(ServerId(1), sample(clock::now_ms()))];
        look(&mut db, &console, samples, never).unwrap();
        let game = game::get(db.connection(), ServerId(1)).unwrap();
        assert_eq!(game, None, "{change}");
    }
}

#[test]
fn a_long_silence_is_reported_and_an_answer_ends_it() {
    let (dir, mut db) = running(1);
    let server = ServerId(1);
    look(
        &mut db,
        &console(&dir, |_| Some(answered(1))),
        Vec::new(),
        never,
    )
    .unwrap();

    let silent_look = |db: &mut Db| {
        let console = console(&dir, |_| Some(failed(Failure::NoAnswer)));
        look(db, &console, Vec::new(), never).unwrap()
    };
    for _ in 0..5 {
        assert_eq!(silent_look(&mut db), [], "a map load takes a minute");
    }

    db.connection()
        .execute_batch("UPDATE server_game SET answered_at = answered_at - 200000")
        .unwrap();
    assert_eq!(silent_look(&mut db), [server]);

    let now = clock::now_ms();
    db.write(|tx| observe::judge_silent(tx, server, now))
        .unwrap()
        .unwrap();
    let drift = |db: &Db| {
        let server = servers::get(db.connection(), server).unwrap().unwrap();
        server.drift.map(|drift| drift.kind)
    };
    assert_eq!(drift(&db), Some(Drift::Unresponsive));

    // Later polls of the units leave it so.
    let report = db
        .write(|tx| observe::judge_server(tx, server, &Cause::Outside, now))
        .unwrap();
    assert!(report.is_none());

    look(
        &mut db,
        &console(&dir, |_| Some(answered(1))),
        Vec::new(),
        never,
    )
    .unwrap();
    assert_eq!(drift(&db), None);
    let kinds: Vec<String> = events::last(db.connection(), None, 10)
        .unwrap()
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds, ["server.unresponsive", "server.drift_ended"]);
}
