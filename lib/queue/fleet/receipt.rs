//! Tells the sender of an order what became of it: as events, which the fleet is told as all others.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::JobId;
use crate::base::ulid::Ulid;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::orders_in::{self, OrderIn};
use crate::db::jobs;
use crate::domain::fleet::event::{ACCEPTED, ENDED, End, REFUSED};
use crate::domain::fleet::rules::{self, Known, Told};
use crate::domain::job::JobState;

/// How often a receipt is told again at most, in ms: one who brings an order again and again must
/// not fill the table of events. Senders wait a minute before they do.
const AGAIN_AFTER: i64 = 30_000;

/// Tells that the order is carried out: by this job, or at once.
pub(super) fn accepted(
    tx: &Connection,
    now: i64,
    (order, from): (Ulid, &str),
    job: Option<JobId>,
    detail: &str,
) -> Result<()> {
    let event = NewEvent {
        job,
        order: Some(order),
        ..NewEvent::new(ACCEPTED, from, detail)
    };
    events::add(tx, now, &event)
}

/// Tells that the order is not carried out, and why.
pub(super) fn refused(
    tx: &Connection,
    now: i64,
    (order, from): (Ulid, &str),
    why: &str,
) -> Result<()> {
    let event = NewEvent {
        order: Some(order),
        ..NewEvent::new(REFUSED, from, why)
    };
    events::add(tx, now, &event)
}

/// Tells how the order ended, and in words what came of it.
pub(super) fn ended(
    tx: &Connection,
    now: i64,
    (order, from): (Ulid, &str),
    job: Option<JobId>,
    end: End,
    what: &str,
) -> Result<()> {
    let end = end.as_str();
    let detail = match what {
        "" => end.to_owned(),
        what => format!("{end}: {what}"),
    };
    let event = NewEvent {
        job,
        order: Some(order),
        ..NewEvent::new(ENDED, from, &detail)
    };
    events::add(tx, now, &event)
}

/// Ends an order that was accepted without a job of its own, such as one that a later order or a
/// program carries on. Nothing happens if it has ended.
pub fn end(tx: &Connection, now: i64, order: Ulid, end: End, what: &str) -> Result<()> {
    let Some(row) = orders_in::get(tx, order)? else {
        return Ok(());
    };
    if orders_in::end(tx, order, end.as_str())? {
        ended(tx, now, (order, &row.from_name), row.job_id, end, what)?;
    }
    Ok(())
}

/// What is known of an order that has come before, and the state of its job.
pub(super) fn known(tx: &Connection, row: &OrderIn) -> Result<(Known, Option<JobState>)> {
    let state = match row.job_id {
        Some(job) => Some(jobs::state(tx, job)?.0),
        None => None,
    };
    let of_job = state.and_then(|state| match state {
        JobState::Succeeded => Some(End::Succeeded),
        JobState::Failed => Some(End::Failed),
        JobState::Cancelled => Some(End::Cancelled),
        JobState::Queued | JobState::Running | JobState::Cancelling => None,
    });

    let known = match row.state.as_str() {
        "refused" => Known::Refused,
        "tombstone" => Known::Tombstone,
        _ => Known::Accepted {
            job: row.job_id,
            end: row.ended.as_deref().and_then(End::parse).or(of_job),
        },
    };
    Ok((known, state))
}

/// Tells again what is known of an order that has come before, unless that was told a moment ago.
pub(super) fn again(tx: &Connection, now: i64, row: &OrderIn) -> Result<()> {
    if (row.told_at..row.told_at.saturating_add(AGAIN_AFTER)).contains(&now) {
        return Ok(());
    }

    let (known, _) = known(tx, row)?;
    let order = (row.id, row.from_name.as_str());
    for told in rules::tell_again(&known) {
        match told {
            Told::Accepted(job) => accepted(tx, now, order, job, &row.detail)?,
            Told::Ended(End::Refused) => refused(tx, now, order, &row.detail)?,
            Told::Ended(end) => ended(tx, now, order, row.job_id, end, "")?,
        }
    }
    orders_in::told(tx, row.id, now)
}
