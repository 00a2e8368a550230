//! A server's unit by way of the helper, foreign commands by way of the runner: one call is one connection. What comes
//! back goes to a [`Sink`] as it comes.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::Serialize;

use crate::base::clock::Moment;
use crate::base::names::InstanceName;
use crate::base::output::printable;
use crate::base::{Error, Result};
use crate::db::runners::End;
use crate::domain::server::ActualState;
use crate::domain::unit::{self, Unit};
use crate::wire::client::{Canceller, Connection};
use crate::wire::{Entry, HelperRequest, LINE_LIMIT, Stream};

/// At most so many lines are handed over at once.
const CHUNK: usize = 256;

/// More of an answer is not kept, in bytes: the longest one that is asked for, a page of a journal, is a part of it.
const KEPT: usize = 8 * 1024 * 1024;

/// An answer's lines, up to a limit: what comes beyond is read and forgotten.
#[derive(Debug, Default)]
pub struct Kept {
    /// The lines.
    pub lines: Vec<(Stream, String)>,
    bytes: usize,
}

impl Kept {
    /// Takes more of them.
    pub fn add(&mut self, lines: Vec<(Stream, String)>) {
        for (stream, line) in lines {
            // An empty line takes room, too.
            self.bytes += line.len() + 64;
            if self.bytes <= KEPT {
                self.lines.push((stream, line));
            }
        }
    }
}

/// Where a command's words go.
pub trait Sink {
    /// The connection is open; the command can be ended by this from another thread.
    fn opened(&mut self, canceller: Canceller);
    /// Something runs: `unit` by the other side's own word, and the process that serves the connection by the kernel's.
    fn started(&mut self, unit: &str, server: Option<u32>);
    /// It printed these.
    fn lines(&mut self, lines: Vec<(Stream, String)>);
    /// systemd reported this of the unit: only for a request with `observe`.
    fn observed(&mut self, _: Observed) {}
}

/// Sends one request and passes on what comes back, until the end. `Ok` also when the command failed: look at the end.
///
/// # Errors
/// 69 or 77 when nobody listens, or the connection broke before the end was told; 1 when the request was refused.
pub fn ask(socket: &Path, request: &impl Serialize, sink: &mut dyn Sink) -> Result<End> {
    let mut connection = Connection::open(socket, request)?;
    sink.opened(connection.canceller());
    let mut lines: Vec<(Stream, String)> = Vec::new();
    let mut refused = None;
    loop {
        let Some(answer) = connection.next_answer()? else {
            return Err(Error::failed(format!("{} ended without a word about how", socket.display())));
        };
        if let Some(text) = answer.stdout {
            lines.push((Stream::Stdout, printable(&text).into_owned()));
        } else if let Some(text) = answer.stderr {
            lines.push((Stream::Stderr, printable(&text).into_owned()));
        } else if let Some(observation) = answer.observed {
            let unit = Unit::from_properties(observation.properties.iter().map(String::as_str));
            sink.observed(Observed { unit, at: observation.at });
        } else if let Some(started) = answer.started {
            sink.started(&started.unit, connection.server());
        } else if let Some(error) = answer.error {
            refused = Some(printable(&error).chars().take(LINE_LIMIT).collect::<String>());
        } else if let Some(exit) = answer.exit {
            let end = End { exit: Some(exit), ended_by: answer.ended_by, tree: answer.tree };
            if !lines.is_empty() {
                sink.lines(lines);
            }
            return match refused {
                Some(why) => Err(Error::failed(why)),
                None => Ok(end),
            };
        }
        if lines.len() >= CHUNK || (!lines.is_empty() && !connection.has_buffered()) {
            sink.lines(std::mem::take(&mut lines));
        }
    }
}

/// What systemd said of a server's unit, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What it said.
    pub unit: Unit,
    /// Just before it was asked.
    pub at: Moment,
}

/// How long systemd may take to say what a unit is.
const SHOW: Duration = Duration::from_secs(10);

impl Observed {
    /// Whether systemd said anything.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.unit.active.is_empty()
    }

    /// Asks the helper at `socket`. When it cannot tell, the state is unknown, never a guess.
    #[must_use]
    pub fn ask(socket: &Path, server: &InstanceName) -> Self {
        let at = Moment::now();
        let (lines, end) = ask_within(socket, &HelperRequest::Show { server: server.clone() }, SHOW);
        if let Err(error) = end {
            tracing::warn!("server {server} cannot be looked at: {error}");
            return Self { unit: Unit::default(), at };
        }
        Self { unit: Unit::from_properties(lines.iter().map(|(_, line)| line.as_str())), at }
    }
}

/// How often, and how long apart, a unit is read whose start failed and that is being started
/// again.
const ATTEMPTS: u32 = 12;
/// See [`ATTEMPTS`].
const PAUSE: Duration = Duration::from_millis(150);

/// Why a unit's start failed, as far as the unit says. systemd 257 may be at the next attempt
/// already, and knows no end then until that one fails too.
pub fn why_failed(mut show: impl FnMut() -> Result<Unit>) -> Option<unit::End> {
    for _ in 0..ATTEMPTS {
        let unit = show().ok()?;
        if let Some(end) = unit.end().filter(unit::End::is_crash) {
            return Some(end);
        }
        if unit.actual() != ActualState::Starting {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    None
}

/// Keeps lines for as long as somebody has patience for the rest.
struct Hurried {
    kept: Kept,
    patience: Duration,
    /// Ends the waiting thread when the answer is there.
    done: Option<Receiver<()>>,
}

impl Sink for Hurried {
    fn opened(&mut self, canceller: Canceller) {
        let (patience, Some(done)) = (self.patience, self.done.take()) else { return };
        let closer = canceller.clone();
        let wait = move || {
            if done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                closer.close();
            }
        };
        if std::thread::Builder::new().spawn(wait).is_err() {
            // Rather no answer than one that nobody knows when to stop waiting for.
            canceller.close();
        }
    }
    fn started(&mut self, _: &str, _: Option<u32>) {}
    fn lines(&mut self, lines: Vec<(Stream, String)>) {
        self.kept.add(lines);
    }
}

/// [`ask`], for an answer that has to come in time: the lines, and the end.
fn ask_within(socket: &Path, request: &HelperRequest, patience: Duration) -> (Vec<(Stream, String)>, Result<End>) {
    let (answered, done) = channel();
    let mut sink = Hurried { kept: Kept::default(), patience, done: Some(done) };
    let end = ask(socket, request, &mut sink);
    drop(answered);
    (sink.kept.lines, end)
}

/// The last entries of a server's journal, its overlay's among them, by way of the helper, which has `patience`.
///
/// # Errors
/// As [`last_lines`].
pub fn last_entries(socket: &Path, server: &InstanceName, lines: u32, patience: Duration) -> Result<Vec<Entry>> {
    let request = HelperRequest::Journal {
        server: server.clone(),
        lines: Some(lines),
        follow: false,
        entries: true,
        after: None,
    };
    let lines = answer(socket, server, &request, patience)?;
    Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The last lines of a server's journal, by way of the helper, which has `patience` to tell them.
///
/// # Errors
/// As [`ask`]; 1 when the journal could not be read, or not in time.
pub fn last_lines(socket: &Path, server: &InstanceName, lines: u32, patience: Duration) -> Result<Vec<String>> {
    answer(socket, server, &HelperRequest::journal(server.clone(), lines, false), patience)
}

fn answer(socket: &Path, server: &InstanceName, request: &HelperRequest, patience: Duration) -> Result<Vec<String>> {
    let (kept, end) = ask_within(socket, request, patience);
    if end?.exit != Some(0) {
        return Err(Error::failed(format!("the journal of server {server} could not be read")));
    }
    Ok(kept.into_iter().filter(|(stream, _)| *stream == Stream::Stdout).map(|(_, line)| line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_is_tried_again_tells_why_it_failed_when_that_one_fails_too() {
        let again = ["ActiveState=activating", "SubState=start", "Result=success", "NRestarts=1"];
        let failed = [
            "ActiveState=failed",
            "SubState=failed",
            "Result=exit-code",
            "ExecMainCode=1",
            "ExecMainStatus=203",
            "ExecMainExitTimestampMonotonic=7",
        ];
        let mut answers = vec![&failed[..], &again, &again].into_iter().rev();
        let mut show = || Ok(Unit::from_properties(answers.next().into_iter().flatten().copied()));
        assert_eq!(why_failed(&mut show), Some(unit::End::Code(203)));

        assert_eq!(why_failed(|| Err(Error::failed("gone"))), None);
        assert_eq!(why_failed(|| Ok(Unit::unloaded(false))), None, "nothing is known, and nothing will be");
    }
}
