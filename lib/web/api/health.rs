//! The health check for monitoring. Anyone may call it, so it reveals nothing else.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::jobs;
use crate::web::app::App;
use crate::web::failure::Failure;

/// The database answers.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// ok
    status: &'static str,
}

/// Check that left4me-web works
///
/// It works if the database answers. Worker, servers and game are not checked.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "health", responses(
    (status = 200, body = Health, description = "The database answers."),
))]
pub async fn show(State(app): State<App>) -> Result<Json<Health>, Failure> {
    match app.store.read(jobs::any_ready).await {
        Ok(_) => Ok(Json(Health { status: "ok" })),
        Err(error) => {
            tracing::warn!("the health check failed: {error}");
            Err(Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the database does not answer",
            ))
        }
    }
}
