//! The jobs of all hosts.

use askama::Template;
use axum::response::Response;

use super::super::extract::QueryFields;
use super::super::frame::{Frame, page};
use super::{Head, Turn, Turns, host_filter};
use crate::base::clock;
use crate::base::names::FleetHost;
use crate::db::fleet::jobs::{self, JobFilter};
use crate::queue::fleet::seen::{SeenJob, all_hosts};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "fleet/jobs.html")]
struct JobsPage {
    frame: Frame,
    head: Head,
    host: String,
    open: bool,
    jobs: Vec<SeenJob>,
    turns: Turns,
}

pub(super) async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(fields): QueryFields,
) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let (only, turn, open) = (
        host_filter(&fields)?,
        Turn::of(&fields)?,
        fields.is_set("open"),
    );
    let part = turn.part();
    let loaded = app.store.read(move |db| {
        let filter = JobFilter {
            host: only.as_ref().map(FleetHost::as_str),
            open,
        };
        Ok((
            Head::load(db, "jobs", now)?,
            SeenJob::all(jobs::newest(db, filter, part)?, &all_hosts(db, now)?),
        ))
    });
    let (head, mut jobs) = loaded.await?;

    let host = fields.raw("host").to_owned();
    let only_open = if open { "&open=1" } else { "" };
    let turns = turn.cut(&mut jobs, &format!("/fleet/jobs?host={host}{only_open}"));
    page(&JobsPage {
        frame: Frame::of(viewer, "Jobs of all hosts").within("fleet"),
        head,
        host,
        open,
        jobs,
        turns,
    })
}
