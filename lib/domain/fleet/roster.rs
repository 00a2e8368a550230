//! Who belongs to the fleet: a document that a controller signs. A host believes events and statuses
//! of the hosts in it, each by its key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::keys::{PublicKey, SealKey};
use crate::base::names::FleetHost;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    pub v: u32,
    /// Grows with each change. An older one is not accepted any more.
    pub version: i64,
    pub fleet: String,
    pub hosts: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: FleetHost,
    pub key: PublicKey,
    pub seal_key: SealKey,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `view`: it is told everything. `control`: it may send orders, too.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Unix ms.
    pub admitted_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expelled_at: Option<i64>,
}
