//! The doctor checks everything that left4me depends on, tries what the services do, and gives
//! advice. It changes nothing: files that it writes have no name, locks are released, and services
//! that it starts exit when idle.
//!
//! Findings are data. `left4me doctor` prints them; the web front shows those that it can determine
//! inside its sandbox.

mod accounts;
mod alerts;
mod build;
mod builds;
mod causes;
mod content;
mod database;
mod drop_ins;
mod files;
mod finding;
mod fleet;
mod game;
mod overlay;
mod proxy;
mod queue;
mod schedules;
mod servers;
mod services;
mod settings;
mod sockets;
mod srcds_run;
mod units;
mod writable;

use std::path::{Path, PathBuf};

pub use finding::{Finding, Severity};

use crate::base::config::{CommandSockets, PollSeconds, Steamcmd};

/// The settings that only the doctor needs.
#[derive(clap::Args, Clone, Debug)]
pub struct DoctorSettings {
    /// Where steamcmd is.
    #[command(flatten)]
    pub place: Steamcmd,
    /// The poll interval.
    #[command(flatten)]
    pub poll: PollSeconds,
}

#[derive(Clone, Debug)]
pub struct DoctorPaths {
    pub root: PathBuf,
    pub database: PathBuf,
    /// The socket that wakes the worker.
    pub worker_socket: PathBuf,
    /// The sockets of helper, runner and publisher.
    pub sockets: CommandSockets,
    pub looks: DoctorSettings,
}

impl DoctorPaths {
    fn steamcmd(&self) -> PathBuf {
        self.looks
            .place
            .steamcmd
            .clone()
            .unwrap_or_else(|| self.root.join("steam/steamcmd.sh"))
    }
}

/// Runs all checks that an ordinary user of this host can run; its part in a fleet is in `fleet`.
/// [`complete`] adds causes and what only root can see.
pub fn on_host(paths: &DoctorPaths, fleet: &Path, now: i64) -> Vec<Finding> {
    let mut findings = accounts::check();
    findings.extend(files::directories(&paths.root));
    findings.extend(overlay::known(&paths.root));
    findings.extend(writable::check(&paths.root));
    findings.extend(settings::check());
    findings.push(files::sudoers());

    let database = database::check(&paths.root, &paths.database);
    let is_whole = database
        .iter()
        .all(|finding| finding.severity == Severity::Ok);

    findings.extend(database);
    if is_whole {
        findings.extend(writable::database(&paths.database));
    }

    let units = units::read();
    match &units {
        Ok(units) => {
            findings.extend(units::check(units));
            findings.extend(drop_ins::check());
        }
        Err(finding) => findings.push(finding.as_ref().clone()),
    }

    findings.extend(queue::check(&paths.database, now));
    findings.extend(build::check(&paths.database, &paths.root));
    findings.extend(servers::check(&paths.database, &paths.looks.poll, now));
    findings.extend(alerts::check(&paths.database));
    findings.extend(fleet::check(fleet, &paths.database, now));
    findings.extend(schedules::check(
        &paths.database,
        &paths.sockets.helper_socket,
    ));
    findings.extend(content::check(&paths.database, &paths.root));
    findings.extend(sockets::check(
        &paths.worker_socket,
        &paths.sockets,
        units.as_ref().ok(),
    ));

    findings.extend(game::check(&paths.root, &paths.steamcmd()));

    // These run last, because starting a service may change what the other checks found.
    findings.extend(
        units
            .iter()
            .flat_map(|units| services::check(paths, units, is_whole)),
    );

    findings
}

/// Adds the checks that only root can run, of files that no other user can replace, and the cause
/// of each failure from the journal.
pub fn complete(findings: &mut Vec<Finding>, root: &Path) {
    if nix::unistd::geteuid().is_root() {
        findings.extend(accounts::passwords());
        if let Some(sudoers) = findings
            .iter_mut()
            .find(|finding| finding.check == "sudoers")
        {
            *sudoers = files::sudoers();
        }
        if let Some(tried) = overlay::test_now(root) {
            findings.retain(|finding| finding.check != tried.check);
            findings.push(tried);
        }
    }

    causes::explain(findings);
}

/// What can be checked inside a sandbox, and what cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Checks whose result would be a guess inside the sandbox.
    pub unanswered: Vec<&'static str>,
}

/// Runs the checks that work inside a sandbox without names of other users, without the bus, and
/// where nothing can be executed.
pub fn in_sandbox(paths: &DoctorPaths, now: i64) -> Report {
    let mut unanswered = vec![
        "whether the units are active and start at boot",
        "owners and modes of directories, sockets and the database",
        "settings with values that a program refuses, and sudoers",
        "whether servers' overlays can be mounted where the data is",
        "the 32-bit libraries that the game needs",
        "whether each service starts, answers and can write",
    ];

    let mut findings = queue::check(&paths.database, now);
    findings.extend(build::check(&paths.database, &paths.root));
    findings.extend(servers::check(&paths.database, &paths.looks.poll, now));

    match database::whole(&paths.root, &paths.database) {
        Some(found) => findings.extend(found),
        None => {
            unanswered.push("whether the database is whole: it is too large to be read for a page")
        }
    }

    findings.extend(accounts::check());
    findings.extend(sockets::files(&paths.worker_socket, &paths.sockets));
    findings.extend(game::data(&paths.root, &paths.steamcmd()));
    Report {
        findings,
        unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_inside_nothing_is_said_about_owners_units_or_libraries() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let database = root.join("db/left4me.db");
        drop(crate::db::Db::open(&database).unwrap());

        let paths = DoctorPaths {
            database,
            worker_socket: root.join("worker.sock"),
            sockets: CommandSockets {
                helper_socket: root.join("helper.sock"),
                runner_socket: root.join("runner.sock"),
                publisher_socket: root.join("publisher.sock"),
            },
            looks: DoctorSettings {
                place: Steamcmd { steamcmd: None },
                poll: PollSeconds {
                    poll_seconds: "30".to_owned(),
                },
            },
            root,
        };

        let report = in_sandbox(&paths, 1_000_000);

        let checks: Vec<&str> = report
            .findings
            .iter()
            .map(|finding| finding.check.as_str())
            .collect();
        for there in [
            "queue",
            "poller",
            "database check",
            "socket helper",
            "installation",
            "disk",
        ] {
            assert!(checks.contains(&there), "{there} is missing in {checks:?}");
        }

        assert!(!checks.iter().any(|check| check.contains("owner")
            || check.starts_with("unit ")
            || check.starts_with("directory ")
            || check.contains("libraries")));

        assert!(
            report.unanswered.len() == 6 && report.findings.iter().all(|one| !one.found.is_empty())
        );
    }
}
