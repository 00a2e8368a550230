//! Takes an order back.

use rusqlite::Connection;

use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::Db;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::{orders_out, orders_to_send};
use crate::domain::fleet::order::What;
use crate::domain::fleet::rules::{self, WithdrawHere};

use super::send::{self, Draft};

/// What a withdrawal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// It had never left this host.
    AtOnce,
    /// Its host is asked by this order. The end of both is told by that host.
    Asked(Ulid),
}

/// Withdraws an order from here. `by` asks for it, on the host `here`. Wake left4me-link afterwards.
///
/// Fails with 3 for an unknown order; 4 if it has ended, or is being withdrawn.
pub fn withdraw(
    db: &mut Db,
    id: Ulid,
    by: (&str, &FleetHost),
    reason: &str,
    now: i64,
) -> Result<Withdrawn> {
    db.write(|tx| withdraw_in(tx, id, by, reason, now))
}

/// The same, as a part of a transaction.
pub fn withdraw_in(
    tx: &Connection,
    id: Ulid,
    (by, here): (&str, &FleetHost),
    reason: &str,
    now: i64,
) -> Result<Withdrawn> {
    let order = orders_to_send::get(tx, id)?.ok_or_else(|| {
        Error::not_found(format!(
            "order {id} was not sent from here; `left4me fleet orders` lists those that were"
        ))
    })?;
    match rules::withdraw_here(&order.outgoing(), &order.kind, order.was_taken) {
        WithdrawHere::No(why) => Err(Error::conflict(format!("order {id}: {why}"))),
        WithdrawHere::AtOnce => {
            orders_out::withdraw(tx, id, "before it was sent", now)?;
            let detail = format!("to {}", order.to_host);
            let event = NewEvent {
                reason,
                order: Some(id),
                ..NewEvent::new("order.withdrawn", by, &detail)
            };
            events::add(tx, now, &event)?;
            Ok(Withdrawn::AtOnce)
        }
        WithdrawHere::Ask => {
            let to: FleetHost = order.to_host.parse()?;
            // Its tombstone has to be there for as long as the order could come.
            let left = order.not_after.saturating_sub(now).max(0);
            let good_for = left.saturating_add(send::GOOD_FOR).min(send::LONGEST);
            let draft = Draft {
                id: None,
                to: &to,
                what: What::Withdraw { order: id },
                by,
                here,
                reason,
                good_for: Some(good_for),
                // Another controller may have taken the rollout over: then it has nothing to say.
                rollout: orders_out::get(tx, id)?.and_then(|order| order.rollout_id),
            };
            let withdrawal = send::send_in(tx, &draft, now)?;
            orders_to_send::set_withdrawal(tx, id, withdrawal)?;
            Ok(Withdrawn::Asked(withdrawal))
        }
    }
}
