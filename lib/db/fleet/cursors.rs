//! How far each stream of the engine has been read. A cursor moves in the transaction of what was
//! read.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{first, run};

/// A stream of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Orders,
    Events,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Stream::Orders => "orders",
            Stream::Events => "events",
        }
    }
}

/// How far a stream has been read, and which: a stream that was made again has another generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub generation: String,
    pub sequence: u64,
}

pub fn get(connection: &Connection, stream: Stream) -> Result<Option<Cursor>> {
    let sql = "SELECT generation, sequence FROM fleet_cursors WHERE stream = ?1";
    first(connection, sql, [stream.as_str()], |row| {
        Ok(Cursor {
            generation: row.get(0)?,
            sequence: row.get::<_, i64>(1)?.unsigned_abs(),
        })
    })
}

pub fn set(tx: &Connection, stream: Stream, cursor: &Cursor, now: i64) -> Result<()> {
    let sql = "INSERT INTO fleet_cursors (stream, generation, sequence, updated_at)
               VALUES (?1, ?2, ?3, ?4) ON CONFLICT (stream) DO UPDATE SET
               generation = ?2, sequence = ?3, updated_at = ?4";
    // SQLite's integers end at half of the engine's, which no stream reaches.
    let sequence = i64::try_from(cursor.sequence).unwrap_or(i64::MAX);
    run(
        tx,
        sql,
        params![stream.as_str(), cursor.generation, sequence, now],
    )
}
