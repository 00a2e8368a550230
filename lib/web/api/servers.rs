//! Listing and showing servers.

use axum::Json;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{self, Id, Limit, Nothing, Offset, Query};
use super::list::List;
use crate::base::names::{ServerId, normal};
use crate::db::lists;
use crate::db::servers::Server;
use crate::db::stale::{self, FoundStale};
use crate::domain::server::ActualState;
use crate::web::failure::Failure;
use crate::web::json;
use crate::web::signed_in::SignedIn;

/// Filters for servers.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ServerFilters {
    /// Only servers in this state. May be repeated.
    #[serde(default, deserialize_with = "extract::parsed_list")]
    actual_state: Vec<ActualState>,
    /// Only servers of this user. Empty for a name that no user has.
    #[serde(default)]
    #[param(value_type = Option<String>, nullable = false)]
    user: Option<String>,
    /// The most items to return.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// The number of items to skip.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List servers by id
///
/// A user gets their own; an admin gets all.
#[utoipa::path(get, path = "/api/servers", operation_id = "listServers", tag = "servers", params(ServerFilters), responses(
    (status = 200, body = List<Server>, description = "The servers."),
))]
pub async fn list(
    SignedIn { app, viewer }: SignedIn,
    Query(which): Query<ServerFilters>,
) -> Result<Response, Failure> {
    let part = extract::part(which.limit, which.offset);
    let which = lists::Servers {
        viewer: viewer.all_or_own(),
        owner: which.user.as_deref().map(normal),
        states: which.actual_state,
    };

    json::answer(&app, viewer.id, move |db| {
        Ok(List::new(lists::servers(db, &which, part)?, part))
    })
    .await
}

/// Show a server
#[utoipa::path(get, path = "/api/servers/{id}", operation_id = "showServer", tag = "servers", params(("id" = ServerId, Path, description = "The server.")), responses(
    (status = 200, body = Server, description = "The server."),
))]
pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ServerId>,
    _: Query<Nothing>,
) -> Result<Json<Server>, Failure> {
    Ok(Json(app.store.read(move |db| viewer.server(db, id)).await?))
}

/// List the files of a server that hide newer game files
///
/// They were written or changed by its game, and a later build of the game has newer ones. Found
/// when the server came up on another build; a job `reset` with `stale` drops them.
#[utoipa::path(get, path = "/api/servers/{id}/stale", operation_id = "listStaleFiles", tag = "servers", params(("id" = ServerId, Path, description = "The server.")), responses(
    (status = 200, body = FoundStale, description = "The files. Their paths are for people: what is odd in them is escaped."),
))]
pub async fn stale(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ServerId>,
    _: Query<Nothing>,
) -> Result<Json<FoundStale>, Failure> {
    let found = app.store.read(move |db| {
        viewer.server(db, id)?;
        stale::of_server(db, id)
    });
    Ok(Json(found.await?))
}
