//! Commands to running games, for pages and the API. Each is an event before it is sent. While its
//! reply is waited for, no transaction is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::base::clock;
use crate::base::names::ServerId;
use crate::base::{Error, Exit, Result};
use crate::queue::game::{Recorded, Reply};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::limiter::{Exhausted, Limiter};
use crate::web::viewer::Viewer;

/// Commands, or series of them, under way at once. Each holds a thread.
pub const AT_ONCE: usize = 4;
/// The same for one user.
const PER_USER: usize = 2;

/// How long a request waits for its commands: a ban is several, and each may take some time. Less
/// than what the middleware gives a request, whose answer would be to try again.
const PATIENCE: Duration = Duration::from_secs(25);

/// The permits of [`run`].
pub fn limiter() -> Limiter {
    Limiter::new(AT_ONCE, PER_USER)
}

/// A command's reply, and the event that keeps it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandReply {
    /// The game's output, safe to show; empty for most commands that only do something.
    pub reply: String,
    /// Whether there was more than the 64 KiB that are passed on.
    pub cut: bool,
    /// The event of the command.
    pub event: i64,
}

/// A game that gets the commands of one user.
pub struct Game {
    app: App,
    viewer: Viewer,
    server: ServerId,
    runtime: Handle,
    /// The event of the last command; 0 before the first.
    event: Arc<AtomicI64>,
    /// Whether an error is of left4me itself: the command was not sent.
    is_own_error: bool,
}

impl Game {
    /// Records a command, sends it and waits for the reply.
    pub fn send(&mut self, command: &str, reason: &str) -> Result<Reply> {
        let recorded = self.record(command, reason);
        self.is_own_error = recorded.is_err();
        let recorded = recorded?;
        self.event.store(recorded.event, Ordering::SeqCst);

        let reply = recorded.send(&self.app.settings.console_socket);

        // The command was carried out, whatever becomes of its record.
        let event = recorded.event;
        let kept = reply.clone();
        let keep = self.app.store.write(move |tx| recorded.keep(tx, &kept));
        if let Err(error) = self.runtime.block_on(keep) {
            tracing::warn!(event, %error, "the reply to a command is not recorded");
        }
        reply
    }

    /// Records a command. The server's row may have changed since the last one.
    fn record(&self, command: &str, reason: &str) -> Result<Recorded> {
        let (viewer, id) = (self.viewer.clone(), self.server);
        let (command, reason) = (command.to_owned(), reason.to_owned());
        let recorded = self.app.store.write(move |tx| {
            let server = viewer.server(tx, id)?;
            let now = clock::now_ms();
            Recorded::new(tx, now, &viewer.actor(), &server, &command, &reason)
        });
        self.runtime.block_on(recorded)
    }

    fn failure(&self, error: Error) -> Failure {
        match error.exit {
            // What the game did, or left4me-console, is not an error of this program.
            Exit::Failed if !self.is_own_error => {
                Failure::new(StatusCode::BAD_GATEWAY, error.to_string())
            }
            Exit::NotPermitted => Failure::busy(error.to_string(), 10),
            _ => error.into(),
        }
    }
}

/// Runs `work` with a game on a blocking thread. It goes on if the client disconnects, so that each
/// command that was sent has its reply.
///
/// Fails with 404 when the viewer may not see the server, 422 when a command is refused, 409 when
/// the server does not run, 502 when its game does not answer, and 503 when left4me-console is not
/// there or too many commands are under way. After [`PATIENCE`] it fails with 502, and `work` goes
/// on.
pub async fn run<T, F>(app: App, viewer: Viewer, server: ServerId, work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce(&mut Game) -> Result<T> + Send + 'static,
{
    let permit = app
        .commands
        .try_acquire_for(viewer.id)
        .map_err(|exhausted| {
            app.metrics.refused("commands");
            let message = match exhausted {
                Exhausted::User(most) => format!(
                    "{most} commands of yours wait for their replies: try again when one has come"
                ),
                Exhausted::All => {
                    "too many commands wait for their replies: try again in a moment".to_owned()
                }
            };
            Failure::busy(message, 2)
        })?;

    let event = Arc::new(AtomicI64::new(0));
    let mut game = Game {
        app,
        viewer,
        server,
        runtime: Handle::current(),
        event: Arc::clone(&event),
        is_own_error: false,
    };

    let done = permit.blocking(move || work(&mut game).map_err(|error| game.failure(error)));
    match timeout(PATIENCE, done).await {
        Ok(done) => done.map_err(Failure::internal)?,
        Err(_) => Err(late(event.load(Ordering::SeqCst) != 0)),
    }
}

/// The answer to a request whose commands have not ended in time. They go on.
fn late(is_sent: bool) -> Failure {
    let seconds = PATIENCE.as_secs();
    match is_sent {
        true => Failure::new(
            StatusCode::BAD_GATEWAY,
            format!(
                "sent; no answer in {seconds} s. It goes on: do not send it again, but look at \
                 the server's history, which gets the reply"
            ),
        ),
        false => Failure::busy(
            format!(
                "not sent in {seconds} s: the database is busy. It may still be: look at the \
                 server's history before you try again"
            ),
            5,
        ),
    }
}

/// Sends one command, as people write it.
pub async fn send(
    app: App,
    viewer: Viewer,
    server: ServerId,
    command: String,
) -> Result<CommandReply, Failure> {
    run(app, viewer, server, move |game| {
        let Reply { text, cut } = game.send(&command, "")?;
        Ok(CommandReply {
            reply: text,
            cut,
            event: game.event.load(Ordering::SeqCst),
        })
    })
    .await
}
