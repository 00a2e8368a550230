//! Sessions of the web front. The cookie has 256 random bits; the database has only their SHA-256,
//! so a reader of the file cannot sign in with it.

use rusqlite::{Connection, params};

use crate::base::names::{SessionId, UserId};
use crate::base::{Result, secret};
use crate::db::{changes, exists, first, run};

/// A session expires after this long without a request, ms.
pub const IDLE: i64 = 24 * 3600 * 1000;
/// `last_seen_at` is written at most this often, ms, so that not each page view needs a commit.
const SEEN_EVERY: i64 = 60 * 1000;
/// Sessions are deleted this long after their end, ms.
pub const RETENTION: i64 = 30 * 24 * 3600 * 1000;

/// A valid session, with its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub name: String,
    /// Whether the user is an admin.
    pub is_admin: bool,
    /// Whether `last_seen_at` is old enough to be written again.
    pub is_stale: bool,
}

/// Begins a session, and deletes some of those that ended long ago. Not all at once: a sign-in
/// while the clock is years ahead would otherwise delete every session. `text` is the cookie's
/// value.
pub fn begin(
    tx: &Connection,
    user: UserId,
    text: &str,
    now: i64,
    expires_at: i64,
) -> Result<SessionId> {
    let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < ?1
               ORDER BY id LIMIT 20)";
    run(tx, sql, [now - RETENTION])?;

    let sql = "INSERT INTO sessions (user_id, hash, created_at, last_seen_at, expires_at)
               VALUES (?1, ?2, ?3, ?3, ?4)";
    run(
        tx,
        sql,
        params![user, secret::digest(text), now, expires_at],
    )?;

    Ok(SessionId(tx.last_insert_rowid()))
}

/// The session of a cookie, if it is valid: not ended, not expired, not idle for too long, its user
/// not disabled. A session last used in a far future is invalid too: it comes from a wrong clock,
/// and would stay valid until then.
pub fn find(connection: &Connection, text: &str, now: i64) -> Result<Option<Session>> {
    let sql = "SELECT s.id, u.id, u.name, u.is_admin, s.last_seen_at FROM sessions s
               JOIN users u ON u.id = s.user_id
               WHERE s.hash = ?1 AND s.ended_at IS NULL AND s.expires_at > ?2
               AND s.last_seen_at > ?2 - ?3 AND s.last_seen_at < ?2 + ?3 AND u.disabled_at IS NULL";
    let params = params![secret::digest(text), now, IDLE];

    first(connection, sql, params, |row| {
        Ok(Session {
            id: row.get(0)?,
            user: row.get(1)?,
            name: super::text(row, 2)?,
            is_admin: row.get(3)?,
            is_stale: (row.get::<_, i64>(4)? - now).abs() > SEEN_EVERY,
        })
    })
}

/// Whether a session is still valid and its user unchanged, for a stream that was opened in it.
pub fn is_good(connection: &Connection, id: SessionId, is_admin: bool, now: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM sessions s JOIN users u ON u.id = s.user_id
               WHERE s.id = ?1 AND s.ended_at IS NULL AND s.expires_at > ?2
               AND s.last_seen_at > ?2 - ?3 AND s.last_seen_at < ?2 + ?3 AND u.disabled_at IS NULL
               AND u.is_admin = ?4";
    exists(connection, sql, params![id, now, IDLE, is_admin])
}

/// Records that the session is in use, also after the clock was set back.
pub fn touch(tx: &Connection, id: SessionId, now: i64) -> Result<()> {
    let sql = "UPDATE sessions SET last_seen_at = ?2 WHERE id = ?1 AND last_seen_at <> ?2";
    run(tx, sql, params![id, now])
}

/// Ends a session. False when it had ended already.
pub fn end(tx: &Connection, id: SessionId, now: i64) -> Result<bool> {
    let sql = "UPDATE sessions SET ended_at = ?2 WHERE id = ?1 AND ended_at IS NULL";
    changes(tx, sql, params![id, now])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn a_clock_that_was_set_neither_ends_a_session_early_nor_keeps_one_for_years() {
        let db = with_servers(1);
        let (user, week, hour, now) = (UserId(1), 7 * IDLE, 3_600_000, 1_800_000_000_000);
        let id = begin(&db, user, "a", now, now + week).unwrap();
        let at = |now| find(&db, "a", now).unwrap();
        assert!(!at(now).unwrap().is_stale);

        // An hour back, an hour forward.
        for moment in [now - hour, now + hour] {
            assert!(at(moment).unwrap().is_stale, "its use is written down");
            assert!(is_good(&db, id, false, moment).unwrap());
        }

        touch(&db, id, now - hour).unwrap();
        assert!(!at(now - hour).unwrap().is_stale);

        // Signed in while the clock was ten years ahead.
        let years = now + 520 * week;
        let id = begin(&db, user, "b", years, years + week).unwrap();

        assert!(find(&db, "b", years).unwrap().is_some());
        assert_eq!(find(&db, "b", now).unwrap(), None);
        assert!(!is_good(&db, id, false, now).unwrap());
    }
}
