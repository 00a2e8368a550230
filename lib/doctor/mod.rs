//! The doctor: looks at everything left4me stands on, changes nothing, and says what to do. Findings are data:
//! `left4me doctor` prints them, the web front shows those that it can answer from inside of its sandbox.

mod content;
mod database;
mod files;
mod game;
mod overlay;
mod proxy;
mod queue;
mod servers;
mod srcds_run;
mod units;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::config::{HandSockets, PollSeconds, absolute};

/// The settings that only the doctor needs.
#[derive(clap::Args, Clone, Debug)]
pub struct Looks {
    /// steamcmd [default: steam/steamcmd.sh in LEFT4ME_ROOT]
    #[arg(long, env = "LEFT4ME_STEAMCMD", value_name = "LEFT4ME_STEAMCMD", value_parser = absolute,
          hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub steamcmd: Option<PathBuf>,
    /// How often the poller shall look.
    #[command(flatten)]
    pub poll: PollSeconds,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// Directory of all data.
    pub root: PathBuf,
    /// The database file.
    pub database: PathBuf,
    /// The socket that wakes the worker.
    pub worker_socket: PathBuf,
    /// The other two.
    pub hands: HandSockets,
    /// What else was set.
    pub looks: Looks,
}

impl Places {
    fn steamcmd(&self) -> PathBuf {
        self.looks.steamcmd.clone().unwrap_or_else(|| self.root.join("steam/steamcmd.sh"))
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// To look at.
    Warn,
    /// Something does not work.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub check: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// A name as a shell takes it, for advice: it stays one word whatever is in it, and is no option. What cannot be shown is
/// written as bash writes it.
fn quoted(name: impl AsRef<std::ffi::OsStr>) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let bytes = name.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain) => text.to_owned(),
        Ok(text) if !text.contains(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut quoted = "$'".to_owned();
            for &byte in bytes {
                match byte {
                    byte if is_plain(byte) => quoted.push(char::from(byte)),
                    // Writing into a String does not fail.
                    _ => drop(write!(quoted, "\\x{byte:02x}")),
                }
            }
            quoted + "'"
        }
    }
}

/// Whether a byte means nothing to a shell.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@:".contains(&byte)
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, check: check.into(), found: found.into(), advice: None }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warn, check: check.into(), found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Fail, check: check.into(), found: found.into(), advice: Some(advice.into()) }
    }
}

/// What only root can look at: files that no other user can exchange, and whether overlays can be mounted below `root`.
#[must_use]
pub fn for_root(root: &Path) -> Vec<Finding> {
    let overlay = if nix::unistd::geteuid().is_root() { overlay::tried(root) } else { overlay::known(root) };
    overlay.into_iter().chain([files::sudoers()]).collect()
}

/// Everything else, as a user sees it who is at home on this host. `seen` is what root has looked at before.
#[must_use]
pub fn at_home(places: &Places, now: i64, seen: Vec<Finding>) -> Vec<Finding> {
    let mut findings = files::users();
    findings.extend(files::directories(&places.root));
    findings.push(files::settings());
    findings.extend(files::proxy_settings());
    findings.extend(if seen.is_empty() { for_root(&places.root) } else { seen });
    findings.extend(database::check(&places.root, &places.database));
    findings.extend(units::check());
    findings.extend(queue::check(&places.database, now));
    findings.extend(servers::check(&places.database, &places.looks.poll, now));
    findings.extend(content::check(&places.database, &places.root));
    findings.extend(files::sockets(&places.worker_socket, &places.hands));
    findings.extend(game::check(&places.root, &places.steamcmd()));
    findings
}

/// What can be said from inside of a sandbox, and what cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was found.
    pub findings: Vec<Finding>,
    /// Checks that would be guesses from here.
    pub unanswered: Vec<&'static str>,
}

/// What can be said from a sandbox in which other users have no names, the bus is away, and nothing can be executed.
#[must_use]
pub fn inside(places: &Places, now: i64) -> Report {
    let mut unanswered = vec![
        "whether the units are active and start at boot",
        "owners and modes of directories, sockets and the database",
        "settings that nobody reads, and sudoers",
        "whether servers' overlays can be mounted where the data is",
        "the 32-bit libraries that the game needs",
    ];
    let mut findings = queue::check(&places.database, now);
    findings.extend(servers::check(&places.database, &places.looks.poll, now));
    match database::whole(&places.database) {
        Some(found) => findings.extend(found),
        None => unanswered.push("whether the database is whole: it is too large to be read for a page"),
    }
    findings.extend(files::users());
    findings.extend(files::socket_files(&places.worker_socket, &places.hands));
    findings.extend(game::data(&places.root, &places.steamcmd()));
    Report { findings, unanswered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_advice_is_one_word_of_a_shell_whatever_is_in_it() {
        for (name, word) in [
            ("/var/lib/left4me/db", "/var/lib/left4me/db"),
            ("/a b;rm -rf ~", "'/a b;rm -rf ~'"),
            ("/it's $(id) `id`", r"'/it'\''s $(id) `id`'"),
            ("/a\nid\u{1b}[0m", r"$'/a\x0aid\x1b\x5b0m'"),
            ("--reference", "'--reference'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(name), word);
        }
    }

    #[test]
    fn from_inside_nothing_is_said_about_owners_units_or_libraries() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let database = root.join("db/left4me.db");
        drop(crate::db::Db::open(&database).unwrap());
        let places = Places {
            database,
            worker_socket: root.join("worker.sock"),
            hands: HandSockets { helper_socket: root.join("helper.sock"), runner_socket: root.join("runner.sock") },
            looks: Looks { steamcmd: None, poll: PollSeconds { poll_seconds: "30".to_owned() } },
            root,
        };
        let report = inside(&places, 1_000_000);
        let checks: Vec<&str> = report.findings.iter().map(|finding| finding.check.as_str()).collect();
        for there in ["queue", "poller", "database check", "socket helper", "installation", "disk"] {
            assert!(checks.contains(&there), "{there} is missing in {checks:?}");
        }
        assert!(!checks.iter().any(|check| check.contains("owner")
            || check.starts_with("unit ")
            || check.starts_with("directory ")
            || check.contains("libraries")));
        assert!(report.unanswered.len() == 5 && report.findings.iter().all(|one| !one.found.is_empty()));
    }
}
