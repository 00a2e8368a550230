//! What an update has stopped is started again, whatever ended it: its failure, a cancellation, the
//! death of the worker. A restart that was interrupted counts, too.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId, ServerRef};
use crate::db::fleet::here;
use crate::db::{cancellations, rolls, servers};
use crate::domain::operation::Operation;
use crate::domain::task::{TaskKind, TaskState};
use crate::queue::active::ActiveJob;
use crate::queue::enqueue::{JobRequest, Requester, Targets, WORKER, enqueue_in};

/// Queues the start of the servers that a job has stopped and not started again, whatever ended it;
/// unless a cancellation said to leave them. Gives the job and the servers.
pub fn start_again(
    tx: &Connection,
    job: JobId,
    now: i64,
) -> Result<Option<(JobId, Vec<ServerId>)>> {
    let left = rolls::left_stopped(tx, job)?;
    if left.is_empty() || cancellations::leaves_stopped(tx, job)? {
        return Ok(None);
    }
    let why = format!("job {job} ended before it started what it had stopped");
    start(tx, left, true, &why, now)
}

/// Queues such a start once more that was interrupted itself. Gives the job and the servers. What a
/// server failed on by itself would fail again, without an end.
pub fn repeat(
    tx: &Connection,
    job: &ActiveJob,
    now: i64,
) -> Result<Option<(JobId, Vec<ServerId>)>> {
    if job.operation != Ok(Operation::Start) || job.requested_by != WORKER {
        return Ok(None);
    }
    let has_failed = |server| {
        let mut tasks = job.tasks.iter().filter(|task| task.server == server);
        tasks.any(|task| task.state == TaskState::Failed && !task.interrupted)
    };
    let tasks = job.tasks.iter();
    let open = tasks.filter(|task| {
        task.kind == Ok(TaskKind::Start)
            && (task.interrupted || task.state != TaskState::Succeeded && !has_failed(task.server))
    });
    let left: Vec<ServerId> = open.filter_map(|task| task.server).collect();
    let why = format!("job {} ended before it started all of its servers", job.id);
    // The interrupted job is still there, and is the same.
    start(tx, left, false, &why, now)
}

fn start(
    tx: &Connection,
    mut left: Vec<ServerId>,
    unique: bool,
    why: &str,
    now: i64,
) -> Result<Option<(JobId, Vec<ServerId>)>> {
    let wanted = servers::all_that_should_run(tx)?;
    let moved = here::moved(tx)?;
    left.retain(|server| wanted.contains(server) && !moved.contains_key(server));
    if left.is_empty() {
        return Ok(None);
    }

    let targets = left.iter().map(|&server| ServerRef::Id(server)).collect();
    let targets = Targets::Named(targets);
    let request = JobRequest {
        unique,
        ..JobRequest::new(Operation::Start, targets, Requester::worker(why))
    };
    let accepted = enqueue_in(tx, &request, now)?;
    Ok(Some((accepted.job_id, left)))
}
