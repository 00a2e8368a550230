//! Which rows of a fleet are old. What an order from another host did is remembered for longer than
//! the engine could bring it again.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{execute, first};
use crate::domain::fleet::rules::KEPT_AFTER;
use crate::domain::retention::DAY;

/// How long events wait for an engine that does not answer, ms. It keeps none for longer.
pub const EVENTS_WAIT: i64 = 90 * DAY;

/// Deletes at most `most` old rows of each table: orders from here by their age since `before`,
/// what other hosts told by its age, orders from other hosts by their time. Whether there may be
/// more.
pub fn prune(tx: &Connection, now: i64, before: Option<i64>, most: i64) -> Result<bool> {
    let mut more = false;
    let mut drop_rows = |sql: &str, before: i64| -> Result<()> {
        let count = execute(tx, sql, params![before, most])?;
        more |= i64::try_from(count).is_ok_and(|count| count >= most);
        Ok(())
    };

    let sql = "DELETE FROM fleet_orders_in WHERE id IN (SELECT id FROM fleet_orders_in
               WHERE received_at < ?1 AND not_after < ?1 LIMIT ?2)";
    drop_rows(sql, now.saturating_sub(KEPT_AFTER))?;

    if let Some(before) = before {
        let sql = "DELETE FROM fleet_orders_out WHERE id IN (SELECT id FROM fleet_orders_out
                   WHERE settled_at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
        let sql = "DELETE FROM fleet_jobs WHERE (host, job) IN (SELECT host, job FROM fleet_jobs
                   WHERE updated_at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
        let sql =
            "DELETE FROM fleet_events WHERE (host, seq) IN (SELECT host, seq FROM fleet_events
                   WHERE at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
    }
    Ok(more)
}

/// The newest event that may be deleted: the engine has it, or it has waited for too long. None where
/// there is no fleet, which sets no limit.
pub fn last_told(connection: &Connection, now: i64) -> Result<Option<i64>> {
    let sql = "SELECT max(events_sent, coalesce((SELECT id FROM events WHERE at < ?1
               ORDER BY id DESC LIMIT 1), 0)) FROM fleet_self";
    first(connection, sql, [now.saturating_sub(EVENTS_WAIT)], |row| {
        row.get(0)
    })
}
