//! What a server's buttons do. Each enqueues a job, or changes the server's row, and leads on.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};

use super::extract::{Sent, id};
use crate::base::names::{BlueprintId, RequestKey, ServerId, ServerRef};
use crate::base::{Error, clock};
use crate::db::{blueprints, servers};
use crate::domain::operation::Operation;
use crate::queue::enqueue::{Asker, Targets, Wish, enqueue};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// A handler for an operation on one server.
macro_rules! button {
    ($name:ident, $operation:ident, $doc:literal) => {
        #[doc = $doc]
        pub async fn $name(
            app: State<App>,
            viewer: Viewer,
            path: Path<String>,
            form: Sent,
        ) -> Result<Response, Failure> {
            press(app, viewer, path, form, Operation::$operation).await
        }
    };
}

button!(start, Start, "It shall run.");
button!(stop, Stop, "It shall not run.");
button!(restart, Restart, "Stops and starts it.");
button!(reset, Reset, "Throws away what the game wrote.");
button!(delete, Delete, "Removes its files.");
button!(initialize, Initialize, "Writes its settings.");

/// Enqueues a job for the server and leads to the job's page. A form that is sent twice is one job: its key says so.
async fn press(
    State(app): State<App>,
    viewer: Viewer,
    Path(path): Path<String>,
    Sent(form): Sent,
    operation: Operation,
) -> Result<Response, Failure> {
    let server = id::<ServerId>(&path)?;
    let key: Option<RequestKey> = form.optional("key")?;
    let accepted = app.store.with(move |db| {
        viewer.server(db.connection(), server)?;
        let actor = viewer.actor();
        let wish = Wish {
            operation,
            targets: Targets::Named(vec![ServerRef::Id(server)]),
            unique: false,
            asker: Asker { name: &actor, user: Some(viewer.id), key: key.as_ref() },
        };
        enqueue(db, &wish, clock::now_ms())
    });
    let job = accepted.await?.job_id;
    app.poke();
    Ok(Redirect::to(&format!("/jobs/{job}")).into_response())
}

/// Links the server to another blueprint of its owner; it applies on the next action.
pub async fn assign(
    State(app): State<App>,
    viewer: Viewer,
    Path(path): Path<String>,
    Sent(form): Sent,
) -> Result<Response, Failure> {
    let server = id::<ServerId>(&path)?;
    // Before anything is said about the form: of another's server not even that.
    let who = viewer.clone();
    app.store.read(move |db| who.server(db, server)).await?;
    let blueprint: BlueprintId = form.required("blueprint")?;
    let assigned = app.store.write(move |tx| {
        viewer.server(tx, server)?;
        // Another's blueprint is none: not even its name is told.
        let found = blueprints::get(tx, blueprint)?.filter(|found| viewer.is_admin || found.user_id == viewer.id);
        if found.is_none() {
            return Err(Error::not_found(format!("there is no blueprint {blueprint}")));
        }
        servers::assign(tx, clock::now_ms(), &viewer.actor(), server, blueprint)
    });
    assigned.await?;
    Ok(Redirect::to(&format!("/servers/{server}")).into_response())
}

/// Removes the server's row, when nothing of it is left.
pub async fn remove(State(app): State<App>, viewer: Viewer, Path(path): Path<String>) -> Result<Response, Failure> {
    let server = id::<ServerId>(&path)?;
    let removed = app.store.write(move |tx| {
        viewer.server(tx, server)?;
        servers::remove(tx, clock::now_ms(), &viewer.actor(), server)
    });
    removed.await?;
    Ok(Redirect::to("/").into_response())
}
