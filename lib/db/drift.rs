//! Reads the drift in a server's row: three columns form one value.

use rusqlite::Row;
use serde::Serialize;

use crate::domain::drift::Drift;

/// The desired and the actual state of a server differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Drifted {
    /// How they differ.
    pub kind: Drift,
    /// Since when, unix ms.
    pub since: i64,
    /// The reason, as far as systemd and the queue know it.
    pub why: String,
}

/// The drift in three columns, beginning at `first`.
pub(super) fn drifted(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Drifted>> {
    let Some(kind) = row.get(first)? else {
        return Ok(None);
    };
    let why: Option<String> = row.get(first + 2)?;
    Ok(Some(Drifted {
        kind,
        since: row.get(first + 1)?,
        why: why.unwrap_or_default(),
    }))
}
