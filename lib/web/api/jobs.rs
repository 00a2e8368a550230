//! Listing, showing and enqueuing jobs.

use std::num::NonZeroU16;

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rusqlite::Connection;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Body, Id, Limit, Nothing, Offset, Query};
use super::list::List;
use super::target::{MOST_SERVERS, Target};
use crate::base::config::BuildMode;
use crate::base::names::{JobId, ServerId, ServerRef};
use crate::base::{Error, Result, clock};
use crate::db::jobs::{self, Filter, Job};
use crate::db::{lists, servers};
use crate::domain::condition::warning::Warnings;
use crate::domain::condition::{AtDeadline, Condition, ConditionRequest, Until};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;
use crate::queue::enqueue::{self, Accepted, JobRequest, Targets};
use crate::web::builds;
use crate::web::failure::{Failure, FailureBody};
use crate::web::json;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

/// Filters for jobs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobFilters {
    /// Only jobs in this state. May be repeated.
    #[serde(default, deserialize_with = "extract::parsed_list")]
    state: Vec<JobState>,
    /// Only jobs with this operation.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[param(nullable = false)]
    operation: Option<Operation>,
    /// Only jobs for this server, alone or among others.
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

/// List jobs, the newest first
///
/// A user gets jobs that they requested, and jobs for only their servers; an admin gets all. A page
/// may end early at about 1 MiB, but has at least one job; the next one starts at `offset` plus the
/// number of its `items`.
#[utoipa::path(get, path = "/api/jobs", operation_id = "listJobs", tag = "jobs", params(JobFilters), responses(
    (status = 200, body = List<Job>, description = "The jobs."),
))]
pub async fn list(
    SignedIn { app, viewer }: SignedIn,
    Query(which): Query<JobFilters>,
) -> std::result::Result<Response, Failure> {
    let part = extract::part(which.limit, which.offset);
    let filter = Filter {
        viewer: viewer.all_or_own(),
        states: which.state,
        operation: which.operation,
        server: which.server,
        limit: part.limit,
        offset: part.offset,
        ..Filter::default()
    };

    json::answer(&app, viewer.id, move |db| {
        Ok(List::new(lists::jobs(db, &filter)?, part))
    })
    .await
}

/// Show a job with its tasks
#[utoipa::path(get, path = "/api/jobs/{id}", operation_id = "showJob", tag = "jobs", params(("id" = JobId, Path, description = "The job.")), responses(
    (status = 200, body = Job, description = "The job."),
))]
pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<JobId>,
    _: Query<Nothing>,
) -> std::result::Result<Response, Failure> {
    json::answer(&app, viewer.id, move |db| {
        viewer.may_see_job(db, id)?;
        jobs::get(db, id)
    })
    .await
}

/// A job to enqueue.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// The operation. `install`, `update`, `rollback` and `check` concern the game files of all
    /// servers, and are for admins only.
    #[serde(deserialize_with = "extract::parsed")]
    operation: Operation,
    /// The servers it is for.
    #[serde(default)]
    #[schema(max_items = 1000)]
    servers: Vec<Target>,
    /// All servers: those of the user; for an admin, all there are.
    #[serde(default)]
    all: bool,
    /// If the same operation on the same servers, with the same condition, is queued or running,
    /// return that job.
    #[serde(default)]
    unique: bool,
    /// Work on at most so many servers at a time; for update and rollback, restart so many. After a
    /// restart or reset that failed, the servers that wait for it are left as they are.
    #[serde(default)]
    #[schema(value_type = Option<u16>, minimum = 1, nullable = false)]
    rolling: Option<NonZeroU16>,
    /// For `update`: download and verify all files, also when Steam has no new build.
    #[serde(default)]
    validate: bool,
    /// For `reset`: drop only the files that hide newer game files since an update, and keep all
    /// others.
    #[serde(default)]
    stale: bool,
    /// For `update` and `rollback`: restart no server; each takes the build at its next start.
    #[serde(default)]
    no_restart: bool,
    /// For `update` and `rollback`: leave the other servers alone once so many could not start on
    /// the build; 1 by default.
    #[serde(default)]
    #[schema(value_type = Option<u16>, minimum = 1, nullable = false)]
    max_failures: Option<NonZeroU16>,
    /// For `rollback`: the build; without it, the newest that is kept and older than the current
    /// one.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, nullable = false)]
    build: Option<u64>,
    /// Wait until nobody plays on any of the servers; for update and rollback, on each by itself.
    /// For restart, stop, reset, delete, update and rollback.
    #[serde(default)]
    when_empty: bool,
    /// Wait at most until this time of day on the host (`06:00`), or for this duration (`2h`).
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    until: Option<Until>,
    /// What to do at that time. Required with `when_empty` and `until`.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[schema(nullable = false)]
    then: Option<AtDeadline>,
    /// Tell players so long before that time, with an optional text: `10m,5m,1m=Update tonight`.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    warn: Option<Warnings>,
}

impl NewJob {
    /// Checks that need no database.
    fn check(&self, viewer: &Viewer) -> std::result::Result<(), Failure> {
        let operation = self.operation;
        if self.validate && operation != Operation::Update {
            let message = format!("validate: only update validates, not {operation}");
            return Err(Failure::unprocessable(message));
        }

        if operation.is_shared() {
            if !viewer.is_admin {
                return Err(Failure::forbidden(format!("only an admin may {operation}")));
            }

            if self.all || !self.servers.is_empty() {
                let message = format!(
                    "servers: {operation} concerns the game files of all servers, \
                     and takes neither servers nor all"
                );

                return Err(Failure::unprocessable(message));
            }
            if self.rolling.is_some() && !operation.rolls_out() {
                let message = format!("rolling: {operation} has no servers to take in turn");
                return Err(Failure::unprocessable(message));
            }

            return Ok(());
        }

        match (self.servers.len(), self.all) {
            (0, false) => Err(Failure::unprocessable(format!(
                "servers: {operation} needs servers, or all"
            ))),
            (0, true) | (1..=MOST_SERVERS, false) => Ok(()),
            (_, true) => Err(Failure::unprocessable(
                "all: cannot be combined with servers",
            )),
            (_, false) => Err(Failure::unprocessable(format!(
                "servers: at most {MOST_SERVERS}"
            ))),
        }
    }

    fn update(&self, mode: BuildMode) -> UpdateOptions {
        UpdateOptions {
            validate: self.validate,
            in_place: self.operation.is_exclusive() && mode == BuildMode::InPlace,
            rolling: None,
            no_restart: self.no_restart,
            max_failures: self.max_failures,
            build: self.build,
            stale: self.stale,
            from: None,
        }
    }

    /// What the job waits for.
    fn condition(&self, now: i64) -> std::result::Result<Option<Condition>, Failure> {
        let request = ConditionRequest {
            when_empty: self.when_empty,
            until: self.until.clone(),
            then: self.then,
            warn: self.warn.clone(),
        };
        let option = |name: &str| name.replace('-', "_");
        Ok(request.resolve(self.operation, now, &clock::zone(), option)?)
    }

    /// The servers. Those of other users do not exist for a user.
    fn targets(&self, connection: &Connection, viewer: &Viewer) -> Result<Targets> {
        if self.operation.is_shared() {
            return Ok(Targets::None);
        }

        if self.all && viewer.is_admin {
            return Ok(Targets::All);
        }

        if self.all {
            let own = servers::of_user(connection, viewer.id)?;
            if own.is_empty() {
                return Err(Error::not_found("you have no server"));
            }
            return Ok(Targets::Named(
                own.into_iter()
                    .map(|server| ServerRef::Id(server.id))
                    .collect(),
            ));
        }

        let ids = self.servers.iter();
        let ids = ids.map(|server| server.find(connection, viewer).map(ServerRef::Id));
        Ok(Targets::Named(ids.collect::<Result<_>>()?))
    }
}

/// Enqueue a job
///
/// A repeated Idempotency-Key of the same user within a day returns the first job; with another
/// request it is refused.
#[utoipa::path(post, path = "/api/jobs", operation_id = "enqueueJob", tag = "jobs", request_body = NewJob,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request \
        return the first job: 1 to 200 letters, digits, '.', '-' and '_'.",
        min_length = 1, max_length = 200, pattern = "^[A-Za-z0-9._-]+$", nullable = false)),
    responses(
    (status = 201, body = Accepted, description = "The job was enqueued.", headers(("Location" = String, description = "The job."))),
    (status = 200, body = Accepted, description = "An existing job, \
                                                   found by `unique` or the Idempotency-Key.",
        headers(("Location" = String, description = "The job."))),
    (status = 404, body = FailureBody, description = "There is no such server, or it is another \
                                                      user's; or the build is not kept."),
    (status = 409, body = FailureBody, description = "The Idempotency-Key was \
                                                      used for another request; or there is \
                                                      no build to go back to."),
))]
pub async fn enqueue(
    SignedIn { app, viewer }: SignedIn,
    headers: HeaderMap,
    _: Query<Nothing>,
    Body(new): Body<NewJob>,
) -> std::result::Result<Response, Failure> {
    let key = extract::key(&headers)?;
    new.check(&viewer)?;
    let condition = new.condition(clock::now_ms())?;
    let update = new.update(app.settings.build_mode);
    if new.operation == Operation::Rollback {
        update.check(new.operation, condition.is_some())?;
        builds::check_target(&app, new.build).await?;
    }

    let enqueued = app.store.with(move |db| {
        // A server keeps its owner, and ids are not reused, so this stays true.
        let targets = new.targets(db.connection(), &viewer)?;
        let name = viewer.actor();
        let request = JobRequest {
            operation: new.operation,
            targets,
            unique: new.unique,
            rolling: new.rolling,
            update,
            condition,
            requester: viewer.requester(&name, key.as_ref()),
        };

        enqueue::enqueue(db, &request, clock::now_ms())
    });

    let accepted = enqueued.await?;
    if accepted.added {
        app.wake_worker();
    }

    let status = if accepted.added {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };

    let location = format!("/api/jobs/{}", accepted.job_id);
    Ok((status, [(header::LOCATION, location)], Json(accepted)).into_response())
}
