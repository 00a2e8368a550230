//! The catalog of overlays.

use std::path::PathBuf;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::super::asked::{self, Sent};
use super::super::{Frame, page};
use crate::base::names::{BadName, OverlayName, OverlayRef};
use crate::base::{Error, clock};
use crate::db::overlays::{self, Overlay};
use crate::host::{catalog, overlay};
use crate::web::app::App;
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// The form of a new one.
#[derive(Debug, Default)]
struct New {
    name: String,
    path: String,
}

/// What went wrong, and where.
#[derive(Debug, Default)]
struct Trouble {
    all: Option<String>,
    name: Option<String>,
    path: Option<String>,
}

struct Row {
    overlay: Overlay,
    /// Where it really is.
    place: Result<String, String>,
}

#[derive(Template)]
#[template(path = "admin/overlays.html")]
struct Page {
    frame: Frame,
    tab: &'static str,
    rows: Vec<Row>,
    new: New,
    trouble: Trouble,
}

pub(super) async fn list(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    show(&app, viewer, New::default(), Trouble::default(), StatusCode::OK).await
}

async fn show(app: &App, viewer: Viewer, new: New, trouble: Trouble, status: StatusCode) -> Result<Response, Failure> {
    let root = app.settings.root.clone();
    let overlays = app.store.read(overlays::all).await?;
    let places = places(root, overlays.iter().map(|overlay| overlay.reference.clone()).collect()).await;
    let rows = overlays.into_iter().zip(places).map(|(overlay, place)| Row { overlay, place }).collect();
    let frame = Frame::of(viewer, "Overlays").within("admin");
    let mut response = page(&Page { frame, tab: "overlays", rows, new, trouble })?;
    *response.status_mut() = status;
    Ok(response)
}

/// Where each really is, or why nobody knows.
async fn places(root: PathBuf, references: Vec<String>) -> Vec<Result<String, String>> {
    let count = references.len();
    let found = disk::look(move || {
        let root = root.canonicalize().unwrap_or(root);
        let place = |reference: String| {
            let reference = reference.parse::<OverlayRef>().map_err(|bad| bad.to_string())?;
            let found = overlay::locate(&root, &reference).map_err(|error| error.to_string())?;
            Ok(found.to_string_lossy().into_owned())
        };
        references.into_iter().map(place).collect()
    });
    found.await.unwrap_or_else(|failure| vec![Err(failure.message); count])
}

pub(super) async fn add(State(app): State<App>, viewer: Viewer, Sent(fields): Sent) -> Result<Response, Failure> {
    let new = New { name: fields.raw("name").to_owned(), path: fields.raw("path").to_owned() };
    let name = new.name.trim().parse::<OverlayName>();
    let path = fields.get("path").map(|path| path.trim().parse::<OverlayRef>()).transpose();
    let (name, reference) = match (name, path) {
        (Ok(name), Ok(Some(reference))) => (name, reference),
        (Ok(name), Ok(None)) => {
            let reference = name.as_str().parse::<OverlayRef>()?;
            (name, reference)
        }
        (name, path) => {
            let words = |bad: BadName| bad.to_string();
            let trouble = Trouble { all: None, name: name.err().map(words), path: path.err().map(words) };
            return show(&app, viewer, new, trouble, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
    };
    let (root, actor) = (app.settings.root.clone(), viewer.actor());
    let (wanted, place) = (name.clone(), reference.clone());
    let free = app.store.read(move |db| match overlays::find(db, &wanted) {
        // Said before a directory is made for nothing.
        Ok(there) => Err(Error::conflict(format!(
            "an overlay named '{wanted}' is in the catalog already, at overlays/{}",
            there.reference
        ))),
        Err(_) => Ok(()),
    });
    let done = match free.await {
        Ok(()) => disk::look(move || catalog::add(&root, &place)).await?.map_err(|error| {
            let words = "From here a folder cannot always be made: `left4me overlay add` on the host does it";
            Error::usage(format!("{error}. {words}"))
        }),
        Err(error) => Err(error),
    };
    let done = match done {
        Ok(_) => app.store.write(move |tx| overlays::create(tx, clock::now_ms(), &actor, &name, &reference)).await,
        Err(error) => Err(error),
    };
    match done.map_err(Failure::from) {
        Ok(_) => Ok(back()),
        Err(failure) if failure.status == StatusCode::CONFLICT => {
            let trouble = Trouble { name: Some(failure.message), ..Trouble::default() };
            show(&app, viewer, new, trouble, failure.status).await
        }
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let trouble = Trouble { path: Some(failure.message), ..Trouble::default() };
            show(&app, viewer, new, trouble, failure.status).await
        }
        Err(failure) => Err(failure),
    }
}

pub(super) async fn remove(
    State(app): State<App>,
    viewer: Viewer,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let name = asked::id::<OverlayName>(&name)?;
    let actor = viewer.actor();
    match app.store.write(move |tx| overlays::remove(tx, clock::now_ms(), &actor, &name)).await.map_err(Failure::from) {
        Ok(_) => Ok(back()),
        Err(failure) if failure.status == StatusCode::CONFLICT => {
            let trouble = Trouble { all: Some(failure.message), ..Trouble::default() };
            show(&app, viewer, New::default(), trouble, failure.status).await
        }
        Err(failure) => Err(failure),
    }
}

fn back() -> Response {
    Redirect::to("/admin/overlays").into_response()
}
