//! What `left4me fleet admit` hands to a host: nothing in it is secret, but root has to bring it there,
//! because it says whose orders the host obeys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::keys::PublicKey;
use crate::base::names::FleetHost;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ticket {
    pub v: u32,
    pub fleet: String,
    pub host: FleetHost,
    pub engine: Vec<String>,
    pub ca: String,
    pub jwt: String,
    pub roles: Vec<String>,
    /// The controllers whose orders it obeys.
    pub controllers: BTreeMap<FleetHost, PublicKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}
