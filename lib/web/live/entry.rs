//! One journal entry: from the helper's answer to the event that console subscribers get.

use serde_json::json;

use super::ring::Piece;
use super::sse;
use crate::base::{Error, Result};
use crate::wire::client::{Connection, Output};
use crate::wire::{JournalEntry, Stream};

/// Passes on the entries of a journal that arrive together, until its end.
pub fn read(
    connection: &mut Connection,
    mut each: impl FnMut(Vec<JournalEntry>) -> Result<()>,
) -> Result<()> {
    let end = connection.run(|output| {
        let lines = match output {
            Output::Lines(lines) => lines,
            Output::Started { .. } | Output::Observed(_) | Output::Builds(_) => Vec::new(),
        };

        let mut entries = Vec::with_capacity(lines.len());
        let mut invalid = None;
        for (stream, line) in lines {
            if stream == Stream::Stderr {
                tracing::warn!(words = %line, "message of the helper on a journal");
                continue;
            }

            match serde_json::from_str(&line) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    invalid = Some(Error::failed(format!("not a journal entry: {error}")));
                    break;
                }
            }
        }

        each(entries)?;
        invalid.map_or(Ok(()), Err)
    })?;

    end.refused
        .map_or(Ok(()), |why| Err(Error::unavailable(why)))
}

/// Appends an entry as an event.
pub fn push(piece: &mut Piece, position: i64, entry: &JournalEntry) {
    // Not the game's own output: systemd's messages on the unit, journald's on dropped lines.
    let name = if entry.from.starts_with("systemd") {
        "stderr"
    } else {
        "stdout"
    };

    let data =
        json!({"at": entry.at, "from": sse::text(&entry.from), "line": sse::text(&entry.line)});
    piece.push(position, &entry.cursor, name, &data);
}
