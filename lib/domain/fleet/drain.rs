//! How one server moves: it waits until it is empty, its host hands over what it is made from,
//! another host takes it in and starts it, and then the first one stops it. Each step is an order
//! with an id of its own; the epoch grows with each try, so that no host mistakes an old order for a
//! new one. There are no locks: a driver that dies leaves a state from which another goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blueprint::HandedOver;
use super::fate::Fate;
use super::placement::Needs;
use super::status::ServerStatus;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::words::words;

/// How long a move waits for a host that takes it, in ms, before it is given up.
pub const PATIENCE: i64 = 10 * 60_000;

/// After so many answers to a hand-over that cannot be read, a move fails.
const MOST_HAND_OVERS: u32 = 3;

words! {
    /// How far a move is.
    pub enum MoveStep ("a step of a move") {
        /// To be empty, for its turn, or for a host that takes it.
        Waiting = "waiting",
        HandingOver = "handing over",
        Placing = "placing",
        /// It runs on its new host, and its former one is to stop it.
        Leaving = "leaving",
        Moved = "moved",
        Failed = "failed",
        /// The rollout was aborted before it began.
        NotBegun = "not begun",
    }
}

impl<'de> Deserialize<'de> for MoveStep {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

impl MoveStep {
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Moved | Self::Failed | Self::NotBegun)
    }
}

/// A server on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub server: Ulid,
    pub name: String,
    pub owner: String,
    /// Where it is; None for one that begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FleetHost>,
    /// Whether it is to run on its new host.
    pub start: bool,
    #[serde(default)]
    pub needs: Needs,
    /// The epoch of its newest place.
    pub epoch: u64,
    /// The host that is to take it, or has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<FleetHost>,
    /// Hosts that did not take it, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<FleetHost, String>,
    /// How many answers to a hand-over could not be read.
    #[serde(default)]
    pub unread: u32,
    pub step: MoveStep,
    /// Since when no host has been found, unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_since: Option<i64>,
    /// What it waits for, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What is known of the host that the server leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// There is none, or it is dead.
    None,
    Silent,
    /// The host does not have the server.
    Gone,
    Here(&'a ServerStatus),
}

/// What has become of an order of this move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFacts {
    pub fate: Fate,
    /// Whether its host has told that it has it.
    pub is_accepted: bool,
    pub detail: String,
}

/// What a move is judged by.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub now: i64,
    pub deadline: Option<i64>,
    pub is_aborted: bool,
    pub source: Source<'a>,
    /// Whether what the server is made from is known without its host.
    pub knows_blueprint: bool,
    /// No other server of its host is about to be placed.
    pub is_its_turn: bool,
    /// The host that fits best, or why none does.
    pub choice: Result<FleetHost, String>,
    /// Whether the host that is to take it has said nothing for long.
    pub is_target_silent: bool,
    /// Whether the host that has the server is dead, as far as can be seen from here.
    pub is_source_lost: bool,
    /// The orders of the move's current epoch; None if they have not been sent.
    pub handed_over: Option<OrderFacts>,
    pub placed: Option<OrderFacts>,
    /// The host to which another controller moves the server, once it has claimed it.
    pub overtaken: Option<String>,
    pub given_up: Option<OrderFacts>,
}

/// What is to be done, in one transaction with what the move has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Order the host that has the server to hand it over.
    HandOver,
    /// Write down, and publish, that the server belongs to this host.
    Claim(FleetHost),
    /// Order the move's new host to take it in.
    Place,
    /// Order this host to give it up, because the other has it.
    GiveUp {
        host: FleetHost,
        to: Option<FleetHost>,
        /// Only when it is empty, or at the deadline.
        gently: bool,
    },
}

impl Move {
    /// Whether it counts for the turn of its host's other servers.
    pub fn is_under_way(&self) -> bool {
        matches!(self.step, MoveStep::HandingOver | MoveStep::Placing)
    }

    fn end(&mut self, step: MoveStep, why: impl Into<String>) -> Vec<Act> {
        self.step = step;
        self.why = why.into();
        Vec::new()
    }

    fn wait(&mut self, why: impl Into<String>) -> Vec<Act> {
        self.why = why.into();
        Vec::new()
    }

    fn goes_on(&mut self, step: MoveStep, acts: Vec<Act>) -> Vec<Act> {
        self.step = step;
        self.why = String::new();
        acts
    }
}

/// Takes the next step of a move, as far as what is known allows.
pub fn next(own: &mut Move, facts: &Facts<'_>) -> Vec<Act> {
    match own.step {
        MoveStep::Waiting => wait_or_begin(own, facts),
        MoveStep::HandingOver => hand_over(own, facts),
        // Later, its new host has it: who moves it on from there deals with that host.
        MoveStep::Placing if facts.overtaken.is_some() => overtaken(own, facts),
        MoveStep::Placing => place(own, facts),
        MoveStep::Leaving => leave(own, facts),
        MoveStep::Moved | MoveStep::Failed | MoveStep::NotBegun => Vec::new(),
    }
}

fn wait_or_begin(own: &mut Move, facts: &Facts<'_>) -> Vec<Act> {
    if facts.is_aborted {
        return own.end(MoveStep::NotBegun, "aborted");
    }

    let from = own.from.as_ref().map(ToString::to_string);
    let from = from.unwrap_or_default();
    match facts.source {
        Source::None => {}
        Source::Silent => return own.wait(format!("{from} has said nothing for 5 minutes")),
        Source::Gone => {
            return own.end(MoveStep::Failed, format!("it is not on {from} any more"));
        }
        Source::Here(server) => {
            own.start = server.desired == "running";
            let is_late = facts.deadline.is_some_and(|at| facts.now >= at);
            if let Some(why) = plays(server).filter(|_| !is_late) {
                return own.wait(why);
            }
        }
    }
    if !facts.is_its_turn {
        return own.wait("another server of its host moves first");
    }

    match &facts.choice {
        Err(why) => {
            let since = *own.stuck_since.get_or_insert(facts.now);
            let is_new = own.from.is_none();
            match is_new || facts.now - since >= PATIENCE {
                true => own.end(MoveStep::Failed, why),
                false => own.wait(why),
            }
        }
        Ok(host) => {
            own.stuck_since = None;
            own.epoch += 1;
            own.to = Some(host.clone());
            match facts.knows_blueprint {
                true => begin_placing(own),
                false => own.goes_on(MoveStep::HandingOver, vec![Act::HandOver]),
            }
        }
    }
}

/// Why a server is not empty. None if it is.
fn plays(server: &ServerStatus) -> Option<String> {
    let is_down = matches!(&*server.actual, "stopped" | "failed");
    match server.players {
        _ if is_down => None,
        Some(0) => None,
        Some(1) => Some("1 person plays".to_owned()),
        Some(players) => Some(format!("{players} people play")),
        None => Some("who plays is not known".to_owned()),
    }
}

fn begin_placing(own: &mut Move) -> Vec<Act> {
    let acts = own.to.clone().map(|to| vec![Act::Claim(to), Act::Place]);
    own.goes_on(MoveStep::Placing, acts.unwrap_or_default())
}

fn hand_over(own: &mut Move, facts: &Facts<'_>) -> Vec<Act> {
    let Some(order) = &facts.handed_over else {
        return vec![Act::HandOver];
    };
    match order.fate {
        Fate::Succeeded if HandedOver::from_detail(&order.detail).is_some() => begin_placing(own),
        // That it succeeded is known, but its answer was lost on the way: another order asks again.
        Fate::Succeeded => {
            own.unread += 1;
            if own.unread >= MOST_HAND_OVERS {
                let why = format!("it was handed over {MOST_HAND_OVERS} times, unreadably");
                return own.end(MoveStep::Failed, why);
            }
            own.epoch += 1;
            vec![Act::HandOver]
        }
        // Nothing has changed on any host.
        Fate::UnderWay if facts.is_aborted => own.end(MoveStep::NotBegun, "aborted"),
        Fate::UnderWay => Vec::new(),
        fate => {
            let why = format!("it was not handed over: {}", reason(fate, &order.detail));
            own.end(MoveStep::Failed, why)
        }
    }
}

/// Another controller was first: its host keeps the server, and the one that was asked here gives it
/// up.
fn overtaken(own: &mut Move, facts: &Facts<'_>) -> Vec<Act> {
    let other = facts.overtaken.clone().unwrap_or_default();
    own.end(
        MoveStep::Failed,
        format!("another controller moves it to {other}"),
    );
    match own.to.clone().filter(|to| to.as_str() != other) {
        Some(host) if facts.placed.is_some() => {
            own.epoch += 1;
            vec![Act::GiveUp {
                host,
                to: other.parse().ok(),
                gently: false,
            }]
        }
        _ => Vec::new(),
    }
}

/// A move that has come so far is finished also after an abort: a server that is left between two
/// hosts would run on both, or on none.
fn place(own: &mut Move, facts: &Facts<'_>) -> Vec<Act> {
    let Some(order) = &facts.placed else {
        return begin_placing(own);
    };
    match order.fate {
        Fate::UnderWay if facts.is_target_silent => {
            try_another(own, "it has said nothing for 5 minutes", true)
        }
        Fate::UnderWay => Vec::new(),
        Fate::Refused => try_another(own, &order.detail, false),
        Fate::Succeeded => {
            let acts = give_up_former(own, facts);
            match facts.source {
                // A host that is dead stops the server when it returns.
                Source::None => own.goes_on(MoveStep::Moved, acts),
                _ => own.goes_on(MoveStep::Leaving, acts),
            }
        }
        fate => try_another(own, &reason(fate, &order.detail), true),
    }
}

/// Looks for another host at the next step. The server belongs to its former host until then; one
/// that may have taken it has to give it up.
fn try_another(own: &mut Move, why: &str, may_have_it: bool) -> Vec<Act> {
    let Some(host) = own.to.take() else {
        return Vec::new();
    };
    own.epoch += 1;
    own.step = MoveStep::Waiting;
    own.why = format!("{host}: {why}");
    own.refused.insert(host.clone(), why.to_owned());

    // First the order: it is sent also when another controller has claimed the server.
    let mut acts = Vec::new();
    if may_have_it {
        acts.push(Act::GiveUp {
            host,
            to: own.from.clone(),
            gently: false,
        });
    }
    acts.extend(own.from.clone().map(Act::Claim));
    acts
}

fn give_up_former(own: &Move, facts: &Facts<'_>) -> Vec<Act> {
    let Some(host) = own.from.clone() else {
        return Vec::new();
    };
    let is_late = facts.deadline.is_some_and(|at| facts.now >= at);
    let is_dead = facts.source == Source::None;
    vec![Act::GiveUp {
        host,
        to: own.to.clone(),
        gently: !is_late && !is_dead,
    }]
}

fn leave(own: &mut Move, facts: &Facts<'_>) -> Vec<Act> {
    let Some(order) = &facts.given_up else {
        return give_up_former(own, facts);
    };
    let from = own.from.as_ref().map(ToString::to_string);
    let from = from.unwrap_or_default();
    match order.fate {
        Fate::Succeeded => own.end(MoveStep::Moved, ""),
        Fate::UnderWay
            if facts.source == Source::Silent && (!order.is_accepted || facts.is_source_lost) =>
        {
            let why = format!("{from} is silent; it stops the server when it returns");
            own.end(MoveStep::Moved, why)
        }
        Fate::UnderWay if order.is_accepted => {
            let why = match facts.source {
                Source::Here(server) => plays(server).unwrap_or_default(),
                _ => String::new(),
            };
            own.wait(why)
        }
        Fate::UnderWay => Vec::new(),
        fate => {
            let why = format!(
                "it runs on its new host, but {from} did not stop it: {}",
                reason(fate, &order.detail)
            );
            own.end(MoveStep::Failed, why)
        }
    }
}

fn reason(fate: Fate, detail: &str) -> String {
    match detail.is_empty() {
        true => fate.to_string(),
        false => format!("{fate}: {detail}"),
    }
}

#[cfg(test)]
mod tests;
