//! Finishes the cancellations that a dead worker left, before its other jobs are failed. Their
//! commands have ended (queue/recover.rs waited for that), so every missing step is taken at once.

use std::time::Duration;

use crate::base::config::Pauses;
use crate::base::names::{JobId, ServerId};
use crate::base::{Result, clock, failpoint, notify};
use crate::cancel::cleaner::clean_up;
use crate::cancel::journal::JournalMessage;
use crate::cancel::tracked::Action;
use crate::cancel::tracker::Tracker;
use crate::db::{Db, cancellations, candidates, logs};
use crate::host::operation::HostPaths;
use crate::queue::active::ActiveJob;
use crate::queue::observe::StateReport;
use crate::queue::tick_state::{Tick, TickResult};
use crate::wire::Stream;

/// How many times it checks for more: new requests may come in while it works.
const ROUNDS: usize = 5;

/// Finishes them. Returns the jobs that ended, and the servers to check again.
pub fn recover(
    db: &mut Db,
    paths: &HostPaths,
    pauses: &Pauses,
) -> Result<(Vec<JobId>, Vec<ServerId>)> {
    if !cancellations::any_live(db.connection())? {
        return Ok((Vec::new(), Vec::new()));
    }
    failpoint::hit("cancel.recovering");

    let mut jobs = Vec::new();
    for job in candidates::active(db.connection())? {
        // A job whose rows cannot be read is failed later, by queue/recover.rs.
        let Ok(mut job) = ActiveJob::load(db.connection(), job.id) else {
            continue;
        };
        for task in &mut job.tasks {
            task.block();
            task.end_thread();
        }
        jobs.push(job);
    }

    let mut tracker = Tracker::new(Duration::ZERO, pauses.clone());
    let mut result = TickResult::default();
    // The first round takes every step up to the cleanup, the second one finishes.
    for _ in 0..ROUNDS {
        if !cancellations::any_live(db.connection())? {
            break;
        }

        let actions = db.write(|tx| {
            let mut tick = Tick {
                tx,
                now: clock::now_ms(),
                jobs: std::mem::take(&mut jobs),
                result: std::mem::take(&mut result),
            };
            let actions = tracker.advance(&mut tick)?;
            (jobs, result) = (tick.jobs, tick.result);
            Ok(actions)
        })?;

        for action in actions {
            notify::watchdog();
            match action {
                Action::CleanUp(work) => {
                    tracker.add_report(clean_up(&work, &paths.root, &paths.helper));
                }
                // This worker has sent no signal.
                Action::Log(JournalMessage::Signal(_)) | Action::CloseConnections(_) => {}
                Action::Log(message) => message.log(),
                // No command is left to end, but the job's log says why it stops.
                Action::EndCommands { job, message, .. } => {
                    let line = format!("left4me: {message}; the worker that ran it had died");
                    db.write(|tx| logs::append(tx, job, clock::now_ms(), Stream::Stderr, &line))?;
                }
            }
        }
    }

    failpoint::hit("cancel.recovered");
    result.reports.iter().for_each(StateReport::log);
    let ended = result.finished.iter().map(|ended| ended.job).collect();
    Ok((ended, result.recheck))
}
