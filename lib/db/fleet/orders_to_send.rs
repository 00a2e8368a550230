//! Orders on their way to the engine: which attempt of each the engine has.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::fleet::orders_out::OrderState;
use crate::db::{changes, first, query, run, text};

/// An attempt that the engine has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToSend {
    pub id: Ulid,
    pub to_host: String,
    pub attempt: u32,
    /// The bytes that are signed.
    pub body: Vec<u8>,
}

/// An order whose end is not known, as far as it matters whether it is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub id: Ulid,
    pub to_host: String,
    pub state: OrderState,
    pub attempt: u32,
    /// When the engine acknowledged this attempt, unix ms; None until it has.
    pub sent_at: Option<i64>,
    /// The generation of the stream that has it, and its sequence there.
    pub generation: Option<String>,
    pub sequence: Option<u64>,
    pub not_after: i64,
}

/// Attempts that the engine does not have, oldest first.
pub fn waiting(connection: &Connection, limit: usize) -> Result<Vec<ToSend>> {
    let sql = "SELECT id, to_host, attempt, body FROM fleet_orders_out
               WHERE settled_at IS NULL AND sent_at IS NULL ORDER BY id LIMIT ?1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query(connection, sql, [limit], |row| {
        Ok(ToSend {
            id: row.get(0)?,
            to_host: text(row, 1)?,
            attempt: row.get(2)?,
            body: row.get(3)?,
        })
    })
}

/// All orders whose end is not known.
pub fn open(connection: &Connection) -> Result<Vec<Open>> {
    let sql = "SELECT id, to_host, state, attempt, sent_at, generation, sequence, not_after
               FROM fleet_orders_out WHERE settled_at IS NULL ORDER BY id";
    query(connection, sql, [], |row| {
        Ok(Open {
            id: row.get(0)?,
            to_host: text(row, 1)?,
            state: OrderState::parse(&text(row, 2)?).unwrap_or(OrderState::Unknown),
            attempt: row.get(3)?,
            sent_at: row.get(4)?,
            generation: row.get(5)?,
            sequence: row.get::<_, Option<i64>>(6)?.map(i64::unsigned_abs),
            not_after: row.get(7)?,
        })
    })
}

/// Records that left4me-link was given it: from now on it may be with the engine, although nothing
/// says so.
pub fn taken(tx: &Connection, id: Ulid, now: i64) -> Result<()> {
    let sql = "UPDATE fleet_orders_out SET taken_at = ?2 WHERE id = ?1 AND taken_at IS NULL";
    run(tx, sql, params![id, now])
}

/// Records that the engine has an attempt. False for an earlier attempt than the newest.
pub fn sent(
    tx: &Connection,
    id: Ulid,
    attempt: u32,
    generation: &str,
    sequence: u64,
    now: i64,
) -> Result<bool> {
    let sql = "UPDATE fleet_orders_out SET sent_at = ?5, generation = ?3, sequence = ?4,
               taken_at = coalesce(taken_at, ?5), updated_at = ?5,
               state = iif(state = 'kept', 'sent', state)
               WHERE id = ?1 AND attempt = ?2 AND settled_at IS NULL AND sent_at IS NULL";
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    changes(tx, sql, params![id, attempt, generation, sequence, now])
}

/// Begins another attempt after `attempt`, which the engine has to get as well.
pub fn again(tx: &Connection, id: Ulid, attempt: u32, now: i64) -> Result<bool> {
    let sql =
        "UPDATE fleet_orders_out SET attempt = attempt + 1, sent_at = NULL, generation = NULL,
               sequence = NULL, updated_at = ?3, state = iif(state = 'sent', 'kept', state)
               WHERE id = ?1 AND attempt = ?2 AND settled_at IS NULL AND sent_at IS NOT NULL";
    changes(tx, sql, params![id, attempt, now])
}

/// How many orders wait for their end, and when the oldest was made, unix ms.
pub fn unsettled(connection: &Connection) -> Result<(i64, Option<i64>)> {
    let sql = "SELECT count(*), min(created_at) FROM fleet_orders_out WHERE settled_at IS NULL";
    let found = first(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.unwrap_or_default())
}
