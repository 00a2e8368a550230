//! One entry of a server's journal: from the helper's answer to the event that a console's subscribers get.

use serde_json::json;

use super::ring::Piece;
use super::sse;
use crate::base::{Error, Result};
use crate::wire::{Answer, JournalEntry};

/// The entry in an answer.
///
/// # Errors
/// What the helper complains about.
pub fn of(answer: &Answer<'_>) -> Result<Option<JournalEntry>> {
    if let Some(error) = &answer.error {
        return Err(Error::unavailable(error.to_string()));
    }
    if let Some(words) = &answer.stderr {
        tracing::warn!(%words, "the helper says about a journal");
    }
    let Some(line) = &answer.stdout else { return Ok(None) };
    serde_json::from_str(line).map(Some).map_err(|error| Error::failed(format!("not an entry of the journal: {error}")))
}

/// Adds an entry as it is sent.
pub fn push(piece: &mut Piece, position: i64, entry: &JournalEntry) {
    // What is not the game's own: systemd on its unit, journald on lines that it left out.
    let name = if entry.from.starts_with("systemd") { "stderr" } else { "stdout" };
    let data = json!({"at": entry.at, "from": sse::text(&entry.from), "line": sse::text(&entry.line)});
    piece.push(position, &entry.cursor, name, &data);
}
