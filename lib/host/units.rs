//! What systemd reports of a server's unit, and what its journal says, from the helper.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::clock::Moment;
use crate::base::names::InstanceName;
use crate::base::output::printable;
use crate::base::{Error, Result};
use crate::domain::server::ActualState;
use crate::domain::unit::{self, Unit};
use crate::wire::client::{Connection, Output};
use crate::wire::{HelperRequest, JournalEntry, Observation, Stream};

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

    /// The lines of standard output.
    pub fn stdout(&self) -> impl Iterator<Item = &str> {
        let stdout = self.lines.iter();
        stdout.filter_map(|(stream, line)| (*stream == Stream::Stdout).then_some(line.as_str()))
    }
}

/// What systemd reported about a server's unit, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub unit: Unit,
    /// Just before systemd was asked.
    pub at: Moment,
}

impl From<Observation> for Observed {
    fn from(Observation { at, properties }: Observation) -> Self {
        let unit = Unit::from_properties(properties.iter().map(String::as_str));
        Self { unit, at }
    }
}

/// The timeout for systemd's report on a unit.
const SHOW: Duration = Duration::from_secs(10);

impl Observed {
    pub fn is_known(&self) -> bool {
        !self.unit.active.is_empty()
    }

    /// Asks the helper at `socket`. If that fails, the state is unknown, never a guess.
    pub fn ask(socket: &Path, server: &InstanceName) -> Self {
        let at = Moment::now();
        let request = HelperRequest::Show {
            server: server.clone(),
        };

        let unit = match ask_within(socket, &request, SHOW) {
            Ok(reply) => Unit::from_properties(reply.stdout()),
            Err(error) => {
                tracing::warn!("the state of server {server} cannot be read: {error}");
                Unit::default()
            }
        };

        Self { unit, at }
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

/// The reply to a request that only reads, within `limit`.
fn ask_within(socket: &Path, request: &HelperRequest, limit: Duration) -> Result<Kept> {
    let mut connection = Connection::open(socket, request)?;
    connection.set_deadline(Instant::now() + limit);

    let mut kept = Kept::default();
    let end = connection.run(|output| {
        if let Output::Lines(lines) = output {
            kept.add(printable_lines(lines));
        }
        Ok(())
    })?;

    match end.refused {
        Some(why) => Err(Error::failed(why)),
        None if end.exit != 0 => Err(Error::failed(format!(
            "{} failed with exit code {}",
            request.verb(),
            end.exit
        ))),
        None => Ok(kept),
    }
}

/// Makes lines of a command safe to show.
pub fn printable_lines(mut lines: Vec<(Stream, String)>) -> Vec<(Stream, String)> {
    for (_, line) in &mut lines {
        if let std::borrow::Cow::Owned(shown) = printable(line) {
            *line = shown;
        }
    }

    lines
}

/// The last entries of a server's journal, including those of its overlay, from the helper, within
/// `limit`.
pub fn last_entries(
    socket: &Path,
    server: &InstanceName,
    lines: u32,
    limit: Duration,
) -> Result<Vec<JournalEntry>> {
    let request = HelperRequest::Journal {
        server: server.clone(),
        lines: Some(lines),
        follow: false,
        entries: true,
        after: None,
    };

    let reply = ask_within(socket, &request, limit)?;
    Ok(reply
        .stdout()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The last lines of a server's journal, from the helper, within `limit`.
pub fn last_lines(
    socket: &Path,
    server: &InstanceName,
    lines: u32,
    limit: Duration,
) -> Result<Vec<String>> {
    let request = HelperRequest::journal(server.clone(), lines, false);
    let reply = ask_within(socket, &request, limit)?;
    Ok(reply.stdout().map(str::to_owned).collect())
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
