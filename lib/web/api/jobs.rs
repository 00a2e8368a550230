//! Jobs: which there are, and a new one.

use std::fmt;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rusqlite::Connection;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::ask::{self, Body, Id, Limit, Nothing, Offset, Query};
use super::list::List;
use crate::base::names::{BadName, JobId, ServerId, ServerRef};
use crate::base::{Error, Result, clock};
use crate::db::jobs::{self, Job};
use crate::db::{access, lists, servers};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::queue::enqueue::{self, Accepted, Asker, Targets, Wish};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::json;
use crate::web::viewer::Viewer;

/// No host has more servers: each has a port of its own, of a range.
const MOST_SERVERS: usize = 1000;

/// Which jobs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only those in this state. May come several times.
    #[serde(default, deserialize_with = "ask::words")]
    state: Vec<JobState>,
    /// Only those with this operation.
    #[serde(default, deserialize_with = "ask::word_or_none")]
    #[param(nullable = false)]
    operation: Option<Operation>,
    /// Only those for the server with this id, be it among others.
    #[serde(default, deserialize_with = "ask::word_or_none")]
    #[param(nullable = false)]
    server: Option<ServerId>,
    /// At most so many.
    #[serde(default, deserialize_with = "ask::word")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// Leave out so many first.
    #[serde(default, deserialize_with = "ask::word")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List jobs, the newest first
///
/// Those that a user asked for or that are for the user's servers only; all of them for an admin. A part ends early when
/// it is about 1 MiB long, but has one job at least: the next one begins at `offset` and the number of its `items`.
#[utoipa::path(get, path = "/api/jobs", operation_id = "listJobs", tag = "jobs", params(Which), responses(
    (status = 200, body = List<Job>, description = "The jobs."),
))]
pub async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(which): Query<Which>,
) -> std::result::Result<Response, Failure> {
    let part = ask::part(which.limit, which.offset);
    let which = lists::Jobs {
        viewer: viewer.all_or_own(),
        states: which.state,
        operation: which.operation,
        server: which.server,
    };
    json::answer(&app, viewer.id, move |db| Ok(List::new(lists::jobs(db, &which, part)?, part))).await
}

/// Show a job with its tasks
#[utoipa::path(get, path = "/api/jobs/{id}", operation_id = "showJob", tag = "jobs", params(("id" = JobId, Path, description = "The job.")), responses(
    (status = 200, body = Job, description = "The job."),
))]
pub async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Id(id): Id<JobId>,
    _: Query<Nothing>,
) -> std::result::Result<Response, Failure> {
    json::answer(&app, viewer.id, move |db| {
        viewer.may_see_job(db, id)?;
        jobs::get(db, id)
    })
    .await
}

/// A job to be enqueued.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// What to do. `install` and `update` are for what all servers share, and for admins.
    #[serde(deserialize_with = "ask::word")]
    operation: Operation,
    /// To which servers.
    #[serde(default)]
    #[schema(max_items = 1000)]
    servers: Vec<Target>,
    /// To all servers: a user's own; of an admin all there are.
    #[serde(default)]
    all: bool,
    /// When the same operation on the same servers is queued or runs already, that job is the answer.
    #[serde(default)]
    unique: bool,
}

/// A server by its id or its name.
struct Target(ServerRef);

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server's id or name")
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> std::result::Result<Target, E> {
                self.visit_str(&id.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, id: i64) -> std::result::Result<Target, E> {
                Err(E::custom(format!("{id} is not a server id: a positive number is needed")))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Target, E> {
                text.parse().map(Target).map_err(|bad: BadName| E::custom(bad))
            }
        }
        from.deserialize_any(Either).map_err(D::Error::custom)
    }
}

impl PartialSchema for Target {
    fn schema() -> RefOr<Schema> {
        let id = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).description(Some("Its id."));
        let name = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(64));
        let name = name.description(Some("Its name, or its id as text."));
        OneOfBuilder::new().item(id).item(name).description(Some("A server.")).into()
    }
}

impl ToSchema for Target {}

impl NewJob {
    /// What can be said without looking into the database.
    fn check(&self, viewer: &Viewer) -> std::result::Result<(), Failure> {
        let operation = self.operation;
        if operation.is_exclusive() {
            if !viewer.is_admin {
                return Err(Failure::forbidden(format!("only an admin may {operation}")));
            }
            if self.all || !self.servers.is_empty() {
                let words =
                    format!("servers: {operation} is for what all servers share, and takes neither servers nor all");
                return Err(Failure::unprocessable(words));
            }
            return Ok(());
        }
        match (self.servers.len(), self.all) {
            (0, false) => {
                Err(Failure::unprocessable(format!("servers: {operation} is for servers: name them, or say all")))
            }
            (0, true) | (1..=MOST_SERVERS, false) => Ok(()),
            (_, true) => Err(Failure::unprocessable("all: servers are named, too: one or the other")),
            (_, false) => Err(Failure::unprocessable(format!("servers: at most {MOST_SERVERS}"))),
        }
    }

    /// The servers. Those of others do not exist for a user.
    fn targets(&self, connection: &Connection, viewer: &Viewer) -> Result<Targets> {
        if self.operation.is_exclusive() {
            return Ok(Targets::None);
        }
        if self.all && viewer.is_admin {
            return Ok(Targets::All);
        }
        if self.all {
            let own = servers::of_user(connection, viewer.id)?;
            if own.is_empty() {
                return Err(Error::not_found("you have no server"));
            }
            return Ok(Targets::Named(own.into_iter().map(|server| ServerRef::Id(server.id)).collect()));
        }
        let find = |Target(server): &Target| match server {
            ServerRef::Id(id) => viewer.server(connection, *id).map(|server| server.id),
            ServerRef::Name(_) if viewer.is_admin => servers::find_id(connection, server),
            ServerRef::Name(name) => access::own_server(connection, viewer.id, name)?
                .ok_or_else(|| Error::not_found(format!("there is no server '{name}'"))),
        };
        let ids = self.servers.iter().map(|server| find(server).map(ServerRef::Id));
        Ok(Targets::Named(ids.collect::<Result<_>>()?))
    }
}

/// Enqueue a job
///
/// The same Idempotency-Key of the same user within a day is the same job; with another wish it is refused.
#[utoipa::path(post, path = "/api/jobs", operation_id = "enqueueJob", tag = "jobs", request_body = NewJob,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request the same one: 1 to 200 letters, digits, '.', '-' and '_'.",
        min_length = 1, max_length = 200, pattern = "^[A-Za-z0-9._-]+$", nullable = false)),
    responses(
    (status = 201, body = Accepted, description = "It is enqueued.", headers(("Location" = String, description = "The job."))),
    (status = 200, body = Accepted, description = "It was there already: `unique`, or the Idempotency-Key found it.",
        headers(("Location" = String, description = "The job."))),
    (status = 404, body = crate::web::failure::Told, description = "There is no such server, or it is another user's."),
    (status = 409, body = crate::web::failure::Told, description = "The Idempotency-Key belongs to another wish."),
))]
pub async fn enqueue(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    _: Query<Nothing>,
    Body(new): Body<NewJob>,
) -> std::result::Result<Response, Failure> {
    let key = ask::key(&headers)?;
    new.check(&viewer)?;
    let enqueued = app.store.with(move |db| {
        // Servers never change hands, and an id is never given twice: what is found here stays true.
        let targets = new.targets(db.connection(), &viewer)?;
        let name = viewer.actor();
        let asker = Asker { name: &name, user: Some(viewer.id), key: key.as_ref() };
        let wish = Wish { operation: new.operation, targets, unique: new.unique, asker };
        enqueue::enqueue(db, &wish, clock::now_ms())
    });
    let accepted = enqueued.await?;
    if accepted.added {
        app.poke();
    }
    let status = if accepted.added { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/api/jobs/{}", accepted.job_id);
    Ok((status, [(header::LOCATION, location)], Json(accepted)).into_response())
}
