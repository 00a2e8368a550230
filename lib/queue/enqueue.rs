//! Accepts jobs. One transaction writes the rows; then a one-byte datagram wakes the worker. Only
//! the rows count; a lost datagram loses no job.

use std::num::NonZeroU16;

use serde::Serialize;

use crate::base::names::{JobId, RequestKey, ServerId, ServerRef, UserId};
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::jobs::{self, Job, NewJob};
use crate::db::{Db, conditions, request_keys, servers};
use crate::domain::condition::Condition;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::plan::{self, Plan};
use crate::domain::update::UpdateOptions;
use crate::queue::moved;

/// Which servers a job is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// No server: the operation is for the game files that all servers share.
    None,
    /// All servers that exist when the job is accepted.
    All,
    /// These servers.
    Named(Vec<ServerRef>),
}

/// A request for a job.
#[derive(Clone, Debug)]
pub struct JobRequest<'a> {
    pub operation: Operation,
    pub targets: Targets,
    /// If the same job is already queued or running, return that one.
    pub unique: bool,
    /// At most so many servers at a time; all at once by default.
    pub rolling: Option<NonZeroU16>,
    /// Only for an update, a rollback or a reset.
    pub update: UpdateOptions,
    /// What it waits for; of an update or rollback beside running servers, what its restarts wait
    /// for.
    pub condition: Option<Condition>,
    pub requester: Requester<'a>,
}

#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The name that is stored with the job and its events.
    pub name: &'a str,
    /// The account, for requests over the web.
    pub user: Option<UserId>,
    /// The same key of the same account gives the same job again, for a double click or a repeated
    /// call.
    pub key: Option<&'a RequestKey>,
    /// Why, for the job's first event; empty if nobody said so.
    pub reason: &'a str,
}

/// The requester of what left4me asks for by itself.
pub(super) const WORKER: &str = "left4me-worker";

impl<'a> JobRequest<'a> {
    /// A request without anything but what every one has.
    pub fn new(operation: Operation, targets: Targets, requester: Requester<'a>) -> Self {
        Self {
            operation,
            targets,
            unique: false,
            rolling: None,
            update: UpdateOptions::default(),
            condition: None,
            requester,
        }
    }

    /// The options that the job is stored with.
    fn options(&self) -> UpdateOptions {
        match self.operation.rolls_out() {
            true => UpdateOptions {
                rolling: self.rolling,
                ..self.update.clone()
            },
            false => self.update.clone(),
        }
    }
}

impl<'a> Requester<'a> {
    /// A request of the worker itself, with its reason.
    pub(super) fn worker(reason: &'a str) -> Self {
        Self {
            reason,
            ..Self::local(WORKER)
        }
    }

    /// A request from this host's command line.
    pub fn local(name: &'a str) -> Self {
        Self {
            name,
            user: None,
            key: None,
            reason: "",
        }
    }
}

/// The accepted job.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Accepted {
    /// The job.
    pub job_id: JobId,
    /// Its state.
    pub state: JobState,
    /// 1 for the next one; only while queued and not waiting for a condition.
    pub queue_position: Option<i64>,
    /// What it waits for, if it waits for a condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub waiting: Option<String>,
    /// False if `unique` or the idempotency key found an existing job.
    #[serde(skip)]
    pub added: bool,
}

/// Accepts a job. When this returns, the job is on disk.
///
/// Fails with 2 if operation and targets do not fit; 3 for an unknown server; 4 if the key belongs
/// to another request, or too many jobs wait for a condition; 69 if the database cannot be written.
pub fn enqueue(db: &mut Db, request: &JobRequest<'_>, now: i64) -> Result<Accepted> {
    db.write(|tx| enqueue_in(tx, request, now))
}

/// The same, as a part of a transaction.
pub fn enqueue_in(
    tx: &rusqlite::Connection,
    request: &JobRequest<'_>,
    now: i64,
) -> Result<Accepted> {
    let targets = resolve(tx, request)?;
    if let Some(job) = repeated(tx, &request.requester, now)? {
        if job.operation != request.operation.as_str()
            || job.servers != targets
            || rolling_of(&job) != rolling_in_effect(request, &targets)
            || job.options != request.options()
            || job.retry_of.is_some()
            || !jobs::is_same(
                conditions::of(tx, job.id)?.as_ref(),
                request.condition.as_ref(),
            )
        {
            return Err(reused(&job));
        }
        return accepted(tx, job.id, false, now);
    }

    if request.unique
        && let Some(job_id) = jobs::find_live_twin(
            tx,
            request.operation,
            &targets,
            request.condition.as_ref(),
            &request.options(),
        )?
    {
        return accepted(tx, job_id, false, now);
    }

    let task = Accept {
        operation: request.operation,
        targets: &targets,
        rolling: request.rolling,
        options: &request.options(),
        condition: request.condition.as_ref(),
        retry_of: None,
    };
    let id = accept(tx, &task, &request.requester, now)?;
    accepted(tx, id, true, now)
}

/// The job that was accepted with this key before.
pub(super) fn repeated(
    tx: &rusqlite::Connection,
    requester: &Requester<'_>,
    now: i64,
) -> Result<Option<Job>> {
    let (Some(user), Some(key)) = (requester.user, requester.key) else {
        return Ok(None);
    };
    request_keys::find(tx, user, key, now)?
        .map(|id| jobs::get(tx, id))
        .transpose()
}

/// The error for a key that belongs to another request. Without it, the caller would take the
/// outcome of that job for its own.
pub(super) fn reused(job: &Job) -> Error {
    Error::conflict(format!(
        "this key belongs to job {} ({}): another request needs a key of its own",
        job.id, job.operation
    ))
}

pub(super) fn accepted(
    tx: &rusqlite::Connection,
    job_id: JobId,
    added: bool,
    now: i64,
) -> Result<Accepted> {
    let state = if added {
        JobState::Queued
    } else {
        jobs::state(tx, job_id)?.0
    };

    let is_queued = state == JobState::Queued;
    let waiting = match is_queued {
        true => conditions::message(tx, job_id, now)?,
        false => None,
    };
    let queue_position = if is_queued && waiting.is_none() {
        Some(jobs::queue_position(tx, job_id)?)
    } else {
        None
    };

    Ok(Accepted {
        job_id,
        state,
        queue_position,
        waiting,
        added,
    })
}

/// The servers whose players a job would send away; none for all.
///
/// Fails as [`enqueue`] does if operation and targets do not fit, or for an unknown server.
pub fn players_of(
    connection: &rusqlite::Connection,
    request: &JobRequest<'_>,
) -> Result<Option<Vec<ServerId>>> {
    let targets = resolve(connection, request)?;
    Ok((!request.operation.is_shared()).then_some(targets))
}

/// The ids of the servers, ascending and without duplicates.
fn resolve(tx: &rusqlite::Connection, request: &JobRequest<'_>) -> Result<Vec<ServerId>> {
    let operation = request.operation;
    if request.rolling.is_some() && operation.is_shared() && !operation.rolls_out() {
        return Err(Error::usage(format!(
            "{operation} cannot be rolling: it is for the game files that all servers share"
        )));
    }

    request
        .options()
        .check(operation, request.condition.is_some())
        .map_err(|error| Error::usage(error.to_string()))?;

    if request.rolling.is_some() && request.condition.is_some() {
        return Err(Error::usage(
            "a rolling operation cannot wait for a condition: its later servers would be stopped \
             long after it was met; enqueue a job for each server",
        ));
    }

    let mut ids: Vec<ServerId> = match &request.targets {
        Targets::None if operation.is_shared() => return Ok(Vec::new()),
        Targets::None => {
            return Err(Error::usage(format!(
                "{operation} needs servers: pass --server or --all"
            )));
        }
        _ if operation.is_shared() => {
            return Err(Error::usage(format!(
                "{operation} is for the game files that all servers share: \
                 it takes no --server and no --all"
            )));
        }
        Targets::All => servers::all_ids(tx)?,
        Targets::Named(names) => names
            .iter()
            .map(|name| servers::find_id(tx, name))
            .collect::<Result<_>>()?,
    };

    if ids.is_empty() {
        return Err(Error::not_found(
            "there is no server yet: `left4me server create NAME --blueprint B` creates one",
        ));
    }

    ids.sort_unstable();
    ids.dedup();
    match request.targets {
        Targets::All => moved::leave_out(tx, operation, &mut ids)?,
        Targets::None | Targets::Named(_) => moved::refuse(tx, operation, &ids)?,
    }
    Ok(ids)
}

/// The same of a request. An update has it among its options.
fn rolling_in_effect(request: &JobRequest<'_>, targets: &[ServerId]) -> Option<NonZeroU16> {
    let rolling = request.rolling.filter(|_| !request.operation.rolls_out())?;
    (usize::from(rolling.get()) < targets.len()).then_some(rolling)
}

/// How many servers at a time the plan of a job works on: the distance between two servers of which
/// one waits for the other. None if no server waits.
pub(super) fn rolling_of(job: &Job) -> Option<NonZeroU16> {
    let place = |server: ServerId| job.servers.iter().position(|&other| other == server);
    let of_task = |id| {
        let task = job.tasks.iter().find(|task| task.id == id)?;
        place(task.server?)
    };

    job.tasks.iter().find_map(|task| {
        let own = place(task.server?)?;
        let other = task.depends_on.iter().find_map(|&id| of_task(id))?;
        NonZeroU16::new(u16::try_from(own.checked_sub(other)?).ok()?)
    })
}

/// What a new job is to do.
pub(super) struct Accept<'a> {
    pub(super) operation: Operation,
    pub(super) targets: &'a [ServerId],
    pub(super) rolling: Option<NonZeroU16>,
    pub(super) options: &'a UpdateOptions,
    pub(super) condition: Option<&'a Condition>,
    pub(super) retry_of: Option<JobId>,
}

pub(super) fn accept(
    tx: &rusqlite::Connection,
    task: &Accept<'_>,
    requester: &Requester<'_>,
    now: i64,
) -> Result<JobId> {
    let &Accept {
        operation,
        targets,
        rolling,
        options,
        condition,
        retry_of,
    } = task;

    let plan = match rolling.filter(|_| !operation.rolls_out()) {
        Some(at_once) => plan::rolling(operation, targets, at_once.get().into(), options),
        None => plan_now(tx, operation, targets, options)?,
    };
    let new = NewJob {
        operation,
        targets,
        requested_by: requester.name,
        user: requester.user,
        retry_of,
        options,
        on_hold: waits(operation, options, condition),
    };

    if condition.is_some() {
        conditions::check_room(tx)?;
    }
    let id = jobs::insert(tx, &new, &plan, now)?;
    if let (Some(user), Some(key)) = (requester.user, requester.key) {
        request_keys::add(tx, user, key, id, now)?;
    }

    match condition {
        Some(condition) => conditions::insert(tx, id, condition, now)?,
        None => set_desired(tx, operation, targets, now)?,
    }

    let what = match options.stale {
        true => format!("{operation} of stale files"),
        false => operation.to_string(),
    };
    let detail = match condition {
        Some(condition) => format!("{what} ({})", condition.message()),
        None => what,
    };
    events::add(
        tx,
        now,
        &NewEvent {
            job: Some(id),
            server: events::only_server(targets),
            reason: requester.reason,
            ..NewEvent::new("job.queued", requester.name, &detail)
        },
    )?;

    Ok(id)
}

/// The plan of a job as the servers are now. An update in place also stops and starts the servers
/// that should be running.
pub(super) fn plan_now(
    tx: &rusqlite::Connection,
    operation: Operation,
    targets: &[ServerId],
    options: &UpdateOptions,
) -> Result<Plan> {
    let running = match operation {
        Operation::Update if options.in_place => servers::all_that_should_run(tx)?,
        _ => Vec::new(),
    };
    Ok(plan::plan(operation, targets, &running, options))
}

/// Whether a job waits for its condition itself. An update beside running servers does not: the
/// condition is that of its restarts.
fn waits(operation: Operation, options: &UpdateOptions, condition: Option<&Condition>) -> bool {
    condition.is_some() && (options.in_place || !operation.rolls_out())
}

/// Sets the desired state that the operation gives its servers. A job that waits for a condition
/// does so only when it stops waiting: until then the servers are as they should be.
pub(super) fn set_desired(
    tx: &rusqlite::Connection,
    operation: Operation,
    targets: &[ServerId],
    now: i64,
) -> Result<()> {
    if let Some(desired) = operation.desired_state() {
        for &server in targets {
            servers::set_desired(tx, server, desired, now)?;
        }
    }
    Ok(())
}
