//! The games of a host behind a stand-in for left4me-console: who plays on each, and what was asked
//! and said.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use left4me::wire::console::{ConsoleRequest, ConsoleResult, ConsoleVerb, Failure};

use super::console::{FakeConsole, info, output};

/// The console at a path, until it is dropped. A server that nobody has told about is empty.
pub struct Console {
    games: Arc<Mutex<Games>>,
    _socket: FakeConsole,
}

/// What the games answer, by the servers' ids.
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
        let answered = Arc::clone(&games);
        let socket = FakeConsole::start(path, move |request| {
            Some(answer(request, &mut answered.lock().expect("no panic")))
        });
        Self {
            games,
            _socket: socket,
        }
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

fn answer(request: &ConsoleRequest, games: &mut Games) -> ConsoleResult {
    let server = request.server.as_str();
    if let ConsoleVerb::Exec { command } = &request.verb {
        games.typed.push((server.to_owned(), command.clone()));
        return match games.refuses {
            true => ConsoleResult::failed(Failure::Banned, "the game has banned this host"),
            false => output(""),
        };
    }

    games.asked.push(server.to_owned());
    match games.players.get(server).copied().unwrap_or(Some(0)) {
        None => ConsoleResult::failed(Failure::NoAnswer, "the game is silent"),
        Some(players) => ConsoleResult::Info(info(players.into())),
    }
}
