//! What jobs wait for. A queued job with `on_hold = 1` waits for its condition; it holds no slot and
//! no server. `domain/condition` decides by the rows that this file reads.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::clock;
use crate::base::names::{JobId, ServerId};
use crate::base::{Error, Result};
use crate::db::{
    changes, exists, first, one, poll, query, run, text, text_or_null, update_options,
};
use crate::domain::condition::hold::{self, Done, Doubt, Hold, Occupancy, ServerSeen};
use crate::domain::condition::warning::Warnings;
use crate::domain::condition::{AtDeadline, Condition, Deadline};
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;

/// So many jobs may wait for a condition at once. Each of them is judged at each poll.
const MOST: i64 = 1000;

/// An answer that is so much older than the last poll, ms, is not from that poll.
const POLL_TAKES: i64 = 60_000;

/// Without a poll for so long, ms, nothing is known. The longest pause between polls is an hour.
const NO_POLL: i64 = 2 * 3_600_000;

/// A job's condition, as `--json` and the API show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JobCondition {
    /// It goes ahead as soon as nobody plays on any of its servers.
    pub when_empty: bool,
    /// When it stops waiting, unix ms.
    pub until: Option<i64>,
    /// What it does then.
    pub then: Option<AtDeadline>,
    /// When players are warned: seconds before `until`, descending.
    pub warn: Vec<i64>,
    /// The text of the warnings; `null` for the operation's own.
    pub warn_text: Option<String>,
}

impl JobCondition {
    /// `when empty, until 06:00, then go, players are warned 3 times`
    pub fn message(&self, now: i64) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.when_empty.then(|| "when empty".to_owned()));
        if let (Some(at), Some(then)) = (self.until, self.then) {
            parts.push(format!("until {}, then {then}", clock::minute(at, now)));
        }
        parts.extend(match self.warn.len() {
            0 => None,
            1 => Some("players are warned once".to_owned()),
            times => Some(format!("players are warned {times} times")),
        });
        parts.join(", ")
    }
}

impl From<Condition> for JobCondition {
    fn from(condition: Condition) -> Self {
        let deadline = condition.deadline.as_ref();
        Self {
            when_empty: condition.when_empty,
            until: deadline.map(|deadline| deadline.at),
            then: deadline.map(|deadline| deadline.then),
            warn: condition
                .warnings
                .before()
                .iter()
                .map(|ms| ms / 1000)
                .collect(),
            warn_text: condition.warnings.text().map(str::to_owned),
        }
    }
}

/// Whether one more job may wait. Asked before the job is inserted: a refusal leaves nothing.
///
/// Fails with 4 if too many wait already.
pub fn check_room(tx: &Connection) -> Result<()> {
    let others = count(tx)?;
    if others >= MOST {
        return Err(Error::conflict(format!(
            "{others} jobs wait for a condition already: cancel some of them first \
             (`left4me-job list --state queued`)"
        )));
    }
    Ok(())
}

/// Stores the condition of a job that was inserted on hold. Warnings whose time is over at `now`
/// count as said.
///
/// Fails with 4 if too many jobs wait already.
pub fn insert(tx: &Connection, job: JobId, condition: &Condition, now: i64) -> Result<()> {
    let (deadline, warnings) = (condition.deadline.as_ref(), &condition.warnings);
    let before = serde_json::to_string(warnings.before()).unwrap_or_default();
    let missed = deadline.map_or(0, |deadline| warnings.missed(deadline.at - now));
    let missed = i64::try_from(missed).unwrap_or(0);
    let sql = "INSERT INTO job_conditions (job_id, when_empty, until_at, until_asked, at_deadline,
                   warn, warn_text, warned)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    run(
        tx,
        sql,
        params![
            job,
            condition.when_empty,
            deadline.map(|deadline| deadline.at),
            deadline.map(|deadline| deadline.asked.as_str()),
            deadline.map(|deadline| deadline.then.as_str()),
            before,
            warnings.text(),
            missed
        ],
    )
}

const COLUMNS: &str = "c.when_empty, c.until_at, c.until_asked, c.at_deadline, c.warn, c.warn_text";

/// Reads [`COLUMNS`]. A job on hold without a row, or with a damaged one, waits until it is empty.
fn condition(row: &Row<'_>) -> rusqlite::Result<Condition> {
    let deadline = match (row.get(1)?, text_or_null(row, 2)?, text_or_null(row, 3)?) {
        (Some(at), asked, Some(then)) => AtDeadline::parse(&then).map(|then| Deadline {
            at,
            asked: asked.unwrap_or_default(),
            then,
        }),
        _ => None,
    };

    let before: Option<Vec<i64>> =
        text_or_null(row, 4)?.and_then(|list| serde_json::from_str(&list).ok());
    Ok(Condition {
        when_empty: row.get::<_, Option<bool>>(0)?.unwrap_or(true),
        deadline,
        warnings: Warnings::from_row(before.unwrap_or_default(), text_or_null(row, 5)?),
    })
}

/// The condition of a job, whether it still waits or not.
pub fn of(connection: &Connection, job: JobId) -> Result<Option<Condition>> {
    let sql = format!("SELECT {COLUMNS} FROM job_conditions c WHERE c.job_id = ?1");
    first(connection, &sql, [job], condition)
}

/// A job that waits for its condition.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub id: JobId,
    /// None for an unknown word.
    pub operation: Option<Operation>,
    pub requested_by: String,
    pub hold: Hold,
    /// Its servers, in the order of `hold.servers`. Those of a job for the game files are all.
    pub servers: Vec<WaitingServer>,
    /// How many warnings are said or left out.
    pub said: usize,
    pub confirmed_at: Option<i64>,
}

/// A server of a waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingServer {
    pub id: ServerId,
    pub port: u16,
}

impl Waiting {
    /// What it waits for, in words.
    pub fn message(&self, now: i64) -> String {
        let deadline = self.hold.condition.deadline.as_ref();
        let until = deadline.map(|deadline| clock::minute(deadline.at, now));
        self.hold.waiting(until.as_deref())
    }
}

/// The jobs that wait for their conditions, oldest first, as they are at `now` (unix ms). Bounded:
/// at most a thousand.
pub fn waiting(connection: &Connection, now: i64) -> Result<Vec<Waiting>> {
    let sql = "SELECT id FROM jobs WHERE on_hold = 1 ORDER BY id";
    let ids: Vec<JobId> = query(connection, sql, [], |row| row.get(0))?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }

    let fresh_since = fresh_since(connection, now)?;
    let found = ids
        .into_iter()
        .map(|id| one_waiting(connection, id, fresh_since));
    Ok(found
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// What a job waits for, in words; none unless it waits for a condition.
pub fn message(connection: &Connection, job: JobId, now: i64) -> Result<Option<String>> {
    let waiting = one_waiting(connection, job, fresh_since(connection, now)?)?;
    Ok(waiting.map(|waiting| waiting.message(now)))
}

/// A job that waits for its condition, if it does.
pub fn get(connection: &Connection, job: JobId, now: i64) -> Result<Option<Waiting>> {
    one_waiting(connection, job, fresh_since(connection, now)?)
}

fn one_waiting(connection: &Connection, job: JobId, fresh_since: i64) -> Result<Option<Waiting>> {
    let sql = format!(
        "SELECT {COLUMNS}, j.operation, j.requested_by, coalesce(c.warned, 0), c.confirmed_at,
         c.doubted_at, c.doubt FROM jobs j LEFT JOIN job_conditions c ON c.job_id = j.id
         WHERE j.id = ?1 AND j.on_hold = 1"
    );
    let found = first(connection, &sql, [job], |row| {
        let doubt = match (row.get(10)?, text_or_null(row, 11)?) {
            (Some(at), Some(why)) => Some(Doubt { at, why }),
            _ => None,
        };
        Ok((
            condition(row)?,
            Operation::parse(&text(row, 6)?),
            text(row, 7)?,
            row.get::<_, i64>(8)?,
            row.get(9)?,
            doubt,
        ))
    })?;
    let Some((condition, operation, requested_by, said, confirmed_at, doubt)) = found else {
        return Ok(None);
    };

    let is_exclusive = operation.is_some_and(Operation::is_exclusive);
    let (servers, seen) = match is_exclusive {
        true => all_servers(connection)?,
        false => servers_of(connection, job)?,
    };
    let void = match operation {
        Some(operation) => {
            let ids: Vec<ServerId> = servers.iter().map(|server| server.id).collect();
            hold::void(operation, &later(connection, job, operation, &ids)?)
        }
        None => None,
    };

    Ok(Some(Waiting {
        id: job,
        operation,
        requested_by,
        hold: Hold {
            condition,
            servers: seen,
            doubt,
            fresh_since,
            void,
        },
        servers,
        said: usize::try_from(said).unwrap_or(0),
        confirmed_at,
    }))
}

/// The moment before which what was seen is old: about when the last poll began.
fn fresh_since(connection: &Connection, now: i64) -> Result<i64> {
    let polled_at = poll::last(connection)?.polled_at;
    let last = polled_at.map_or(now, |at| at.min(now)) - POLL_TAKES;
    Ok(last.max(now - NO_POLL))
}

/// `SELECT` of servers with what was seen of them, followed by `$from`.
macro_rules! seen {
    ($from:literal) => {
        concat!(
            "SELECT s.id, s.port, s.name, s.actual_state, s.actual_state_updated_at, g.players,
             g.answered_at, coalesce(g.unanswered, 0) FROM ",
            $from,
            " LEFT JOIN server_game g ON g.server_id = s.id ORDER BY s.id"
        )
    };
}

type Servers = (Vec<WaitingServer>, Vec<ServerSeen>);

fn all_servers(connection: &Connection) -> Result<Servers> {
    let rows = query(connection, seen!("servers s"), [], server)?;
    Ok(rows.into_iter().unzip())
}

fn servers_of(connection: &Connection, job: JobId) -> Result<Servers> {
    let sql = seen!(
        "(SELECT server_id FROM job_targets WHERE job_id = ?1) t
                     JOIN servers s ON s.id = t.server_id"
    );
    let rows = query(connection, sql, [job], server)?;
    Ok(rows.into_iter().unzip())
}

fn server(row: &Row<'_>) -> rusqlite::Result<(WaitingServer, ServerSeen)> {
    let of = WaitingServer {
        id: row.get(0)?,
        port: row.get(1)?,
    };
    let seen = ServerSeen {
        name: text(row, 2)?,
        actual: row.get(3)?,
        polled_at: row.get(4)?,
        players: row.get(5)?,
        answered_at: row.get(6)?,
        unanswered: row.get(7)?,
    };
    Ok((of, seen))
}

/// For each server the jobs that were accepted after `job` and have succeeded; one list for a job
/// for the game files.
fn later(
    connection: &Connection,
    job: JobId,
    operation: Operation,
    servers: &[ServerId],
) -> Result<Vec<Vec<Done>>> {
    let done = |row: &Row<'_>| {
        let operation = Operation::parse(&text(row, 1)?);
        Ok((row.get(0)?, operation))
    };
    let known = |rows: Vec<(JobId, Option<Operation>)>| -> Vec<Done> {
        let known = |(id, operation): (JobId, Option<Operation>)| {
            operation.map(|operation| Done { id, operation })
        };
        rows.into_iter().filter_map(known).collect()
    };

    if operation.is_exclusive() {
        // An update that asks first may have had nothing to do. It replaces none that repairs files.
        let sql = "SELECT id, operation FROM jobs
                   WHERE id > ?1 AND state = 'succeeded' AND operation = ?2
                     AND (?3 OR options ->> 'validate' = 1)
                   LIMIT 1";
        let asks = !update_options::of(connection, job)?.validate;
        let rows = query(
            connection,
            sql,
            params![job, operation.as_str(), asks],
            done,
        )?;
        return Ok(vec![known(rows)]);
    }

    let sql = "SELECT j.id, j.operation FROM job_targets t CROSS JOIN jobs j ON j.id = t.job_id
               WHERE t.server_id = ?1 AND t.job_id > ?2 AND j.state = 'succeeded'
               ORDER BY t.job_id";
    let of_server = |&server: &ServerId| {
        let rows = query(connection, sql, params![server, job], done)?;
        Ok(known(rows))
    };
    servers.iter().map(of_server).collect()
}

/// The servers of a job that waited for which it is pointless, and why: since it was accepted, they
/// were stopped, for instance.
pub fn served(
    connection: &Connection,
    job: JobId,
    operation: Operation,
    servers: &[ServerId],
) -> Result<Vec<(ServerId, String)>> {
    if operation.is_exclusive() {
        return Ok(Vec::new());
    }
    let later = later(connection, job, operation, servers)?;
    let both = servers.iter().zip(&later);
    let reason = |(&server, later): (&ServerId, &Vec<Done>)| {
        hold::served(operation, later).map(|why| (server, why))
    };
    Ok(both.filter_map(reason).collect())
}

/// Who plays on these servers, or on all; none if nobody is known to.
pub fn playing(
    connection: &Connection,
    servers: Option<&[ServerId]>,
    now: i64,
) -> Result<Option<String>> {
    let fresh_since = fresh_since(connection, now)?;
    let (all, seen) = all_servers(connection)?;
    let is_meant = |server: &WaitingServer| servers.is_none_or(|ids| ids.contains(&server.id));
    let meant = all.iter().zip(&seen).filter(|(server, _)| is_meant(server));
    let occupancies = meant.map(|(_, seen)| (seen.name.as_str(), seen.occupancy(fresh_since)));
    let playing: Vec<_> = occupancies
        .filter(|(_, occupancy)| matches!(occupancy, Occupancy::Players(_)))
        .collect();

    let is_empty = playing.is_empty();
    Ok((!is_empty).then(|| hold::occupied(playing.into_iter())))
}

/// The running servers that a stop may take from somebody: who plays on each, or that it is not
/// known, in words.
pub fn occupied(connection: &Connection, now: i64) -> Result<Vec<(ServerId, String)>> {
    let fresh_since = fresh_since(connection, now)?;
    let (all, seen) = all_servers(connection)?;
    let running = all.iter().zip(&seen);
    let running = running.filter(|(_, seen)| seen.actual == ActualState::Running);
    let occupied = running.filter_map(|(server, seen)| {
        let occupancy = seen.occupancy(fresh_since);
        let name = seen.name.as_str();
        (occupancy != Occupancy::Empty)
            .then(|| (server.id, hold::occupied([(name, occupancy)].into_iter())))
    });
    Ok(occupied.collect())
}

/// How many jobs wait for their conditions.
pub fn count(connection: &Connection) -> Result<i64> {
    let sql = "SELECT count(*) FROM jobs WHERE on_hold = 1";
    one(connection, sql, [], |row| row.get(0))
}

/// How many jobs wait until their servers are empty, until a time, or for whichever comes first.
pub fn counts(connection: &Connection) -> Result<BTreeMap<&'static str, u64>> {
    let sql = "SELECT c.when_empty, c.until_at IS NOT NULL, count(*) FROM jobs j
               CROSS JOIN job_conditions c ON c.job_id = j.id WHERE j.on_hold = 1 GROUP BY 1, 2";
    let rows: Vec<(bool, bool, i64)> = query(connection, sql, [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;

    let mut counts: BTreeMap<_, _> = ["when-empty", "when-empty-until", "until"]
        .map(|word| (word, 0))
        .into();
    for (when_empty, has_time, count) in rows {
        let word = match (when_empty, has_time) {
            (true, false) => "when-empty",
            (true, true) => "when-empty-until",
            (false, _) => "until",
        };
        counts.insert(word, u64::try_from(count).unwrap_or(0));
    }
    Ok(counts)
}

/// Whether a job waits for its condition; cheaper than [`count`].
pub fn any(connection: &Connection) -> Result<bool> {
    exists(connection, "SELECT 1 FROM jobs WHERE on_hold = 1", [])
}

/// The oldest job of a server that waits for its condition.
pub fn of_server(connection: &Connection, server: ServerId) -> Result<Option<JobId>> {
    let sql = "SELECT j.id FROM jobs j CROSS JOIN job_targets t ON t.job_id = j.id
               WHERE j.on_hold = 1 AND t.server_id = ?1 ORDER BY j.id LIMIT 1";
    first(connection, sql, [server], |row| row.get(0))
}

/// How many warnings of a job are said from now on. False if others have been said since.
pub fn set_said(tx: &Connection, job: JobId, before: usize, said: usize) -> Result<bool> {
    let [before, said] = [before, said].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let sql = "UPDATE job_conditions SET warned = ?3 WHERE job_id = ?1 AND warned = ?2
               AND EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND on_hold = 1)";
    changes(tx, sql, params![job, before, said])
}

/// Records that the game answered at `at` that nobody plays on any server of the job.
pub fn confirm(tx: &Connection, job: JobId, at: i64) -> Result<()> {
    let sql = "UPDATE job_conditions SET confirmed_at = ?2, doubted_at = NULL, doubt = NULL
               WHERE job_id = ?1";
    run(tx, sql, params![job, at])
}

/// Records that it did not, and what was found: answers up to `at` no longer count.
pub fn doubt(tx: &Connection, job: JobId, at: i64, why: &str) -> Result<()> {
    let sql = "UPDATE job_conditions SET confirmed_at = NULL, doubted_at = ?2, doubt = ?3
               WHERE job_id = ?1";
    run(tx, sql, params![job, at, why])
}

/// Records when the job stopped waiting.
pub fn set_released(tx: &Connection, job: JobId, now: i64) -> Result<()> {
    let sql = "UPDATE job_conditions SET released_at = ?2 WHERE job_id = ?1";
    run(tx, sql, params![job, now])
}
