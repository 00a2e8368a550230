//! Moves of servers: places, drains, evacuations. [`drain`] decides; this brings what is known, and
//! does what it says.

use std::collections::BTreeSet;

use super::facts::{Hosts, order};
use super::steps::{Driver, Next};
use crate::base::names::FleetHost;
use crate::base::{Error, Result};
use crate::db::fleet::{events, kept_blueprints, places, rollouts};
use crate::db::lists::Part;
use crate::domain::fleet::blueprint::HandedOver;
use crate::domain::fleet::drain::{self, Act, Facts, Move, MoveStep, Source};
use crate::domain::fleet::event::ENDED;
use crate::domain::fleet::fate::Fate;
use crate::domain::fleet::order::{Place, What};
use crate::domain::fleet::placement::{self, no_host};
use crate::domain::fleet::rollout::{MovesRequest, Progress, RolloutState, order_id};
use crate::queue::fleet::moves::{is_elsewhere, new_move};
use crate::queue::fleet::place::seal;
use crate::queue::fleet::send;

/// How long an order to hand over or take in a server is good for, in ms: the move goes another way
/// long before.
const GOOD_FOR: i64 = 15 * 60_000;

/// How long after a cordon every status shows it, in ms.
const CORDON_SHOWS: i64 = 60_000;

/// How often silence and deadlines are looked at, in ms.
const LOOK: i64 = 5_000;

pub(super) fn step(driver: &mut Driver<'_>, request: &MovesRequest) -> Result<Next> {
    let mut progress = driver.rollout.progress.clone();
    if progress.moves.is_empty() {
        progress.moves = request.moves.clone();
    }

    let mut waits_for = Vec::new();
    let mut failed = None;
    if !driver.is_aborted() {
        for host in &request.hosts {
            match cordon(driver, host, &mut progress)? {
                Cordon::Done => list_servers(driver, request, host, &mut progress)?,
                Cordon::Waits => waits_for.push(format!("{host} is not cordoned yet")),
                Cordon::Failed(why) => failed = Some(format!("{host} was not cordoned: {why}")),
            }
        }
    }

    for index in 0..progress.moves.len() {
        if !progress.moves[index].step.has_ended() {
            take_step(driver, request, &mut progress, index)?;
        }
    }

    let is_over = waits_for.is_empty() && progress.moves.iter().all(|one| one.step.has_ended());
    let detail = match &failed {
        Some(why) => format!("{why}; {}", summary(&progress, &waits_for)),
        None => summary(&progress, &waits_for),
    };
    let all_moved = progress.moves.iter().all(|one| one.step == MoveStep::Moved);
    let state = match (is_over, driver.is_aborted()) {
        (false, _) => driver.rollout.state,
        (true, true) => RolloutState::Aborted,
        (true, false) if all_moved && failed.is_none() => RolloutState::Succeeded,
        (true, false) => RolloutState::Failed,
    };
    Ok(Next {
        due: (!state.has_ended()).then_some(driver.now + LOOK),
        progress,
        state,
        detail,
        take_back: Vec::new(),
    })
}

enum Cordon {
    Done,
    Waits,
    Failed(String),
}

/// Cordons a host, so that no server comes to it while those that it has leave.
fn cordon(driver: &mut Driver<'_>, host: &FleetHost, progress: &mut Progress) -> Result<Cordon> {
    // A status from before the cordon may lack a server.
    let is_cordoned = driver
        .hosts
        .status(host)
        .is_some_and(|status| status.cordoned);
    if progress.cordoned.contains_key(host) {
        let since = progress.cordoned.get(host).copied().unwrap_or_default();
        // A status of some time after it would say so.
        let is_told = driver
            .hosts
            .seen_at(host)
            .is_some_and(|at| at > since + CORDON_SHOWS);
        return Ok(match (is_cordoned, is_told) {
            (true, _) => Cordon::Done,
            (false, false) => Cordon::Waits,
            (false, true) => Cordon::Failed("it was uncordoned meanwhile".to_owned()),
        });
    }

    match order(driver.tx, driver.rollout.id, host, "cordon")? {
        None => {
            let reason = format!("{} {}", driver.rollout.kind, driver.rollout.id);
            let what = What::Cordon { reason };
            driver.send(host, "cordon", what, send::GOOD_FOR)?;
            Ok(Cordon::Waits)
        }
        Some(order) if order.fate == Fate::Succeeded => {
            progress.cordoned.insert(host.clone(), driver.now);
            match is_cordoned {
                true => Ok(Cordon::Done),
                false => Ok(Cordon::Waits),
            }
        }
        Some(order) if order.fate == Fate::UnderWay => Ok(Cordon::Waits),
        Some(order) => Ok(Cordon::Failed(format!("{} {}", order.fate, order.detail))),
    }
}

/// Adds a move for each server of the host that has none yet.
fn list_servers(
    driver: &Driver<'_>,
    request: &MovesRequest,
    host: &FleetHost,
    progress: &mut Progress,
) -> Result<()> {
    let Some(status) = driver.hosts.status(host) else {
        return Ok(());
    };
    let others = rollouts::moved_by_others(driver.tx, driver.rollout.id)?;
    for server in &status.servers {
        let is_known = progress.moves.iter().any(|one| one.server == server.id);
        if is_known || is_elsewhere(driver.tx, host, server)? || others.contains(&server.id) {
            continue;
        }
        let one = new_move(driver.tx, host, status, server, &request.needs)?;
        progress.moves.push(one);
    }
    Ok(())
}

fn take_step(
    driver: &mut Driver<'_>,
    request: &MovesRequest,
    progress: &mut Progress,
    index: usize,
) -> Result<()> {
    let mut own = progress.moves[index].clone();
    let acts = {
        let facts = facts(driver, request, &progress.moves, &own)?;
        drain::next(&mut own, &facts)
    };
    for act in acts {
        if let Err(error) = carry_out(driver, request, &own, &act) {
            match error.exit {
                crate::base::Exit::Unavailable => return Err(error),
                // Such as a host whose key cannot be sealed to.
                _ => {
                    own.step = MoveStep::Failed;
                    own.why = error.to_string();
                    break;
                }
            }
        }
    }
    progress.moves[index] = own;
    Ok(())
}

fn facts<'a>(
    driver: &'a Driver<'_>,
    request: &MovesRequest,
    moves: &[Move],
    own: &Move,
) -> Result<Facts<'a>> {
    let (hosts, now): (&Hosts, i64) = (&driver.hosts, driver.now);
    let source = match &own.from {
        None => Source::None,
        Some(_) if request.is_dead => Source::None,
        Some(from) if hosts.is_silent(from, now) => Source::Silent,
        Some(from) => match hosts.server(from, own.server) {
            Some(server) => Source::Here(server),
            None => Source::Gone,
        },
    };

    let mut not: BTreeSet<FleetHost> = request.hosts.iter().cloned().collect();
    not.extend(own.from.clone());
    let choice = placement::choose(
        &own.needs,
        &hosts.candidates(moves),
        &own.refused,
        &not,
        request.policy,
        now,
    );
    let others = moves.iter().filter(|other| other.server != own.server);
    let is_its_turn = own.from.is_none()
        || !others
            .clone()
            .any(|other| other.from == own.from && other.is_under_way());

    let find = |host: &Option<FleetHost>, what: &str| match host {
        None => Ok(None),
        Some(host) => order(driver.tx, driver.rollout.id, host, &name(own, what)),
    };
    Ok(Facts {
        now,
        deadline: request.deadline,
        is_aborted: driver.is_aborted(),
        source,
        knows_blueprint: request.blueprints.contains_key(&own.server),
        is_its_turn,
        choice: choice.map_err(|unfit| no_host(&unfit)),
        is_source_lost: own
            .from
            .as_ref()
            .is_some_and(|from| hosts.is_lost(from, driver.is_aborted(), driver.times())),
        is_target_silent: own.to.as_ref().is_some_and(|to| hosts.is_gone(to, now)),
        handed_over: find(&own.from, "hand-over")?,
        placed: find(&own.to, "place")?,
        overtaken: overtaken(driver, own)?,
        given_up: find(&own.from, "give-up")?,
    })
}

/// The host to which another controller moves the server.
fn overtaken(driver: &Driver<'_>, own: &Move) -> Result<Option<String>> {
    let place = places::get(driver.tx, own.server)?;
    let other = place.filter(|place| {
        let is_own = own.to.as_ref().is_some_and(|to| place.host == to.as_str());
        place.epoch > own.epoch || (place.epoch == own.epoch && !is_own)
    });
    Ok(other.map(|place| place.host))
}

/// The step of an order: another epoch is another order.
fn name(own: &Move, what: &str) -> String {
    format!("{what} {} {}", own.server, own.epoch)
}

fn carry_out(driver: &mut Driver<'_>, request: &MovesRequest, own: &Move, act: &Act) -> Result<()> {
    match act {
        Act::HandOver => {
            let (Some(from), Some(to)) = (&own.from, &own.to) else {
                return Ok(());
            };
            let what = What::HandOver {
                server: own.server,
                seal_to: driver.hosts.seal_key(to)?.clone(),
            };
            driver.send(from, &name(own, "hand-over"), what, GOOD_FOR)
        }
        Act::Claim(host) => {
            let claimed = places::claim(
                driver.tx,
                own.server,
                (host.as_str(), own.epoch),
                driver.rollout.id,
                driver.now,
            )?;
            // left4me-link publishes it.
            driver.has_orders |= claimed;
            let is_own = places::get(driver.tx, own.server)?
                .is_some_and(|place| place.host == host.as_str() && place.epoch == own.epoch);
            match is_own {
                true => Ok(()),
                false => Err(Error::conflict(
                    "another controller moves it: `left4me fleet rollouts` there",
                )),
            }
        }
        Act::Place => place(driver, request, own),
        Act::GiveUp { host, to, gently } => {
            let what = What::Unplace {
                server: own.server,
                epoch: own.epoch,
                host: to.clone(),
                when_empty: *gently,
                until: request.deadline.filter(|_| *gently),
            };
            // A host that is dead, or cut off, must hear of it whenever it returns.
            driver.send(host, &name(own, "give-up"), what, send::LONGEST)
        }
    }
}

fn place(driver: &mut Driver<'_>, request: &MovesRequest, own: &Move) -> Result<()> {
    let Some(to) = own.to.clone() else {
        return Ok(());
    };
    // Another controller may be first.
    if places::is_unpublished(driver.tx, own.server)? {
        return Ok(());
    }
    let (overlays, blueprint, sealed_by) = match request.blueprints.get(&own.server) {
        Some(known) => {
            let (blueprint, sealed_by) = seal(known, driver.hosts.seal_key(&to)?)?;
            kept_blueprints::put(driver.tx, own.server, known, driver.now)?;
            let overlays = own.needs.overlays.clone().into_iter().collect();
            (overlays, blueprint, sealed_by)
        }
        None => {
            let Some(handed) = handed_over(driver, own, &to)? else {
                return Ok(());
            };
            (handed.overlays, handed.blueprint, handed.sealed_by)
        }
    };

    let place = Place {
        server: own.server,
        epoch: own.epoch,
        name: own.name.clone(),
        owner: own.owner.clone(),
        start: own.start,
        overlays,
        blueprint,
        sealed_by,
    };
    let what = What::Place(Box::new(place));
    driver.send(&to, &name(own, "place"), what, GOOD_FOR)
}

/// What the server's host handed over. None while it is asked for again: a former driver may have had
/// the answer.
fn handed_over(driver: &mut Driver<'_>, own: &Move, to: &FleetHost) -> Result<Option<HandedOver>> {
    let lost = || Error::failed("what its host handed over is lost");
    let from = own.from.as_ref().ok_or_else(lost)?;
    let (rollout, step) = (driver.rollout.id, name(own, "hand-over"));
    let answer = order(driver.tx, rollout, from, &step)?;
    if let Some(handed) = answer.and_then(|answer| HandedOver::from_detail(&answer.detail)) {
        return Ok(Some(handed));
    }
    if !driver.is_taken_over() {
        return Err(lost());
    }

    // What it told the former driver, it told all.
    let told = events::EventFilter {
        host: Some(from.as_str()),
        order: Some(order_id(rollout, from, &step)),
        kind: ENDED,
        ..events::EventFilter::default()
    };
    let part = Part {
        limit: 10,
        offset: 0,
    };
    let told = events::newest(driver.tx, told, part)?;
    let mut answers = told
        .iter()
        .map(|event| HandedOver::from_detail(&event.detail));
    if let Some(handed) = answers.find_map(|handed| handed) {
        return Ok(Some(handed));
    }

    let step = name(own, "hand-over again");
    let Some(answer) = order(driver.tx, rollout, from, &step)? else {
        let what = What::HandOver {
            server: own.server,
            seal_to: driver.hosts.seal_key(to)?.clone(),
        };
        driver.send(from, &step, what, GOOD_FOR)?;
        return Ok(None);
    };
    match (answer.fate, HandedOver::from_detail(&answer.detail)) {
        (_, Some(handed)) => Ok(Some(handed)),
        (Fate::UnderWay, None) => Ok(None),
        (_, None) => Err(lost()),
    }
}

/// `2 of 3 servers moved; Friday: 2 people play`
fn summary(progress: &Progress, waits_for: &[String]) -> String {
    let moves = &progress.moves;
    let done = moves.iter().filter(|one| one.step == MoveStep::Moved);
    let mut parts = waits_for.to_vec();
    parts.push(format!("{} of {} servers moved", done.count(), moves.len()));
    for one in moves {
        let is_told = one.step != MoveStep::Moved || !one.why.is_empty();
        if is_told {
            let why = match (one.why.is_empty(), &one.to) {
                (false, _) => one.why.clone(),
                (true, Some(to)) => format!("{} ({to})", one.step),
                (true, None) => one.step.to_string(),
            };
            parts.push(format!("{}: {why}", one.name));
        }
    }
    parts.join("; ")
}
