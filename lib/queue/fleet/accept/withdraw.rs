//! An order that takes another one back. It may come first: then it leaves a tombstone.

use rusqlite::Connection;

use super::{CancelOrder, Host, Performed};
use crate::base::names::JobId;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::fleet::orders_in::{self, NewOrderIn};
use crate::domain::fleet::event::End;
use crate::domain::fleet::order::Order;
use crate::domain::fleet::rules::{self, Withdrawal};
use crate::queue::fleet::receipt;

pub(super) fn withdraw(
    tx: &Connection,
    host: &Host<'_>,
    order: &Order,
    other: Ulid,
    now: i64,
) -> Result<Performed> {
    let row = orders_in::get(tx, other)?;
    let known = row
        .as_ref()
        .map(|row| receipt::known(tx, row))
        .transpose()?;
    let known = known.as_ref().map(|(known, job)| (known, *job));

    let done = |what: &str| Ok(Performed::Done(what.to_owned()));
    match (rules::withdraw(known), row) {
        (Withdrawal::Tombstone, _) | (_, None) => {
            leave_tombstone(tx, order, other, now)?;
            done("it had not come yet")
        }
        (Withdrawal::CancelJob(job), Some(_)) => {
            forget_job(tx, host, order, (other, job), now).map(Performed::Done)
        }
        (Withdrawal::Done, Some(row)) => {
            receipt::again(tx, now, &row)?;
            done("it had not been carried out")
        }
        (Withdrawal::TooLate(why), Some(_)) => Err(Error::conflict(why)),
    }
}

/// Writes down that the order is refused when it comes, and tells its end.
fn leave_tombstone(tx: &Connection, order: &Order, other: Ulid, now: i64) -> Result<()> {
    // It is good for at most this long, whatever the withdrawal says.
    let last = other.made_at().saturating_add(rules::LONGEST_TIME);
    let row = NewOrderIn {
        id: other,
        kind: "",
        from: &order.from,
        signed_by: "",
        state: "tombstone",
        detail: "withdrawn",
        job: None,
        not_after: last.max(order.not_after),
        ended: Some(End::Withdrawn.as_str()),
    };
    orders_in::add(tx, now, &row)?;
    receipt::ended(
        tx,
        now,
        (other, &order.from),
        None,
        End::Withdrawn,
        "before it came",
    )
}

/// Cancels the job of the order, which has not started. A job that others asked for as well stays:
/// then only the order ends.
fn forget_job(
    tx: &Connection,
    host: &Host<'_>,
    order: &Order,
    (other, job): (Ulid, JobId),
    now: i64,
) -> Result<String> {
    if orders_in::shares(tx, other, job)? {
        receipt::end(
            tx,
            now,
            other,
            End::Withdrawn,
            "its job is another one's, too",
        )?;
        return Ok(format!("job {job} stays: it was asked for before"));
    }

    let asked = CancelOrder {
        job,
        force: false,
        reason: "its order was withdrawn",
        by: &order.from,
    };
    (host.cancel)(tx, &asked, now)
}
