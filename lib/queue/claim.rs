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
    if free == 0 || queue::pause(tx)?.is_some() || !jobs::any_queued(tx)? {
        return Ok(Vec::new());
    }

    // What a process that cannot be killed works on is taken too, although its job has ended.
    let (active, held) = (candidates::active(tx)?, candidates::held(tx)?);
    let abandoned = abandoned.iter().map(|(_, candidate)| candidate);
    let taken = active.iter().chain(&held).chain(abandoned);
    let mut claims = Claims {
        tx,
        worker,
        free,
        now,
        schedule: Schedule::with_running(taken),
        claimed: Vec::new(),
    };

    let mut after = JobId(0);
    for size in PAGES {
        let page = candidates::queued(tx, after, size)?;
        claims.consider(&page)?;
        if page.len() < size as usize || claims.are_full() {
            return Ok(claims.claimed);
        }
        after = page.last().map_or(after, |job| job.id);
    }

    let mut open = servers::all_ids(tx)?;
    open.retain(|&id| !claims.schedule.is_taken(id));
    claims.consider(&candidates::queue_heads(tx, after, &open)?)?;
    Ok(claims.claimed)
}

/// The jobs that one tick claims.
struct Claims<'t> {
    tx: &'t Connection,
    worker: &'t str,
    free: usize,
    now: i64,
    schedule: Schedule,
    claimed: Vec<JobId>,
}

impl Claims<'_> {
    /// Whether no later job can be claimed.
    fn are_full(&self) -> bool {
        self.claimed.len() == self.free || self.schedule.is_closed()
    }

    /// Claims those of the next `queued` jobs that may start.
    fn consider(&mut self, queued: &[Candidate]) -> Result<()> {
        for job in queued {
            if self.are_full() {
                break;
            }
            if self.schedule.consider(job) && jobs::claim(self.tx, job.id, self.worker, self.now)? {
                self.claimed.push(job.id);
            }
        }
        Ok(())
    }
}
