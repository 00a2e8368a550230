//! Schedules: what is done at set times. The rows are the truth; systemd's timers are made from
//! them.

use std::num::NonZeroU16;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{BadName, JobId, ScheduleId, ServerId, UserId};
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::{changes, first, one, query, run, text, text_or_null};
use crate::domain::condition::warning::Warnings;
use crate::domain::condition::{AtDeadline, ConditionRequest};
use crate::domain::job::JobState;
use crate::domain::scheduled::{ScheduleState, ScheduledOperation};

/// A schedule, as `--json` and the API show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Schedule {
    /// The row's id; also the instance of its timer, `left4me-schedule@ID.timer`.
    pub id: ScheduleId,
    /// What it does.
    pub operation: ScheduledOperation,
    /// Its servers, ascending; none for an update, a backup, or all servers.
    pub servers: Vec<ServerId>,
    /// Whether it is for all servers that exist when it runs.
    pub all: bool,
    /// When it runs, in systemd's syntax: `*-*-* 05:00:00`.
    pub on: String,
    /// The time zone of that, such as `Europe/Berlin`; `null` for the host's own.
    pub zone: Option<String>,
    /// Whether a run that was missed while the host was off is made up for, once.
    pub persistent: bool,
    /// Whether it is paused: it does not run until it is resumed.
    pub paused: bool,
    /// At most so many servers at a time.
    #[schema(value_type = Option<u16>, minimum = 1)]
    pub rolling: Option<NonZeroU16>,
    /// For an update: whether no server is restarted. Each takes the build at its next start.
    pub no_restart: bool,
    /// What each of its jobs waits for.
    pub condition: Option<ScheduledCondition>,
    /// The account whose rights it has; `null` if it was made on the host's command line.
    pub owner: Option<UserId>,
    /// Unix ms.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ran last, unix ms.
    pub last_run_at: Option<i64>,
    /// The job of the last run; `null` for a backup, and if the run failed before there was one.
    pub last_job_id: Option<JobId>,
    /// The state of that job; `null` if the job has been removed since.
    pub last_job_state: Option<JobState>,
    /// Why the last run failed.
    pub last_error: Option<String>,
    /// When it runs next, unix ms; `null` while it is paused, and if that time never comes.
    pub next_at: Option<i64>,
    /// Why systemd has no timer for it.
    pub timer_error: Option<String>,
    /// When it was added or resumed, unix ms.
    #[serde(skip)]
    pub since: i64,
}

impl Schedule {
    /// `schedule 3: restart, *-*-* 05:00:00 Europe/Berlin`
    fn message(&self) -> String {
        let (id, operation) = (self.id, self.operation);
        format!("schedule {id}: {operation}, {}", self.when())
    }

    /// `*-*-* 05:00:00 Europe/Berlin`, as systemd reads it.
    pub fn when(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{} {zone}", self.on),
            None => self.on.clone(),
        }
    }
}

/// What the jobs of a schedule wait for, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ScheduledCondition {
    /// A job goes ahead as soon as nobody plays on any of its servers.
    pub when_empty: bool,
    /// When it stops waiting: a time of day in the schedule's zone, or a duration after its start.
    pub until: Option<String>,
    /// What it does then.
    pub then: Option<AtDeadline>,
    /// When players are warned: seconds before `until`, descending.
    pub warn: Vec<i64>,
    /// The text of the warnings; `null` for the operation's own.
    pub warn_text: Option<String>,
}

impl ScheduledCondition {
    /// None if nothing was asked for.
    fn of(request: &ConditionRequest) -> Option<Self> {
        let seconds = |warn: &Warnings| warn.before().iter().map(|ms| ms / 1000).collect();
        let (until, warn) = (request.until.as_ref(), request.warn.as_ref());
        let condition = Self {
            when_empty: request.when_empty,
            until: until.map(|until| until.asked().to_owned()),
            then: request.then,
            warn: warn.map(seconds).unwrap_or_default(),
            warn_text: warn.and_then(Warnings::text).map(str::to_owned),
        };
        (condition != Self::default()).then_some(condition)
    }

    /// The request for a job.
    ///
    /// Fails for a row that was written by hand.
    pub fn request(&self) -> Result<ConditionRequest, BadName> {
        let warn = (!self.warn.is_empty()).then(|| {
            let before = self.warn.iter().map(|seconds| seconds.saturating_mul(1000));
            Warnings::from_row(before.collect(), self.warn_text.clone())
        });
        Ok(ConditionRequest {
            when_empty: self.when_empty,
            until: self.until.as_deref().map(str::parse).transpose()?,
            then: self.then,
            warn,
        })
    }

    /// `when empty, until 06:00, then go, players are warned 3 times`
    pub fn message(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.when_empty.then(|| "when empty".to_owned()));
        parts.extend(self.until.as_ref().map(|until| format!("until {until}")));
        parts.extend(self.then.map(|then| format!("then {then}")));
        parts.extend(match self.warn.len() {
            0 => None,
            1 => Some("players are warned once".to_owned()),
            times => Some(format!("players are warned {times} times")),
        });
        parts.join(", ")
    }
}

/// A new schedule.
#[derive(Clone, Copy, Debug)]
pub struct NewSchedule<'a> {
    pub operation: ScheduledOperation,
    pub servers: &'a [ServerId],
    pub all: bool,
    /// The canonical calendar.
    pub on: &'a str,
    pub zone: Option<&'a str>,
    pub persistent: bool,
    pub rolling: Option<NonZeroU16>,
    pub no_restart: bool,
    pub condition: &'a ConditionRequest,
    pub owner: Option<UserId>,
    pub created_by: &'a str,
    pub next_at: i64,
}

/// `SELECT` of a [`Schedule`], followed by `$tail`.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT c.id, c.operation,
                 (SELECT json_group_array(server_id) FROM (SELECT server_id FROM schedule_servers
                  WHERE schedule_id = c.id ORDER BY server_id)),
                 c.of_all, c.calendar, c.zone, c.persistent, c.paused,
                 coalesce(c.rolling, c.update_rolling),
                 c.when_empty, c.until_asked, c.at_deadline, c.warn, c.warn_text,
                 c.owner_id, c.created_at, c.created_by, c.last_run_at, c.last_job_id,
                 (SELECT state FROM jobs WHERE id = c.last_job_id), c.last_error, c.next_at,
                 c.timer_error, c.since, c.no_restart
             FROM schedules c ",
            $tail
        )
    };
}

fn schedule(row: &Row<'_>) -> rusqlite::Result<Schedule> {
    let paused = row.get(7)?;
    Ok(Schedule {
        id: row.get(0)?,
        operation: row.get(1)?,
        servers: serde_json::from_str(&text(row, 2)?).unwrap_or_default(),
        all: row.get(3)?,
        on: text(row, 4)?,
        zone: text_or_null(row, 5)?,
        persistent: row.get(6)?,
        paused,
        rolling: row.get::<_, Option<u16>>(8)?.and_then(NonZeroU16::new),
        condition: condition(row)?,
        owner: row.get(14)?,
        created_at: row.get(15)?,
        created_by: text(row, 16)?,
        last_run_at: row.get(17)?,
        last_job_id: row.get(18)?,
        last_job_state: row.get(19)?,
        last_error: text_or_null(row, 20)?,
        next_at: row.get::<_, Option<i64>>(21)?.filter(|_| !paused),
        timer_error: text_or_null(row, 22)?,
        since: row.get(23)?,
        no_restart: row.get(24)?,
    })
}

fn condition(row: &Row<'_>) -> rusqlite::Result<Option<ScheduledCondition>> {
    let before: Vec<i64> = serde_json::from_str(&text(row, 12)?).unwrap_or_default();
    let condition = ScheduledCondition {
        when_empty: row.get(9)?,
        until: text_or_null(row, 10)?,
        then: text_or_null(row, 11)?.and_then(|word| AtDeadline::parse(&word)),
        warn: before.iter().map(|ms| ms / 1000).collect(),
        warn_text: text_or_null(row, 13)?,
    };
    Ok((condition != ScheduledCondition::default()).then_some(condition))
}

/// Adds a schedule with its servers.
pub fn insert(tx: &Connection, new: &NewSchedule<'_>, now: i64) -> Result<Schedule> {
    let asked = ScheduledCondition::of(new.condition).unwrap_or_default();
    let before = new.condition.warn.as_ref().map(Warnings::before);
    let before = serde_json::to_string(before.unwrap_or_default()).unwrap_or_default();
    let (of_servers, of_update) = match new.operation {
        ScheduledOperation::Update => (None, new.rolling),
        _ => (new.rolling, None),
    };
    let sql = "INSERT INTO schedules (operation, of_all, calendar, zone, persistent, rolling,
                   when_empty, until_asked, at_deadline, warn, warn_text, owner_id, created_at,
                   created_by, next_at, since, no_restart, update_rolling)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?13,
                   ?16, ?17)";
    run(
        tx,
        sql,
        params![
            new.operation.as_str(),
            new.all,
            new.on,
            new.zone,
            new.persistent,
            of_servers.map(NonZeroU16::get),
            asked.when_empty,
            asked.until,
            asked.then.map(AtDeadline::as_str),
            before,
            asked.warn_text,
            new.owner,
            now,
            new.created_by,
            new.next_at,
            new.no_restart,
            of_update.map(NonZeroU16::get)
        ],
    )?;

    let id = ScheduleId(tx.last_insert_rowid());
    for server in new.servers {
        let sql = "INSERT INTO schedule_servers (schedule_id, server_id) VALUES (?1, ?2)";
        run(tx, sql, params![id, server])?;
    }
    find(tx, id)
}

/// The schedule with this id, if there is one.
pub fn get(connection: &Connection, id: ScheduleId) -> Result<Option<Schedule>> {
    first(connection, select!("WHERE c.id = ?1"), [id], schedule)
}

/// The schedule with this id.
///
/// Fails with 3 when there is none.
pub fn find(connection: &Connection, id: ScheduleId) -> Result<Schedule> {
    get(connection, id)?.ok_or_else(|| not_found(id))
}

/// The error for a schedule that does not exist.
pub fn not_found(id: ScheduleId) -> Error {
    Error::not_found(format!(
        "no schedule {id}: `left4me schedule list` shows them"
    ))
}

/// All schedules, ordered by id.
pub fn all(connection: &Connection) -> Result<Vec<Schedule>> {
    query(connection, select!("ORDER BY c.id"), [], schedule)
}

/// The schedules that a user sees: those that the user made, and those whose servers are all the
/// user's.
pub fn of_user(connection: &Connection, user: UserId) -> Result<Vec<Schedule>> {
    query(
        connection,
        select!(
            "WHERE c.owner_id = ?1 OR c.id IN
                 (SELECT schedule_id FROM schedule_servers WHERE server_id IN
                      (SELECT id FROM servers WHERE user_id = ?1))
             AND NOT EXISTS (SELECT 1 FROM schedule_servers t JOIN servers s ON s.id = t.server_id
                 WHERE t.schedule_id = c.id AND s.user_id <> ?1)
             ORDER BY c.id"
        ),
        [user],
        schedule,
    )
}

/// The schedules for a server, with those for all servers.
pub fn of_server(connection: &Connection, server: ServerId) -> Result<Vec<Schedule>> {
    query(
        connection,
        select!(
            "WHERE c.of_all = 1
                 OR c.id IN (SELECT schedule_id FROM schedule_servers WHERE server_id = ?1)
             ORDER BY c.id"
        ),
        [server],
        schedule,
    )
}

/// How many schedules there are, and how many of them `owner` has.
pub fn count(connection: &Connection, owner: Option<UserId>) -> Result<(i64, i64)> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE owner_id = ?1) FROM schedules";
    one(connection, sql, [owner], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// How many schedules stand how.
pub fn states(connection: &Connection) -> Result<Vec<(ScheduleState, u64)>> {
    let sql = "SELECT paused, timer_error IS NOT NULL OR last_error IS NOT NULL,
                   next_at IS NOT NULL, count(*)
               FROM schedules GROUP BY 1, 2, 3";
    query(connection, sql, [], |row| {
        let state = ScheduleState::of(row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((state, row.get::<_, i64>(3)?.unsigned_abs()))
    })
}

/// Pauses or resumes a schedule. False when it was so already, or does not exist.
pub fn set_paused(tx: &Connection, id: ScheduleId, paused: bool, now: i64) -> Result<bool> {
    let sql = "UPDATE schedules SET paused = ?2, timer_error = NULL, since = ?3
               WHERE id = ?1 AND paused <> ?2";
    changes(tx, sql, params![id, paused, now])
}

/// Removes a schedule. False when it does not exist.
pub fn remove(tx: &Connection, id: ScheduleId) -> Result<bool> {
    changes(tx, "DELETE FROM schedules WHERE id = ?1", [id])
}

/// The schedules that are for this server and no other.
fn only_of_server(connection: &Connection, server: ServerId) -> Result<Vec<Schedule>> {
    query(
        connection,
        select!(
            "WHERE c.id IN (SELECT schedule_id FROM schedule_servers WHERE server_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM schedule_servers
                 WHERE schedule_id = c.id AND server_id <> ?1)
             ORDER BY c.id"
        ),
        [server],
        schedule,
    )
}

/// Removes the schedules that are for this server and no other, and adds their events. The server's
/// row is removed next.
pub(super) fn remove_with_server(
    tx: &Connection,
    now: i64,
    actor: &str,
    server: ServerId,
) -> Result<()> {
    for schedule in only_of_server(tx, server)? {
        remove(tx, schedule.id)?;
        event(tx, now, "schedule.removed", actor, &schedule)?;
    }
    Ok(())
}

/// Adds the event of a change to a schedule.
pub fn event(
    tx: &Connection,
    now: i64,
    kind: &str,
    actor: &str,
    schedule: &Schedule,
) -> Result<()> {
    add_event(tx, now, kind, actor, schedule, &schedule.message())
}

/// Adds the event of a run that failed before there was a job.
pub fn failed(tx: &Connection, now: i64, schedule: &Schedule, why: &str) -> Result<()> {
    let (actor, detail) = (
        format!("schedule {}", schedule.id),
        format!("{}: {why}", schedule.message()),
    );
    add_event(tx, now, "schedule.failed", &actor, schedule, &detail)
}

fn add_event(
    tx: &Connection,
    now: i64,
    kind: &str,
    actor: &str,
    schedule: &Schedule,
    detail: &str,
) -> Result<()> {
    let event = NewEvent {
        server: events::only_server(&schedule.servers),
        ..NewEvent::new(kind, actor, detail)
    };
    events::add(tx, now, &event)
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct NewRun<'a> {
    pub at: i64,
    pub job: Option<JobId>,
    /// Why it failed.
    pub error: Option<&'a str>,
    /// When the next one is, unix ms.
    pub next_at: Option<i64>,
}

/// Records a run.
pub fn record_run(tx: &Connection, id: ScheduleId, new: &NewRun<'_>) -> Result<()> {
    let sql = "UPDATE schedules SET last_run_at = ?2, last_job_id = ?3, last_error = ?4,
                   next_at = ?5
               WHERE id = ?1";
    run(
        tx,
        sql,
        params![id, new.at, new.job, new.error, new.next_at],
    )
}

/// Records what systemd says about a schedule's timer: when it elapses next, or why there is none.
/// False when it said so already.
pub fn record_timer(
    tx: &Connection,
    id: ScheduleId,
    next_at: Option<i64>,
    error: Option<&str>,
) -> Result<bool> {
    let sql = "UPDATE schedules SET next_at = ?2, timer_error = ?3
               WHERE id = ?1 AND (next_at IS NOT ?2 OR timer_error IS NOT ?3)";
    changes(tx, sql, params![id, next_at, error])
}

#[cfg(test)]
impl Schedule {
    /// An update, each day at five.
    pub(crate) fn sample(id: i64) -> Self {
        Self {
            id: ScheduleId(id),
            operation: ScheduledOperation::Update,
            servers: Vec::new(),
            all: false,
            on: "*-*-* 05:00:00".to_owned(),
            zone: None,
            persistent: false,
            paused: false,
            rolling: None,
            no_restart: false,
            condition: None,
            owner: None,
            created_at: 1,
            created_by: "anna".to_owned(),
            last_run_at: None,
            last_job_id: None,
            last_job_state: None,
            last_error: None,
            next_at: None,
            timer_error: None,
            since: 1,
        }
    }
}

#[cfg(test)]
mod tests;
