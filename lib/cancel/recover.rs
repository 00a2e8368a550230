//! What a worker that starts does with the cancellations that a dead one left: they are finished, before its other jobs
//! are failed. Nothing of them runs any more (queue/recover.rs has waited for that), so every step that is missing can be
//! taken at once.

use std::time::Duration;

use crate::base::config::Pauses;
use crate::base::names::{JobId, ServerId};
use crate::base::{Result, clock, failpoint};
use crate::cancel::cleaner::clean_up;
use crate::cancel::journal::Entry;
use crate::cancel::tracker::{Act, Tracker};
use crate::db::{Db, cancellations, jobs, logs};
use crate::queue::hands::Places;
use crate::queue::live::LiveJob;
use crate::queue::turn::Outcome;
use crate::wire::Stream;

/// How often it is looked for more: somebody may cancel what counts as running while this is at work.
const ROUNDS: usize = 5;

/// Finishes them. Gives the jobs that ended by it, and servers to be looked at once more. `meanwhile` is called between
/// things that take time.
///
/// # Errors
/// 69 when the database cannot be written; what is not finished then is finished at the next start.
pub fn recover(
    db: &mut Db,
    places: &Places,
    pauses: &Pauses,
    meanwhile: impl Fn(),
) -> Result<(Vec<JobId>, Vec<ServerId>)> {
    if !cancellations::any_live(db.connection())? {
        return Ok((Vec::new(), Vec::new()));
    }
    failpoint::hit("cancel.recovering");
    let mut live = Vec::new();
    for job in jobs::live_candidates(db.connection())? {
        // One whose rows cannot be read is failed by whoever comes after this.
        let Ok(mut job) = LiveJob::load(db.connection(), job.id) else { continue };
        for task in &mut job.tasks {
            task.ended = true;
        }
        live.push(job);
    }
    let mut tracker = Tracker::new(Duration::ZERO, pauses.clone());
    let mut outcome = Outcome::default();
    // First every step up to settling, then, once it was looked at, the end.
    for _ in 0..ROUNDS {
        if !cancellations::any_live(db.connection())? {
            break;
        }
        db.write(|tx| tracker.attend(tx, &mut live, &mut outcome, clock::now_ms()))?;
        for act in tracker.take_acts() {
            meanwhile();
            match act {
                Act::CleanUp(work) => tracker.note(clean_up(&work, &places.root, &places.helper)),
                Act::Tell(told) => told.tell(),
                // This worker has sent no signal.
                Act::Note(Entry::Signal(_)) | Act::Close(_) => {}
                Act::Note(entry) => entry.tell(),
                // There is nothing to be told to end any more; but its log tells why it stops.
                Act::End { job, words, .. } => {
                    let line = format!("left4me: {words}; the worker that ran it had died");
                    db.write(|tx| logs::append(tx, job, clock::now_ms(), Stream::Stderr, &line))?;
                }
            }
        }
    }
    failpoint::hit("cancel.recovered");
    outcome.news.iter().for_each(crate::queue::observe::News::tell);
    Ok((outcome.finished.into_iter().map(|ended| ended.job).collect(), outcome.look))
}
