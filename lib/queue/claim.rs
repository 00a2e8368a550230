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

/// How many queued jobs are read at first, and then, before the rest is read per server. The first
/// few are enough in most ticks, and reading each row is a large part of a claim.
const PAGES: [u32; 2] = [12, 52];

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
    let mut confirmed = candidates::confirmed(tx, now)?;
    if confirmed.is_empty() && !jobs::any_ready(tx)? {
        return Ok(Vec::new());
    }

    let mut claims = Claims {
        tx,
        worker,
        free,
        now,
        schedule: busy(tx, abandoned)?,
        waited: confirmed.iter().map(|job| job.id).collect(),
        claimed: Vec::new(),
    };

    // A server that is down waits for no older job, or it would stay down for another download.
    // What cannot start now is considered again with the others, and takes its servers.
    let again = candidates::starts_again(tx)?;
    claims.consider(&again)?;

    let mut after = JobId(0);
    for size in PAGES {
        let mut page = candidates::queued(tx, after, size)?;
        let is_last = page.len() < size as usize;
        after = page.last().map_or(after, |job| job.id);

        // Confirmed jobs behind the page are considered after it.
        let (here, behind) = confirmed
            .into_iter()
            .partition(|job| is_last || job.id < after);
        confirmed = behind;
        page.extend(here);
        page.sort_unstable_by_key(|job| job.id);

        claims.consider(&page)?;
        if is_last || claims.are_full() {
            return Ok(claims.claimed);
        }
    }

    let mut open = servers::all_ids(tx)?;
    open.retain(|&id| !claims.schedule.is_taken(id));
    let mut heads = candidates::queue_heads(tx, after, &open)?;
    heads.extend(confirmed);
    heads.sort_unstable_by_key(|job| job.id);
    claims.consider(&heads)?;
    Ok(claims.claimed)
}

/// The jobs that one tick claims.
struct Claims<'t> {
    tx: &'t Connection,
    worker: &'t str,
    free: usize,
    now: i64,
    schedule: Schedule,
    /// The jobs whose condition was confirmed.
    waited: Vec<JobId>,
    claimed: Vec<JobId>,
}

impl Claims<'_> {
    /// Whether no later job can be claimed.
    fn are_full(&self) -> bool {
        self.claimed.len() == self.free || self.schedule.is_closed()
    }

    /// Claims those of the next `queued` jobs that may start.
    fn consider(&mut self, queued: &[Candidate]) -> Result<()> {
        let (tx, now) = (self.tx, self.now);
        for job in queued {
            if self.are_full() {
                break;
            }
            if !self.schedule.consider(job) {
                continue;
            }
            if self.waited.contains(&job.id) {
                conditions::release(tx, job.id, "", now)?;
            }
            if jobs::claim(tx, job.id, self.worker, now)? {
                self.claimed.push(job.id);
            }
        }
        Ok(())
    }
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
