//! Carries out an order of another host, or refuses it. [`rules`] decides; what is done, the
//! order's row and its receipt are written in the caller's transaction, with the cursor of the stream. So
//! an order is carried out once, however often it comes.

mod cancel;
mod enqueue;
mod withdraw;

use rusqlite::Connection;

pub use super::host::{Cancel, CancelOrder, Host, Performed};
use super::signed::Signed;
use super::{cordon, place, receipt};
use crate::base::keys::Purpose;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Exit, Result, failpoint};
use crate::db::fleet::orders_in::{self, NewOrderIn};
use crate::db::savepoint;
use crate::domain::fleet::event::End;
use crate::domain::fleet::order::{Order, Unreadable, What};
use crate::domain::fleet::rules::{self, Verdict};
use crate::wire::gate::Message;

/// The longest reason of a refusal, in characters.
const LONGEST_WHY: usize = 500;

/// The longest `from` of an order, in bytes.
const LONGEST_FROM: usize = 200;

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is no order for this host; why.
    Noise(String),
    /// It had come before.
    Known,
    Refused(String),
    CarriedOut,
}

/// Judges a message of the stream ORDERS and does what it asks for.
///
/// Fails only if the database does: then the message is read again.
pub fn message(tx: &Connection, host: &Host<'_>, message: &Message, now: i64) -> Result<Outcome> {
    let noise = |why: &str| Ok(Outcome::Noise(why.to_owned()));
    let Some(signed) = Signed::read(message) else {
        return noise("it is not in base64");
    };
    let mut controllers = host.controllers.iter();
    let Some((signed_by, _)) = controllers.find(|(_, key)| signed.is_by(key, Purpose::Order))
    else {
        return noise("it is not signed by a controller of this host");
    };

    let order = Order::from_bytes(&signed.body);
    let Some(head) = Head::of(&order) else {
        return noise("it is no order");
    };
    let row = orders_in::get(tx, head.id)?;
    let known = row
        .as_ref()
        .map(|row| receipt::known(tx, row))
        .transpose()?
        .map(|(known, _)| known);

    let why = match rules::accept(&order, true, known.as_ref(), host.name, now) {
        Verdict::Noise(why) => return Ok(Outcome::Noise(why)),
        Verdict::TellAgain => {
            if let Some(row) = row {
                receipt::again(tx, now, &row)?;
            }
            return Ok(Outcome::Known);
        }
        Verdict::Refuse(why) => why,
        Verdict::CarryOut => match &order {
            Ok(order) => match carry_out(tx, host, order, signed_by, now)? {
                None => return Ok(Outcome::CarriedOut),
                Some(why) => why,
            },
            Err(bad) => bad.why.clone(),
        },
    };

    refuse(tx, &head, signed_by, &why, now)?;
    // What a withdrawal came too late for: its sender may have missed the end.
    if let Ok(Order {
        what: What::Withdraw { order },
        ..
    }) = &order
        && let Some(row) = orders_in::get(tx, *order)?
    {
        receipt::again(tx, now, &row)?;
    }
    Ok(Outcome::Refused(why))
}

/// What is known of every order whose frame can be read.
struct Head<'a> {
    id: Ulid,
    from: &'a str,
    kind: &'a str,
    not_after: i64,
}

impl<'a> Head<'a> {
    fn of(order: &'a Result<Order, Box<Unreadable>>) -> Option<Self> {
        Some(match order {
            Ok(order) => Self {
                id: order.id,
                from: &order.from,
                kind: order.what.kind(),
                not_after: order.not_after,
            },
            Err(bad) => Self {
                id: bad.id?,
                from: bad.from.as_deref().unwrap_or_default(),
                kind: &bad.kind,
                not_after: bad.not_after,
            },
        })
    }
}

/// Does what the order asks for, and writes down that it did. Gives why it cannot.
fn carry_out(
    tx: &Connection,
    host: &Host<'_>,
    order: &Order,
    signed_by: &str,
    now: i64,
) -> Result<Option<String>> {
    let done = savepoint::within(tx, |tx| {
        let performed = perform(tx, host, order, now)?;
        failpoint::hit("gate.performed");
        record(tx, order, signed_by, &performed, now)
    });
    match done {
        Ok(()) => Ok(None),
        Err(error) if error.exit == Exit::Unavailable => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}

fn perform(tx: &Connection, host: &Host<'_>, order: &Order, now: i64) -> Result<Performed> {
    if order.from.len() > LONGEST_FROM || order.from.contains(char::is_control) {
        return Err(Error::usage("the order's 'from' is no name"));
    }

    match &order.what {
        What::Enqueue(asked) => enqueue::enqueue(tx, order, asked, now),
        What::Cancel {
            order: other,
            job,
            force,
            reason,
        } => {
            let job = cancel::job(tx, *other, *job)?;
            let (force, by) = (*force, order.from.as_str());
            let asked = CancelOrder {
                job,
                force,
                reason,
                by,
            };
            let message = match other {
                Some(_) => cancel::with_restarts(tx, host, &asked, now)?,
                None => (host.cancel)(tx, &asked, now)?,
            };
            Ok(Performed::Done(message))
        }
        What::Withdraw { order: other } => withdraw::withdraw(tx, host, order, *other, now),
        What::Place(asked) => place::place(tx, host, order, asked, now),
        What::Unplace {
            server,
            epoch,
            host: other,
            when_empty,
            until,
        } => {
            let asked = place::Unplace {
                server: *server,
                epoch: *epoch,
                host: other.as_ref().map(FleetHost::as_str),
                when_empty: *when_empty,
                until: *until,
            };
            place::unplace(tx, host, order, &asked, now)
        }
        What::HandOver { server, seal_to } => place::hand_over(tx, host, *server, seal_to),
        What::Cordon { reason } => cordon::cordon(tx, &order.from, reason, now),
        What::Uncordon {} => cordon::uncordon(tx, &order.from, now),
    }
}

/// Writes the order's row, and its receipt.
fn record(
    tx: &Connection,
    order: &Order,
    signed_by: &str,
    performed: &Performed,
    now: i64,
) -> Result<()> {
    let summary = order.what.summary();
    let (job, ended) = match performed {
        Performed::Job(job) => (Some(*job), None),
        Performed::Done(_) => (None, Some(End::Succeeded)),
        Performed::UnderWay(_) => (None, None),
    };

    let row = NewOrderIn {
        id: order.id,
        kind: order.what.kind(),
        from: &order.from,
        signed_by,
        state: "accepted",
        detail: &summary,
        job,
        not_after: order.not_after,
        ended: ended.map(End::as_str),
    };
    orders_in::add(tx, now, &row)?;

    let told = (order.id, order.from.as_str());
    receipt::accepted(tx, now, told, job, &summary)?;
    match performed {
        Performed::Done(what) => receipt::ended(tx, now, told, None, End::Succeeded, what),
        Performed::Job(_) | Performed::UnderWay(_) => Ok(()),
    }
}

/// Writes down that the order is not carried out, and tells why.
fn refuse(tx: &Connection, head: &Head<'_>, signed_by: &str, why: &str, now: i64) -> Result<()> {
    // It may repeat what the order says.
    let why: String = why.chars().take(LONGEST_WHY).collect();
    let why = why.as_str();
    let row = NewOrderIn {
        id: head.id,
        kind: head.kind,
        from: head.from,
        signed_by,
        state: "refused",
        detail: why,
        job: None,
        not_after: head.not_after,
        ended: Some(End::Refused.as_str()),
    };
    orders_in::add(tx, now, &row)?;
    receipt::refused(tx, now, (head.id, head.from), why)
}
