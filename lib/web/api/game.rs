//! Running games: who plays, and commands for their consoles.

use axum::Json;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, Id, Nothing, Query};
use crate::base::names::ServerId;
use crate::db::game::{self, PlayerRow};
use crate::web::commands::{self, CommandReply};
use crate::web::failure::{Failure, FailureBody};
use crate::web::json;
use crate::web::signed_in::SignedIn;

/// Who plays on a server.
#[derive(Serialize, ToSchema)]
pub struct Players {
    /// When the game last answered, unix ms; null if it has not since its start, or the server does
    /// not run.
    answered_at: Option<i64>,
    /// The map; null unless the game answers.
    map: Option<String>,
    /// Players and bots at that time. Empty unless the game answers.
    players: Vec<PlayerRow>,
}

/// List who plays on a server
///
/// As the game answered last; left4me asks running games every few seconds.
#[utoipa::path(get, path = "/api/servers/{id}/players", operation_id = "listPlayers", tag = "servers", params(("id" = ServerId, Path, description = "The server.")), responses(
    (status = 200, body = Players, description = "The players."),
))]
pub async fn players(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ServerId>,
    _: Query<Nothing>,
) -> Result<Response, Failure> {
    json::answer(&app, viewer.id, move |db| {
        let server = viewer.server(db, id)?;
        Ok(Players {
            answered_at: server.answered_at,
            map: server.map,
            players: game::players(db, id)?,
        })
    })
    .await
}

/// A command for a game's console.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GameCommand {
    /// One command, at most 500 bytes.
    // Without one it is refused like an empty one, after the server was looked up.
    #[serde(default)]
    #[schema(required = true, min_length = 1, max_length = 500)]
    command: String,
}

/// Send a command to a running game
///
/// It is recorded as an event before it is sent. The answer has the game's reply. A command is sent
/// at most once; after 502 and 503 it may have been carried out.
#[utoipa::path(post, path = "/api/servers/{id}/command", operation_id = "sendCommand", tag = "servers", params(("id" = ServerId, Path, description = "The server.")),
    request_body(content = GameCommand, description = "The command."), responses(
    (status = 200, body = CommandReply, description = "The reply."),
    (status = 409, body = FailureBody, description = "The server does not run, or its game does not have left4me's password yet."),
    (status = 422, body = FailureBody, description = "The command is refused, or a field is invalid; the message names the cause."),
    (status = 502, body = FailureBody, description = "The game did not reply, or stopped meanwhile."),
    (status = 503, body = FailureBody, description = "left4me-console or the database does not answer, or too many commands wait for their replies."),
))]
pub async fn command(
    SignedIn { app, viewer }: SignedIn,
    Id(id): Id<ServerId>,
    _: Query<Nothing>,
    Body(sent): Body<GameCommand>,
) -> Result<Json<CommandReply>, Failure> {
    commands::send(app, viewer, id, sent.command)
        .await
        .map(Json)
}
