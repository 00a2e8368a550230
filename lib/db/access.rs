//! Access rules that need more than one column. A user may see a job that the user requested, and a
//! job all of whose servers the user owns.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::base::Result;
use crate::base::names::{JobId, ServerId, ServerName, UserId};

/// Whether the job exists and `user` may see it: as its requester, or as the owner of all its
/// servers. Without a user (for an admin) every existing job counts.
pub fn job(connection: &Connection, id: JobId, user: Option<UserId>) -> Result<bool> {
    let rule = may_see("jobs", "?2");
    let mut statement = connection.prepare_cached(&format!(
        "SELECT 1 FROM jobs WHERE id = ?1 AND (?2 IS NULL OR {rule})"
    ))?;
    Ok(statement.exists(params![id.0, user.map(|user| user.0)])?)
}

/// The rule of [`job`] as a condition, never NULL, on a row of jobs with the alias `job`. For few
/// rows of any owner.
pub(super) fn may_see(job: &str, user: impl std::fmt::Display) -> String {
    format!(
        "({job}.user_id IS {user} OR (EXISTS (SELECT 1 FROM job_targets t WHERE t.job_id = {job}.id)
          AND NOT EXISTS (SELECT 1 FROM job_targets t LEFT JOIN servers s ON s.id = t.server_id
                          WHERE t.job_id = {job}.id AND s.user_id IS NOT {user})))"
    )
}

/// The ids of all jobs that `user` may see, as a subquery: the same rule from the user's side. Its
/// cost grows with the user's jobs, not with the whole history.
pub(super) fn jobs_of(user: UserId) -> String {
    format!(
        "SELECT id FROM jobs WHERE user_id = {user}
         UNION SELECT t.job_id FROM servers s CROSS JOIN job_targets t ON t.server_id = s.id
         WHERE s.user_id = {user} AND NOT EXISTS (
             SELECT 1 FROM job_targets o LEFT JOIN servers p ON p.id = o.server_id
             WHERE o.job_id = t.job_id AND p.user_id IS NOT {user})"
    )
}

/// The server of `user` with this name. Other users' servers count as missing.
pub fn own_server(
    connection: &Connection,
    user: UserId,
    name: &ServerName,
) -> Result<Option<ServerId>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM servers WHERE user_id = ?1 AND name = ?2")?;
    Ok(statement
        .query_row(params![user.0, name.as_str()], |row| {
            row.get(0).map(ServerId)
        })
        .optional()?)
}
