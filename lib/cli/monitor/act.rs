//! Carrying out what was decided on the screen, as the other verbs do it. What comes of it is told in one line.

use super::state::Action;
use crate::base::names::ServerRef;
use crate::base::table::Tone;
use crate::base::{Result, caller};
use crate::cancel::{self, CancelRequest};
use crate::cli::Context;
use crate::db::{jobs, queue};
use crate::queue::enqueue::{Asker, Poke, Targets, Wish, enqueue, poke};

/// Why the queue is paused, for whoever wonders.
const PAUSE_REASON: &str = "from the monitor";

/// Does it, and says in one line what came of it. An action that does nothing to the database says nothing.
pub fn act(context: &mut Context, action: &Action, now: i64) -> Option<(Tone, String)> {
    let done = match action {
        Action::Pause(true) => pause(context, now),
        Action::Pause(false) => resume(context, now),
        Action::Enqueue(operation, server) => {
            let caller = caller::caller();
            let wish = Wish {
                operation: *operation,
                targets: Targets::Named(vec![ServerRef::Id(*server)]),
                unique: true,
                asker: Asker::here(&caller),
            };
            enqueue(&mut context.db, &wish, now).map(|accepted| {
                let (job, server) = (accepted.job_id, server);
                let words = match accepted.added {
                    true => format!("job {job}: {operation} of server {server} is queued"),
                    false => format!("job {job} is there already: {operation} of server {server}"),
                };
                (Tone::Good, words)
            })
        }
        Action::Cancel { job, force, reason } => {
            let caller = caller::caller();
            let request = CancelRequest { force: *force, reason, ..CancelRequest::new(*job, &caller) };
            cancel::request(&mut context.db, &request, now)
                .map(|done| (if done.success { Tone::Good } else { Tone::Warning }, done.message))
        }
        Action::Draw | Action::Look | Action::Quit | Action::Suspend | Action::Repaint => return None,
    };
    Some(match done {
        Ok((tone, words)) => heard(context, action, tone, words),
        Err(error) => (Tone::Bad, error.to_string()),
    })
}

fn pause(context: &mut Context, now: i64) -> Result<(Tone, String)> {
    let by = caller::caller();
    let (paused, running) =
        context.db.write(|tx| Ok((queue::set_paused(tx, now, &by, Some(PAUSE_REASON))?, jobs::counts(tx)?.1)))?;
    Ok(match (paused, running) {
        (false, _) => (Tone::Warning, "the queue was paused already".to_owned()),
        (true, 0) => (Tone::Good, "the queue is paused".to_owned()),
        (true, running) => (Tone::Good, format!("the queue is paused; {running} running go on")),
    })
}

fn resume(context: &mut Context, now: i64) -> Result<(Tone, String)> {
    let by = caller::caller();
    let resumed = context.db.write(|tx| queue::set_resumed(tx, now, &by))?;
    Ok(match resumed {
        true => (Tone::Good, "the queue goes on".to_owned()),
        false => (Tone::Warning, "the queue was not paused".to_owned()),
    })
}

/// Pokes the worker, and adds why when nobody hears it. What was written stands all the same.
fn heard(context: &Context, action: &Action, tone: Tone, words: String) -> (Tone, String) {
    if matches!(action, Action::Pause(true)) {
        return (tone, words);
    }
    match poke(&context.worker_socket) {
        Poke::Sent => (tone, words),
        Poke::Unheard(error) => (Tone::Warning, format!("{words}; {error}")),
    }
}
