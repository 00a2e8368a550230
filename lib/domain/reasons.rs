//! Which lines of a unit's journal say why it failed.

/// What systemd says of every failure, and what says nothing of its cause.
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

/// Whether a line that `from` wrote, `systemd` or a program's name, can be a reason.
#[must_use]
pub fn is_reason(from: &str, line: &str) -> bool {
    let says_nothing = from == "systemd" && EMPTY_PHRASES.iter().any(|phrase| line.contains(phrase));
    !line.trim().is_empty() && !says_nothing
}

/// A line without the names that come before what it says: systemd's own begin with the unit, ours with the program.
#[must_use]
pub fn bare<'a>(line: &'a str, names: &[&str]) -> &'a str {
    let strip =
        |line: &'a str, name: &&str| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(line);
    names.iter().fold(line, strip)
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
            "left4me-server@7.service: Job left4me-server@7.service/start failed with result 'dependency'.",
            "Failed to listen on left4me-web.socket - left4me: the web front's address.",
        ] {
            assert!(!is_reason("systemd", line), "{line}");
        }
        assert!(is_reason("systemd", "left4me-server@7.service: Failed to load environment files: No such file"));
        assert!(is_reason("left4me-helper", "left4me-helper: layer /x is missing"));
        assert!(is_reason("srcds", "Starting map c1m1_hotel failed: out of edicts"), "the game's own output");
        assert!(!is_reason("srcds", "  "));
        assert_eq!(bare("left4me-web.socket: x: y", &["left4me-web.socket", "left4me-web"]), "x: y");
    }
}
