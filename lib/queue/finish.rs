//! How jobs end: done, given up, or unreadable.

use rusqlite::Connection;

use crate::base::names::{JobId, shown};
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::{jobs, tasks};
use crate::domain::job::{JobState, outcome};
use crate::domain::task::TaskState;
use crate::queue::active::{ActiveJob, ActiveTask};
use crate::queue::enqueue::WORKER;
use crate::queue::journal::Finished;
use crate::queue::tick_state::Tick;

/// Why a job is not started any more.
const STOPPED: &str = "worker stopped";

/// Ends jobs that have nothing left to do and, when the worker stops, jobs that cannot continue.
pub(super) fn finish_jobs(tick: &mut Tick<'_>, worker: &str, stopping: bool) -> Result<()> {
    for job in std::mem::take(&mut tick.jobs) {
        let done = job.tasks.iter().all(|task| task.state.is_terminal());
        let given_up = stopping || job.operation.is_err();
        let stuck = given_up && !job.tasks.iter().any(ActiveTask::is_running);

        if job.cancellations == 0 && (done || stuck) {
            finish_job(tick, &job, worker, done, verdict(&job, done, stopping))?;
        } else {
            tick.jobs.push(job);
        }
    }

    Ok(())
}

fn finish_job(
    tick: &mut Tick<'_>,
    job: &ActiveJob,
    worker: &str,
    done: bool,
    end: JobEnd,
) -> Result<()> {
    let (tx, now) = (tick.tx, tick.now);
    let error = end.error.as_deref();
    if !done {
        abandon(tx, job.id, &job.requested_by, error.unwrap_or(STOPPED), now)?;
    }

    let finish = jobs::Finish {
        state: end.state,
        exit_code: end.exit_code,
        error,
    };

    let mut state = end.state;
    if jobs::finish(tx, job.id, worker, &finish, now)? {
        let kind = format!("job.{state}");
        let mut event = job.event(&kind, None, error.unwrap_or(""));
        if let (JobState::Cancelled, Some((who, why))) = (state, &job.cancelled_by) {
            (event.actor, event.reason) = (who, why);
        }

        tick.add_event(&event)?;
        tick.judge_servers(job)?;
    } else {
        // Another program has ended the job, or is about to. This worker holds the lock and no
        // longer runs anything of it.
        let ended = jobs::recover(tx, job.id, "ended by another program while it ran", now)?;
        state = ended.unwrap_or(state);
        tracing::warn!(
            job_id = job.id.0,
            state = ?ended,
            "job {} was ended by another program while this worker ran it",
            job.id
        );
    }

    let finished = Finished::of(job, state, end.exit_code, end.error);
    tick.result.finished.push(finished);
    Ok(())
}

/// Ends the unfinished tasks of a job that is given up, each with an event.
pub fn abandon(tx: &Connection, job: JobId, actor: &str, why: &str, now: i64) -> Result<()> {
    for (task, server, state) in tasks::abandon(tx, job, why, now)? {
        let kind = format!("task.{state}");
        let event = NewEvent {
            job: Some(job),
            task: Some(task),
            server,
            ..NewEvent::new(&kind, actor, why)
        };

        events::add(tx, now, &event)?;
    }

    Ok(())
}

/// Fails a job whose rows cannot be read, so that it does not block the jobs behind it.
pub(super) fn fail_unreadable(
    tick: &mut Tick<'_>,
    id: JobId,
    worker: &str,
    error: &Error,
) -> Result<()> {
    let (tx, now) = (tick.tx, tick.now);
    let why = format!("its rows cannot be read: {error}");
    abandon(tx, id, WORKER, &why, now)?;

    let finish = jobs::Finish {
        state: JobState::Failed,
        exit_code: 1,
        error: Some(&why),
    };
    jobs::finish(tx, id, worker, &finish, now)?;

    tick.add_event(&NewEvent {
        job: Some(id),
        ..NewEvent::new("job.failed", WORKER, &why)
    })?;

    tick.result.finished.push(Finished::unreadable(id, why));
    Ok(())
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

    let operation = match &job.operation {
        Ok(operation) => operation,
        // An error's text is one printable line.
        Err(word) => {
            let error = Error::failed(format!("unknown operation '{}'", shown(word)));
            return failed(1, error.to_string());
        }
    };

    if !done {
        return failed(1, STOPPED.to_owned());
    }
    if job.servers.is_empty() && !operation.is_shared() {
        return failed(1, "a server operation without a server".to_owned());
    }
    if job.tasks.is_empty() {
        return failed(1, "the job has no tasks".to_owned());
    }

    let states: Vec<_> = job.tasks.iter().map(|task| task.state).collect();
    let first = |state| job.tasks.iter().find(|task| task.state == state);
    match (outcome(&states), first(TaskState::Failed)) {
        (JobState::Failed, Some(task)) => {
            let why = task.error.clone().unwrap_or_default();
            let prefix = if stopping {
                format!("{STOPPED}: ")
            } else {
                String::new()
            };
            failed(task.exit_code, format!("{prefix}{why}"))
        }
        (JobState::Succeeded, _) => JobEnd {
            state: JobState::Succeeded,
            exit_code: 0,
            error: None,
        },
        (state, _) => JobEnd {
            state,
            exit_code: 1,
            error: first(TaskState::Cancelled).and_then(|task| task.error.clone()),
        },
    }
}
