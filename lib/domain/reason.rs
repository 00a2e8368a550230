//! Selects the journal line of a unit that explains a failure.

use crate::base::names::{InstanceName, overlay_unit};

/// The syslog identifier of the unit that mounts a server's layers.
pub const HELPER: &str = "left4me-helper";

/// The longest reason, in characters. A console line may be longer; the reason is at its beginning.
pub const LONGEST: usize = 300;

/// Phrases that systemd logs for every failure, and phrases that do not name the cause.
const EMPTY_PHRASES: [&str; 21] = [
    "Main process exited",
    "Control process exited",
    "Failed with result",
    "Failed to start",
    "Failed to listen on",
    "Listening on",
    "Closed ",
    "Scheduled restart job",
    "Dependency failed",
    "Bound to unit",
    "Job left4me",
    "Consumed ",
    "Starting ",
    "Started ",
    "Stopping ",
    "Stopped ",
    "Deactivated successfully",
    "Triggering OnFailure",
    "Reloading ",
    "Finished ",
    "Unit process ",
];

/// Whether a line explains a failure: it is not empty, and not a line that systemd logs for every
/// failure.
pub fn is_one(from: &str, line: &str) -> bool {
    let says_nothing =
        from == "systemd" && EMPTY_PHRASES.iter().any(|phrase| line.contains(phrase));
    !line.trim().is_empty() && !says_nothing
}

/// A line without its leading names: systemd's lines begin with the unit, ours with the program.
pub fn bare<'a>(line: &'a str, names: &[&str]) -> &'a str {
    let strip = |line: &'a str, name: &&str| {
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(line)
    };
    names.iter().fold(line, strip)
}

/// `left4me-overlay@7.service: layer … is missing`. systemd's own lines begin with the unit
/// already, and the helper's with its name.
pub fn said(unit: &str, line: &str) -> String {
    let line = bare(line, &[unit, HELPER]);
    format!("{unit}: {}", line.chars().take(LONGEST).collect::<String>())
}

/// The newest line of a server's units that says why its overlay could not be mounted.
pub fn of_overlay<'a>(
    server: &InstanceName,
    lines: impl DoubleEndedIterator<Item = (&'a str, &'a str)>,
) -> Option<String> {
    let unit = overlay_unit(server);
    let is_overlays =
        |from: &str, line: &str| from == HELPER || from == "systemd" && line.starts_with(&unit);
    let mut reasons = lines
        .rev()
        .filter(|(from, line)| is_overlays(from, line) && is_one(from, line));
    reasons.next().map(|(_, line)| said(&unit, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_of_every_failure_is_no_reason() {
        for line in [
            "left4me-server@7.service: Main process exited, code=killed, status=11/SEGV",
            "left4me-server@7.service: Failed with result 'signal'.",
            "Dependency failed for left4me-server@7.service - Left 4 Dead 2 server 7.",
            "left4me-server@7.service: \
             Job left4me-server@7.service/start failed with result 'dependency'.",
            "Failed to listen on left4me-web.socket - left4me web front socket.",
        ] {
            assert!(!is_one("systemd", line), "{line}");
        }

        assert!(is_one(
            "systemd",
            "left4me-server@7.service: Failed to load environment files: No such file"
        ));

        assert!(is_one(HELPER, "left4me-helper: layer /x is missing"));
        assert!(
            is_one("srcds", "Starting map c1m1_hotel failed: out of edicts"),
            "the game's own words"
        );

        assert!(!is_one("srcds", "  "));
    }

    #[test]
    fn a_reason_names_its_unit_once() {
        let unit = "left4me-overlay@7.service";
        assert_eq!(
            said(unit, "left4me-helper: layer /x is missing"),
            "left4me-overlay@7.service: layer /x is missing"
        );

        assert_eq!(
            said(unit, "left4me-overlay@7.service: no"),
            "left4me-overlay@7.service: no"
        );

        assert_eq!(said(unit, &"x".repeat(999)).len(), unit.len() + 2 + 300);
    }

    #[test]
    fn the_reason_of_an_overlay_is_not_what_the_game_or_the_servers_unit_said_after_it() {
        let server = "7".parse().unwrap();
        let of = |lines: &[(&str, &str)]| of_overlay(&server, lines.iter().copied());

        let lines = [
            (HELPER, "left4me-helper: the lower layer /a does not exist"),
            (HELPER, "left4me-helper: the lower layer /b does not exist"),
            (
                "systemd",
                "left4me-overlay@7.service: Main process exited, \
                 code=exited, status=3/NOTIMPLEMENTED",
            ),
            ("systemd", "left4me-server@7.service: Bad unit file setting"),
            ("srcds", "left4me-overlay@7.service: a plugin wrote this"),
        ];

        assert_eq!(
            of(&lines).as_deref(),
            Some("left4me-overlay@7.service: the lower layer /b does not exist")
        );

        let timed_out = [
            lines[0],
            (
                "systemd",
                "left4me-overlay@7.service: start operation timed out. Terminating.",
            ),
        ];

        let words = "left4me-overlay@7.service: start operation timed out. Terminating.";
        assert_eq!(of(&timed_out).as_deref(), Some(words));
        assert_eq!(of(&lines[2..]), None);
    }
}
