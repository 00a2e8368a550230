//! The jobs of other hosts, put together from their events.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::db::lists::Part;
use crate::db::{first, query, run, text};

/// A job of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostJob {
    pub host: String,
    /// Its number on that host.
    pub job: i64,
    /// Empty while unknown.
    pub operation: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// The order that asked for it.
    pub order: Option<Ulid>,
    /// Unix ms, by that host's clock.
    pub updated_at: i64,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct JobFilter<'a> {
    pub host: Option<&'a str>,
    /// Only those that have not ended.
    pub open: bool,
}

const JOB: &str = "host, job, operation, state, order_id, updated_at, detail";

/// The newest jobs, newest first.
pub fn newest(connection: &Connection, filter: JobFilter<'_>, part: Part) -> Result<Vec<HostJob>> {
    let sql = format!(
        "SELECT {JOB} FROM fleet_jobs
         WHERE (?1 IS NULL OR host = ?1) AND (NOT ?2 OR state IN ('queued', 'running'))
         ORDER BY updated_at DESC, host, job DESC LIMIT ?3 OFFSET ?4"
    );
    let values = params![filter.host, filter.open, part.limit, part.offset];
    query(connection, &sql, values, job)
}

pub fn get(connection: &Connection, host: &str, number: i64) -> Result<Option<HostJob>> {
    let sql = format!("SELECT {JOB} FROM fleet_jobs WHERE host = ?1 AND job = ?2");
    first(connection, &sql, params![host, number], job)
}

fn job(row: &Row<'_>) -> rusqlite::Result<HostJob> {
    Ok(HostJob {
        host: text(row, 0)?,
        job: row.get(1)?,
        operation: text(row, 2)?,
        state: text(row, 3)?,
        order: row.get(4)?,
        updated_at: row.get(5)?,
        detail: text(row, 6)?,
    })
}

/// Writes a job's row; what is not known now stays as it was.
pub fn put(tx: &Connection, job: &HostJob) -> Result<()> {
    let sql = "INSERT INTO fleet_jobs (host, job, operation, state, order_id, updated_at, detail)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (host, job) DO UPDATE SET
                   operation = CASE excluded.operation WHEN '' THEN operation ELSE excluded.operation END,
                   order_id = coalesce(excluded.order_id, order_id),
                   state = excluded.state, updated_at = excluded.updated_at,
                   detail = excluded.detail";
    let row = params![
        job.host,
        job.job,
        job.operation,
        job.state,
        job.order,
        job.updated_at,
        job.detail
    ];
    run(tx, sql, row)
}

/// Drops all jobs of a host.
pub fn forget(tx: &Connection, host: &str) -> Result<()> {
    run(tx, "DELETE FROM fleet_jobs WHERE host = ?1", [host])
}
