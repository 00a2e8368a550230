//! A server's console: what its unit wrote into the journal. The page shows the last lines; log.js goes on from there.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use super::extract::id;
use super::frame::{Frame, page};
use crate::base::names::{InstanceName, ServerId};
use crate::db::servers::Server;
use crate::host::units;
use crate::process::lines;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::limiter::Limiter;
use crate::web::viewer::Viewer;

/// Lines of the console's page.
const LINES: u32 = 200;
/// The page waits so long for them.
const PATIENCE: Duration = Duration::from_secs(4);

/// So many pages ask the helper at once: it must not take all the threads that the database needs too.
static CONSOLES: LazyLock<Limiter> = LazyLock::new(|| Limiter::shared(3));

/// What the console said, or why nobody knows.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The last lines, the oldest first.
    pub lines: Vec<String>,
    /// Why there are none.
    pub trouble: Option<String>,
}

/// A line as it may be shown: without terminal sequences, its control characters visible.
#[must_use]
pub fn shown(line: &str) -> Cow<'_, str> {
    lines::clean(line.as_bytes(), false)
}

/// Asks the helper for the last lines. What goes wrong with that is told on the page, which shows all the rest.
pub async fn last_lines(app: &App, server: ServerId, most: u32, patience: Duration) -> Heard {
    let trouble = |why: String| Heard { lines: Vec::new(), trouble: Some(why) };
    let Some(permit) = CONSOLES.acquire(patience).await else {
        return trouble("Too many consoles are being read: load the page again in a moment.".to_owned());
    };

    let (socket, name) = (app.settings.helper_socket.clone(), InstanceName::from(server));
    let asked = permit.blocking(move || units::last_lines(&socket, &name, most, patience));
    match asked.await {
        Ok(Ok(lines)) => Heard { lines, trouble: None },
        Ok(Err(error)) => {
            tracing::warn!("the console of server {server} cannot be read: {error}");
            trouble("The journal cannot be read just now. An admin finds out why with left4me doctor.".to_owned())
        }
        Err(error) => trouble(format!("The journal cannot be read: {error}")),
    }
}

#[derive(Template)]
#[template(path = "console.html")]
struct Page {
    frame: Frame,
    server: Server,
    console: Heard,
}

/// The page.
pub async fn show(State(app): State<App>, viewer: Viewer, Path(path): Path<String>) -> Result<Response, Failure> {
    let id = id::<ServerId>(&path)?;
    let who = viewer.clone();
    let server = app.store.read(move |db| who.server(db, id)).await?;
    let console = last_lines(&app, id, LINES, PATIENCE).await;
    let frame = Frame::of(viewer, format!("Console of {}", server.name)).within("servers");
    page(&Page { frame, server, console })
}
