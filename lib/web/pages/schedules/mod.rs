//! What is done at set times: the page of all schedules, and the forms that add, pause, resume and
//! remove one. Server pages have the same table and form.

mod form;
mod line;
mod words;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use rusqlite::Connection;

pub use form::ScheduleForm;
pub use line::ScheduleLine;

use self::form::{ServerChoice, Wrong};
use super::extract::{Fields, FormFields, IsRefresh, PathId, QueryFields};
use super::frame::{Frame, page_with};
use crate::base::names::{ScheduleId, ServerId};
use crate::base::{Exit, Result, clock};
use crate::db::schedules::Schedule;
use crate::db::servers::{self, Server};
use crate::web::access::Access;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::schedules;
use crate::web::signed_in::SignedIn;
use crate::web::table::Table;
use crate::web::viewer::Viewer;

/// Where zones are.
const AREAS: [&str; 10] = [
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
];

/// So many runs of a new schedule are told.
const NEXT_RUNS: usize = 3;

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Access::User, "/schedules", list)
        .post(Access::User, "/schedules", add)
        .post(Access::User, "/schedules/{id}/pause", pause)
        .post(Access::User, "/schedules/{id}/resume", resume)
        .post(Access::User, "/schedules/{id}/remove", remove)
}

#[derive(Template)]
#[template(path = "schedules.html")]
struct SchedulesPage {
    frame: Frame,
    lines: Vec<ScheduleLine>,
    form: ScheduleForm,
    /// The schedule that was just added.
    added: Option<Added>,
}

struct Added {
    id: ScheduleId,
    /// Its next runs, in its zone.
    runs: Vec<String>,
}

/// The schedules that the viewer may see, and the form for another one. `?server=ID` chooses a
/// server; `?added=ID` is the way back from the form.
async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(query): QueryFields,
    IsRefresh(again): IsRefresh,
) -> std::result::Result<Response, Failure> {
    let mut form = new_form(&viewer, query, Wrong::new());
    if again {
        form.zones.clear();
    }
    show(&app, viewer, form, StatusCode::OK).await
}

async fn show(
    app: &App,
    viewer: Viewer,
    mut form: ScheduleForm,
    status: StatusCode,
) -> std::result::Result<Response, Failure> {
    let requester = viewer.clone();
    let loaded = app.store.read(move |db| {
        let visible = schedules::visible(db, &requester)?;
        let added: Option<ScheduleId> = form.typed.maybe("added");
        let added = visible.iter().find(|one| Some(one.id) == added);
        let added = added.map(added_now);
        let lines = ScheduleLine::all(db, visible, requester.all_or_own())?;
        form.servers = choices(db, &requester, &form.typed)?;
        Ok((lines, added, form))
    });

    let (lines, added, form) = loaded.await?;
    let page = SchedulesPage {
        frame: Frame::of(viewer, "Schedules").within("schedules"),
        lines,
        form,
        added,
    };
    page_with(status, &page)
}

fn added_now(schedule: &Schedule) -> Added {
    Added {
        id: schedule.id,
        runs: line::next_runs(schedule, clock::now_ms(), NEXT_RUNS),
    }
}

/// Without servers to choose from.
fn new_form(viewer: &Viewer, typed: Fields, wrong: Wrong) -> ScheduleForm {
    ScheduleForm {
        typed,
        wrong,
        servers: Vec::new(),
        server: None,
        is_admin: viewer.is_admin,
        zones: zones(),
        zone_here: line::host_zone(),
    }
}

/// The servers that the viewer may choose. A single one is chosen from the start.
fn choices(db: &Connection, viewer: &Viewer, typed: &Fields) -> Result<Vec<ServerChoice>> {
    let servers = match viewer.all_or_own() {
        Some(user) => servers::of_user(db, user)?,
        None => servers::all(db)?,
    };
    let ticked: Vec<&str> = typed.all("server").collect();
    let is_only = servers.len() == 1 && !viewer.is_admin && !typed.is_set("operation");
    let choice = |server: Server| ServerChoice {
        id: server.id,
        chosen: is_only || ticked.contains(&server.id.to_string().as_str()),
        label: match server.user_id == viewer.id {
            true => server.name,
            false => format!("{} ({})", server.name, server.user),
        },
    };
    Ok(servers.into_iter().map(choice).collect())
}

/// The names of zones by their area, as people know them: no abbreviations and no second copies.
fn zones() -> Vec<String> {
    let names = jiff::tz::db().available();
    let known = names.filter(|name| {
        let area = name.as_str().split_once('/').map(|(area, _)| area);
        area.map_or(name.as_str() == "UTC", |area| AREAS.contains(&area))
    });
    let mut zones: Vec<String> = known.map(|name| name.as_str().to_owned()).collect();
    zones.sort_unstable();
    zones
}

/// The schedules of one server that the viewer may see, for its page.
pub fn of_server(db: &Connection, viewer: &Viewer, server: ServerId) -> Result<Vec<ScheduleLine>> {
    let mut visible = schedules::visible(db, viewer)?;
    visible.retain(|schedule| schedule.all || schedule.servers.contains(&server));
    ScheduleLine::all(db, visible, viewer.all_or_own())
}

/// The form on that page.
pub fn form_of_server(viewer: &Viewer, server: ServerId) -> ScheduleForm {
    ScheduleForm {
        server: Some(server),
        ..new_form(viewer, Fields::default(), Wrong::new())
    }
}

/// Adds a schedule, and shows when it runs. Errors are shown at their fields.
async fn add(
    SignedIn { app, viewer }: SignedIn,
    FormFields(form): FormFields,
) -> std::result::Result<Response, Failure> {
    let request = match form::read(&form, clock::now_ms(), &clock::zone()) {
        Ok(request) => request,
        Err(wrong) => {
            let form = new_form(&viewer, form, wrong);
            return show(&app, viewer, form, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
    };

    let error = match schedules::add(&app, viewer.clone(), request).await {
        Ok(added) => {
            let to = format!("/schedules?added={}", added.schedule.id);
            return Ok(Redirect::to(&to).into_response());
        }
        Err(error) => error,
    };
    let field = match error.exit {
        Exit::NotFound => "server",
        Exit::NotPermitted => "operation",
        Exit::Conflict | Exit::Usage => "form",
        _ => return Err(error.into()),
    };
    let failure = Failure::from(error);
    let form = new_form(&viewer, form, vec![(field, failure.message)]);
    show(&app, viewer, form, failure.status).await
}

async fn pause(
    signed_in: SignedIn,
    path: PathId<ScheduleId>,
    form: FormFields,
) -> std::result::Result<Response, Failure> {
    set_paused(signed_in, path, form, true).await
}

async fn resume(
    signed_in: SignedIn,
    path: PathId<ScheduleId>,
    form: FormFields,
) -> std::result::Result<Response, Failure> {
    set_paused(signed_in, path, form, false).await
}

async fn set_paused(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ScheduleId>,
    FormFields(form): FormFields,
    paused: bool,
) -> std::result::Result<Response, Failure> {
    schedules::set_paused(&app, viewer, id, paused).await?;
    Ok(back(&form))
}

async fn remove(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ScheduleId>,
    FormFields(form): FormFields,
) -> std::result::Result<Response, Failure> {
    schedules::remove(&app, viewer, id).await?;
    Ok(back(&form))
}

/// To the page with the button: that of a server, or that of all schedules.
fn back(form: &Fields) -> Response {
    let to = match form.maybe::<ServerId>("back") {
        Some(id) => format!("/servers/{id}#schedules"),
        None => "/schedules".to_owned(),
    };
    Redirect::to(&to).into_response()
}
