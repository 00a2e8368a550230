//! The end of a check of the game's build: it is recorded, and decides whether an update goes on.

use crate::base::{Result, clock};
use crate::db::events::NewEvent;
use crate::db::{builds, jobs, servers, tasks};
use crate::domain::build::Builds;
use crate::domain::operation::Operation;
use crate::domain::plan::goes_on_after_check;
use crate::domain::server::{ActualState, DesiredState};
use crate::domain::task::{TaskKind, TaskState};
use crate::queue::active::ActiveJob;
use crate::queue::tick_state::Tick;
use crate::queue::work::Ended;

/// Settles the check of job `at` in the tick, which ended by itself. An update whose check found
/// nothing to do, or failed, skips what is left of it: no server is stopped.
pub(super) fn settle(tick: &mut Tick<'_>, at: usize, ended: &Ended) -> Result<()> {
    if let Some(found) = &ended.builds {
        record(tick, &tick.jobs[at], found)?;
    }

    let is_update = tick.jobs[at].operation == Ok(Operation::Update);
    let why = match &ended.builds {
        Some(found) if found.is_current() => found.nothing_to_do(),
        Some(_) => return Ok(()),
        None => "it is not known whether there is a new build: no server was stopped".to_owned(),
    };
    if is_update {
        skip_the_rest(tick, at, &why)?;
    }
    Ok(())
}

/// Records what the check found: for all to read, and as the result of a job that has nothing else
/// to do.
fn record(tick: &Tick<'_>, job: &ActiveJob, found: &Builds) -> Result<()> {
    let (tx, now) = (tick.tx, tick.now);
    let message = found.message(clock::local);
    if builds::record(tx, found, now)? {
        let event: NewEvent<'_> = job.event("update.available", None, &message);
        tick.add_event(&event)?;
    }

    match job.operation {
        Ok(Operation::Check) => jobs::set_result(tx, job.id, &message, now),
        _ if found.is_current() => jobs::set_result(tx, job.id, &found.nothing_to_do(), now),
        _ => Ok(()),
    }
}

/// Records the build that an installation left. It is what Steam publishes, so any other one that a
/// check finds is news.
pub(super) fn installed(tick: &Tick<'_>, ended: &Ended) -> Result<()> {
    if let Some(found) = &ended.builds {
        builds::record(tick.tx, found, tick.now)?;
    }
    Ok(())
}

fn skip_the_rest(tick: &mut Tick<'_>, at: usize, why: &str) -> Result<()> {
    for task in 0..tick.jobs[at].tasks.len() {
        let found = &tick.jobs[at].tasks[task];
        if found.state != TaskState::Pending {
            continue;
        }

        let server = match found.server {
            Some(server) => servers::get(tick.tx, server)?,
            None => None,
        };
        // A stop may have been accepted since.
        let is_down = server.is_some_and(|server| {
            server.actual_state == ActualState::Stopped
                && server.desired_state == DesiredState::Running
        });
        let kind = found.kind.as_ref().ok().copied();
        if !kind.is_some_and(|kind: TaskKind| goes_on_after_check(kind, is_down)) {
            tasks::skip(tick.tx, found.id, why, tick.now)?;
            tick.skipped(at, task, why)?;
        }
    }
    Ok(())
}
