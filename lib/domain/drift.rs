//! Drift: a server is not what somebody wanted it to be. Pure: it judges what was seen, and changes nothing; nothing is
//! restarted because of it.

use std::fmt;

use serde::Serialize;

use crate::base::names::ServerId;
use crate::domain::server::{ActualState, DesiredState};

/// In which way a server is not what it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Drift {
    /// It shall run, but is stopped or failed.
    Down,
    /// It shall be stopped, but runs.
    Up,
    /// It shall be stopped and is, but would start at boot.
    Enabled,
    /// It shall run and does, but would not start at boot.
    Disabled,
    /// It should be running, and systemd restarts it again and again.
    Crashing,
}

/// The shorter window in which crashes are counted, ms.
pub const RECENT: i64 = 600_000;

/// The longer one, ms.
pub const DAY: i64 = 86_400_000;

/// So many crashes within [`RECENT`] are a fault that will not go away by itself.
const MANY_RECENT: u32 = 3;

/// The same within [`DAY`].
const MANY_A_DAY: u32 = 10;

/// Crashes that all lie within so many ms are a loop that systemd's own start limit ends, which is another drift; with
/// the unit's RestartSec= three crashes take longer.
const LOOP: i64 = 9_000;

/// How often a server crashed since it was last started on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crashes {
    /// Within [`RECENT`].
    pub recent: u32,
    /// Within [`DAY`], those of the shorter window included.
    pub day: u32,
    /// From the first to the last within [`RECENT`], ms.
    pub spread: i64,
}

impl Crashes {
    /// Whether the server keeps crashing. `already`: that was so at the last poll; then one quiet window must pass, or a
    /// server that crashes every four minutes would begin and end to drift all day.
    #[must_use]
    pub fn keep_coming(self, already: bool) -> bool {
        let is_slow_loop = self.recent >= MANY_RECENT && self.spread >= LOOP;
        is_slow_loop || already && self.recent > 0 || self.day >= MANY_A_DAY && self.recent < MANY_RECENT
    }
}

/// `crashed 7 times in 10 min`.
impl fmt::Display for Crashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = |count: u32| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        match self.recent {
            MANY_RECENT.. => write!(f, "crashed {} in 10 min", times(self.recent)),
            _ => write!(f, "crashed {} in 24 h", times(self.day)),
        }
    }
}

/// What a look at a server says of its drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is what it shall be.
    InOrder,
    /// It is not.
    Drifted(Drift),
    /// It is on its way, or nobody could tell: what was judged before stands.
    Open,
}

impl Drift {
    /// All of them.
    pub const ALL: [Drift; 5] = [Drift::Down, Drift::Up, Drift::Enabled, Drift::Disabled, Drift::Crashing];

    /// The word in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Drift::Down => "down",
            Drift::Up => "up",
            Drift::Enabled => "enabled",
            Drift::Disabled => "disabled",
            Drift::Crashing => "crashing",
        }
    }

    /// What it means, to follow "server 1": "shall run, but is failed".
    #[must_use]
    pub fn words(self, actual: ActualState) -> String {
        match self {
            Drift::Down => format!("shall run, but is {actual}"),
            Drift::Up => "shall be stopped, but runs".to_owned(),
            Drift::Enabled => "shall be stopped, but would start at boot".to_owned(),
            Drift::Disabled => "runs, but would not start at boot".to_owned(),
            Drift::Crashing => "keeps crashing".to_owned(),
        }
    }

    /// The operations of the queue that end it: the one that makes the server what it shall be, and the one that takes
    /// it as it is.
    #[must_use]
    pub fn remedies(self) -> (&'static str, &'static str) {
        match self {
            Drift::Down | Drift::Disabled => ("start", "stop"),
            Drift::Up | Drift::Enabled => ("stop", "start"),
            Drift::Crashing => ("restart", "stop"),
        }
    }

    /// What to look at and to do about a server that keeps crashing: no operation of left4me mends it.
    #[must_use]
    pub fn crash_advice(id: ServerId) -> String {
        format!(
            "`left4me server history {id} --journal` has the output before each crash; `left4me-job enqueue stop --server {id}` ends it"
        )
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Compares a server's desired state with its actual one. `enabled` none: systemd does not say, which is no drift. `crashing`:
/// its crashes keep coming; that counts while it runs and while it waits for its restart, which is most of such a loop.
#[must_use]
pub fn judge(desired: DesiredState, actual: ActualState, enabled: Option<bool>, crashing: bool) -> Judgement {
    match (desired, actual) {
        (DesiredState::Running, ActualState::Running | ActualState::Starting) if crashing => {
            Judgement::Drifted(Drift::Crashing)
        }
        (_, ActualState::Unknown | ActualState::Starting | ActualState::Stopping) => Judgement::Open,
        (DesiredState::Running, ActualState::Stopped | ActualState::Failed) => Judgement::Drifted(Drift::Down),
        (DesiredState::Stopped, ActualState::Running) => Judgement::Drifted(Drift::Up),
        (DesiredState::Running, ActualState::Running) if enabled == Some(false) => Judgement::Drifted(Drift::Disabled),
        (DesiredState::Stopped, ActualState::Stopped | ActualState::Failed) if enabled == Some(true) => {
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
            assert_eq!(judge(DesiredState::Running, actual, None, false), wanted, "wanted, {actual}");
            assert_eq!(judge(DesiredState::Stopped, actual, None, false), not_wanted, "not wanted, {actual}");
        }
    }

    #[test]
    fn what_would_happen_at_boot_counts_when_all_else_is_in_order() {
        let wanted = |actual, enabled| judge(DesiredState::Running, actual, Some(enabled), false);
        let not_wanted = |actual, enabled| judge(DesiredState::Stopped, actual, Some(enabled), false);
        assert_eq!(wanted(ActualState::Running, true), Judgement::InOrder);
        assert_eq!(wanted(ActualState::Running, false), Judgement::Drifted(Drift::Disabled));
        assert_eq!(wanted(ActualState::Stopped, false), Judgement::Drifted(Drift::Down));
        assert_eq!(not_wanted(ActualState::Stopped, true), Judgement::Drifted(Drift::Enabled));
        assert_eq!(not_wanted(ActualState::Failed, true), Judgement::Drifted(Drift::Enabled));
        assert_eq!(not_wanted(ActualState::Running, true), Judgement::Drifted(Drift::Up));
    }
    #[test]
    fn crashes_that_keep_coming_are_a_drift_of_a_server_that_should_be_running_and_is_not_down() {
        use ActualState::{Failed, Running, Starting, Stopped, Stopping, Unknown};
        let crashing = |desired, actual| judge(desired, actual, Some(true), true);
        for actual in [Running, Starting] {
            assert_eq!(crashing(DesiredState::Running, actual), Judgement::Drifted(Drift::Crashing), "{actual}");
        }
        assert_eq!(crashing(DesiredState::Running, Failed), Judgement::Drifted(Drift::Down));
        assert_eq!(crashing(DesiredState::Running, Stopped), Judgement::Drifted(Drift::Down));
        assert_eq!(crashing(DesiredState::Stopped, Running), Judgement::Drifted(Drift::Up));
        assert_eq!(crashing(DesiredState::Running, Stopping), Judgement::Open);
        assert_eq!(crashing(DesiredState::Running, Unknown), Judgement::Open);
    }

    #[test]
    fn three_crashes_in_ten_minutes_or_ten_in_a_day_are_too_many_until_ten_minutes_are_quiet() {
        let crashes = |recent, day| Crashes { recent, day, spread: 10_000 };
        for (crashes, fresh, already) in [
            (crashes(0, 0), false, false),
            (crashes(2, 2), false, true),
            (crashes(1, 9), false, true),
            (crashes(0, 9), false, false),
            (crashes(3, 3), true, true),
            (crashes(0, 10), true, true),
        ] {
            assert_eq!((crashes.keep_coming(false), crashes.keep_coming(true)), (fresh, already), "{crashes:?}");
        }
        assert!(!Crashes { spread: 2_000, ..crashes(5, 5) }.keep_coming(false), "systemd's start limit ends that");
        assert_eq!(crashes(7, 12).to_string(), "crashed 7 times in 10 min");
        assert_eq!(crashes(1, 12).to_string(), "crashed 12 times in 24 h");
        assert_eq!(crashes(1, 1).to_string(), "crashed once in 24 h");
    }
}
