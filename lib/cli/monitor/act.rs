//! Carries out the monitor's actions, as the other verbs do. The result is one line for the footer.

use super::state::Action;
use crate::base::names::{ServerId, ServerRef};
use crate::base::table::Tone;
use crate::base::{Result, caller};
use crate::cancel::{self, CancelRequest};
use crate::cli::Context;
use crate::db::{jobs, queue};
use crate::domain::condition::Condition;
use crate::domain::condition::warning::Warnings;
use crate::domain::operation::Operation;
use crate::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
use crate::queue::wake;

/// The reason recorded with a pause.
const PAUSE_REASON: &str = "from the monitor";

/// Carries out an action; returns its result as a message. None for actions of the screen alone,
/// and for a command to a game, whose reply comes later.
pub fn act(context: &mut Context, action: &Action, now: i64) -> Option<(Tone, String)> {
    let done = match action {
        Action::Pause(true) => pause(context, now),
        Action::Pause(false) => resume(context, now),
        Action::Enqueue(operation, server) => queue_job(context, *operation, *server, None, now),
        Action::EnqueueWhenEmpty(operation, server) => {
            let when_empty = Condition {
                when_empty: true,
                deadline: None,
                warnings: Warnings::default(),
            };
            queue_job(context, *operation, *server, Some(when_empty), now)
        }
        Action::Cancel { job, force, reason } => {
            let caller = caller::caller();
            let request = CancelRequest {
                force: *force,
                reason,
                ..CancelRequest::new(*job, &caller)
            };

            cancel::request(&mut context.db, &request, now).map(|done| {
                (
                    if done.success {
                        Tone::Good
                    } else {
                        Tone::Warning
                    },
                    done.message,
                )
            })
        }
        Action::Draw
        | Action::Reload
        | Action::Quit
        | Action::Suspend
        | Action::Repaint
        | Action::Send(..) => return None,
    };

    Some(match done {
        Ok((tone, message)) => wake_worker(context, action, tone, message),
        Err(error) => (Tone::Bad, error.to_string()),
    })
}

fn queue_job(
    context: &mut Context,
    operation: Operation,
    server: ServerId,
    condition: Option<Condition>,
    now: i64,
) -> Result<(Tone, String)> {
    let caller = caller::caller();
    let targets = Targets::Named(vec![ServerRef::Id(server)]);
    let request = JobRequest {
        unique: true,
        condition,
        ..JobRequest::new(operation, targets, Requester::local(&caller))
    };

    let accepted = enqueue(&mut context.db, &request, now)?;
    let job = accepted.job_id;
    let waits = accepted
        .waiting
        .map_or_else(String::new, |why| format!("; it waits: {why}"));
    let message = match accepted.added {
        true => format!("job {job} queued: {operation} server {server}{waits}"),
        false => {
            format!("already queued or running: job {job}, {operation} server {server}{waits}")
        }
    };
    Ok((Tone::Good, message))
}

fn pause(context: &mut Context, now: i64) -> Result<(Tone, String)> {
    let by = caller::caller();
    let (paused, running) = context.db.write(|tx| {
        Ok((
            queue::set_paused(tx, now, &by, Some(PAUSE_REASON))?,
            jobs::counts(tx)?.1,
        ))
    })?;

    Ok(match (paused, running) {
        (false, _) => (Tone::Warning, "the queue is paused already".to_owned()),
        (true, 0) => (Tone::Good, "the queue is paused".to_owned()),
        (true, running) => (
            Tone::Good,
            format!("the queue is paused; running jobs continue: {running}"),
        ),
    })
}

fn resume(context: &mut Context, now: i64) -> Result<(Tone, String)> {
    let by = caller::caller();
    let resumed = context.db.write(|tx| queue::set_resumed(tx, now, &by))?;
    Ok(match resumed {
        true => (Tone::Good, "the queue is resumed".to_owned()),
        false => (Tone::Warning, "the queue is not paused".to_owned()),
    })
}

/// Wakes the worker. If that fails, adds why to the message: the action is recorded anyway.
fn wake_worker(context: &Context, action: &Action, tone: Tone, message: String) -> (Tone, String) {
    if matches!(action, Action::Pause(true)) {
        return (tone, message);
    }
    match wake::worker(&context.worker_socket) {
        Ok(()) => (tone, message),
        Err(error) => (Tone::Warning, format!("{message}; {error}")),
    }
}
