//! Claims queued jobs. domain/schedule.rs decides which jobs may start; this file applies that to
//! the table.
//!
//! The first page of the queue is nearly always enough. If it does not fill the free slots (for
//! example, a hundred thousand jobs of one busy server come first), the rest is read per server:
//! only the first queued job of a server that is not taken can start, and an index finds it
//! whatever comes before it.
//!
//! Jobs that wait for a condition are in neither. Those whose servers were just confirmed to be
//! empty take the places that their ids give them.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, TaskId};
use crate::db::{candidates, jobs, queue, servers};
use crate::domain::schedule::{Candidate, Schedule};
use crate::queue::conditions;

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

    let mut page = candidates::queued(tx, JobId(0), PAGE)?;
    let confirmed = candidates::confirmed(tx, now)?;
    if page.is_empty() && confirmed.is_empty() {
        return Ok(Vec::new());
    }

    // Confirmed jobs behind the page are considered after it.
    let is_full = page.len() == PAGE as usize;
    let last = page.last().map_or(JobId(0), |job| job.id);
    let (in_page, behind): (Vec<_>, Vec<_>) = confirmed
        .into_iter()
        .partition(|job| !is_full || job.id < last);
    let waited: Vec<JobId> = in_page.iter().chain(&behind).map(|job| job.id).collect();
    page.extend(in_page);
    page.sort_unstable_by_key(|job| job.id);

    let mut schedule = busy(tx, abandoned)?;
    let mut claimed = Vec::new();
    let mut claim_from = |schedule: &mut Schedule, queued: &[Candidate]| -> Result<usize> {
        for job in queued {
            if claimed.len() == free || schedule.is_closed() {
                break;
            }
            if !schedule.consider(job) {
                continue;
            }
            if waited.contains(&job.id) {
                conditions::release(tx, job.id, "", now)?;
            }
            if jobs::claim(tx, job.id, worker, now)? {
                claimed.push(job.id);
            }
        }
        Ok(claimed.len())
    };

    let count = claim_from(&mut schedule, &page)?;
    if is_full && count < free && !schedule.is_closed() {
        let mut open = servers::all_ids(tx)?;
        open.retain(|&id| !schedule.is_taken(id));
        let mut heads = candidates::queue_heads(tx, last, &open)?;
        heads.extend(behind);
        heads.sort_unstable_by_key(|job| job.id);
        claim_from(&mut schedule, &heads)?;
    }

    Ok(claimed)
}

/// The schedule before any queued job is considered. What a process that cannot be killed works on
/// is taken too, although its job has ended.
pub fn busy(connection: &Connection, abandoned: &[(TaskId, Candidate)]) -> Result<Schedule> {
    let (active, held) = (
        candidates::active(connection)?,
        candidates::held(connection)?,
    );
    let abandoned = abandoned.iter().map(|(_, candidate)| candidate);
    Ok(Schedule::with_running(
        active.iter().chain(&held).chain(abandoned),
    ))
}
