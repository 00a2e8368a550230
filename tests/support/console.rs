//! A stand-in for left4me-console: answers each request of its socket as a test says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use left4me::wire::console::{
    ConsoleAnswer, ConsoleRequest, ConsoleResult, ConsoleVerb, Failure, GameInfo, Player,
};

/// Serves `socket` until the test's process ends. Without an answer the connection is closed.
pub fn serve(
    socket: &Path,
    answer: impl Fn(&ConsoleRequest) -> Option<ConsoleResult> + Clone + Send + 'static,
) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, answer) = (connection.expect("a connection"), answer.clone());
            std::thread::spawn(move || converse(&connection, answer));
        }
    });
}

fn converse(connection: &UnixStream, answer: impl Fn(&ConsoleRequest) -> Option<ConsoleResult>) {
    for line in BufReader::new(connection).lines() {
        let Ok(line) = line else { return };
        let request: ConsoleRequest = serde_json::from_str(&line).expect("a request");
        let Some(result) = answer(&request) else {
            return;
        };
        let id = request.id;
        let text = serde_json::to_string(&ConsoleAnswer { id, result }).expect("JSON");
        let mut writer = connection;
        if writeln!(writer, "{text}").is_err() {
            return;
        }
    }
}

/// The command of a request, if it has one.
pub fn command(request: &ConsoleRequest) -> Option<&str> {
    match &request.verb {
        ConsoleVerb::Exec { command } => Some(command),
        _ => None,
    }
}

/// A reply to a command.
pub fn output(text: &str) -> ConsoleResult {
    ConsoleResult::Output {
        text: text.to_owned(),
        cut: false,
    }
}

/// A failure.
pub fn failed(kind: Failure) -> ConsoleResult {
    ConsoleResult::Failed {
        kind,
        message: format!("it failed: {kind}"),
    }
}

/// The answer to `look` with these players, none of them a bot.
pub fn look(names: &[&str]) -> ConsoleResult {
    let players = names.iter().map(|name| Player {
        name: (*name).to_owned(),
        score: 3,
        seconds: 62,
    });

    ConsoleResult::Look {
        info: GameInfo {
            name: "Friday".to_owned(),
            map: "c1m1_hotel".to_owned(),
            game: "Left 4 Dead 2".to_owned(),
            players: u8::try_from(names.len()).expect("few"),
            bots: 0,
            max_players: 8,
            password: false,
            vac: true,
            version: "2.2.4.3".to_owned(),
            response_ms: 2,
        },
        players: players.collect(),
    }
}
