//! A server's unit by way of the helper, foreign commands by way of the runner: one call is one connection. What comes
//! back goes to a [`Sink`] as it comes.

use std::path::Path;

use serde::Serialize;

use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::db::runners::End;
use crate::domain::server::ActualState;
use crate::wire::client::{Canceller, Connection};
use crate::wire::{HelperRequest, Started, Stream};

/// At most so many lines are handed over at once.
const CHUNK: usize = 256;

/// Where a command's words go.
pub trait Sink {
    /// The connection is open; the command can be ended by this from another thread.
    fn opened(&mut self, canceller: Canceller);
    /// A command runs.
    fn started(&mut self, started: Started);
    /// It printed these.
    fn lines(&mut self, lines: Vec<(Stream, String)>);
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
            lines.push((Stream::Stdout, text.into_owned()));
        } else if let Some(text) = answer.stderr {
            lines.push((Stream::Stderr, text.into_owned()));
        } else if let Some(started) = answer.started {
            sink.started(started);
        } else if let Some(error) = answer.error {
            refused = Some(error.into_owned());
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

/// What systemd says of a server's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// In our words.
    pub actual: ActualState,
    /// ActiveState.
    pub active: String,
    /// SubState.
    pub sub: String,
    /// Result: `success`, `exit-code`, `signal`, `oom-kill`, …
    pub result: String,
    /// Whether the unit is enabled; none when systemd does not say.
    pub enabled: Option<bool>,
}

/// Keeps the lines of a `show` for itself.
#[derive(Default)]
struct Quiet(Vec<(Stream, String)>);

impl Sink for Quiet {
    fn opened(&mut self, _: Canceller) {}
    fn started(&mut self, _: Started) {}
    fn lines(&mut self, lines: Vec<(Stream, String)>) {
        self.0.extend(lines);
    }
}

impl Observed {
    /// Asks the helper at `socket`. When it cannot tell, the state is unknown, never a guess.
    #[must_use]
    pub fn ask(socket: &Path, server: &InstanceName) -> Self {
        let mut lines = Quiet::default();
        if let Err(error) = ask(socket, &HelperRequest::Show { server: server.clone() }, &mut lines) {
            tracing::warn!("server {server} cannot be looked at: {error}");
            lines.0.clear();
        }
        Self::from_properties(lines.0.iter().map(|(_, line)| line.as_str()))
    }

    /// From the `Name=value` lines that the helper's `show` prints.
    #[must_use]
    pub fn from_properties<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut observed = Observed {
            actual: ActualState::Unknown,
            active: String::new(),
            sub: String::new(),
            result: String::new(),
            enabled: None,
        };
        for (name, value) in lines.filter_map(|line| line.split_once('=')) {
            match name {
                "ActiveState" => value.clone_into(&mut observed.active),
                "SubState" => value.clone_into(&mut observed.sub),
                "Result" => value.clone_into(&mut observed.result),
                "UnitFileState" => {
                    observed.enabled = match value {
                        "enabled" | "enabled-runtime" => Some(true),
                        "disabled" => Some(false),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        observed.actual = ActualState::from_unit(&observed.active, &observed.sub);
        observed
    }

    /// Whether the unit is down though it was just started, or is about to be restarted after a crash.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.actual == ActualState::Failed || self.sub.starts_with("auto-restart")
    }

    /// `active, running`, and the result when it is not success.
    #[must_use]
    pub fn words(&self) -> String {
        let result = if self.result.is_empty() || self.result == "success" {
            String::new()
        } else {
            format!(", {}", self.result)
        };
        format!("{}, {}{result}", self.active, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_show_prints_becomes_a_state() {
        let lines =
            ["LoadState=loaded", "ActiveState=active", "SubState=running", "Result=success", "UnitFileState=enabled"];
        let observed = Observed::from_properties(lines.into_iter());
        assert_eq!((observed.actual, observed.enabled), (ActualState::Running, Some(true)));
        assert_eq!(observed.words(), "active, running");
    }

    #[test]
    fn nothing_said_is_unknown_and_a_crash_loop_is_a_failed_start() {
        assert_eq!(Observed::from_properties(std::iter::empty()).actual, ActualState::Unknown);
        let lines = ["ActiveState=activating", "SubState=auto-restart", "Result=exit-code"];
        assert!(Observed::from_properties(lines.into_iter()).has_failed());
    }
}
