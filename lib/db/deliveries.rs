//! What waits in the outbox of alerts, and what came of its delivery.

use rusqlite::{Connection, params};

use crate::base::names::{AlertId, JobId, ServerId};
use crate::base::{Error, Result, clock};
use crate::db::alerts::target_of;
use crate::db::{changes, execute, exists, one, query, run, text, text_or_null};
use crate::domain::alert::pace::{Key, Sent, Waiting};
use crate::domain::alert::{AlertClass, Happening, Target};

/// The most rows that one message is about.
const MOST: u32 = 10_000;

/// Rows that ended are kept for this long, ms.
pub const RETENTION: i64 = 30 * 24 * 60 * 60 * 1000;

/// An alert for which something waits.
#[derive(Clone, Debug)]
pub struct Destination {
    pub alert: AlertId,
    pub name: String,
    /// The checked destination, or what is wrong with the row.
    pub target: std::result::Result<Target, Error>,
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is tried before this time, unix ms.
    pub retry_at: Option<i64>,
    /// Why the last delivery failed.
    pub last_error: Option<String>,
    /// The time of the oldest event that waits, unix ms.
    pub oldest: i64,
}

/// Whether anything waits.
pub fn any_pending(connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM alert_outbox WHERE state = 'pending' LIMIT 1";
    exists(connection, sql, [])
}

/// The alerts for which something waits.
pub fn destinations(connection: &Connection) -> Result<Vec<Destination>> {
    let sql = "SELECT a.id, a.name, a.kind, a.target, a.failures, a.retry_at, a.last_error,
                   o.created_at
               FROM alerts a JOIN alert_outbox o ON o.id = (
                   SELECT id FROM alert_outbox WHERE alert_id = a.id AND state = 'pending'
                   ORDER BY id LIMIT 1)
               ORDER BY a.id";
    query(connection, sql, [], |row| {
        Ok(Destination {
            alert: row.get(0)?,
            name: text(row, 1)?,
            target: target_of(&text(row, 2)?, &text(row, 3)?),
            failures: row.get(4)?,
            retry_at: row.get(5)?,
            last_error: text_or_null(row, 6)?,
            oldest: row.get(7)?,
        })
    })
}

/// What waits for an alert, in the order of events.
pub fn waiting(connection: &Connection, alert: AlertId) -> Result<Vec<Waiting>> {
    let sql = "SELECT id, class, server_id FROM alert_outbox
               WHERE alert_id = ?1 AND state = 'pending' ORDER BY id LIMIT ?2";
    query(connection, sql, params![alert, MOST], |row| {
        let key = key(&text(row, 1)?, row.get(2)?);
        Ok(Waiting {
            id: row.get(0)?,
            key,
        })
    })
}

/// The messages to an alert since `since`, unix ms.
pub fn sent(connection: &Connection, alert: AlertId, since: i64) -> Result<Vec<Sent>> {
    let sql = "SELECT ended_at, class, server_id, more, is_mixed FROM alert_outbox
               WHERE alert_id = ?1 AND state = 'sent' AND ended_at >= ?2";
    query(connection, sql, params![alert, since], |row| {
        let key = key(&text(row, 1)?, row.get(2)?);
        Ok(Sent {
            at: row.get(0)?,
            key: (!row.get::<_, bool>(4)?).then_some(key),
            more: row.get(3)?,
        })
    })
}

fn key(class: &str, server: Option<ServerId>) -> Key {
    Key {
        // Only a row that was written by hand has an unknown word.
        class: AlertClass::parse(class).unwrap_or(AlertClass::Drift),
        server,
    }
}

/// The events of these rows, in order. Those that are gone are left out.
pub fn happenings(connection: &Connection, ids: &[i64]) -> Result<Vec<Happening>> {
    let sql = "SELECT o.class, e.id, e.at, e.kind, e.server_id, s.name, e.job_id, j.operation,
                   e.detail
               FROM alert_outbox o JOIN events e ON e.id = o.event_id
               LEFT JOIN servers s ON s.id = e.server_id LEFT JOIN jobs j ON j.id = e.job_id
               WHERE o.id IN (SELECT value FROM json_each(?1)) ORDER BY o.id";
    query(connection, sql, [list(ids)?], |row| {
        let at = row.get(2)?;
        Ok(Happening {
            event: row.get(1)?,
            time: clock::time_of_day(at),
            at: clock::iso(at),
            kind: text(row, 3)?,
            class: key(&text(row, 0)?, None).class,
            server: row.get(4)?,
            name: text_or_null(row, 5)?,
            job: row.get::<_, Option<JobId>>(6)?,
            operation: text_or_null(row, 7)?,
            detail: text(row, 8)?,
        })
    })
}

/// Whether these rows are about events of one kind and one server.
pub fn are_alike(connection: &Connection, ids: &[i64]) -> Result<bool> {
    let sql = "SELECT count(*) = 1 FROM (SELECT DISTINCT e.kind, e.server_id FROM alert_outbox o
               JOIN events e ON e.id = o.event_id
               WHERE o.id IN (SELECT value FROM json_each(?1)))";
    one(connection, sql, [list(ids)?], |row| row.get(0))
}

/// Records a delivered message. The first of `ids` carries it, the others are merged into it.
pub fn record_sent(
    tx: &Connection,
    alert: AlertId,
    ids: &[i64],
    is_mixed: bool,
    now: i64,
) -> Result<()> {
    let Some((first, others)) = ids.split_first() else {
        return Ok(());
    };
    let more = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let sql = "UPDATE alert_outbox SET state = 'sent', ended_at = ?2, attempts = attempts + 1,
               more = ?3, is_mixed = ?4 WHERE id = ?1 AND state = 'pending'";
    run(tx, sql, params![first, now, more, is_mixed])?;

    let sql = "UPDATE alert_outbox SET state = 'merged', ended_at = ?2, merged_into = ?3
               WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'pending'";
    run(tx, sql, params![list(others)?, now, first])?;

    let sql = "UPDATE alerts SET failures = 0, retry_at = NULL, last_error = NULL WHERE id = ?1";
    run(tx, sql, [alert])
}

/// Records a failed attempt. Nothing is sent to this alert before `retry_at`.
pub fn record_retry(
    tx: &Connection,
    alert: AlertId,
    ids: &[i64],
    why: &str,
    retry_at: i64,
) -> Result<()> {
    let sql = "UPDATE alert_outbox SET attempts = attempts + 1, last_error = ?2
               WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'pending'";
    run(tx, sql, params![list(ids)?, why])?;
    let sql = "UPDATE alerts SET failures = failures + 1, retry_at = ?2, last_error = ?3
               WHERE id = ?1";
    run(tx, sql, params![alert, retry_at, why])
}

/// Records that these rows are given up.
pub fn record_failed(tx: &Connection, ids: &[i64], why: &str, now: i64) -> Result<()> {
    let sql = "UPDATE alert_outbox SET state = 'failed', ended_at = ?2, last_error = ?3,
               attempts = attempts + 1
               WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'pending'";
    run(tx, sql, params![list(ids)?, now, why])
}

/// Gives up what an alert should have been told before `before`, unix ms. How many rows these are.
pub fn expire(tx: &Connection, alert: AlertId, before: i64, now: i64) -> Result<usize> {
    let sql = "UPDATE alert_outbox SET state = 'failed', ended_at = ?3,
               last_error = coalesce(last_error, 'not delivered within a day')
               WHERE alert_id = ?1 AND state = 'pending' AND created_at < ?2";
    execute(tx, sql, params![alert, before, now])
}

/// Deletes at most `limit` rows that ended before `before`, unix ms. Whether there may be more.
pub fn prune(tx: &Connection, before: i64, limit: i64) -> Result<bool> {
    let sql = "DELETE FROM alert_outbox WHERE id IN (SELECT id FROM alert_outbox
               WHERE ended_at < ?1 LIMIT ?2)";
    changes(tx, sql, params![before, limit])
}

/// The ids as one parameter.
fn list(ids: &[i64]) -> Result<String> {
    serde_json::to_string(ids).map_err(|error| Error::failed(format!("outbox rows: {error}")))
}
