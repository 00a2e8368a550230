//! What is done at set times: listing, showing, adding, pausing, resuming and removing schedules.

use std::num::NonZeroU16;
use std::str::FromStr;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Body, Id, Limit, Nothing, Offset, Query};
use super::list::List;
use super::target::{MOST_SERVERS, Target};
use crate::base::clock;
use crate::base::names::{BadName, ScheduleId, ServerId, ServerRef};
use crate::db::schedules::Schedule;
use crate::domain::calendar::{Calendar, ZoneName};
use crate::domain::condition::warning::Warnings;
use crate::domain::condition::{AtDeadline, ConditionRequest, Until};
use crate::domain::scheduled::{ScheduleRequest, ScheduleTargets, ScheduledOperation, one_zone};
use crate::web::failure::{Failure, FailureBody};
use crate::web::schedules;
use crate::web::signed_in::SignedIn;
use crate::web::{json, viewer::Viewer};

/// Filters for schedules.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleFilters {
    /// Only schedules for this server, alone or among others.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[param(nullable = false)]
    server: Option<ServerId>,
    /// The most items to return.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// The number of items to skip.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List schedules by id
///
/// A user gets those that the user added, and those for only the user's servers; an admin gets all.
#[utoipa::path(get, path = "/api/schedules", operation_id = "listSchedules", tag = "schedules", params(ScheduleFilters), responses(
    (status = 200, body = List<Schedule>, description = "The schedules."),
))]
pub async fn list(
    SignedIn { app, viewer }: SignedIn,
    Query(which): Query<ScheduleFilters>,
) -> Result<Response, Failure> {
    let part = extract::part(which.limit, which.offset);
    let user = viewer.id;
    json::answer(&app, user, move |db| {
        let mut all = schedules::visible(db, &viewer)?;
        if let Some(server) = which.server {
            all.retain(|schedule| schedule.all || schedule.servers.contains(&server));
        }

        let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let items = all.into_iter().skip(count(part.offset));
        let items = items.take(count(part.limit)).collect();
        Ok(List::new((items, total), part))
    })
    .await
}

/// Show a schedule
#[utoipa::path(get, path = "/api/schedules/{id}", operation_id = "showSchedule", tag = "schedules", params(("id" = ScheduleId, Path, description = "The schedule.")), responses(
    (status = 200, body = Schedule, description = "The schedule."),
))]
pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ScheduleId>,
    _: Query<Nothing>,
) -> Result<Json<Schedule>, Failure> {
    let found = app.store.read(move |db| schedules::find(db, &viewer, id));
    Ok(Json(found.await?))
}

/// A schedule to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// What it does. `update` and `backup` concern the whole host, and are for admins only.
    #[serde(deserialize_with = "extract::parsed")]
    operation: ScheduledOperation,
    /// The servers it is for.
    #[serde(default)]
    #[schema(max_items = 1000)]
    servers: Vec<Target>,
    /// All servers that exist when it runs. For admins only.
    #[serde(default)]
    all: bool,
    /// When it runs: a calendar expression of systemd such as `*-*-* 05:00` or `Mon..Fri 23:30`.
    #[serde(deserialize_with = "extract::parsed")]
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    on: Expression,
    /// The time zone of that, such as `Europe/Berlin`. The host's own by default.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    zone: Option<ZoneName>,
    /// Make up once for runs that were missed while the host was off.
    #[serde(default)]
    persistent: bool,
    /// Work on at most so many servers at a time; for update, restart so many. Not with a condition.
    #[serde(default)]
    #[schema(value_type = Option<u16>, minimum = 1, nullable = false)]
    rolling: Option<NonZeroU16>,
    /// For update: restart no server; each takes the build at its next start.
    #[serde(default)]
    no_restart: bool,
    /// Each job waits until nobody plays on any of its servers. For restart, stop, reset and
    /// update.
    #[serde(default)]
    when_empty: bool,
    /// Each job waits at most until this time of day in the schedule's zone (`06:00`), or for this
    /// duration (`2h`).
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    until: Option<Until>,
    /// What to do at that time. Required with `when_empty` and `until`.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[schema(nullable = false)]
    then: Option<AtDeadline>,
    /// Tell players so long before that time, with an optional text: `10m,5m,1m=Restart soon`.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    warn: Option<Warnings>,
}

/// A calendar expression, with a time zone at its end if it has one.
struct Expression {
    calendar: Calendar,
    zone: Option<ZoneName>,
}

impl FromStr for Expression {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let (calendar, zone) = Calendar::with_zone(text)?;
        Ok(Self { calendar, zone })
    }
}

impl NewSchedule {
    /// What is asked for, for these servers.
    ///
    /// Fails with 422 for what needs no database to be refused.
    fn request(&self) -> Result<ScheduleRequest, Failure> {
        if self.all && !self.servers.is_empty() {
            return Err(Failure::unprocessable(
                "all: cannot be combined with servers",
            ));
        }
        if self.servers.len() > MOST_SERVERS {
            return Err(Failure::unprocessable(format!(
                "servers: at most {MOST_SERVERS}"
            )));
        }

        let zone = one_zone(self.on.zone.as_ref(), self.zone.as_ref()).map_err(|(own, _)| {
            Failure::unprocessable(format!("zone: the expression ends with another one, {own}"))
        })?;
        let request = ScheduleRequest {
            operation: self.operation,
            targets: match (self.all, self.servers.len()) {
                (true, _) => ScheduleTargets::All,
                (false, 0) => ScheduleTargets::None,
                (false, _) => ScheduleTargets::Named(self.named()),
            },
            on: self.on.calendar.clone(),
            zone: zone.cloned(),
            persistent: self.persistent,
            rolling: self.rolling,
            no_restart: self.no_restart,
            condition: ConditionRequest {
                when_empty: self.when_empty,
                until: self.until.clone(),
                then: self.then,
                warn: self.warn.clone(),
            },
        };
        request.check(clock::now_ms(), &clock::zone(), field)?;
        Ok(request)
    }

    fn named(&self) -> Vec<ServerRef> {
        self.servers.iter().map(Target::reference).collect()
    }

    /// The same request, with the servers' ids. Those of other users do not exist for a user.
    fn with_ids(
        &self,
        request: ScheduleRequest,
        db: &rusqlite::Connection,
        viewer: &Viewer,
    ) -> crate::base::Result<ScheduleRequest> {
        if self.servers.is_empty() {
            return Ok(request);
        }

        let ids = self.servers.iter().map(|server| server.find(db, viewer));
        let mut ids = ids.collect::<crate::base::Result<Vec<_>>>()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ScheduleRequest {
            targets: ScheduleTargets::Named(ids.into_iter().map(ServerRef::Id).collect()),
            ..request
        })
    }
}

/// The field in which an option of the command line is.
fn field(option: &str) -> String {
    match option {
        "server" => "servers".to_owned(),
        other => other.replace('-', "_"),
    }
}

/// Add a schedule
///
/// If the user has the same schedule already, and it is not paused, the answer is that one: a
/// repeated request adds no second.
#[utoipa::path(post, path = "/api/schedules", operation_id = "addSchedule", tag = "schedules", request_body = NewSchedule,
    responses(
    (status = 201, body = Schedule, description = "The schedule was added.", headers(("Location" = String, description = "The schedule."))),
    (status = 200, body = Schedule, description = "The user has the same schedule already.",
        headers(("Location" = String, description = "The schedule."))),
    (status = 403, body = FailureBody, description = "Only admins may schedule this; or, with a session, the request was not sent by a page of left4me."),
    (status = 404, body = FailureBody, description = "There is no such server, \
                                                      or it is another user's."),
    (status = 409, body = FailureBody, description = "There are too many schedules."),
))]
pub async fn add(
    SignedIn { app, viewer }: SignedIn,
    _: Query<Nothing>,
    Body(new): Body<NewSchedule>,
) -> Result<Response, Failure> {
    let request = new.request()?;
    let requester = viewer.clone();
    let request = app
        .store
        .read(move |db| new.with_ids(request, db, &requester))
        .await?;

    // A server keeps its owner, and ids are not reused, so this stays true.
    let accepted = schedules::add(&app, viewer, request).await?;
    let status = match accepted.is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let location = format!("/api/schedules/{}", accepted.schedule.id);
    let body = Json(accepted.schedule);
    Ok((status, [(header::LOCATION, location)], body).into_response())
}

/// Pause a schedule
///
/// It does not run until it is resumed. Jobs of earlier runs go on.
#[utoipa::path(post, path = "/api/schedules/{id}/pause", operation_id = "pauseSchedule", tag = "schedules", params(("id" = ScheduleId, Path, description = "The schedule.")), responses(
    (status = 200, body = Schedule, description = "The schedule is paused."),
))]
pub async fn pause(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ScheduleId>,
    _: Query<Nothing>,
    _: Body<Nothing>,
) -> Result<Json<Schedule>, Failure> {
    Ok(Json(schedules::set_paused(&app, viewer, id, true).await?))
}

/// Resume a schedule
///
/// Runs that were missed meanwhile are not made up for.
#[utoipa::path(post, path = "/api/schedules/{id}/resume", operation_id = "resumeSchedule", tag = "schedules", params(("id" = ScheduleId, Path, description = "The schedule.")), responses(
    (status = 200, body = Schedule, description = "The schedule is not paused."),
))]
pub async fn resume(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ScheduleId>,
    _: Query<Nothing>,
    _: Body<Nothing>,
) -> Result<Json<Schedule>, Failure> {
    Ok(Json(schedules::set_paused(&app, viewer, id, false).await?))
}

/// Remove a schedule
///
/// Jobs of earlier runs go on.
#[utoipa::path(delete, path = "/api/schedules/{id}", operation_id = "removeSchedule", tag = "schedules", params(("id" = ScheduleId, Path, description = "The schedule.")), responses(
    (status = 204, description = "The schedule was removed."),
))]
pub async fn remove(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ScheduleId>,
    _: Query<Nothing>,
) -> Result<StatusCode, Failure> {
    schedules::remove(&app, viewer, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
