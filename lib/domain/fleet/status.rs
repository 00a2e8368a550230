//! A host, as it is now: the document that each host keeps in the engine's bucket `hosts`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    pub v: u32,
    pub host: FleetHost,
    /// Unix ms, by that host's clock.
    pub at: i64,
    /// left4me's version.
    pub version: String,
    /// The versions of orders that it understands.
    pub speaks: Vec<u32>,
    /// The operations that it knows.
    pub operations: Vec<String>,
    /// How many servers it takes, and how many it has.
    pub capacity: u32,
    pub used: u32,
    pub cordoned: bool,
    pub queue: Queue,
    pub servers: Vec<ServerStatus>,
    /// The game's build that new starts use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<u64>,
    /// The build that Steam has, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    /// Its overlays, each with the digest of its files.
    #[serde(default)]
    pub overlays: BTreeMap<String, String>,
    /// Its newest event.
    pub last_event: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    pub queued: u32,
    pub running: u32,
    pub paused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    pub id: Ulid,
    /// Its number on that host.
    pub number: i64,
    pub name: String,
    pub owner: String,
    pub port: u16,
    pub desired: String,
    pub actual: String,
    /// People; None while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub players: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_players: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<u64>,
    /// The overlays of its blueprint, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<String>,
    /// The host to which it has moved; only its files are left here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// The epoch of its place; 0 for one that was never placed.
    #[serde(default)]
    pub epoch: u64,
    #[serde(default)]
    pub drift: bool,
}
