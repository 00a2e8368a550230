//! A server's console: the journal of its unit. The page shows the last lines; log.js continues
//! from there.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use askama::Template;
use axum::response::Response;

use super::extract::PathId;
use super::frame::{Frame, page};
use crate::base::names::{InstanceName, ServerId};
use crate::db::servers::Server;
use crate::host::units;
use crate::process::lines;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::limiter::Limiter;
use crate::web::signed_in::SignedIn;

const LINES: u32 = 200;
/// How long the page waits for them.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Pages that ask the helper at once. They must not take all threads, which the database needs too.
static CONSOLES: LazyLock<Limiter> = LazyLock::new(|| Limiter::shared(3));

/// The last lines of a console, or why they are missing.
#[derive(Clone, Debug, Default)]
pub struct LastLines {
    /// The lines, the oldest first.
    pub lines: Vec<String>,
    /// Why there are none.
    pub trouble: Option<String>,
}

/// A line that can be shown: without terminal sequences, with visible control characters.
pub fn shown(line: &str) -> Cow<'_, str> {
    lines::clean(line.as_bytes(), false)
}

/// Gets the last lines from the helper. An error is shown on the page beside the rest.
pub async fn last_lines(app: &App, server: ServerId, most: u32, timeout: Duration) -> LastLines {
    let trouble = |why: String| LastLines {
        lines: Vec::new(),
        trouble: Some(why),
    };

    let Some(permit) = CONSOLES.acquire(timeout).await else {
        return trouble(
            "Too many consoles are being read: reload the page in a moment.".to_owned(),
        );
    };

    let (socket, name) = (
        app.settings.helper_socket.clone(),
        InstanceName::from(server),
    );

    let asked = permit.blocking(move || units::last_lines(&socket, &name, most, timeout));
    match asked.await {
        Ok(Ok(lines)) => LastLines {
            lines,
            trouble: None,
        },
        Ok(Err(error)) => {
            tracing::warn!("the console of server {server} cannot be read: {error}");
            trouble(
                "The journal cannot be read now. Admins: run left4me doctor for the cause."
                    .to_owned(),
            )
        }
        Err(error) => trouble(format!("The journal cannot be read: {error}")),
    }
}

#[derive(Template)]
#[template(path = "console.html")]
struct ConsolePage {
    frame: Frame,
    server: Server,
    console: LastLines,
}

pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ServerId>,
) -> Result<Response, Failure> {
    let requester = viewer.clone();
    let server = app.store.read(move |db| requester.server(db, id)).await?;
    let console = last_lines(&app, id, LINES, TIMEOUT).await;
    let frame = Frame::of(viewer, format!("Console of {}", server.name)).within("servers");
    page(&ConsolePage {
        frame,
        server,
        console,
    })
}
