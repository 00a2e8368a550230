//! What a worker does first, once it holds the lock: whoever ran the live jobs is dead. They are ended, never run
//! again by themselves; their servers are looked at anew; and nothing of theirs may still run when the queue goes on.
//! Jobs that were being cancelled are left to the room cancel/, which stands above this one.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::events::{self, NewEvent};
use crate::db::runners::{self, Runner};
use crate::db::{Db, cancellations, jobs, logs, servers, tasks};
use crate::domain::job::JobState;
use crate::process::cgroup::UnitGroup;
use crate::wire::Stream;

/// The line that a job gets whose worker died.
const WHY: &str = "the worker that ran this job died; it was not run again: `left4me-job retry` does that";

/// How the units begin that foreign commands run in.
const RUNNERS: &str = "left4me-runner@";

/// How often a control group is looked at while its processes end.
const LOOK: Duration = Duration::from_millis(20);

/// What was found and mended.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The jobs and what they became.
    pub jobs: Vec<(JobId, JobState)>,
    /// Their servers, to be looked at anew.
    pub servers: Vec<ServerId>,
    /// Connections whose commands may still be ending.
    pub runners: Vec<Runner>,
}

/// Ends what a dead worker left running: running -> failed, with a line that says why. A job that is being cancelled
/// stays as it is, and so does a task's cancellation: they are finished once nothing of theirs runs any more.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn recover(db: &mut Db, now: i64) -> Result<Recovered> {
    db.write(|tx| {
        let mut recovered = Recovered { runners: runners::open(tx)?, ..Recovered::default() };
        for job in jobs::live_candidates(tx)? {
            recovered.servers.extend(tasks::started_servers(tx, job.id)?);
            if cancellations::live_of(tx, job.id, None)?.is_some() {
                continue;
            }
            cancel_wanted_tasks(tx, job.id)?;
            for server in tasks::running_servers(tx, job.id)? {
                servers::set_last_error(tx, server, Some(WHY), now)?;
            }
            tasks::abandon(tx, job.id, "the worker died", now)?;
            logs::append(tx, job.id, now, Stream::Stderr, &format!("left4me: {WHY}"))?;
            let Some(state) = jobs::recover(tx, job.id, WHY, now)? else { continue };
            let kind = format!("job.{state}");
            let event = NewEvent {
                kind: &kind,
                actor: "left4me-worker",
                job: Some(job.id),
                detail: WHY,
                ..NewEvent::default()
            };
            events::add(tx, now, &event)?;
            recovered.jobs.push((job.id, state));
        }
        recovered.servers.sort_unstable();
        recovered.servers.dedup();
        Ok(recovered)
    })
}

/// A task that ran and that somebody wanted ended has its wish: it is cancelled, not failed.
fn cancel_wanted_tasks(tx: &Connection, job: JobId) -> Result<()> {
    let wanted = cancellations::of_job(tx, job)?.into_iter().filter(|wish| !wish.state.is_over());
    for task in wanted.filter_map(|wish| wish.task_id) {
        tasks::set_cancelling(tx, task)?;
    }
    Ok(())
}

/// Waits until no process is left in the control groups of a dead worker's commands. Its connections are closed, so
/// runner and helper are ending them by the ladder. Gives those that are still there after `patience`.
///
/// A worker that died right after a command's start has not written down its group: so every runner there is is waited
/// for. The helper's verbs do no harm twice, and others use it, too.
pub fn wait_for_the_dead(runners: &[Runner], patience: Duration, mut meanwhile: impl FnMut()) -> Vec<Runner> {
    let deadline = Instant::now() + patience;
    let group = |runner: &Runner| runner.cgroup.as_deref().and_then(UnitGroup::above);
    let mut left: Vec<_> = runners.iter().filter_map(|runner| Some((runner, group(runner)?))).collect();
    let mut unknown = UnitGroup::all(RUNNERS);
    loop {
        left.retain(|(_, group)| group.is_populated());
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
        runners
            .iter()
            .try_for_each(|runner| runners::lose(tx, runner.id, left.iter().any(|other| other.id == runner.id), now))
    })
}

/// Looks once more at processes that would not die. Those that are gone hold nothing any more.
///
/// # Errors
/// 69 when the database cannot be used.
pub fn release(db: &mut Db) -> Result<()> {
    let left = runners::left(db.connection())?;
    let is_gone = |runner: &&Runner| {
        runner.cgroup.as_deref().and_then(UnitGroup::above).is_none_or(|group| !group.is_populated())
    };
    let gone: Vec<&Runner> = left.iter().filter(is_gone).collect();
    if !gone.is_empty() {
        db.write(|tx| gone.iter().try_for_each(|runner| runners::set_tree(tx, runner.id, false)))?;
        for runner in &gone {
            tracing::info!("{} has no process any more", runner.unit.as_deref().unwrap_or("a command"));
        }
    }
    Ok(())
}
