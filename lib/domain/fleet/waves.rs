//! An update that goes through a fleet in waves: one host first, then some, then the rest. A wave
//! that fails too often is the last one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::names::{BadName, FleetHost, shown};
use crate::domain::fleet::fate::Fate;

/// How often hosts are looked at that have not told enough, in ms.
const LOOK: i64 = 5_000;

/// How large a wave is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Hosts(u32),
    /// Of all hosts, rounded up.
    Percent(u32),
    /// All that are left.
    Rest,
}

/// `1,25%,rest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Waves(Vec<Size>);

impl Default for Waves {
    fn default() -> Self {
        Self(vec![Size::Hosts(1), Size::Percent(25), Size::Rest])
    }
}

impl FromStr for Waves {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || {
            BadName::new(format!(
                "'{}' is no list of waves: numbers of hosts, percentages and a last 'rest' are \
                 needed, as in 1,25%,rest",
                shown(text)
            ))
        };
        let size = |part: &str| match (part, part.strip_suffix('%')) {
            ("rest", _) => Some(Size::Rest),
            (_, Some(percent)) => whole(percent, 100).map(Size::Percent),
            (number, None) => whole(number, 10_000).map(Size::Hosts),
        };

        let sizes: Option<Vec<Size>> = text.split(',').map(|part| size(part.trim())).collect();
        let sizes = sizes.ok_or_else(bad)?;
        let rests = sizes.iter().filter(|size| **size == Size::Rest).count();
        let is_last = sizes.last() == Some(&Size::Rest);
        match (rests, is_last) {
            (0, _) | (1, true) => Ok(Self(sizes)),
            _ => Err(bad()),
        }
    }
}

fn whole(digits: &str, most: u32) -> Option<u32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_plain)?;
    (1..=most).contains(&number).then_some(number)
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |size: &Size| match size {
            Size::Hosts(hosts) => hosts.to_string(),
            Size::Percent(percent) => format!("{percent}%"),
            Size::Rest => "rest".to_owned(),
        };
        f.write_str(&self.0.iter().map(size).collect::<Vec<_>>().join(","))
    }
}

impl TryFrom<String> for Waves {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Waves> for String {
    fn from(waves: Waves) -> String {
        waves.to_string()
    }
}

impl Waves {
    /// The hosts of each wave, in their order. Hosts that no wave names are in a last one.
    pub fn split(&self, hosts: &[FleetHost]) -> Vec<Vec<FleetHost>> {
        let (all, mut rest, mut waves) = (hosts.len(), hosts, Vec::new());
        let sizes = self.0.iter().chain(std::iter::once(&Size::Rest));
        for size in sizes {
            let many = match *size {
                Size::Hosts(hosts) => usize::try_from(hosts).unwrap_or(usize::MAX),
                Size::Percent(percent) => {
                    let percent = usize::try_from(percent).unwrap_or(100);
                    (all * percent).div_ceil(100)
                }
                Size::Rest => rest.len(),
            };
            let (wave, after) = rest.split_at(many.min(rest.len()));
            rest = after;
            if !wave.is_empty() {
                waves.push(wave.to_vec());
            }
        }
        waves
    }
}

/// How an update goes through its waves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub waves: Vec<Vec<FleetHost>>,
    /// How long a wave is watched before the next one, in ms.
    pub soak: i64,
    /// After so many hosts that failed no further one is updated. At least 1.
    pub stop_after: u32,
}

/// How far each host is, and what is wrong with it since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateProgress {
    /// The wave that is under way, from 0.
    pub wave: usize,
    /// When all hosts of this wave had ended, unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soaks_since: Option<i64>,
    /// Since when their servers run the new build, unix ms: the soak counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_since: Option<i64>,
    /// Hosts that were asked; in a wave all at once.
    #[serde(default)]
    pub hosts: BTreeMap<FleetHost, HostProgress>,
    /// The newest build of each host and of its servers, as far as they were told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub builds: BTreeMap<FleetHost, BTreeMap<String, u64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProgress {
    pub fate: Fate,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What is known of a host that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    pub fate: Fate,
    pub why: String,
    /// What is wrong with its servers now; asked during the soak.
    pub trouble: Option<String>,
    /// Whether it has told since the soak began that its servers run the new build.
    pub is_settled: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask these hosts.
    Send(Vec<FleetHost>),
    /// Until a host says something, or this time (unix ms).
    Wait(Option<i64>),
    /// Take back what has not begun, and cancel what runs, on these hosts.
    TakeBack(Vec<FleetHost>),
    /// All is over: how, and in words.
    End(Outcome, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    Failed,
    Aborted,
}

/// Judges how far the update is. `taken_back` are the hosts of whose orders were taken back.
pub fn next(
    rules: &Rules,
    progress: &mut UpdateProgress,
    facts: &BTreeMap<FleetHost, HostFacts>,
    taken_back: &dyn Fn(&FleetHost) -> bool,
    is_aborted: bool,
    now: i64,
) -> Step {
    for (host, known) in facts {
        let Some(own) = progress.hosts.get_mut(host) else {
            continue;
        };
        // A host with trouble after its success has failed for good: it may look well again while
        // it crashes once a minute.
        match (own.fate, &known.trouble) {
            (fate, _) if fate.is_bad() => {}
            (_, Some(trouble)) if known.fate == Fate::Succeeded => {
                own.fate = Fate::Failed;
                own.why = trouble.clone();
            }
            _ => {
                own.fate = known.fate;
                own.why = known.why.clone();
            }
        }
    }

    let under_way: Vec<&FleetHost> = of_fate(progress, |fate| fate == Fate::UnderWay);
    if is_aborted {
        let back: Vec<FleetHost> = under_way
            .iter()
            .filter(|host| !taken_back(host))
            .map(|host| (*host).clone())
            .collect();
        return match (back.is_empty(), under_way.is_empty()) {
            (false, _) => Step::TakeBack(back),
            (true, false) => Step::Wait(None),
            (true, true) => Step::End(Outcome::Aborted, told(rules, progress)),
        };
    }

    let failed = of_fate(progress, Fate::is_bad).len();
    let is_stopped = failed >= usize::try_from(rules.stop_after.max(1)).unwrap_or(usize::MAX);
    if is_stopped {
        return match under_way.is_empty() {
            false => Step::Wait(None),
            true => {
                let wave = progress.wave + 1;
                let why = format!("stopped in wave {wave}: {}", told(rules, progress));
                Step::End(Outcome::Failed, why)
            }
        };
    }

    let Some(wave) = rules.waves.get(progress.wave) else {
        let outcome = match failed {
            0 => Outcome::Succeeded,
            _ => Outcome::Failed,
        };
        return Step::End(outcome, told(rules, progress));
    };
    let new: Vec<FleetHost> = wave
        .iter()
        .filter(|host| !progress.hosts.contains_key(host))
        .cloned()
        .collect();
    if !new.is_empty() {
        for host in &new {
            let begun = HostProgress {
                fate: Fate::UnderWay,
                why: String::new(),
            };
            progress.hosts.insert(host.clone(), begun);
        }
        return Step::Send(new);
    }
    if !under_way.is_empty() {
        return Step::Wait(None);
    }

    // The last wave soaks, too: what it shows is part of the end.
    progress.soaks_since.get_or_insert(now);
    let unsettled = wave.iter().any(|host| {
        let is_good = progress
            .hosts
            .get(host)
            .is_some_and(|own| own.fate == Fate::Succeeded);
        is_good && facts.get(host).is_some_and(|known| !known.is_settled)
    });
    if unsettled {
        progress.settled_since = None;
        return Step::Wait(Some(now.saturating_add(LOOK)));
    }
    let settled = *progress.settled_since.get_or_insert(now);
    let over = settled.saturating_add(rules.soak);
    if now < over {
        return Step::Wait(Some(over));
    }
    progress.wave += 1;
    progress.soaks_since = None;
    progress.settled_since = None;
    next(rules, progress, facts, taken_back, is_aborted, now)
}

fn of_fate(progress: &UpdateProgress, is: impl Fn(Fate) -> bool) -> Vec<&FleetHost> {
    let hosts = progress.hosts.iter();
    hosts
        .filter(|(_, host)| is(host.fate))
        .map(|(name, _)| name)
        .collect()
}

/// How each host ended: `2 of 3 hosts updated; ams-1: job 17 failed; chi-1 was not asked`.
pub fn told(rules: &Rules, progress: &UpdateProgress) -> String {
    let all: Vec<&FleetHost> = rules.waves.iter().flatten().collect();
    let done = of_fate(progress, |fate| fate == Fate::Succeeded).len();
    let mut parts = vec![format!("{done} of {} hosts updated", all.len())];
    for (name, host) in &progress.hosts {
        let why = match host.why.is_empty() {
            true => host.fate.to_string(),
            false => host.why.clone(),
        };
        if host.fate != Fate::Succeeded {
            parts.push(format!("{name}: {why}"));
        }
    }
    let asked = |host: &&&FleetHost| !progress.hosts.contains_key(**host);
    let left: Vec<&str> = all.iter().filter(asked).map(|host| host.as_str()).collect();
    if !left.is_empty() {
        parts.push(format!("not asked: {}", left.join(", ")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests;
