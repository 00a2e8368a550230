//! Events as a host tells them to its fleet. The receipt of an order is one: `order.accepted` or
//! `order.refused`. Of a job that an order asked for, `job.succeeded`, `job.failed` and
//! `job.cancelled` tell the end.

use serde::{Deserialize, Serialize};

use crate::base::names::{FleetHost, JobId};
use crate::base::ulid::Ulid;

/// The receipt of an order that is carried out: by a job, or at once (`detail` is `done` then).
pub const ACCEPTED: &str = "order.accepted";
/// The receipt of an order that is not carried out; `detail` says why.
pub const REFUSED: &str = "order.refused";
/// The end of an order without a job of its own, or what is known of it when it comes again: `detail`
/// is an [`End`]'s word.
pub const ENDED: &str = "order.ended";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetEvent {
    pub v: u32,
    pub host: FleetHost,
    /// The event's number on that host: without gaps, so that one that is missing shows.
    pub seq: i64,
    /// Unix ms, by that host's clock.
    pub at: i64,
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Ulid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The job's operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Ulid>,
    /// Empty for what may contain a secret, such as a command for a game's console.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Succeeded,
    Failed,
    Cancelled,
    Refused,
    Withdrawn,
}

impl End {
    pub fn as_str(self) -> &'static str {
        match self {
            End::Succeeded => "succeeded",
            End::Failed => "failed",
            End::Cancelled => "cancelled",
            End::Refused => "refused",
            End::Withdrawn => "withdrawn",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [
            End::Succeeded,
            End::Failed,
            End::Cancelled,
            End::Refused,
            End::Withdrawn,
        ]
        .into_iter()
        .find(|end| end.as_str() == word)
    }
}

impl FleetEvent {
    /// What it tells of the end of its order. None if it tells none.
    pub fn end(&self) -> Option<End> {
        self.order?;
        match self.kind.as_str() {
            REFUSED => Some(End::Refused),
            "job.succeeded" => Some(End::Succeeded),
            "job.failed" => Some(End::Failed),
            "job.cancelled" => Some(End::Cancelled),
            ENDED => End::parse(self.detail.split(':').next().unwrap_or_default()),
            _ => None,
        }
    }
}
