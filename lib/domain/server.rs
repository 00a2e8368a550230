//! What a server shall be and what it is.

use std::fmt;

use serde::Serialize;

/// What somebody wants the server to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// It shall run, also after a reboot.
    Running,
    /// It shall not run.
    Stopped,
}

impl DesiredState {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DesiredState::Running => "running",
            DesiredState::Stopped => "stopped",
        }
    }
}

impl fmt::Display for DesiredState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What systemd says the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActualState {
    /// The game runs.
    Running,
    /// Its unit is being started, or waits for an automatic restart.
    Starting,
    /// Its unit is being stopped.
    Stopping,
    /// Its unit is not active.
    Stopped,
    /// It ended badly and systemd gave up.
    Failed,
    /// Nobody could tell.
    Unknown,
}

impl ActualState {
    /// All of them.
    pub const ALL: [ActualState; 6] = [
        ActualState::Running,
        ActualState::Starting,
        ActualState::Stopping,
        ActualState::Stopped,
        ActualState::Failed,
        ActualState::Unknown,
    ];

    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ActualState::Running => "running",
            ActualState::Starting => "starting",
            ActualState::Stopping => "stopping",
            ActualState::Stopped => "stopped",
            ActualState::Failed => "failed",
            ActualState::Unknown => "unknown",
        }
    }

    /// From a unit's ActiveState and SubState, as org.freedesktop.systemd1(5) lists them. What is not known to us is
    /// [`ActualState::Unknown`], never a guess.
    #[must_use]
    pub fn from_unit(active: &str, sub: &str) -> Self {
        match (active, sub) {
            // A service between a crash and its automatic restart is "activating (auto-restart)" and counts as starting.
            ("activating", _) => ActualState::Starting,
            ("active" | "reloading" | "refreshing", "running" | "reload" | "reload-signal" | "reload-notify") => {
                ActualState::Running
            }
            // A service without a process: the game ended cleanly while something keeps the unit up.
            ("active", "exited" | "dead") | ("inactive", _) => ActualState::Stopped,
            ("deactivating", _) => ActualState::Stopping,
            ("failed", _) => ActualState::Failed,
            _ => ActualState::Unknown,
        }
    }
}

impl fmt::Display for ActualState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crashed_unit_that_waits_for_its_restart_is_starting_and_an_unknown_word_is_unknown() {
        assert_eq!(ActualState::from_unit("activating", "auto-restart"), ActualState::Starting);
        assert_eq!(ActualState::from_unit("active", "running"), ActualState::Running);
        assert_eq!(ActualState::from_unit("inactive", "dead"), ActualState::Stopped);
        assert_eq!(ActualState::from_unit("failed", "failed"), ActualState::Failed);
        assert_eq!(ActualState::from_unit("deactivating", "stop-sigterm"), ActualState::Stopping);
        assert_eq!(ActualState::from_unit("", ""), ActualState::Unknown);
        assert_eq!(ActualState::from_unit("maintenance", "x"), ActualState::Unknown);
    }
}
