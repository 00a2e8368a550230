//! Events: what happened and who did it. Rows are only added, never changed.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{JobId, ServerId, TaskId};
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::outbox::{self, About};
use crate::db::{first, query, run, text};

/// The actor of changes made outside left4me: by systemd itself, or with systemctl.
pub const OUTSIDE: &str = "outside";

/// A command for a game's console. Its event is committed before it is sent.
pub const COMMAND: &str = "server.command";

/// Of each server's crashes and failures, this many newest ones keep their journal lines.
const RETENTION: i64 = 20;

/// Of each server's commands, this many newest ones keep their replies.
const REPLIES: i64 = 100;

/// The history of a server is searched in this many of its newest events, most of which are about
/// its jobs.
const SEARCHED: i64 = 5000;

#[derive(Clone, Copy, Debug, Default)]
pub struct NewEvent<'a> {
    /// What happened, such as `job.failed` or `server.created`.
    pub kind: &'a str,
    /// Who did it: a person's name, or a program's.
    pub actor: &'a str,
    /// The job it is about.
    pub job: Option<JobId>,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// The server it is about.
    pub server: Option<ServerId>,
    /// The order it is about, in a fleet.
    pub order: Option<Ulid>,
    pub detail: &'a str,
    pub reason: &'a str,
}

impl<'a> NewEvent<'a> {
    /// An event that is about no job, task or server.
    pub fn new(kind: &'a str, actor: &'a str, detail: &'a str) -> Self {
        Self {
            kind,
            actor,
            detail,
            ..Self::default()
        }
    }
}

/// Adds one event, in the transaction of the change that it describes, and the outbox rows of the
/// alerts that listen for it.
pub fn add(connection: &Connection, now: i64, event: &NewEvent<'_>) -> Result<()> {
    add_with_id(connection, now, event).map(drop)
}

/// The same; returns the event's id.
fn add_with_id(connection: &Connection, now: i64, event: &NewEvent<'_>) -> Result<i64> {
    let sql =
        "INSERT INTO events (at, kind, actor, job_id, task_id, server_id, detail, reason, order_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    run(
        connection,
        sql,
        params![
            now,
            event.kind,
            event.actor,
            event.job,
            event.task,
            event.server,
            event.detail,
            event.reason,
            event.order
        ],
    )?;

    // Not later: the outbox gets rows, too.
    let id = connection.last_insert_rowid();
    let about = About {
        event: id,
        kind: event.kind,
        job: event.job,
        server: event.server,
    };
    outbox::fill(connection, now, about)?;
    Ok(id)
}

/// Adds the event of a command for a server's console; returns its id.
pub fn add_command(
    tx: &Connection,
    now: i64,
    actor: &str,
    server: ServerId,
    command: &str,
    reason: &str,
) -> Result<i64> {
    let event = NewEvent {
        server: Some(server),
        reason,
        ..NewEvent::new(COMMAND, actor, command)
    };
    add_with_id(tx, now, &event)
}

/// The server that an event about these is shown with: an event has one or none.
pub fn only_server(servers: &[ServerId]) -> Option<ServerId> {
    match *servers {
        [one] => Some(one),
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The row; grows with time.
    pub id: i64,
    /// Unix ms.
    pub at: i64,
    /// `job.queued`, `task.cancelled`, `server.drifted`, `queue.paused`, …
    pub kind: String,
    /// Who did it: a person's name, a program's, or `outside`.
    pub actor: String,
    /// The job it is about.
    pub job_id: Option<JobId>,
    /// The task it is about.
    pub task_id: Option<TaskId>,
    /// The server it is about.
    pub server_id: Option<ServerId>,
    pub detail: String,
    /// The actor's reason; empty when none was given.
    pub reason: String,
}

/// The columns of an [`Event`].
pub(super) const EVENT: &str = "id, at, kind, actor, job_id, task_id, server_id, detail, reason";

/// Reads the columns [`EVENT`].
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: row.get(0)?,
        at: row.get(1)?,
        kind: text(row, 2)?,
        actor: text(row, 3)?,
        job_id: row.get(4)?,
        task_id: row.get(5)?,
        server_id: row.get(6)?,
        detail: text(row, 7)?,
        reason: text(row, 8)?,
    })
}

/// Events after `after`, oldest first, of one job or of all.
pub fn after(
    connection: &Connection,
    job: Option<JobId>,
    after: i64,
    limit: u32,
) -> Result<Vec<Event>> {
    let whose = of_job(job);
    let sql = format!("SELECT {EVENT} FROM events WHERE {whose} AND id > ?2 ORDER BY id LIMIT ?3");
    query(connection, &sql, params![job, after, limit], event)
}

/// The last `limit` events, oldest first, of one job or of all.
pub fn last(connection: &Connection, job: Option<JobId>, limit: u32) -> Result<Vec<Event>> {
    let whose = of_job(job);
    let sql = format!(
        "SELECT {EVENT} FROM (SELECT {EVENT} FROM events WHERE {whose} ORDER BY id DESC LIMIT ?2)
         ORDER BY id"
    );
    query(connection, &sql, params![job, limit], event)
}

/// A condition for the events of job ?1, or of all jobs.
fn of_job(job: Option<JobId>) -> &'static str {
    job.map_or("?1 IS NULL", |_| "job_id = ?1")
}

/// Something that happened to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerEvent {
    pub id: i64,
    /// Unix ms.
    pub at: i64,
    /// `server.started`, `server.crashed`, `server.stopped`, `server.failed`, `server.drifted`,
    /// `server.drift_ended`, …
    pub kind: String,
    /// `job 7`, or `outside`.
    pub cause: String,
    /// Who requested that job; `outside` without one.
    pub actor: String,
    /// The job that caused it.
    pub job_id: Option<JobId>,
    pub detail: String,
    /// The unit's last journal lines, oldest first, for crashes and failures; for a command the
    /// game's reply.
    pub journal: Vec<String>,
}

/// What happened to a server, newest first, among the last [`SEARCHED`] events about it.
pub fn of_server(
    connection: &Connection,
    server: ServerId,
    limit: u32,
) -> Result<Vec<ServerEvent>> {
    let sql = "SELECT e.id, e.at, e.kind, e.actor, e.job_id, e.detail, j.lines
         FROM (SELECT * FROM events WHERE server_id = ?1 ORDER BY id DESC LIMIT ?3) e
         LEFT JOIN event_journal j ON j.event_id = e.id
         WHERE e.kind LIKE 'server.%' ORDER BY e.id DESC LIMIT ?2";
    query(
        connection,
        sql,
        params![server, limit, SEARCHED],
        server_event,
    )
}

/// The command of a server that has this event, with its reply.
pub fn command(connection: &Connection, server: ServerId, id: i64) -> Result<Option<ServerEvent>> {
    let sql = "SELECT e.id, e.at, e.kind, e.actor, e.job_id, e.detail, j.lines
         FROM events e LEFT JOIN event_journal j ON j.event_id = e.id
         WHERE e.id = ?1 AND e.server_id = ?2 AND e.kind = ?3";
    first(connection, sql, params![id, server, COMMAND], server_event)
}

/// Reads an event with its lines.
fn server_event(row: &Row<'_>) -> rusqlite::Result<ServerEvent> {
    let job_id: Option<JobId> = row.get(4)?;
    let actor = text(row, 3)?;
    let lines: Option<String> = row.get(6)?;

    Ok(ServerEvent {
        id: row.get(0)?,
        at: row.get(1)?,
        kind: text(row, 2)?,
        cause: job_id.map_or_else(|| actor.clone(), |job| format!("job {job}")),
        actor,
        job_id,
        detail: text(row, 5)?,
        journal: lines
            .and_then(|lines| serde_json::from_str(&lines).ok())
            .unwrap_or_default(),
    })
}

/// Crashes and failures after `since` that have no journal lines yet, newest first: event and
/// server.
pub fn without_journal(
    connection: &Connection,
    since: i64,
    limit: u32,
) -> Result<Vec<(i64, ServerId)>> {
    // Scans the primary key backwards, so that old events are not read.
    let sql = "SELECT id, server_id FROM events
         WHERE id > (SELECT coalesce(max(id), 0) - 2000 FROM events) AND at >= ?1
           AND kind IN ('server.crashed', 'server.failed') AND server_id IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM event_journal j WHERE j.event_id = events.id)
         ORDER BY id DESC LIMIT ?2";
    query(connection, sql, params![since, limit], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// Stores the last journal lines of a crash or failure. Those of the server's oldest ones are
/// deleted, so that a crash loop does not fill the disk.
pub fn keep_journal(tx: &Connection, event: i64, server: ServerId, lines: &[String]) -> Result<()> {
    keep_lines(tx, event, lines)?;
    forget_lines(tx, server, "e.kind <> 'server.command'", RETENTION)
}

/// Stores the reply to a command. Those of the server's oldest commands are deleted.
pub fn keep_reply(tx: &Connection, event: i64, server: ServerId, lines: &[String]) -> Result<()> {
    keep_lines(tx, event, lines)?;
    forget_lines(tx, server, "e.kind = 'server.command'", REPLIES)
}

fn keep_lines(tx: &Connection, event: i64, lines: &[String]) -> Result<()> {
    let lines = serde_json::to_string(lines)
        .map_err(|error| Error::failed(format!("lines of event {event}: {error}")))?;
    let sql = "INSERT OR IGNORE INTO event_journal (event_id, lines) SELECT id, ?2 FROM events
               WHERE id = ?1";
    run(tx, sql, params![event, lines])
}

/// Deletes the lines of a server's events that fit `kind`, except for the `kept` newest.
fn forget_lines(tx: &Connection, server: ServerId, kind: &str, kept: i64) -> Result<()> {
    // Without lines an empty list is stored, so that they are not requested again.
    let sql = format!(
        "UPDATE event_journal SET lines = '[]' WHERE lines <> '[]' AND event_id IN (
             SELECT e.id FROM events e JOIN event_journal j ON j.event_id = e.id
             WHERE e.server_id = ?1 AND {kind} ORDER BY e.id DESC LIMIT 64 OFFSET ?2)"
    );
    run(tx, &sql, params![server, kept])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn replies_to_commands_do_not_displace_the_output_before_a_crash() {
        let (tx, server) = (&with_servers(1), ServerId(1));
        let crash = NewEvent {
            server: Some(server),
            ..NewEvent::new("server.crashed", OUTSIDE, "")
        };
        add(tx, 1, &crash).unwrap();
        keep_journal(tx, tx.last_insert_rowid(), server, &["boom".to_owned()]).unwrap();

        for number in 0..REPLIES + 5 {
            let command = format!("say {number}");
            let event = add_command(tx, 2, "anna", server, &command, "").unwrap();
            keep_reply(tx, event, server, &[format!("said {number}")]).unwrap();
        }

        let history = of_server(tx, server, 1000).unwrap();
        let kept = |kind: &str| {
            let of_kind = history.iter().filter(|event| event.kind == kind);
            of_kind.filter(|event| !event.journal.is_empty()).count() as i64
        };
        assert_eq!((kept(COMMAND), kept("server.crashed")), (REPLIES, 1));

        let last = &history[0];
        assert_eq!(last.journal, ["said 104"]);
        assert_eq!((&*last.detail, &*last.cause), ("say 104", "anna"));

        let found = |server, id| command(tx, server, id).unwrap();
        assert_eq!(found(server, last.id).as_ref(), Some(last));
        assert_eq!(found(ServerId(2), last.id), None, "of another server");
        let crash = history.iter().find(|event| event.kind != COMMAND).unwrap();
        assert_eq!(found(server, crash.id), None, "no command");
    }
}
