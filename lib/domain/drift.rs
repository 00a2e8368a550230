//! Drift: a server's actual state differs from its desired state. Pure: this module judges what a
//! poll saw. Nothing restarts a server because of drift, unless a setting of the server says so
//! for one that does not answer.

use std::fmt;

use crate::base::names::ServerId;
use crate::base::words::words;
use crate::domain::server::{ActualState, DesiredState};

words! {
    /// How a server's actual state differs from its desired state.
    pub enum Drift ("a kind of drift") {
        /// Should be running, but is stopped or failed.
        Down = "down",
        /// Should be stopped, but runs.
        Up = "up",
        /// Is stopped as it should be, but would start at boot.
        Enabled = "enabled",
        /// Runs as it should, but would not start at boot.
        Disabled = "disabled",
        /// Should be running, and systemd restarts it again and again.
        Crashing = "crashing",
        /// Runs as it should, but its game no longer answers.
        Unresponsive = "unresponsive",
    }
}

/// The shorter window for counting crashes, ms.
pub const RECENT: i64 = 600_000;

/// The longer window for counting crashes, ms.
pub const DAY: i64 = 86_400_000;

/// The number of crashes within [`RECENT`] from which a server counts as crashing.
const MANY_RECENT: u32 = 3;

/// The number of crashes within [`DAY`] from which a server counts as crashing.
const MANY_A_DAY: u32 = 10;

/// Crashes within this time, ms, are a loop that systemd's own start limit ends, which is another
/// drift. With the unit's RestartSec=, three crashes take longer than this.
const LOOP: i64 = 9_000;

/// How often a server crashed since its last deliberate start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crashes {
    /// Crashes within [`RECENT`].
    pub recent: u32,
    /// Crashes within [`DAY`], including those of the shorter window.
    pub day: u32,
    /// Time from the first to the last crash within [`RECENT`], ms.
    pub spread: i64,
}

impl Crashes {
    /// Whether the server keeps crashing. `already`: it did at the last poll. Then the drift ends
    /// only after one window without a crash; without that rule, a server that crashes every four
    /// minutes would enter and leave the drift all day.
    pub fn keep_coming(self, already: bool) -> bool {
        let is_slow_loop = self.recent >= MANY_RECENT && self.spread >= LOOP;
        is_slow_loop
            || already && self.recent > 0
            || self.day >= MANY_A_DAY && self.recent < MANY_RECENT
    }
}

/// `crashed 7 times in 10 min`.
impl fmt::Display for Crashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = |count: u32| {
            if count == 1 {
                "once".to_owned()
            } else {
                format!("{count} times")
            }
        };

        match self.recent {
            MANY_RECENT.. => write!(f, "crashed {} in 10 min", times(self.recent)),
            _ => write!(f, "crashed {} in 24 h", times(self.day)),
        }
    }
}

/// What is wrong with a server that systemd reports as running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Its crashes continue.
    pub crashing: bool,
    /// Its game no longer answers, and does not load a map.
    pub unresponsive: bool,
}

/// What a poll says about a server's drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The actual state is the desired one.
    InOrder,
    /// The actual state differs from the desired one.
    Drifted(Drift),
    /// The state is changing or unknown: the previous judgement stays valid.
    Open,
}

impl Drift {
    /// What it means; follows "server 1": "should be running, but is failed".
    pub fn message(&self, actual: ActualState) -> String {
        match self {
            Drift::Down => format!("should be running, but is {actual}"),
            Drift::Up => "should be stopped, but is running".to_owned(),
            Drift::Enabled => "should be stopped, but would start at boot".to_owned(),
            Drift::Disabled => "is running, but would not start at boot".to_owned(),
            Drift::Crashing => "keeps crashing".to_owned(),
            Drift::Unresponsive => "is running, but the game does not answer".to_owned(),
        }
    }

    /// The operations that end the drift: the first brings the server to its desired state, the
    /// second changes the desired state to the actual one.
    pub fn remedies(self) -> (&'static str, &'static str) {
        match self {
            Drift::Down | Drift::Disabled => ("start", "stop"),
            Drift::Up | Drift::Enabled => ("stop", "start"),
            Drift::Crashing | Drift::Unresponsive => ("restart", "stop"),
        }
    }

    /// Advice for a server that keeps crashing: where to look, and how to stop it. No operation of
    /// left4me repairs it.
    pub fn crash_advice(id: ServerId) -> String {
        format!(
            "`left4me server history {id} --journal` has the output before each crash; \
            `left4me-job enqueue stop --server {id}` ends it"
        )
    }
}

/// Compares a server's desired state with its actual one. `enabled` is none when systemd does not
/// report it, which is no drift. Crashes count while the server runs and while it waits for its
/// restart, where it spends most of such a loop.
pub fn judge(
    desired: DesiredState,
    actual: ActualState,
    enabled: Option<bool>,
    faults: Faults,
) -> Judgement {
    match (desired, actual) {
        (DesiredState::Running, ActualState::Running | ActualState::Starting)
            if faults.crashing =>
        {
            Judgement::Drifted(Drift::Crashing)
        }
        (DesiredState::Running, ActualState::Running) if faults.unresponsive => {
            Judgement::Drifted(Drift::Unresponsive)
        }
        (_, ActualState::Unknown | ActualState::Starting | ActualState::Stopping) => {
            Judgement::Open
        }
        (DesiredState::Running, ActualState::Stopped | ActualState::Failed) => {
            Judgement::Drifted(Drift::Down)
        }
        (DesiredState::Stopped, ActualState::Running) => Judgement::Drifted(Drift::Up),
        (DesiredState::Running, ActualState::Running) if enabled == Some(false) => {
            Judgement::Drifted(Drift::Disabled)
        }
        (DesiredState::Stopped, ActualState::Stopped | ActualState::Failed)
            if enabled == Some(true) =>
        {
            Judgement::Drifted(Drift::Enabled)
        }
        (DesiredState::Running, ActualState::Running)
        | (DesiredState::Stopped, ActualState::Stopped | ActualState::Failed) => Judgement::InOrder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_wish_and_state_is_judged() {
        use ActualState::{Failed, Running, Starting, Stopped, Stopping, Unknown};

        let drifted = Judgement::Drifted;
        for (actual, wanted, not_wanted) in [
            (Running, Judgement::InOrder, drifted(Drift::Up)),
            (Stopped, drifted(Drift::Down), Judgement::InOrder),
            (Failed, drifted(Drift::Down), Judgement::InOrder),
            (Starting, Judgement::Open, Judgement::Open),
            (Stopping, Judgement::Open, Judgement::Open),
            (Unknown, Judgement::Open, Judgement::Open),
        ] {
            assert_eq!(
                judge(DesiredState::Running, actual, None, Faults::default()),
                wanted,
                "wanted, {actual}"
            );

            assert_eq!(
                judge(DesiredState::Stopped, actual, None, Faults::default()),
                not_wanted,
                "not wanted, {actual}"
            );
        }
    }

    #[test]
    fn what_would_happen_at_boot_counts_when_all_else_is_in_order() {
        let wanted = |actual, enabled| {
            judge(
                DesiredState::Running,
                actual,
                Some(enabled),
                Faults::default(),
            )
        };
        let not_wanted = |actual, enabled| {
            judge(
                DesiredState::Stopped,
                actual,
                Some(enabled),
                Faults::default(),
            )
        };

        assert_eq!(wanted(ActualState::Running, true), Judgement::InOrder);
        assert_eq!(
            wanted(ActualState::Running, false),
            Judgement::Drifted(Drift::Disabled)
        );

        assert_eq!(
            wanted(ActualState::Stopped, false),
            Judgement::Drifted(Drift::Down)
        );

        assert_eq!(
            not_wanted(ActualState::Stopped, true),
            Judgement::Drifted(Drift::Enabled)
        );

        assert_eq!(
            not_wanted(ActualState::Failed, true),
            Judgement::Drifted(Drift::Enabled)
        );

        assert_eq!(
            not_wanted(ActualState::Running, true),
            Judgement::Drifted(Drift::Up)
        );
    }
    #[test]
    fn crashes_that_keep_coming_are_a_drift_of_a_server_that_should_be_running_and_is_not_down() {
        use ActualState::{Failed, Running, Starting, Stopped, Stopping, Unknown};

        let faults = Faults {
            crashing: true,
            unresponsive: true,
        };
        let crashing = |desired, actual| judge(desired, actual, Some(true), faults);
        for actual in [Running, Starting] {
            assert_eq!(
                crashing(DesiredState::Running, actual),
                Judgement::Drifted(Drift::Crashing),
                "{actual}"
            );
        }

        assert_eq!(
            crashing(DesiredState::Running, Failed),
            Judgement::Drifted(Drift::Down)
        );

        assert_eq!(
            crashing(DesiredState::Running, Stopped),
            Judgement::Drifted(Drift::Down)
        );

        assert_eq!(
            crashing(DesiredState::Stopped, Running),
            Judgement::Drifted(Drift::Up)
        );

        assert_eq!(crashing(DesiredState::Running, Stopping), Judgement::Open);
        assert_eq!(crashing(DesiredState::Running, Unknown), Judgement::Open);
    }

    #[test]
    fn a_game_that_does_not_answer_is_a_drift_of_a_server_that_runs_as_it_should() {
        let faults = Faults {
            crashing: false,
            unresponsive: true,
        };

        for actual in ActualState::ALL {
            for enabled in [Some(false), Some(true), None] {
                let judge = |desired, faults| judge(desired, actual, enabled, faults);
                let found = judge(DesiredState::Running, faults);
                let same = judge(DesiredState::Running, Faults::default());
                match actual {
                    ActualState::Running => {
                        assert_eq!(found, Judgement::Drifted(Drift::Unresponsive));
                    }
                    _ => assert_eq!(found, same, "{actual}"),
                }

                assert_eq!(
                    judge(DesiredState::Stopped, faults),
                    judge(DesiredState::Stopped, Faults::default()),
                    "{actual}"
                );
            }
        }
    }

    #[test]
    fn three_crashes_in_ten_minutes_or_ten_in_a_day_are_too_many_until_ten_minutes_are_quiet() {
        let crashes = |recent, day| Crashes {
            recent,
            day,
            spread: 10_000,
        };

        for (crashes, fresh, already) in [
            (crashes(0, 0), false, false),
            (crashes(2, 2), false, true),
            (crashes(1, 9), false, true),
            (crashes(0, 9), false, false),
            (crashes(3, 3), true, true),
            (crashes(0, 10), true, true),
        ] {
            assert_eq!(
                (crashes.keep_coming(false), crashes.keep_coming(true)),
                (fresh, already),
                "{crashes:?}"
            );
        }

        assert!(
            !Crashes {
                spread: 2_000,
                ..crashes(5, 5)
            }
            .keep_coming(false),
            "systemd's start limit ends that"
        );

        assert_eq!(crashes(7, 12).to_string(), "crashed 7 times in 10 min");
        assert_eq!(crashes(1, 12).to_string(), "crashed 12 times in 24 h");
        assert_eq!(crashes(1, 1).to_string(), "crashed once in 24 h");
    }
}
