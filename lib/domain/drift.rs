//! Drift: a server is not what somebody wanted it to be. Pure: it judges what was seen, and changes nothing; nothing is
//! restarted because of it.

use std::fmt;

use serde::Serialize;

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
    pub const ALL: [Drift; 4] = [Drift::Down, Drift::Up, Drift::Enabled, Drift::Disabled];

    /// The word in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Drift::Down => "down",
            Drift::Up => "up",
            Drift::Enabled => "enabled",
            Drift::Disabled => "disabled",
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
        }
    }

    /// The operations of the queue that end it: the one that makes the server what it shall be, and the one that takes
    /// it as it is.
    #[must_use]
    pub fn remedies(self) -> (&'static str, &'static str) {
        match self {
            Drift::Down | Drift::Disabled => ("start", "stop"),
            Drift::Up | Drift::Enabled => ("stop", "start"),
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Compares what a server shall be with what it is. `enabled` none: systemd does not say, which is no drift.
#[must_use]
pub fn judge(desired: DesiredState, actual: ActualState, enabled: Option<bool>) -> Judgement {
    match (desired, actual) {
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
            assert_eq!(judge(DesiredState::Running, actual, None), wanted, "wanted, {actual}");
            assert_eq!(judge(DesiredState::Stopped, actual, None), not_wanted, "not wanted, {actual}");
        }
    }

    #[test]
    fn what_would_happen_at_boot_counts_when_all_else_is_in_order() {
        let wanted = |actual, enabled| judge(DesiredState::Running, actual, Some(enabled));
        let not_wanted = |actual, enabled| judge(DesiredState::Stopped, actual, Some(enabled));
        assert_eq!(wanted(ActualState::Running, true), Judgement::InOrder);
        assert_eq!(wanted(ActualState::Running, false), Judgement::Drifted(Drift::Disabled));
        assert_eq!(wanted(ActualState::Stopped, false), Judgement::Drifted(Drift::Down));
        assert_eq!(not_wanted(ActualState::Stopped, true), Judgement::Drifted(Drift::Enabled));
        assert_eq!(not_wanted(ActualState::Failed, true), Judgement::Drifted(Drift::Enabled));
        assert_eq!(not_wanted(ActualState::Running, true), Judgement::Drifted(Drift::Up));
    }
}
