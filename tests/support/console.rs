//! Serves console.sock in the place of left4me-console: each request is answered by a closure.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use left4me::wire::console::{
    ConsoleAnswer, ConsoleRequest, ConsoleResult, ConsoleVerb, Failure, GameInfo, Player,
};
use left4me::wire::parse;

/// A socket that answers until it is dropped.
pub struct FakeConsole {
    path: PathBuf,
    requests: Arc<Mutex<Vec<ConsoleRequest>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeConsole {
    /// Serves this socket. `answer` gives no answer, as a game that hangs, with none.
    pub fn start(
        path: &Path,
        answer: impl Fn(&ConsoleRequest) -> Option<ConsoleResult> + Send + Sync + 'static,
    ) -> Self {
        std::fs::remove_file(path).ok();
        let listener = UnixListener::bind(path).expect("a socket");
        let requests: Arc<Mutex<Vec<ConsoleRequest>>> = Arc::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let (kept, over, answer) = (
            Arc::clone(&requests),
            Arc::clone(&is_over),
            Arc::new(answer),
        );

        let thread = std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || answer_all(&connection, &kept, &*answer));
            }
        });

        Self {
            path: path.to_owned(),
            requests,
            is_over,
            thread: Some(thread),
        }
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<ConsoleRequest> {
        self.requests.lock().expect("no panic").clone()
    }
}

impl Drop for FakeConsole {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes it, so that it sees that.
        UnixStream::connect(&self.path).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        std::fs::remove_file(&self.path).ok();
    }
}

fn answer_all(
    mut connection: &UnixStream,
    requests: &Mutex<Vec<ConsoleRequest>>,
    answer: &(dyn Fn(&ConsoleRequest) -> Option<ConsoleResult> + Sync),
) {
    let reader = connection.try_clone().expect("a descriptor");
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { return };
        let request: ConsoleRequest = parse(&line).expect("a request");
        requests.lock().expect("no panic").push(request.clone());
        if let Some(result) = answer(&request) {
            let answer = ConsoleAnswer {
                id: request.id,
                result,
            };
            let line = serde_json::to_string(&answer).expect("JSON") + "\n";
            connection.write_all(line.as_bytes()).ok();
        }
    }
}

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

/// The answer to a look: these people play on c1m1_hotel, which has room for eight.
pub fn look(names: &[&str]) -> ConsoleResult {
    let players = names.iter().map(|name| Player {
        name: (*name).to_owned(),
        score: 5,
        seconds: 61,
    });

    ConsoleResult::Look {
        info: info(names.len()),
        players: players.collect(),
    }
}

/// What a game says of itself while so many people play.
pub fn info(players: usize) -> GameInfo {
    GameInfo {
        name: "Friday".to_owned(),
        map: "c1m1_hotel".to_owned(),
        game: "Left 4 Dead 2".to_owned(),
        players: players.try_into().expect("a few"),
        bots: 0,
        max_players: 8,
        password: false,
        vac: true,
        version: "2.2.4.3".to_owned(),
        response_ms: 12,
    }
}

/// What left4me-console says if the game does not answer.
pub fn silence() -> ConsoleResult {
    ConsoleResult::Failed {
        kind: Failure::NoAnswer,
        message: "the game does not answer".to_owned(),
    }
}
