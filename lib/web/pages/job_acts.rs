//! The actions of a job's page, and downloads of its log.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};

use super::console;
use super::extract::{FormFields, PathId, QueryFields};
use crate::base::names::{JobId, RequestKey, TaskId};
use crate::base::{Error, clock};
use crate::cancel::{self, CancelRequest};
use crate::db::logs::Line;
use crate::db::{jobs, logs};
use crate::domain::cancellation;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::queue::retry::retry as repeat;
use crate::web::app::App;
use crate::web::auth::redirect;
use crate::web::failure::Failure;
use crate::web::pieces::Pieces;
use crate::web::signed_in::SignedIn;
use crate::web::streams::{self, is_good};
use crate::web::viewer::Viewer;

/// The most lines in one read of a download.
const LINES: u32 = 1024;
/// The most bytes in one read. At most two reads are buffered for a client.
const BYTES: usize = 32 * 1024;

/// Cancels the job, or one of its tasks. 400 if it has ended already.
pub async fn cancel(
    SignedIn { app, viewer }: SignedIn,
    PathId(job): PathId<JobId>,
    headers: HeaderMap,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let reason = form
        .get("reason")
        .map(cancellation::reason)
        .transpose()?
        .unwrap_or_default();
    let task: Option<TaskId> = form.optional("task")?;
    let (force, cascade) = (form.is_set("force"), form.is_set("cascade"));
    let leave_stopped = form.is_set("leave_stopped");

    // The button in a table is for a queued job; it must not cancel one that has started meanwhile.
    let from_table = form.is_set("queued");
    let asked = app.store.with(move |db| {
        let actor = viewer.actor();
        let request = CancelRequest {
            task,
            force,
            cascade,
            leave_stopped,
            reason: &reason,
            ..CancelRequest::new(job, &actor)
        };
        // In one transaction: the worker may start it at any moment.
        db.write(|tx| {
            viewer.may_see_job(tx, job)?;
            let state = jobs::state(tx, job)?.0;
            if from_table && !matches!(state, JobState::Queued | JobState::Cancelled) {
                return Err(Error::conflict(format!(
                    "job {job} does not wait any more: see its page"
                )));
            }
            cancel::request_in(tx, &request, clock::now_ms())
        })
    });

    let result = asked.await?;
    if result.cancellation_id.is_none() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, result.message));
    }

    app.wake_worker();
    if from_table {
        return Ok(Redirect::to(&redirect::referer_path(&headers)).into_response());
    }

    Ok(Redirect::to(&format!("/jobs/{job}#cancellations")).into_response())
}

/// Enqueues a new job that does the same, if the viewer may request it. A requester can always see
/// a job, but its servers may belong to another user by now.
pub async fn retry(
    SignedIn { app, viewer }: SignedIn,
    PathId(job): PathId<JobId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let key: Option<RequestKey> = form.optional("key")?;
    let mode = app.settings.build_mode;
    let accepted = app.store.with(move |db| {
        viewer.may_see_job(db.connection(), job)?;

        let before = jobs::get(db.connection(), job)?;
        if !viewer.is_admin
            && before
                .operation
                .parse::<Operation>()
                .is_ok_and(Operation::is_shared)
        {
            return Err(Error::not_permitted(format!(
                "only an admin may {}",
                before.operation
            )));
        }

        for &server in &before.servers {
            viewer.server(db.connection(), server)?;
        }

        let actor = viewer.actor();
        let requester = viewer.requester(&actor, key.as_ref());
        repeat(db, job, mode, &requester, clock::now_ms())
    });

    let job = accepted.await?.job_id;
    app.wake_worker();

    Ok(Redirect::to(&format!("/jobs/{job}")).into_response())
}

/// A line, as the page shows it.
#[derive(Serialize)]
struct LogLine {
    seq: i64,
    at: i64,
    stream: &'static str,
    line: String,
}

/// Lines after `after`, or from the start: the part of a long log that the page left out.
pub async fn lines(
    SignedIn { app, viewer }: SignedIn,
    PathId(job): PathId<JobId>,
    QueryFields(since): QueryFields,
) -> Result<Json<Vec<impl Serialize>>, Failure> {
    let after = since.maybe::<i64>("after").unwrap_or(0);
    let found = app.store.read(move |db| {
        viewer.may_see_job(db, job)?;
        logs::page(db, job, after, LINES, 8 * BYTES)
    });

    let shown = |line: Line| LogLine {
        seq: line.seq,
        at: line.at,
        stream: line.stream.as_str(),
        line: console::shown(&line.line).into_owned(),
    };

    Ok(Json(found.await?.into_iter().map(shown).collect()))
}

/// All lines so far, as printed. They are read as the client reads, so memory is bounded. The
/// download counts as an open stream.
pub async fn download(
    SignedIn { app, viewer }: SignedIn,
    PathId(job): PathId<JobId>,
) -> Result<Response, Failure> {
    let requester = viewer.clone();
    let last = app.store.read(move |db| {
        requester.may_see_job(db, job)?;
        logs::last_seq(db, job)
    });

    let last = last.await?;
    let open = streams::open(&app, viewer.id, "download")?;
    let (pages, body) = channel(1);
    tokio::spawn(read(app, viewer, job, last, pages));

    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"left4me-job-{job}.log\""),
        ),
    ];

    Ok((headers, Body::new(Pieces::new(body, open))).into_response())
}

/// Reads up to `last`, the log's current end, until the client leaves. Each part is read once the
/// client can take it, and only while the viewer may read it; otherwise the download breaks off.
async fn read(
    app: App,
    viewer: Viewer,
    job: JobId,
    last: i64,
    pages: Sender<Result<Bytes, Error>>,
) {
    let mut after = 0;
    while after < last {
        let Ok(room) = pages.reserve().await else {
            return;
        };
        let (from, requester) = (after, viewer.clone());
        let page = app.store.read(move |db| {
            if !is_good(db, &requester, clock::now_ms())? {
                return Err(Error::not_permitted("the viewer is not signed in any more"));
            }
            requester.may_see_job(db, job)?;
            let lines = logs::page(db, job, from, LINES, BYTES)?;
            let text: String = lines
                .iter()
                .flat_map(|line| [line.line.as_str(), "\n"])
                .collect();
            Ok((
                Bytes::from(text),
                lines.last().map_or(last, |line| line.seq),
            ))
        });

        match page.await {
            Ok((text, seq)) => {
                after = seq;
                room.send(Ok(text));
            }
            Err(error) => return room.send(Err(error)),
        }
    }
}
