//! The catalog of overlays.

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::super::{Frame, page};
use super::chosen;
use crate::base::names::{OverlayName, OverlayRef};
use crate::base::{Error, clock};
use crate::db::overlays::{self, Overlay};
use crate::host::{catalog, overlay};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// The form of a new one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct New {
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
    let rows = app.store.read(move |db| {
        let root = root.canonicalize().unwrap_or(root);
        let place = |overlay: &Overlay| {
            let reference = overlay.reference.parse::<OverlayRef>().map_err(|bad| bad.to_string())?;
            let found = overlay::locate(&root, &reference).map_err(|error| error.to_string())?;
            Ok(found.to_string_lossy().into_owned())
        };
        Ok(overlays::all(db)?.into_iter().map(|overlay| Row { place: place(&overlay), overlay }).collect())
    });
    let rows = rows.await?;
    let frame = Frame::of(viewer, "Overlays").within("admin");
    let mut response = page(&Page { frame, tab: "overlays", rows, new, trouble })?;
    *response.status_mut() = status;
    Ok(response)
}

pub(super) async fn add(State(app): State<App>, viewer: Viewer, Form(new): Form<New>) -> Result<Response, Failure> {
    let name = new.name.trim().parse::<OverlayName>();
    let path = chosen::<OverlayRef>(&new.path);
    let (name, reference) = match (name, path) {
        (Ok(name), Ok(Some(reference))) => (name, reference),
        (Ok(name), Ok(None)) => {
            let reference = name.as_str().parse::<OverlayRef>()?;
            (name, reference)
        }
        (name, path) => {
            let words = |bad: crate::base::names::BadName| bad.to_string();
            let trouble = Trouble { all: None, name: name.err().map(words), path: path.err().map(words) };
            return show(&app, viewer, new, trouble, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
    };
    let (root, actor) = (app.settings.root.clone(), viewer.actor());
    let (wanted, place) = (name.clone(), reference.clone());
    let done = app.store.read(move |db| {
        // Said before a directory is made for nothing.
        if let Ok(there) = overlays::find(db, &wanted) {
            let words =
                format!("an overlay named '{wanted}' is in the catalog already, at overlays/{}", there.reference);
            return Err(Error::conflict(words));
        }
        catalog::add(&root, &place).map_err(|error| {
            Error::usage(format!(
                "{error}. From here a folder cannot always be made: `left4me overlay add` on the host does it"
            ))
        })
    });
    let done = match done.await {
        Ok(_) => {
            let made =
                move |tx: &rusqlite::Transaction<'_>| overlays::create(tx, clock::now_ms(), &actor, &name, &reference);
            app.store.write(made).await.map(drop)
        }
        Err(error) => Err(error),
    };
    match done.map_err(Failure::from) {
        Ok(()) => Ok(back()),
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
    let name = name.parse::<OverlayName>().map_err(|_| Failure::no_page())?;
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
