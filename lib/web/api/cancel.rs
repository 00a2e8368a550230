//! Cancelling a job or one of its tasks, and the progress of cancellations.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Body, Id, Limit, Nothing, Offset, Query};
use super::list::List;
use crate::base::names::{JobId, TaskId};
use crate::base::{self, Error, clock};
use crate::cancel::{self, CancelRequest, CancelResult, result};
use crate::db::cancellations::{self, Cancellation, CancellationFilter};
use crate::db::{Db, lists, tasks};
use crate::domain::cancellation::{self, Progress};
use crate::web::app::App;
use crate::web::failure::{Failure, FailureBody};
use crate::web::json;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

/// How to cancel a job.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelJob {
    /// The reason, one line.
    #[serde(default, deserialize_with = "reason")]
    #[schema(min_length = 1, max_length = 1000)]
    reason: Option<String>,
    /// Kill running commands without SIGTERM and grace.
    #[serde(default)]
    force: bool,
    /// Cancel only this task.
    #[serde(default, deserialize_with = "positive")]
    task: Option<TaskId>,
    /// With a task: whether to cancel the tasks that depend on it. Otherwise they run as if it had
    /// succeeded.
    #[serde(default = "yes")]
    #[schema(default = true)]
    cascade: bool,
    /// For an update or rollback, as a whole: the servers that it has stopped stay stopped.
    /// Otherwise they are started again.
    #[serde(default)]
    leave_stopped: bool,
}

/// How to cancel a task.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelTask {
    /// The reason, one line.
    #[serde(default, deserialize_with = "reason")]
    #[schema(min_length = 1, max_length = 1000)]
    reason: Option<String>,
    /// Kill running commands without SIGTERM and grace.
    #[serde(default)]
    force: bool,
    /// Whether to cancel the tasks that depend on it. Otherwise they run as if it had succeeded.
    #[serde(default = "yes")]
    #[schema(default = true)]
    cascade: bool,
}

fn yes() -> bool {
    true
}

fn reason<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| cancellation::reason(&text))
        .transpose()
        .map_err(D::Error::custom)
}

fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TaskId>, D::Error> {
    let id = Option::<i64>::deserialize(from)?;
    id.map(|id| id.to_string().parse())
        .transpose()
        .map_err(D::Error::custom)
}

/// Nothing was cancelled, because it had ended before. The result of `left4me-job cancel --json`,
/// and a word.
#[derive(Serialize, ToSchema)]
pub struct Refused {
    /// already_finished
    error: &'static str,
    /// The result.
    #[serde(flatten)]
    result: CancelResult,
}

/// Cancel a job
///
/// The answer comes at once; `cancellation-status` has the progress. What has not started is
/// cancelled immediately. A second request returns the same record; with `force` it kills what
/// still runs.
#[utoipa::path(post, path = "/api/jobs/{id}/cancel", operation_id = "cancelJob", tag = "cancel", params(("id" = JobId, Path, description = "The job.")),
    request_body(content = CancelJob, description = "Optional. Without a body the whole job is \
                                                    cancelled, without a reason."), responses(
    (status = 200, body = CancelResult, description = "The progress of the cancellation."),
    (status = 400, body = Refused, description = "It had ended before; nothing was cancelled."),
    (status = 409, body = FailureBody, description = "It changed at the same moment; retry."),
))]
pub async fn job(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<JobId>,
    _: Query<Nothing>,
    Body(how): Body<CancelJob>,
) -> Result<Response, Failure> {
    if !how.cascade && how.task.is_none() {
        return Err(Failure::unprocessable(
            "cascade: only with task: a job is cancelled as a whole",
        ));
    }

    let asked = app.store.with(move |db| {
        viewer.may_see_job(db.connection(), id)?;
        request(db, &viewer, id, &how)
    });

    Ok(answer(&app, asked.await?))
}

/// Cancel a task
///
/// The same as cancelling its job with `task`.
#[utoipa::path(post, path = "/api/tasks/{id}/cancel", operation_id = "cancelTask", tag = "cancel", params(("id" = TaskId, Path, description = "The task.")),
    request_body(content = CancelTask, description = "Optional. Without a body the \
                                                      tasks that depend on it are cancelled too, \
                                                      without a reason."), responses(
    (status = 200, body = CancelResult, description = "The progress of the cancellation."),
    (status = 400, body = Refused, description = "It had ended before; nothing was cancelled."),
    (status = 409, body = FailureBody, description = "It changed at the same moment; retry."),
))]
pub async fn task(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<TaskId>,
    _: Query<Nothing>,
    Body(how): Body<CancelTask>,
) -> Result<Response, Failure> {
    let asked = app.store.with(move |db| {
        let missing = || Error::not_found(format!("there is no task {id}"));
        let job = tasks::job_of(db.connection(), id)?.ok_or_else(missing)?;

        // With the same message as for a missing task.
        viewer
            .may_see_job(db.connection(), job)
            .map_err(|_| missing())?;

        let how = CancelJob {
            reason: how.reason,
            force: how.force,
            task: Some(id),
            cascade: how.cascade,
            leave_stopped: false,
        };
        request(db, &viewer, job, &how)
    });

    Ok(answer(&app, asked.await?))
}

fn request(
    db: &mut Db,
    viewer: &Viewer,
    job: JobId,
    how: &CancelJob,
) -> base::Result<CancelResult> {
    let actor = viewer.actor();
    let request = CancelRequest {
        task: how.task,
        force: how.force,
        cascade: how.cascade,
        leave_stopped: how.leave_stopped,
        reason: how.reason.as_deref().unwrap_or_default(),
        ..CancelRequest::new(job, &actor)
    };

    cancel::request(db, &request, clock::now_ms())
}

fn answer(app: &App, result: CancelResult) -> Response {
    if !result.success && result.cancellation_id.is_none() {
        let error = "already_finished";
        return (StatusCode::BAD_REQUEST, Json(Refused { error, result })).into_response();
    }

    // Also if it had not started: jobs that wait behind it may start now.
    app.wake_worker();
    Json(result).into_response()
}

/// Show the progress of a job's newest cancellation
///
/// Of the whole job or of one of its tasks.
#[utoipa::path(get, path = "/api/jobs/{id}/cancellation-status", operation_id = "cancellationStatus", tag = "cancel", params(("id" = JobId, Path, description = "The job.")), responses(
    (status = 200, body = CancelResult, description = "The progress of the cancellation."),
    (status = 404, body = FailureBody, description = "There is no such job, it is another user's, \
                                                     or no cancellation was requested."),
))]
pub async fn status(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<JobId>,
    _: Query<Nothing>,
) -> Result<Response, Failure> {
    json::answer(&app, viewer.id, move |db| {
        viewer.may_see_job(db, id)?;
        let newest = CancellationFilter {
            job: Some(id),
            limit: 1,
            ..CancellationFilter::default()
        };
        let newest = cancellations::list(db, &newest)?;

        let missing = || {
            Error::not_found(format!(
                "no cancellation was requested for job {id} or its tasks"
            ))
        };

        result::of(db, newest.first().ok_or_else(missing)?.id)
    })
    .await
}

/// Filters for cancellations.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CancellationFilters {
    /// Only cancellations of this job.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[param(nullable = false)]
    job: Option<JobId>,
    /// Only cancellations in this state. May be repeated.
    #[serde(default, deserialize_with = "extract::parsed_list")]
    state: Vec<Progress>,
    /// The most items to return.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// The number of items to skip.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List cancellations, the newest first
///
/// A user gets those of jobs that they may see. A page may end early at about 1 MiB; the next one
/// starts at `offset` plus the number of its `items`.
#[utoipa::path(get, path = "/api/cancellations", operation_id = "listCancellations", tag = "cancel", params(CancellationFilters), responses(
    (status = 200, body = List<Cancellation>, description = "The cancellations."),
))]
pub async fn list(
    SignedIn { app, viewer }: SignedIn,
    Query(which): Query<CancellationFilters>,
) -> Result<Response, Failure> {
    let part = extract::part(which.limit, which.offset);
    let which = lists::Cancellations {
        viewer: viewer.all_or_own(),
        job: which.job,
        states: which.state,
    };

    json::answer(&app, viewer.id, move |db| {
        Ok(List::new(lists::cancellations(db, &which, part)?, part))
    })
    .await
}
