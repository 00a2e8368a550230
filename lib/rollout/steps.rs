//! A rollout while its steps are taken: what they read, and what they come to.

use rusqlite::Connection;

use super::facts::Hosts;
use crate::base::Result;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::db::fleet::rollouts::Rollout;
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

    /// Sends the order of a step.
    pub(super) fn send(
        &mut self,
        to: &FleetHost,
        step: &str,
        what: What,
        good_for: i64,
    ) -> Result<()> {
        let reason = format!("{} {}", self.rollout.kind, self.rollout.id);
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
        send::send_in(self.tx, &draft, self.now)?;
        self.has_orders = true;
        Ok(())
    }
}
