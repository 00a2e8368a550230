//! The line protocol between left4me-link, which has the network, and left4me-gate, which has the
//! database. link sends one request line and reads one answer line; the connection stays. gate
//! believes nothing that link says: it verifies every signature itself.

use serde::{Deserialize, Serialize};

use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::domain::fleet::question::Question;

/// The longest line in either direction, in bytes: a batch of orders in base64, and its frame.
pub const LINE: usize = 8 * 1024 * 1024;

/// The most messages in one [`GateRequest::Deliver`].
pub const BATCH: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GateRequest {
    /// Says how the connection to the engine is, and asks what is to be sent, and from where to read.
    Take { link: LinkState, limit: usize },
    /// Says what the engine has acknowledged.
    Sent {
        #[serde(default)]
        orders: Vec<SentOrder>,
        /// The newest event up to which all are with the engine.
        #[serde(default)]
        events: Option<i64>,
        /// The rollouts whose documents are in the bucket.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rollouts: Vec<SentRollout>,
        generations: Generations,
    },
    /// Hands over messages of one stream or bucket, in their order.
    Deliver {
        from: Source,
        /// Of the stream; a bucket is one, too.
        #[serde(default)]
        generation: String,
        messages: Vec<Message>,
    },
    /// A question that came in this host's name, which is answered at once.
    Ask {
        from: FleetHost,
        question: SignedText,
    },
    /// What was answered in this host's name to a question from here.
    Answered {
        host: FleetHost,
        /// Of the question.
        id: Ulid,
        question: Question,
        answer: SignedText,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GateAnswer {
    Taken(Box<Taken>),
    Done {},
    Delivered {
        /// The sequence up to which the stream has been read.
        sequence: u64,
        /// How many of the messages were noise.
        noise: u32,
    },
    /// The answer to another host's question, without its signature, which link adds.
    Answer {
        body: String,
    },
    /// What another host has answered, or `{"error": …, "exit": 77}`.
    Asked(serde_json::Value),
    /// The request was not one, or the database cannot be used; link tries again later.
    Failed {
        why: String,
    },
}

/// Where messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The stream ORDERS, from this host's subject.
    Orders,
    /// The stream EVENTS.
    Events,
    /// The bucket of status documents: the subject is the host's name.
    Hosts,
    /// The bucket of the roster.
    Roster,
    /// The bucket of places: the subject is the server's ULID.
    Places,
    /// The bucket of rollouts: the subject is the rollout's ULID.
    Rollouts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// In its stream.
    pub sequence: u64,
    /// The host in the subject, `l4m.order.HOST` or `l4m.event.HOST`; the key in a bucket.
    pub subject: String,
    /// The public key in the header L4m-Key.
    #[serde(default)]
    pub key: String,
    /// The signature in the header L4m-Sig, in base64.
    #[serde(default)]
    pub signature: String,
    /// In base64.
    pub body: String,
}

/// How left4me-link is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkState {
    pub connected: bool,
    /// Unix ms: since when it is connected, or is not.
    pub since: i64,
    /// Why it is not connected, or that a copy of this host has its place.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether a copy of this host holds the lease.
    #[serde(default)]
    pub is_clone: bool,
    #[serde(default)]
    pub generations: Generations,
}

/// The generations of the streams: the time at which each was created, as the engine says it. Empty
/// while unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generations {
    #[serde(default)]
    pub orders: String,
    #[serde(default)]
    pub events: String,
    /// The last sequences. A cursor beyond them is of a stream that has lost messages: it is read from its beginning.
    #[serde(default)]
    pub last_order: u64,
    #[serde(default)]
    pub last_event: u64,
}

/// What gate has for the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    pub orders: Vec<OutOrder>,
    pub events: Vec<OutEvent>,
    /// The status document, without its signature, which link adds; None if it has not changed.
    #[serde(default)]
    pub status: Option<String>,
    /// The signed roster; only from a controller whose roster is newer than the engine's.
    #[serde(default)]
    pub roster: Option<SignedText>,
    /// Places to compare and set.
    #[serde(default)]
    pub places: Vec<SetPlace>,
    /// Rollouts to compare and set, before anything else is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<SetRollout>,
    /// The sequences after which ORDERS and EVENTS are read next.
    pub orders_after: u64,
    pub events_after: u64,
    /// What this host has not been told of another one, which is to be asked for it.
    #[serde(default)]
    pub missing: Option<Missing>,
    /// Whether this host is told of all others.
    pub views: bool,
    /// Whether it may send orders.
    pub controls: bool,
    /// Whether there is more to take at once.
    pub more: bool,
}

/// Events of a host after this one that have not come, although later ones have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    pub host: FleetHost,
    pub after: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutOrder {
    pub id: Ulid,
    pub attempt: u32,
    pub to: FleetHost,
    /// In base64.
    pub body: String,
    pub key: String,
    /// In base64.
    pub signature: String,
}

/// An event's document; link signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutEvent {
    pub seq: i64,
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedText {
    pub body: String,
    pub key: String,
    pub signature: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPlace {
    pub server: Ulid,
    pub host: FleetHost,
    pub epoch: u64,
}

/// The document of a rollout that this host drives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRollout {
    pub id: Ulid,
    pub epoch: u64,
    pub version: u64,
    /// The version from which a take-over goes on.
    #[serde(default)]
    pub taken_from: Option<u64>,
    pub document: SignedText,
}

/// A rollout whose document is in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentRollout {
    pub id: Ulid,
    pub epoch: u64,
    pub version: u64,
}

/// An order that the engine has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentOrder {
    pub id: Ulid,
    pub attempt: u32,
    pub sequence: u64,
}
