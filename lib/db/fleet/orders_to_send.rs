//! Orders on their way to the engine: which attempt of each the engine has.

use rusqlite::{Connection, Row, params};

use super::driving::HELD;
use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::{changes, exists, first, query, run, text, text_or_null};
use crate::domain::fleet::rules::{OrderState, Outgoing};

/// An attempt that the engine has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToSend {
    pub id: Ulid,
    pub to_host: String,
    pub attempt: u32,
    /// The bytes that are signed.
    pub body: Vec<u8>,
}

/// An order, as far as it matters whether it is sent again.
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
    /// The state of the order that withdraws it, if there is one.
    pub withdrawal: Option<OrderState>,
    /// Whether left4me-link has ever been given it.
    pub was_taken: bool,
    pub kind: String,
    /// When the newest status of its host came, by this host's clock, unix ms.
    pub heard_at: Option<i64>,
}

impl Open {
    /// What the rules ask of it.
    pub fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            state: self.state,
            attempt: self.attempt,
            sent_at: self.sent_at,
            generation: self.generation.as_deref(),
            sequence: self.sequence,
            not_after: self.not_after,
            withdrawal: self.withdrawal,
        }
    }
}

/// Attempts that the engine does not have, without those of rollouts whose document it has to get
/// first, in the order in which they were asked for: that of their rows, as two names of one
/// millisecond sort by chance.
pub fn waiting(connection: &Connection, limit: usize) -> Result<Vec<ToSend>> {
    // As rules::is_to_be_sent and rules::holds.
    let sql = format!(
        "SELECT o.id, o.to_host, o.attempt, o.body FROM fleet_orders_out o
         LEFT JOIN fleet_orders_out w ON w.id = o.withdrawal
         WHERE o.settled_at IS NULL AND o.sent_at IS NULL
         AND coalesce(w.state, '') NOT IN ('kept', 'sent', 'accepted', 'unknown')
         AND (o.rollout_id IS NULL OR o.rollout_id NOT IN ({HELD}))
         ORDER BY o.rowid LIMIT ?1"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query(connection, &sql, [limit], |row| {
        Ok(ToSend {
            id: row.get(0)?,
            to_host: text(row, 1)?,
            attempt: row.get(2)?,
            body: row.get(3)?,
        })
    })
}

const OPEN: &str =
    "SELECT o.id, o.to_host, o.state, o.attempt, o.sent_at, o.generation, o.sequence,
                    o.not_after, w.state, h.status_received_at, o.taken_at, o.kind
                    FROM fleet_orders_out o
                    LEFT JOIN fleet_orders_out w ON w.id = o.withdrawal
                    LEFT JOIN fleet_hosts h ON h.name = o.to_host";

fn read(row: &Row<'_>) -> rusqlite::Result<Open> {
    let state = |word: &str| OrderState::parse(word).unwrap_or(OrderState::Unknown);
    Ok(Open {
        id: row.get(0)?,
        to_host: text(row, 1)?,
        state: state(&text(row, 2)?),
        attempt: row.get(3)?,
        sent_at: row.get(4)?,
        generation: row.get(5)?,
        sequence: row.get::<_, Option<i64>>(6)?.map(i64::unsigned_abs),
        not_after: row.get(7)?,
        withdrawal: text_or_null(row, 8)?.map(|word| state(&word)),
        heard_at: row.get(9)?,
        was_taken: row.get::<_, Option<i64>>(10)?.is_some(),
        kind: text(row, 11)?,
    })
}

/// All orders whose end is not known.
pub fn open(connection: &Connection) -> Result<Vec<Open>> {
    let sql = format!("{OPEN} WHERE o.settled_at IS NULL ORDER BY o.id");
    query(connection, &sql, [], read)
}

/// Whether there is an order whose end is not known.
pub fn any_open(connection: &Connection) -> Result<bool> {
    exists(
        connection,
        "SELECT 1 FROM fleet_orders_out WHERE settled_at IS NULL",
        [],
    )
}

/// One order, whether its end is known or not.
pub fn get(connection: &Connection, id: Ulid) -> Result<Option<Open>> {
    first(
        connection,
        &format!("{OPEN} WHERE o.id = ?1"),
        params![id],
        read,
    )
}

/// Records the order that withdraws this one.
pub fn set_withdrawal(tx: &Connection, id: Ulid, withdrawal: Ulid) -> Result<()> {
    let sql = "UPDATE fleet_orders_out SET withdrawal = ?2 WHERE id = ?1";
    run(tx, sql, params![id, withdrawal])
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
