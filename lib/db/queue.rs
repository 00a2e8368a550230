//! The queue's single row: whether claiming is paused, by whom and why.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::events::{self, NewEvent};
use crate::db::{changes, first};

/// Who paused the queue, when and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pause {
    /// Since when, unix ms.
    pub paused_at: i64,
    pub paused_by: String,
    pub reason: Option<String>,
}

/// The pause, if the queue is paused.
pub fn pause(connection: &Connection) -> Result<Option<Pause>> {
    let sql =
        "SELECT paused_at, paused_by, reason FROM queue WHERE id = 1 AND paused_at IS NOT NULL";
    first(connection, sql, [], |row| {
        Ok(Pause {
            paused_at: row.get(0)?,
            paused_by: row.get(1)?,
            reason: row.get(2)?,
        })
    })
}

/// Pauses claiming; running jobs continue. False when it was paused already: the first pause keeps
/// its name and reason.
pub fn set_paused(tx: &Connection, now: i64, by: &str, reason: Option<&str>) -> Result<bool> {
    let sql = "UPDATE queue SET paused_at = ?1, paused_by = ?2, reason = ?3
               WHERE id = 1 AND paused_at IS NULL";
    let is_new = changes(tx, sql, params![now, by, reason])?;
    if is_new {
        let reason = reason.unwrap_or("");
        events::add(tx, now, &NewEvent::new("queue.paused", by, reason))?;
    }

    Ok(is_new)
}

/// Resumes claiming. False when it was not paused.
pub fn set_resumed(tx: &Connection, now: i64, by: &str) -> Result<bool> {
    let sql = "UPDATE queue SET paused_at = NULL, paused_by = NULL, reason = NULL
               WHERE id = 1 AND paused_at IS NOT NULL";
    let was_paused = changes(tx, sql, [])?;
    if was_paused {
        events::add(tx, now, &NewEvent::new("queue.resumed", by, ""))?;
    }

    Ok(was_paused)
}
