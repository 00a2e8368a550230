//! What the web's change feeds read after each commit, once for all subscribers. Each query is
//! bounded by the servers, the running jobs and the new rows, and depends neither on the queue's
//! length nor on ended jobs.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::{JobId, ServerId, UserId};
use crate::db::{first, one, query, text};

/// Where a reader of a job's log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The reader gets the lines after this seq.
    pub after: i64,
    /// How many older lines were requested but are left out.
    pub dropped: i64,
}

/// Where a reader begins who has the lines up to `after` and gets at most the last `most` of the
/// existing ones. An `after` beyond the last line counts as the last line.
pub fn replay(connection: &Connection, job: JobId, after: i64, most: u32) -> Result<Replay> {
    let last = super::logs::last_seq(connection, job)?;
    let after = after.clamp(0, last);
    let sql = "SELECT seq FROM job_logs WHERE job_id = ?1 AND seq > ?2
               ORDER BY seq DESC LIMIT 1 OFFSET ?3";
    let before_kept: Option<i64> =
        first(connection, sql, params![job, after, most], |row| row.get(0))?;

    Ok(match before_kept {
        Some(seq) => Replay {
            after: seq,
            dropped: seq - after,
        },
        None => Replay { after, dropped: 0 },
    })
}

/// The seq of a job's last line.
pub fn last_line(connection: &Connection, job: JobId) -> Result<Option<String>> {
    let sql = "SELECT line FROM job_logs WHERE job_id = ?1 ORDER BY seq DESC LIMIT 1";
    first(connection, sql, [job], |row| text(row, 0))
}

/// A snapshot of what can end a subscriber's right to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    newest_session: i64,
    sessions: i64,
    newest_token: i64,
    tokens: i64,
    users: i64,
    changed: i64,
}

/// Whether a session or token in `known` has ended since, or a user was changed; returns the
/// current snapshot too. A new session or token takes no right away. Reads the active sessions, all
/// tokens and all users.
pub fn rights_lost(connection: &Connection, known: Rights) -> Result<(bool, Rights)> {
    let sql = "SELECT s.newest, s.live, s.known, t.newest, t.live, t.known, u.*
               FROM (SELECT coalesce(max(id), 0) AS newest, count(*) AS live, count(*) FILTER
               (WHERE id <= ?1) AS known FROM sessions
               WHERE ended_at IS NULL) s, (SELECT coalesce(max(id), 0) AS newest,
               count(*) AS live, count(*) FILTER (WHERE id <= ?2) AS known FROM tokens
               WHERE revoked_at IS NULL) t, (SELECT count(*), coalesce(sum(updated_at), 0)
               FROM users) u";
    one(
        connection,
        sql,
        params![known.newest_session, known.newest_token],
        |row| {
            let now = Rights {
                newest_session: row.get(0)?,
                sessions: row.get(1)?,
                newest_token: row.get(3)?,
                tokens: row.get(4)?,
                users: row.get(6)?,
                changed: row.get(7)?,
            };

            let kept: (i64, i64) = (row.get(2)?, row.get(5)?);
            let same = kept == (known.sessions, known.tokens)
                && (now.users, now.changed) == (known.users, known.changed);
            Ok((!same, now))
        },
    )
}

/// Detects changes of a server's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerVersion {
    pub id: ServerId,
    pub owner: UserId,
    version: i64,
    updated_at: i64,
}

/// The versions of all servers.
pub fn server_versions(connection: &Connection) -> Result<Vec<ServerVersion>> {
    let sql = "SELECT id, user_id, version, updated_at FROM servers";
    query(connection, sql, [], |row| {
        Ok(ServerVersion {
            id: row.get(0)?,
            owner: row.get(1)?,
            version: row.get(2)?,
            updated_at: row.get(3)?,
        })
    })
}

/// Detects changes of a running job and its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobVersion {
    pub id: JobId,
    /// Whether its log reports a percentage.
    pub installs: bool,
    state: String,
    /// Counts of tasks that have started, that are being cancelled, that have ended. No change of
    /// the tasks leaves all three the same.
    tasks: (i64, i64, i64),
}

/// The versions of the jobs that are running or being cancelled.
pub fn job_versions(connection: &Connection) -> Result<Vec<JobVersion>> {
    let sql = "SELECT j.id, j.operation IN ('install', 'update'), j.state, count(t.started_at),
               count(*) FILTER (WHERE t.state = 'cancelling'), count(t.finished_at) FROM jobs j
               LEFT JOIN tasks t ON t.job_id = j.id WHERE j.state IN ('running', 'cancelling')
               GROUP BY j.id";
    query(connection, sql, [], |row| {
        let tasks = (row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(JobVersion {
            id: row.get(0)?,
            installs: row.get(1)?,
            state: text(row, 2)?,
            tasks,
        })
    })
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    pub id: i64,
    /// `job.queued`, `queue.paused`, …
    pub kind: String,
    pub job: Option<JobId>,
    pub server: Option<ServerId>,
}

/// The events after `after`, oldest first, at most `limit`. Every transition of a job
/// has its event.
pub fn events_after(connection: &Connection, after: i64, limit: u32) -> Result<Vec<FeedEvent>> {
    let sql = "SELECT id, kind, job_id, server_id FROM events WHERE id > ?1 ORDER BY id LIMIT ?2";
    query(connection, sql, params![after, limit], |row| {
        let (job, server) = (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(3)?);
        Ok(FeedEvent {
            id: row.get(0)?,
            kind: text(row, 1)?,
            job: job.map(JobId),
            server: server.map(ServerId),
        })
    })
}

/// What changes whenever something of the fleet does that pages show; all zero without a fleet.
pub fn fleet_version(connection: &Connection) -> Result<[i64; 5]> {
    let sql = "SELECT (SELECT coalesce(max(status_received_at), 0) FROM fleet_hosts),
                      (SELECT coalesce(max(roster + noise + coalesce(connected_since, 0)), 0) FROM fleet_self),
                      (SELECT coalesce(max(at), 0) FROM fleet_events),
                      (SELECT count(*) FROM fleet_orders_out WHERE settled_at IS NULL),
                      (SELECT coalesce(max(updated_at), 0) FROM fleet_orders_out WHERE settled_at IS NULL)";
    one(connection, sql, [], |row| {
        Ok([
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
        ])
    })
}

/// The last event's id; 0 without events.
pub fn last_event(connection: &Connection) -> Result<i64> {
    let sql = "SELECT coalesce(max(id), 0) FROM events";
    one(connection, sql, [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn only_what_ends_a_session_a_token_or_a_user_takes_rights_away() {
        let db = with_servers(0);
        let mut known = rights_lost(&db, Rights::default()).unwrap().1;
        let mut lost = |sql: &str| {
            db.execute_batch(sql).unwrap();
            let (lost, now) = rights_lost(&db, known).unwrap();
            known = now;
            lost
        };

        let session = "INSERT INTO sessions (user_id, hash, created_at, last_seen_at, expires_at)
                       VALUES (1, randomblob(32), 1, 1, 9)";
        let token = "INSERT INTO tokens (user_id, name, hash, created_at)
                     VALUES (1, 'x', randomblob(32), 1)";

        assert!(!lost(session) && !lost(session) && !lost(token));
        assert!(!lost(
            "UPDATE sessions SET last_seen_at = 5; UPDATE tokens SET last_used_at = 5"
        ));
        assert!(lost("UPDATE sessions SET ended_at = 5 WHERE id = 1") && !lost(""));
        assert!(
            lost(&format!(
                "UPDATE sessions SET ended_at = 5 WHERE id = 2; {session}"
            )),
            "one ends, one begins"
        );

        assert!(
            lost("UPDATE tokens SET revoked_at = 5")
                && lost("UPDATE users SET disabled_at = 5, updated_at = 5")
        );

        assert!(!lost(session) && lost("DELETE FROM sessions"));
    }

    #[test]
    fn a_replay_keeps_the_last_lines_and_counts_what_it_leaves_out() {
        let db = with_servers(0);
        db.execute_batch(
            "INSERT INTO jobs (operation, requested_by, created_at, updated_at)
             VALUES ('x', 'x', 1, 1)",
        )
        .unwrap();

        for _ in 0..10 {
            crate::db::logs::append(&db, JobId(1), 1, crate::wire::Stream::Stdout, "x").unwrap();
        }

        let replay = |after, most| {
            replay(&db, JobId(1), after, most)
                .map(|r| (r.after, r.dropped))
                .unwrap()
        };

        assert_eq!(
            [replay(0, 10), replay(0, 4), replay(5, 4), replay(6, 4)],
            [(0, 0), (6, 6), (6, 1), (6, 0)]
        );

        assert_eq!(
            [replay(99, 4), replay(10, 4), replay(-1, 0)],
            [(10, 0), (10, 0), (10, 10)]
        );
    }
}
