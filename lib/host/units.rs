//! Requests to the helper (a server's unit) and to the runner (external commands): one call is one
//! connection. Output goes to a [`Sink`] as it arrives.

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
use crate::wire::{HelperRequest, JournalEntry, LINE_LIMIT, Stream};

/// At most this many lines are passed on at once.
const CHUNK: usize = 256;

/// How many bytes of a reply are kept. The longest reply requested, a page of a journal, is a
/// fraction of that.
const KEPT: usize = 8 * 1024 * 1024;

/// A reply's lines, up to a limit: everything beyond it is read and discarded.
#[derive(Debug, Default)]
pub struct Kept {
    pub lines: Vec<(Stream, String)>,
    bytes: usize,
}

impl Kept {
    pub fn add(&mut self, lines: Vec<(Stream, String)>) {
        for (stream, line) in lines {
            // An empty line uses memory too.
            self.bytes += line.len() + 64;
            if self.bytes <= KEPT {
                self.lines.push((stream, line));
            }
        }
    }
}

/// Receives the output of a command.
pub trait Sink {
    /// The connection is open; another thread can end the command through `canceller`.
    fn opened(&mut self, canceller: Canceller);
    /// A command runs in `unit`, as the other side reports it. `server` is the process that serves
    /// the connection, as the kernel reports it.
    fn started(&mut self, unit: &str, server: Option<u32>);
    /// The command printed these lines.
    fn lines(&mut self, lines: Vec<(Stream, String)>);
    /// systemd reported this about the unit: only for a request with `observe`.
    fn observed(&mut self, _: Observed) {}
}

/// Sends one request and passes on the replies until the end. `Ok` even when the command failed:
/// check the returned end.
///
/// Fails with 69 or 77 when nothing listens, or the connection broke before the end arrived; 1 when
/// the request was refused.
pub fn ask(socket: &Path, request: &impl Serialize, sink: &mut dyn Sink) -> Result<End> {
    let mut connection = Connection::open(socket, request)?;
    sink.opened(connection.canceller());

    let mut lines: Vec<(Stream, String)> = Vec::new();
    let mut refused = None;
    loop {
        let Some(answer) = connection.next_answer()? else {
            return Err(Error::failed(format!(
                "{} ended without a word about how",
                socket.display()
            )));
        };

        if let Some(text) = answer.stdout {
            lines.push((Stream::Stdout, printable(&text).into_owned()));
        } else if let Some(text) = answer.stderr {
            lines.push((Stream::Stderr, printable(&text).into_owned()));
        } else if let Some(observation) = answer.observed {
            let unit = Unit::from_properties(observation.properties.iter().map(String::as_str));
            sink.observed(Observed {
                unit,
                at: observation.at,
            });
        } else if let Some(started) = answer.started {
            sink.started(&started.unit, connection.server_pid());
        } else if let Some(error) = answer.error {
            refused = Some(
                printable(&error)
                    .chars()
                    .take(LINE_LIMIT)
                    .collect::<String>(),
            );
        } else if let Some(exit) = answer.exit {
            let end = End {
                exit: Some(exit),
                ended_by: answer.ended_by,
                tree: answer.tree,
            };

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

/// What systemd reported about a server's unit, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub unit: Unit,
    /// Just before systemd was asked.
    pub at: Moment,
}

/// The timeout for systemd's report on a unit.
const SHOW: Duration = Duration::from_secs(10);

impl Observed {
    /// Whether systemd reported anything.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.unit.active.is_empty()
    }

    /// Asks the helper at `socket`. If that fails, the state is unknown, never a guess.
    #[must_use]
    pub fn ask(socket: &Path, server: &InstanceName) -> Self {
        let at = Moment::now();
        let (lines, end) = ask_within(
            socket,
            &HelperRequest::Show {
                server: server.clone(),
            },
            SHOW,
        );

        if let Err(error) = end {
            tracing::warn!("server {server} cannot be checked: {error}");
            return Self {
                unit: Unit::default(),
                at,
            };
        }

        Self {
            unit: Unit::from_properties(lines.iter().map(|(_, line)| line.as_str())),
            at,
        }
    }
}

/// How often a unit is read whose start failed and that systemd is starting again.
const ATTEMPTS: u32 = 12;
/// The pause between two of these reads.
const PAUSE: Duration = Duration::from_millis(150);

/// Why a unit's start failed, as far as the unit shows it. systemd 257 may have begun the next
/// attempt already, and shows no exit until that one fails too.
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

/// Collects lines until the timeout.
struct TimedLines {
    kept: Kept,
    patience: Duration,
    /// Ends the waiting thread when the reply is complete.
    done: Option<Receiver<()>>,
}

impl Sink for TimedLines {
    fn opened(&mut self, canceller: Canceller) {
        let (patience, Some(done)) = (self.patience, self.done.take()) else {
            return;
        };
        let closer = canceller.clone();
        let wait = move || {
            if done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                closer.close();
            }
        };

        if std::thread::Builder::new().spawn(wait).is_err() {
            // Without that thread there is no timeout, so no reply is better.
            canceller.close();
        }
    }
    fn started(&mut self, _: &str, _: Option<u32>) {}
    fn lines(&mut self, lines: Vec<(Stream, String)>) {
        self.kept.add(lines);
    }
}

/// [`ask`] with a timeout: the lines, and the end.
fn ask_within(
    socket: &Path,
    request: &HelperRequest,
    patience: Duration,
) -> (Vec<(Stream, String)>, Result<End>) {
    let (answered, done) = channel();
    let mut sink = TimedLines {
        kept: Kept::default(),
        patience,
        done: Some(done),
    };

    let end = ask(socket, request, &mut sink);
    drop(answered);
    (sink.kept.lines, end)
}

/// The last entries of a server's journal, including those of its overlay, from the helper, within
/// `patience`.
pub fn last_entries(
    socket: &Path,
    server: &InstanceName,
    lines: u32,
    patience: Duration,
) -> Result<Vec<JournalEntry>> {
    let request = HelperRequest::Journal {
        server: server.clone(),
        lines: Some(lines),
        follow: false,
        entries: true,
        after: None,
    };

    let lines = answer(socket, server, &request, patience)?;

    Ok(lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The last lines of a server's journal, from the helper, within `patience`.
pub fn last_lines(
    socket: &Path,
    server: &InstanceName,
    lines: u32,
    patience: Duration,
) -> Result<Vec<String>> {
    answer(
        socket,
        server,
        &HelperRequest::journal(server.clone(), lines, false),
        patience,
    )
}

fn answer(
    socket: &Path,
    server: &InstanceName,
    request: &HelperRequest,
    patience: Duration,
) -> Result<Vec<String>> {
    let (kept, end) = ask_within(socket, request, patience);
    if end?.exit != Some(0) {
        return Err(Error::failed(format!(
            "the journal of server {server} could not be read"
        )));
    }

    Ok(kept
        .into_iter()
        .filter(|(stream, _)| *stream == Stream::Stdout)
        .map(|(_, line)| line)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_is_tried_again_tells_why_it_failed_when_that_one_fails_too() {
        let again = [
            "ActiveState=activating",
            "SubState=start",
            "Result=success",
            "NRestarts=1",
        ];

        let failed = [
            "ActiveState=failed",
            "SubState=failed",
            "Result=exit-code",
            "ExecMainCode=1",
            "ExecMainStatus=203",
            "ExecMainExitTimestampMonotonic=7",
        ];

        let mut answers = vec![&failed[..], &again, &again].into_iter().rev();
        let mut show = || {
            Ok(Unit::from_properties(
                answers.next().into_iter().flatten().copied(),
            ))
        };

        assert_eq!(why_failed(&mut show), Some(unit::End::Code(203)));

        assert_eq!(why_failed(|| Err(Error::failed("gone"))), None);
        assert_eq!(
            why_failed(|| Ok(Unit::unloaded(false))),
            None,
            "nothing is known, and nothing will be"
        );
    }
}
