//! One blueprint, and what initializing a server makes of it.

use std::path::{Path, PathBuf};

use askama::Template;
use axum::extract::{self, State};
use axum::response::Response;
use rusqlite::Connection;

use super::super::extract::id as path_id;
use super::super::frame::{Frame, page};
use super::find;
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::db::blueprints::{self, Blueprint, Content, Stored};
use crate::db::links::{self, Linked};
use crate::db::overlays;
use crate::domain::blueprint::Spec;
use crate::host::rendering::{self, Preview};
use crate::web::app::{App, Settings};
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// The instance in the preview of a blueprint that no server is linked to.
const NOBODY: &str = "id";

/// What initializing would write, and for whom.
pub struct Shown {
    /// The server that it is shown for; none for one that does not exist.
    pub server: Option<Linked>,
    /// The port in it.
    pub port: u16,
    /// The layers with the overlays' names, the topmost first.
    pub layers: Vec<Layer>,
    /// The rest.
    pub preview: Preview,
}

/// A lower layer.
pub struct Layer {
    /// The overlay's name, or what else it is.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Why it cannot be used.
    pub trouble: Option<String>,
}

/// What a preview is made of, once the database has been read.
pub struct Plan {
    server: Option<Linked>,
    names: Vec<String>,
    spec: Spec,
}

impl Plan {
    /// For the first of `servers`, or for one that does not exist yet.
    ///
    /// # Errors
    /// 3 for an overlay that is not in the catalog; 2 when its row cannot be used.
    pub fn of(db: &Connection, settings: &Settings, content: &Content, servers: &[Linked]) -> Result<Self> {
        let server = servers.first().cloned();
        let port = server.as_ref().map_or(settings.ports.first, |server| server.port);
        let mut overlays = Vec::with_capacity(content.overlays.len());
        for name in &content.overlays {
            overlays.push(overlays::find(db, name)?.reference.parse()?);
        }
        let (arguments, config) = (content.arguments.clone(), content.config.clone());
        let names = content.overlays.iter().map(ToString::to_string).collect();
        Ok(Self { server, names, spec: Spec { port, overlays, arguments, config } })
    }

    /// What initializing would write.
    ///
    /// # Errors
    /// 1 when `root` cannot be used; 503 when the disk does not answer.
    pub async fn look(self, root: PathBuf) -> Result<Shown, Failure> {
        disk::look(move || self.shown(&root)).await?.map_err(Failure::from)
    }

    fn shown(self, root: &Path) -> Result<Shown> {
        let instance = match &self.server {
            Some(server) => InstanceName::from(server.id),
            None => NOBODY.parse()?,
        };
        let preview = rendering::preview(root, &instance, &self.spec)?;
        let mut names = self.names.into_iter();
        let mut layers = Vec::with_capacity(preview.layers.len());
        for (at, layer) in preview.layers.iter().enumerate() {
            let name = match (at, &layer.overlay) {
                (_, Some(_)) => names.next().unwrap_or_default(),
                (0, None) => "server.cfg, written by left4me".to_owned(),
                (_, None) => "the game".to_owned(),
            };
            layers.push(Layer { name, path: layer.path.clone(), trouble: layer.trouble.clone() });
        }
        Ok(Shown { server: self.server, port: self.spec.port, layers, preview })
    }
}

#[derive(Template)]
#[template(path = "blueprints/show.html")]
struct Page {
    frame: Frame,
    blueprint: Blueprint,
    stored: Stored,
    servers: Vec<Linked>,
    shown: Option<Shown>,
    trouble: Option<String>,
    whose: bool,
}

pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    extract::Path(id): extract::Path<String>,
) -> Result<Response, Failure> {
    let id = path_id(&id)?;
    let (asker, settings) = (viewer.clone(), app.settings.clone());
    let found = app.store.read(move |db| {
        let blueprint = find(db, &asker, id)?;
        let servers = links::of_blueprint(db, id)?;
        // A row that is refused, or a root that is away, is shown on the page.
        let stored = blueprints::stored(db, id)?;
        let plan = if stored.refused.is_empty() {
            blueprints::content(db, id).and_then(|content| Plan::of(db, &settings, &content, &servers))
        } else {
            Err(Error::failed(format!("no server can be started with this blueprint: {}", stored.refused.join("; "))))
        };
        Ok((blueprint, servers, stored, plan))
    });
    let (blueprint, servers, stored, plan) = found.await?;
    let shown = match plan {
        Ok(plan) => plan.look(app.settings.root.clone()).await.map_err(|failure| failure.message),
        Err(error) => Err(error.to_string()),
    };
    let trouble = shown.as_ref().err().cloned();
    let (frame, whose) = (Frame::of(viewer.clone(), &blueprint.name), viewer.is_admin);
    let frame = frame.within("blueprints");
    page(&Page { frame, blueprint, stored, servers, shown: shown.ok(), trouble, whose })
}
