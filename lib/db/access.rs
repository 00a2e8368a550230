//! Who may see what, where that takes more than a column: a job is its asker's, and the owner's of all its servers.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::{JobId, UserId};

/// Whether there is such a job, and `user` may see it: who asked for it, and who owns all of its servers. Without a user
/// (an admin) all there are.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn job(connection: &Connection, id: JobId, user: Option<UserId>) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM jobs j WHERE j.id = ?1 AND (?2 IS NULL OR j.user_id = ?2 OR (
             EXISTS (SELECT 1 FROM job_targets t WHERE t.job_id = j.id)
             AND NOT EXISTS (SELECT 1 FROM job_targets t LEFT JOIN servers s ON s.id = t.server_id
                             WHERE t.job_id = j.id AND s.user_id IS NOT ?2)))",
    )?;
    Ok(statement.exists(params![id.0, user.map(|user| user.0)])?)
}
