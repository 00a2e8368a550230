//! One host: what it told of itself, its servers, jobs and orders, and what happened there.

use askama::Template;
use axum::response::Response;

use super::super::extract::PathId;
use super::super::frame::{Frame, page};
use super::Head;
use super::events::EventLine;
use crate::base::clock;
use crate::base::names::FleetHost;
use crate::db::fleet::events::{self, EventFilter};
use crate::db::fleet::jobs::{self, JobFilter};
use crate::db::fleet::{hosts, servers};
use crate::db::lists::Part;
use crate::domain::fleet::view::HostState;
use crate::queue::fleet::seen::{SeenHost, SeenJob, SeenServer, all_servers};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

const SHOWN: Part = Part {
    limit: 10,
    offset: 0,
};

#[derive(Template)]
#[template(path = "fleet/host.html")]
struct HostPage {
    frame: Frame,
    head: Head,
    host: SeenHost,
    servers: Vec<SeenServer>,
    jobs: Vec<SeenJob>,
    lines: Vec<EventLine>,
}

pub(super) async fn show(
    SignedIn { app, viewer }: SignedIn,
    PathId(name): PathId<FleetHost>,
) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let loaded = app.store.read(move |db| {
        let only = Some(name.as_str());
        let of_host = JobFilter {
            host: only,
            ..JobFilter::default()
        };
        let on_host = EventFilter {
            host: only,
            ..EventFilter::default()
        };
        let host = SeenHost::of(hosts::find(db, &name)?, now);
        let lines = EventLine::all(events::newest(db, on_host, SHOWN)?, &servers::names(db)?);
        let jobs = SeenJob::all(
            jobs::newest(db, of_host, SHOWN)?,
            std::slice::from_ref(&host),
        );
        Ok((
            Head::load(db, "hosts", now)?,
            host,
            all_servers(db, only, now)?,
            jobs,
            lines,
        ))
    });
    let (head, host, servers, jobs, lines) = loaded.await?;
    page(&HostPage {
        frame: Frame::of(viewer, host.name.clone()).within("fleet"),
        head,
        host,
        servers,
        jobs,
        lines,
    })
}
