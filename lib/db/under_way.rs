//! Jobs that run, and for how long.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::JobId;
use crate::db::text;
use crate::domain::operation::Operation;

/// A job that runs or is being cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// The row.
    pub id: JobId,
    /// What it does; none for a word that this program does not know.
    pub operation: Option<Operation>,
    /// Unix ms.
    pub started_at: i64,
}

impl UnderWay {
    /// How long it has run, in ms, when that is longer than its kind does.
    #[must_use]
    pub fn overdue(&self, now: i64) -> Option<i64> {
        let age = now.saturating_sub(self.started_at);
        // An operation of a later version: whatever it is, it is none of the long ones.
        let limit = self.operation.unwrap_or(Operation::Start).overdue_after();
        (age > limit).then_some(age)
    }
}

/// All of them, in the order of their ids.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn all(connection: &Connection) -> Result<Vec<UnderWay>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, operation, coalesce(started_at, created_at) FROM jobs
         WHERE state IN ('running', 'cancelling') ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        let operation = text(row, 1)?.parse().ok();
        Ok(UnderWay { id: JobId(row.get(0)?), operation, started_at: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
