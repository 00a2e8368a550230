//! A server's desired and actual state.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::base::names::{BadName, shown};

/// The state that an admin requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// The server should be running, also after a reboot.
    Running,
    /// The server should be stopped.
    Stopped,
}

impl DesiredState {
    /// The word in the database.
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

/// The state that systemd reported last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActualState {
    /// The game runs.
    Running,
    /// Its unit is starting, or waits for an automatic restart.
    Starting,
    /// Its unit is stopping.
    Stopping,
    /// Its unit is not active.
    Stopped,
    /// It failed, and systemd gave up restarting it.
    Failed,
    /// The state could not be read.
    Unknown,
}

impl ActualState {
    pub const ALL: [ActualState; 6] = [
        ActualState::Running,
        ActualState::Starting,
        ActualState::Stopping,
        ActualState::Stopped,
        ActualState::Failed,
        ActualState::Unknown,
    ];

    /// The word in the database.
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

    /// Maps a service's ActiveState and SubState, as org.freedesktop.systemd1(5) and systemd's
    /// service.c pair them. An unlisted pair is [`ActualState::Unknown`], never a guess.
    pub fn from_unit(active: &str, sub: &str) -> Self {
        match (active, sub) {
            // Between a crash and its automatic restart. The last two are short phases of it
            // (systemd 254 and later).
            ("activating", _)
            | ("failed", "failed-before-auto-restart")
            | ("inactive", "dead-before-auto-restart") => ActualState::Starting,
            ("active", "running") | ("reloading" | "refreshing", _) => ActualState::Running,
            // A service without a process: the game exited cleanly while something else keeps the
            // unit up. `systemctl clean` works on stopped units only.
            ("active", "exited") | ("inactive", _) | ("maintenance", "cleaning") => {
                ActualState::Stopped
            }
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

impl FromStr for ActualState {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        ActualState::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                let known = ActualState::ALL.map(ActualState::as_str).join(", ");
                BadName::new(format!(
                    "'{}' is not a server's state: one of {known}",
                    shown(text)
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every SubState of a service with the ActiveState that systemd pairs it with (service.c,
    /// versions 252 to 257), and the expected actual state.
    const PAIRS: &[(&str, &str, ActualState)] = &[
        ("inactive", "dead", ActualState::Stopped),
        ("activating", "condition", ActualState::Starting),
        ("activating", "start-pre", ActualState::Starting),
        ("activating", "start", ActualState::Starting),
        ("activating", "start-post", ActualState::Starting),
        ("active", "running", ActualState::Running),
        ("active", "exited", ActualState::Stopped),
        ("reloading", "reload", ActualState::Running),
        ("reloading", "reload-signal", ActualState::Running),
        ("reloading", "reload-notify", ActualState::Running),
        ("refreshing", "mounting", ActualState::Running),
        ("deactivating", "stop", ActualState::Stopping),
        ("deactivating", "stop-watchdog", ActualState::Stopping),
        ("deactivating", "stop-sigterm", ActualState::Stopping),
        ("deactivating", "stop-sigkill", ActualState::Stopping),
        ("deactivating", "stop-post", ActualState::Stopping),
        ("deactivating", "final-watchdog", ActualState::Stopping),
        ("deactivating", "final-sigterm", ActualState::Stopping),
        ("deactivating", "final-sigkill", ActualState::Stopping),
        ("failed", "failed", ActualState::Failed),
        (
            "inactive",
            "dead-before-auto-restart",
            ActualState::Starting,
        ),
        (
            "failed",
            "failed-before-auto-restart",
            ActualState::Starting,
        ),
        ("inactive", "dead-resources-pinned", ActualState::Stopped),
        ("activating", "auto-restart", ActualState::Starting),
        ("activating", "auto-restart-queued", ActualState::Starting),
        ("maintenance", "cleaning", ActualState::Stopped),
    ];

    #[test]
    fn every_pair_of_systemds_words_has_its_state() {
        for (active, sub, state) in PAIRS {
            assert_eq!(
                ActualState::from_unit(active, sub),
                *state,
                "{active}, {sub}"
            );
        }
    }

    /// For any pair of another systemd version: running needs an active unit, stopped and failed
    /// need an inactive one, and words that systemd does not have give unknown.
    #[test]
    fn a_pair_that_systemd_does_not_make_is_never_a_false_state() {
        let mut actives: Vec<&str> = PAIRS.iter().map(|(active, ..)| *active).collect();
        actives.extend(["", "x"]);

        for active in actives {
            for sub in PAIRS.iter().map(|(_, sub, _)| *sub).chain(["", "x"]) {
                let allowed: &[&str] = match ActualState::from_unit(active, sub) {
                    ActualState::Running => &["active", "reloading", "refreshing"],
                    ActualState::Starting => &["activating", "failed", "inactive"],
                    ActualState::Stopping => &["deactivating"],
                    ActualState::Stopped => &["inactive", "active", "maintenance"],
                    ActualState::Failed => &["failed"],
                    ActualState::Unknown => &["active", "maintenance", "", "x"],
                };

                assert!(
                    allowed.contains(&active),
                    "{active}, {sub}: {:?}",
                    ActualState::from_unit(active, sub)
                );
            }
        }

        assert_eq!(
            ActualState::from_unit("active", "dead"),
            ActualState::Unknown
        );

        assert_eq!(ActualState::from_unit("", ""), ActualState::Unknown);
        assert_eq!(
            ActualState::from_unit("maintenance", "x"),
            ActualState::Unknown
        );
    }
}
