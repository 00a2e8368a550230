//! The admin page for overlays: lists, adds and removes them.

use std::path::PathBuf;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::super::extract::{FormFields, PathId};
use super::super::frame::{Frame, page_with};
use crate::base::names::{BadName, OverlayName, OverlayRef};
use crate::base::{Error, Exit, clock};
use crate::db::overlays::{self, Overlay};
use crate::host::overlay;
use crate::web::app::App;
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

/// The most folders to offer.
const FOLDERS: usize = 200;

/// The form for a new overlay.
#[derive(Debug, Default)]
struct NewOverlay {
    name: String,
    path: String,
}

#[derive(Debug, Default)]
struct OverlayErrors {
    all: Option<String>,
    name: Option<String>,
    path: Option<String>,
}

struct OverlayRow {
    overlay: Overlay,
    /// The real path, or why it cannot be determined.
    place: Result<String, String>,
}

#[derive(Template)]
#[template(path = "admin/overlays.html")]
struct OverlaysPage {
    frame: Frame,
    tab: &'static str,
    rows: Vec<OverlayRow>,
    /// Folders that are not in the catalog yet.
    folders: Vec<String>,
    new: NewOverlay,
    trouble: OverlayErrors,
}

impl OverlaysPage {
    /// Whether the form names a folder that is not offered.
    fn is_other(&self) -> bool {
        let path = self.new.path.trim();
        !path.is_empty() && !self.folders.iter().any(|folder| folder == path)
    }
}

pub(super) async fn list(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let (new, trouble) = (NewOverlay::default(), OverlayErrors::default());
    show(&app, viewer, new, trouble, StatusCode::OK).await
}

async fn show(
    app: &App,
    viewer: Viewer,
    new: NewOverlay,
    trouble: OverlayErrors,
    status: StatusCode,
) -> Result<Response, Failure> {
    let root = app.settings.root.clone();
    let overlays = app.store.read(overlays::all).await?;
    let references: Vec<_> = overlays
        .iter()
        .map(|overlay| overlay.reference.clone())
        .collect();
    let folders = folders(root.clone(), references.clone()).await;
    let places = places(root, references).await;
    let rows = overlays
        .into_iter()
        .zip(places)
        .map(|(overlay, place)| OverlayRow { overlay, place })
        .collect();
    let frame = Frame::of(viewer, "Overlays").within("admin");
    let page = OverlaysPage {
        frame,
        tab: "overlays",
        rows,
        folders,
        new,
        trouble,
    };
    page_with(status, &page)
}

/// The real path of each overlay, or why it cannot be determined.
async fn places(root: PathBuf, references: Vec<String>) -> Vec<Result<String, String>> {
    let count = references.len();
    let found = disk::look(move || {
        let root = root.canonicalize().unwrap_or(root);
        let place = |reference: String| {
            let reference = reference
                .parse::<OverlayRef>()
                .map_err(|bad| bad.to_string())?;
            let found = overlay::locate(&root, &reference).map_err(|error| error.to_string())?;
            Ok(found.to_string_lossy().into_owned())
        };

        references.into_iter().map(place).collect()
    });

    found
        .await
        .unwrap_or_else(|failure| vec![Err(failure.message); count])
}

/// The folders below overlays/ that can be added. The web front does not create folders: a
/// member of the group creates them on the host.
async fn folders(root: PathBuf, known: Vec<String>) -> Vec<String> {
    let found = disk::look(move || {
        let root = root.canonicalize().unwrap_or(root);
        let below = |inside: &str| -> Vec<String> {
            let Ok(entries) = std::fs::read_dir(root.join("overlays").join(inside)) else {
                return Vec::new();
            };
            let names = entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok());
            let paths = names.map(|name| {
                if inside.is_empty() {
                    name
                } else {
                    format!("{inside}/{name}")
                }
            });

            let usable = |path: &String| {
                path.parse()
                    .is_ok_and(|path| overlay::locate(&root, &path).is_ok())
            };

            paths.filter(usable).take(FOLDERS).collect()
        };

        let has_game = |path: &str| root.join("overlays").join(path).join("left4dead2").is_dir();
        let mut folders = Vec::new();
        for folder in below("") {
            // A folder of folders, like `maps/hotel`.
            let inside = if has_game(&folder) {
                Vec::new()
            } else {
                below(&folder)
            };

            folders.extend(inside.into_iter().filter(|path| has_game(path)));
            folders.push(folder);
        }

        folders.retain(|folder| !known.contains(folder));
        folders.sort_unstable();
        folders.truncate(FOLDERS);
        folders
    });

    found.await.unwrap_or_default()
}

pub(super) async fn add(
    SignedIn { app, viewer }: SignedIn,
    FormFields(fields): FormFields,
) -> Result<Response, Failure> {
    let new = NewOverlay {
        name: fields.raw("name").to_owned(),
        path: fields.raw("path").to_owned(),
    };

    let (name, reference) = match new.parse() {
        Ok(parsed) => parsed,
        Err(trouble) => {
            return show(&app, viewer, new, trouble, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
    };

    match create(&app, viewer.actor(), name, reference).await {
        Ok(()) => Ok(back()),
        Err(failure) => show_failure(&app, viewer, new, failure).await,
    }
}

impl NewOverlay {
    /// Without a name the folder's name is used, and without a folder the name.
    fn parse(&self) -> Result<(OverlayName, OverlayRef), OverlayErrors> {
        let path = self.path.trim();
        let name = match self.name.trim() {
            "" => path.rsplit('/').next().unwrap_or_default(),
            name => name,
        };
        let reference = if path.is_empty() { name } else { path };

        match (name.parse(), reference.parse()) {
            (Ok(name), Ok(reference)) => Ok((name, reference)),
            (name, reference) => {
                let message = |bad: BadName| bad.to_string();
                let name: Option<String> = name.err().map(message);
                // The path is not to blame where it is the name.
                let own_path = !path.is_empty() || name.is_none();
                Err(OverlayErrors {
                    all: None,
                    name,
                    path: reference.err().map(message).filter(|_| own_path),
                })
            }
        }
    }
}

/// Adds an overlay whose name is free and whose folder exists.
async fn create(
    app: &App,
    actor: String,
    name: OverlayName,
    reference: OverlayRef,
) -> Result<(), Failure> {
    let (root, wanted, path) = (app.settings.root.clone(), name.clone(), reference.clone());
    let free = app.store.read(move |db| match overlays::find(db, &wanted) {
        Ok(there) => Err(Error::conflict(format!(
            "an overlay named '{wanted}' is in the catalog already, at overlays/{}",
            there.reference
        ))),
        Err(error) if error.exit == Exit::NotFound => Ok(()),
        Err(error) => Err(error),
    });
    free.await?;

    let located = disk::look(move || overlay::locate(&root.canonicalize().unwrap_or(root), &path));
    located.await?.map_err(|error| {
        let message = "This page cannot create folders: \
                       `sudo left4me overlay add NAME` on the host creates and adds one";
        Error::usage(format!("{error}. {message}"))
    })?;

    let added = app.store.write(move |tx| {
        overlays::create(tx, clock::now_ms(), &actor, &name, &reference).map(drop)
    });
    Ok(added.await?)
}

/// The page again, with the failure at the field that it is about.
async fn show_failure(
    app: &App,
    viewer: Viewer,
    new: NewOverlay,
    failure: Failure,
) -> Result<Response, Failure> {
    let mut trouble = OverlayErrors::default();
    let field = match failure.status {
        StatusCode::CONFLICT => &mut trouble.name,
        StatusCode::UNPROCESSABLE_ENTITY => &mut trouble.path,
        _ => return Err(failure),
    };

    *field = Some(failure.message);
    show(app, viewer, new, trouble, failure.status).await
}

pub(super) async fn remove(
    SignedIn { app, viewer }: SignedIn,
    PathId(name): PathId<OverlayName>,
) -> Result<Response, Failure> {
    let actor = viewer.actor();
    match app
        .store
        .write(move |tx| overlays::remove(tx, clock::now_ms(), &actor, &name))
        .await
        .map_err(Failure::from)
    {
        Ok(_) => Ok(back()),
        Err(failure) if failure.status == StatusCode::CONFLICT => {
            let trouble = OverlayErrors {
                all: Some(failure.message),
                ..OverlayErrors::default()
            };

            show(&app, viewer, NewOverlay::default(), trouble, failure.status).await
        }
        Err(failure) => Err(failure),
    }
}

fn back() -> Response {
    Redirect::to("/admin/overlays").into_response()
}
