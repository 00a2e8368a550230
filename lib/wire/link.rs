//! What other programs of this host ask of left4me-link. A question to another host is one line on
//! its socket for questions, which is answered by one [`GateAnswer`](super::gate::GateAnswer).
//! `left4me fleet` changes the engine through a left4me-link of its own, by one [`Administer`] on its
//! standard input, with a key that is good for minutes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::names::FleetHost;
use crate::domain::fleet::question::Question;

/// The longest request, in bytes: an account with its permissions and thousands of expelled hosts.
pub const REQUEST: usize = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskHost {
    pub host: FleetHost,
    pub question: Question,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Administer {
    /// The engine's nodes.
    pub engine: Vec<String>,
    /// Whose certificates they have.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    pub jwt: String,
    pub seed: String,
    pub call: Call,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// As the system's account: the account FLEET is from now on this one, on all nodes.
    PushAccount { jwt: String },
    /// As the system's account: what the nodes say of themselves.
    Nodes {},
    /// In the account FLEET: make what is missing, and change what can be changed.
    Make { replicas: u8 },
    /// In the account FLEET: what is there.
    Look { replicas: u8 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Administered {
    Done {},
    Nodes {
        nodes: Vec<EngineNode>,
    },
    Made {
        made: Vec<String>,
        changed: Vec<String>,
    },
    Objects {
        objects: Vec<EngineObject>,
    },
    /// The engine does not answer, or refuses: what it said.
    Failed {
        why: String,
    },
}

/// A node, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineNode {
    pub name: String,
    pub version: String,
    /// Whether each message is on its disk before it is acknowledged.
    pub syncs: bool,
    /// Bytes that streams use, and may use.
    pub used: u64,
    pub room: u64,
}

/// A stream, as it is and as it differs from what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineObject {
    pub name: String,
    pub exists: bool,
    #[serde(default)]
    pub differences: Vec<String>,
    #[serde(default)]
    pub messages: u64,
    #[serde(default)]
    pub leader: Option<String>,
    /// Nodes that have not all of it.
    #[serde(default)]
    pub behind: Vec<String>,
}
