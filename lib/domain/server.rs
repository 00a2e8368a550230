//! A server's desired and actual state.

use crate::base::words::words;

words! {
    /// The state that an admin requested.
    pub enum DesiredState ("a desired state") {
        /// The server should be running, also after a reboot.
        Running = "running",
        /// The server should be stopped.
        Stopped = "stopped",
    }
}

words! {
    /// The state that systemd reported last.
    pub enum ActualState ("a server's state") {
        Running = "running",
        /// Its unit is starting, or waits for an automatic restart.
        Starting = "starting",
        /// Its unit is stopping.
        Stopping = "stopping",
        /// Its unit is not active.
        Stopped = "stopped",
        /// It failed, and systemd gave up restarting it.
        Failed = "failed",
        /// The state could not be read.
        Unknown = "unknown",
    }
}

impl ActualState {
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
