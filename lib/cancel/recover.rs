//! What a worker that starts does with the cancellations that a dead one left: they are finished, before its other jobs
//! are failed. Nothing of them runs any more (queue/recover.rs has waited for that), so every step that is missing can be
//! taken at once.

use std::time::Duration;

use crate::base::names::JobId;
use crate::base::{Result, clock, failpoint};
use crate::cancel::cleaner::clean_up;
use crate::cancel::tracker::{Act, Tracker};
use crate::db::{Db, cancellations, jobs, logs};
use crate::domain::job::JobState;
use crate::queue::hands::Places;
use crate::queue::live::LiveJob;
use crate::queue::turn::Outcome;
use crate::wire::Stream;

/// Finishes them. Gives the jobs that ended by it.
///
/// # Errors
/// 69 when the database cannot be written; what is not finished then is finished at the next start.
pub fn recover(db: &mut Db, places: &Places) -> Result<Vec<JobId>> {
    let mut ids: Vec<JobId> = cancellations::live(db.connection())?.into_iter().map(|record| record.job_id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    failpoint::hit("cancel.recovering");
    ids.sort_unstable();
    ids.dedup();
    let mut live = Vec::new();
    for id in ids {
        // A job of which somebody wanted one task ended still counts as running.
        if matches!(jobs::state(db.connection(), id)?.0, JobState::Running | JobState::Cancelling) {
            let mut job = LiveJob::load(db.connection(), id)?;
            for task in &mut job.tasks {
                task.ended = true;
            }
            live.push(job);
        }
    }
    let mut tracker = Tracker::new(Duration::ZERO);
    let mut outcome = Outcome::default();
    // First every step up to settling, then, once it was looked at, the end.
    for _ in 0..2 {
        db.write(|tx| tracker.attend(tx, &mut live, &mut outcome, clock::now_ms()))?;
        for act in tracker.take_acts() {
            match act {
                Act::CleanUp(work) => tracker.note(clean_up(&work, &places.root, &places.helper)),
                Act::Tell(told) => told.tell(),
                // There is nothing to be told to end any more; but its log tells why it stops.
                Act::End { job, words, .. } => {
                    let line = format!("left4me: {words}; the worker that ran it had died");
                    db.write(|tx| logs::append(tx, job, clock::now_ms(), Stream::Stderr, &line))?;
                }
                Act::Close(_) => {}
            }
        }
    }
    failpoint::hit("cancel.recovered");
    outcome.news.iter().for_each(crate::queue::observe::News::tell);
    Ok(outcome.finished.into_iter().map(|(job, _)| job).collect())
}
