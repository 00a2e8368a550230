//! Figures of the overview page. Each query is bounded by the unfinished jobs, the servers, or by a
//! fixed number of rows.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::JobId;
use crate::db::{first, query, text};
use crate::domain::job::JobState;
use crate::domain::server::ActualState;

/// At most this many of the last jobs are counted.
const RECENT: i64 = 10_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// How many servers are in each state; states without servers are left out.
    pub states: Vec<(ActualState, i64)>,
    pub all: i64,
    /// How many have a drift.
    pub drifted: i64,
}

impl Servers {
    /// Whether the game files are in use: a server that is up has them mounted.
    pub fn has_mounted(&self) -> bool {
        let up = [
            ActualState::Running,
            ActualState::Starting,
            ActualState::Stopping,
        ];

        self.states
            .iter()
            .any(|(state, count)| up.contains(state) && *count > 0)
    }
}

pub fn servers(connection: &Connection) -> Result<Servers> {
    let sql = "SELECT actual_state, count(*), count(drift) FROM servers GROUP BY actual_state";
    let rows: Vec<(ActualState, i64, i64)> = query(connection, sql, [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;

    let mut states: Vec<_> = rows.iter().map(|&(state, all, _)| (state, all)).collect();
    states.sort_unstable();
    Ok(Servers {
        all: rows.iter().map(|(_, all, _)| all).sum(),
        drifted: rows.iter().map(|(_, _, drifted)| drifted).sum(),
        states,
    })
}

/// How many jobs were requested since `since` (unix ms), by state. Counts at most the last ten
/// thousand.
pub fn jobs_since(connection: &Connection, since: i64) -> Result<Vec<(JobState, i64)>> {
    let sql = "SELECT state, count(*) FROM (SELECT state, created_at FROM jobs
               ORDER BY id DESC LIMIT ?2) WHERE created_at >= ?1 GROUP BY state";
    let mut counts = query(connection, sql, [since, RECENT], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    counts.sort_unstable();
    Ok(counts)
}

/// An unfinished job on the game files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub id: JobId,
    /// install, update or rollback.
    pub operation: String,
    /// Queued, running or cancelling.
    pub state: JobState,
}

/// The running install, update or rollback; otherwise the first queued one that does not wait for a condition.
pub fn shared_job(connection: &Connection) -> Result<Option<Shared>> {
    // The states and operations repeat those of the partial indexes literally; otherwise SQLite
    // would not use them.
    let sql = "SELECT * FROM (SELECT id, operation, state FROM jobs
               WHERE state IN ('running', 'cancelling')
               AND operation IN ('install', 'update', 'rollback')
               ORDER BY id LIMIT 1)
               UNION ALL SELECT * FROM (SELECT id, operation, state FROM jobs
               WHERE state = 'queued' AND on_hold = 0
               AND operation IN ('install', 'update', 'rollback')
               ORDER BY id LIMIT 1) LIMIT 1";

    first(connection, sql, [], |row| {
        Ok(Shared {
            id: row.get(0)?,
            operation: text(row, 1)?,
            state: row.get(2)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn servers_and_jobs_are_counted_and_what_runs_comes_before_what_waits() {
        let db = with_servers(3);
        assert_eq!(shared_job(&db).unwrap(), None);
        db.execute_batch(
            "UPDATE servers SET actual_state = 'running' WHERE id < 3;
             UPDATE servers SET drift = 'down', drift_since = 1 WHERE id = 3;
             INSERT INTO jobs (operation, requested_by, created_at, updated_at, state,
                 started_at, finished_at, exit_code, worker_id)
             VALUES ('install', 'x', 1, 1, 'failed', 1, 2, 1, 'w'),
                 ('update', 'x', 5, 5, 'queued', NULL, NULL, NULL, NULL),
                 ('install', 'x', 6, 6, 'running', 6, NULL, NULL, 'w'),
                 ('start', 'x', 6, 6, 'queued', NULL, NULL, NULL, NULL);",
        )
        .unwrap();

        let counted = servers(&db).unwrap();
        assert_eq!((counted.all, counted.drifted), (3, 1));
        assert_eq!(
            counted.states,
            [(ActualState::Running, 2), (ActualState::Unknown, 1)]
        );

        assert_eq!(
            jobs_since(&db, 5).unwrap(),
            [(JobState::Queued, 2), (JobState::Running, 1)]
        );

        assert_eq!(shared_job(&db).unwrap().unwrap().id, JobId(3));
        db.execute(
            "UPDATE jobs SET state = 'failed', finished_at = 9, exit_code = 1 WHERE id = 3",
            [],
        )
        .unwrap();

        assert_eq!(shared_job(&db).unwrap().unwrap().id, JobId(2));
    }
}
