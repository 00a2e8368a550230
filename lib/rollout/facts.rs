//! What a rollout is judged by: hosts as they were told last, and what has become of its orders.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::base::keys::SealKey;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::fleet::{hosts, orders_out, overview, self_row};
use crate::domain::fleet::drain::{Move, MoveStep, OrderFacts};
use crate::domain::fleet::fate::Fate;
use crate::domain::fleet::placement::{Candidate, SILENT};
use crate::domain::fleet::rollout::order_id;
use crate::domain::fleet::rules::OrderState;
use crate::domain::fleet::status::{HostStatus, ServerStatus};

/// How long a host that has accepted an order may be silent before the rollout counts it as dead, in ms.
const LOST: i64 = 2 * 3_600_000;

/// When a rollout began, and now; unix ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) begun: i64,
    pub(super) now: i64,
}

/// The hosts of the fleet, by name.
pub(super) struct Hosts {
    all: BTreeMap<FleetHost, (Candidate, Option<SealKey>)>,
    /// Whether this host could have heard of the others.
    can_judge: bool,
}

impl Hosts {
    pub(super) fn read(connection: &Connection, now: i64) -> Result<Self> {
        let mut all = BTreeMap::new();
        for host in hosts::all(connection)? {
            let name: FleetHost = host.name.parse()?;
            let candidate = Candidate {
                host: name.clone(),
                labels: host.labels,
                is_expelled: host.expelled_at.is_some(),
                status: host.status,
                seen_at: host.status_received_at,
                coming: 0,
            };
            all.insert(name, (candidate, host.seal_key.parse().ok()));
        }
        let own = self_row::get(connection)?.unwrap_or_default();
        Ok(Self {
            all,
            can_judge: overview::link(&own, now).can_judge(now),
        })
    }

    pub(super) fn status(&self, host: &FleetHost) -> Option<&HostStatus> {
        self.all.get(host)?.0.status.as_ref()
    }

    /// When its newest status came here, unix ms.
    pub(super) fn seen_at(&self, host: &FleetHost) -> Option<i64> {
        self.all.get(host)?.0.seen_at
    }

    /// Whether nothing is known of the host now.
    pub(super) fn is_silent(&self, host: &FleetHost, now: i64) -> bool {
        let host = self.all.get(host);
        host.is_none_or(|(host, _)| host.is_expelled || host.is_silent(now))
    }

    /// Whether the host itself is gone, as far as can be seen from here. While this host is cut off, it
    /// takes none for gone.
    pub(super) fn is_gone(&self, host: &FleetHost, now: i64) -> bool {
        let is_member = self
            .all
            .get(host)
            .is_some_and(|(host, _)| !host.is_expelled);
        !is_member || (self.can_judge && self.is_silent(host, now))
    }

    /// When a host that has accepted an order and says nothing counts as dead, unix ms: after an abort as
    /// soon as it counts as silent.
    pub(super) fn lost_at(&self, host: &FleetHost, is_aborted: bool, times: Times) -> i64 {
        let patience = if is_aborted { SILENT } else { LOST };
        let heard = self.seen_at(host).unwrap_or(times.begun);
        heard.saturating_add(patience)
    }

    /// Whether the host counts as dead by now.
    pub(super) fn is_lost(&self, host: &FleetHost, is_aborted: bool, times: Times) -> bool {
        let is_expelled = self.all.get(host).is_none_or(|(host, _)| host.is_expelled);
        let is_late = times.now >= self.lost_at(host, is_aborted, times);
        is_expelled || (is_late && self.is_gone(host, times.now))
    }

    /// The server, if it is on this host.
    pub(super) fn server(&self, host: &FleetHost, server: Ulid) -> Option<&ServerStatus> {
        let servers = &self.status(host)?.servers;
        servers
            .iter()
            .find(|other| other.id == server && other.moved_to.is_none())
    }

    pub(super) fn seal_key(&self, host: &FleetHost) -> Result<&SealKey> {
        let key = self.all.get(host).and_then(|(_, key)| key.as_ref());
        key.ok_or_else(|| Error::failed(format!("{host} has no key that can be sealed to")))
    }

    /// The hosts as places for servers, of which those of `moves` are on their way.
    pub(super) fn candidates(&self, moves: &[Move]) -> Vec<Candidate> {
        let coming = |host: &FleetHost| {
            let is_coming = |one: &&Move| {
                let begun = !matches!(
                    one.step,
                    MoveStep::Waiting | MoveStep::Failed | MoveStep::NotBegun
                );
                begun && one.to.as_ref() == Some(host) && self.server(host, one.server).is_none()
            };
            u32::try_from(moves.iter().filter(is_coming).count()).unwrap_or(u32::MAX)
        };
        let all = self.all.values();
        all.map(|(candidate, _)| Candidate {
            coming: coming(&candidate.host),
            ..candidate.clone()
        })
        .collect()
    }
}

/// What has become of a step's order. None if it has not been sent.
pub(super) fn order(
    connection: &Connection,
    rollout: Ulid,
    host: &FleetHost,
    step: &str,
) -> Result<Option<OrderFacts>> {
    let order = orders_out::get(connection, order_id(rollout, host, step))?;
    Ok(order.map(|order| {
        let fate = match order.state {
            OrderState::Kept | OrderState::Sent | OrderState::Accepted => Fate::UnderWay,
            OrderState::Refused => Fate::Refused,
            OrderState::Succeeded => Fate::Succeeded,
            OrderState::Failed => Fate::Failed,
            OrderState::Cancelled | OrderState::Withdrawn => Fate::Cancelled,
            OrderState::Unknown => Fate::Unknown,
        };
        let job = order.remote_job.map(|job| format!("job {job}"));
        let detail = match (order.detail.is_empty(), fate.is_bad()) {
            (true, true) => job.unwrap_or_default(),
            _ => order.detail,
        };
        OrderFacts {
            fate,
            is_accepted: order.state == OrderState::Accepted,
            detail,
        }
    }))
}
