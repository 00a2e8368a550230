//! `--probe FILE PORT...`: asks the games on these ports of 127.0.0.1 all the time, as players'
//! programs do, and appends what changes to the file, at once and one line each:
//!
//! | line | meaning |
//! |---|---|
//! | `MS PORT answers VERSION` | it answers: the first time, after a silence, or with another version |
//! | `MS PORT silent` | its last answer was then, and [`SILENT`] has passed |
//!
//! MS is the Unix time. The first line is `MS begun`. It runs until a signal ends it.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::query::{INFO_REQUEST, SIMPLE};

/// How often each game is asked.
const EVERY: Duration = Duration::from_millis(100);

/// So long without an answer is written down.
const SILENT: Duration = Duration::from_millis(300);

type Log = Arc<Mutex<File>>;

pub fn command(arguments: &[String]) -> ExitCode {
    let [file, ports @ ..] = arguments else {
        eprintln!("standin-srcds --probe FILE PORT...");
        return ExitCode::from(2);
    };
    let opened = File::options().create(true).append(true).open(file);
    let Ok(file) = opened.inspect_err(|error| eprintln!("{file}: {error}")) else {
        return ExitCode::FAILURE;
    };

    let log: Log = Arc::new(Mutex::new(file));
    write(&log, &format!("{} begun", now()));
    let threads: Vec<_> = ports
        .iter()
        .map(|port| {
            let (port, log) = (port.clone(), Arc::clone(&log));
            thread::spawn(move || probe(&port, &log))
        })
        .collect();
    for thread in threads {
        if let Ok(Err(error)) = thread.join() {
            eprintln!("probe: {error}");
        }
    }
    ExitCode::FAILURE
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn write(log: &Log, line: &str) {
    let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = file.write_all(format!("{line}\n").as_bytes());
}

/// One game, asked for ever.
fn probe(port: &str, log: &Log) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(format!("127.0.0.1:{port}"))?;
    let (mut challenge, mut version) = (Vec::new(), None);
    let mut last = (Instant::now(), now());
    loop {
        let due = Instant::now() + EVERY;
        // A closed port refuses at once: that is no answer.
        let _ = socket.send(&[INFO_REQUEST, &challenge].concat());
        while let Some(reply) = receive(&socket, due) {
            if let Some(given) = reply.strip_prefix(b"A") {
                challenge = given.to_vec();
                let _ = socket.send(&[INFO_REQUEST, &challenge].concat());
            } else if let Some(found) = version_of(&reply) {
                last = (Instant::now(), now());
                if version.as_ref() != Some(&found) {
                    write(log, &format!("{} {port} answers {found}", last.1));
                    version = Some(found);
                }
                break;
            }
        }

        if version.is_some() && last.0.elapsed() > SILENT {
            write(log, &format!("{} {port} silent", last.1));
            version = None;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// An answer, without the four bytes that every one begins with; none if `due` comes first.
fn receive(socket: &UdpSocket, due: Instant) -> Option<Vec<u8>> {
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    socket.set_read_timeout(Some(left)).ok()?;
    let mut reply = [0_u8; 1400];
    let length = socket.recv(&mut reply).ok()?;
    reply[..length].strip_prefix(SIMPLE).map(<[u8]>::to_vec)
}

/// The version in an A2S_INFO.
fn version_of(reply: &[u8]) -> Option<String> {
    let mut rest = reply.strip_prefix(b"I")?.get(1..)?;
    // Name, map, folder, game.
    for _ in 0..4 {
        let end = rest.iter().position(|byte| *byte == 0)?;
        rest = &rest[end + 1..];
    }
    // App id, players, most of them, bots, kind, system, password, VAC.
    let text = rest.get(9..)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}
