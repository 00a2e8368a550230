//! One journal entry: from the helper's answer to the event that console subscribers get.

use serde_json::json;

use super::ring::Piece;
use super::sse;
use crate::base::{Error, Result};
use crate::wire::{Answer, JournalEntry};

/// The entry in an answer.
pub fn of(answer: &Answer<'_>) -> Result<Option<JournalEntry>> {
    if let Some(error) = &answer.error {
        return Err(Error::unavailable(error.to_string()));
    }

    if let Some(message) = &answer.stderr {
        tracing::warn!(words = %message, "message of the helper on a journal");
    }

    let Some(line) = &answer.stdout else {
        return Ok(None);
    };
    serde_json::from_str(line)
        .map(Some)
        .map_err(|error| Error::failed(format!("not a journal entry: {error}")))
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
