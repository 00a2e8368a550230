//! Jobs as the scheduler reads them: what may be claimed, and in what order.

use rusqlite::{Connection, Row, params};

use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::{first, query, text};
use crate::domain::condition::hold::CONFIRMED;
use crate::domain::operation::Operation;
use crate::domain::schedule::Candidate;

const CANDIDATE: &str = "j.id, j.operation, (SELECT group_concat(t.server_id) FROM job_targets t
                         WHERE t.job_id = j.id)";

fn candidate(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    let operation = text(row, 1)?.parse::<Operation>();
    let servers = match row.get_ref(2)?.as_str_or_null()? {
        Some(list) => list
            .split(',')
            .filter_map(|id| id.parse().ok().map(ServerId))
            .collect(),
        None => Vec::new(),
    };

    Ok(Candidate {
        id: row.get(0)?,
        exclusive: operation
            .as_ref()
            .is_ok_and(|operation| operation.is_exclusive()),
        asks: operation == Ok(Operation::Check),
        servers,
    })
}

/// The jobs that are running or being cancelled, as the schedule needs them.
pub fn active(connection: &Connection) -> Result<Vec<Candidate>> {
    let sql = format!(
        "SELECT {CANDIDATE} FROM jobs j WHERE j.state IN ('running', 'cancelling') ORDER BY j.id"
    );
    query(connection, &sql, [], candidate)
}

/// The jobs, ended or not, with a process that survived SIGKILL. No other job may work on the same
/// servers while it exists.
pub fn held(connection: &Connection) -> Result<Vec<Candidate>> {
    let sql = format!(
        "SELECT {CANDIDATE} FROM jobs j WHERE j.id IN (SELECT t.job_id FROM runners r
         JOIN tasks t ON t.id = r.task_id WHERE r.tree = 'left') ORDER BY j.id"
    );
    query(connection, &sql, [], candidate)
}

/// The first `limit` queued jobs after `after`, oldest first. Jobs that wait for a condition are not
/// among them.
pub fn queued(connection: &Connection, after: JobId, limit: u32) -> Result<Vec<Candidate>> {
    let sql = format!(
        "SELECT {CANDIDATE} FROM jobs j WHERE j.state = 'queued' AND j.on_hold = 0 AND j.id > ?1
         ORDER BY j.id LIMIT ?2"
    );
    query(connection, &sql, params![after, limit], candidate)
}

/// The queued starts of what a job had stopped, which the worker itself has queued.
pub fn starts_again(connection: &Connection) -> Result<Vec<Candidate>> {
    let sql = format!(
        "SELECT {CANDIDATE} FROM jobs j INDEXED BY jobs_ready_again
         WHERE j.state = 'queued' AND j.on_hold = 0 AND j.operation = 'start'
         AND j.requested_by = 'left4me-worker' ORDER BY j.id"
    );
    query(connection, &sql, [], candidate)
}

/// The jobs that wait for a condition and whose servers were confirmed to be empty less than
/// [`CONFIRMED`] ago, oldest first.
pub fn confirmed(connection: &Connection, now: i64) -> Result<Vec<Candidate>> {
    let sql = format!(
        "SELECT {CANDIDATE} FROM jobs j CROSS JOIN job_conditions c ON c.job_id = j.id
         WHERE j.on_hold = 1 AND c.confirmed_at > ?1 AND c.confirmed_at <= ?2 ORDER BY j.id"
    );
    query(connection, &sql, [now - CONFIRMED, now], candidate)
}

/// The job as the schedule needs it.
pub fn get(connection: &Connection, id: JobId) -> Result<Option<Candidate>> {
    let sql = format!("SELECT {CANDIDATE} FROM jobs j WHERE j.id = ?1");
    first(connection, &sql, [id], candidate)
}

/// For the rest of a long queue: the first exclusive job and the first check after `after`, and each
/// server's first queued job after it. No other job can start before one of these. One look-up per
/// server.
pub fn queue_heads(
    connection: &Connection,
    after: JobId,
    servers: &[ServerId],
) -> Result<Vec<Candidate>> {
    let sql = format!(
        "SELECT {CANDIDATE} FROM jobs j
         WHERE j.state = 'queued' AND j.on_hold = 0
         AND j.operation IN ('install', 'update', 'rollback') AND j.id > ?1
         ORDER BY j.id LIMIT 1"
    );
    let mut heads = query(connection, &sql, [after], candidate)?;

    let sql = format!(
        "SELECT {CANDIDATE} FROM jobs j
         WHERE j.state = 'queued' AND j.on_hold = 0 AND j.operation = 'check' AND j.id > ?1
         ORDER BY j.id LIMIT 1"
    );
    heads.extend(first(connection, &sql, [after], candidate)?);

    let sql = format!(
        "SELECT {CANDIDATE} FROM job_targets h CROSS JOIN jobs j ON j.id = h.job_id
         WHERE h.server_id = ?1 AND h.job_id > ?2 AND j.state = 'queued' AND j.on_hold = 0
         ORDER BY h.job_id LIMIT 1"
    );
    for server in servers {
        heads.extend(first(connection, &sql, params![server, after], candidate)?);
    }

    heads.sort_unstable_by_key(|job| job.id);
    heads.dedup_by_key(|job| job.id);
    Ok(heads)
}
