//! The one line protocol of runner and helper. A connection carries one request line from the client, then answer
//! lines from the server; the client may send control lines meanwhile. Closing the connection ends the command.
//!
//! Shapes are part of the contract: a request is a closed enum with unknown fields refused, so that nothing that was
//! not meant to be asked can be asked.

pub mod client;
pub mod line;

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::Moment;
use crate::base::control_group::ControlGroup;
use crate::base::names::{Cursor, InstanceName};

/// The longest request or control line, in bytes without its line break.
pub const REQUEST_LIMIT: usize = 4096;

/// The longest answer line a client takes, in bytes: a full log line, JSON-escaped at worst, and its frame.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// The longest line of output, in characters, that is passed on whole; a longer one is cut with [`CUT_MARK`].
pub const LINE_LIMIT: usize = 4096;

/// What stands at the end of a line that was cut.
pub const CUT_MARK: &str = " […]";

/// The exit code that answers a request which was refused (EX_USAGE).
pub const REFUSED: i32 = 64;

/// What the helper may be asked over its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HelperRequest {
    /// `systemctl enable --now left4me-server@SERVER`
    Enable {
        /// The instance.
        server: InstanceName,
        /// Whether an [`Observation`] of the unit comes before the end.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observe: bool,
    },
    /// `systemctl disable --now left4me-server@SERVER`, its overlay unmounted and a failed state forgotten.
    Disable {
        /// The instance.
        server: InstanceName,
        /// As in `Enable`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observe: bool,
    },
    /// The unit's properties, as `Name=value` lines.
    Show {
        /// The instance.
        server: InstanceName,
    },
    /// The unit's journal.
    Journal {
        /// The instance.
        server: InstanceName,
        /// How many of the last lines; 100 when not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines: Option<u32>,
        /// Whether to go on with new lines until the connection closes.
        #[serde(default)]
        follow: bool,
        /// Whether each line of output is an [`Entry`] as JSON, not text for people.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        entries: bool,
        /// Only what follows this entry; then `lines` are the first ones after it, all when not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Cursor>,
    },
    /// Runs `left4me-purge@SERVER`: empties the upper layer, and removes runtime/SERVER when instances/SERVER is gone.
    Purge {
        /// The instance.
        server: InstanceName,
    },
}

/// One entry of a unit's journal, as the helper gives it when `entries` are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place: what follows it can be asked for, also after a restart of anybody.
    pub cursor: Cursor,
    /// Unix ms.
    pub at: i64,
    /// Who says it: `systemd`, or the name of a program of the unit; empty when nobody knows.
    pub from: String,
    /// What it says: printable, at most [`LINE_LIMIT`] characters.
    pub line: String,
}

/// The longest grace of a command that only reads: there is nothing that it could bring to a good end.
const READING_GRACE: Duration = Duration::from_secs(1);

impl HelperRequest {
    /// The last `lines` lines of the unit's journal, as text for people.
    #[must_use]
    pub fn journal(server: InstanceName, lines: u32, follow: bool) -> Self {
        HelperRequest::Journal { server, lines: Some(lines), follow, entries: false, after: None }
    }

    /// How long its commands have between being asked to end and being killed, where `grace` is what admins give one
    /// that changes something.
    #[must_use]
    pub fn grace(&self, grace: Duration) -> Duration {
        match self {
            HelperRequest::Show { .. } | HelperRequest::Journal { .. } => grace.min(READING_GRACE),
            HelperRequest::Enable { .. } | HelperRequest::Disable { .. } | HelperRequest::Purge { .. } => grace,
        }
    }
}

/// What the runner may be asked over its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RunnerRequest {
    /// Installs or updates the game with steamcmd, whole: both platform passes, retries, proof from the manifest.
    Install {},
}

/// A control line from the client while the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Which rung to climb to.
    pub cancel: Cancel,
}

/// How urgently the command shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cancel {
    /// Ask it to end; kill it after the grace.
    Terminate,
    /// Kill it now.
    Kill,
}

/// Which rung of the ladder ended the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// It ended by itself.
    Exit,
    /// It obeyed the request to end.
    Terminate,
    /// It had to be killed.
    Kill,
}

/// Whether anything of the command's process tree is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tree {
    /// No process of it exists any more.
    Empty,
    /// At least one process could not be ended within the bounded wait.
    Left,
}

/// How many times one connection may say what runs now: an installation with every retry says it twelve times.
pub const STARTED_LIMIT: usize = 64;

/// Who serves a connection, as far as the kernel tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The unit instance.
    pub unit: Option<String>,
    /// A process of it: the one that spoke.
    pub pid: Option<u32>,
    /// The unit's control group.
    pub group: Option<ControlGroup>,
}

/// `{"started":{…}}`: what runs now. A client that acts on pid or control group asks the kernel ([`Served`]), not this. Under systemd the first one, which comes before anything is done, is the program
/// that serves the connection itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The unit instance that serves the connection; empty outside systemd.
    pub unit: String,
    /// The command's process id.
    pub pid: u32,
    /// The control group it is in, as in /proc/PID/cgroup: the command's own, or the unit's; empty where there is none.
    #[serde(default)]
    pub cgroup: String,
}

/// What systemd reported of a unit. It saves the client a request of its own: each costs the helper's whole sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Just before systemd was asked, on the clocks of this host.
    pub at: Moment,
    /// `Name=value`, as `show` prints them.
    pub properties: Vec<String>,
}

/// One answer line. Exactly one of `started`, `stdout`, `stderr`, `observed`, `error` and `exit` is set; `ended_by` and `tree` go
/// with `exit`. One struct of options, not an untagged enum: it parses in one pass, at the rate of log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<'a> {
    /// What runs now. May come more than once when a request takes several commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    /// A line of the command's output.
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Cow<'a, str>>,
    /// A line of the command's error output, or the server's own words about it.
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Cow<'a, str>>,
    /// What systemd reported of the unit; only for a request with `observe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observation>,
    /// Why the request was refused or could not be carried out.
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// The end: the command's exit code, 128+n for a signal, 64 for a refused request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// With `exit`: which rung was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// With `exit`: what is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

/// The two streams of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output; on a PTY everything.
    Stdout,
    /// Standard error, and what our own programs say about the command.
    Stderr,
}

impl Stream {
    /// The word in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Reads a request or control line: one JSON object. serde alone would also take a list of the fields' values.
///
/// # Errors
/// One line that says what is wrong with it.
pub fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, String> {
    if !line.trim_start().starts_with('{') {
        return Err("a JSON object is needed".to_owned());
    }
    serde_json::from_str(line).map_err(|error| error.to_string())
}

/// `Option<Cow<str>>` by itself is always owned when it is read; this borrows whenever the text has no escapes.
fn text<'de: 'a, 'a, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(Option::<Text<'a>>::deserialize(from)?.map(|text| text.0))
}

impl<'a> Answer<'a> {
    /// A line of output.
    #[must_use]
    pub fn line(stream: Stream, text: Cow<'a, str>) -> Self {
        match stream {
            Stream::Stdout => Answer { stdout: Some(text), ..Answer::default() },
            Stream::Stderr => Answer { stderr: Some(text), ..Answer::default() },
        }
    }
    /// What runs now.
    #[must_use]
    pub fn started(started: Started) -> Self {
        Answer { started: Some(started), ..Answer::default() }
    }
    /// What systemd reported.
    #[must_use]
    pub fn observed(observation: Observation) -> Self {
        Answer { observed: Some(observation), ..Answer::default() }
    }
    /// Why not.
    #[must_use]
    pub fn error(text: impl Into<Cow<'a, str>>) -> Self {
        Answer { error: Some(text.into()), ..Answer::default() }
    }
    /// Whether it is one answer, and one that can be: not several at once, and no end that no command has.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let texts = [&self.stdout, &self.stderr, &self.error].into_iter().flatten().count();
        let others = [self.started.is_some(), self.observed.is_some(), self.exit.is_some()];
        let all = texts + others.into_iter().filter(|&is_set| is_set).count();
        let ends = self.ended_by.is_some() || self.tree.is_some();
        all == 1 && self.exit.map_or(!ends, |code| (0..=255).contains(&code))
    }
    /// The last line.
    #[must_use]
    pub fn exit(code: i32, ended_by: Option<EndedBy>, tree: Option<Tree>) -> Self {
        Answer { exit: Some(code), ended_by, tree, ..Answer::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_contracts_shape() {
        let enable: HelperRequest = serde_json::from_str(r#"{"verb":"enable","server":"1"}"#).unwrap();
        assert_eq!(serde_json::to_string(&enable).unwrap(), r#"{"verb":"enable","server":"1"}"#);
        let journal: HelperRequest = serde_json::from_str(r#"{"verb":"journal","server":"1","lines":5}"#).unwrap();
        assert_eq!(journal, HelperRequest::journal("1".parse().unwrap(), 5, false));
        assert_eq!(
            serde_json::to_string(&journal).unwrap(),
            r#"{"verb":"journal","server":"1","lines":5,"follow":false}"#
        );
        assert_eq!(serde_json::from_str::<RunnerRequest>(r#"{"verb":"install"}"#).unwrap(), RunnerRequest::Install {});
    }

    #[test]
    fn who_only_reads_gets_a_short_grace() {
        let grace =
            |line: &str, seconds| parse::<HelperRequest>(line).unwrap().grace(Duration::from_secs(seconds)).as_secs();
        assert_eq!(grace(r#"{"verb":"show","server":"1"}"#, 10), 1);
        assert_eq!(grace(r#"{"verb":"show","server":"1"}"#, 0), 0);
        assert_eq!(grace(r#"{"verb":"disable","server":"1"}"#, 10), 10);
    }

    #[test]
    fn unknown_verbs_fields_and_bad_names_are_refused() {
        for bad in [
            r#"{"verb":"start","server":"1"}"#,
            r#"{"verb":"mount","server":"1"}"#,
            r#"{"verb":"enable","server":"1","force":true}"#,
            r#"{"verb":"enable","server":"../1"}"#,
            r#"{"verb":"enable","server":1}"#,
            r#"{"verb":"enable"}"#,
            r#"{"server":"1"}"#,
            r#"["enable","1"]"#,
        ] {
            assert!(parse::<HelperRequest>(bad).is_err(), "{bad}");
        }
        for bad in [r#"{"verb":"install","argv":["sh"]}"#, r#"{"verb":"run"}"#, "{}"] {
            assert!(parse::<RunnerRequest>(bad).is_err(), "{bad}");
        }
        assert!(parse::<Control>(r#"{"cancel":"stop"}"#).is_err());
        assert!(parse::<Control>(r#"["kill"]"#).is_err());
    }

    #[test]
    fn the_last_answer_has_the_contracts_shape() {
        let last = Answer::exit(143, Some(EndedBy::Terminate), Some(Tree::Empty));
        assert_eq!(serde_json::to_string(&last).unwrap(), r#"{"exit":143,"ended_by":"terminate","tree":"empty"}"#);
    }
}
