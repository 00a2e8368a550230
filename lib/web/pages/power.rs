//! The buttons that a server's state allows. While a job works on the server, that job is shown
//! instead. Pure.

use crate::base::names::{JobId, ServerId};
use crate::db::monitor::Busy;
use crate::db::servers::Server;
use crate::domain::drift::Drift;
use crate::domain::job::JobState;
use crate::domain::server::{ActualState, DesiredState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Button {
    /// The last part of the form's path: an operation, or `remove`.
    pub action: &'static str,
    pub label: &'static str,
    /// Whether it is the most likely action.
    pub primary: bool,
    /// The warning before an action that cannot be undone.
    pub warning: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Power {
    pub server: ServerId,
    /// The server's name, so that a button in a long list says which server it is for.
    pub name: String,
    pub job: Option<UnfinishedJob>,
    pub offers: Vec<Button>,
    /// The request key, new at each rendering: a double click makes one job.
    pub key: String,
}

/// A job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedJob {
    pub id: JobId,
    pub operation: String,
    /// queued, running or cancelling.
    pub state: JobState,
    /// Whether the viewer may see it.
    pub open: bool,
}

impl From<&Busy> for UnfinishedJob {
    fn from(busy: &Busy) -> Self {
        Self {
            id: busy.job,
            operation: busy.operation.clone(),
            state: busy.state,
            open: true,
        }
    }
}

/// The state that decides the buttons.
#[derive(Clone, Copy, Debug)]
pub struct PowerState {
    pub desired: DesiredState,
    pub actual: ActualState,
    pub drift: Option<Drift>,
    /// Whether a job works on it, or will: another one would wait.
    pub busy: bool,
}

impl PowerState {
    pub fn of(server: &Server, busy: bool) -> Self {
        let drift = server.drift.as_ref().map(|drifted| drifted.kind);
        Self {
            desired: server.desired_state,
            actual: server.actual_state,
            drift,
            busy,
        }
    }
}

/// Start, stop and restart, if they would change something.
pub fn switches(state: PowerState) -> Vec<Button> {
    if state.busy {
        return Vec::new();
    }

    let wanted = state.desired == DesiredState::Running;
    let up = matches!(state.actual, ActualState::Running | ActualState::Starting);
    let start = !(wanted && up) || state.drift == Some(Drift::Disabled);
    let stop = wanted || up || state.drift == Some(Drift::Enabled);

    // Most polls see a crashing server while it waits for its restart.
    let restart = state.actual == ActualState::Running || state.drift == Some(Drift::Crashing);
    let plain = |action, label, primary| Button {
        action,
        label,
        primary,
        warning: None,
    };

    let mut offers = Vec::new();
    if start {
        offers.push(plain("start", "Start", !up));
    }

    if stop {
        offers.push(plain("stop", "Stop", false));
    }

    if restart {
        offers.push(plain("restart", "Restart", false));
    }

    offers
}

/// Rare actions: writing settings, resetting, removing. `has_files`: whether there are files to
/// remove.
pub fn repairs(state: PowerState, has_files: bool) -> Vec<Button> {
    if state.busy {
        return Vec::new();
    }

    let down = matches!(
        state.actual,
        ActualState::Stopped | ActualState::Failed | ActualState::Unknown
    );

    let mut offers = Vec::new();
    if down {
        offers.push(Button {
            action: "initialize",
            label: "Write settings",
            primary: false,
            warning: None,
        });
    }

    if has_files || !down {
        let warning = "Stops the server, deletes everything the game wrote (including maps, \
                       addons and settings added by hand), and rewrites its settings. \
                       It is started again if it was running.";
        offers.push(Button {
            action: "reset",
            label: "Reset",
            primary: false,
            warning: Some(warning),
        });

        let warning = "Stops the server and deletes its files. \
                       Its entry stays: you can start it again or remove it.";
        offers.push(Button {
            action: "delete",
            label: "Delete files",
            primary: false,
            warning: Some(warning),
        });
    } else if state.desired == DesiredState::Stopped {
        let warning =
            "Removes the server from left4me; its port becomes free. Jobs and events stay.";
        offers.push(Button {
            action: "remove",
            label: "Remove server",
            primary: false,
            warning: Some(warning),
        });
    }

    offers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(offers: &[Button]) -> String {
        offers
            .iter()
            .map(|offer| offer.action)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn state(desired: DesiredState, actual: ActualState) -> PowerState {
        PowerState {
            desired,
            actual,
            drift: None,
            busy: false,
        }
    }

    #[test]
    fn a_button_that_would_change_nothing_is_not_offered() {
        use ActualState::{Failed, Running, Starting, Stopped, Stopping, Unknown};

        for (actual, wanted, not_wanted) in [
            (Running, "stop restart", "start stop restart"),
            (Starting, "stop", "start stop"),
            (Stopping, "start stop", "start"),
            (Stopped, "start stop", "start"),
            (Failed, "start stop", "start"),
            (Unknown, "start stop", "start"),
        ] {
            assert_eq!(
                words(&switches(state(DesiredState::Running, actual))),
                wanted,
                "wanted, {actual}"
            );

            assert_eq!(
                words(&switches(state(DesiredState::Stopped, actual))),
                not_wanted,
                "not wanted, {actual}"
            );
        }
    }

    #[test]
    fn drift_that_shows_only_at_boot_can_be_fixed() {
        let with = |desired, actual, drift| {
            words(&switches(PowerState {
                drift: Some(drift),
                ..state(desired, actual)
            }))
        };

        assert_eq!(
            with(DesiredState::Running, ActualState::Running, Drift::Disabled),
            "start stop restart"
        );

        assert_eq!(
            with(DesiredState::Stopped, ActualState::Stopped, Drift::Enabled),
            "start stop"
        );
    }

    #[test]
    fn every_drift_has_its_remedies_among_the_buttons() {
        for (drift, desired, actual) in [
            (Drift::Down, DesiredState::Running, ActualState::Failed),
            (Drift::Up, DesiredState::Stopped, ActualState::Running),
            (Drift::Enabled, DesiredState::Stopped, ActualState::Stopped),
            (Drift::Disabled, DesiredState::Running, ActualState::Running),
            (Drift::Crashing, DesiredState::Running, ActualState::Running),
            (
                Drift::Unresponsive,
                DesiredState::Running,
                ActualState::Running,
            ),
            (
                Drift::Crashing,
                DesiredState::Running,
                ActualState::Starting,
            ),
        ] {
            let offers = words(&switches(PowerState {
                drift: Some(drift),
                ..state(desired, actual)
            }));

            let (first, second) = drift.remedies();
            assert!(
                offers.contains(first) && offers.contains(second),
                "{drift}: {offers}"
            );
        }
    }

    #[test]
    fn a_server_with_an_unfinished_job_has_no_buttons() {
        for actual in ActualState::ALL {
            let busy = PowerState {
                busy: true,
                ..state(DesiredState::Running, actual)
            };
            assert!(switches(busy).is_empty() && repairs(busy, true).is_empty());
        }
    }

    #[test]
    fn actions_that_cannot_be_undone_have_a_warning() {
        let stopped = state(DesiredState::Stopped, ActualState::Stopped);
        assert_eq!(words(&repairs(stopped, true)), "initialize reset delete");
        assert_eq!(words(&repairs(stopped, false)), "initialize remove");

        let running = state(DesiredState::Running, ActualState::Running);
        assert_eq!(words(&repairs(running, true)), "reset delete");

        let down = state(DesiredState::Running, ActualState::Failed);
        assert_eq!(
            words(&repairs(down, false)),
            "initialize",
            "a server that should run cannot be removed"
        );

        for offer in repairs(stopped, true)
            .iter()
            .chain(&repairs(stopped, false))
        {
            assert_eq!(
                offer.warning.is_some(),
                offer.action != "initialize",
                "{}",
                offer.label
            );
        }
    }
}
