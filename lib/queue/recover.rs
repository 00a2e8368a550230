//! What a worker does first, once it holds the lock: whoever ran the live jobs is dead. Nothing of theirs may still run
//! when the queue goes on: that is waited for. Then what was being cancelled is finished (by the room cancel/, which stands
//! above this one), and the others are ended, never run again by themselves; their servers are looked at anew.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::events::{self, NewEvent};
use crate::db::runners::{self, Runner};
use crate::db::{Db, cancellations, jobs, logs, servers, tasks};
use crate::domain::job::JobState;
use crate::process::unit_group::UnitGroup;
use crate::queue::turn;
use crate::wire::Stream;

/// The line that a job gets whose worker died.
const WHY: &str = "the worker that ran this job died; it was not run again: `left4me-job retry` does that";

/// Who does this.
const WORKER: &str = "left4me-worker";

/// How the units begin that foreign commands run in.
const RUNNERS: &str = "left4me-runner@";

/// How often a control group is looked at while its processes end.
const LOOK: Duration = Duration::from_millis(20);

/// What was found and mended.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The jobs and what they became.
    pub jobs: Vec<(JobId, JobState)>,
    /// Somebody has cancelled one meanwhile: that has to be finished, too.
    pub more_to_cancel: bool,
}

/// What a dead worker has left.
#[derive(Debug, Default)]
pub struct Left {
    /// Connections whose commands may still be ending.
    pub runners: Vec<Runner>,
    /// Those whose processes would not die: what they work on is held, and no waiting helps.
    pub held: Vec<Runner>,
    /// The servers that it was at.
    pub servers: Vec<ServerId>,
}

/// Looks what a dead worker has left.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn look(db: &Db) -> Result<Left> {
    let connection = db.connection();
    let mut left = Left { runners: runners::open(connection)?, held: runners::left(connection)?, ..Left::default() };
    for job in jobs::live_candidates(connection)? {
        left.servers.extend(tasks::started_servers(connection, job.id)?);
    }
    Ok(left)
}

/// Ends what a dead worker left running: running -> failed, with a line that says why. The room cancel/ has finished the
/// cancellations that there were before; one that came since is left to it.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn recover(db: &mut Db, now: i64) -> Result<Recovered> {
    db.write(|tx| {
        let mut recovered = Recovered::default();
        for job in jobs::live_candidates(tx)? {
            if cancellations::live_of(tx, job.id, None)?.is_some() {
                recovered.more_to_cancel = true;
                continue;
            }

            for server in tasks::running_servers(tx, job.id)? {
                servers::set_last_error(tx, server, Some(WHY), now)?;
            }

            turn::abandon(tx, job.id, WORKER, "the worker died", now)?;
            logs::append(tx, job.id, now, Stream::Stderr, &format!("left4me: {WHY}"))?;

            let Some(state) = jobs::recover(tx, job.id, WHY, now)? else { continue };
            let kind = format!("job.{state}");
            let event = NewEvent { kind: &kind, actor: WORKER, job: Some(job.id), detail: WHY, ..NewEvent::default() };
            events::add(tx, now, &event)?;
            recovered.jobs.push((job.id, state));
        }

        Ok(recovered)
    })
}

/// Waits until no process is left in the control groups of a dead worker's commands. Its connections are closed, so
/// runner and helper are ending them by the ladder. Gives those that are still there after `patience`.
///
/// A worker that died right after a command's start has not written down its group: so every runner there is is waited
/// for, but for those that are known to be held. The helper's verbs do no harm twice, and others use it, too.
pub fn wait_for_the_dead(dead: &Left, patience: Duration, mut meanwhile: impl FnMut()) -> Vec<Runner> {
    let deadline = Instant::now() + patience;
    let mut left: Vec<_> = dead.runners.iter().filter_map(|runner| Some((runner, Place::of(runner)?))).collect();
    let held: Vec<_> = dead.held.iter().filter_map(|runner| UnitGroup::above(&runner.group().ok()??)).collect();
    let mut unknown = UnitGroup::all(RUNNERS);
    unknown.retain(|group| !held.contains(group));

    loop {
        left.retain(|(_, place)| place.is_alive());
        unknown.retain(UnitGroup::is_populated);
        if left.is_empty() && unknown.is_empty() || Instant::now() >= deadline {
            return left.into_iter().map(|(runner, _)| runner.clone()).collect();
        }
        meanwhile();
        std::thread::park_timeout(LOOK);
    }
}

/// Writes down what became of a dead worker's connections: only now, so that a worker that dies while it waits leaves
/// the next one something to wait for. `left` are those that still have processes: what they work on is held.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn lose(db: &mut Db, runners: &[Runner], left: &[Runner], now: i64) -> Result<()> {
    if runners.is_empty() {
        return Ok(());
    }

    db.write(|tx| {
        for runner in runners {
            let is_left = left.iter().any(|other| other.id == runner.id);
            if let Some(nonsense) = runner.nonsense() {
                tracing::warn!("{nonsense}");
            }
            // Unknown for a row that has no place, or one that cannot be.
            let known = runner.group().is_ok() && (runner.cgroup.is_some() || runner.pid.is_some());
            runners::lose(tx, runner.id, known.then_some(is_left), now)?;
        }

        Ok(())
    })
}

/// Looks once more at processes that would not die. Those that are gone hold nothing any more. Gives whether any is left.
///
/// # Errors
/// 69 when the database cannot be used.
pub fn release(db: &mut Db) -> Result<bool> {
    let left = runners::left(db.connection())?;
    let (there, gone): (Vec<&Runner>, Vec<&Runner>) = left.iter().partition(|runner| is_there(runner));
    if !gone.is_empty() {
        db.write(|tx| gone.iter().try_for_each(|runner| runners::set_tree(tx, runner.id, false)))?;
        for runner in &gone {
            match runner.nonsense() {
                Some(nonsense) => tracing::warn!("{nonsense}"),
                None => tracing::info!("{} has no process any more", runner.words()),
            }
        }
    }

    Ok(!there.is_empty())
}

/// Processes that would not die and are still there, for people.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn undying(connection: &Connection) -> Result<Vec<Runner>> {
    Ok(runners::left(connection)?.into_iter().filter(is_there).collect())
}

/// What is wrong with the rows that a worker would look at, for people: none of it is followed.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn nonsense(connection: &Connection) -> Result<Vec<String>> {
    let rows = runners::open(connection)?.into_iter().chain(runners::left(connection)?);
    Ok(rows.filter_map(|runner| runner.nonsense()).collect())
}

fn is_there(runner: &Runner) -> bool {
    Place::of(runner).is_some_and(|place| place.is_alive())
}

/// Where a connection's processes are to be looked for.
enum Place {
    /// In its unit's control group.
    Unit(UnitGroup),
    /// Outside systemd there is only the command's process.
    Process(i64),
}

impl Place {
    fn of(runner: &Runner) -> Option<Self> {
        let unit = runner.group().ok()?.as_ref().and_then(UnitGroup::above).map(Place::Unit);
        unit.or_else(|| runner.pid.map(Place::Process))
    }

    fn is_alive(&self) -> bool {
        match self {
            Place::Unit(group) => group.is_populated(),
            // One that has ended and that nobody has reaped yet does nothing any more.
            Place::Process(pid) => std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))),
        }
    }
}
