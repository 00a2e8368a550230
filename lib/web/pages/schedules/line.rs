//! Schedules as pages show them.

use jiff::tz::TimeZone;
use rusqlite::Connection;

use super::words;
use crate::base::names::{JobId, ScheduleId, ServerId, UserId};
use crate::base::{Result, clock};
use crate::db::schedules::Schedule;
use crate::db::{access, servers};
use crate::domain::calendar::{Calendar, ZoneName};
use crate::domain::job::JobState;
use crate::domain::scheduled::ScheduleState;

/// So many servers are named.
const NAMED: usize = 5;

/// A row of a table of schedules.
pub struct ScheduleLine {
    pub id: ScheduleId,
    pub operation: &'static str,
    pub servers: Vec<(ServerId, String)>,
    /// The number of further servers.
    pub more: usize,
    pub all: bool,
    /// What its jobs wait for, and how they go ahead.
    pub how: Vec<String>,
    pub by: String,
    /// The expression, and in words if it is simple.
    pub on: String,
    pub words: Option<String>,
    pub zone: String,
    pub persistent: bool,
    pub is_paused: bool,
    /// Unix ms.
    pub next_at: Option<i64>,
    /// Unix ms.
    pub last_at: Option<i64>,
    pub job: Option<LastJob>,
    pub state: ScheduleState,
    /// Why it failed.
    pub error: Option<String>,
}

/// The job of the last run.
pub struct LastJob {
    pub id: JobId,
    /// None if it has been removed since.
    pub state: Option<JobState>,
    /// Whether the viewer may look at it.
    pub open: bool,
}

impl ScheduleLine {
    /// Those rows, as `viewer` sees them (none for an admin).
    pub fn all(
        db: &Connection,
        schedules: Vec<Schedule>,
        viewer: Option<UserId>,
    ) -> Result<Vec<Self>> {
        // Who was an admin may have schedules for servers of others, whose names are not shown.
        let names = match viewer {
            Some(user) => servers::of_user(db, user)?
                .into_iter()
                .map(|server| (server.id, server.name))
                .collect(),
            None => servers::names(db)?,
        };
        let line = |schedule: Schedule| {
            let job = match schedule.last_job_id {
                Some(id) => Some(LastJob {
                    id,
                    state: schedule.last_job_state,
                    open: access::job(db, id, viewer)?,
                }),
                None => None,
            };
            Ok(Self::of(schedule, job, &names))
        };
        schedules.into_iter().map(line).collect()
    }

    fn of(schedule: Schedule, job: Option<LastJob>, names: &[(ServerId, String)]) -> Self {
        let name = |id: &ServerId| (*id, super::super::parts::server_name(*id, names));
        let has_error = schedule.timer_error.is_some() || schedule.last_error.is_some();
        let state = ScheduleState::of(schedule.paused, has_error, schedule.next_at.is_some());

        Self {
            id: schedule.id,
            operation: schedule.operation.as_str(),
            servers: schedule.servers.iter().take(NAMED).map(name).collect(),
            more: schedule.servers.len().saturating_sub(NAMED),
            all: schedule.all,
            how: how(&schedule),
            by: schedule.created_by,
            words: words::words(&schedule.on),
            on: schedule.on,
            zone: schedule.zone.unwrap_or_else(host_zone),
            persistent: schedule.persistent,
            is_paused: schedule.paused,
            next_at: schedule.next_at,
            last_at: schedule.last_run_at,
            job,
            state,
            error: schedule.timer_error.or(schedule.last_error),
        }
    }
}

fn how(schedule: &Schedule) -> Vec<String> {
    let condition = schedule.condition.as_ref();
    let at_a_time = schedule.rolling.map(|number| match number.get() {
        1 => "one server at a time".to_owned(),
        number => format!("{number} servers at a time"),
    });
    let condition = condition.map(|condition| condition.message());
    let none = schedule
        .no_restart
        .then(|| "no server is restarted".to_owned());
    condition.into_iter().chain(at_a_time).chain(none).collect()
}

/// The host's zone by its name, or by what clocks show.
pub fn host_zone() -> String {
    let zone = clock::zone();
    let name = zone.iana_name().map(str::to_owned);
    name.unwrap_or_else(|| clock::zone_name(clock::now_ms()))
}

/// The next `most` runs, in the schedule's zone: `Mon 2026-11-30 05:00 CET`.
pub fn next_runs(schedule: &Schedule, now: i64, most: usize) -> Vec<String> {
    let zone = match &schedule.zone {
        Some(name) => name.parse::<ZoneName>().map(|name| name.zone().clone()),
        None => Ok(clock::zone()),
    };
    let (Ok(zone), Ok(calendar)) = (zone, schedule.on.parse::<Calendar>()) else {
        return Vec::new();
    };

    let runs = std::iter::successors(calendar.next_after(now, &zone), |&last| {
        calendar.next_after(last, &zone)
    });
    runs.take(most).map(|at| in_zone(at, &zone)).collect()
}

fn in_zone(ms: i64, zone: &TimeZone) -> String {
    let at = jiff::Timestamp::from_millisecond(ms);
    at.map_or_else(
        |_| "-".to_owned(),
        |at| {
            let local = at.to_zoned(zone.clone());
            local.strftime("%a %Y-%m-%d %H:%M %Z").to_string()
        },
    )
}
