//! Access rules that need more than one column. A user may see a job that the user requested, and a
//! job all of whose servers the user owns.

use std::fmt::Display;

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::{JobId, ServerId, ServerName, UserId};
use crate::db::{exists, first, query};

/// Whether the job exists and `user` may see it: as its requester, or as the owner of all its
/// servers. Without a user (for an admin) every existing job counts.
pub fn job(connection: &Connection, id: JobId, user: Option<UserId>) -> Result<bool> {
    let rule = may_see("jobs", "?2");
    let sql = format!("SELECT 1 FROM jobs WHERE id = ?1 AND (?2 IS NULL OR {rule})");
    exists(connection, &sql, params![id, user])
}

/// The rule of [`job`] as a condition, never NULL, on a row of jobs with the alias `job`. For few
/// rows of any owner.
pub(super) fn may_see(job: &str, user: impl Display) -> String {
    let no_other_owner = no_other_owner(&format!("{job}.id"), &user);
    format!(
        "({job}.user_id IS {user} OR (EXISTS (SELECT 1 FROM job_targets t WHERE t.job_id = {job}.id)
          AND {no_other_owner}))"
    )
}

/// The ids of all jobs that `user` may see, as a subquery: the same rule from the user's side. Its
/// cost grows with the user's jobs, not with the whole history.
pub(super) fn jobs_of(user: impl Display) -> String {
    let no_other_owner = no_other_owner("t.job_id", &user);
    format!(
        "SELECT id FROM jobs WHERE user_id = {user}
         UNION SELECT t.job_id FROM servers s CROSS JOIN job_targets t ON t.server_id = s.id
         WHERE s.user_id = {user} AND {no_other_owner}"
    )
}

/// The `most` newest of each source of these jobs, among which the `most` newest of all are. Its
/// cost grows with the user's servers, not with their jobs.
pub(super) fn last_jobs_of(user: impl Display, most: i64) -> String {
    let no_other_owner = no_other_owner("t.job_id", &user);
    format!(
        "SELECT * FROM (SELECT id FROM jobs WHERE user_id = {user} ORDER BY id DESC LIMIT {most})
         UNION SELECT l.job_id FROM servers s CROSS JOIN job_targets l ON l.server_id = s.id
         AND l.job_id IN (SELECT t.job_id FROM job_targets t WHERE t.server_id = s.id
         AND {no_other_owner} ORDER BY t.job_id DESC LIMIT {most})
         WHERE s.user_id = {user}"
    )
}

/// The second half of the rule, as a condition: none of the job's servers is another user's, and
/// none has lost its row.
fn no_other_owner(job_id: &str, user: &impl Display) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM job_targets o LEFT JOIN servers p ON p.id = o.server_id
                     WHERE o.job_id = {job_id} AND p.user_id IS NOT {user})"
    )
}

/// The users who may see the job, by the same rule. Admins, who see every job, are not listed.
pub fn viewers(connection: &Connection, id: JobId) -> Result<Vec<UserId>> {
    let sql = format!(
        "SELECT u.id FROM jobs j CROSS JOIN
             (SELECT user_id AS id FROM jobs WHERE id = ?1
              UNION SELECT s.user_id FROM job_targets t CROSS JOIN servers s ON s.id = t.server_id
              WHERE t.job_id = ?1) u
         WHERE j.id = ?1 AND u.id IS NOT NULL AND {}",
        may_see("j", "u.id")
    );
    query(connection, &sql, [id], |row| row.get(0))
}

/// The server of `user` with this name. Other users' servers count as missing.
pub fn own_server(
    connection: &Connection,
    user: UserId,
    name: &ServerName,
) -> Result<Option<ServerId>> {
    let sql = "SELECT id FROM servers WHERE user_id = ?1 AND name = ?2";
    first(connection, sql, params![user, name.as_str()], |row| {
        row.get(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn a_job_is_seen_by_the_one_owner_of_its_servers_and_by_its_requester() {
        let db = with_servers(3);
        db.execute_batch(
            "INSERT INTO users (name, password_hash, created_at, updated_at)
             VALUES ('ben', '', 1, 1);
             UPDATE servers SET user_id = 2 WHERE id = 3;
             INSERT INTO jobs (operation, requested_by, created_at, updated_at, user_id)
             VALUES ('start', 'x', 1, 1, NULL), ('start', 'x', 1, 1, 2),
                 ('install', 'x', 1, 1, NULL), ('stop', 'x', 1, 1, NULL);
             INSERT INTO job_targets VALUES (1, 1), (1, 2), (2, 2), (2, 3), (4, 1), (4, 99);",
        )
        .unwrap();

        let viewers = |job| viewers(&db, JobId(job)).unwrap();
        assert_eq!(
            [1, 2, 3, 4].map(viewers),
            [vec![UserId(1)], vec![UserId(2)], vec![], vec![]]
        );
    }
}
