//! Orders from other hosts, each once.

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::JobId;
use crate::base::ulid::Ulid;
use crate::db::{changes, exists, first, query, run, text, text_or_null};

/// An order that came here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrderIn {
    pub id: Ulid,
    pub kind: String,
    /// Who asked, and on which host: `anna@fra-1`.
    pub from_name: String,
    /// `accepted`, `refused` or `tombstone`: withdrawn before it came.
    pub state: String,
    pub detail: String,
    pub job_id: Option<JobId>,
    pub received_at: i64,
    pub not_after: i64,
    /// How it ended, if it has no job, or the job's row is gone.
    pub ended: Option<String>,
    /// When its receipt was told last.
    #[serde(skip)]
    pub told_at: i64,
}

/// An order to write down.
#[derive(Clone, Copy, Debug)]
pub struct NewOrderIn<'a> {
    pub id: Ulid,
    pub kind: &'a str,
    pub from: &'a str,
    /// The name of the controller whose key signed it.
    pub signed_by: &'a str,
    pub state: &'a str,
    pub detail: &'a str,
    pub job: Option<JobId>,
    pub not_after: i64,
    pub ended: Option<&'a str>,
}

const ORDER: &str =
    "id, kind, from_name, state, detail, job_id, received_at, not_after, ended, told_at";

fn order(row: &rusqlite::Row<'_>) -> rusqlite::Result<OrderIn> {
    Ok(OrderIn {
        id: row.get(0)?,
        kind: text(row, 1)?,
        from_name: text(row, 2)?,
        state: text(row, 3)?,
        detail: text(row, 4)?,
        job_id: row.get(5)?,
        received_at: row.get(6)?,
        not_after: row.get(7)?,
        ended: text_or_null(row, 8)?,
        told_at: row.get(9)?,
    })
}

pub fn get(connection: &Connection, id: Ulid) -> Result<Option<OrderIn>> {
    let sql = format!("SELECT {ORDER} FROM fleet_orders_in WHERE id = ?1");
    first(connection, &sql, params![id], order)
}

/// Writes an order down. It fails if the order is known: that is looked up before.
pub fn add(tx: &Connection, now: i64, new: &NewOrderIn<'_>) -> Result<()> {
    let sql = "INSERT INTO fleet_orders_in (id, kind, from_name, from_host, signed_by, state, detail, job_id,
               received_at, not_after, ended, told_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?9)";
    let host = new.from.rsplit_once('@').map_or("", |(_, host)| host);
    let row = params![
        new.id,
        new.kind,
        new.from,
        host,
        new.signed_by,
        new.state,
        new.detail,
        new.job,
        now,
        new.not_after,
        new.ended
    ];
    run(tx, sql, row)
}

/// Records that its receipt was told at `now`.
pub fn told(tx: &Connection, id: Ulid, now: i64) -> Result<()> {
    let sql = "UPDATE fleet_orders_in SET told_at = ?2 WHERE id = ?1";
    run(tx, sql, params![id, now])
}

/// Ends an order that has no job of its own. False if it has ended already.
pub fn end(tx: &Connection, id: Ulid, ended: &str) -> Result<bool> {
    let sql = "UPDATE fleet_orders_in SET ended = ?2 WHERE id = ?1 AND ended IS NULL";
    changes(tx, sql, params![id, ended])
}

/// The jobs of orders to give a server up that wait until it is empty.
pub fn waiting_stops(connection: &Connection) -> Result<Vec<JobId>> {
    let sql = "SELECT DISTINCT j.id FROM fleet_orders_in o JOIN jobs j ON j.id = o.job_id
               WHERE o.kind = 'unplace' AND j.operation = 'stop' AND j.on_hold = 1 ORDER BY j.id";
    query(connection, sql, [], |row| row.get(0))
}

/// Keeps the end of a job whose row is about to be deleted.
pub fn keep_end_of(tx: &Connection, job: i64) -> Result<()> {
    let sql = "UPDATE fleet_orders_in SET ended = (SELECT state FROM jobs WHERE id = ?1)
               WHERE job_id = ?1 AND ended IS NULL";
    run(tx, sql, [job])
}

/// Whether the job of an order is not only its own: another order got it, or it was there before.
pub fn shares(connection: &Connection, id: Ulid, job: JobId) -> Result<bool> {
    let sql = "SELECT 1 FROM fleet_orders_in o JOIN jobs j ON j.id = ?2 WHERE o.id = ?1
               AND (j.requested_by <> o.from_name
                    OR EXISTS (SELECT 1 FROM fleet_orders_in other
                               WHERE other.job_id = ?2 AND other.id <> ?1))";
    exists(connection, sql, params![id, job])
}
