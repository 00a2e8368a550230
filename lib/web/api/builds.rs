//! The builds of the game.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Nothing, Query};
use crate::db;
use crate::host::build_list::{self, Build};
use crate::web::builds;
use crate::web::failure::{Failure, FailureBody};
use crate::web::signed_in::SignedIn;

/// The builds of the game.
#[derive(Serialize, ToSchema)]
pub struct Builds {
    /// The build that servers take at their next start; `null` if none is published.
    current: Option<u64>,
    /// What Steam publishes, as the last check found it; `null` before the first check.
    available: Option<AvailableBuild>,
    /// All builds, the newest first: those that are kept, the one that Steam publishes, and those
    /// that updates leave alone.
    builds: Vec<Build>,
}

/// The build that Steam publishes.
#[derive(Serialize, ToSchema)]
pub struct AvailableBuild {
    /// Its number.
    build: u64,
    /// When Steam published it, unix ms, if Steam says so.
    published_at: Option<i64>,
    /// When a check first found it, unix ms.
    known_since: i64,
    /// When Steam was last asked, unix ms.
    checked_at: i64,
}

/// List the builds of the game
///
/// For admins only. `left4me build list --json` has the same `builds`.
#[utoipa::path(get, path = "/api/builds", operation_id = "listBuilds", tag = "builds", responses(
    (status = 200, body = Builds, description = "The builds."),
    (status = 403, body = FailureBody, description = "Admins only."),
))]
pub async fn list(
    SignedIn { app, .. }: SignedIn,
    _: Query<Nothing>,
) -> Result<Json<Builds>, Failure> {
    let disk = builds::on_disk(&app).await?;
    let current = disk.current();
    let found = app
        .store
        .read(move |db| Ok((db::builds::available(db)?, build_list::all(db, &disk)?)));
    let (available, builds) = found.await?;

    Ok(Json(Builds {
        current,
        available: available.map(|found| AvailableBuild {
            build: found.build,
            published_at: found.published_at,
            known_since: found.known_since,
            checked_at: found.checked_at,
        }),
        builds,
    }))
}
