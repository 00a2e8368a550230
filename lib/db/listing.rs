//! Pages of jobs for the web: one query for the rows, one for the total.

use rusqlite::{Connection, Row, params};

use crate::base::Result;
use crate::base::names::{JobId, ServerId, UserId, UserName};
use crate::db::jobs::parse_state;
use crate::db::{access, text, text_or_null};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;

/// A job as lists show it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: JobId,
    pub operation: String,
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
    /// Whether the viewer may open it: an admin's job for servers of several users is closed to
    /// each of them.
    pub open: bool,
}

/// A server of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: ServerId,
    /// Its display name; none when the row does not exist any more.
    pub name: Option<String>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The user who views the list; none for an admin. Without a server, only jobs that this user
    /// may see are listed.
    pub viewer: Option<UserId>,
    /// Only jobs for this server.
    pub server: Option<ServerId>,
    /// Only jobs in one of these states; empty means all.
    pub states: Vec<JobState>,
    /// Only jobs of this operation.
    pub operation: Option<Operation>,
    /// Only jobs requested by this user, on the command line, over the web or over the API.
    pub requester: Option<UserName>,
    /// The most rows to return.
    pub limit: u32,
    /// How many to skip.
    pub offset: u32,
}

/// A condition: user ?1 may see job j. An admin (NULL) may see all.
fn open() -> String {
    format!("(?1 IS NULL OR {})", access::may_see("j", "?1"))
}

/// The last ?3 jobs requested by user ?1, and the last ?3 of each server of that user. The overall
/// last ones are always among them.
const NEAR: &str = "j.id IN (SELECT * FROM (SELECT id FROM jobs WHERE user_id = ?1 ORDER BY id \
                   DESC LIMIT ?3)
     UNION SELECT t.job_id FROM servers s CROSS JOIN job_targets t ON t.server_id = s.id AND \
     t.job_id IN
         (SELECT job_id FROM job_targets WHERE server_id = s.id ORDER BY job_id DESC LIMIT ?3)
     WHERE s.user_id = ?1)";

/// The columns after the id of `j`; ?1 is the viewer, ?2 the server.
fn columns() -> String {
    format!(
        "j.id, j.operation, j.state, j.requested_by, j.created_at, j.started_at, j.finished_at, \
        j.error, {},
         (SELECT count(*) FROM job_targets t WHERE t.job_id = j.id),
         (SELECT json_group_array(json_array(t.server_id, s.name))
          FROM (SELECT server_id FROM job_targets WHERE job_id = j.id ORDER BY server_id LIMIT 3) t
          LEFT JOIN servers s ON s.id = t.server_id),
         (SELECT s.name FROM servers s WHERE s.id = ?2)",
        open()
    )
}

impl Filter {
    /// The conditions after WHERE; ?1 is the viewer, ?2 the server.
    fn conditions(&self) -> String {
        let mut all = vec![match self.server {
            Some(_) => "j.id IN (SELECT job_id FROM job_targets WHERE server_id = ?2)".to_owned(),
            None if self.viewer.is_none() => "?1 IS NULL AND ?2 IS NULL".to_owned(),
            None => format!("{CONCERNS} AND {} AND ?2 IS NULL", open()),
        }];

        if !self.states.is_empty() {
            let words: Vec<String> = self
                .states
                .iter()
                .map(|state| format!("'{}'", state.as_str()))
                .collect();
            all.push(format!("j.state IN ({})", words.join(",")));
        }

        if let Some(operation) = self.operation {
            all.push(format!("j.operation = '{operation}'"));
        }

        if let Some(requester) = &self.requester {
            let names = ["", "web:", "api:"].map(|way| literal(&format!("{way}{requester}")));
            all.push(format!("j.requested_by IN ({})", names.join(", ")));
        }

        all.join(" AND ")
    }
}

/// `text` as an SQL literal, for a user's name, which is free text. It contains no NUL, which would
/// end the statement.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Jobs that user ?1 requested, or that have a server of that user. This uses indexes instead of a
/// scan of all jobs.
const CONCERNS: &str = "j.id IN (SELECT id FROM jobs WHERE user_id = ?1
     UNION SELECT t.job_id FROM servers s CROSS JOIN job_targets t ON t.server_id = s.id WHERE \
     s.user_id = ?1)";

/// A page of jobs, newest first, and the total.
pub fn page(connection: &Connection, filter: &Filter) -> Result<(Vec<Listed>, i64)> {
    let (viewer, server) = (filter.viewer.map(|id| id.0), filter.server.map(|id| id.0));
    let conditions = filter.conditions();
    let total = connection
        .prepare_cached(&format!("SELECT count(*) FROM jobs j WHERE {conditions}"))?
        .query_row(params![viewer, server], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {} FROM jobs j WHERE {conditions} ORDER BY j.id DESC LIMIT ?3 OFFSET ?4",
        columns()
    ))?;

    let rows = statement.query_map(
        params![viewer, server, filter.limit, filter.offset],
        |row| read(row, filter),
    )?;

    Ok((rows.collect::<rusqlite::Result<_>>()?, total))
}

/// The last jobs that `viewer` may see (none for an admin), newest first. The cost grows with the
/// viewer's servers and with `limit`, not with the history.
pub fn recent(connection: &Connection, viewer: Option<UserId>, limit: u32) -> Result<Vec<Listed>> {
    let near = match viewer {
        None => "?1 IS NULL",
        Some(_) => NEAR,
    };

    let mut statement = connection.prepare_cached(&format!(
        "SELECT {} FROM jobs j WHERE ?2 IS NULL AND {near} AND {} ORDER BY j.id DESC LIMIT ?3",
        columns(),
        open()
    ))?;

    let filter = Filter {
        viewer,
        ..Filter::default()
    };

    let rows = statement.query_map(params![viewer.map(|id| id.0), None::<i64>, limit], |row| {
        read(row, &filter)
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read(row: &Row<'_>, filter: &Filter) -> rusqlite::Result<Listed> {
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

    let more = count - i64::try_from(servers.len()).unwrap_or(0);
    let (servers, more) = match filter.server {
        Some(id) if !open => (
            vec![Target {
                id,
                name: text_or_null(row, 11)?,
            }],
            0,
        ),
        _ => (servers, more),
    };

    Ok(Listed {
        id: JobId(row.get(0)?),
        operation: text(row, 1)?,
        state: parse_state(row, 2)?,
        requested_by: text(row, 3)?,
        created_at: row.get(4)?,
        started_at: row.get(5)?,
        finished_at: row.get(6)?,
        error: if open { text_or_null(row, 7)? } else { None },
        servers,
        more,
        open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    /// Servers 1 to 4 are user 1's, 5 is user 2's. Job 1 is an admin's for all servers, 2 is user
    /// 1's, 3 is an install of user 1, 4 is for server 5.
    fn history() -> Connection {
        let db = with_servers(5);
        db.execute_batch(
            "INSERT INTO users (id, name, password_hash, created_at, updated_at) VALUES (72, \
             'berta', '-', 1, 1);
             UPDATE servers SET user_id = 72 WHERE id = 5;
             INSERT INTO jobs (id, operation, requested_by, user_id, created_at, updated_at, \
             state, finished_at, exit_code, error)
             VALUES (1, 'stop', 'root', NULL, 1, 1, 'failed', 9, 1, 'server 5 is stuck'),
                    (2, 'start', 'web:x', (SELECT user_id FROM servers WHERE id = 1), 1, 1, \
                    'queued', NULL, NULL, NULL),
                    (3, 'install', 'web:x', (SELECT user_id FROM servers WHERE id = 1), 1, 1, \
                    'queued', NULL, NULL, NULL),
                    (4, 'start', 'root', NULL, 1, 1, 'queued', NULL, NULL, NULL);
             INSERT INTO job_targets VALUES (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, \
             99), (4, 5);",
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

    fn ids(jobs: &[Listed]) -> Vec<i64> {
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
                    viewer,
                    server: Some(ServerId(5)),
                    limit: 9,
                    ..Filter::default()
                },
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

        let (jobs, total) = page(&db, &filter).unwrap();
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
            "EXPLAIN QUERY PLAN SELECT j.id FROM jobs j WHERE {NEAR} AND {} ORDER BY j.id DESC \
            LIMIT ?3",
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
