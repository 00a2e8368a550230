//! The form for a new server.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::extract::{Fields, FormFields, QueryFields};
use super::frame::{Frame, page};
use crate::base::names::{BadName, BlueprintId, ServerName};
use crate::base::{Error, clock};
use crate::db::blueprints::{self, Blueprint};
use crate::db::servers::{self, NewServer};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

#[derive(Template)]
#[template(path = "server_new.html")]
struct NewServerPage<'a> {
    frame: Frame,
    blueprints: Vec<Choice>,
    ports: String,
    name: &'a str,
    port: &'a str,
    trouble: ServerErrors,
}

#[derive(Default)]
struct ServerErrors {
    name: Option<String>,
    port: Option<String>,
    all: Option<String>,
}

impl ServerErrors {
    /// Finds the field that an error is about, and adapts its advice from the command line to the
    /// form.
    fn of(words: String) -> Self {
        let (port, name) = (
            words.starts_with("port ") || words.starts_with("a port "),
            words.contains("server name"),
        );

        if port {
            let words = match words.split_once("; without --port") {
                Some((words, _)) => format!("{words}; leave it empty for the lowest free one"),
                None => words,
            };

            Self {
                port: Some(words),
                ..Self::default()
            }
        } else if name {
            Self {
                name: Some(words),
                ..Self::default()
            }
        } else {
            Self {
                all: Some(words),
                ..Self::default()
            }
        }
    }
}

struct Choice {
    id: BlueprintId,
    /// With its owner if that is not the viewer.
    label: String,
    chosen: bool,
}

/// The form. `?blueprint=ID` preselects one.
pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(query): QueryFields,
) -> Result<Response, Failure> {
    form(&app, viewer, &query, ServerErrors::default()).await
}

async fn form(
    app: &App,
    viewer: Viewer,
    fields: &Fields,
    trouble: ServerErrors,
) -> Result<Response, Failure> {
    let only = viewer.all_or_own();
    let found = app.store.read(move |db| match only {
        Some(user) => blueprints::of_user(db, user),
        None => blueprints::all(db),
    });

    let chosen: Option<BlueprintId> = fields.maybe("blueprint");
    let label = |blueprint: &Blueprint| match blueprint.user_id == viewer.id {
        true => blueprint.name.clone(),
        false => format!("{} ({})", blueprint.name, blueprint.user),
    };

    let choices = found.await?.into_iter().map(|blueprint| Choice {
        id: blueprint.id,
        label: label(&blueprint),
        chosen: chosen == Some(blueprint.id),
    });

    page(&NewServerPage {
        blueprints: choices.collect(),
        ports: app.settings.ports.to_string(),
        name: fields.raw("name"),
        port: fields.raw("port"),
        trouble,
        frame: Frame::of(viewer, "New server").within("servers"),
    })
}

/// Creates a server for the blueprint's owner and redirects to its page. Errors are shown at their
/// fields.
pub async fn create(
    SignedIn { app, viewer }: SignedIn,
    FormFields(fields): FormFields,
) -> Result<Response, Failure> {
    let made = match wanted(&fields) {
        Ok((name, blueprint, port)) => {
            let (requester, ports) = (viewer.clone(), app.settings.ports);
            let made = app.store.write(move |tx| {
                let found = blueprints::get(tx, blueprint)?
                    .filter(|found| requester.may_use(found.user_id));
                let user = found
                    .ok_or_else(|| Error::usage("choose one of the blueprints"))?
                    .user_id;
                let new = NewServer {
                    user,
                    name: &name,
                    blueprint,
                    port,
                };

                servers::create(tx, clock::now_ms(), &requester.actor(), &new, ports)
            });

            made.await.map_err(Failure::from)
        }
        Err(failure) => Err(failure),
    };

    match made {
        Ok(server) => Ok(Redirect::to(&format!("/servers/{}", server.id)).into_response()),
        Err(failure) if failure.status.is_client_error() => {
            let page = form(&app, viewer, &fields, ServerErrors::of(failure.message)).await?;
            Ok((failure.status, page).into_response())
        }
        Err(failure) => Err(failure),
    }
}

fn wanted(fields: &Fields) -> Result<(ServerName, BlueprintId, Option<u16>), Failure> {
    let port = fields.get("port").map(str::trim).map(|text| {
        text.parse::<u16>()
            .map_err(|_| BadName::new("a port is a number between 1 and 65535".to_owned()))
    });

    Ok((
        fields.required("name")?,
        fields.required("blueprint")?,
        port.transpose()?,
    ))
}
