//! One blueprint, and what initializing a server makes of it.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use rusqlite::Connection;

use super::super::{Frame, page};
use super::{find, parse_id};
use crate::base::Result;
use crate::base::names::InstanceName;
use crate::db::blueprints::{self, Blueprint, Content};
use crate::db::links::{self, Linked};
use crate::db::overlays;
use crate::domain::blueprint::Spec;
use crate::host::rendering::{self, Preview};
use crate::web::app::{App, Settings};
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

/// What initializing the first of `servers` would write, or one that does not exist yet.
///
/// # Errors
/// 3 for an overlay that is not in the catalog; 1 when its row or LEFT4ME_ROOT cannot be used.
pub fn preview(db: &Connection, settings: &Settings, content: &Content, servers: &[Linked]) -> Result<Shown> {
    let server = servers.first().cloned();
    let port = server.as_ref().map_or(settings.ports.first, |server| server.port);
    let instance = match &server {
        Some(server) => InstanceName::from(server.id),
        None => NOBODY.parse()?,
    };
    let mut overlays = Vec::with_capacity(content.overlays.len());
    for name in &content.overlays {
        overlays.push(overlays::find(db, name)?.reference.parse()?);
    }
    let (arguments, config) = (content.arguments.clone(), content.config.clone());
    let spec = Spec { port, overlays, arguments, config };
    let preview = rendering::preview(&settings.root, &instance, &spec)?;
    let mut names = content.overlays.iter();
    let mut layers = Vec::with_capacity(preview.layers.len());
    for (at, layer) in preview.layers.iter().enumerate() {
        let name = match (at, &layer.overlay) {
            (_, Some(_)) => names.next().map(ToString::to_string).unwrap_or_default(),
            (0, None) => "server.cfg, written by left4me".to_owned(),
            (_, None) => "the game".to_owned(),
        };
        layers.push(Layer { name, path: layer.path.clone(), trouble: layer.trouble.clone() });
    }
    Ok(Shown { server, port, layers, preview })
}

#[derive(Template)]
#[template(path = "blueprints/show.html")]
struct Page {
    frame: Frame,
    blueprint: Blueprint,
    content: Option<Content>,
    servers: Vec<Linked>,
    shown: Option<Shown>,
    trouble: Option<String>,
    whose: bool,
}

pub(super) async fn show(State(app): State<App>, viewer: Viewer, Path(id): Path<String>) -> Result<Response, Failure> {
    let id = parse_id(&id)?;
    let (asker, settings) = (viewer.clone(), app.settings.clone());
    let found = app.store.read(move |db| {
        let blueprint = find(db, &asker, id)?;
        let servers = links::of_blueprint(db, id)?;
        // A damaged row, or a root that is away, is told on the page.
        let content = blueprints::content(db, id);
        let shown =
            content.as_ref().map_err(Clone::clone).and_then(|content| preview(db, &settings, content, &servers));
        Ok((blueprint, servers, content, shown))
    });
    let (blueprint, servers, content, shown) = found.await?;
    let trouble = shown.as_ref().err().map(ToString::to_string);
    let (frame, whose) = (Frame::of(viewer.clone(), &blueprint.name), viewer.is_admin);
    let frame = frame.within("blueprints");
    page(&Page { frame, blueprint, content: content.ok(), servers, shown: shown.ok(), trouble, whose })
}
