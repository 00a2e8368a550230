//! Derives what happened to a server between two polls of its unit. Pure: the same two polls always
//! give the same events.
//!
//! systemd keeps only the last start and the last exit of a unit. Their monotonic times show
//! whether the last poll saw them already. The restart counter shows how many starts and exits came
//! between the polls.

use crate::base::clock::Moment;
use crate::domain::server::ActualState;
use crate::domain::unit::{End, Unit};

/// What is known of a server since the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its state at that poll.
    pub actual: ActualState,
    /// The time of that poll, unix ms; none before the first one.
    pub looked_at: Option<i64>,
    /// [`Unit::active_enter_us`] at that poll.
    pub active_enter_us: u64,
    /// [`Unit::exit_us`] at that poll.
    pub exit_us: u64,
    /// [`Unit::restarts`] at that poll.
    pub restarts: u32,
    /// Whether the unit was enabled; none before the first poll.
    pub enabled: Option<bool>,
}

/// Something that happened to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The game was started and runs.
    Started(Start),
    /// It crashed. The exit is none when no poll saw it.
    Crashed {
        end: Option<End>,
        /// Further crashes between the two polls.
        more: u32,
    },
    /// It exited without an error.
    Stopped(End),
    /// systemd gave up restarting it, or could not start it.
    Failed(Option<End>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A start by a job or by hand.
    Started,
    /// A stop and a start between two polls.
    Restarted,
    /// systemd's restart after a crash, with the number of restarts so far.
    AfterCrash(u32),
    /// The boot of the host.
    AtBoot,
}

impl Known {
    /// Whether the server was up. An unknown state at the last poll counts as up when an earlier
    /// poll saw it up.
    fn was_up(&self) -> bool {
        match self.actual {
            ActualState::Running | ActualState::Stopping => true,
            ActualState::Unknown => self.active_enter_us != 0 && self.exit_us == 0,
            ActualState::Starting | ActualState::Stopped | ActualState::Failed => false,
        }
    }

    /// Whether a crash was reported and systemd was about to restart the server. An unknown state
    /// at the last poll does not change that.
    fn awaits_restart(&self) -> bool {
        matches!(self.actual, ActualState::Starting | ActualState::Unknown) && self.exit_us != 0
    }

    /// Whether the unit differs from what is known of it.
    pub fn is_outdated_by(&self, unit: &Unit) -> bool {
        let after = self.after(unit, 0);
        Self {
            looked_at: self.looked_at,
            ..after
        } != *self
    }

    /// What is known after this poll of the unit. Values that the poll could not read keep their
    /// last known value.
    pub fn after(&self, unit: &Unit, now: i64) -> Self {
        let actual = unit.actual();
        let enabled = unit.enabled.or(self.enabled);
        let mut after = Self {
            actual,
            looked_at: Some(now),
            enabled,
            ..self.clone()
        };

        let was_down = matches!(self.actual, ActualState::Stopped | ActualState::Failed);
        match actual {
            ActualState::Unknown => {}
            // systemd has unloaded the unit since the last poll and lost its times. The known ones
            // stay.
            ActualState::Stopped if was_down && unit.has_no_marks() => {}
            // The process may have exited already, but its result is final only when the stop has
            // ended.
            ActualState::Stopping => after.restarts = unit.restarts,
            _ => {
                after.active_enter_us = unit.active_enter_us;
                after.exit_us = if actual == ActualState::Running {
                    0
                } else {
                    unit.exit_us
                };

                after.restarts = unit.restarts;
            }
        }

        after
    }
}

/// When the host was booted, unix ms, in relation to the last poll. Evidence from systemd's
/// monotonic times comes before the wall clock: a board without a battery-backed clock boots in
/// 1970, and its clock jumps to the present a few minutes later.
pub fn booted_at(known: &Known, unit: &Unit, at: &Moment) -> i64 {
    let is_same = |before: u64, now: u64| before != 0 && before == now;
    if is_same(known.active_enter_us, unit.active_enter_us) || is_same(known.exit_us, unit.exit_us)
    {
        return i64::MIN;
    }

    // A known time lies in this boot's future, so it belongs to an earlier boot.
    if at.monotonic_us < known.active_enter_us.max(known.exit_us) {
        return i64::MAX;
    }

    at.booted_at
}

/// What happened since the last poll. `booted_at` is the host's boot time, unix ms.
pub fn changes(known: &Known, unit: &Unit, booted_at: i64) -> Vec<Change> {
    let actual = unit.actual();
    let booted = known
        .looked_at
        .is_some_and(|looked_at| looked_at < booted_at);

    // After a boot systemd counts restarts from 0.
    let restarts = if booted { 0 } else { known.restarts };

    // A server that was never polled, or whose times were never read, has no known earlier
    // restarts.
    let first_look = known.looked_at.is_none() || known.was_up() && known.active_enter_us == 0;
    let crashes = if first_look {
        0
    } else {
        unit.restarts.saturating_sub(restarts)
    };

    let new_exit = unit.exit_us != 0 && unit.exit_us != known.exit_us;

    let new_start = unit.active_enter_us != known.active_enter_us;
    match actual {
        ActualState::Unknown | ActualState::Stopping => Vec::new(),
        ActualState::Running if known.was_up() && (first_look || !new_start) => Vec::new(),
        ActualState::Running if booted => vec![Change::Started(Start::AtBoot)],
        ActualState::Running => {
            // The crash before an awaited restart was reported already.
            let unreadable = if known.awaits_restart() {
                crashes.saturating_sub(1)
            } else {
                crashes
            };

            let mut changes = Vec::new();
            if unreadable > 0 {
                changes.push(Change::Crashed {
                    end: None,
                    more: unreadable - 1,
                });
            }

            changes.push(Change::Started(match (crashes, known.was_up()) {
                (0, true) => Start::Restarted,
                (0, false) => Start::Started,
                _ => Start::AfterCrash(unit.restarts),
            }));

            changes
        }
        ActualState::Starting => match unit.end() {
            Some(end) if new_exit && end.is_crash() => vec![crashed(end, known, crashes)],
            _ => Vec::new(),
        },
        ActualState::Stopped | ActualState::Failed => ended(known, unit, new_exit, crashes, booted),
    }
}

/// The events of a unit that is down.
fn ended(known: &Known, unit: &Unit, new_exit: bool, crashes: u32, booted: bool) -> Vec<Change> {
    match unit.end() {
        Some(End::StartLimit(last)) if new_exit => {
            let mut changes: Vec<Change> = last
                .iter()
                .map(|end| crashed(End::clone(end), known, crashes))
                .collect();
            changes.push(Change::Failed(Some(End::StartLimit(last))));
            changes
        }
        Some(end) if new_exit && end.is_crash() => vec![crashed(end, known, crashes)],
        Some(end) if new_exit => vec![Change::Stopped(end)],
        // This comes before the boot and the failed start, which would hide this cause.
        _ if is_newly_unmounted(known, unit) => vec![Change::Failed(Some(End::NotMounted))],
        end if unit.actual() == ActualState::Failed && known.actual != ActualState::Failed => {
            vec![Change::Failed(end)]
        }
        _ if known.was_up() && booted => vec![Change::Stopped(End::Boot)],
        // The unit was disabled since the last poll: `systemctl disable --now`, or the equivalent.
        _ if known.was_up() && known.enabled == Some(true) && unit.enabled == Some(false) => {
            vec![Change::Stopped(End::ByRequest)]
        }
        _ if known.was_up() => vec![Change::Stopped(End::Forgotten)],
        _ if known.awaits_restart() => vec![Change::Stopped(End::ByRequest)],
        _ if known.actual == ActualState::Starting => vec![Change::Failed(Some(End::NotStarted))],
        _ => Vec::new(),
    }
}

/// Whether the unit that mounts the server's layers has failed since the last poll.
fn is_newly_unmounted(known: &Known, unit: &Unit) -> bool {
    unit.overlay_failed_at
        .is_some_and(|at| known.looked_at.is_none_or(|looked_at| looked_at < at))
}

fn crashed(end: End, known: &Known, crashes: u32) -> Change {
    let told = u32::from(known.awaits_restart());
    Change::Crashed {
        end: Some(end),
        more: crashes.saturating_sub(told),
    }
}

impl Change {
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Started(_) => "server.started",
            Change::Crashed { .. } => "server.crashed",
            Change::Stopped(_) => "server.stopped",
            Change::Failed(_) => "server.failed",
        }
    }

    pub fn message(&self) -> String {
        match self {
            Change::Started(Start::Started) => "it runs".to_owned(),
            Change::Started(Start::Restarted) => "it was stopped and started again".to_owned(),
            Change::Started(Start::AfterCrash(count)) => {
                format!("systemd restarted it (restart {count})")
            }
            Change::Started(Start::AtBoot) => "the host booted".to_owned(),
            Change::Crashed { end, more } => {
                let end = end
                    .as_ref()
                    .map_or_else(|| "its exit was not seen".to_owned(), End::to_string);
                match more {
                    0 => end,
                    1 => format!("{end}; and once more before"),
                    more => format!("{end}; and {more} times before"),
                }
            }
            Change::Stopped(end) => end.to_string(),
            Change::Failed(end) => end
                .as_ref()
                .map_or_else(|| "systemd gave up".to_owned(), End::to_string),
        }
    }

    /// Whether it is a failure. Then the output before it is worth keeping.
    pub fn is_bad(&self) -> bool {
        matches!(self, Change::Crashed { .. } | Change::Failed(_))
    }
}

/// How many played at once at most yesterday, in words; none if that is not known.
pub fn peak(players: Option<u32>) -> Option<String> {
    Some(match players? {
        0 => "nobody played yesterday".to_owned(),
        1 => "peak 1 player yesterday".to_owned(),
        players => format!("peak {players} players yesterday"),
    })
}

#[cfg(test)]
mod tests;
