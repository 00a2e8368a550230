//! The actions of a server's page. Each enqueues a job or changes the server's row, and redirects.

use axum::response::{IntoResponse as _, Redirect, Response};

use super::extract::{FormFields, PathId};
use super::waiting;
use crate::base::names::{BlueprintId, RequestKey, ServerId, ServerRef};
use crate::base::{Error, clock};
use crate::db::{blueprints, game, servers};
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;
use crate::queue::enqueue::{JobRequest, Targets, enqueue};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

/// A handler for an operation on one server.
macro_rules! button {
    ($name:ident, $operation:ident, $doc:literal) => {
        #[doc = $doc]
        pub async fn $name(
            signed_in: SignedIn,
            path: PathId<ServerId>,
            form: FormFields,
        ) -> Result<Response, Failure> {
            let PathId(server) = path;
            press(signed_in, form, Operation::$operation, Some(server)).await
        }
    };
}

button!(start, Start, "Starts the server.");
button!(stop, Stop, "Stops the server.");
button!(restart, Restart, "Restarts the server.");
button!(reset, Reset, "Deletes what the game wrote.");
button!(delete, Delete, "Deletes the server's files.");
button!(initialize, Initialize, "Writes the server's settings.");

/// Enqueues a job for the server, or for the game files, and redirects to the job's page. While
/// people play, it asks first. The form's key makes a repeated request the same job.
pub(super) async fn press(
    SignedIn { app, viewer }: SignedIn,
    FormFields(form): FormFields,
    operation: Operation,
    server: Option<ServerId>,
) -> Result<Response, Failure> {
    let key: Option<RequestKey> = form.optional("key")?;
    let now = clock::now_ms();
    let condition = waiting::condition(&form, operation, now)?;
    let validate = operation == Operation::Update && form.raw("validate") == "yes";
    let stale = operation == Operation::Reset && form.raw("stale") == "yes";

    let requester = viewer.clone();
    let playing = app.store.read(move |db| {
        // For other users the server does not exist.
        if let Some(id) = server {
            requester.server(db, id)?;
        }
        waiting::playing(db, &form, operation, server, now)
    });
    if let Some(playing) = playing.await? {
        return waiting::ask(viewer, playing, operation, server, validate, stale);
    }

    let accepted = app.store.with(move |db| {
        let targets = match server {
            Some(id) => {
                viewer.server(db.connection(), id)?;
                Targets::Named(vec![ServerRef::Id(id)])
            }
            None => Targets::None,
        };

        let actor = viewer.actor();
        let request = JobRequest {
            operation,
            targets,
            unique: server.is_none(),
            rolling: None,
            update: UpdateOptions {
                validate,
                stale,
                ..UpdateOptions::default()
            },
            condition,
            requester: viewer.requester(&actor, key.as_ref()),
        };

        enqueue(db, &request, clock::now_ms())
    });
    let job = accepted.await?.job_id;
    app.wake_worker();

    Ok(Redirect::to(&format!("/jobs/{job}")).into_response())
}

/// Links the server to another blueprint of its owner. It applies with the next action.
pub async fn assign(
    SignedIn { app, viewer }: SignedIn,
    PathId(server): PathId<ServerId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    // Checked before the form: another user's server must not even show form errors.
    let requester = viewer.clone();
    app.store
        .read(move |db| requester.server(db, server))
        .await?;

    let blueprint: BlueprintId = form.required("blueprint")?;
    let assigned = app.store.write(move |tx| {
        viewer.server(tx, server)?;
        // For other users the blueprint does not exist, not even its name.
        let found = blueprints::get(tx, blueprint)?;
        if !found.is_some_and(|found| viewer.may_use(found.user_id)) {
            return Err(Error::not_found(format!(
                "there is no blueprint {blueprint}"
            )));
        }

        servers::assign(tx, clock::now_ms(), &viewer.actor(), server, blueprint)
    });

    assigned.await?;

    Ok(Redirect::to(&format!("/servers/{server}")).into_response())
}

/// Sets whether the server is restarted when its game no longer answers.
pub async fn set_restart(
    SignedIn { app, viewer }: SignedIn,
    PathId(server): PathId<ServerId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let changed = app.store.write(move |tx| {
        viewer.server(tx, server)?;
        let on = match form.raw("restart") {
            "yes" => true,
            "no" => false,
            _ => return Err(Error::usage("restart is yes or no")),
        };

        game::set_restart(tx, clock::now_ms(), &viewer.actor(), server, on)
    });
    changed.await?;
    Ok(Redirect::to(&format!("/servers/{server}")).into_response())
}

/// Removes the server's row, if none of its files are left.
pub async fn remove(
    SignedIn { app, viewer }: SignedIn,
    PathId(server): PathId<ServerId>,
) -> Result<Response, Failure> {
    let removed = app.store.write(move |tx| {
        viewer.server(tx, server)?;
        servers::remove(tx, clock::now_ms(), &viewer.actor(), server)
    });
    removed.await?;
    Ok(Redirect::to("/").into_response())
}
