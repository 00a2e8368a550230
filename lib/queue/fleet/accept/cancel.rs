//! An order to cancel a job.

use rusqlite::Connection;

use crate::base::names::JobId;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::fleet::orders_in;

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
