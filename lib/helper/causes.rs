//! Finds out why a unit could not be started or stopped. systemctl names only the unit and where to
//! read.

use std::time::Duration;

use super::commands::{journalctl_json, overlay_unit, server_unit};
use super::journal::{LONGEST, entry};
use crate::base::Result;
use crate::base::names::InstanceName;
use crate::domain::reason;
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::{EndedBy, Stream};

/// How many journal entries are read: enough for a crash's own output and what systemd reports
/// about it.
const ENTRIES: &str = "60";

/// The pause between two reads.
const PAUSE: Duration = Duration::from_millis(100);

/// Reports the cause to the peer after a command for the server that failed by itself. `began` is
/// when the command began, unix ms. Gives the command's outcome.
pub(super) fn of(
    supervisor: &mut Supervisor,
    server: &InstanceName,
    began: i64,
    outcome: Outcome,
) -> Result<Outcome> {
    if outcome.ended_by == EndedBy::Exit
        && !outcome.succeeded()
        && let Some(cause) = find(supervisor, server, began, None)?
    {
        // As the last error line.
        supervisor.write_line(Stream::Stderr, &cause);
    }
    Ok(outcome)
}

/// The last reason that the unit of the server or its overlay logged since `began`. With `patience`,
/// each read of the journal ends after that time.
pub(super) fn find(
    supervisor: &mut Supervisor,
    server: &InstanceName,
    began: i64,
    patience: Option<Duration>,
) -> Result<Option<String>> {
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
    // journald may still be writing the last entries after their writer has exited, so up to three
    // reads are made. The newest entry that gives a reason counts.
    for _ in 0..3 {
        journalctl_json(
            supervisor,
            &arguments,
            LONGEST,
            patience,
            &mut |stream, line| {
                if stream == Stream::Stdout
                    && let Ok(entry) = entry(line)
                    && entry.at >= began
                    && reason::is_one(&entry.from, &entry.line)
                {
                    found = Some(entry);
                }
                Relay::Drop
            },
        )?;

        if found.is_some() {
            break;
        }

        if supervisor.pause(PAUSE).is_some() {
            break;
        }
    }

    Ok(found.map(|entry| {
        let unit = if entry.from == reason::HELPER {
            overlay
        } else {
            unit
        };
        reason::said(&unit, &entry.line)
    }))
}
