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
        /// How it exited.
        end: Option<End>,
        /// Further crashes between the two polls.
        more: u32,
    },
    /// It exited without an error.
    Stopped(End),
    /// systemd gave up restarting it, or could not start it.
    Failed(Option<End>),
}

/// What started the game.
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
    #[must_use]
    pub fn is_outdated_by(&self, unit: &Unit) -> bool {
        let after = self.after(unit, 0);
        Self { looked_at: self.looked_at, ..after } != *self
    }

    /// What is known after this poll of the unit. Values that the poll could not read keep their
    /// last known value.
    #[must_use]
    pub fn after(&self, unit: &Unit, now: i64) -> Self {
        let actual = unit.actual();
        let enabled = unit.enabled.or(self.enabled);
        let mut after = Self { actual, looked_at: Some(now), enabled, ..self.clone() };

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
                after.exit_us = if actual == ActualState::Running { 0 } else { unit.exit_us };
                after.restarts = unit.restarts;
            }
        }

        after
    }
}

/// When the host was booted, unix ms, in relation to the last poll. Evidence from systemd's
/// monotonic times comes before the wall clock: a board without a battery-backed clock boots in
/// 1970, and its clock jumps to the present a few minutes later.
#[must_use]
pub fn booted_at(known: &Known, unit: &Unit, at: &Moment) -> i64 {
    let is_same = |before: u64, now: u64| before != 0 && before == now;
    if is_same(known.active_enter_us, unit.active_enter_us) || is_same(known.exit_us, unit.exit_us) {
        return i64::MIN;
    }

    // A known time lies in this boot's future, so it belongs to an earlier boot.
    if at.monotonic_us < known.active_enter_us.max(known.exit_us) {
        return i64::MAX;
    }

    at.booted_at
}

/// What happened since the last poll. `booted_at` is the host's boot time, unix ms.
#[must_use]
pub fn changes(known: &Known, unit: &Unit, booted_at: i64) -> Vec<Change> {
    let actual = unit.actual();
    let booted = known.looked_at.is_some_and(|looked_at| looked_at < booted_at);

    // After a boot systemd counts restarts from 0.
    let restarts = if booted { 0 } else { known.restarts };

    // A server that was never polled, or whose times were never read, has no known earlier
    // restarts.
    let first_look = known.looked_at.is_none() || known.was_up() && known.active_enter_us == 0;
    let crashes = if first_look { 0 } else { unit.restarts.saturating_sub(restarts) };
    let new_exit = unit.exit_us != 0 && unit.exit_us != known.exit_us;

    let new_start = unit.active_enter_us != known.active_enter_us;
    match actual {
        ActualState::Unknown | ActualState::Stopping => Vec::new(),
        ActualState::Running if known.was_up() && (first_look || !new_start) => Vec::new(),
        ActualState::Running if booted => vec![Change::Started(Start::AtBoot)],
        ActualState::Running => {
            // The crash before an awaited restart was reported already.
            let untold = if known.awaits_restart() { crashes.saturating_sub(1) } else { crashes };

            let mut changes = Vec::new();
            if untold > 0 {
                changes.push(Change::Crashed { end: None, more: untold - 1 });
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
            let mut changes: Vec<Change> = last.iter().map(|end| crashed(End::clone(end), known, crashes)).collect();
            changes.push(Change::Failed(Some(End::StartLimit(last))));
            changes
        }
        Some(end) if new_exit && end.is_crash() => vec![crashed(end, known, crashes)],
        Some(end) if new_exit => vec![Change::Stopped(end)],
        // This comes before the boot and the failed start, which would hide this cause.
        _ if is_newly_unmounted(known, unit) => vec![Change::Failed(Some(End::NotMounted))],
        end if unit.actual() == ActualState::Failed && known.actual != ActualState::Failed => vec![Change::Failed(end)],
        _ if known.was_up() && booted => vec![Change::Stopped(End::Boot)],
        // The unit was disabled since the last poll: `systemctl disable --now`, or the equivalent.
        _ if known.was_up() && known.enabled == Some(true) && unit.enabled == Some(false) => {
            vec![Change::Stopped(End::Told)]
        }
        _ if known.was_up() => vec![Change::Stopped(End::Forgotten)],
        _ if known.awaits_restart() => vec![Change::Stopped(End::Told)],
        _ if known.actual == ActualState::Starting => vec![Change::Failed(Some(End::NotStarted))],
        _ => Vec::new(),
    }
}

/// Whether the unit that mounts the server's layers has failed since the last poll.
fn is_newly_unmounted(known: &Known, unit: &Unit) -> bool {
    unit.overlay_failed_at.is_some_and(|at| known.looked_at.is_none_or(|looked_at| looked_at < at))
}

fn crashed(end: End, known: &Known, crashes: u32) -> Change {
    let told = u32::from(known.awaits_restart());
    Change::Crashed { end: Some(end), more: crashes.saturating_sub(told) }
}

impl Change {
    /// The event's kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Started(_) => "server.started",
            Change::Crashed { .. } => "server.crashed",
            Change::Stopped(_) => "server.stopped",
            Change::Failed(_) => "server.failed",
        }
    }

    /// The event's detail.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Change::Started(Start::Started) => "it runs".to_owned(),
            Change::Started(Start::Restarted) => "it was stopped and started again".to_owned(),
            Change::Started(Start::AfterCrash(count)) => format!("systemd restarted it (restart {count})"),
            Change::Started(Start::AtBoot) => "the host was booted".to_owned(),
            Change::Crashed { end, more } => {
                let end = end.as_ref().map_or_else(|| "how it ended was not seen".to_owned(), End::to_string);
                match more {
                    0 => end,
                    1 => format!("{end}; and once more before"),
                    more => format!("{end}; and {more} times before"),
                }
            }
            Change::Stopped(end) => end.to_string(),
            Change::Failed(end) => end.as_ref().map_or_else(|| "systemd gave up".to_owned(), End::to_string),
        }
    }

    /// Whether it is a failure. Then the output before it is worth keeping.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self, Change::Crashed { .. } | Change::Failed(_))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::unit::MainExit;

    const BOOT: i64 = 1_000;

    fn never() -> Known {
        Known {
            actual: ActualState::Unknown,
            looked_at: None,
            active_enter_us: 0,
            exit_us: 0,
            restarts: 0,
            enabled: None,
        }
    }

    fn unit(active: &str, sub: &str) -> Unit {
        Unit { active: active.into(), sub: sub.into(), result: "success".into(), ..Unit::default() }
    }

    fn running(since: u64, restarts: u32) -> Unit {
        Unit { active_enter_us: since, restarts, ..unit("active", "running") }
    }

    fn killed(since: u64, at: u64, restarts: u32, sub: &str) -> Unit {
        Unit {
            active_enter_us: since,
            active_exit_us: at + 1,
            exit_us: at,
            exit: Some(MainExit::Signal(9)),
            result: "signal".into(),
            restarts,
            ..unit(if sub == "failed" { "failed" } else { "activating" }, sub)
        }
    }

    fn stopped(since: u64, left: u64, at: u64) -> Unit {
        Unit { active_enter_us: since, active_exit_us: left, exit_us: at, ..unit("inactive", "dead") }
    }

    /// Polls the units in turn; returns the kinds of the events, and the words of the last one.
    fn story(units: &[Unit]) -> (Vec<&'static str>, String) {
        let mut known = never();
        let (mut kinds, mut words) = (Vec::new(), String::new());
        for (unit, now) in units.iter().zip(2_000..) {
            for change in changes(&known, unit, BOOT) {
                kinds.push(change.kind());
                words = change.words();
            }
            known = known.after(unit, now);
        }

        (kinds, words)
    }

    #[test]
    fn a_life_is_told_once_however_often_somebody_looks() {
        let up = running(10, 0);
        let stopping =
            Unit { exit_us: 30, active_exit_us: 20, ..Unit { sub: "stop-sigterm".into(), ..unit("deactivating", "") } };

        let (kinds, words) = story(&[
            Unit::unloaded(false),
            unit("activating", "start"),
            up.clone(),
            up,
            stopping,
            stopped(10, 20, 30),
            stopped(10, 20, 30),
            Unit::unloaded(false),
        ]);

        assert_eq!(kinds, ["server.started", "server.stopped"]);
        assert_eq!(words, "systemd was told to stop it");
    }

    #[test]
    fn a_crash_is_told_when_it_happens_and_the_restart_when_it_is_up_again() {
        let (kinds, words) =
            story(&[running(10, 0), killed(10, 50, 0, "auto-restart"), running(60, 1), running(60, 1)]);
        assert_eq!(kinds, ["server.started", "server.crashed", "server.started"]);
        assert_eq!(words, "systemd restarted it (restart 1)");
    }

    /// systemd calls this exit a success, and restarts the unit because of its Restart= setting.
    #[test]
    fn a_sigint_without_a_stop_is_a_crash() {
        let interrupted =
            Unit { exit: Some(MainExit::Signal(2)), result: "success".into(), ..killed(10, 50, 0, "auto-restart") };
        let (kinds, _) = story(&[running(10, 0), interrupted, running(60, 1)]);
        assert_eq!(kinds, ["server.started", "server.crashed", "server.started"]);

        let stopped = Unit { exit: Some(MainExit::Signal(2)), ..stopped(10, 40, 50) };
        let (kinds, words) = story(&[running(10, 0), stopped]);
        assert_eq!((kinds, words.as_str()), (vec!["server.started", "server.stopped"], "systemd was told to stop it"));
    }

    #[test]
    fn a_crash_that_nobody_saw_is_told_by_the_count_of_restarts() {
        let (kinds, _) = story(&[running(10, 0), running(60, 1)]);
        assert_eq!(kinds, ["server.started", "server.crashed", "server.started"]);
        let (kinds, words) = story(&[running(10, 0), killed(90, 95, 2, "auto-restart")]);
        assert_eq!(
            (kinds, words.as_str()),
            (vec!["server.started", "server.crashed"], "signal 9 (KILL); and 2 times before")
        );
    }

    #[test]
    fn the_start_limit_is_told_though_the_crash_before_it_was() {
        let last = Unit { result: "start-limit-hit".into(), ..killed(10, 50, 0, "failed") };
        let (kinds, words) = story(&[running(10, 0), killed(10, 50, 0, "auto-restart"), last.clone(), last]);
        assert_eq!(kinds, ["server.started", "server.crashed", "server.failed"]);
        assert!(words.starts_with("start limit: ") && words.ends_with("signal 9 (KILL)"), "{words}");
    }

    #[test]
    fn an_overlay_that_could_not_be_mounted_is_told_once_and_a_boot_is_not_its_cause() {
        let unmounted = |at| Unit { overlay_failed_at: Some(at), ..Unit::unloaded(true) };
        let (kinds, words) = story(&[running(10, 0), unmounted(2_001), unmounted(2_001)]);
        assert_eq!(kinds, ["server.started", "server.failed"]);
        assert_eq!(words, "its overlay could not be mounted");

        // A new failure is reported, an old one is not.
        let (kinds, _) = story(&[unmounted(1), unmounted(2_001), unmounted(2_001), unmounted(2_003)]);
        assert_eq!(kinds, ["server.failed"; 3]);

        let (kinds, words) = story(&[running(10, 0), unmounted(1)]);
        assert_eq!((kinds, words.as_str()), (vec!["server.started", "server.stopped"], &*End::Forgotten.to_string()));

        let booted = Known { actual: ActualState::Running, looked_at: Some(900), ..never() };
        assert_eq!(changes(&booted, &unmounted(1_100), BOOT), [Change::Failed(Some(End::NotMounted))]);
        assert_eq!(changes(&booted, &Unit::unloaded(true), BOOT), [Change::Stopped(End::Boot)]);
    }

    /// One poll may see the last crash together with systemd's start limit.
    #[test]
    fn a_start_limit_that_comes_with_its_crash_is_both() {
        let (kinds, words) = story(&[running(10, 0), killed(90, 95, 4, "failed")]);
        assert_eq!(kinds, ["server.started", "server.crashed", "server.failed"]);
        assert!(words.starts_with("start limit: ") && words.ends_with("signal 9 (KILL)"), "{words}");
    }

    /// A row of an older left4me, or one that was never polled.
    #[test]
    fn a_first_look_tells_of_nothing_before_it() {
        let old = Known { actual: ActualState::Running, looked_at: Some(5_000), ..never() };
        assert_eq!(changes(&old, &running(10, 3), BOOT), []);
        assert_eq!(changes(&never(), &running(10, 3), BOOT), [Change::Started(Start::Started)]);
    }

    #[test]
    fn a_start_that_comes_to_nothing_is_no_stop() {
        let (kinds, words) = story(&[Unit { job: Some("start".into()), ..Unit::unloaded(true) }, Unit::unloaded(true)]);
        assert_eq!(kinds, ["server.failed"]);
        assert!(words.contains("overlay"), "{words}");
        let (kinds, words) = story(&[running(10, 0), killed(10, 50, 0, "auto-restart"), Unit::unloaded(true)]);
        assert_eq!((kinds[2], words.as_str()), ("server.stopped", "systemd was told to stop it"));
    }

    #[test]
    fn a_unit_that_systemd_forgot_is_not_forgotten_by_us() {
        let up = Unit { enabled: Some(true), ..running(10, 0) };
        let (kinds, words) = story(&[up.clone(), Unit::unloaded(false)]);
        assert_eq!((kinds, words.as_str()), (vec!["server.started", "server.stopped"], "systemd was told to stop it"));

        let (_, words) = story(&[Unit { enabled: Some(false), ..up.clone() }, Unit::unloaded(false)]);
        assert_eq!(words, "it ended without an error, told to or by itself");

        // The exit was seen before systemd unloaded the unit; unloading it changes nothing.
        let down = never().after(&up, 5).after(&Unit { enabled: Some(false), ..stopped(10, 20, 30) }, 6);
        assert_eq!(changes(&down, &Unit::unloaded(false), BOOT - 2000), []);
        assert_eq!(down.after(&Unit::unloaded(false), 6), down);
    }

    #[test]
    fn a_restart_by_hand_a_boot_and_a_unit_that_systemd_forgot_are_no_crashes() {
        assert_eq!(story(&[running(10, 0), running(60, 0)]).0, ["server.started", "server.started"]);
        assert_eq!(story(&[running(10, 0), Unit::unloaded(false)]).0, ["server.started", "server.stopped"]);
        let before = Known { looked_at: Some(BOOT - 1), ..never().after(&running(10, 3), BOOT - 1) };
        assert_eq!(changes(&before, &running(12, 0), BOOT), [Change::Started(Start::AtBoot)]);
        assert_eq!(changes(&before, &Unit::unloaded(true), BOOT), [Change::Stopped(End::Boot)]);
        // The same microsecond after two boots counts as no start: the two cannot be told apart,
        // and a false event would be worse.
        assert_eq!(changes(&before, &running(10, 0), BOOT), []);
    }

    #[test]
    fn a_boot_is_known_from_monotonic_times_whatever_the_wall_clock_says() {
        const DAY: u64 = 86_400_000_000;

        let now = 1_800_000_000_000;
        let told = |known: &Known, unit: &Unit, at: Moment| changes(known, unit, booted_at(known, unit, &at));

        // Three days up, then a boot without a clock: the time is in 1970.
        let before = never().after(&running(3 * DAY, 2), now);
        let early = Moment { now: 20_000, monotonic_us: 20_000_000, booted_at: 0 };
        assert_eq!(told(&before, &running(15_000_000, 0), early), [Change::Started(Start::AtBoot)]);
        assert_eq!(told(&before, &Unit::unloaded(true), early), [Change::Stopped(End::Boot)]);

        // The clock is set while the server crashes once: the two earlier restarts are not reported
        // again.
        let before = never().after(&running(15_000_000, 2), 20_000);
        let late = Moment { now, monotonic_us: 60_000_000, booted_at: now - 60_000 };
        let end = told(&before, &killed(15_000_000, 50_000_000, 2, "auto-restart"), late);
        assert!(matches!(end[..], [Change::Crashed { more: 0, .. }]), "{end:?}");

        // The clock goes back an hour; there was no boot.
        let back = Moment { now: now - 3_600_000, monotonic_us: 4 * DAY, booted_at: now - 3_600_000 - 345_600_000 };
        let before = never().after(&running(3 * DAY, 0), now);
        assert_eq!(told(&before, &running(3 * DAY + 5, 0), back), [Change::Started(Start::Restarted)]);
    }

    #[test]
    fn what_nobody_can_tell_changes_nothing_that_was_known() {
        let (kinds, _) =
            story(&[running(10, 0), Unit::default(), running(10, 0), Unit::default(), stopped(10, 20, 30)]);
        assert_eq!(kinds, ["server.started", "server.stopped"]);
    }

    proptest! {
        /// For any units, a second poll of the same unit reports nothing new.
        #[test]
        fn the_same_look_twice_is_one_story(
            seen in proptest::collection::vec((0_usize..7, 1_u64..5, 1_u64..5, 0_u32..4), 1..12)
        ) {
            let mut known = never();
            for (now, (kind, start, end, restarts)) in seen.into_iter().enumerate() {
                let unit = match kind {
                    0 => running(start, restarts),
                    1 => killed(start, end, restarts, "auto-restart"),
                    2 => killed(start, end, restarts, "failed"),
                    3 => stopped(start, end, end + 1),
                    4 => Unit::unloaded(false),
                    5 => unit("deactivating", "stop-sigterm"),
                    _ => Unit::default(),
                };

                known = known.after(&unit, 2_000 + now as i64);
                prop_assert_eq!(changes(&known, &unit, BOOT), Vec::new());
            }
        }
    }
}
