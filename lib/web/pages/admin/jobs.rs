//! All jobs, filtered by state, operation, server and user.

use askama::Template;
use axum::response::Response;
use serde::Serialize;

use super::super::extract::{self, QueryFields};
use super::super::frame::{Frame, page};
use super::super::parts::{JobLine, Pager, is_gone};
use crate::base::clock;
use crate::base::names::{ServerId, UserName};
use crate::db::job_rows;
use crate::db::jobs::Filter;
use crate::db::links::{self, Linked};
use crate::db::users;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

const ROWS: u32 = 50;

/// The filters, as they were sent.
#[derive(Serialize)]
pub struct SentFilters {
    state: String,
    operation: String,
    server: String,
    user: String,
}

#[derive(Template)]
#[template(path = "admin/jobs.html")]
struct JobsPage {
    frame: Frame,
    tab: &'static str,
    wanted: SentFilters,
    jobs: Vec<JobLine>,
    pager: Pager,
    servers: Vec<Linked>,
    users: Vec<String>,
}

impl JobsPage {
    /// Whether the filter names a server that no longer exists.
    fn is_gone(&self) -> bool {
        is_gone(&self.servers, &self.wanted.server)
    }

    fn states() -> [JobState; 6] {
        JobState::ALL
    }

    fn operations() -> [Operation; 10] {
        Operation::ALL
    }
}

pub(super) async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(fields): QueryFields,
) -> Result<Response, Failure> {
    let field = |name| fields.raw(name).to_owned();
    let wanted = SentFilters {
        state: field("state"),
        operation: field("operation"),
        server: field("server"),
        user: field("user"),
    };

    let filters = serde_urlencoded::to_string(&wanted).map_err(Failure::internal)?;
    let turned = fields.get("page").map(extract::id).transpose()?;
    let pager = Pager::new(format!("/admin/jobs?{filters}"), turned, ROWS);

    let states = match wanted.state.trim() {
        // The overview's link to active jobs.
        "live" => vec![JobState::Running, JobState::Cancelling],
        _ => fields.optional::<JobState>("state")?.into_iter().collect(),
    };

    let filter = Filter {
        states,
        operation: fields.optional::<Operation>("operation")?,
        server: fields.optional::<ServerId>("server")?,
        requester: fields.optional::<UserName>("user")?,
        limit: pager.limit(),
        offset: pager.offset(),
        ..Filter::default()
    };

    let found = app.store.read(move |db| {
        let users = users::all(db)?.into_iter().map(|user| user.name).collect();
        Ok((job_rows::page(db, &filter, None)?, links::all(db)?, users))
    });

    let ((jobs, total), servers, users) = found.await?;
    let (jobs, pager) = (JobLine::all(jobs, clock::now_ms()), pager.with_total(total));
    let frame = Frame::of(viewer, "Jobs").within("admin");

    page(&JobsPage {
        frame,
        tab: "jobs",
        wanted,
        jobs,
        pager,
        servers,
        users,
    })
}
