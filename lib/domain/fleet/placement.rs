//! Which host takes a server. The host still decides by itself: what is chosen here by what it said
//! last may be refused there, and then another is chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::status::HostStatus;
use crate::base::names::FleetHost;
use crate::base::words::words;

/// A host whose last status is older than this, in ms, is silent: nothing is placed on it, and what
/// it was asked for is asked of another.
pub const SILENT: i64 = 5 * 60_000;

words! {
    /// How servers are distributed.
    pub enum Policy ("a policy") {
        /// To the host with the smallest share of its capacity in use.
        Spread = "spread",
        /// To the fullest host that has room, so that others stay empty.
        Pack = "pack",
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

/// A host of the roster, with what it said last.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub host: FleetHost,
    pub labels: BTreeMap<String, String>,
    pub is_expelled: bool,
    pub status: Option<HostStatus>,
    /// When the status came, unix ms, by this host's clock.
    pub seen_at: Option<i64>,
    /// Servers that are on their way to it, and not in its status yet.
    pub coming: u32,
}

impl Candidate {
    pub fn is_silent(&self, now: i64) -> bool {
        self.seen_at.is_none_or(|at| now - at > SILENT)
    }

    fn used(&self) -> u32 {
        let used = self.status.as_ref().map_or(0, |status| status.used);
        used.saturating_add(self.coming)
    }

    fn capacity(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.capacity)
    }
}

/// What a server needs of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Only this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<FleetHost>,
    /// Only hosts with all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Overlays by name, each with the digest of its files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overlays: BTreeMap<String, String>,
}

/// Why a host does not take a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Expelled,
    Silent,
    NotWanted,
    Refused(String),
    Cordoned,
    Label(String),
    Version,
    Missing(String),
    Differs(String),
    Full { used: u32, capacity: u32 },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expelled => f.write_str("does not belong to the fleet any more"),
            Self::Silent => f.write_str("has said nothing for 5 minutes"),
            Self::NotWanted => f.write_str("is not among the hosts to choose from"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Cordoned => f.write_str("is cordoned"),
            Self::Label(label) => write!(f, "has no label {label}"),
            Self::Version => f.write_str("understands no orders of this version"),
            Self::Missing(overlay) => write!(f, "has no overlay '{overlay}'"),
            Self::Differs(overlay) => write!(f, "has other files in overlay '{overlay}'"),
            Self::Full { used, capacity } => write!(f, "is full ({used} of {capacity} servers)"),
        }
    }
}

/// Why no host takes a server, for people.
pub fn no_host(unfit: &[(FleetHost, Unfit)]) -> String {
    let each: Vec<String> = unfit
        .iter()
        .map(|(host, why)| format!("{host} {why}"))
        .collect();
    match each.is_empty() {
        true => "no other host is known".to_owned(),
        false => format!("no host takes it: {}", each.join("; ")),
    }
}

/// Chooses a host, or says why none fits. `refused` are the hosts that refused this server, and why;
/// `not` those that it must leave.
///
/// The order of the candidates makes no difference.
pub fn choose(
    needs: &Needs,
    candidates: &[Candidate],
    refused: &BTreeMap<FleetHost, String>,
    not: &BTreeSet<FleetHost>,
    policy: Policy,
    now: i64,
) -> Result<FleetHost, Vec<(FleetHost, Unfit)>> {
    let mut unfit = Vec::new();
    let mut fit: Vec<&Candidate> = Vec::new();
    for candidate in candidates {
        if not.contains(&candidate.host) {
            continue;
        }
        match judge(needs, candidate, refused, now) {
            None => fit.push(candidate),
            Some(why) => unfit.push((candidate.host.clone(), why)),
        }
    }

    // One that was named is the only one that people want to read about.
    if needs.host.is_some() {
        unfit.retain(|(_, why)| *why != Unfit::NotWanted);
    }
    unfit.sort_by(|one, other| one.0.cmp(&other.0));
    best(fit, policy).ok_or(unfit)
}

fn judge(
    needs: &Needs,
    candidate: &Candidate,
    refused: &BTreeMap<FleetHost, String>,
    now: i64,
) -> Option<Unfit> {
    let is_wanted = needs
        .host
        .as_ref()
        .is_none_or(|host| *host == candidate.host);
    if !is_wanted {
        return Some(Unfit::NotWanted);
    }
    if candidate.is_expelled {
        return Some(Unfit::Expelled);
    }
    if let Some(why) = refused.get(&candidate.host) {
        return Some(Unfit::Refused(why.clone()));
    }
    let status = match &candidate.status {
        Some(status) if !candidate.is_silent(now) => status,
        _ => return Some(Unfit::Silent),
    };
    if status.cordoned {
        return Some(Unfit::Cordoned);
    }
    if !status.speaks.contains(&VERSION) {
        return Some(Unfit::Version);
    }

    let lacks = |(name, value): (&String, &String)| {
        (candidate.labels.get(name) != Some(value)).then(|| format!("{name}={value}"))
    };
    if let Some(label) = needs.labels.iter().find_map(lacks) {
        return Some(Unfit::Label(label));
    }
    for (overlay, digest) in &needs.overlays {
        match status.overlays.get(overlay) {
            None => return Some(Unfit::Missing(overlay.clone())),
            Some(other) if other != digest => return Some(Unfit::Differs(overlay.clone())),
            Some(_) => {}
        }
    }

    let (used, capacity) = (candidate.used(), candidate.capacity());
    (used >= capacity).then_some(Unfit::Full { used, capacity })
}

/// The best of those that fit. Shares of the capacity are compared without division; of equal ones
/// the one with more room, then the first by name.
fn best(fit: Vec<&Candidate>, policy: Policy) -> Option<FleetHost> {
    let best = fit.into_iter().min_by(|one, other| {
        let share = |a: &Candidate, b: &Candidate| u64::from(a.used()) * u64::from(b.capacity());
        let by_share = share(one, other).cmp(&share(other, one));
        let by_share = match policy {
            Policy::Spread => by_share,
            Policy::Pack => by_share.reverse(),
        };
        by_share
            .then_with(|| other.capacity().cmp(&one.capacity()))
            .then_with(|| one.host.cmp(&other.host))
    })?;
    Some(best.host.clone())
}

#[cfg(test)]
mod tests;
