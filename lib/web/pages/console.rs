//! A server's console: the journal of its unit. The page shows the last lines; log.js continues
//! from there.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use askama::Template;
use axum::response::Response;

use super::extract::{PathId, QueryFields};
use super::frame::{Frame, page};
use crate::base::names::{InstanceName, ServerId};
use crate::db::events::{self, ServerEvent};
use crate::db::servers::Server;
use crate::domain::completions::{BEFORE_A_MAP, COMMANDS, MAPS};
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
    /// The command that was just sent, with its reply.
    told: Option<ServerEvent>,
    /// Who types, as events name people.
    who: String,
    /// Commands, those before a map, and maps, for completion; separated by commas.
    commands: String,
    before_maps: String,
    maps: String,
}

/// The page. `event` is the command whose reply it shows; with log.js replies are in the log.
pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ServerId>,
    QueryFields(asked): QueryFields,
) -> Result<Response, Failure> {
    let (requester, event) = (viewer.clone(), asked.maybe("event"));
    let loaded = app.store.read(move |db| {
        let server = requester.server(db, id)?;
        let told = event.map(|event| events::command(db, id, event));
        Ok((server, told.transpose()?.flatten()))
    });
    let (server, told) = loaded.await?;
    let console = last_lines(&app, id, LINES, TIMEOUT).await;
    let who = viewer.actor();
    let frame = Frame::of(viewer, format!("Console of {}", server.name)).within("servers");
    page(&ConsolePage {
        frame,
        server,
        console,
        told,
        who,
        commands: COMMANDS.join(","),
        before_maps: BEFORE_A_MAP.join(","),
        maps: MAPS.join(","),
    })
}
