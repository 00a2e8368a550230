//! A rollout while its steps are taken: what they read, and what they come to.

use rusqlite::Connection;

use super::facts::{Hosts, Times};
use crate::base::Result;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::db::fleet::rollouts::Rollout;
use crate::db::fleet::{driving, orders_to_send};
use crate::domain::fleet::order::What;
use crate::domain::fleet::rollout::{Progress, RolloutState, order_id};
use crate::queue::fleet::send::{self, Draft};

/// A rollout while its steps are taken.
pub(super) struct Driver<'a> {
    pub(super) tx: &'a Connection,
    /// This host.
    pub(super) here: &'a FleetHost,
    pub(super) rollout: &'a Rollout,
    pub(super) hosts: Hosts,
    pub(super) now: i64,
    pub(super) has_orders: bool,
}

/// What the steps came to.
pub(super) struct Next {
    pub(super) progress: Progress,
    pub(super) state: RolloutState,
    pub(super) detail: String,
    pub(super) due: Option<i64>,
    /// Orders to take back.
    pub(super) take_back: Vec<Ulid>,
}

impl Driver<'_> {
    pub(super) fn is_aborted(&self) -> bool {
        self.rollout.state == RolloutState::Aborting
    }

    pub(super) fn times(&self) -> Times {
        Times {
            begun: self.rollout.created_at,
            now: self.now,
        }
    }

    /// Sends the order of a step.
    pub(super) fn send(
        &mut self,
        to: &FleetHost,
        step: &str,
        what: What,
        good_for: i64,
    ) -> Result<()> {
        let reason = self.reason();
        let draft = Draft {
            id: Some(order_id(self.rollout.id, to, step)),
            to,
            what,
            by: &self.rollout.requested_by,
            here: self.here,
            reason: &reason,
            good_for: Some(good_for),
            rollout: Some(self.rollout.id),
        };
        let id = send::send_in(self.tx, &draft, self.now)?;
        // Its former driver may have sent the same one.
        if self.is_taken_over() {
            orders_to_send::taken(self.tx, id, self.now)?;
        }
        self.has_orders = true;
        Ok(())
    }

    /// Whether another host drove it before.
    pub(super) fn is_taken_over(&self) -> bool {
        self.rollout.epoch > 1
    }

    /// Makes the former driver's orders that no step repeats this host's: their ends are waited for, and
    /// they are sent again if the engine has lost them.
    pub(super) fn adopt_orders(&mut self) -> Result<()> {
        if self.rollout.orders.is_empty() {
            return Ok(());
        }
        let reason = self.reason();
        for order in &self.rollout.orders {
            let left = order.not_after.saturating_sub(self.now);
            if left <= 0 {
                continue;
            }
            let draft = Draft {
                id: Some(order.id),
                to: &order.to,
                what: order.what.clone(),
                by: &self.rollout.requested_by,
                here: self.here,
                reason: &reason,
                good_for: Some(left.min(send::LONGEST)),
                rollout: Some(self.rollout.id),
            };
            send::send_in(self.tx, &draft, self.now)?;
            orders_to_send::taken(self.tx, order.id, self.now)?;
        }
        driving::adopted(self.tx, self.rollout.id)?;
        self.has_orders = true;
        Ok(())
    }

    fn reason(&self) -> String {
        format!("{} {}", self.rollout.kind, self.rollout.id)
    }
}
