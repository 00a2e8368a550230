//! Why a unit could not be started or stopped, in its own words. systemctl only names the unit, and where to read.

use std::time::Duration;

use super::commands::{journalctl_json, overlay_unit, server_unit};
use super::journal::{LONGEST, entry};
use crate::base::Result;
use crate::base::names::InstanceName;
use crate::domain::reasons::{bare, is_reason};
use crate::process::{Outcome, Pass, Stage};
use crate::wire::{EndedBy, Stream};

/// So many entries of the journal are read: a crash's own output, and what systemd says about it.
const ENTRIES: &str = "60";

/// A console line may be long; the reason is at its beginning.
const LONGEST_REASON: usize = 300;

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(100);

/// After a command for the server that began at `began` (unix ms): when it failed by itself, tells the peer why. Gives
/// the command's outcome.
///
/// # Errors
/// When journalctl cannot be started.
pub(super) fn of(stage: &mut Stage, server: &InstanceName, began: i64, outcome: Outcome) -> Result<Outcome> {
    if outcome.ended_by == EndedBy::Exit && !outcome.succeeded() {
        tell(stage, server, began)?;
    }
    Ok(outcome)
}

/// Tells the peer, as the last error line, what the server's unit or the overlay's said last since `began`. Nothing when
/// they said nothing.
fn tell(stage: &mut Stage, server: &InstanceName, began: i64) -> Result<()> {
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
        journalctl_json(stage, &arguments, LONGEST, &mut |stream, line| {
            if stream == Stream::Stdout
                && let Ok(entry) = entry(line)
                && entry.at >= began
                && is_reason(&entry.from, &entry.line)
            {
                reason = Some(entry);
            }
            Pass::Keep
        })?;
        if reason.is_some() {
            break;
        }
        if stage.pause(PAUSE).is_some() {
            break;
        }
    }
    if let Some(entry) = reason {
        let unit = if entry.from == HELPER { overlay } else { unit };
        stage.say(Stream::Stderr, &said(&unit, &entry.line));
    }
    Ok(())
}

/// Who speaks in the overlay's unit.
const HELPER: &str = "left4me-helper";

/// `left4me-overlay@7.service: layer … is missing`: systemd's own lines begin with the unit already, and the helper's
/// with its name.
fn said(unit: &str, line: &str) -> String {
    let line = bare(line, &[unit, HELPER]);
    format!("{unit}: {}", line.chars().take(LONGEST_REASON).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_its_unit_once() {
        let unit = "left4me-overlay@7.service";
        assert_eq!(said(unit, "left4me-helper: layer /x is missing"), "left4me-overlay@7.service: layer /x is missing");
        assert_eq!(said(unit, "left4me-overlay@7.service: no"), "left4me-overlay@7.service: no");
        assert_eq!(said(unit, &"x".repeat(999)).len(), unit.len() + 2 + 300);
    }
}
