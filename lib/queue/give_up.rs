//! A build that works on no server at all is given up at the end of its roll: a rollback makes the
//! build of before the current one, and updates leave this one alone.

use rusqlite::Connection;

use crate::base::Result;
use crate::db::{builds, rolls};
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;
use crate::queue::active::ActiveJob;
use crate::queue::enqueue::{JobRequest, Requester, Targets, WORKER, enqueue_in};

/// After the end of a job: gives the build of its roll up if the roll was stopped, and the build
/// works nowhere. Not before the last restart under way has ended: it may come up.
pub fn after(tx: &Connection, job: &ActiveJob, now: i64) -> Result<()> {
    let Some(roll) = job.roll() else {
        return Ok(());
    };
    if !rolls::is_stopped(tx, roll)? || rolls::is_under_way(tx, roll)? {
        return Ok(());
    }
    let Some((build, server)) = rolls::last_failure(tx, roll)? else {
        return Ok(());
    };
    if rolls::works_somewhere(tx, build)? || builds::rejection(tx, build)?.is_some() {
        return Ok(());
    }

    let why = format!("server {server} did not come up on it, and no other server did");
    builds::reject(tx, build, WORKER, &why, now)?;
    leave(tx, build, &why, now)
}

/// Queues the rollback from `build` to the one on which servers came up before; it restarts no
/// server. Nothing if there is none.
pub fn leave(tx: &Connection, build: u64, why: &str, now: i64) -> Result<()> {
    let Some(before) = rolls::before(tx, build)? else {
        return Ok(());
    };
    let request = JobRequest {
        unique: true,
        update: UpdateOptions {
            no_restart: true,
            from: Some(build),
            build: Some(before),
            ..UpdateOptions::default()
        },
        ..JobRequest::new(Operation::Rollback, Targets::None, Requester::worker(why))
    };
    enqueue_in(tx, &request, now).map(drop)
}
