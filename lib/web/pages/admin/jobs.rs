//! All jobs, by state, operation, server and user.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::super::parts::{JobLine, Pager};
use super::super::{Frame, page};
use super::chosen;
use crate::base::clock;
use crate::base::names::{ServerId, UserName};
use crate::db::links::{self, Linked};
use crate::db::listing::{self, Filter};
use crate::db::users;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::web::app::{App, fault};
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

const ROWS: u32 = 50;

/// The filters, as the form sends them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Wanted {
    state: String,
    operation: String,
    server: String,
    user: String,
    #[serde(skip_serializing)]
    page: String,
}

#[derive(Template)]
#[template(path = "admin/jobs.html")]
struct Page {
    frame: Frame,
    tab: &'static str,
    wanted: Wanted,
    jobs: Vec<JobLine>,
    pager: Pager,
    servers: Vec<Linked>,
    users: Vec<String>,
}

impl Page {
    fn states() -> [JobState; 6] {
        JobState::ALL
    }

    fn operations() -> [Operation; 8] {
        Operation::ALL
    }
}

pub(super) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let state: Option<JobState> = chosen(&wanted.state)?;
    let filters = serde_urlencoded::to_string(&wanted).map_err(fault)?;
    let turned = chosen::<u32>(&wanted.page).map_err(|_| Failure::no_page())?;
    let pager = Pager::new(format!("/admin/jobs?{filters}"), turned, ROWS);
    let filter = Filter {
        states: state.into_iter().collect(),
        operation: chosen::<Operation>(&wanted.operation)?,
        server: chosen::<ServerId>(&wanted.server)?,
        asker: chosen::<UserName>(&wanted.user)?,
        limit: pager.limit(),
        offset: pager.offset(),
        ..Filter::default()
    };
    let found = app.store.read(move |db| {
        let users = users::all(db)?.into_iter().map(|user| user.name).collect();
        Ok((listing::page(db, &filter)?, links::all(db)?, users))
    });
    let ((jobs, total), servers, users) = found.await?;
    let (jobs, pager) = (JobLine::all(jobs, clock::now_ms()), pager.with_total(total));
    let frame = Frame::of(viewer, "Jobs").within("admin");
    page(&Page { frame, tab: "jobs", wanted, jobs, pager, servers, users })
}
