//! Which controller drives a rollout: the document of each in the engine's bucket, which only a newer
//! one replaces, and what each host makes of it. A take-over is a greater epoch. Documents are
//! published before the orders that they tell of: so the controller that goes on from one knows all that
//! was begun.
//! `tests/model/driving.rs` explores the rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::order::What;
use super::rollout::{Progress, Request, RolloutKind, RolloutState};
use crate::base::keys::SealKey;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;

/// How often the document of an open rollout is published at least, in ms: the bucket drops what is
/// older than [`KEPT`].
pub const AGAIN_AFTER: i64 = 24 * 3_600_000;

/// How long the bucket keeps a document, in ms.
pub const KEPT: i64 = 7 * AGAIN_AFTER;

/// The age of a document that is not believed any more, in ms: the bucket has none, so that an engine
/// repeats it. A day more, for clocks that differ.
pub const TOO_OLD: i64 = KEPT + AGAIN_AFTER;

/// The most characters of a detail in a document.
pub const LONGEST_DETAIL: usize = 2000;

/// A rollout as its driver tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutDocument {
    pub v: u32,
    pub id: Ulid,
    #[serde(flatten)]
    pub mark: Mark,
    /// When it was published, unix ms, by the driver's clock.
    pub at: i64,
    pub kind: RolloutKind,
    pub state: RolloutState,
    pub requested_by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub created_at: i64,
    pub updated_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    #[serde(default)]
    pub progress: Progress,
    /// Without its blueprints. None if all of it would be too long for a message: then no other
    /// controller can go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// The blueprints, which may hold passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// Orders to give servers up whose end is not known: no step repeats them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<OpenOrder>,
}

/// What decides which of two documents is newer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The host that drives it.
    pub driver: FleetHost,
    /// Grows with each take-over.
    pub epoch: u64,
    /// Grows with each change, also from one driver to the next.
    pub version: u64,
}

/// What only controllers can open: sealed once to a key that is made for it, which is sealed to each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// In base64.
    pub text: String,
    pub by: SealKey,
    /// The key's secret half for each controller, in base64.
    pub keys: BTreeMap<FleetHost, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOrder {
    pub id: Ulid,
    pub to: FleetHost,
    pub not_after: i64,
    pub what: What,
}

/// What becomes of a document that a driver has for the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    Yes,
    /// The bucket has it: an acknowledgement was lost.
    Same,
    /// The bucket has a newer one.
    No,
}

/// Whether a driver's document may replace the one in the bucket. `taken_from`: the version from which
/// a take-over goes on that is not in the bucket yet.
pub fn may_replace(found: Option<&Mark>, own: &Mark, taken_from: Option<u64>) -> Replace {
    let Some(found) = found else {
        return Replace::Yes;
    };
    let is_own = found.driver == own.driver;
    match found.epoch.cmp(&own.epoch) {
        std::cmp::Ordering::Greater => Replace::No,
        // Its driver has gone on meanwhile: the take-over has to begin from there.
        std::cmp::Ordering::Less if taken_from.is_some_and(|from| found.version > from) => {
            Replace::No
        }
        std::cmp::Ordering::Less => Replace::Yes,
        std::cmp::Ordering::Equal if is_own && found.version == own.version => Replace::Same,
        // Of two that take over at the same time, the first one has it.
        std::cmp::Ordering::Equal if is_own && found.version < own.version => Replace::Yes,
        std::cmp::Ordering::Equal => Replace::No,
    }
}

/// What a host knows of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    pub epoch: u64,
    pub version: u64,
    /// The host that drives it; None for this one.
    pub driver: Option<&'a str>,
    /// The version from which this host goes on, while the bucket does not have its take-over.
    pub taken_from: Option<u64>,
}

/// What a host does with a document of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not newer than what is known.
    Nothing,
    /// Show it.
    Show,
    /// Another host drives it from now on: stop.
    TakenOver,
    /// Go on from this document by a take-over: the former driver was faster than an earlier one, or this
    /// host has published it itself, and its database was restored since.
    GoOn,
}

/// Judges a document that a controller has signed. The engine may repeat older ones.
pub fn judge(known: Option<&Known<'_>>, document: &Mark, here: &FleetHost) -> Verdict {
    let Some(known) = known else {
        return Verdict::Show;
    };
    let is_newer = (document.epoch, document.version) > (known.epoch, known.version);
    let is_own = document.driver == *here;
    match known.driver {
        None if is_own && is_newer => Verdict::GoOn,
        None if is_own => Verdict::Nothing,
        None if document.epoch >= known.epoch => Verdict::TakenOver,
        None if known.taken_from.is_some_and(|from| document.version > from) => Verdict::GoOn,
        None => Verdict::Nothing,
        Some(driver) => {
            let is_other = document.epoch == known.epoch && document.driver.as_str() != driver;
            match is_newer || is_other {
                true => Verdict::Show,
                false => Verdict::Nothing,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(driver: &str, epoch: u64, version: u64) -> Mark {
        Mark {
            driver: driver.parse().unwrap(),
            epoch,
            version,
        }
    }

    #[test]
    fn only_a_newer_document_replaces_one_and_a_take_over_only_what_it_goes_on_from() {
        let own = mark("fra-2", 2, 8);
        let replace = |driver, epoch, version, from| {
            may_replace(Some(&mark(driver, epoch, version)), &own, from)
        };
        assert_eq!(may_replace(None, &own, Some(7)), Replace::Yes);
        assert_eq!(replace("fra-1", 1, 7, Some(7)), Replace::Yes);
        assert_eq!(replace("fra-1", 1, 8, Some(7)), Replace::No);
        // The bucket was lost, and its former driver is back.
        assert_eq!(replace("fra-1", 1, 90, None), Replace::Yes);
        assert_eq!(replace("fra-2", 2, 7, None), Replace::Yes);
        assert_eq!(replace("fra-2", 2, 8, None), Replace::Same);
        assert_eq!(replace("fra-2", 2, 9, None), Replace::No);
        assert_eq!(replace("fra-3", 2, 8, Some(7)), Replace::No);
        assert_eq!(replace("fra-1", 3, 1, None), Replace::No);
    }

    #[test]
    fn a_driver_stops_for_a_greater_epoch_and_for_no_repeated_document() {
        let here = "fra-1".parse().unwrap();
        let known = Known {
            epoch: 2,
            version: 8,
            driver: None,
            taken_from: None,
        };
        let of = |driver, epoch, version| judge(Some(&known), &mark(driver, epoch, version), &here);
        assert_eq!(of("fra-1", 2, 8), Verdict::Nothing);
        assert_eq!(of("fra-1", 2, 9), Verdict::GoOn);
        assert_eq!(of("fra-2", 1, 99), Verdict::Nothing);
        assert_eq!(of("fra-2", 2, 8), Verdict::TakenOver);
        assert_eq!(of("fra-2", 3, 9), Verdict::TakenOver);

        let begun = Known {
            taken_from: Some(7),
            ..known
        };
        let of = |epoch, version| judge(Some(&begun), &mark("fra-2", epoch, version), &here);
        assert_eq!(of(1, 7), Verdict::Nothing);
        assert_eq!(of(1, 8), Verdict::GoOn);

        let shown = Known {
            driver: Some("fra-2"),
            ..begun
        };
        let of = |driver, epoch, version| judge(Some(&shown), &mark(driver, epoch, version), &here);
        assert_eq!(of("fra-2", 2, 8), Verdict::Nothing);
        assert_eq!(of("fra-2", 2, 9), Verdict::Show);
        assert_eq!(of("fra-3", 2, 8), Verdict::Show);
        assert_eq!(of("fra-1", 1, 99), Verdict::Nothing);
    }
}
