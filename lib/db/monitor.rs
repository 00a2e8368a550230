//! What `left4me-job monitor` shows. It is read again after each commit, so each query is bounded
//! by the servers, the running jobs or `limit`, and depends neither on the queue's length nor on
//! ended jobs.

use rusqlite::{Connection, Row};

use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::drift::{Drifted, drifted};
use crate::db::job_rows::{self, JobRow};
use crate::db::{one, query, text, text_or_null};
use crate::domain::game::Responding;
use crate::domain::job::JobState;
use crate::domain::server::{ActualState, DesiredState};

/// A server as the monitor shows it.
#[derive(Clone, Debug)]
pub struct ServerRow {
    pub id: ServerId,
    /// Its display name, as stored.
    pub name: String,
    pub desired: DesiredState,
    pub actual: ActualState,
    /// Since when it has that actual state, unix ms.
    pub since: Option<i64>,
    pub drift: Option<Drifted>,
    /// The error of the last failed task.
    pub last_error: Option<String>,
    /// Whether its game answers, if it runs and was asked.
    pub responding: Option<Responding>,
    /// Who plays, by the game's last answer; none unless it answered the last poll.
    pub players: Option<u32>,
    pub max_players: Option<u32>,
    pub map: Option<String>,
}

/// All servers, ordered by id.
pub fn servers(connection: &Connection) -> Result<Vec<ServerRow>> {
    let sql = "SELECT s.id, s.name, s.desired_state, s.actual_state, s.actual_since, s.drift,
               s.drift_since, s.drift_why, s.last_error, g.responding, g.players, g.max_players,
               g.map FROM servers s LEFT JOIN server_game g ON g.server_id = s.id ORDER BY s.id";
    query(connection, sql, [], |row| {
        Ok(ServerRow {
            id: row.get(0)?,
            name: text(row, 1)?,
            desired: row.get(2)?,
            actual: row.get(3)?,
            since: row.get(4)?,
            drift: drifted(row, 5)?,
            last_error: text_or_null(row, 8)?,
            responding: row.get(9)?,
            players: row.get(10)?,
            max_players: row.get(11)?,
            map: text_or_null(row, 12)?,
        })
    })
}

/// A job of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    pub server: ServerId,
    pub job: JobId,
    pub operation: String,
    /// Queued, running or cancelling.
    pub state: JobState,
}

/// The jobs of servers that are running or being cancelled, then the first queued one of each
/// server. Jobs that wait for a condition keep no server busy. For an update, which has no targets, the servers are those of its tasks.
pub fn busy(connection: &Connection) -> Result<Vec<Busy>> {
    let running = "SELECT t.server_id, j.id, j.operation, j.state FROM jobs j
         CROSS JOIN job_targets t ON t.job_id = j.id WHERE j.state IN ('running', 'cancelling')
         UNION SELECT k.server_id, j.id, j.operation, j.state FROM jobs j
         CROSS JOIN tasks k ON k.job_id = j.id
         WHERE j.state IN ('running', 'cancelling') AND k.server_id IS NOT NULL";
    let waiting = "SELECT s.id, j.id, j.operation, j.state FROM servers s
         CROSS JOIN jobs j ON j.id = (SELECT t.job_id FROM job_targets t
         CROSS JOIN jobs q ON q.id = t.job_id WHERE t.server_id = s.id AND t.job_id >= (SELECT min(id)
         FROM jobs WHERE state = 'queued' AND on_hold = 0) AND q.state = 'queued'
         AND q.on_hold = 0 ORDER BY t.job_id LIMIT 1)";

    let mut busy = query(connection, running, [], busy_row)?;
    busy.extend(query(connection, waiting, [], busy_row)?);
    Ok(busy)
}

fn busy_row(row: &Row<'_>) -> rusqlite::Result<Busy> {
    Ok(Busy {
        server: row.get(0)?,
        job: row.get(1)?,
        operation: text(row, 2)?,
        state: row.get(3)?,
    })
}

/// How many jobs are queued, and how many are running or being cancelled; each count stops at
/// `most`.
pub fn counts(connection: &Connection, most: u32) -> Result<(i64, i64)> {
    let sql = "SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs
               WHERE state = 'queued' LIMIT ?1)), (SELECT count(*) FROM (SELECT 1 FROM jobs
               WHERE state IN ('running', 'cancelling') LIMIT ?1))";
    one(connection, sql, [most], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// The jobs that are running or being cancelled, oldest first.
const LIVE: &str = "FROM jobs j WHERE j.state IN ('running', 'cancelling') ORDER BY j.id LIMIT ?3";
/// The head of the queue, next one first.
const QUEUED: &str =
    "FROM jobs j WHERE j.state = 'queued' AND j.on_hold = 0 ORDER BY j.id LIMIT ?3";
/// The jobs that wait for a condition, oldest first.
const ON_HOLD: &str = "FROM jobs j WHERE j.on_hold = 1 ORDER BY j.id LIMIT ?3";

/// The jobs that are running or being cancelled, oldest first.
pub fn live(connection: &Connection, limit: u32) -> Result<Vec<JobRow>> {
    job_rows::select(connection, None, None, LIVE, &[&limit])
}

/// The head of the queue, next one first, then jobs that wait for a condition; at most `limit` of
/// each.
pub fn queued(connection: &Connection, limit: u32) -> Result<Vec<JobRow>> {
    let mut jobs = job_rows::select(connection, None, None, QUEUED, &[&limit])?;
    jobs.extend(job_rows::select(
        connection,
        None,
        None,
        ON_HOLD,
        &[&limit],
    )?);
    Ok(jobs)
}

/// Ended jobs, ordered by the event of their end, newest first, so that a clock that is set back
/// does not hide the latest. Only the `among` newest jobs are searched, and the `among` newest of
/// those that are older than every job that has not ended. A job that ended earlier may be missed
/// behind a long queue or in a long history.
pub fn ended(connection: &Connection, limit: u32, among: u32) -> Result<Vec<JobRow>> {
    let tail = "FROM (SELECT * FROM (SELECT id FROM jobs ORDER BY id DESC LIMIT ?4)
               UNION
               SELECT * FROM (SELECT id FROM jobs WHERE id < (SELECT min(id) FROM (
                       SELECT min(id) AS id FROM jobs WHERE state = 'queued' AND on_hold = 0
                       UNION ALL SELECT min(id) FROM jobs WHERE state IN ('running', 'cancelling')))
                   ORDER BY id DESC LIMIT ?4)) candidates
         CROSS JOIN jobs j ON j.id = candidates.id
         WHERE j.finished_at IS NOT NULL
         ORDER BY (SELECT max(e.id) FROM events e WHERE e.job_id = j.id
                       AND e.kind IN ('job.succeeded', 'job.failed', 'job.cancelled')) DESC,
             j.finished_at DESC, j.id DESC LIMIT ?3";
    job_rows::select(connection, None, None, tail, &[&limit, &among])
}

/// The progress of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    pub done: i64,
    pub all: i64,
    /// The kinds of its running tasks.
    pub doing: Vec<String>,
}

/// The progress of a job.
pub fn tasks(connection: &Connection, job: JobId) -> Result<Tasks> {
    let mut statement = connection.prepare_cached(
        "SELECT state IN ('running', 'cancelling'), kind, count(*), count(finished_at) FROM tasks
         WHERE job_id = ?1 GROUP BY 1, 2 ORDER BY min(position)",
    )?;

    let mut rows = statement.query([job.0])?;

    let mut tasks = Tasks::default();
    while let Some(row) = rows.next()? {
        if row.get(0)? {
            tasks.doing.push(text(row, 1)?);
        }
        tasks.all += row.get::<_, i64>(2)?;
        tasks.done += row.get::<_, i64>(3)?;
    }

    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::job_rows::Target;
    use crate::db::with_servers;

    fn ids(jobs: &[JobRow]) -> Vec<i64> {
        jobs.iter().map(|job| job.id.0).collect()
    }

    fn named((name, id): (&str, i64)) -> Target {
        Target {
            id: ServerId(id),
            name: Some(name.to_owned()),
        }
    }

    /// Three ended jobs, one running, two queued, and one that ended out of order.
    fn busy_database() -> Connection {
        let db = with_servers(5);
        db.execute_batch(
            "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at, state,
                 started_at, finished_at, exit_code, worker_id)
             VALUES (1, 'install', 'x', 1, 1, 'succeeded', 1, 30, 0, 'w'),
                 (2, 'start', 'x', 1, 1, 'failed', 1, 20, 1, 'w'),
                 (3, 'start', 'x', 1, 1, 'cancelled', NULL, 10, 1, NULL),
                 (4, 'update', 'x', 1, 1, 'running', 1, NULL, NULL, 'w'),
                 (5, 'stop', 'x', 1, 1, 'queued', NULL, NULL, NULL, NULL),
                 (6, 'start', 'x', 1, 1, 'queued', NULL, NULL, NULL, NULL),
                 (7, 'start', 'x', 1, 1, 'cancelled', NULL, 40, 1, NULL);
             INSERT INTO job_targets
             VALUES (5, 1), (5, 2), (5, 3), (5, 4), (5, 99), (6, 1), (2, 1);
             INSERT INTO tasks (job_id, position, kind, server_id, state, started_at,
                 finished_at)
             VALUES (4, 0, 'stop', 1, 'succeeded', 1, 2), (4, 1, 'stop', 5, 'succeeded', 1, 2),
                 (4, 2, 'install-runtime', NULL, 'running', 2, NULL),
                 (4, 3, 'start', 1, 'pending', NULL, NULL);",
        )
        .unwrap();

        db
    }

    #[test]
    fn jobs_stand_where_they_belong_and_name_their_first_servers() {
        let db = busy_database();
        assert_eq!(ids(&live(&db, 9).unwrap()), [4]);

        let queue = queued(&db, 9).unwrap();
        assert_eq!(ids(&queue), [5, 6]);
        assert_eq!(
            (queue[0].more, queue[0].servers.clone()),
            (
                2,
                ["S0", "S1", "S2"].into_iter().zip(1..).map(named).collect()
            )
        );

        assert_eq!(ids(&queued(&db, 1).unwrap()), [5]);
        assert_eq!(
            (counts(&db, 9).unwrap(), counts(&db, 1).unwrap()),
            ((2, 1), (1, 1))
        );

        assert_eq!(ids(&ended(&db, 9, 9).unwrap()), [7, 1, 2, 3]);
        assert_eq!(
            ids(&ended(&db, 2, 1).unwrap()),
            [7, 3],
            "the newest of all, and the newest before the live ones"
        );
    }

    #[test]
    fn the_job_that_ended_last_is_the_one_that_says_so_last_whatever_the_clock_said() {
        let db = busy_database();
        db.execute_batch(
            "INSERT INTO events (at, kind, actor, job_id)
             VALUES (30, 'job.succeeded', 'x', 1), (40, 'job.cancelled', 'x', 7), (20,
             'job.failed', 'x', 2)",
        )
        .unwrap();

        assert_eq!(ids(&ended(&db, 9, 9).unwrap()), [2, 7, 1, 3]);
    }

    #[test]
    fn a_server_is_busy_with_what_runs_and_with_what_waits_first() {
        let busy = busy(&busy_database()).unwrap();
        let told: Vec<_> = busy
            .iter()
            .map(|busy| (busy.server.0, busy.job.0))
            .collect();
        assert_eq!(told, [(1, 4), (5, 4), (1, 5), (2, 5), (3, 5), (4, 5)]);
    }

    #[test]
    fn a_job_is_as_far_as_its_tasks() {
        let tasks = tasks(&busy_database(), JobId(4)).unwrap();
        assert_eq!(
            tasks,
            Tasks {
                done: 2,
                all: 4,
                doing: vec!["install-runtime".to_owned()]
            }
        );
    }

    /// With 100,000 queued jobs the monitor must not read them all: SQLite has to use the partial
    /// indexes.
    #[test]
    fn no_query_reads_the_whole_queue_or_the_whole_history() {
        let db = busy_database();
        let plans = |sql: &str| -> Vec<String> {
            let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let limits: Vec<u32> = vec![9; statement.parameter_count()];
            let rows = statement
                .query_map(rusqlite::params_from_iter(limits), |row| row.get(3))
                .unwrap();
            rows.collect::<rusqlite::Result<_>>().unwrap()
        };

        for (tail, index) in [
            (QUEUED, "jobs_ready"),
            (ON_HOLD, "jobs_on_hold"),
            (LIVE, "jobs_live"),
        ] {
            let plan = plans(&format!("SELECT j.id {tail}"));
            assert!(
                plan[0].contains(index) && !plan.iter().any(|step| step.contains("TEMP B-TREE")),
                "{plan:?}"
            );
        }
    }
}
