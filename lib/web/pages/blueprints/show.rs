//! One blueprint, and a preview of the instance that it makes.

use std::path::{Path, PathBuf};

use askama::Template;
use axum::response::Response;
use rusqlite::Connection;

use super::super::extract::PathId;
use super::super::frame::{Frame, page};
use super::find;
use crate::base::names::{BlueprintId, InstanceName};
use crate::base::{Error, Result};
use crate::db::blueprints::{self, Blueprint, Content, Stored};
use crate::db::links::{self, Linked};
use crate::db::overlays;
use crate::domain::blueprint::Spec;
use crate::host::rendering::{self, Preview};
use crate::web::app::AppSettings;
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

/// The instance in the preview of a blueprint without servers.
const PLACEHOLDER_INSTANCE: &str = "id";

/// A preview of what initializing would write.
pub struct RenderedPreview {
    /// The server that it is for; none for one that does not exist.
    pub server: Option<Linked>,
    pub port: u16,
    /// The layers with the overlays' names, the topmost first.
    pub layers: Vec<LayerRow>,
    pub preview: Preview,
}

pub struct LayerRow {
    /// The overlay's name, or what the layer is.
    pub name: String,
    pub path: String,
    /// Why it cannot be used.
    pub trouble: Option<String>,
}

/// The input of a preview, from the database.
pub struct Plan {
    server: Option<Linked>,
    names: Vec<String>,
    spec: Spec,
}

impl Plan {
    /// For the first of `servers`, or for a new one.
    ///
    /// Fails if an overlay is not in the catalog, or its row is invalid.
    pub fn of(
        db: &Connection,
        settings: &AppSettings,
        content: &Content,
        servers: &[Linked],
    ) -> Result<Self> {
        let server = servers.first().cloned();
        let port = server
            .as_ref()
            .map_or(settings.ports.first, |server| server.port);

        let mut overlays = Vec::with_capacity(content.overlays.len());
        for name in &content.overlays {
            overlays.push(overlays::find(db, name)?.reference.parse()?);
        }

        let (arguments, config) = (content.arguments.clone(), content.config.clone());
        let names = content.overlays.iter().map(ToString::to_string).collect();
        Ok(Self {
            server,
            names,
            spec: Spec {
                port,
                overlays,
                arguments,
                config,
            },
        })
    }

    /// Renders the preview.
    ///
    /// Fails if `root` cannot be used; 503 if the disk does not answer.
    pub async fn render(self, root: PathBuf) -> Result<RenderedPreview, Failure> {
        disk::look(move || self.shown(&root))
            .await?
            .map_err(Failure::from)
    }

    fn shown(self, root: &Path) -> Result<RenderedPreview> {
        let instance = match &self.server {
            Some(server) => InstanceName::from(server.id),
            None => PLACEHOLDER_INSTANCE.parse()?,
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

            layers.push(LayerRow {
                name,
                path: layer.path.clone(),
                trouble: layer.trouble.clone(),
            });
        }

        Ok(RenderedPreview {
            server: self.server,
            port: self.spec.port,
            layers,
            preview,
        })
    }
}

#[derive(Template)]
#[template(path = "blueprints/show.html")]
struct BlueprintPage {
    frame: Frame,
    blueprint: Blueprint,
    stored: Stored,
    servers: Vec<Linked>,
    shown: Option<RenderedPreview>,
    trouble: Option<String>,
    whose: bool,
}

pub(super) async fn show(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<BlueprintId>,
) -> Result<Response, Failure> {
    let (requester, settings) = (viewer.clone(), app.settings.clone());
    let found = app.store.read(move |db| {
        let blueprint = find(db, &requester, id)?;
        let servers = links::of_blueprint(db, id)?;

        // The page shows an invalid row, or a missing root, as an error.
        let stored = blueprints::stored(db, id)?;
        let plan = if stored.refused.is_empty() {
            blueprints::content(db, id)
                .and_then(|content| Plan::of(db, &settings, &content, &servers))
        } else {
            Err(Error::failed(format!(
                "no server can be started with this blueprint: {}",
                stored.refused.join("; ")
            )))
        };

        Ok((blueprint, servers, stored, plan))
    });
    let (blueprint, servers, stored, plan) = found.await?;
    let shown = match plan {
        Ok(plan) => plan
            .render(app.settings.root.clone())
            .await
            .map_err(|failure| failure.message),
        Err(error) => Err(error.to_string()),
    };

    let trouble = shown.as_ref().err().cloned();
    let (frame, whose) = (Frame::of(viewer.clone(), &blueprint.name), viewer.is_admin);
    let frame = frame.within("blueprints");

    page(&BlueprintPage {
        frame,
        blueprint,
        stored,
        servers,
        shown: shown.ok(),
        trouble,
        whose,
    })
}
