//! Orders: what one host asks of another. The kinds are a closed list: no path, no command line, no
//! package.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{LONGEST, VERSION};
use crate::base::keys::SealKey;
use crate::base::names::{BadName, FleetHost, JobId, shown};
use crate::base::ulid::Ulid;
use crate::domain::update::UpdateOptions;

/// One order, as its sender signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: Ulid,
    pub to: FleetHost,
    /// Who asked, and on which host: `anna@fra-1`.
    pub from: String,
    /// Unix ms. Later it is refused.
    pub not_after: i64,
    pub what: What,
}

/// What is asked for. Its word is the field `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// A job, as `left4me-job enqueue` takes it.
    Enqueue(Enqueue),
    /// Cancel the job of an order, or the job with this number.
    Cancel {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<Ulid>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Forget an order that has not been carried out; one that has not come yet is refused when it
    /// comes.
    Withdraw {
        order: Ulid,
    },
    /// Take in a server.
    Place(Box<Place>),
    /// Give a server up, because it has moved to another host. Its files stay.
    Unplace {
        server: Ulid,
        epoch: u64,
        /// The host that has it now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<FleetHost>,
        /// Stop it as soon as it is empty.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        when_empty: bool,
        /// Stop it at this time (unix ms), even if people play.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
    },
    /// Hand over what a server is made from, sealed to the host that it moves to. The answer is the
    /// detail of the order's end.
    HandOver {
        server: Ulid,
        seal_to: SealKey,
    },
    /// Take in no more servers.
    Cordon {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    Uncordon {},
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enqueue {
    /// An operation's word. One that the host does not know is refused there.
    pub operation: String,
    /// Servers by their ULIDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Ulid>,
    /// All servers of the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// If the same job is already queued or running, that one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<NonZeroU16>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: UpdateOptions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<OrderedCondition>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A condition on the job, in the words of the command line. Durations and times of day count from
/// when, and where, the host accepts the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderedCondition {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub when_empty: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<String>,
}

/// A server that moves to, or begins on, a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub server: Ulid,
    /// Grows with each move of the server.
    pub epoch: u64,
    pub name: String,
    /// The owner's user name; the host must have a user of that name.
    pub owner: String,
    /// Whether it is to run there.
    pub start: bool,
    /// Overlays that it needs, by name, each with the digest of its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<(String, String)>,
    /// The blueprint, as JSON, sealed to the host's key, in base64: it may contain passwords.
    pub blueprint: String,
    /// The key of the host that sealed it.
    pub sealed_by: SealKey,
}

/// The frame of every order, of this version and of later ones.
#[derive(Serialize, Deserialize)]
struct Frame {
    v: u32,
    id: Ulid,
    to: FleetHost,
    from: String,
    not_after: i64,
    #[serde(flatten)]
    what: serde_json::Value,
}

/// An order that cannot be read. If its frame can, the refusal can be told to its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub id: Option<Ulid>,
    pub to: Option<FleetHost>,
    pub from: Option<String>,
    pub not_after: i64,
    pub kind: String,
    pub why: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl What {
    /// The word of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            What::Enqueue(_) => "enqueue",
            What::Cancel { .. } => "cancel",
            What::Withdraw { .. } => "withdraw",
            What::Place(_) => "place",
            What::Unplace { .. } => "unplace",
            What::HandOver { .. } => "hand-over",
            What::Cordon { .. } => "cordon",
            What::Uncordon {} => "uncordon",
        }
    }

    /// In words, for lists: `restart 2 servers`.
    pub fn summary(&self) -> String {
        match self {
            What::Enqueue(asked) => match (asked.all, asked.servers.len()) {
                (true, _) => format!("{} all servers", asked.operation),
                (false, 0) => asked.operation.clone(),
                (false, 1) => format!("{} 1 server", asked.operation),
                (false, n) => format!("{} {n} servers", asked.operation),
            },
            What::Cancel { job: Some(job), .. } => format!("cancel job {job}"),
            What::Cancel { order, .. } => match order {
                Some(order) => format!("cancel order {order}"),
                None => "cancel".to_owned(),
            },
            What::Withdraw { order } => format!("withdraw order {order}"),
            What::Place(place) => format!("place {}", shown(&place.name)),
            What::Unplace { server, .. } => format!("give up server {server}"),
            What::HandOver { server, .. } => format!("hand over server {server}"),
            What::Cordon { .. } => "cordon".to_owned(),
            What::Uncordon {} => "uncordon".to_owned(),
        }
    }
}

impl Order {
    /// The bytes that are signed and sent, in every attempt.
    ///
    /// Fails when they are longer than [`LONGEST`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadName> {
        let refuse = |why: String| BadName::new(format!("order {}: {why}", self.id));
        let frame = Frame {
            v: VERSION,
            id: self.id,
            to: self.to.clone(),
            from: self.from.clone(),
            not_after: self.not_after,
            what: serde_json::to_value(&self.what).map_err(|error| refuse(error.to_string()))?,
        };
        let bytes = serde_json::to_vec(&frame).map_err(|error| refuse(error.to_string()))?;
        match bytes.len() <= LONGEST {
            true => Ok(bytes),
            false => Err(refuse(format!(
                "it has {} bytes, and {LONGEST} is the limit",
                bytes.len()
            ))),
        }
    }

    /// Reads an order whose signature has been verified.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Box<Unreadable>> {
        let unreadable = |why: String| {
            Box::new(Unreadable {
                id: None,
                to: None,
                from: None,
                not_after: 0,
                kind: String::new(),
                why,
            })
        };
        if bytes.len() > LONGEST {
            return Err(unreadable(format!("{} bytes are too many", bytes.len())));
        }
        let frame: Frame = serde_json::from_slice(bytes)
            .map_err(|error| unreadable(format!("not an order: {error}")))?;
        let kind = frame.what["kind"].as_str().unwrap_or_default().to_owned();
        let refuse = |why: String| {
            Box::new(Unreadable {
                id: Some(frame.id),
                to: Some(frame.to.clone()),
                from: Some(frame.from.clone()),
                not_after: frame.not_after,
                kind: kind.clone(),
                why,
            })
        };
        if frame.v != VERSION {
            return Err(refuse(format!(
                "this host understands orders of version {VERSION}, not {}",
                frame.v
            )));
        }

        match serde_json::from_value::<What>(frame.what.clone()) {
            Ok(what) => Ok(Self {
                id: frame.id,
                to: frame.to,
                from: frame.from,
                not_after: frame.not_after,
                what,
            }),
            Err(error) => Err(refuse(format!("not an order of this host: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(what: What) -> Order {
        Order {
            id: Ulid::from_parts(1_000, 7),
            to: "ams-1".parse().unwrap(),
            from: "anna@fra-1".to_owned(),
            not_after: 2_000,
            what,
        }
    }

    #[test]
    fn each_kind_is_read_as_it_is_written() {
        let server = Ulid::from_parts(5, 5);
        let all = [
            What::Enqueue(Enqueue {
                operation: "restart".to_owned(),
                servers: vec![server],
                all: false,
                unique: false,
                rolling: None,
                update: UpdateOptions::default(),
                condition: None,
                reason: "why".to_owned(),
            }),
            What::Cancel {
                order: Some(server),
                job: None,
                force: true,
                reason: String::new(),
            },
            What::Withdraw { order: server },
            What::Unplace {
                server,
                epoch: 2,
                host: Some("chi-1".parse().unwrap()),
                when_empty: true,
                until: Some(3),
            },
            What::HandOver {
                server,
                seal_to: crate::base::keys::OpeningKey::generate().public(),
            },
            What::Cordon {
                reason: String::new(),
            },
            What::Uncordon {},
        ];
        for what in all {
            let order = order(what);
            let bytes = order.to_bytes().unwrap();
            assert_eq!(Order::from_bytes(&bytes).unwrap(), order);
            let text = String::from_utf8(bytes).unwrap();
            assert!(
                text.contains(&format!("\"kind\":\"{}\"", order.what.kind())),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_host_does_not_know_is_refused_by_its_name_and_its_sender_can_be_told() {
        let known = String::from_utf8(order(What::Uncordon {}).to_bytes().unwrap()).unwrap();
        for (from, to, why) in [
            ("uncordon", "run", "unknown variant `run`"),
            (
                "\"kind\"",
                "\"path\":\"/etc\",\"kind\"",
                "unknown field `path`",
            ),
            ("\"v\":1", "\"v\":9", "not 9"),
        ] {
            let bad = Order::from_bytes(known.replace(from, to).as_bytes()).unwrap_err();
            assert!(bad.why.contains(why), "{bad:?}");
            assert_eq!(bad.id, Some(Ulid::from_parts(1_000, 7)));
            assert_eq!(bad.from.as_deref(), Some("anna@fra-1"));
        }
        assert_eq!(
            Order::from_bytes(b"{\"stream\":\"ORDERS\",\"seq\":9}")
                .unwrap_err()
                .id,
            None
        );
    }
}
