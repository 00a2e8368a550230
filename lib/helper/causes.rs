//! Why a unit could not be started or stopped, in its own words. systemctl only names the unit, and where to read.

use std::time::Duration;

use super::commands::{journalctl_json, overlay_unit, server_unit};
use super::journal::{LONGEST, entry};
use crate::base::Result;
use crate::base::names::InstanceName;
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::{EndedBy, JournalEntry, Stream};

/// So many entries of the journal are read: a crash's own output, and what systemd says about it.
const ENTRIES: &str = "60";

/// A console line may be long; the reason is at its beginning.
const LONGEST_REASON: usize = 300;

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(100);

/// What systemd says of every failure, and what says nothing of its cause.
const EMPTY_PHRASES: [&str; 15] = [
    "Main process exited",
    "Control process exited",
    "Failed with result",
    "Failed to start",
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
];

/// After a command for the server that began at `began` (unix ms): when it failed by itself, tells the peer why. Gives
/// the command's outcome.
///
/// # Errors
/// When journalctl cannot be started.
pub(super) fn of(supervisor: &mut Supervisor, server: &InstanceName, began: i64, outcome: Outcome) -> Result<Outcome> {
    if outcome.ended_by == EndedBy::Exit && !outcome.succeeded() {
        tell(supervisor, server, began)?;
    }
    Ok(outcome)
}

/// Tells the peer, as the last error line, what the server's unit or the overlay's said last since `began`. Nothing when
/// they said nothing.
fn tell(supervisor: &mut Supervisor, server: &InstanceName, began: i64) -> Result<()> {
    let (unit, overlay) = (server_unit(server), overlay_unit(server));
    let arguments = [
        "--quiet",
        "--merge",
        "-u",
        &unit,
        "-u",
        &overlay,
        "-n",
        ENTRIES,
        "-o",
        "json",
        "--all",
        "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_UID",
    ];
    let mut reason = None;
    // journald has the entry when its writer has ended, but may still be writing it down: the newest one that gives a
    // reason counts.
    for _ in 0..3 {
        journalctl_json(supervisor, &arguments, LONGEST, &mut |stream, line| {
            if stream == Stream::Stdout
                && let Ok(entry) = entry(line)
                && entry.at >= began
                && is_reason(&entry)
            {
                reason = Some(entry);
            }
            Relay::Drop
        })?;
        if reason.is_some() {
            break;
        }
        if supervisor.pause(PAUSE).is_some() {
            break;
        }
    }
    if let Some(entry) = reason {
        let unit = if entry.from == HELPER { overlay } else { unit };
        supervisor.say(Stream::Stderr, &said(&unit, &entry.line));
    }
    Ok(())
}

/// Who speaks in the overlay's unit.
const HELPER: &str = "left4me-helper";

fn is_reason(entry: &JournalEntry) -> bool {
    let is_empty = entry.line.trim().is_empty();
    let says_nothing = entry.from == "systemd" && EMPTY_PHRASES.iter().any(|phrase| entry.line.contains(phrase));
    !is_empty && !says_nothing
}

/// `left4me-overlay@7.service: layer … is missing`: systemd's own lines begin with the unit already, and the helper's
/// with its name.
fn said(unit: &str, line: &str) -> String {
    let line = line.strip_prefix(&format!("{unit}: ")).unwrap_or(line);
    let line = line.strip_prefix("left4me-helper: ").unwrap_or(line);
    format!("{unit}: {}", line.chars().take(LONGEST_REASON).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_of_every_failure_is_no_reason() {
        let any = entry(r#"{"__CURSOR":"s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;b=6c7c6013a26343b29e964691ff25d04c;m=4fc72436e;t=4c508a72423d9;x=d3e5610681098c10","__REALTIME_TIMESTAMP":"1"}"#).unwrap();
        let said_by =
            |from: &str, line: &str| JournalEntry { from: from.to_owned(), line: line.to_owned(), ..any.clone() };
        for line in [
            "left4me-server@7.service: Main process exited, code=killed, status=11/SEGV",
            "left4me-server@7.service: Failed with result 'signal'.",
            "Dependency failed for left4me-server@7.service - Left 4 Dead 2 server 7.",
            "left4me-server@7.service: Job left4me-server@7.service/start failed with result 'dependency'.",
        ] {
            assert!(!is_reason(&said_by("systemd", line)), "{line}");
        }
        assert!(is_reason(&said_by(
            "systemd",
            "left4me-server@7.service: Failed to load environment files: No such file"
        )));
        assert!(is_reason(&said_by("left4me-helper", "left4me-helper: layer /x is missing")));
        assert!(is_reason(&said_by("srcds", "Starting map c1m1_hotel failed: out of edicts")), "the game's own words");
        assert!(!is_reason(&said_by("srcds", "  ")));
    }

    #[test]
    fn a_reason_names_its_unit_once() {
        let unit = "left4me-overlay@7.service";
        assert_eq!(said(unit, "left4me-helper: layer /x is missing"), "left4me-overlay@7.service: layer /x is missing");
        assert_eq!(said(unit, "left4me-overlay@7.service: no"), "left4me-overlay@7.service: no");
        assert_eq!(said(unit, &"x".repeat(999)).len(), unit.len() + 2 + 300);
    }
}
