//! Why a unit could not be started or stopped, in its own words. systemctl only names the unit, and where to read.

use std::time::Duration;

use super::commands::{journalctl_json, overlay_unit, server_unit};
use super::journal::{LONGEST, entry};
use crate::base::Result;
use crate::base::names::InstanceName;
use crate::domain::reason;
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::{EndedBy, Stream};

/// So many entries of the journal are read: a crash's own output, and what systemd says about it.
const ENTRIES: &str = "60";

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(100);

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

    let mut found = None;
    // journald has the entry when its writer has ended, but may still be writing it down: the newest one that gives a
    // reason counts.
    for _ in 0..3 {
        journalctl_json(supervisor, &arguments, LONGEST, &mut |stream, line| {
            if stream == Stream::Stdout
                && let Ok(entry) = entry(line)
                && entry.at >= began
                && reason::is_one(&entry.from, &entry.line)
            {
                found = Some(entry);
            }
            Relay::Drop
        })?;

        if found.is_some() {
            break;
        }

        if supervisor.pause(PAUSE).is_some() {
            break;
        }
    }

    if let Some(entry) = found {
        let unit = if entry.from == reason::HELPER { overlay } else { unit };
        supervisor.say(Stream::Stderr, &reason::said(&unit, &entry.line));
    }

    Ok(())
}
