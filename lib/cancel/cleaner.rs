//! After the commands have ended: temporary files go, and somebody looks whether it is all true. In a thread of its own,
//! beside whatever else the worker does; it touches no database and hands back what it found.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::config::Pauses;
use crate::base::failpoint;
use crate::base::names::{CancellationId, ServerId};
use crate::db::runners::Runner;
use crate::host::instance;
use crate::host::units::Observed;
use crate::process::unit_group::UnitGroup;

/// Between two looks at a unit that is ending.
const PAUSE: Duration = Duration::from_millis(10);

/// How long systemd may take to collect a unit whose processes are gone.
const COLLECT: Duration = Duration::from_secs(3);

/// What is to be cleaned and looked at.
#[derive(Clone, Debug)]
pub struct CleanUp {
    /// For which cancellation.
    pub id: CancellationId,
    /// The commands that were ended.
    pub runners: Vec<Runner>,
    /// The servers that something was being done to.
    pub servers: Vec<ServerId>,
    /// Those whose unit may be another thing now.
    pub look: Vec<ServerId>,
    /// Between the tries to remove a file.
    pub pauses: Pauses,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// For which cancellation.
    pub id: CancellationId,
    /// What was removed; or what could not be.
    pub cleaned: Result<String, String>,
    /// What was seen; or what was not as it should be.
    pub verified: Result<String, String>,
    /// Commands that still have processes: their rows.
    pub left: Vec<i64>,
    /// The servers, as systemd has them now.
    pub observed: Vec<(ServerId, Observed)>,
    /// When cleaning ended and looking began, unix ms.
    pub cleaned_at: i64,
}

/// Cleans, then looks.
#[must_use]
pub fn clean_up(work: &CleanUp, root: &Path, helper: &Path) -> Report {
    failpoint::hit("cancel.cleaning");
    let cleaned = clean(work, root);
    let cleaned_at = crate::base::clock::now_ms();
    failpoint::hit("cancel.cleaned");
    // Side by side: each look is a connection, and systemd takes its time.
    let (left, observed) = std::thread::scope(|scope| {
        let looks: Vec<_> = work
            .look
            .iter()
            .map(|&server| scope.spawn(move || (server, Observed::ask(helper, &server.into()))))
            .collect();
        let left = wait_for_units(&work.runners);
        (left, looks.into_iter().filter_map(|look| look.join().ok()).collect::<Vec<_>>())
    });
    failpoint::hit("cancel.verified");
    let mut wrong: Vec<String> = left.iter().map(|runner| runner.undying()).collect();
    wrong.extend(work.runners.iter().filter(|runner| !is_known(runner)).map(|runner| {
        format!("cannot tell whether a process of {} is left: its control group is not known", runner.words())
    }));
    let unknown = observed.iter().filter(|(_, seen)| !seen.is_known());
    wrong.extend(unknown.map(|(server, _)| format!("systemd did not say what server {server} is now")));
    let seen: Vec<String> =
        observed.iter().map(|(server, seen)| format!("server {server} is {}", seen.unit.actual())).collect();
    let fine = std::iter::once(nothing_left(&work.runners).to_owned()).chain(seen).collect::<Vec<_>>().join("; ");
    Report {
        id: work.id,
        cleaned,
        verified: if wrong.is_empty() { Ok(fine) } else { Err(wrong.join("; ")) },
        left: left.into_iter().map(|runner| runner.id).collect(),
        observed,
        cleaned_at,
    }
}

/// Nobody answered in time.
#[must_use]
pub fn given_up(id: CancellationId, now: i64) -> Report {
    let words = "nobody answered in time; see `systemctl status` and the journal".to_owned();
    Report {
        id,
        cleaned: Err(words.clone()),
        verified: Err(words),
        left: Vec::new(),
        observed: Vec::new(),
        cleaned_at: now,
    }
}

/// Temporary files of the instances that were worked on. What was finished stays, and so do logs and what steamcmd has
/// loaded so far: the next install goes on from there.
fn clean(work: &CleanUp, root: &Path) -> Result<String, String> {
    let (mut removed, mut tries) = (0, 0);
    let mut left = work.servers.clone();
    let mut pauses = work.pauses.0.iter();
    let failure = loop {
        tries += 1;
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
        let (failure, pause) = match (failures.is_empty(), pauses.next()) {
            (true, _) => break None,
            (false, None) => break Some(failures.join("; ")),
            (false, Some(pause)) => (failures.join("; "), *pause),
        };
        let (cancellation_id, delay_ms) = (work.id.0, u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        tracing::warn!(
            cancellation_id,
            attempt = tries,
            delay_ms,
            "cancellation {cancellation_id}: cleaning failed, next try in {delay_ms} ms: {failure}"
        );
        std::thread::sleep(pause);
    };
    let removed = match removed {
        0 => "no temporary file was there".to_owned(),
        1 => "1 temporary file removed".to_owned(),
        more => format!("{more} temporary files removed"),
    };
    match (failure, tries) {
        (Some(failure), 1) => Err(format!("after 1 try: {failure}")),
        (Some(failure), tries) => Err(format!("after {tries} tries: {failure}")),
        (None, 1) => Ok(removed),
        (None, tries) => Ok(format!("{removed}, after {tries} tries")),
    }
}

/// Whether it is known what is left of a command: its control group was looked at, or its
/// supervisor reported it.
fn is_known(runner: &Runner) -> bool {
    runner.tree.is_some()
        || runner.group().is_ok_and(|group| group.is_some_and(|group| UnitGroup::above(&group).is_some()))
}

fn nothing_left(runners: &[Runner]) -> &'static str {
    if runners.is_empty() { "no command was running" } else { "no process is left" }
}

/// Waits for the units of commands to be gone, processes first. Gives those that still have a process: these no waiting
/// helps.
fn wait_for_units(runners: &[Runner]) -> Vec<&Runner> {
    let deadline = Instant::now() + COLLECT;
    let group = |runner: &Runner| UnitGroup::above(&runner.group().ok()??);
    let mut units: Vec<_> = runners.iter().filter_map(|runner| Some((runner, group(runner)?))).collect();
    loop {
        units.retain(|(_, unit)| unit.exists());
        let known_left =
            units.iter().all(|(runner, unit)| runner.tree.as_deref() == Some("left") && unit.is_populated());
        if known_left || Instant::now() >= deadline {
            units.retain(|(_, unit)| unit.is_populated());
            return units.into_iter().map(|(runner, _)| runner).collect();
        }
        std::thread::park_timeout(PAUSE);
    }
}
