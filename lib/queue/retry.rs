//! Accepts a job that does the same as one that has ended.

use super::enqueue::{Accept, Accepted, Requester, accept, accepted, repeated, reused, rolling_of};
use super::moved;
use crate::base::config::BuildMode;
use crate::base::names::JobId;
use crate::base::{Error, Result, clock};
use crate::db::{Db, conditions, jobs, servers};
use crate::domain::condition::{AtDeadline, Condition};
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;

/// Accepts a new job that does the same as job `id`, under the same condition. Once the time has
/// come at which that job was to go ahead, the new one does so at once. `mode`: how this host makes
/// updates now, whatever it did then.
///
/// Fails with 3 for an unknown job, or if one of its servers is gone; 4 while it has not ended, or
/// if the time has come at which it was to give up; 69 if the database cannot be written.
pub fn retry(
    db: &mut Db,
    id: JobId,
    mode: BuildMode,
    requester: &Requester<'_>,
    now: i64,
) -> Result<Accepted> {
    db.write(|tx| {
        if let Some(job) = repeated(tx, requester, now)? {
            return if job.retry_of == Some(id) {
                accepted(tx, job.id, false, now)
            } else {
                Err(reused(&job))
            };
        }

        let job = jobs::get(tx, id)?;
        if !job.state.is_terminal() {
            return Err(Error::conflict(format!(
                "job {id} is {}: only a job that has ended can be retried",
                job.state
            )));
        }

        let operation = job
            .operation
            .parse::<Operation>()
            .map_err(|error| Error::from(error).within(format!("job {id}")))?;

        for &server in &job.servers {
            if servers::get(tx, server)?.is_none() {
                return Err(Error::not_found(format!(
                    "job {id} cannot be retried: server {server} is gone"
                )));
            }
        }

        moved::refuse(tx, operation, &job.servers)?;

        let condition = match conditions::of(tx, id)? {
            Some(condition) => condition_again(id, condition, now)?,
            None => None,
        };
        let options = UpdateOptions {
            in_place: operation.rolls_out() && mode == BuildMode::InPlace,
            ..job.options.clone()
        };
        options.check(operation, condition.is_some())?;
        let task = Accept {
            operation,
            targets: &job.servers,
            rolling: rolling_of(&job),
            options: &options,
            condition: condition.as_ref(),
            retry_of: Some(id),
        };
        let new = accept(tx, &task, requester, now)?;
        accepted(tx, new, true, now)
    })
}

/// The condition of a job that repeats job `id`.
fn condition_again(id: JobId, condition: Condition, now: i64) -> Result<Option<Condition>> {
    match &condition.deadline {
        Some(deadline) if deadline.at <= now && deadline.then == AtDeadline::GiveUp => {
            Err(Error::conflict(format!(
                "job {id} was to wait until {} and then to give up: enqueue a new job with another \
                 --until, or without one",
                clock::minute(deadline.at, now)
            )))
        }
        Some(deadline) if deadline.at <= now => Ok(None),
        _ => Ok(Some(condition)),
    }
}
