//! How far each stream of the engine has been read. A cursor moves in the transaction of what was
//! read.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{first, run};

/// A stream of the engine; a bucket is one, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Orders,
    Events,
    Hosts,
    Roster,
    Places,
    Rollouts,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Stream::Orders => "orders",
            Stream::Events => "events",
            Stream::Hosts => "hosts",
            Stream::Roster => "roster",
            Stream::Places => "places",
            Stream::Rollouts => "rollouts",
        }
    }

    /// Whether it is read on from its cursor. A bucket is always read whole.
    pub fn is_log(self) -> bool {
        matches!(self, Stream::Orders | Stream::Events)
    }
}

/// How far a stream has been read, and which: a stream that was made again has another generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub generation: String,
    pub sequence: u64,
    /// Up to where noise has been counted.
    pub counted: u64,
}

impl Cursor {
    /// Before anything was read.
    pub fn at_beginning(generation: &str) -> Self {
        Self {
            generation: generation.to_owned(),
            sequence: 0,
            counted: 0,
        }
    }
}

pub fn get(connection: &Connection, stream: Stream) -> Result<Option<Cursor>> {
    let sql = "SELECT generation, sequence, counted FROM fleet_cursors WHERE stream = ?1";
    first(connection, sql, [stream.as_str()], |row| {
        Ok(Cursor {
            generation: row.get(0)?,
            sequence: row.get::<_, i64>(1)?.unsigned_abs(),
            counted: row.get::<_, i64>(2)?.unsigned_abs(),
        })
    })
}

pub fn set(tx: &Connection, stream: Stream, cursor: &Cursor, now: i64) -> Result<()> {
    let sql = "INSERT INTO fleet_cursors (stream, generation, sequence, counted, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (stream) DO UPDATE SET
               generation = ?2, sequence = ?3, counted = ?4, updated_at = ?5";
    // SQLite's integers end at half of the engine's, which no stream reaches.
    let number = |sequence| i64::try_from(sequence).unwrap_or(i64::MAX);
    let (sequence, counted) = (number(cursor.sequence), number(cursor.counted));
    let row = params![stream.as_str(), cursor.generation, sequence, counted, now];
    run(tx, sql, row)
}

/// Lets a stream be read again from its beginning.
pub fn read_again(tx: &Connection, stream: Stream) -> Result<()> {
    let sql = "UPDATE fleet_cursors SET sequence = 0 WHERE stream = ?1";
    run(tx, sql, [stream.as_str()])
}
