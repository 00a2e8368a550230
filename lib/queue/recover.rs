//! Recovery: the first thing a worker does when it holds the lock, because the worker that ran the
//! active jobs is dead. It waits until nothing of theirs runs any more. Then cancel/, a higher
//! layer, finishes the cancellations. The other active jobs fail and are not run again; their
//! servers are polled again.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::names::{JobId, ServerId};
use crate::base::{Result, notify};
use crate::db::events::{self, NewEvent};
use crate::db::runners::{self, Runner};
use crate::db::{Db, cancellations, candidates, jobs, logs, servers, tasks};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::process::unit_group::UnitGroup;
use crate::queue::active::ActiveJob;
use crate::queue::enqueue::WORKER;
use crate::queue::finish;
use crate::queue::{give_up, start_again};
use crate::wire::Stream;

/// The message for a job whose worker died.
const WHY: &str =
    "the worker that ran this job died; it was not run again: `left4me-job retry` does that";

/// The unit name prefixes of the runner, which runs foreign commands, and of the publisher, which
/// removes what a lost request began.
const RUNNERS: [&str; 2] = ["left4me-runner@", "left4me-publisher@"];

/// How often a control group is checked while its processes end.
const RECHECK: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub struct Recovered {
    /// The jobs and their new states.
    pub jobs: Vec<(JobId, JobState)>,
    /// A job was cancelled meanwhile; that cancellation still has to be finished.
    pub more_to_cancel: bool,
}

/// What a dead worker left behind.
#[derive(Debug, Default)]
pub struct DeadWorker {
    /// Connections whose commands may still be ending.
    pub runners: Vec<Runner>,
    /// Connections whose processes could not be killed. What they work on is blocked, and waiting
    /// does not help.
    pub held: Vec<Runner>,
    /// The servers that its tasks worked on.
    pub servers: Vec<ServerId>,
}

impl DeadWorker {
    /// Reads what it left behind.
    pub fn find(db: &Db) -> Result<Self> {
        let connection = db.connection();
        let mut dead = Self {
            runners: runners::open(connection)?,
            held: runners::left(connection)?,
            servers: Vec::new(),
        };

        for job in candidates::active(connection)? {
            let servers = tasks::started_servers(connection, job.id)?;
            dead.servers.extend(servers);
        }

        Ok(dead)
    }
}

/// Fails the running jobs of a dead worker, with a log line that says why. cancel/ has finished the
/// cancellations that existed before; jobs that were cancelled since are left to it.
pub fn recover(db: &mut Db, now: i64) -> Result<Recovered> {
    db.write(|tx| {
        let mut recovered = Recovered::default();
        for job in candidates::active(tx)? {
            if cancellations::live_of(tx, job.id, None)?.is_some() {
                recovered.more_to_cancel = true;
                continue;
            }

            for server in tasks::running_servers(tx, job.id)? {
                servers::set_last_error(tx, server, Some(WHY), now)?;
            }

            // A restart or reset that was interrupted has stopped a server that should run, too.
            let active = ActiveJob::load(tx, job.id).ok();
            let again = match &active {
                Some(job) if job.starts_again() || is_restart(job) => {
                    start_again::start_again(tx, job.id, now)?
                }
                Some(job) => start_again::repeat(tx, job, now)?,
                None => None,
            };

            finish::abandon(tx, job.id, WORKER, "the worker died", now)?;
            let mut line = format!("left4me: {WHY}");
            if let Some((by, _)) = again {
                line.push_str(&format!(
                    "; job {by} starts the servers again that it had stopped"
                ));
            }
            logs::append(tx, job.id, now, Stream::Stderr, &line)?;

            let Some(state) = jobs::recover(tx, job.id, WHY, now)? else {
                continue;
            };
            let kind = format!("job.{state}");
            let event = NewEvent {
                job: Some(job.id),
                ..NewEvent::new(&kind, WORKER, WHY)
            };

            events::add(tx, now, &event)?;
            if let Some(active) = &active {
                give_up::after(tx, active, now)?;
            }
            recovered.jobs.push((job.id, state));
        }

        Ok(recovered)
    })
}

fn is_restart(job: &ActiveJob) -> bool {
    matches!(job.operation, Ok(Operation::Restart | Operation::Reset))
}

/// Waits until no process is left in the control groups of a dead worker's commands, and gives the
/// connections that still have processes after `limit`. The connections of the worker are
/// closed, so runner and helper are already ending the commands (kill escalation).
///
/// A worker that died right after a command's start has not recorded its control group. So this
/// waits for every runner on the host, except for those known to be stuck. It does not wait for
/// helpers: running their verbs twice is harmless, and other programs use them too.
pub fn wait_for_orphans(dead: &DeadWorker, limit: Duration) -> Vec<Runner> {
    let deadline = Instant::now() + limit;
    let mut left: Vec<_> = dead
        .runners
        .iter()
        .filter_map(|runner| Some((runner, ProcessPlace::of(runner)?)))
        .collect();
    let held: Vec<_> = dead
        .held
        .iter()
        .filter_map(|runner| UnitGroup::above(&runner.group().ok()??))
        .collect();
    let mut unknown: Vec<_> = RUNNERS.into_iter().flat_map(UnitGroup::all).collect();
    unknown.retain(|group| !held.contains(group));

    loop {
        left.retain(|(_, place)| place.is_alive());
        unknown.retain(UnitGroup::is_populated);
        if left.is_empty() && unknown.is_empty() || Instant::now() >= deadline {
            return left.into_iter().map(|(runner, _)| runner.clone()).collect();
        }
        notify::watchdog();
        std::thread::park_timeout(RECHECK);
    }
}

/// Records what became of a dead worker's connections. This happens only after the wait, so that
/// the next worker also waits if this one dies meanwhile. `left` are those that still have
/// processes: what they work on is blocked.
pub fn close_rows(db: &mut Db, runners: &[Runner], left: &[Runner], now: i64) -> Result<()> {
    if runners.is_empty() {
        return Ok(());
    }

    db.write(|tx| {
        for runner in runners {
            let is_left = left.iter().any(|other| other.id == runner.id);
            if let Some(invalid_rows) = runner.invalid() {
                tracing::warn!("{invalid_rows}");
            }
            // Unknown for a row without a pid and control group, or with an impossible one.
            let known = runner.group().is_ok() && (runner.cgroup.is_some() || runner.pid.is_some());
            runners::lose(tx, runner.id, known.then_some(is_left), now)?;
        }

        Ok(())
    })
}

/// Checks again for processes that could not be killed. Those that are gone no longer block
/// anything. Gives whether any is left.
pub fn release(db: &mut Db) -> Result<bool> {
    let left = runners::left(db.connection())?;
    let (there, gone): (Vec<&Runner>, Vec<&Runner>) =
        left.iter().partition(|runner| is_there(runner));
    if !gone.is_empty() {
        db.write(|tx| {
            gone.iter()
                .try_for_each(|runner| runners::set_tree(tx, runner.id, false))
        })?;

        for runner in &gone {
            match runner.invalid() {
                Some(invalid_rows) => tracing::warn!("{invalid_rows}"),
                None => tracing::info!("{} has no process left", runner.message()),
            }
        }
    }

    Ok(!there.is_empty())
}

/// Processes that could not be killed and still exist, for display.
pub fn unkillable(connection: &Connection) -> Result<Vec<Runner>> {
    Ok(runners::left(connection)?
        .into_iter()
        .filter(is_there)
        .collect())
}

/// Invalid values in the rows that recovery reads, for display. The worker does not act on such
/// rows.
pub fn invalid_rows(connection: &Connection) -> Result<Vec<String>> {
    let rows = runners::open(connection)?
        .into_iter()
        .chain(runners::left(connection)?);
    Ok(rows.filter_map(|runner| runner.invalid()).collect())
}

fn is_there(runner: &Runner) -> bool {
    ProcessPlace::of(runner).is_some_and(|place| place.is_alive())
}

/// Where to look for the processes of a connection.
enum ProcessPlace {
    /// In the control group of its unit.
    Unit(UnitGroup),
    /// Outside systemd there is only the process of the command.
    Process(i64),
}

impl ProcessPlace {
    fn of(runner: &Runner) -> Option<Self> {
        let unit = runner
            .group()
            .ok()?
            .as_ref()
            .and_then(UnitGroup::above)
            .map(ProcessPlace::Unit);
        unit.or_else(|| runner.pid.map(ProcessPlace::Process))
    }

    fn is_alive(&self) -> bool {
        match self {
            ProcessPlace::Unit(group) => group.is_populated(),
            // A zombie no longer does anything.
            ProcessPlace::Process(pid) => std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| {
                    stat.rsplit_once(')')
                        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
                }),
        }
    }
}
