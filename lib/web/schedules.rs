//! Schedules, for pages and the API: with the name and the rights of the viewer. After each change
//! systemd's timers follow.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::base::names::{ScheduleId, ServerId, ServerRef};
use crate::base::{Error, Exit, Result, clock};
use crate::db::schedules::Schedule;
use crate::domain::condition::ConditionRequest;
use crate::domain::scheduled::{ScheduleRequest, ScheduleTargets};
use crate::queue::schedules::{self, Maker};
use crate::web::app::App;
use crate::web::viewer::Viewer;

/// The schedule of an accepted request.
pub struct Accepted {
    pub schedule: Schedule,
    /// False if the viewer had the same one already: a request that was sent twice makes no second.
    pub is_new: bool,
}

/// Adds a schedule.
pub async fn add(app: &App, viewer: Viewer, request: ScheduleRequest) -> Result<Accepted> {
    let mode = app.settings.build_mode;
    let added = app.store.with(move |db| {
        let mut own = visible(db.connection(), &viewer)?;
        own.retain(|schedule| schedule.owner == Some(viewer.id) && is_same(schedule, &request));
        if let Some(schedule) = own.pop() {
            return Ok(Accepted {
                schedule,
                is_new: false,
            });
        }

        let schedule = by(&viewer, |maker| {
            schedules::add(db, &request, maker, mode, clock::now_ms())
        })?;
        Ok(Accepted {
            schedule,
            is_new: true,
        })
    });
    let added = added.await?;
    app.wake_schedules();
    Ok(added)
}

/// Pauses or resumes a schedule.
pub async fn set_paused(
    app: &App,
    viewer: Viewer,
    id: ScheduleId,
    paused: bool,
) -> Result<Schedule> {
    let changed = app.store.with(move |db| {
        let set = |maker: &Maker<'_>| schedules::set_paused(db, id, paused, maker, clock::now_ms());
        by(&viewer, set).map_err(|error| missing(error, id))
    });
    let schedule = changed.await?;
    app.wake_schedules();
    Ok(schedule)
}

/// Removes a schedule.
pub async fn remove(app: &App, viewer: Viewer, id: ScheduleId) -> Result<()> {
    let removed = app.store.with(move |db| {
        let remove = |maker: &Maker<'_>| schedules::remove(db, id, maker, clock::now_ms());
        by(&viewer, remove).map_err(|error| missing(error, id))
    });
    removed.await?;
    app.wake_schedules();
    Ok(())
}

/// The schedules that the viewer may see and change, ordered by id.
pub fn visible(connection: &Connection, viewer: &Viewer) -> Result<Vec<Schedule>> {
    by(viewer, |maker| schedules::visible(connection, maker))
}

/// One of them. Others do not exist for the viewer.
pub fn find(connection: &Connection, viewer: &Viewer, id: ScheduleId) -> Result<Schedule> {
    let found = by(viewer, |maker| schedules::find(connection, id, maker));
    found.map_err(|error| missing(error, id))
}

fn by<T>(viewer: &Viewer, act: impl FnOnce(&Maker<'_>) -> T) -> T {
    act(&Maker {
        name: &viewer.actor(),
        user: Some((viewer.id, viewer.is_admin)),
    })
}

/// Without the advice that is for the command line.
fn missing(error: Error, id: ScheduleId) -> Error {
    match error.exit {
        Exit::NotFound => Error::not_found(format!("there is no schedule {id}")),
        _ => error,
    }
}

/// Whether the schedule is what is asked for. A request that names servers by their names is
/// another one.
fn is_same(schedule: &Schedule, request: &ScheduleRequest) -> bool {
    let same_servers = match &request.targets {
        ScheduleTargets::None => !schedule.all && schedule.servers.is_empty(),
        ScheduleTargets::All => schedule.all,
        ScheduleTargets::Named(names) => {
            let ids = names.iter().map(|name| match name {
                ServerRef::Id(id) => Some(*id),
                ServerRef::Name(_) => None,
            });
            let ids: Option<BTreeSet<ServerId>> = ids.collect();
            ids == Some(schedule.servers.iter().copied().collect())
        }
    };
    let condition = match &schedule.condition {
        Some(condition) => condition.request().ok(),
        None => Some(ConditionRequest::default()),
    };

    !schedule.paused
        && schedule.operation == request.operation
        && same_servers
        && schedule.on == request.on.to_string()
        && schedule.zone.as_deref() == request.zone.as_ref().map(|zone| zone.as_str())
        && schedule.persistent == request.persistent
        && schedule.rolling == request.rolling
        && schedule.no_restart == request.no_restart
        && condition.as_ref() == Some(&request.condition)
}
