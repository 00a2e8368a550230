//! The log of a job of another host: that host is asked for it now, and nothing keeps it here.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::base::names::{FleetHost, JobId};
use crate::base::{Error, Exit, Result, output};
use crate::cli::follow;
use crate::domain::fleet::question::{Failure, Question};
use crate::queue::wake;
use crate::wire::gate::GateAnswer;
use crate::wire::link::AskHost;

/// How long the answer may take: left4me-link waits 20 s for the other host, and systemd may have to
/// start left4me-gate here to open it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer, in bytes.
const LONGEST: u64 = 2 * 1024 * 1024;

/// How often the log is asked for while it is followed.
const EVERY: Duration = Duration::from_secs(1);

/// What is printed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub after: i64,
    pub follow: bool,
    pub json: bool,
}

/// A part of a log, as queue/fleet/answer.rs makes it.
#[derive(Deserialize)]
struct Part {
    lines: Vec<serde_json::Value>,
    is_end: bool,
}

#[derive(Deserialize)]
struct Job {
    state: String,
    error: Option<String>,
}

/// Prints the log of a job of `host`; until the job ends, if it is followed.
///
/// Fails with 69 if this host or the other one has no connection to the engine; 77 if what came is not
/// signed by that host, or it refuses; 3 for a job that it does not have; 1 if the job that was followed
/// did not succeed.
pub fn logs(socket: &Path, host: &FleetHost, job: JobId, options: Options) -> Result<ExitCode> {
    if options.follow {
        follow::exit_on_interrupt(format!(
            "stopped watching; job {job} on {host} keeps running"
        ));
    }
    let mut after = options.after;
    loop {
        let part: Part = ask(socket, host, Question::Log { job: job.0, after })?;
        for line in &part.lines {
            print(line, options.json)?;
            // The other host's numbers only grow; otherwise this would go on and on.
            let seq = line["seq"].as_i64().filter(|seq| *seq > after);
            after = seq.ok_or_else(|| strange(host, "lines without numbers"))?;
        }
        match (part.is_end, options.follow) {
            (true, true) => return end(socket, host, job),
            (true, false) => return Ok(ExitCode::SUCCESS),
            (false, false) if part.lines.is_empty() => return Ok(ExitCode::SUCCESS),
            (false, _) if part.lines.is_empty() => std::thread::sleep(EVERY),
            (false, _) => {}
        }
    }
}

fn print(line: &serde_json::Value, json: bool) -> Result<()> {
    let text = output::printable(line["line"].as_str().unwrap_or_default());
    match line["stream"].as_str() {
        _ if json => output::json(line),
        Some("stderr") => {
            eprintln!("{text}");
            Ok(())
        }
        _ => output::line(&text),
    }
}

fn end(socket: &Path, host: &FleetHost, job: JobId) -> Result<ExitCode> {
    let ended: Job = ask(socket, host, Question::Job { job: job.0 })?;
    if ended.state == "succeeded" {
        return Ok(ExitCode::SUCCESS);
    }
    let why = ended
        .error
        .map_or_else(String::new, |why| format!(": {why}"));
    Err(Error::failed(format!(
        "job {job} on {host} {}{why}",
        ended.state
    )))
}

/// Asks another host, by left4me-link's socket for questions.
fn ask<T: DeserializeOwned>(socket: &Path, host: &FleetHost, question: Question) -> Result<T> {
    let request = AskHost {
        host: host.clone(),
        question,
    };
    let mut line = serde_json::to_vec(&request)
        .map_err(|error| Error::failed(format!("the question: {error}")))?;
    line.push(b'\n');

    let mut answer = Vec::new();
    let asked = UnixStream::connect(socket).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&line)?;
        BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut answer)
    });
    if let Err(error) = asked {
        return Err(not_asked(socket, &error));
    }

    match serde_json::from_slice(&answer) {
        Ok(GateAnswer::Asked(value)) => match Failure::of(&value) {
            Some(Failure { error, exit }) => Err(Error::new(Exit::Foreign(exit), error)),
            None => {
                serde_json::from_value(value).map_err(|error| strange(host, &error.to_string()))
            }
        },
        Ok(GateAnswer::Failed { why }) => Err(Error::unavailable(format!("{host}: {why}"))),
        Ok(_) => Err(strange(host, "another answer than was asked for")),
        Err(error) => Err(strange(host, &error.to_string())),
    }
}

fn not_asked(socket: &Path, error: &std::io::Error) -> Error {
    let path = socket.display();
    match error.kind() {
        ErrorKind::PermissionDenied => wake::members_only(socket),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::unavailable(format!(
            "left4me-link does not listen at {path}: `systemctl status left4me-link` says why"
        )),
        _ => Error::unavailable(format!("{path}: {error}")),
    }
}

fn strange(host: &FleetHost, why: &str) -> Error {
    Error::unavailable(format!(
        "{host} gave an answer that is not understood here: {why}; does it have another version of \
         left4me?"
    ))
}
