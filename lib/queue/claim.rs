//! Claims queued jobs. domain/schedule.rs decides which jobs may start; this file applies that to
//! the table.
//!
//! The first page of the queue is nearly always enough. If it does not fill the free slots (for
//! example, a hundred thousand jobs of one busy server come first), the rest is read per server:
//! only the first queued job of a server that is not taken can start, and an index finds it
//! whatever comes before it.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, TaskId};
use crate::db::{candidates, jobs, queue, servers};
use crate::domain::schedule::{Candidate, Schedule};

/// How many queued jobs are read before the rest is read per server.
const PAGE: u32 = 64;

/// Claims at most `free` jobs for `worker`, oldest first, within the caller's transaction, and
/// gives their ids. `abandoned`: what threads still work on although their jobs
/// have ended.
pub fn claim(
    tx: &Connection,
    worker: &str,
    free: usize,
    abandoned: &[(TaskId, Candidate)],
    now: i64,
) -> Result<Vec<JobId>> {
    if free == 0 || queue::pause(tx)?.is_some() {
        return Ok(Vec::new());
    }

    let page = candidates::queued(tx, JobId(0), PAGE)?;
    if page.is_empty() {
        return Ok(Vec::new());
    }

    // What a process that cannot be killed works on is taken too, although its job has ended.
    let (active, held) = (candidates::active(tx)?, candidates::held(tx)?);
    let abandoned = abandoned.iter().map(|(_, candidate)| candidate);
    let mut schedule = Schedule::with_running(active.iter().chain(&held).chain(abandoned));
    let mut claimed = Vec::new();
    let mut claim_from = |schedule: &mut Schedule, queued: &[Candidate]| -> Result<usize> {
        for job in queued {
            if claimed.len() == free || schedule.is_closed() {
                break;
            }
            if schedule.consider(job) && jobs::claim(tx, job.id, worker, now)? {
                claimed.push(job.id);
            }
        }
        Ok(claimed.len())
    };

    let count = claim_from(&mut schedule, &page)?;
    let last = page.last().map_or(JobId(0), |job| job.id);
    if page.len() == PAGE as usize && count < free && !schedule.is_closed() {
        let mut open = servers::all_ids(tx)?;
        open.retain(|&id| !schedule.is_taken(id));
        claim_from(&mut schedule, &candidates::queue_heads(tx, last, &open)?)?;
    }

    Ok(claimed)
}
