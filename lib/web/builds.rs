//! The builds of the game, for the pages and the API.

use std::sync::LazyLock;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::timeout;

use crate::base::config::BuildMode;
use crate::base::{Exit, builds, clock};
use crate::db;
use crate::db::events::{self, NewEvent};
use crate::host::build_list::{self, OnDisk};
use crate::web::app::App;
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::limiter::Limiter;

/// One build is removed at a time.
static REMOVING: LazyLock<Limiter> = LazyLock::new(|| Limiter::shared(1));

/// How long a request waits for the end of a removal, which goes on if it takes longer.
const WAIT: Duration = Duration::from_secs(10);

/// What the disk says of builds.
pub async fn on_disk(app: &App) -> Result<OnDisk, Failure> {
    let root = app.settings.root.clone();
    Ok(disk::look(move || OnDisk::read(&root)).await??)
}

/// The build that servers take at their next start; none if none is published, or the disk does not
/// say so.
pub async fn current(app: &App) -> Option<u64> {
    let root = app.settings.root.clone();
    let looked = disk::look(move || builds::current(&root)).await;
    looked.ok()?.ok()?
}

/// Checks that there is a build to go back to: this one, or the one before the current one. The job
/// would find that too, but only when its turn comes.
///
/// Fails with 404 or 409.
pub async fn check_target(app: &App, build: Option<u64>) -> Result<(), Failure> {
    if app.settings.build_mode == BuildMode::InPlace {
        // Refused with a reason of its own.
        return Ok(());
    }

    let rejected = app.store.read(db::builds::rejected).await?;
    let rejected: Vec<u64> = rejected.iter().map(|one| one.build).collect();
    let root = app.settings.root.clone();
    disk::look(move || builds::rollback_target(&root, build, &rejected)).await??;
    Ok(())
}

/// Removes a build that nobody needs, for `actor`.
///
/// Fails with 404 if it is not kept; 409 if it is needed, or cannot be removed; 503 while another one
/// is removed.
pub async fn remove(app: &App, build: u64, actor: String) -> Result<(), Failure> {
    let permit = REMOVING
        .try_acquire()
        .ok_or_else(|| Failure::busy("another build is being removed: try again", 10))?;
    let found = on_disk(app).await?;
    let check = move |db: &rusqlite::Connection| build_list::check_removal(db, &found, build);
    app.store.read(check).await?;

    let publisher = app.settings.publisher_socket.clone();
    let removal = permit.blocking(move || build_list::remove(&publisher, build));
    if let Ok(removed) = timeout(WAIT, removal).await {
        let removed = removed.map_err(Failure::internal)?;
        removed.map_err(|error| match error.exit {
            Exit::Failed | Exit::Foreign(_) => Failure::new(
                StatusCode::CONFLICT,
                format!("build {build} was not removed: {error}"),
            ),
            _ => Failure::from(error),
        })?;
    }

    let recorded = app.store.write(move |tx| {
        let detail = build.to_string();
        let event = NewEvent::new("build.removed", &actor, &detail);
        events::add(tx, clock::now_ms(), &event)
    });
    recorded.await?;
    Ok(())
}
