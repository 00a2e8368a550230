//! Schedules: adds, pauses, resumes and removes them, and does what they are for when their time
//! comes. Who may do that is decided here, once for the command line, the pages and the API.
//!
//! After a change, the caller calls [`crate::queue::wake::schedules`], so that systemd's timers
//! follow.

use rusqlite::Connection;

use crate::base::config::BuildMode;
use crate::base::names::{BadName, JobId, ScheduleId, ServerId, ServerRef, UserId};
use crate::base::{Error, Result, clock};
use crate::db::fleet::here;
use crate::db::schedules::{self, NewRun, NewSchedule, Schedule};
use crate::db::{Db, access, servers, users};
use crate::domain::calendar::{Calendar, ZoneName};
use crate::domain::condition::ConditionRequest;
use crate::domain::operation::Operation;
use crate::domain::scheduled::{
    self, MOST, MOST_OF_USER, Rights, ScheduleRequest, ScheduleTargets, ScheduledOperation,
};
use crate::domain::update::UpdateOptions;
use crate::queue::enqueue::{Accepted, JobRequest, Requester, Targets, enqueue_in};

/// Who adds or changes a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Maker<'a> {
    /// The name for the row and the events.
    pub name: &'a str,
    /// The account, and whether it is an admin's; none for the command line.
    pub user: Option<(UserId, bool)>,
}

impl Maker<'_> {
    fn rights(&self) -> Rights {
        match self.user {
            Some((_, false)) => Rights::OwnServers,
            _ => Rights::All,
        }
    }

    /// How this interface names a part of a request: `--until`, or `until`.
    fn option(&self) -> fn(&str) -> String {
        match self.user {
            None => |name| format!("--{name}"),
            Some(_) => str::to_owned,
        }
    }
}

/// Adds a schedule.
///
/// `mode`: how this host makes updates.
///
/// Fails with 2 if the request is not valid; 3 for a server that does not exist, or is another
/// user's; 4 if there are too many schedules; 77 if the maker may not schedule this.
pub fn add(
    db: &mut Db,
    request: &ScheduleRequest,
    maker: &Maker<'_>,
    mode: BuildMode,
    now: i64,
) -> Result<Schedule> {
    let first = request.check(now, &clock::zone(), maker.option())?;
    if request.operation == ScheduledOperation::Update {
        // Every run would be refused.
        let options = UpdateOptions {
            in_place: mode == BuildMode::InPlace,
            rolling: request.rolling,
            no_restart: request.no_restart,
            ..UpdateOptions::default()
        };
        options.check(
            Operation::Update,
            request.condition != ConditionRequest::default(),
        )?;
    }
    db.write(|tx| {
        let servers = targets(tx, &request.targets, maker)?;
        let of_all = request.targets == ScheduleTargets::All;
        let may = maker.rights().check(request.operation, of_all, true);
        may.map_err(Error::not_permitted)?;

        let owner = maker.user.map(|(id, _)| id);
        check_room(tx, owner)?;
        let schedule = schedules::insert(
            tx,
            &NewSchedule {
                operation: request.operation,
                servers: &servers,
                all: of_all,
                on: &request.on.to_string(),
                zone: request.zone.as_ref().map(|zone| zone.as_str()),
                persistent: request.persistent,
                rolling: request.rolling,
                no_restart: request.no_restart,
                condition: &request.condition,
                owner,
                created_by: maker.name,
                next_at: first,
            },
            now,
        )?;
        schedules::event(tx, now, "schedule.added", maker.name, &schedule)?;
        Ok(schedule)
    })
}

/// The ids of the servers, ascending and without duplicates. Other users' servers count as missing.
fn targets(tx: &Connection, targets: &ScheduleTargets, maker: &Maker<'_>) -> Result<Vec<ServerId>> {
    let ScheduleTargets::Named(names) = targets else {
        return Ok(Vec::new());
    };

    let find = |name: &ServerRef| match maker.user {
        Some((user, false)) => own_server(tx, user, name),
        _ => servers::find_id(tx, name),
    };
    let mut ids = names.iter().map(find).collect::<Result<Vec<_>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn own_server(tx: &Connection, user: UserId, name: &ServerRef) -> Result<ServerId> {
    let found = match name {
        ServerRef::Id(id) => servers::get(tx, *id)?
            .filter(|server| server.user_id == user)
            .map(|server| server.id),
        ServerRef::Name(name) => access::own_server(tx, user, name)?,
    };
    found.ok_or_else(|| Error::not_found(format!("you have no server '{name}'")))
}

fn check_room(tx: &Connection, owner: Option<UserId>) -> Result<()> {
    let (all, own) = schedules::count(tx, owner)?;
    let full = |count: i64, whose: &str| {
        Err(Error::conflict(format!(
            "{whose} {count} schedules already: remove one first"
        )))
    };
    match owner {
        Some(_) if own >= MOST_OF_USER => full(own, "you have"),
        _ if all >= MOST => full(all, "there are"),
        _ => Ok(()),
    }
}

/// Pauses or resumes a schedule. Changes nothing if it is so already.
///
/// Fails with 3 if it does not exist, or the maker may not see it.
pub fn set_paused(
    db: &mut Db,
    id: ScheduleId,
    paused: bool,
    maker: &Maker<'_>,
    now: i64,
) -> Result<Schedule> {
    db.write(|tx| {
        let schedule = find(tx, id, maker)?;
        if !schedules::set_paused(tx, id, paused, now)? {
            return Ok(schedule);
        }

        if !paused {
            // Until systemd has said it.
            let next = next_at(&schedule, now);
            schedules::record_timer(tx, id, next, None)?;
        }
        let kind = match paused {
            true => "schedule.paused",
            false => "schedule.resumed",
        };
        schedules::event(tx, now, kind, maker.name, &schedule)?;
        schedules::find(tx, id)
    })
}

/// Removes a schedule, and returns what it was.
///
/// Fails with 3 if it does not exist, or the maker may not see it.
pub fn remove(db: &mut Db, id: ScheduleId, maker: &Maker<'_>, now: i64) -> Result<Schedule> {
    db.write(|tx| {
        let schedule = find(tx, id, maker)?;
        schedules::remove(tx, id)?;
        schedules::event(tx, now, "schedule.removed", maker.name, &schedule)?;
        Ok(schedule)
    })
}

/// The schedules that the maker may see and change, ordered by id.
pub fn visible(connection: &Connection, maker: &Maker<'_>) -> Result<Vec<Schedule>> {
    match maker.user {
        Some((user, false)) => schedules::of_user(connection, user),
        _ => schedules::all(connection),
    }
}

/// The schedule, if the maker may see and change it.
///
/// Fails with 3 otherwise.
pub fn find(connection: &Connection, id: ScheduleId, maker: &Maker<'_>) -> Result<Schedule> {
    let schedule = schedules::find(connection, id)?;
    match maker.user {
        Some((user, false))
            if schedule.owner != Some(user) && !owns(connection, user, &schedule)? =>
        {
            Err(schedules::not_found(id))
        }
        _ => Ok(schedule),
    }
}

/// Whether the schedule has servers, and all of them are the user's.
fn owns(connection: &Connection, user: UserId, schedule: &Schedule) -> Result<bool> {
    for &id in &schedule.servers {
        if servers::get(connection, id)?.is_none_or(|server| server.user_id != user) {
            return Ok(false);
        }
    }
    Ok(!schedule.servers.is_empty())
}

/// When the schedule runs next, unix ms, by the rules of its calendar. None if that never comes, or
/// its row was written by hand.
pub fn next_at(schedule: &Schedule, now: i64) -> Option<i64> {
    let zone = zone_of(schedule).ok()?;
    let calendar: Calendar = schedule.on.parse().ok()?;
    calendar.next_after(now, &zone)
}

fn zone_of(schedule: &Schedule) -> Result<jiff::tz::TimeZone, BadName> {
    match &schedule.zone {
        Some(name) => Ok(name.parse::<ZoneName>()?.zone().clone()),
        None => Ok(clock::zone()),
    }
}

/// What the time of a schedule brings.
#[derive(Clone, Debug)]
pub enum Due {
    /// Nothing: it was removed or paused meanwhile. The reason.
    Nothing(&'static str),
    /// This job, which is recorded with the schedule.
    Job(Accepted),
    /// A backup, which the caller makes and then records with [`record_backup`].
    Backup,
}

/// Does what a schedule is for, with the rights that its owner has now. A job that does the same,
/// and has not ended, is not joined by a second one. `mode`: how this host makes updates.
///
/// A failure is recorded with the schedule.
pub fn run(db: &mut Db, id: ScheduleId, mode: BuildMode, now: i64) -> Result<Due> {
    let due = db.write(|tx| {
        let Some(schedule) = schedules::get(tx, id)? else {
            return Ok(Due::Nothing("it was removed"));
        };
        if schedule.paused {
            return Ok(Due::Nothing("it is paused"));
        }
        if !is_due(&schedule, now) {
            return Ok(Due::Nothing(
                "its time has not come since it was added or resumed",
            ));
        }
        check_owner(tx, &schedule)?;
        let Some(operation) = schedule.operation.operation() else {
            return Ok(Due::Backup);
        };

        let Some(targets) = targets_now(tx, &schedule, operation)? else {
            schedules::record_run(tx, id, &ended(&schedule, now, None, None))?;
            return Ok(Due::Nothing("none of its servers should be running"));
        };
        let job = enqueue_job(tx, &schedule, (operation, targets), mode, now)?;
        schedules::record_run(tx, id, &ended(&schedule, now, Some(job.job_id), None))?;
        Ok(Due::Job(job))
    });
    due.inspect_err(|error| record_failure(db, id, now, error))
}

/// Whether its time has come since it was added or resumed. A timer that makes up for what it has
/// missed also elapses for a time before that: nobody asked for that run. When the clock was set
/// back since, that cannot be known.
fn is_due(schedule: &Schedule, now: i64) -> bool {
    schedule.since > now || next_at(schedule, schedule.since).is_none_or(|first| first <= now)
}

fn ended<'a>(
    schedule: &Schedule,
    now: i64,
    job: Option<JobId>,
    error: Option<&'a str>,
) -> NewRun<'a> {
    NewRun {
        at: now,
        job,
        error,
        next_at: next_at(schedule, now),
    }
}

/// Checks that the owner still may do this.
fn check_owner(tx: &Connection, schedule: &Schedule) -> Result<()> {
    let Some(owner) = schedule.owner else {
        return Ok(());
    };
    let user = users::get(tx, owner)?
        .ok_or_else(|| Error::not_permitted("its owner does not exist any more"))?;
    if user.disabled_at.is_some() {
        return Err(Error::not_permitted(format!(
            "its owner '{0}' is disabled: `left4me user enable {0}`, or remove the schedule",
            user.name
        )));
    }

    let rights = match user.is_admin {
        true => Rights::All,
        false => Rights::OwnServers,
    };
    let owns = owns(tx, owner, schedule)?;
    let may = rights.check(schedule.operation, schedule.all, owns);
    may.map_err(Error::not_permitted)
}

/// The servers that a run is for. A restart is for those that should be running: a server that
/// somebody stopped stays stopped. None if there is nothing to do.
fn targets_now(
    tx: &Connection,
    schedule: &Schedule,
    operation: Operation,
) -> Result<Option<Targets>> {
    let named = |ids: Vec<ServerId>| Targets::Named(ids.into_iter().map(ServerRef::Id).collect());
    if operation == Operation::Restart {
        let mut ids = servers::all_that_should_run(tx)?;
        let moved = here::moved(tx)?;
        ids.retain(|id| schedule.all || schedule.servers.contains(id));
        ids.retain(|id| !moved.contains_key(id));
        return Ok((!ids.is_empty()).then(|| named(ids)));
    }
    Ok(Some(
        match (schedule.operation.takes_servers(), schedule.all) {
            (false, _) => Targets::None,
            (true, true) => Targets::All,
            (true, false) => named(schedule.servers.clone()),
        },
    ))
}

fn enqueue_job(
    tx: &Connection,
    schedule: &Schedule,
    (operation, targets): (Operation, Targets),
    mode: BuildMode,
    now: i64,
) -> Result<Accepted> {
    let condition = match &schedule.condition {
        Some(asked) => {
            let (asked, zone) = (asked.request()?, zone_of(schedule)?);
            scheduled::resolve(schedule.operation, &asked, now, &zone, str::to_owned)?
        }
        None => None,
    };
    let name = format!("schedule {}", schedule.id);
    let request = JobRequest {
        operation,
        targets,
        unique: true,
        rolling: schedule.rolling,
        update: UpdateOptions {
            in_place: operation.rolls_out() && mode == BuildMode::InPlace,
            no_restart: schedule.no_restart,
            ..UpdateOptions::default()
        },
        condition,
        requester: Requester {
            name: &name,
            user: schedule.owner,
            key: None,
            reason: &format!("{name} of {}", schedule.created_by),
        },
    };
    enqueue_in(tx, &request, now)
}

/// Records how the backup of a schedule ended.
pub fn record_backup(db: &mut Db, id: ScheduleId, now: i64, result: &Result<()>) -> Result<()> {
    match result {
        Ok(()) => db.write(|tx| match schedules::get(tx, id)? {
            Some(schedule) => schedules::record_run(tx, id, &ended(&schedule, now, None, None)),
            None => Ok(()),
        }),
        Err(error) => {
            record_failure(db, id, now, error);
            Ok(())
        }
    }
}

/// Records that a run failed. If even that fails, the error of the run is told all the same.
fn record_failure(db: &mut Db, id: ScheduleId, now: i64, error: &Error) {
    let recorded = db.write(|tx| {
        let Some(schedule) = schedules::get(tx, id)? else {
            return Ok(());
        };
        let why = error.to_string();
        schedules::record_run(tx, id, &ended(&schedule, now, None, Some(&why)))?;
        // Once for each reason: a schedule of an account that is disabled fails at each run.
        match schedule.last_error.as_deref() == Some(&*why) {
            true => Ok(()),
            false => schedules::failed(tx, now, &schedule, &why),
        }
    });
    if let Err(error) = recorded {
        tracing::error!("the failure of schedule {id} cannot be recorded: {error}");
    }
}

#[cfg(test)]
mod tests;
