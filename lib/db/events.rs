//! Events: what happened and who did it. Rows are only ever added.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::{JobId, ServerId, TaskId};

/// An event to be written down.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewEvent<'a> {
    /// What happened, as `job.failed`, `server.created`.
    pub kind: &'a str,
    /// Who did it: a person's name, or a program's.
    pub actor: &'a str,
    /// The job it is about.
    pub job: Option<JobId>,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// The server it is about.
    pub server: Option<ServerId>,
    /// More, in words.
    pub detail: &'a str,
}

/// Adds one event, in the transaction of what it tells about.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn add(connection: &Connection, now: i64, event: &NewEvent<'_>) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO events (at, kind, actor, job_id, task_id, server_id, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            now,
            event.kind,
            event.actor,
            event.job.map(|id| id.0),
            event.task.map(|id| id.0),
            event.server.map(|id| id.0),
            event.detail
        ])?;
    Ok(())
}
