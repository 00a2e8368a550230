//! Blueprints, from which servers are made. Users see their own, admins all.

mod draft;
mod show;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use rusqlite::Connection;

use self::draft::{Draft, DraftErrors};
use self::show::{Plan, RenderedPreview};
use super::extract::{self, FormFields, PathId};
use super::frame::{Frame, page, page_with};
use crate::base::names::BlueprintId;
use crate::base::{Error, Exit, Result, clock};
use crate::db::blueprint_change::{self, Change};
use crate::db::blueprints::{self, Blueprint, Content};
use crate::db::links::{self, Linked};
use crate::db::overlays;
use crate::web::access::Access;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::table::Table;
use crate::web::viewer::Viewer;

/// The status of a form with errors.
const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Access::User, "/blueprints", list)
        .post(Access::User, "/blueprints", create)
        .get(Access::User, "/blueprints/new", new)
        // Where a browser returns after signing in again.
        .get(Access::User, "/blueprints/preview", new)
        .post(Access::User, "/blueprints/preview", preview)
        .get(Access::User, "/blueprints/{id}", show::show)
        .post(Access::User, "/blueprints/{id}", save)
        .get(Access::User, "/blueprints/{id}/edit", edit)
        .post(Access::User, "/blueprints/{id}/delete", delete)
}

#[derive(Template)]
#[template(path = "blueprints/list.html")]
struct ListPage {
    frame: Frame,
    blueprints: Vec<BlueprintRow>,
    whose: bool,
}

struct BlueprintRow {
    blueprint: Blueprint,
    servers: Vec<Linked>,
}

async fn list(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let user = viewer.all_or_own();
    let blueprints = app.store.read(move |db| {
        let mut linked = links::all(db)?;
        let found = match user {
            Some(user) => blueprints::of_user(db, user)?,
            None => blueprints::all(db)?,
        };

        let mut listed = Vec::with_capacity(found.len());
        for blueprint in found {
            let servers = linked
                .extract_if(.., |server| server.blueprint == blueprint.id)
                .collect();
            listed.push(BlueprintRow { blueprint, servers });
        }

        Ok(listed)
    });
    let (blueprints, whose) = (blueprints.await?, viewer.is_admin);

    page(&ListPage {
        frame: Frame::of(viewer, "Blueprints").within("blueprints"),
        blueprints,
        whose,
    })
}

#[derive(Template)]
#[template(path = "blueprints/form.html")]
struct BlueprintsPage {
    frame: Frame,
    draft: Draft,
    troubles: DraftErrors,
    shown: Option<RenderedPreview>,
}

impl BlueprintsPage {
    /// The form with what was typed.
    fn of(
        viewer: Viewer,
        draft: Draft,
        troubles: DraftErrors,
        shown: Option<RenderedPreview>,
    ) -> Self {
        let title = if draft.id.is_empty() {
            "New blueprint"
        } else {
            "Edit blueprint"
        };

        Self {
            frame: Frame::of(viewer, title).within("blueprints"),
            draft,
            troubles,
            shown,
        }
    }

    fn answer(&self, status: StatusCode) -> Result<Response, Failure> {
        page_with(status, self)
    }
}

async fn new(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let draft = app
        .store
        .read(|db| with_catalog(db, Draft::default()))
        .await?;
    BlueprintsPage::of(viewer, draft, DraftErrors::default(), None).answer(StatusCode::OK)
}

async fn create(
    SignedIn { app, viewer }: SignedIn,
    FormFields(fields): FormFields,
) -> Result<Response, Failure> {
    let draft = Draft {
        id: String::new(),
        ..Draft::read(fields.into_pairs())
    };

    let (name, content) = match draft.parse() {
        Ok(parsed) => parsed,
        Err(troubles) => return again(&app, viewer, draft, *troubles, INVALID).await,
    };

    let (actor, user) = (viewer.actor(), viewer.id);
    let made = app.store.write(move |tx| {
        blueprint_change::create(tx, clock::now_ms(), &actor, user, &name, &content)
    });
    match made.await {
        Ok(made) => Ok(Redirect::to(&format!("/blueprints/{}", made.id)).into_response()),
        Err(error) => refused(&app, viewer, draft, error).await,
    }
}

async fn edit(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<BlueprintId>,
) -> Result<Response, Failure> {
    let requester = viewer.clone();
    let found = app.store.read(move |db| {
        let blueprint = find(db, &requester, id)?;
        let stored = blueprints::stored(db, id)?;
        let draft = Draft::of(&blueprint.name, &stored);
        let draft = Draft {
            id: id.to_string(),
            updated_at: blueprint.updated_at.to_string(),
            ..draft
        };

        // An invalid row is shown unchanged, with its errors.
        let mut troubles = draft
            .parse()
            .err()
            .map_or_else(DraftErrors::default, |troubles| *troubles);
        if !stored.refused.is_empty() {
            troubles.all = Some(format!(
                "No server can be started with this blueprint: {}",
                stored.refused.join("; ")
            ));
        }

        Ok((with_catalog(db, draft)?, troubles))
    });
    let (draft, troubles) = found.await?;

    BlueprintsPage::of(viewer, draft, troubles, None).answer(StatusCode::OK)
}

enum Saved {
    Done,
    /// Someone else saved first; the new `updated_at`.
    Changed(i64),
}

async fn save(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<BlueprintId>,
    FormFields(fields): FormFields,
) -> Result<Response, Failure> {
    let mut draft = Draft {
        id: id.to_string(),
        ..Draft::read(fields.into_pairs())
    };

    let requester = viewer.clone();
    app.store.read(move |db| find(db, &requester, id)).await?;

    let (name, content) = match draft.parse() {
        Ok(parsed) => parsed,
        Err(troubles) => return again(&app, viewer, draft, *troubles, INVALID).await,
    };

    // Refuse to overwrite a version that the user has not seen.
    let (requester, seen) = (viewer.clone(), draft.updated_at.parse::<i64>().ok());
    let saved = app.store.write(move |tx| {
        let blueprint = find(tx, &requester, id)?;
        if seen != Some(blueprint.updated_at) {
            return Ok(Saved::Changed(blueprint.updated_at));
        }

        let Content {
            overlays,
            arguments,
            config,
        } = content;

        let change = Change {
            name: Some(name),
            overlays: Some(overlays),
            arguments: Some(arguments),
            config: Some(config),
        };

        blueprint_change::edit(tx, clock::now_ms(), &requester.actor(), id, &change)?;
        Ok(Saved::Done)
    });

    match saved.await {
        Ok(Saved::Done) => Ok(Redirect::to(&format!("/blueprints/{id}")).into_response()),
        Ok(Saved::Changed(at)) => {
            draft.updated_at = at.to_string();
            let message = "This blueprint was changed since you opened it. Nothing is saved yet; \
                           what you typed is below. Saving now replaces the other change.";
            let troubles = DraftErrors {
                all: Some(message.to_owned()),
                ..DraftErrors::default()
            };

            again(&app, viewer, draft, troubles, StatusCode::CONFLICT).await
        }
        Err(error) => refused(&app, viewer, draft, error).await,
    }
}

/// Shows what initializing a server would write if the form were saved.
async fn preview(
    SignedIn { app, viewer }: SignedIn,
    FormFields(fields): FormFields,
) -> Result<Response, Failure> {
    let draft = Draft::read(fields.into_pairs());
    let id = if draft.id.is_empty() {
        None
    } else {
        Some(extract::id::<BlueprintId>(&draft.id)?)
    };

    let parsed = draft.parse();

    let (requester, settings) = (viewer.clone(), app.settings.clone());
    let done = app.store.read(move |db| {
        let servers = match id {
            Some(id) => links::of_blueprint(db, find(db, &requester, id)?.id)?,
            None => Vec::new(),
        };

        let plan = match parsed {
            Ok((_, content)) => Plan::of(db, &settings, &content, &servers)
                .map_err(|error| in_overlays(error.to_string())),
            Err(troubles) => Err(*troubles),
        };

        Ok((with_catalog(db, draft)?, plan))
    });
    let (draft, plan) = done.await?;

    let (shown, troubles) = match plan {
        Ok(plan) => match plan.render(app.settings.root.clone()).await {
            Ok(shown) => (Some(shown), DraftErrors::default()),
            Err(failure) => (None, in_overlays(failure.message)),
        },
        Err(troubles) => (None, troubles),
    };

    let status = shown.as_ref().map_or(INVALID, |_| StatusCode::OK);
    BlueprintsPage::of(viewer, draft, troubles, shown).answer(status)
}

#[derive(Template)]
#[template(path = "blueprints/in_use.html")]
struct InUse {
    frame: Frame,
    blueprint: Blueprint,
    servers: Vec<Linked>,
}

async fn delete(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<BlueprintId>,
) -> Result<Response, Failure> {
    let requester = viewer.clone();
    let in_use = app.store.write(move |tx| {
        let blueprint = find(tx, &requester, id)?;
        let servers = links::of_blueprint(tx, id)?;
        if servers.is_empty() {
            blueprint_change::delete(tx, clock::now_ms(), &requester.actor(), id)?;
        }
        Ok((blueprint, servers))
    });

    let (blueprint, servers) = in_use.await?;
    if servers.is_empty() {
        return Ok(Redirect::to("/blueprints").into_response());
    }

    let page = InUse {
        frame: Frame::of(viewer, "This blueprint is in use").within("blueprints"),
        blueprint,
        servers,
    };
    page_with(StatusCode::CONFLICT, &page)
}

/// The blueprint, if the viewer may see it. Otherwise it does not exist.
fn find(db: &Connection, viewer: &Viewer, id: BlueprintId) -> Result<Blueprint> {
    let found = blueprints::get(db, id)?.filter(|found| viewer.may_use(found.user_id));
    found.ok_or_else(|| Error::not_found(format!("there is no blueprint {id}")))
}

fn with_catalog(db: &Connection, draft: Draft) -> Result<Draft> {
    Ok(draft.with_catalog(overlays::all(db)?.into_iter().map(|overlay| overlay.name)))
}

fn in_overlays(message: String) -> DraftErrors {
    DraftErrors {
        overlays: Some(message),
        ..DraftErrors::default()
    }
}

/// The form again, as typed.
async fn again(
    app: &App,
    viewer: Viewer,
    draft: Draft,
    troubles: DraftErrors,
    status: StatusCode,
) -> Result<Response, Failure> {
    let draft = app.store.read(move |db| with_catalog(db, draft)).await?;
    BlueprintsPage::of(viewer, draft, troubles, None).answer(status)
}

/// The form again if the database refused its content; other errors do not concern the form.
async fn refused(
    app: &App,
    viewer: Viewer,
    draft: Draft,
    error: Error,
) -> Result<Response, Failure> {
    match error.exit {
        Exit::Conflict => {
            let troubles = DraftErrors {
                name: Some(error.to_string()),
                ..DraftErrors::default()
            };

            again(app, viewer, draft, troubles, StatusCode::CONFLICT).await
        }
        // An overlay that was removed meanwhile: the blueprint itself was found before.
        Exit::NotFound | Exit::Usage => {
            let troubles = in_overlays(error.to_string());
            again(app, viewer, draft, troubles, INVALID).await
        }
        _ => Err(error.into()),
    }
}
