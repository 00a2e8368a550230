//! Job logs: every line a job's commands printed, with the job's own sequence without gaps.
//!
//! While a job runs only its worker's log writer adds lines; before and after, whoever ends it does, in the transaction
//! that ends it.

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::{JobId, TaskId};
use crate::db::text;
use crate::wire::Stream;

/// Lines kept from a log's beginning, and from its end, once it has grown past both together.
pub const KEEP_HEAD: i64 = 500_000;
/// See [`KEEP_HEAD`].
pub const KEEP_TAIL: i64 = 500_000;

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// 1, 2, 3 … within the job.
    pub seq: i64,
    /// Unix ms.
    pub at: i64,
    /// `stdout` or `stderr`.
    pub stream: Stream,
    /// Whose line it is; none for the job's own.
    pub task_id: Option<TaskId>,
    /// At most 4096 characters, without line break.
    pub line: String,
}

/// The job's last seq; 0 when it has no line.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn last_seq(connection: &Connection, job: JobId) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM job_logs WHERE job_id = ?1")?
        .query_row([job.0], |row| row.get(0))?)
}

/// Inserts a line at `seq`.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn insert(
    tx: &Connection,
    job: JobId,
    seq: i64,
    at: i64,
    stream: Stream,
    task: Option<TaskId>,
    line: &str,
) -> Result<()> {
    tx.prepare_cached("INSERT INTO job_logs (job_id, seq, at, stream, task_id, line) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![job.0, seq, at, stream.as_str(), task.map(|id| id.0), line])?;
    Ok(())
}

/// Adds a line after the job's last one. For a job that no log writer serves.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn append(tx: &Connection, job: JobId, at: i64, stream: Stream, line: &str) -> Result<()> {
    insert(tx, job, last_seq(tx, job)? + 1, at, stream, None, line)
}

/// Lines after `after`, in order, at most `limit`.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn after(connection: &Connection, job: JobId, after: i64, limit: u32) -> Result<Vec<Line>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, at, stream, task_id, line FROM job_logs WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let rows = statement.query_map(params![job.0, after, limit], |row| {
        Ok(Line {
            seq: row.get(0)?,
            at: row.get(1)?,
            stream: if row.get_ref(2)?.as_str()? == Stream::Stderr.as_str() { Stream::Stderr } else { Stream::Stdout },
            task_id: row.get::<_, Option<i64>>(3)?.map(TaskId),
            line: text(row, 4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Leaves out the middle of a log that has grown past head and tail: rows between the head and `tail_from` go, a mark
/// stands in their place and says how many they were.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn leave_out_middle(tx: &Connection, job: JobId, tail_from: i64, now: i64) -> Result<()> {
    let mark = KEEP_HEAD + 1;
    tx.prepare_cached("DELETE FROM job_logs WHERE job_id = ?1 AND seq >= ?2 AND seq < ?3")?
        .execute(params![job.0, mark, tail_from])?;
    let words =
        format!("[… {} lines are left out here: the log passed {} lines …]", tail_from - mark, KEEP_HEAD + KEEP_TAIL);
    insert(tx, job, mark, now, Stream::Stderr, None, &words)
}
