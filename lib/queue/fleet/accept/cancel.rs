//! An order to cancel a job.

use rusqlite::Connection;

use super::{CancelOrder, Host};
use crate::base::names::JobId;
use crate::base::ulid::Ulid;
use crate::base::{Error, Exit, Result};
use crate::db::fleet::orders_in;
use crate::db::rolls;
use crate::queue::conditions;

/// Cancels the job of an order, with the restarts that wait for it: they are all that is left of an
/// update that has ended. Gives a message.
pub(super) fn with_restarts(
    tx: &Connection,
    host: &Host<'_>,
    asked: &CancelOrder<'_>,
    now: i64,
) -> Result<String> {
    let cancelled = (host.cancel)(tx, asked, now);
    let waiting = rolls::waiting(tx, asked.job)?;
    if waiting.is_empty() {
        return cancelled;
    }

    for restart in &waiting {
        conditions::cancel(tx, *restart, asked.by, asked.reason, now)?;
    }
    let restarts = match waiting.len() {
        1 => "1 restart that waited was cancelled".to_owned(),
        many => format!("{many} restarts that waited were cancelled"),
    };
    match cancelled {
        Ok(message) => Ok(format!("{message}; {restarts}")),
        // It has ended.
        Err(error) if error.exit == Exit::Conflict => Ok(restarts),
        Err(error) => Err(error),
    }
}

/// The job that is meant: that of an order, or the one with this number.
pub(super) fn job(tx: &Connection, order: Option<Ulid>, job: Option<JobId>) -> Result<JobId> {
    match (order, job) {
        (None, Some(job)) => Ok(job),
        (Some(order), None) => {
            let row = orders_in::get(tx, order)?
                .ok_or_else(|| Error::not_found(format!("order {order} has not come here")))?;
            row.job_id
                .ok_or_else(|| Error::conflict(format!("order {order} has no job here")))
        }
        _ => Err(Error::usage("either an order or a job is needed")),
    }
}
