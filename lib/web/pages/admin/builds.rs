//! The admin page for the builds of the game: which there are, who runs which, what is new; updates
//! and rollbacks.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use rusqlite::Connection;

use super::super::extract::{FormFields, PathId};
use super::super::frame::{Frame, page};
use super::super::job;
use super::super::server_acts::press;
use super::steam;
use crate::base::builds::GameFiles;
use crate::base::config::BuildMode;
use crate::base::size::size;
use crate::base::{Result, secret};
use crate::db::builds::{self as found, Available};
use crate::db::overview::{self, Shared};
use crate::db::servers::{self, Server};
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;
use crate::host::build_list::{self, Build, OnDisk};
use crate::web::builds;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "admin/builds.html")]
struct BuildsPage {
    frame: Frame,
    tab: &'static str,
    key: String,
    in_place: bool,
    /// The build that servers take at their next start, or why there is none.
    game: std::result::Result<u64, String>,
    is_new: bool,
    install: steam::InstallOptions,
    rows: Vec<BuildRow>,
    servers: Vec<ServerRow>,
    available: Option<Available>,
    /// The job that works on builds, with its progress.
    shared: Option<(Shared, Option<(String, String)>)>,
}

/// A build, and what can be done with it.
struct BuildRow {
    build: Build,
    /// Whether it may become the current one.
    can_use: bool,
    /// Whether that goes back, not forward.
    is_older: bool,
    can_remove: bool,
}

impl BuildRow {
    fn size(&self) -> Option<String> {
        self.build.size.map(size)
    }

    /// How much room it takes of its own, if that is not all of its size.
    fn copied(&self) -> Option<String> {
        let (size_of, copied) = (self.build.size?, self.build.copied?);
        (copied < size_of).then(|| size(copied))
    }
}

/// Which build a server runs.
struct ServerRow {
    server: Server,
    /// What it was started with; none if it has no files.
    game: Option<GameFiles>,
    since: Option<i64>,
    /// The build that it takes at its next start, if that is another one.
    next: Option<u64>,
}

impl ServerRow {
    fn is_down(&self) -> bool {
        matches!(
            self.server.actual_state,
            ActualState::Stopped | ActualState::Failed | ActualState::Unknown
        )
    }
}

struct Loaded {
    builds: Vec<Build>,
    servers: Vec<Server>,
    available: Option<Available>,
    shared: Option<(Shared, Option<(String, String)>)>,
}

fn load(db: &Connection, disk: &OnDisk) -> Result<Loaded> {
    let shared = match overview::shared_job(db)? {
        Some(shared) => {
            let progress = job::progress(db, shared.id)?;
            Some((shared, progress))
        }
        None => None,
    };
    Ok(Loaded {
        builds: build_list::all(db, disk)?,
        servers: servers::all(db)?,
        available: found::available(db)?,
        shared,
    })
}

pub(super) async fn show(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let disk = builds::on_disk(&app).await?;
    let current = disk.current();
    let used = by_server(&disk);
    let Loaded {
        builds,
        servers,
        available,
        shared,
    } = app.store.read(move |db| load(db, &disk)).await?;

    let in_place = app.settings.build_mode == BuildMode::InPlace;
    let (game, nothing) = steam::look(&app).await;
    let is_new = steam::is_new(available, &game);
    let servers: Vec<ServerRow> = servers
        .into_iter()
        .map(|server| server_row(server, &used, current))
        .collect();
    let is_mounted = |row: &ServerRow| !row.is_down();
    let install = steam::InstallOptions {
        nothing,
        mounted: match in_place {
            true => servers.iter().any(is_mounted),
            false => servers
                .iter()
                .any(|row| is_mounted(row) && row.game == Some(GameFiles::Installation)),
        },
    };

    let rows = builds.into_iter().map(|build| BuildRow {
        can_use: build.kept && !build.current && !in_place,
        is_older: current.is_some_and(|current| build.build < current),
        can_remove: build.kept && !build.current && build.servers.is_empty(),
        build,
    });
    page(&BuildsPage {
        rows: rows.collect(),
        frame: Frame::of(viewer, "Builds").within("admin"),
        tab: "builds",
        key: secret::random()?,
        in_place,
        game,
        is_new,
        install,
        servers,
        available,
        shared,
    })
}

/// What each server was started with, by its id.
fn by_server(disk: &OnDisk) -> BTreeMap<String, GameFiles> {
    let used = disk.used.iter();
    used.map(|(instance, &game)| (instance.to_string(), game))
        .collect()
}

fn server_row(
    server: Server,
    used: &BTreeMap<String, GameFiles>,
    current: Option<u64>,
) -> ServerRow {
    let game = used.get(&server.id.to_string()).copied();
    let build = game.and_then(GameFiles::build);
    ServerRow {
        since: server
            .build_since
            .filter(|_| build.is_some() && server.build == build),
        next: current.filter(|_| game.is_some() && build != current),
        game,
        server,
    }
}

/// Makes a kept build the current one.
pub(super) async fn rollback(signed_in: SignedIn, form: FormFields) -> Result<Response, Failure> {
    press(signed_in, form, Operation::Rollback, None).await
}

/// Removes a build.
pub(super) async fn remove(
    SignedIn { app, viewer }: SignedIn,
    PathId(build): PathId<u64>,
) -> Result<Response, Failure> {
    builds::remove(&app, build, viewer.actor()).await?;
    Ok(Redirect::to("/admin/builds").into_response())
}
