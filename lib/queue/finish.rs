//! How jobs end: done, given up, or unreadable.

use rusqlite::Connection;

use crate::base::names::JobId;
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::{jobs, tasks};
use crate::domain::job::{JobState, outcome};
use crate::domain::task::TaskState;
use crate::queue::active::{ActiveJob, ActiveTask};
use crate::queue::journal::Finished;
use crate::queue::tick_result::{TickResult, event};

/// Why a job is not started any more.
pub const STOPPED: &str = "worker stopped";

/// Ends jobs that have nothing left to do and, when the worker stops, jobs that cannot continue.
pub(super) fn finish_jobs(
    tx: &Connection,
    active: &mut Vec<ActiveJob>,
    worker: &str,
    stopping: bool,
    now: i64,
    result: &mut TickResult,
) -> Result<()> {
    let mut finished = Vec::new();
    for job in active.iter().filter(|job| job.cancellations == 0) {
        let done = job.tasks.iter().all(|task| task.state.is_terminal());
        let hopeless = stopping || job.operation.is_err();

        let stuck = hopeless && !job.tasks.iter().any(ActiveTask::is_running);
        if !done && !stuck {
            continue;
        }

        let end = verdict(job, done, stopping);
        if !done {
            abandon(
                tx,
                job.id,
                &job.requested_by,
                end.error.as_deref().unwrap_or(STOPPED),
                now,
            )?;
        }

        let finish = jobs::Finish {
            state: end.state,
            exit_code: end.exit_code,
            error: end.error.as_deref(),
        };

        if !jobs::finish(tx, job.id, worker, &finish, now)? {
            // Another program has ended the job, or wants to. This worker holds the lock and no
            // longer runs anything of it.
            let state = jobs::recover(tx, job.id, "ended outside this worker while it ran", now)?;
            tracing::warn!(
                job_id = job.id.0,
                ?state,
                "job {} was not ours to finish",
                job.id
            );

            finished.push(Finished::of(
                job,
                state.unwrap_or(end.state),
                end.exit_code,
                end.error,
            ));

            continue;
        }

        let kind = format!("job.{}", end.state);
        let mut told = event(job, &kind, None, end.error.as_deref().unwrap_or(""));
        if let Some((who, why)) = job.tasks.iter().find_map(|task| task.cancelled_by.as_ref())
            && end.state == JobState::Cancelled
        {
            (told.actor, told.reason) = (who, why);
        }

        events::add(tx, now, &told)?;
        result.leave_servers(tx, job, now)?;
        finished.push(Finished::of(job, end.state, end.exit_code, end.error));
    }

    active.retain(|job| !finished.iter().any(|ended| ended.job == job.id));
    result.finished.extend(finished);
    Ok(())
}

/// Ends the unfinished tasks of a job that is given up, each with an event.
pub fn abandon(tx: &Connection, job: JobId, actor: &str, why: &str, now: i64) -> Result<()> {
    for (task, server, state) in tasks::abandon(tx, job, why, now)? {
        let kind = format!("task.{state}");
        let event = NewEvent {
            kind: &kind,
            actor,
            job: Some(job),
            task: Some(task),
            server,
            detail: why,
            ..NewEvent::default()
        };

        events::add(tx, now, &event)?;
    }

    Ok(())
}

/// Fails a job whose rows cannot be read, so that it does not block the jobs behind it.
pub(super) fn fail_unreadable(
    tx: &Connection,
    id: JobId,
    worker: &str,
    error: &Error,
    now: i64,
) -> Result<Finished> {
    let why = format!("its rows cannot be read: {error}");
    abandon(tx, id, "left4me-worker", &why, now)?;
    jobs::finish(
        tx,
        id,
        worker,
        &jobs::Finish {
            state: JobState::Failed,
            exit_code: 1,
            error: Some(&why),
        },
        now,
    )?;

    events::add(
        tx,
        now,
        &NewEvent {
            kind: "job.failed",
            actor: "left4me-worker",
            job: Some(id),
            detail: &why,
            ..NewEvent::default()
        },
    )?;

    Ok(Finished::unreadable(id, why))
}

struct JobEnd {
    state: JobState,
    exit_code: i64,
    error: Option<String>,
}

fn verdict(job: &ActiveJob, done: bool, stopping: bool) -> JobEnd {
    let failed = |exit_code, error: String| JobEnd {
        state: JobState::Failed,
        exit_code,
        error: Some(error),
    };

    if let Err(word) = &job.operation {
        return failed(
            1,
            Error::failed(format!(
                "unknown operation '{}'",
                crate::base::names::shown(word)
            ))
            .to_string(),
        );
    }

    if !done {
        return failed(1, STOPPED.to_owned());
    }

    if job.servers.is_empty()
        && job
            .operation
            .as_ref()
            .is_ok_and(|operation| !operation.is_exclusive())
    {
        return failed(1, "a server operation without a server".to_owned());
    }

    if job.tasks.is_empty() {
        return failed(1, "the job has no tasks".to_owned());
    }

    let states: Vec<_> = job.tasks.iter().map(|task| task.state).collect();
    let first_failed = job
        .tasks
        .iter()
        .find(|task| task.state == TaskState::Failed);
    match (outcome(&states), first_failed) {
        (JobState::Failed, Some(task)) => {
            let why = task.error.clone().unwrap_or_default();
            failed(
                task.exit_code,
                if stopping {
                    format!("{STOPPED}: {why}")
                } else {
                    why
                },
            )
        }
        (JobState::Succeeded, _) => JobEnd {
            state: JobState::Succeeded,
            exit_code: 0,
            error: None,
        },
        (state, _) => {
            let error = job
                .tasks
                .iter()
                .find(|task| task.state == TaskState::Cancelled);
            JobEnd {
                state,
                exit_code: 1,
                error: error.and_then(|task| task.error.clone()),
            }
        }
    }
}
