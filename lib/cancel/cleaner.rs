//! Cleans up after the commands of a cancellation ended, and verifies that no process is left. Runs
//! in a thread of its own, does not touch the database, and returns a report.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::config::Pauses;
use crate::base::failpoint;
use crate::base::names::{CancellationId, ServerId};
use crate::db::runners::Runner;
use crate::host::instance;
use crate::host::units::Observed;
use crate::process::unit_group::UnitGroup;

/// The pause between two checks of a unit that is ending.
const PAUSE: Duration = Duration::from_millis(10);

/// How long systemd may take to collect a unit whose processes are gone.
const COLLECT: Duration = Duration::from_secs(3);

/// What to clean and verify.
#[derive(Clone, Debug)]
pub struct CleanUp {
    pub id: CancellationId,
    /// The commands that were ended.
    pub runners: Vec<Runner>,
    /// The servers whose tasks were running; their temporary files are removed.
    pub servers: Vec<ServerId>,
    /// The servers whose unit state may have changed.
    pub observe: Vec<ServerId>,
    /// The pauses between attempts to remove a file.
    pub pauses: Pauses,
}

/// The result of a cleanup.
#[derive(Clone, Debug)]
pub struct CleanUpReport {
    pub id: CancellationId,
    /// What was removed, or what could not be.
    pub cleaned: Result<String, String>,
    /// What was verified, or what is wrong.
    pub verified: Result<String, String>,
    /// The rows of the commands that still have processes.
    pub left: Vec<i64>,
    /// What systemd reports of the servers now.
    pub observed: Vec<(ServerId, Observed)>,
    /// When cleaning ended and verifying began, unix ms.
    pub cleaned_at: i64,
}

pub fn clean_up(work: &CleanUp, root: &Path, helper: &Path) -> CleanUpReport {
    failpoint::hit("cancel.cleaning");
    let cleaned = clean(work, root);
    let cleaned_at = crate::base::clock::now_ms();
    failpoint::hit("cancel.cleaned");

    // In parallel: each check is a connection to the helper, and systemd may be slow.
    let (left, observed) = std::thread::scope(|scope| {
        let checks: Vec<_> = work
            .observe
            .iter()
            .map(|&server| scope.spawn(move || (server, Observed::ask(helper, &server.into()))))
            .collect();
        let left = wait_for_units(&work.runners);
        (
            left,
            checks
                .into_iter()
                .filter_map(|check| check.join().ok())
                .collect::<Vec<_>>(),
        )
    });

    failpoint::hit("cancel.verified");

    let mut wrong: Vec<String> = left.iter().map(|runner| runner.unkillable()).collect();
    let unknown = work.runners.iter().filter(|runner| !is_known(runner));
    wrong.extend(unknown.map(|runner| {
        format!(
            "cannot tell whether a process of {} is left: its control group is not known",
            runner.message()
        )
    }));

    let unknown = observed.iter().filter(|(_, observed)| !observed.is_known());
    wrong.extend(
        unknown.map(|(server, _)| format!("systemd did not report the state of server {server}")),
    );

    let servers = observed.iter();
    let servers =
        servers.map(|(server, observed)| format!("server {server} is {}", observed.unit.actual()));
    let nothing_left = nothing_left(&work.runners).to_owned();
    let fine = std::iter::once(nothing_left)
        .chain(servers)
        .collect::<Vec<_>>()
        .join("; ");

    CleanUpReport {
        id: work.id,
        cleaned,
        verified: if wrong.is_empty() {
            Ok(fine)
        } else {
            Err(wrong.join("; "))
        },
        left: left.into_iter().map(|runner| runner.id).collect(),
        observed,
        cleaned_at,
    }
}

/// The report of a cleanup that did not end in time.
pub fn timed_out(id: CancellationId, now: i64) -> CleanUpReport {
    let message =
        "the cleanup did not finish in time; see `systemctl status` and the journal".to_owned();
    CleanUpReport {
        id,
        cleaned: Err(message.clone()),
        verified: Err(message),
        left: Vec::new(),
        observed: Vec::new(),
        cleaned_at: now,
    }
}

/// Removes the temporary files of the instances. Finished files and logs stay, and so does what
/// steamcmd has downloaded: the next install resumes from there.
fn clean(work: &CleanUp, root: &Path) -> Result<String, String> {
    let (mut removed, mut count) = (0, 0);
    let mut left = work.servers.clone();
    let mut pauses = work.pauses.0.iter();

    loop {
        count += 1;
        let tries = if count == 1 {
            "1 try".to_owned()
        } else {
            format!("{count} tries")
        };
        let mut failures = Vec::new();
        left.retain(|&server| match instance::tidy(root, &server.into()) {
            Ok(paths) => {
                removed += paths.len();
                false
            }
            Err(error) => {
                failures.push(error.to_string());
                true
            }
        });

        if failures.is_empty() {
            let removed = match removed {
                0 => "no temporary files".to_owned(),
                1 => "1 temporary file removed".to_owned(),
                more => format!("{more} temporary files removed"),
            };
            let after = if count == 1 {
                String::new()
            } else {
                format!(", after {tries}")
            };
            return Ok(format!("{removed}{after}"));
        }

        let failure = failures.join("; ");
        let Some(&pause) = pauses.next() else {
            return Err(format!("after {tries}: {failure}"));
        };

        let (cancellation_id, delay_ms) = (work.id.0, pause.as_millis());
        tracing::warn!(
            cancellation_id,
            attempt = count,
            delay_ms,
            "cancellation {cancellation_id}: cleaning failed, next try in {delay_ms} ms: {failure}"
        );

        std::thread::sleep(pause);
    }
}

/// Whether it is known what is left of a command, from its control group or its supervisor.
fn is_known(runner: &Runner) -> bool {
    let has_group = || {
        runner
            .group()
            .is_ok_and(|group| group.is_some_and(|group| UnitGroup::above(&group).is_some()))
    };
    runner.tree.is_some() || has_group()
}

fn nothing_left(runners: &[Runner]) -> &'static str {
    if runners.is_empty() {
        "no command was running"
    } else {
        "no process is left"
    }
}

/// Waits until the units of the commands are gone. Returns the commands that still have processes.
/// It stops early when only such commands are left that cannot be killed.
fn wait_for_units(runners: &[Runner]) -> Vec<&Runner> {
    let deadline = Instant::now() + COLLECT;
    let group = |runner: &Runner| UnitGroup::above(&runner.group().ok()??);
    let mut units: Vec<_> = runners
        .iter()
        .filter(|runner| !runner.ended_in_batch())
        .filter_map(|runner| Some((runner, group(runner)?)))
        .collect();

    loop {
        units.retain(|(_, unit)| unit.exists());
        let known_left = units
            .iter()
            .all(|(runner, unit)| runner.tree.as_deref() == Some("left") && unit.is_populated());
        if known_left || Instant::now() >= deadline {
            units.retain(|(_, unit)| unit.is_populated());
            return units.into_iter().map(|(runner, _)| runner).collect();
        }

        std::thread::park_timeout(PAUSE);
    }
}
