//! Which host drives a rollout: what goes to the engine's bucket of those that this one drives, and
//! what comes from there of others.

use rusqlite::{Connection, params};

use super::rollouts::{ROLLOUT, Rollout, json, rollout};
use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::{changes, query, run};
use crate::domain::fleet::driving::{AGAIN_AFTER, KEPT, Mark, RolloutDocument};
use crate::domain::fleet::rollout::Request;

/// The rollouts whose orders and places wait: the bucket does not say yet that they have come so far.
/// Those of a former driver go on: its documents told of them.
pub(super) const HELD: &str = "SELECT id FROM fleet_rollouts WHERE ended_at IS NULL
    AND driver IS NULL AND published < version";

/// The rollouts that this host drives and whose document the bucket should get: it has none or an
/// older one, it may have lost it with other streams, or would drop it soon. The last document of a
/// rollout comes after its orders, so that another controller can go on until all are with the engine.
pub fn to_publish(
    connection: &Connection,
    generation: &str,
    now: i64,
    limit: usize,
) -> Result<Vec<Rollout>> {
    let sql = format!(
        "SELECT {ROLLOUT} FROM fleet_rollouts r WHERE driver IS NULL
         AND (published < version OR (?1 <> '' AND published_generation IS NOT ?1)
              OR (ended_at IS NULL AND published_at < ?2))
         AND (ended_at IS NULL OR (ended_at > ?3 AND NOT EXISTS (
              SELECT 1 FROM fleet_orders_out o
              WHERE o.rollout_id = r.id AND o.settled_at IS NULL AND o.sent_at IS NULL)))
         ORDER BY id LIMIT ?4"
    );
    let (again, kept) = (now.saturating_sub(AGAIN_AFTER), now.saturating_sub(KEPT));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = query(
        connection,
        &sql,
        params![generation, again, kept, limit],
        rollout,
    )?;
    Ok(rows.into_iter().flatten().collect())
}

/// Records that the bucket has a version. A take-over has succeeded with that.
pub fn published(
    tx: &Connection,
    id: Ulid,
    (epoch, version): (u64, u64),
    generation: &str,
    now: i64,
) -> Result<bool> {
    let sql = "UPDATE fleet_rollouts SET published = ?3, published_at = ?5,
               published_generation = ?4, taken_from = NULL
               WHERE id = ?1 AND epoch = ?2 AND driver IS NULL AND ?3 BETWEEN published AND version";
    let row = params![id, number(epoch), number(version), generation, now];
    changes(tx, sql, row)
}

/// The orders of a rollout to give servers up whose end is not known, as they were signed.
pub fn open_give_ups(connection: &Connection, id: Ulid) -> Result<Vec<Vec<u8>>> {
    let sql = "SELECT body FROM fleet_orders_out
               WHERE rollout_id = ?1 AND kind = 'unplace' AND settled_at IS NULL ORDER BY rowid";
    query(connection, sql, params![id], |row| row.get(0))
}

/// Writes a document as it came from the bucket. `driver` is None if this host drives it from there
/// on; then `taken_from` says whether the bucket still has to get its take-over.
pub fn put(
    tx: &Connection,
    document: &RolloutDocument,
    request: Option<&Request>,
    (driver, taken_from): (Option<&str>, Option<u64>),
    mark: &Mark,
) -> Result<()> {
    let sql = "INSERT INTO fleet_rollouts (id, kind, request, progress, state, requested_by, detail,
                   created_at, updated_at, ended_at, driver, epoch, version, published,
                   published_at, taken_from, orders)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
               ON CONFLICT (id) DO UPDATE SET
                   request = coalesce(excluded.request, iif(excluded.driver IS NULL, request, NULL)),
                   progress = excluded.progress, state = excluded.state, detail = excluded.detail,
                   updated_at = excluded.updated_at, ended_at = excluded.ended_at,
                   driver = excluded.driver, epoch = excluded.epoch, version = excluded.version,
                   published = excluded.published, published_at = excluded.published_at,
                   taken_from = excluded.taken_from, orders = excluded.orders";
    let published = taken_from.map_or(mark.version, |_| 0);
    let row = params![
        document.id,
        document.kind.as_str(),
        request.map(json).transpose()?,
        json(&document.progress)?,
        document.state.as_str(),
        document.requested_by,
        document.detail,
        document.created_at,
        document.updated_at,
        document.ended_at,
        driver,
        number(mark.epoch),
        number(mark.version),
        number(published),
        document.at,
        taken_from.map(number),
        json(&document.orders)?,
    ];
    run(tx, sql, row)
}

/// Records when another host took it over, and takes back those orders that left4me-link never had.
pub fn lost(tx: &Connection, id: Ulid, why: &str, now: i64) -> Result<()> {
    let sql = "UPDATE fleet_rollouts SET lost_at = ?2 WHERE id = ?1";
    run(tx, sql, params![id, now])?;
    let sql = "UPDATE fleet_orders_out SET state = 'withdrawn', settled_at = ?3, updated_at = ?3,
               detail = ?2 WHERE rollout_id = ?1 AND settled_at IS NULL AND taken_at IS NULL";
    run(tx, sql, params![id, why, now])
}

/// Takes a rollout over from its driver. It goes on once the bucket has that. False if it has ended,
/// this host drives it, or not all of it is known here.
pub fn take_over(tx: &Connection, id: Ulid, now: i64) -> Result<bool> {
    let sql = "UPDATE fleet_rollouts SET driver = NULL, epoch = epoch + 1, version = version + 1,
               taken_from = version, published = 0, published_at = NULL, lost_at = NULL,
               updated_at = ?2
               WHERE id = ?1 AND driver IS NOT NULL AND ended_at IS NULL AND request IS NOT NULL";
    changes(tx, sql, params![id, now])
}

/// Forgets the orders of the former driver once they are this host's.
pub fn adopted(tx: &Connection, id: Ulid) -> Result<()> {
    let sql = "UPDATE fleet_rollouts SET orders = '[]' WHERE id = ?1";
    run(tx, sql, params![id])
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
