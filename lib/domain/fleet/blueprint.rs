//! What a server is made from, as it goes from one host to another: sealed, since a line of
//! server.cfg may hold a password.

use serde::{Deserialize, Serialize};

use crate::base::keys::SealKey;
use crate::base::names::{BlueprintName, OverlayName};
use crate::domain::blueprint::{Argument, ConfigLine};

/// A blueprint with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetBlueprint {
    pub name: BlueprintName,
    /// Topmost first.
    #[serde(default)]
    pub overlays: Vec<OverlayName>,
    #[serde(default)]
    pub arguments: Vec<Argument>,
    #[serde(default)]
    pub config: Vec<ConfigLine>,
}

/// The answer to an order that asks to hand a server over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    pub name: String,
    pub owner: String,
    /// Each with the digest of its files.
    pub overlays: Vec<(String, String)>,
    /// A [`FleetBlueprint`], sealed to the host that was named, in base64.
    pub blueprint: String,
    pub sealed_by: SealKey,
}

impl HandedOver {
    /// Reads it from the detail of the order's end: `succeeded: {…}`.
    pub fn from_detail(detail: &str) -> Option<Self> {
        let begin = detail.find('{')?;
        serde_json::from_str(&detail[begin..]).ok()
    }
}
