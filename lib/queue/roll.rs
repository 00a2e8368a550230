//! The roll: how a build comes to the servers, once it is the current one. Servers that run another
//! build are restarted, at once or a few at a time; or, under a condition, each by a job of its own
//! that waits for it.
//!
//! A server that does not come up on the build goes back by itself (see `start`). When too many do,
//! the roll stops; see `give_up` for what follows.

use std::collections::{HashMap, HashSet};

use crate::base::names::{InstanceName, JobId, ServerId, ServerRef};
use crate::base::{Exit, Result};
use crate::db::events::NewEvent;
use crate::db::{self, builds, jobs, logs, rolls, servers, tasks, update_options};
use crate::domain::condition::Condition;
use crate::domain::operation::Operation;
use crate::domain::plan;
use crate::domain::task::{TaskKind, TaskState};
use crate::host::builds::{BuildState, InstanceGame};
use crate::queue::active::ActiveJob;
use crate::queue::conditions;
use crate::queue::enqueue::{JobRequest, Requester, Targets, WORKER, enqueue_in};
use crate::queue::tick_state::Tick;
use crate::queue::work::Ended;
use crate::wire::Stream;

/// The end of a task that made a build the current one.
pub(super) fn switched(tick: &mut Tick<'_>, at: usize, ended: &Ended) -> Result<()> {
    let job = &tick.jobs[at];
    let (Some(state), Ok(operation)) = (&ended.state_of_builds, &job.operation) else {
        return Ok(());
    };
    let Some(build) = state.current else {
        return Ok(());
    };

    if *operation == Operation::Update
        && let Some(why) = why_not_rolled(tick, build, state)?
    {
        let result = format!("build {build} was verified: no server restarts ({why})");
        return jobs::set_result(tick.tx, job.id, &result, tick.now);
    }

    let message = format!("build {build} is the current build");
    let event: NewEvent<'_> = job.event("update.published", None, &message);
    tick.add_event(&event)?;
    jobs::set_result(tick.tx, job.id, &message, tick.now)?;
    rolls::set_build(tick.tx, job.id, build)?;

    match operation {
        Operation::Rollback => reject_newer(tick, job, build, &state.published)?,
        Operation::Update => {}
        // An install leaves the servers alone.
        _ => return Ok(()),
    }

    // What still waits for another build has nothing to wait for.
    let why = format!("job {} brings build {build}", job.id);
    let waiting = rolls::all_waiting(tick.tx)?;
    cancel_waiting(tick, waiting, &tick.jobs[at].requested_by, &why)?;
    begin(tick, at, state).map(drop)
}

/// Why a build that an update has published again is not rolled out: restarts that were stopped do not
/// go on by themselves. A build that was damaged and replaced is rolled out.
fn why_not_rolled(tick: &Tick<'_>, build: u64, state: &BuildState) -> Result<Option<String>> {
    if let Some(one) = builds::rejection(tick.tx, build)? {
        return Ok(Some(format!("it was rejected: {}", one.why)));
    }
    match state.is_replaced {
        true => Ok(None),
        false => why_stopped(tick, build),
    }
}

/// Why the last roll of a build was stopped, if it was, and how to go on with it.
pub(super) fn why_stopped(tick: &Tick<'_>, build: u64) -> Result<Option<String>> {
    let stopped = rolls::why_stopped(tick.tx, build)?;
    Ok(
        stopped
            .map(|why| format!("{why}; `left4me-job enqueue restart --all --rolling 1` goes on")),
    )
}

/// A rollback keeps updates from the builds that it leaves, until Steam has another one.
fn reject_newer(tick: &Tick<'_>, job: &ActiveJob, build: u64, published: &[u64]) -> Result<()> {
    let why = format!("job {} went back to build {build}", job.id);
    for &newer in published.iter().filter(|other| **other > build) {
        builds::reject(tick.tx, newer, &job.requested_by, &why, tick.now)?;
    }
    builds::accept(tick.tx, build)
}

/// Adds the restarts of the servers that run another build than the current one, or queues them as
/// jobs of their own, and the removal of builds that are no longer needed. False if no server needs
/// a restart.
pub(super) fn begin(tick: &mut Tick<'_>, at: usize, state: &BuildState) -> Result<bool> {
    let job = &tick.jobs[at];
    let mut outdated = outdated(tick, job, state)?;
    let waiting = rolls::waiting_servers(tick.tx)?;
    outdated.retain(|server| !waiting.contains(server));
    let condition = db::conditions::of(tick.tx, job.id)?;
    let restarts = !job.options.no_restart && !outdated.is_empty();

    if restarts && condition.is_some() {
        let job = job.clone();
        for &server in &outdated {
            wait_for(tick, &job, server, condition.clone())?;
        }
        tick.append(at, &plan::roll(&[], 1))?;
    } else if restarts {
        let at_once = job.options.rolling;
        let at_once = at_once.map_or(outdated.len(), |number| number.get().into());
        tick.append(at, &plan::roll(&outdated, at_once))?;
    } else {
        tick.append(at, &plan::roll(&[], 1))?;
    }
    Ok(restarts)
}

/// The servers that should run, or do, with other game files than the current build; without those
/// that the job restarts anyway. One that did not come up on this build before is left alone, or
/// each night would take it down once more.
fn outdated(tick: &Tick<'_>, job: &ActiveJob, state: &BuildState) -> Result<Vec<ServerId>> {
    let instances: HashMap<&InstanceName, &InstanceGame> = state
        .instances
        .iter()
        .map(|one| (&one.instance, one))
        .collect();
    let in_job: HashSet<ServerId> = job.tasks.iter().filter_map(|task| task.server).collect();

    let mut all = servers::all_that_should_run(tick.tx)?;
    all.retain(|server| {
        let is_other = |one: &&InstanceGame| {
            one.game.build() != state.current || state.is_replaced && one.is_mounted
        };
        let found = instances.get(&InstanceName::from(*server));
        !in_job.contains(server) && found.is_some_and(is_other)
    });

    // Those that are down have nothing to lose, and say least about the build.
    let runs = |server: &ServerId| {
        let found = instances.get(&InstanceName::from(*server));
        found.is_some_and(|one| one.is_mounted)
    };
    all.sort_by_key(|server| !runs(server));

    let Some(build) = state
        .current
        .filter(|_| job.operation == Ok(Operation::Update))
    else {
        return Ok(all);
    };
    for server in rolls::failed_on(tick.tx, build)? {
        if let Some(at) = all.iter().position(|one| *one == server) {
            all.remove(at);
            let line = format!(
                "server {server} did not come up on build {build} before and is left alone: \
                 `left4me-job enqueue restart --server {server}` tries it again"
            );
            logs::append(tick.tx, job.id, tick.now, Stream::Stdout, &line)?;
        }
    }
    Ok(all)
}

/// Queues the restart of one server under the condition of the update.
fn wait_for(
    tick: &Tick<'_>,
    job: &ActiveJob,
    server: ServerId,
    condition: Option<Condition>,
) -> Result<()> {
    let targets = Targets::Named(vec![ServerRef::Id(server)]);
    let requester = Requester::local(&job.requested_by);
    let request = JobRequest {
        condition,
        ..JobRequest::new(Operation::Restart, targets, requester)
    };
    match enqueue_in(tick.tx, &request, tick.now) {
        Ok(accepted) => rolls::set(tick.tx, accepted.job_id, job.id),
        Err(error) if error.exit == Exit::Conflict => {
            let line = format!("server {server} keeps its build until its next start: {error}");
            logs::append(tick.tx, job.id, tick.now, Stream::Stderr, &line)
        }
        Err(error) => Err(error),
    }
}

/// The end of a start, or of what failed before it: a server that went back is recorded, and too many failures end the roll.
pub(super) fn started(tick: &mut Tick<'_>, at: usize, task: usize, ended: &Ended) -> Result<()> {
    let job = &tick.jobs[at];
    let Some(server) = job.tasks[task].server else {
        return Ok(());
    };
    if let Some(build) = ended.failed_build {
        tasks::set_failed_build(tick.tx, ended.task, build)?;
        let why = ended.error.as_deref().unwrap_or_default();
        let event: NewEvent<'_> = job.event("server.went_back", Some(&job.tasks[task]), why);
        tick.add_event(&event)?;
    }

    let Some(roll) = job.roll().filter(|_| !ended.interrupted) else {
        return Ok(());
    };
    let allowed = update_options::of(tick.tx, roll)?.max_failures();
    if rolls::failures(tick.tx, roll)? < allowed.get().into() {
        return Ok(());
    }

    let what = match (ended.failed_build, ended.state) {
        (Some(build), _) => format!("server {server} did not come up on build {build}"),
        (None, TaskState::Failed) => format!("server {server} did not start"),
        (None, _) => "a server that it had restarted has crashed".to_owned(),
    };
    let why = format!("the roll was stopped: {what}");
    stop_own(tick, at, &why)?;
    let waiting = rolls::waiting(tick.tx, roll)?;
    cancel_waiting(tick, waiting, &tick.jobs[at].requested_by, &why)?;

    if rolls::is_stopped(tick.tx, roll)? {
        return Ok(());
    }
    let event = NewEvent {
        job: Some(roll),
        ..NewEvent::new("update.stopped", WORKER, &why)
    };
    tick.add_event(&event)
}

/// Leaves the servers of this job alone that it has not touched.
fn stop_own(tick: &mut Tick<'_>, at: usize, why: &str) -> Result<()> {
    for task in 0..tick.jobs[at].tasks.len() {
        let found = &tick.jobs[at].tasks[task];
        if found.kind == Ok(TaskKind::Stop) && found.state == TaskState::Pending {
            tasks::skip(tick.tx, found.id, why, tick.now)?;
            tick.skipped(at, task, why)?;
        }
    }
    Ok(())
}

/// Cancels restarts that wait for their condition.
fn cancel_waiting(tick: &Tick<'_>, jobs: Vec<JobId>, who: &str, why: &str) -> Result<()> {
    for waiting in jobs {
        conditions::cancel(tick.tx, waiting, who, why, tick.now)?;
    }
    Ok(())
}
