//! Tests of `domain::history`.

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
    Unit {
        active: active.into(),
        sub: sub.into(),
        result: "success".into(),
        ..Unit::default()
    }
}

fn running(since: u64, restarts: u32) -> Unit {
    Unit {
        active_enter_us: since,
        restarts,
        ..unit("active", "running")
    }
}

fn killed(since: u64, at: u64, restarts: u32, sub: &str) -> Unit {
    Unit {
        active_enter_us: since,
        active_exit_us: at + 1,
        exit_us: at,
        exit: Some(MainExit::Signal(9)),
        result: "signal".into(),
        restarts,
        ..unit(
            if sub == "failed" {
                "failed"
            } else {
                "activating"
            },
            sub,
        )
    }
}

fn stopped(since: u64, left: u64, at: u64) -> Unit {
    Unit {
        active_enter_us: since,
        active_exit_us: left,
        exit_us: at,
        ..unit("inactive", "dead")
    }
}

/// Polls the units in turn; returns the kinds of the events, and the words of the last one.
fn story(units: &[Unit]) -> (Vec<&'static str>, String) {
    let mut known = never();
    let (mut kinds, mut words) = (Vec::new(), String::new());
    for (unit, now) in units.iter().zip(2_000..) {
        for change in changes(&known, unit, BOOT) {
            kinds.push(change.kind());
            words = change.message();
        }

        known = known.after(unit, now);
    }

    (kinds, words)
}

#[test]
fn a_life_is_told_once_however_often_somebody_looks() {
    let up = running(10, 0);
    let stopping = Unit {
        exit_us: 30,
        active_exit_us: 20,
        ..Unit {
            sub: "stop-sigterm".into(),
            ..unit("deactivating", "")
        }
    };

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
    assert_eq!(words, "it was stopped on request");
}

#[test]
fn a_crash_is_told_when_it_happens_and_the_restart_when_it_is_up_again() {
    let (kinds, words) = story(&[
        running(10, 0),
        killed(10, 50, 0, "auto-restart"),
        running(60, 1),
        running(60, 1),
    ]);

    assert_eq!(
        kinds,
        ["server.started", "server.crashed", "server.started"]
    );

    assert_eq!(words, "systemd restarted it (restart 1)");
}

/// systemd calls this exit a success, and restarts the unit because of its Restart= setting.
#[test]
fn a_sigint_without_a_stop_is_a_crash() {
    let interrupted = Unit {
        exit: Some(MainExit::Signal(2)),
        result: "success".into(),
        ..killed(10, 50, 0, "auto-restart")
    };

    let (kinds, _) = story(&[running(10, 0), interrupted, running(60, 1)]);
    assert_eq!(
        kinds,
        ["server.started", "server.crashed", "server.started"]
    );

    let stopped = Unit {
        exit: Some(MainExit::Signal(2)),
        ..stopped(10, 40, 50)
    };

    let (kinds, words) = story(&[running(10, 0), stopped]);
    assert_eq!(
        (kinds, words.as_str()),
        (
            vec!["server.started", "server.stopped"],
            "it was stopped on request"
        )
    );
}

#[test]
fn a_crash_that_nobody_saw_is_told_by_the_count_of_restarts() {
    let (kinds, _) = story(&[running(10, 0), running(60, 1)]);
    assert_eq!(
        kinds,
        ["server.started", "server.crashed", "server.started"]
    );

    let (kinds, words) = story(&[running(10, 0), killed(90, 95, 2, "auto-restart")]);
    assert_eq!(
        (kinds, words.as_str()),
        (
            vec!["server.started", "server.crashed"],
            "signal 9 (KILL); and 2 times before"
        )
    );
}

#[test]
fn the_start_limit_is_told_though_the_crash_before_it_was() {
    let last = Unit {
        result: "start-limit-hit".into(),
        ..killed(10, 50, 0, "failed")
    };

    let (kinds, words) = story(&[
        running(10, 0),
        killed(10, 50, 0, "auto-restart"),
        last.clone(),
        last,
    ]);

    assert_eq!(kinds, ["server.started", "server.crashed", "server.failed"]);
    assert!(
        words.starts_with("start limit: ") && words.ends_with("signal 9 (KILL)"),
        "{words}"
    );
}

#[test]
fn an_overlay_that_could_not_be_mounted_is_told_once_and_a_boot_is_not_its_cause() {
    let unmounted = |at| Unit {
        overlay_failed_at: Some(at),
        ..Unit::unloaded(true)
    };

    let (kinds, words) = story(&[running(10, 0), unmounted(2_001), unmounted(2_001)]);
    assert_eq!(kinds, ["server.started", "server.failed"]);
    assert_eq!(words, "its overlay could not be mounted");

    // A new failure is reported, an old one is not.
    let (kinds, _) = story(&[
        unmounted(1),
        unmounted(2_001),
        unmounted(2_001),
        unmounted(2_003),
    ]);

    assert_eq!(kinds, ["server.failed"; 3]);

    let (kinds, words) = story(&[running(10, 0), unmounted(1)]);
    assert_eq!(
        (kinds, words.as_str()),
        (
            vec!["server.started", "server.stopped"],
            &*End::Forgotten.to_string()
        )
    );

    let booted = Known {
        actual: ActualState::Running,
        looked_at: Some(900),
        ..never()
    };

    assert_eq!(
        changes(&booted, &unmounted(1_100), BOOT),
        [Change::Failed(Some(End::NotMounted))]
    );

    assert_eq!(
        changes(&booted, &Unit::unloaded(true), BOOT),
        [Change::Stopped(End::Boot)]
    );
}

/// One poll may see the last crash together with systemd's start limit.
#[test]
fn a_start_limit_that_comes_with_its_crash_is_both() {
    let (kinds, words) = story(&[running(10, 0), killed(90, 95, 4, "failed")]);
    assert_eq!(kinds, ["server.started", "server.crashed", "server.failed"]);
    assert!(
        words.starts_with("start limit: ") && words.ends_with("signal 9 (KILL)"),
        "{words}"
    );
}

/// A row of an older left4me, or one that was never polled.
#[test]
fn a_first_look_tells_of_nothing_before_it() {
    let old = Known {
        actual: ActualState::Running,
        looked_at: Some(5_000),
        ..never()
    };

    assert_eq!(changes(&old, &running(10, 3), BOOT), []);
    assert_eq!(
        changes(&never(), &running(10, 3), BOOT),
        [Change::Started(Start::Started)]
    );
}

#[test]
fn a_start_that_comes_to_nothing_is_no_stop() {
    let (kinds, words) = story(&[
        Unit {
            job: Some("start".into()),
            ..Unit::unloaded(true)
        },
        Unit::unloaded(true),
    ]);

    assert_eq!(kinds, ["server.failed"]);
    assert!(words.contains("overlay"), "{words}");
    let (kinds, words) = story(&[
        running(10, 0),
        killed(10, 50, 0, "auto-restart"),
        Unit::unloaded(true),
    ]);

    assert_eq!(
        (kinds[2], words.as_str()),
        ("server.stopped", "it was stopped on request")
    );
}

#[test]
fn a_unit_that_systemd_forgot_is_not_forgotten_by_us() {
    let up = Unit {
        enabled: Some(true),
        ..running(10, 0)
    };

    let (kinds, words) = story(&[up.clone(), Unit::unloaded(false)]);
    assert_eq!(
        (kinds, words.as_str()),
        (
            vec!["server.started", "server.stopped"],
            "it was stopped on request"
        )
    );

    let (_, words) = story(&[
        Unit {
            enabled: Some(false),
            ..up.clone()
        },
        Unit::unloaded(false),
    ]);

    assert_eq!(words, "it ended without an error, on request or by itself");

    // The exit was seen before systemd unloaded the unit; unloading it changes nothing.
    let down = never().after(&up, 5).after(
        &Unit {
            enabled: Some(false),
            ..stopped(10, 20, 30)
        },
        6,
    );

    assert_eq!(changes(&down, &Unit::unloaded(false), BOOT - 2000), []);
    assert_eq!(down.after(&Unit::unloaded(false), 6), down);
}

#[test]
fn a_restart_by_hand_a_boot_and_a_unit_that_systemd_forgot_are_no_crashes() {
    assert_eq!(
        story(&[running(10, 0), running(60, 0)]).0,
        ["server.started", "server.started"]
    );

    assert_eq!(
        story(&[running(10, 0), Unit::unloaded(false)]).0,
        ["server.started", "server.stopped"]
    );

    let before = Known {
        looked_at: Some(BOOT - 1),
        ..never().after(&running(10, 3), BOOT - 1)
    };

    assert_eq!(
        changes(&before, &running(12, 0), BOOT),
        [Change::Started(Start::AtBoot)]
    );

    assert_eq!(
        changes(&before, &Unit::unloaded(true), BOOT),
        [Change::Stopped(End::Boot)]
    );

    // The same microsecond after two boots counts as no start: the two cannot be told apart,
    // and a false event would be worse.
    assert_eq!(changes(&before, &running(10, 0), BOOT), []);
}

#[test]
fn a_boot_is_known_from_monotonic_times_whatever_the_wall_clock_says() {
    const DAY: u64 = 86_400_000_000;

    let now = 1_800_000_000_000;
    let told =
        |known: &Known, unit: &Unit, at: Moment| changes(known, unit, booted_at(known, unit, &at));

    // Three days up, then a boot without a clock: the time is in 1970.
    let before = never().after(&running(3 * DAY, 2), now);
    let early = Moment {
        now: 20_000,
        monotonic_us: 20_000_000,
        booted_at: 0,
    };

    assert_eq!(
        told(&before, &running(15_000_000, 0), early),
        [Change::Started(Start::AtBoot)]
    );

    assert_eq!(
        told(&before, &Unit::unloaded(true), early),
        [Change::Stopped(End::Boot)]
    );

    // The clock is set while the server crashes once: the two earlier restarts are not reported
    // again.
    let before = never().after(&running(15_000_000, 2), 20_000);
    let late = Moment {
        now,
        monotonic_us: 60_000_000,
        booted_at: now - 60_000,
    };

    let end = told(
        &before,
        &killed(15_000_000, 50_000_000, 2, "auto-restart"),
        late,
    );

    assert!(
        matches!(end[..], [Change::Crashed { more: 0, .. }]),
        "{end:?}"
    );

    // The clock goes back an hour; there was no boot.
    let back = Moment {
        now: now - 3_600_000,
        monotonic_us: 4 * DAY,
        booted_at: now - 3_600_000 - 345_600_000,
    };

    let before = never().after(&running(3 * DAY, 0), now);
    assert_eq!(
        told(&before, &running(3 * DAY + 5, 0), back),
        [Change::Started(Start::Restarted)]
    );
}

#[test]
fn what_nobody_can_tell_changes_nothing_that_was_known() {
    let (kinds, _) = story(&[
        running(10, 0),
        Unit::default(),
        running(10, 0),
        Unit::default(),
        stopped(10, 20, 30),
    ]);

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

#[test]
fn a_peak_is_told_if_it_is_known() {
    let words = [None, Some(0), Some(1), Some(7)].map(peak);
    let words = words.each_ref().map(|words| words.as_deref());
    assert_eq!(
        words,
        [
            None,
            Some("nobody played yesterday"),
            Some("peak 1 player yesterday"),
            Some("peak 7 players yesterday")
        ]
    );
}
