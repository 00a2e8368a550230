//! The line protocol of runner and helper. On each connection the client sends one request line,
//! and the server sends answer lines; meanwhile the client may send control lines. Closing the
//! connection ends the command.
//!
//! A request is a closed enum that refuses unknown fields, so that no other request is possible.

pub mod batch;
pub mod client;
pub mod console;
pub mod gate;
pub mod line;
pub mod link;
pub mod session;
pub mod timers;

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::Moment;
use crate::base::control_group::ControlGroup;
use crate::base::names::{Cursor, InstanceName, ScheduleId};
pub use crate::domain::build::Builds;
use batch::{BatchRequest, BatchVerb};
use timers::Timer;

/// The longest request or control line, in bytes without its line break.
pub const REQUEST_LIMIT: usize = 4096;

/// The longest answer line that a client accepts, in bytes: a full log line in which every
/// character is escaped, and its frame.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// The longest line of output, in characters, that is relayed whole; a longer one is cut with
/// [`CUT_MARK`].
pub const LINE_LIMIT: usize = 4096;

/// The end of a line that was cut.
pub const CUT_MARK: &str = " […]";

/// The exit code for a refused request (EX_USAGE).
pub const REFUSED: i32 = 64;

/// The requests that the helper accepts over its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HelperRequest {
    /// `systemctl enable --now left4me-server@SERVER`
    Enable {
        server: InstanceName,
        /// Whether an [`Observation`] of the unit is sent before the end.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observe: bool,
    },
    /// `systemctl disable --now left4me-server@SERVER`; also unmounts its overlay and resets a
    /// failed state.
    Disable {
        server: InstanceName,
        /// As in `Enable`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observe: bool,
        /// As in [`BatchRequest`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// The unit's properties, as `Name=value` lines.
    Show { server: InstanceName },
    Journal {
        server: InstanceName,
        /// Number of lines to print, counted from the end; 100 by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines: Option<u32>,
        /// Whether to follow with new lines until the connection closes.
        #[serde(default)]
        follow: bool,
        /// Whether each line of output is a [`JournalEntry`] as JSON, not text for people.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        entries: bool,
        /// Only what follows this entry. Then `lines` counts from it, and all follow by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Cursor>,
    },
    /// Runs `left4me-purge@SERVER`: empties the upper layer, and removes runtime/SERVER when
    /// instances/SERVER is gone.
    Purge { server: InstanceName },
    /// Runs `left4me-stale@SERVER`: finds the files of the upper layer that hide newer game files,
    /// and gives each as a [`Line`](crate::domain::stale::Line) in a line of JSON.
    Stale { server: InstanceName },
    /// Runs `left4me-purge-stale@SERVER`: removes these files, and gives them in the same way.
    PurgeStale { server: InstanceName },
    /// The timers of schedules that systemd has, each as a [`timers::TimerState`] in a line of JSON.
    Timers {},
    /// Makes these timers, also in place of those that there are, and starts them.
    SetTimers { timers: Vec<Timer> },
    /// Stops the timers of these schedules, with which they are gone.
    RemoveTimers { schedules: Vec<ScheduleId> },
}

/// One entry of a unit's journal, for a request with `entries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its position: a later request can ask for what follows, also after a restart.
    pub cursor: Cursor,
    /// Unix ms.
    pub at: i64,
    /// Its source: `systemd`, or the name of a program of the unit; empty when unknown.
    pub from: String,
    /// Its message: printable, at most [`LINE_LIMIT`] characters.
    pub line: String,
}

/// The longest grace of a command that only reads: it has nothing to finish.
const READING_GRACE: Duration = Duration::from_secs(1);

impl HelperRequest {
    /// The last `lines` lines of the unit's journal, as text for people.
    pub fn journal(server: InstanceName, lines: u32, follow: bool) -> Self {
        HelperRequest::Journal {
            server,
            lines: Some(lines),
            follow,
            entries: false,
            after: None,
        }
    }

    /// The time between SIGTERM and SIGKILL for its commands. `grace` is the setting for commands
    /// that change something.
    pub fn grace(&self, grace: Duration) -> Duration {
        match self {
            HelperRequest::Show { .. }
            | HelperRequest::Journal { .. }
            | HelperRequest::Stale { .. }
            | HelperRequest::Timers {} => grace.min(READING_GRACE),
            HelperRequest::Enable { .. }
            | HelperRequest::Disable { .. }
            | HelperRequest::Purge { .. }
            | HelperRequest::PurgeStale { .. }
            | HelperRequest::SetTimers { .. }
            | HelperRequest::RemoveTimers { .. } => grace,
        }
    }

    /// The line of a batch that does the same; none for what no batch does.
    pub fn in_batch(&self) -> Option<BatchRequest> {
        Some(match self {
            HelperRequest::Enable { server, .. } => BatchRequest::one(BatchVerb::Enable, server),
            HelperRequest::Disable { server, again, .. } => BatchRequest {
                again: *again,
                ..BatchRequest::one(BatchVerb::Disable, server)
            },
            HelperRequest::Show { server } => BatchRequest::one(BatchVerb::Show, server),
            HelperRequest::Journal { .. }
            | HelperRequest::Purge { .. }
            | HelperRequest::Stale { .. }
            | HelperRequest::PurgeStale { .. }
            | HelperRequest::Timers {}
            | HelperRequest::SetTimers { .. }
            | HelperRequest::RemoveTimers { .. } => return None,
        })
    }

    /// The request's name, for logs and messages.
    pub fn verb(&self) -> &'static str {
        match self {
            HelperRequest::Enable { .. } => "enable",
            HelperRequest::Disable { .. } => "disable",
            HelperRequest::Show { .. } => "show",
            HelperRequest::Journal { .. } => "journal",
            HelperRequest::Purge { .. } => "purge",
            HelperRequest::Stale { .. } => "stale",
            HelperRequest::PurgeStale { .. } => "purge-stale",
            HelperRequest::Timers {} => "timers",
            HelperRequest::SetTimers { .. } => "set-timers",
            HelperRequest::RemoveTimers { .. } => "remove-timers",
        }
    }
}

/// The requests that the runner accepts over its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RunnerRequest {
    /// Installs or updates the game with steamcmd: both platform passes, retries, and the
    /// verification of the manifest.
    Install {},
    /// Asks Steam which build is published. Changes nothing.
    Check {},
}

/// The requests that the publisher accepts over its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PublisherRequest {
    /// Copies the current build to an installation/ that is empty, so that steamcmd has something
    /// to start from. Nothing to do if there is an installation.
    Seed {},
    /// Copies installation/ to builds/, and makes it the current build. Nothing is copied if that
    /// build is there already.
    Publish {
        /// The job that asks for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<i64>,
        /// Copy every file: a repair may have changed files of which nothing else shows that.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fresh: bool,
    },
    /// Makes a published build the current one.
    Use { build: u64 },
    /// Moves the files of the current build back to an installation/ that is empty; then no build
    /// is current. For LEFT4ME_BUILDS=in-place; nothing may be mounted.
    Unpublish {},
    /// Removes a build that is not the current one. The caller knows that no server uses it.
    Remove { build: u64 },
}

/// A request to one of the three.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Request {
    Helper(HelperRequest),
    Runner(RunnerRequest),
    Publisher(PublisherRequest),
}

impl Request {
    /// The request's name, for logs and messages.
    pub fn verb(&self) -> &'static str {
        match self {
            Request::Helper(request) => request.verb(),
            Request::Runner(RunnerRequest::Install {}) => "install",
            Request::Runner(RunnerRequest::Check {}) => "check",
            Request::Publisher(request) => match request {
                PublisherRequest::Seed {} => "seed",
                PublisherRequest::Publish { .. } => "publish",
                PublisherRequest::Use { .. } => "use",
                PublisherRequest::Unpublish {} => "unpublish",
                PublisherRequest::Remove { .. } => "remove",
            },
        }
    }
}

/// A control line from the client while the command runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// How to end the command.
    pub cancel: Cancel,
    /// Only in a batch: the server whose operation is cancelled; without it all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<InstanceName>,
}

/// How a command is cancelled. The greater value is the stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cancel {
    /// Terminate it; kill it after the grace.
    Terminate,
    /// Kill it now.
    Kill,
}

/// Which step of the kill escalation ended the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// It ended by itself.
    Exit,
    /// It ended after the first signal.
    Terminate,
    /// It was killed.
    Kill,
}

/// Whether a process of the command's tree is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tree {
    /// No process is left.
    Empty,
    /// At least one process could not be killed in time.
    Left,
}

/// How many `started` answers one connection may send. An installation with every retry sends
/// twelve.
pub const STARTED_LIMIT: usize = 64;

/// What serves a connection, according to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub unit: Option<String>,
    /// The process of it that answered.
    pub pid: Option<u32>,
    pub group: Option<ControlGroup>,
}

/// `{"started":{…}}`: what runs now. A client that acts on a pid or control group asks the kernel
/// ([`Served`]) instead. Under systemd the first one comes before any work and names the program
/// that serves the connection itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The unit instance that serves the connection; empty outside systemd.
    pub unit: String,
    pub pid: u32,
    /// Its control group, as in /proc/PID/cgroup: the command's own, or the unit's; empty where
    /// there is none.
    #[serde(default)]
    pub cgroup: String,
}

/// What systemd reported of a unit. It saves the client a second request, for which systemd would
/// set up the helper's whole sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Just before systemd was asked, on this host's clocks.
    pub at: Moment,
    /// `Name=value`, as `show` prints them.
    pub properties: Vec<String>,
}

/// One answer line. Exactly one of `started`, `stdout`, `stderr`, `observed`, `builds`, `error` and
/// `exit` is set; `ended_by` and `tree` go with `exit`. It is a struct of options, not an untagged enum, so
/// that it parses in one pass, at the rate of log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<'a> {
    /// Only in a batch: the server that the answer concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<InstanceName>,
    /// What runs now. It may come more than once, when a request takes several commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    /// A line of the command's output.
    #[serde(
        borrow,
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub stdout: Option<Cow<'a, str>>,
    /// A line of the command's error output, or a message of the server.
    #[serde(
        borrow,
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub stderr: Option<Cow<'a, str>>,
    /// What systemd reported of the unit; only for a request with `observe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observation>,
    /// Which builds of the game there are; only for `check` and `install`. No line of output, so that
    /// nothing that steamcmd prints can be taken for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builds: Option<Builds>,
    /// Why the request was refused or could not be carried out.
    #[serde(
        borrow,
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub error: Option<Cow<'a, str>>,
    /// The end: the command's exit code, 128+n for a signal, 64 for a refused request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// With `exit`: how it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// With `exit`: whether a process is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

/// The two streams of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output; on a PTY all output.
    Stdout,
    /// Standard error, and messages of left4me's own programs.
    Stderr,
}

impl Stream {
    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Parses a request or control line: one JSON object. serde alone would also accept a list of the
/// fields' values.
pub fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, String> {
    if !line.trim_start().starts_with('{') {
        return Err("a JSON object is needed".to_owned());
    }
    serde_json::from_str(line).map_err(|error| error.to_string())
}

/// Borrows the text when it has no escapes. serde's own `Option<Cow<str>>` is always owned.
fn text<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    Ok(Option::<Text<'a>>::deserialize(from)?.map(|text| text.0))
}

impl<'a> Answer<'a> {
    pub fn line(stream: Stream, text: Cow<'a, str>) -> Self {
        match stream {
            Stream::Stdout => Answer {
                stdout: Some(text),
                ..Answer::default()
            },
            Stream::Stderr => Answer {
                stderr: Some(text),
                ..Answer::default()
            },
        }
    }

    pub fn started(started: Started) -> Self {
        Answer {
            started: Some(started),
            ..Answer::default()
        }
    }

    pub fn observed(observation: Observation) -> Self {
        Answer {
            observed: Some(observation),
            ..Answer::default()
        }
    }

    /// Why the request is not carried out.
    pub fn error(text: impl Into<Cow<'a, str>>) -> Self {
        Answer {
            error: Some(text.into()),
            ..Answer::default()
        }
    }

    /// Whether it is valid: exactly one answer, and an exit code that a command can have.
    pub fn is_valid(&self) -> bool {
        let texts = [&self.stdout, &self.stderr, &self.error]
            .into_iter()
            .flatten()
            .count();
        let others = [
            self.started.is_some(),
            self.observed.is_some(),
            self.builds.is_some(),
            self.exit.is_some(),
        ];

        let all = texts + others.into_iter().filter(|&is_set| is_set).count();

        let ends = self.ended_by.is_some() || self.tree.is_some();
        all == 1 && self.exit.map_or(!ends, |code| (0..=255).contains(&code))
    }

    pub fn exit(code: i32, ended_by: Option<EndedBy>, tree: Option<Tree>) -> Self {
        Answer {
            exit: Some(code),
            ended_by,
            tree,
            ..Answer::default()
        }
    }
}

#[cfg(test)]
mod tests;
