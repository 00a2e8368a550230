//! An update in waves. [`waves`] decides; this brings what is known, and does what it says.

use std::collections::BTreeMap;

use super::facts::order;
use super::steps::{Driver, Next};
use crate::base::Result;
use crate::base::names::FleetHost;
use crate::db::fleet::{events, orders_to_send};
use crate::domain::fleet::fate::Fate;
use crate::domain::fleet::order::What;
use crate::domain::fleet::rollout::{RolloutState, UpdateRequest, order_id};
use crate::domain::fleet::status::{HostStatus, ServerStatus};
use crate::domain::fleet::waves::{self, HostFacts, Outcome, Rules, Step, UpdateProgress};

/// How long the order is good for, in ms: a host that is cut off for longer is not updated by it, and
/// counts as one that failed.
const GOOD_FOR: i64 = 2 * 3_600_000;

/// How often the hosts are looked at while a wave soaks, in ms.
const LOOK: i64 = 5_000;

pub(super) fn step(driver: &mut Driver<'_>, request: &UpdateRequest) -> Result<Next> {
    let mut progress = driver.rollout.progress.clone();
    let mut update = progress.update.take().unwrap_or_default();
    let rules = Rules {
        waves: request.waves.split(&request.hosts),
        soak: request.soak,
        stop_after: request.stop_after,
    };

    let (mut facts, mut taken_back) = (BTreeMap::new(), Vec::new());
    let (mut ask_again, mut lost_at) = (Vec::new(), None);
    let is_aborted = driver.is_aborted();
    for host in &request.hosts {
        let found = order(driver.tx, driver.rollout.id, host, "update")?;
        let Some(mut order) = found else {
            if is_judged(&update, rules.waves.get(update.wave), host) {
                ask_again.push(host.clone());
            }
            continue;
        };
        let id = order_id(driver.rollout.id, host, "update");
        // An order that no host has accepted ends with its time.
        if order.is_accepted && order.fate == Fate::UnderWay {
            if driver.hosts.is_lost(host, is_aborted, driver.times()) {
                order.fate = Fate::Unknown;
                order.detail = "it began the update, and has said nothing since".to_owned();
            } else {
                let at = driver.hosts.lost_at(host, is_aborted, driver.times());
                lost_at = Some(lost_at.unwrap_or(i64::MAX).min(at));
            }
        }
        let is_watched = update.soaks_since.is_some() && order.fate == Fate::Succeeded;
        // One that comes late may be of before the update.
        let end = events::last_of_order(driver.tx, host.as_str(), id)?;
        let is_of_after = |status: &&HostStatus| end.is_none_or(|end| status.last_event >= end);
        let news = driver
            .hosts
            .seen_at(host)
            .zip(update.soaks_since)
            .is_some_and(|(seen, since)| seen > since);
        let status = driver.hosts.status(host).filter(|_| is_watched && news);
        let status = status.filter(is_of_after);
        let (wrong, is_whole) = match status {
            Some(status) => (trouble(status), is_new(status)),
            None => (None, false),
        };
        let went_back = status.and_then(|status| went_back(&mut update, host, status));
        let silence = (is_watched && driver.hosts.is_silent(host, driver.now))
            .then(|| "it has said nothing since the update".to_owned());
        let own = HostFacts {
            fate: order.fate,
            why: match (order.fate, order.detail.is_empty()) {
                (Fate::Succeeded | Fate::UnderWay, _) => String::new(),
                (fate, true) => fate.to_string(),
                (fate, false) => format!("{fate}: {}", order.detail),
            },
            trouble: wrong.or(went_back).or(silence),
            is_settled: is_whole || (status.is_some() && request.enqueue.update.no_restart),
        };
        facts.insert(host.clone(), own);

        let sent = orders_to_send::get(driver.tx, id)?;
        if sent.is_some_and(|sent| sent.withdrawal.is_some()) {
            taken_back.push(host.clone());
        }
    }

    // A host does what it has done no second time, and tells its end again: only this host has the order.
    for host in &ask_again {
        let what = What::Enqueue(request.enqueue.clone());
        driver.send(host, "update", what, GOOD_FOR)?;
        if let Some(own) = update.hosts.get_mut(host) {
            own.fate = Fate::UnderWay;
        }
    }

    if is_aborted && request.enqueue.condition.is_some() {
        for host in rules.waves.get(update.wave).into_iter().flatten() {
            if let Some(own) = facts.get_mut(host)
                && cancel_restarts(driver, host, own)?
            {
                taken_back.push(host.clone());
            }
        }
    }
    let is_back = |host: &FleetHost| taken_back.contains(host);
    let (mut state, mut detail, mut due) = (driver.rollout.state, None, None);
    let mut take_back = Vec::new();
    match waves::next(
        &rules,
        &mut update,
        &facts,
        &is_back,
        is_aborted,
        driver.now,
    ) {
        Step::Send(hosts) => {
            for host in hosts {
                let what = What::Enqueue(request.enqueue.clone());
                driver.send(&host, "update", what, GOOD_FOR)?;
            }
        }
        Step::Wait(until) => {
            let soon = driver.now + LOOK;
            let until = match is_aborted {
                true => Some(soon),
                false => until.map(|until| until.min(soon)),
            };
            let lost_at = lost_at.map(|at: i64| at.max(soon));
            due = until.into_iter().chain(lost_at).min();
        }
        Step::TakeBack(hosts) => {
            let id = |host: &FleetHost| order_id(driver.rollout.id, host, "update");
            take_back = hosts.iter().map(id).collect();
        }
        Step::End(outcome, why) => {
            state = match outcome {
                Outcome::Succeeded => RolloutState::Succeeded,
                Outcome::Failed => RolloutState::Failed,
                Outcome::Aborted => RolloutState::Aborted,
            };
            detail = Some(why);
        }
    }

    let detail = detail.unwrap_or_else(|| {
        let (wave, all) = (update.wave + 1, rules.waves.len());
        let soaks = match update.soaks_since {
            Some(_) => ", which is watched",
            None => "",
        };
        format!(
            "wave {wave} of {all}{soaks}; {}",
            waves::told(&rules, &update)
        )
    });
    progress.update = Some(update);
    Ok(Next {
        progress,
        state,
        detail,
        due,
        take_back,
    })
}

/// Whether a host that a former driver asked is judged by its order yet: it has not ended, or its wave is
/// watched.
fn is_judged(update: &UpdateProgress, wave: Option<&Vec<FleetHost>>, host: &FleetHost) -> bool {
    let fate = update.hosts.get(host).map(|own| own.fate);
    let is_in_wave = wave.is_some_and(|wave| wave.contains(host));
    fate == Some(Fate::UnderWay) || (fate == Some(Fate::Succeeded) && is_in_wave)
}

/// Cancels the restarts that wait on a host of an update that was aborted, once its job has ended.
/// Whether that was asked of the host.
fn cancel_restarts(driver: &mut Driver<'_>, host: &FleetHost, own: &mut HostFacts) -> Result<bool> {
    if own.fate != Fate::Succeeded {
        return Ok(false);
    }
    let step = "cancel restarts";
    let Some(asked) = order(driver.tx, driver.rollout.id, host, step)? else {
        let what = What::Cancel {
            order: Some(order_id(driver.rollout.id, host, "update")),
            job: None,
            force: false,
            reason: "the rollout was aborted".to_owned(),
        };
        driver.send(host, step, what, GOOD_FOR)?;
        own.fate = Fate::UnderWay;
        return Ok(true);
    };
    let is_lost = driver.hosts.is_lost(host, true, driver.times());
    match asked.fate {
        // None waits: all its servers run the new build, or are down.
        Fate::Refused => {}
        Fate::UnderWay if !is_lost => own.fate = Fate::UnderWay,
        Fate::Succeeded => {
            own.fate = Fate::Cancelled;
            own.why = format!("has the new build; {}", asked.detail);
        }
        fate => {
            own.fate = if fate.is_bad() { fate } else { Fate::Unknown };
            own.why = format!(
                "has the new build; whether restarts wait is {}",
                Fate::Unknown
            );
        }
    }
    Ok(true)
}

/// What is wrong with the servers of a host that has the new build.
fn trouble(status: &HostStatus) -> Option<String> {
    let bad = running(status).find(|server| server.actual == "failed" || server.drift)?;
    Some(format!(
        "server '{}' is {} after the update",
        bad.name, bad.actual
    ))
}

/// Whether all servers run the host's build: those that wait until they are empty do not yet.
fn is_new(status: &HostStatus) -> bool {
    status.build.is_none()
        || running(status).all(|server| server.build.is_none() || server.build == status.build)
}

/// Notes the newest build of the host and of each of its servers, and says which went back to an
/// older one.
fn went_back(update: &mut UpdateProgress, host: &FleetHost, status: &HostStatus) -> Option<String> {
    let newest = update.builds.entry(host.clone()).or_default();
    let mut is_older = |what: String, build: Option<u64>| {
        let build = build?;
        let known = newest.entry(what.clone()).or_insert(build);
        *known = build.max(*known);
        (build < *known).then(|| format!("{what} went back to build {build}"))
    };
    let of_host = is_older("the host".to_owned(), status.build);
    let servers = running(status);
    let of_servers: Vec<String> = servers
        .filter_map(|server| is_older(format!("server '{}'", server.name), server.build))
        .collect();
    of_host.or_else(|| of_servers.into_iter().next())
}

fn running(status: &HostStatus) -> impl Iterator<Item = &ServerStatus> {
    let servers = status.servers.iter();
    servers.filter(|server| server.moved_to.is_none() && server.desired == "running")
}
