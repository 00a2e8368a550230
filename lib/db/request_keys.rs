//! Idempotency keys of requests that created a job: a repeated key returns the same job. Keys are
//! kept for a day.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::{JobId, RequestKey, UserId};
use crate::db::{first, run};

/// How long a key is kept, ms. No browser repeats a click after a day, and a form that stays open
/// for longer counts as new.
const DAY: i64 = 24 * 3600 * 1000;

/// The job that `user` requested with this key.
pub fn find(
    connection: &Connection,
    user: UserId,
    key: &RequestKey,
    now: i64,
) -> Result<Option<JobId>> {
    let sql =
        "SELECT job_id FROM request_keys WHERE user_id = ?1 AND key = ?2 AND created_at >= ?3";
    first(
        connection,
        sql,
        params![user, key.as_str(), now - DAY],
        |row| row.get(0),
    )
}

/// Stores the key, and deletes those that are older than a day.
pub fn add(tx: &Connection, user: UserId, key: &RequestKey, job: JobId, now: i64) -> Result<()> {
    let sql = "DELETE FROM request_keys WHERE created_at < ?1";
    run(tx, sql, [now - DAY])?;
    let sql = "INSERT INTO request_keys (user_id, key, job_id, created_at) VALUES (?1, ?2, ?3, ?4)";
    run(tx, sql, params![user, key.as_str(), job, now])
}
