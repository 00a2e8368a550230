//! Whether we are well, for whoever watches us: anybody may ask, and nothing else is told.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::jobs;
use crate::web::app::App;
use crate::web::failure::Failure;

/// That the database answers.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// ok
    status: &'static str,
}

/// Whether left4me-web is well
///
/// It is when the database answers. Whether a worker, a server or the game is well is not told here.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "health", responses(
    (status = 200, body = Health, description = "The database answers."),
))]
pub async fn show(State(app): State<App>) -> Result<Json<Health>, Failure> {
    match app.store.read(jobs::any_queued).await {
        Ok(_) => Ok(Json(Health { status: "ok" })),
        Err(error) => {
            tracing::warn!("not well: {error}");
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer"))
        }
    }
}
