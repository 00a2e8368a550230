//! What a rollout was asked to do, and how far it is: the documents of its row.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::blueprint::FleetBlueprint;
use super::drain::Move;
use super::order::Enqueue;
use super::placement::{Needs, Policy};
use super::waves::{UpdateProgress, Waves};
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::words::words;

words! {
    /// What a rollout does.
    pub enum RolloutKind ("a kind of rollout") {
        Place = "place",
        Move = "move",
        Drain = "drain",
        Evacuate = "evacuate",
        Update = "update",
    }
}

words! {
    /// How far a rollout is.
    pub enum RolloutState ("a state of a rollout") {
        Running = "running",
        /// Nothing more is begun.
        Aborting = "aborting",
        Succeeded = "succeeded",
        Failed = "failed",
        Aborted = "aborted",
    }
}

impl<'de> Deserialize<'de> for RolloutKind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RolloutState {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

impl RolloutState {
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Running | Self::Aborting)
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Request {
    Moves(Box<MovesRequest>),
    Update(Box<UpdateRequest>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesRequest {
    /// Hosts that are cordoned first, and whose servers all move away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<FleetHost>,
    /// The hosts that the servers leave are dead: nothing is waited for, and nothing handed over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_dead: bool,
    /// Servers to move, besides those of the hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// When a server moves although people play, unix ms; without it each waits until it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    /// What the servers of the hosts need of their new host.
    #[serde(default)]
    pub needs: Needs,
    pub policy: Policy,
    /// Blueprints that are known here, by server: of new servers, and of those of a dead host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blueprints: BTreeMap<Ulid, FleetBlueprint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// In the order in which they are updated.
    pub hosts: Vec<FleetHost>,
    pub waves: Waves,
    /// In ms.
    pub soak: i64,
    pub stop_after: u32,
    pub enqueue: Enqueue,
}

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Hosts whose cordon has been accepted, each with the time, unix ms.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cordoned: BTreeMap<FleetHost, i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateProgress>,
}

/// The id of a rollout's order: the same rollout, host and step give the same one, so that a driver
/// that repeats a step repeats the order.
pub fn order_id(rollout: Ulid, host: &FleetHost, step: &str) -> Ulid {
    let digest = Sha256::digest(format!("{rollout}\n{host}\n{step}"));
    let random = digest.iter().take(16);
    let random = random.fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    Ulid::from_parts(rollout.made_at(), random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_step_of_a_rollout_is_the_same_order() {
        let (rollout, host) = (Ulid::from_parts(7, 1), "ams-1".parse().unwrap());
        let id = order_id(rollout, &host, "update");
        assert_eq!(id, order_id(rollout, &host, "update"));
        assert_eq!(id.made_at(), 7);
        assert_ne!(id, order_id(rollout, &host, "cordon"));
        assert_ne!(id, order_id(rollout, &"ams-2".parse().unwrap(), "update"));
        assert_ne!(id, order_id(Ulid::from_parts(7, 2), &host, "update"));
    }
}
