//! Jobs as the pages and the monitor list them, without their tasks.

use rusqlite::{Connection, Row, ToSql, params_from_iter};

use crate::base::names::{JobId, ServerId, UserId};
use crate::base::{Result, clock};
use crate::db::job_filter::Filter;
use crate::db::{
    access, conditions, job_filter, job_update, query, text, text_or_null, update_options,
};
use crate::domain::job::JobState;

/// A job as lists show it.
#[derive(Clone, Debug)]
pub struct JobRow {
    pub id: JobId,
    pub operation: String,
    /// What it does besides: `rolling 4`, or `for job 12`.
    pub detail: Option<String>,
    pub state: JobState,
    pub requested_by: String,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms.
    pub started_at: Option<i64>,
    /// Unix ms.
    pub finished_at: Option<i64>,
    /// Why it failed; none when `open` is false.
    pub error: Option<String>,
    /// Its first three servers; only the requested one when `open` is false.
    pub servers: Vec<Target>,
    /// How many further servers it has.
    pub more: i64,
    /// While it waits for a condition, what it waits for; none when `open` is false.
    pub waiting: Option<String>,
    /// Whether the viewer may open it: an admin's job for servers of several users is closed to
    /// each of them.
    pub open: bool,
}

impl JobRow {
    /// `update (rolling 4)`, or just the operation.
    pub fn what(&self) -> String {
        job_update::what(&self.operation, self.detail.as_deref())
    }
}

/// A server of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: ServerId,
    /// Its display name; none when the row no longer exists.
    pub name: Option<String>,
}

/// A condition: user ?1 may see job j. An admin (NULL) may see all.
fn open() -> String {
    format!("(?1 IS NULL OR {})", access::may_see("j", "?1"))
}

/// Candidates for a list of ?3 jobs: the last ?3 jobs requested by user ?1, and the last ?3 of each
/// server of that user. The overall last ones are always among them.
const CANDIDATES: &str =
    "j.id IN (SELECT * FROM (SELECT id FROM jobs WHERE user_id = ?1 ORDER BY id DESC LIMIT ?3)
     UNION SELECT t.job_id FROM servers s
     CROSS JOIN job_targets t ON t.server_id = s.id AND t.job_id IN (SELECT job_id FROM job_targets
     WHERE server_id = s.id ORDER BY job_id DESC LIMIT ?3) WHERE s.user_id = ?1)";

/// The columns after the id of `j`; ?1 is the viewer, ?2 the server.
fn columns() -> String {
    format!(
        "j.id, j.operation, j.state, j.requested_by, j.created_at, j.started_at, j.finished_at,
         j.error, {}, (SELECT count(*) FROM job_targets t
         WHERE t.job_id = j.id), (SELECT json_group_array(json_array(t.server_id, s.name))
         FROM (SELECT server_id FROM job_targets WHERE job_id = j.id ORDER BY server_id LIMIT 3) t
         LEFT JOIN servers s ON s.id = t.server_id), (SELECT s.name FROM servers s
         WHERE s.id = ?2), j.on_hold, j.options, j.roll_of",
        open()
    )
}

/// A page of jobs as `viewer` (none for an admin) may see them, newest first, and the total. Only
/// `filter.viewer` limits the list to what a user may open.
pub fn page(
    connection: &Connection,
    filter: &Filter,
    viewer: Option<UserId>,
) -> Result<(Vec<JobRow>, i64)> {
    let (ids, total) = job_filter::page(connection, filter)?;
    let ids = serde_json::to_string(&ids).unwrap_or_default();
    let tail = "FROM jobs j WHERE j.id IN (SELECT value FROM json_each(?3)) ORDER BY j.id DESC";
    let rows = select(connection, viewer, filter.server, tail, &[&ids])?;
    Ok((rows, total))
}

/// The last jobs that `viewer` may see (none for an admin), newest first. The cost grows with the
/// viewer's servers and with `limit`, not with the history.
pub fn recent(connection: &Connection, viewer: Option<UserId>, limit: u32) -> Result<Vec<JobRow>> {
    let candidates = viewer.map_or("TRUE", |_| CANDIDATES);
    let open = open();
    let tail = format!("FROM jobs j WHERE {candidates} AND {open} ORDER BY j.id DESC LIMIT ?3");
    select(connection, viewer, None, &tail, &[&limit])
}

/// Reads jobs as `viewer` may see them. In `tail`, which begins with FROM, ?1 is the viewer, ?2 the
/// server of the list, and `more` follows.
pub(super) fn select(
    connection: &Connection,
    viewer: Option<UserId>,
    server: Option<ServerId>,
    tail: &str,
    more: &[&dyn ToSql],
) -> Result<Vec<JobRow>> {
    let (viewer, id) = (viewer.map(|user| user.0), server.map(|server| server.0));
    let params = [&viewer as &dyn ToSql, &id]
        .into_iter()
        .chain(more.iter().copied());
    let sql = format!("SELECT {} {tail}", columns());
    let mut jobs = query(connection, &sql, params_from_iter(params), |row| {
        Ok((read(row, server)?, row.get::<_, bool>(12)?))
    })?;

    for (job, on_hold) in &mut jobs {
        if *on_hold && job.open {
            job.waiting = conditions::message(connection, job.id, clock::now_ms())?;
        }
    }
    Ok(jobs.into_iter().map(|(job, _)| job).collect())
}

fn read(row: &Row<'_>, server: Option<ServerId>) -> rusqlite::Result<JobRow> {
    let open: bool = row.get(8)?;
    let count: i64 = row.get(9)?;
    let first: Vec<(i64, Option<String>)> =
        serde_json::from_str(&text(row, 10)?).unwrap_or_default();
    let mut servers: Vec<Target> = first
        .into_iter()
        .map(|(id, name)| Target {
            id: ServerId(id),
            name,
        })
        .collect();
    servers.sort_unstable_by_key(|target| target.id);

    let mut more = count - i64::try_from(servers.len()).unwrap_or(0);
    if let Some(id) = server.filter(|_| !open) {
        let name = text_or_null(row, 11)?;
        (servers, more) = (vec![Target { id, name }], 0);
    }

    let options = update_options::read(text_or_null(row, 13)?);
    Ok(JobRow {
        id: row.get(0)?,
        operation: text(row, 1)?,
        detail: job_update::detail(&options, row.get(14)?),
        state: row.get(2)?,
        requested_by: text(row, 3)?,
        created_at: row.get(4)?,
        started_at: row.get(5)?,
        finished_at: row.get(6)?,
        error: if open { text_or_null(row, 7)? } else { None },
        servers,
        more,
        waiting: None,
        open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;
    use crate::domain::operation::Operation;

    /// Servers 1 to 4 are user 1's, 5 is user 2's. Job 1 is an admin's for all servers, 2 is user
    /// 1's, 3 is an install of user 1, 4 is for server 5.
    fn history() -> Connection {
        let db = with_servers(5);
        db.execute_batch(
            "INSERT INTO users (id, name, password_hash, created_at, updated_at)
             VALUES (72, 'berta', '-', 1, 1);
             UPDATE servers SET user_id = 72 WHERE id = 5;
             INSERT INTO jobs (id, operation, requested_by, user_id, created_at, updated_at,
                 state, finished_at, exit_code, error)
             VALUES (1, 'stop', 'root', NULL, 1, 1, 'failed', 9, 1, 'server 5 is stuck'),
                 (2, 'start', 'web:x', (SELECT user_id FROM servers
             WHERE id = 1), 1, 1, 'queued', NULL, NULL, NULL),
                 (3, 'install', 'web:x', (SELECT user_id FROM servers
             WHERE id = 1), 1, 1, 'queued', NULL, NULL, NULL),
                 (4, 'start', 'root', NULL, 1, 1, 'queued', NULL, NULL, NULL);
             INSERT INTO job_targets
             VALUES (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, 99), (4, 5);",
        )
        .unwrap();

        db
    }

    fn owner(db: &Connection) -> UserId {
        UserId(
            db.query_row("SELECT user_id FROM servers WHERE id = 1", [], |row| {
                row.get(0)
            })
            .unwrap(),
        )
    }

    fn ids(jobs: &[JobRow]) -> Vec<i64> {
        jobs.iter().map(|job| job.id.0).collect()
    }

    #[test]
    fn everybody_sees_their_own_jobs_and_an_admin_all() {
        let db = history();
        let list = |viewer, limit, offset| {
            let (jobs, total) = page(
                &db,
                &Filter {
                    viewer,
                    limit,
                    offset,
                    ..Filter::default()
                },
                viewer,
            )
            .unwrap();

            (ids(&jobs), total)
        };

        assert_eq!(list(None, 2, 1), (vec![3, 2], 4));
        assert_eq!(list(Some(owner(&db)), 9, 0), (vec![3, 2], 2));
        assert_eq!(list(Some(UserId(72)), 9, 0), (vec![4], 1));
        for (viewer, wanted) in [
            (None, vec![4, 3, 2]),
            (Some(owner(&db)), vec![3, 2]),
            (Some(UserId(72)), vec![4]),
        ] {
            assert_eq!(ids(&recent(&db, viewer, 3).unwrap()), wanted);
        }
    }

    #[test]
    fn a_job_for_the_servers_of_several_users_tells_none_of_them_about_the_others() {
        let db = history();
        let of_five = |viewer| {
            page(
                &db,
                &Filter {
                    server: Some(ServerId(5)),
                    limit: 9,
                    ..Filter::default()
                },
                viewer,
            )
        };

        let (jobs, total) = of_five(Some(UserId(72))).unwrap();

        assert_eq!((ids(&jobs), total), (vec![4, 1], 2));
        assert_eq!((jobs[0].open, jobs[1].open, jobs[1].more), (true, false, 0));
        assert_eq!(
            (
                jobs[1].servers.len(),
                jobs[1].servers[0].id,
                jobs[1].error.as_deref()
            ),
            (1, ServerId(5), None)
        );

        let (jobs, _) = of_five(None).unwrap();
        assert_eq!(
            (jobs[1].open, jobs[1].servers.len(), jobs[1].more),
            (true, 3, 2)
        );

        assert!(jobs[1].error.is_some());
    }

    #[test]
    fn states_and_operations_narrow_the_list_and_a_server_that_is_gone_has_no_name() {
        let db = history();
        let filter = Filter {
            states: vec![JobState::Queued],
            operation: Some(Operation::Start),
            limit: 9,
            ..Filter::default()
        };

        let (jobs, total) = page(&db, &filter, None).unwrap();
        assert_eq!((ids(&jobs), total), (vec![4, 2], 2));
        assert_eq!(
            jobs[1].servers[1],
            Target {
                id: ServerId(99),
                name: None
            }
        );
    }

    /// A user with few servers in a long history: every look-up must use an index.
    #[test]
    fn the_last_jobs_are_found_without_reading_the_history() {
        let db = history();
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT j.id FROM jobs j WHERE {CANDIDATES} AND {}
             ORDER BY j.id DESC LIMIT ?3",
            open()
        );

        let mut statement = db.prepare(&sql).unwrap();
        let plan: Vec<String> = statement
            .query_map([1, 1, 1], |row| row.get(3))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        let scans: Vec<_> = plan
            .iter()
            .filter(|step| step.starts_with("SCAN"))
            .collect();

        assert!(
            scans
                .iter()
                .all(|step| step.contains("(subquery") || step.contains("SCAN s")),
            "{plan:#?}"
        );
    }
}
