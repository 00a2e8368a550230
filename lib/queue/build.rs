//! The end of a check of the game's build: it is recorded, and decides how an update goes on.

use crate::base::names::{InstanceName, ServerId};
use crate::base::{Result, clock};
use crate::db::builds::Rejected;
use crate::db::events::NewEvent;
use crate::db::{builds, jobs, rolls, servers, tasks};
use crate::domain::operation::Operation;
use crate::domain::plan::{self, goes_on_after_check};
use crate::domain::server::{ActualState, DesiredState};
use crate::domain::task::{TaskKind, TaskState};
use crate::host::builds::BuildState;
use crate::queue::tick_state::Tick;
use crate::queue::work::Ended;
use crate::queue::{give_up, roll};

/// Settles the check of job `at` in the tick, which ended by itself. An update whose check found
/// nothing to do, or failed, skips what is left of it: no server is stopped.
pub(super) fn settle(tick: &mut Tick<'_>, at: usize, ended: &Ended) -> Result<()> {
    let is_update = tick.jobs[at].operation == Ok(Operation::Update);
    let Some(found) = &ended.builds else {
        let why = "it is not known whether there is a new build: no server was stopped";
        return match is_update {
            true => skip_the_rest(tick, at, why),
            false => Ok(()),
        };
    };

    let message = found.message(clock::local);
    if builds::record(tick.tx, found, tick.now)? {
        let event: NewEvent<'_> = tick.jobs[at].event("update.available", None, &message);
        tick.add_event(&event)?;
    }
    if !is_update {
        return jobs::set_result(tick.tx, tick.jobs[at].id, &message, tick.now);
    }

    let in_place = tick.jobs[at].options.in_place;
    // In place there is no other build to take.
    let rejected = builds::rejection(tick.tx, found.available)?.filter(|_| !in_place);
    let nothing = match &rejected {
        Some(one) => Some(why_rejected(one, ended.state_of_builds.as_deref())),
        None => found.is_current().then(|| found.nothing_to_do()),
    };
    match (nothing, &ended.state_of_builds) {
        // Only if the rollback from it was interrupted.
        (Some(why), Some(_)) if !in_place && found.is_current() && rejected.is_some() => {
            give_up::leave(tick.tx, found.available, &why, tick.now)?;
            jobs::set_result(tick.tx, tick.jobs[at].id, &why, tick.now)
        }
        (Some(why), Some(state)) if !in_place && found.is_current() => {
            let job = tick.jobs[at].id;
            if let Some(stopped) = roll::why_stopped(tick, found.available)? {
                return jobs::set_result(tick.tx, job, &format!("{why} ({stopped})"), tick.now);
            }
            // What an earlier update could not finish.
            if !roll::begin(tick, at, state)? {
                jobs::set_result(tick.tx, job, &why, tick.now)?;
            }
            rolls::set_build(tick.tx, job, found.available)
        }
        (Some(why), _) => {
            jobs::set_result(tick.tx, tick.jobs[at].id, &why, tick.now)?;
            skip_the_rest(tick, at, &why)
        }
        (None, Some(state)) if !in_place => download(tick, at, state),
        (None, _) => Ok(()),
    }
}

fn why_rejected(one: &Rejected, state: Option<&BuildState>) -> String {
    let build = one.build;
    let is_kept =
        state.is_some_and(|state| state.published.contains(&build) && state.current != Some(build));
    let all_the_same = match is_kept {
        true => format!("; `left4me-job enqueue rollback --build {build}` takes it all the same"),
        false => String::new(),
    };
    format!(
        "build {build} was rejected: nothing to do ({}{all_the_same})",
        one.why
    )
}

/// Adds what downloads and publishes the build. Servers that still have the files mounted which
/// steamcmd changes are stopped first.
fn download(tick: &mut Tick<'_>, at: usize, state: &BuildState) -> Result<()> {
    let mounted: Vec<&InstanceName> = state.on_installation().collect();
    let mut stopped = servers::all_that_should_run(tick.tx)?;
    stopped.retain(|id: &ServerId| mounted.contains(&&InstanceName::from(*id)));
    tick.append(at, &plan::after_check(&stopped))
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
