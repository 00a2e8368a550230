//! Stands in for left4me-console: answers who plays, and remembers what was asked and said.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::{SocketUnit, accept_with};

/// The console at `path`, until it is dropped. A server that nobody has told about is empty.
pub struct Console {
    games: Arc<Mutex<Games>>,
    _unit: SocketUnit,
}

/// What the games of a host answer, by the servers' ids.
#[derive(Default)]
pub struct Games {
    /// How many people play; none for a game that does not answer.
    pub players: HashMap<String, Option<u8>>,
    /// The servers that were asked who plays.
    pub asked: Vec<String>,
    /// What was typed into a server's console.
    pub typed: Vec<(String, String)>,
    /// Whether commands are refused.
    pub refuses: bool,
}

impl Console {
    pub fn at(path: &Path) -> Self {
        let games = Arc::new(Mutex::new(Games::default()));
        let of_clients = Arc::clone(&games);
        let unit = accept_with(path, move |connection, _| {
            let games = Arc::clone(&of_clients);
            std::thread::spawn(move || serve(&connection, &games));
        });
        Self { games, _unit: unit }
    }

    /// What it answers and what it was asked.
    pub fn games(&self) -> MutexGuard<'_, Games> {
        self.games.lock().expect("no panic")
    }

    /// How many people play on a server from now on; none for a game that does not answer.
    pub fn set_players(&self, server: i64, players: Option<u8>) {
        self.games().players.insert(server.to_string(), players);
    }

    /// What was said to the players of a server.
    pub fn said(&self, server: i64) -> Vec<String> {
        let typed = self.games().typed.clone();
        let of_server = typed
            .into_iter()
            .filter(|(id, _)| *id == server.to_string());
        of_server.map(|(_, line)| line).collect()
    }
}

fn serve(connection: &UnixStream, games: &Mutex<Games>) {
    for line in BufReader::new(connection).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).expect("JSON");
        let answer = answer(&request, &mut games.lock().expect("no panic"));
        // The client may be gone.
        let mut out = connection;
        out.write_all(format!("{answer}\n").as_bytes()).ok();
    }
}

fn answer(request: &Value, games: &mut Games) -> Value {
    let (id, server) = (
        &request["id"],
        request["server"].as_str().expect("a server"),
    );
    let failed =
        |kind: &str, message: &str| json!({"id": id, "failed": {"kind": kind, "message": message}});
    if request["verb"] == "exec" {
        let command = request["command"].as_str().expect("a command");
        games.typed.push((server.to_owned(), command.to_owned()));
        return match games.refuses {
            true => failed("banned", "the game has banned this host"),
            false => json!({"id": id, "output": {"text": "", "cut": false}}),
        };
    }

    games.asked.push(server.to_owned());
    match games.players.get(server).copied().unwrap_or(Some(0)) {
        None => failed("no-answer", "the game is silent"),
        Some(players) => json!({"id": id, "info": {
            "name": "stand-in", "map": "c1m1_hotel", "game": "Left 4 Dead 2", "players": players,
            "bots": 0, "max_players": 8, "password": false, "vac": true, "version": "2.2.4.3",
            "response_ms": 1,
        }}),
    }
}
