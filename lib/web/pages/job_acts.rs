//! What a job's buttons do, and its log as a file.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::asked::{Sent, id};
use crate::base::names::{JobId, RequestKey, TaskId};
use crate::base::{Error, clock};
use crate::cancel::request::{Wish, request};
use crate::db::{jobs, logs};
use crate::domain::cancellation;
use crate::domain::operation::Operation;
use crate::queue::enqueue::{Asker, retry as repeat};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// Lines that are read at once for a download: at most 4,096 characters each.
const PAGE: u32 = 256;

/// Cancels the job, or one of its tasks. What has ended already is told, with 400.
pub async fn cancel(
    State(app): State<App>,
    viewer: Viewer,
    Path(path): Path<String>,
    Sent(form): Sent,
) -> Result<Response, Failure> {
    let job = id::<JobId>(&path)?;
    let reason = form.get("reason").map(cancellation::reason).transpose()?.unwrap_or_default();
    let task: Option<TaskId> = form.optional("task")?;
    let (force, cascade) = (form.is_set("force"), form.is_set("cascade"));
    let asked = app.store.with(move |db| {
        viewer.may_see_job(db.connection(), job)?;
        let actor = viewer.actor();
        let wish = Wish { job, task, force, cascade, reason: &reason, requested_by: &actor };
        request(db, &wish, clock::now_ms())
    });
    let result = asked.await?;
    if result.cancellation_id.is_none() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, result.message));
    }
    app.poke();
    Ok(Redirect::to(&format!("/jobs/{job}#cancellations")).into_response())
}

/// Enqueues a fresh job that does the same. Only what the viewer could ask for anew: who asked for a job may see it for
/// ever, but its servers may be another's by now.
pub async fn retry(
    State(app): State<App>,
    viewer: Viewer,
    Path(path): Path<String>,
    Sent(form): Sent,
) -> Result<Response, Failure> {
    let job = id::<JobId>(&path)?;
    let key: Option<RequestKey> = form.optional("key")?;
    let accepted = app.store.with(move |db| {
        viewer.may_see_job(db.connection(), job)?;
        let before = jobs::get(db.connection(), job)?;
        if !viewer.is_admin && before.operation.parse::<Operation>().is_ok_and(Operation::is_exclusive) {
            return Err(Error::not_permitted(format!("only an admin may {}", before.operation)));
        }
        for &server in &before.servers {
            viewer.server(db.connection(), server)?;
        }
        let actor = viewer.actor();
        let asker = Asker { name: &actor, user: Some(viewer.id), key: key.as_ref() };
        repeat(db, job, &asker, clock::now_ms())
    });
    let job = accepted.await?.job_id;
    app.poke();
    Ok(Redirect::to(&format!("/jobs/{job}")).into_response())
}

/// All lines so far, as they were printed. Read page by page as the reader takes them, so that memory stays bounded.
pub async fn download(State(app): State<App>, viewer: Viewer, Path(path): Path<String>) -> Result<Response, Failure> {
    let job = id::<JobId>(&path)?;
    app.store.read(move |db| viewer.may_see_job(db, job)).await?;
    let (pages, body) = channel(1);
    tokio::spawn(read(app, job, pages));
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"left4me-job-{job}.log\"")),
    ];
    Ok((headers, Body::new(Pages(body))).into_response())
}

/// Reads until the end that the log has now, or until nobody takes it any more.
async fn read(app: App, job: JobId, pages: Sender<Result<Bytes, Error>>) {
    let mut after = 0;
    loop {
        let from = after;
        let page = app.store.read(move |db| logs::after(db, job, from, PAGE)).await;
        let page = page.map(|lines| {
            after = lines.last().map_or(after, |line| line.seq);
            let mut text = String::new();
            for line in &lines {
                text.push_str(&line.line);
                text.push('\n');
            }
            (Bytes::from(text), lines.len() < PAGE as usize)
        });
        let last = page.as_ref().map_or(true, |(_, last)| *last);
        if pages.send(page.map(|(text, _)| text)).await.is_err() || last {
            return;
        }
    }
}

/// A body whose pages come over a channel.
struct Pages(Receiver<Result<Bytes, Error>>);

impl http_body::Body for Pages {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
        self.0.poll_recv(context).map(|page| page.map(|page| page.map(http_body::Frame::data)))
    }
}
