//! Servers.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ask::{self, Id, Limit, Nothing, Offset, Query};
use super::list::List;
use crate::base::names::{ServerId, normal};
use crate::db::lists;
use crate::db::servers::Server;
use crate::domain::server::ActualState;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::json;
use crate::web::viewer::Viewer;

/// Which servers.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only those that are in this state. May come several times.
    #[serde(default, deserialize_with = "ask::words")]
    actual_state: Vec<ActualState>,
    /// Only this user's. A text that is no user's name has none.
    #[serde(default)]
    #[param(value_type = Option<String>, nullable = false)]
    user: Option<String>,
    /// At most so many.
    #[serde(default, deserialize_with = "ask::word")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// Leave out so many first.
    #[serde(default, deserialize_with = "ask::word")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List servers by id
///
/// A user's own; all of them for an admin.
#[utoipa::path(get, path = "/api/servers", operation_id = "listServers", tag = "servers", params(Which), responses(
    (status = 200, body = List<Server>, description = "The servers."),
))]
pub async fn list(State(app): State<App>, viewer: Viewer, Query(which): Query<Which>) -> Result<Response, Failure> {
    let part = ask::part(which.limit, which.offset);
    let which = lists::Servers {
        viewer: viewer.all_or_own(),
        owner: which.user.as_deref().map(normal),
        states: which.actual_state,
    };
    json::answer(&app, viewer.id, move |db| Ok(List::new(lists::servers(db, &which, part)?, part))).await
}

/// Show a server
#[utoipa::path(get, path = "/api/servers/{id}", operation_id = "showServer", tag = "servers", params(("id" = ServerId, Path, description = "The server.")), responses(
    (status = 200, body = Server, description = "The server."),
))]
pub async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Id(id): Id<ServerId>,
    _: Query<Nothing>,
) -> Result<Json<Server>, Failure> {
    Ok(Json(app.store.read(move |db| viewer.server(db, id)).await?))
}
