//! What a server's pages send to its running game: commands, texts, another map, kicks and bans.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::extract::{Fields, FormFields, PathId, QueryFields};
use super::frame::{Frame, page};
use crate::base::names::{ServerId, shown};
use crate::base::{Error, Result};
use crate::db::servers::Server;
use crate::domain::game_command::{self, LONGEST_BAN};
use crate::domain::status::Who;
use crate::queue::moderation;
use crate::web::commands::{self, Game};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

/// Sends a command, and shows its reply beside the log. log.js uses the API instead.
pub async fn command(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ServerId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let command = form.raw("command").to_owned();
    let sent = commands::send(app, viewer, id, command).await?;
    let to = format!("/servers/{id}/log?event={}#reply", sent.event);
    Ok(Redirect::to(&to).into_response())
}

/// Says a text to all players.
pub async fn say(
    signed_in: SignedIn,
    PathId(id): PathId<ServerId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let text = form.raw("text").to_owned();
    act(signed_in, id, move |game| {
        game.send(&game_command::say(&text)?, "").map(drop)
    })
    .await
}

/// Changes the map.
pub async fn map(
    signed_in: SignedIn,
    PathId(id): PathId<ServerId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let map = form.raw("map").trim().to_owned();
    act(signed_in, id, move |game| {
        moderation::change_map(&mut |command, reason| game.send(command, reason), &map).map(drop)
    })
    .await
}

/// Removes a player from the game.
pub async fn kick(
    signed_in: SignedIn,
    PathId(id): PathId<ServerId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let (who, reason) = (who(&form), reason(&form));
    act(signed_in, id, move |game| {
        let who = who?;
        let mut send = |command: &str, reason: &str| game.send(command, reason);
        moderation::kick(&mut send, &who, &reason).map(drop)
    })
    .await
}

/// Bans a player's account and removes the player from the game.
pub async fn ban(
    signed_in: SignedIn,
    PathId(id): PathId<ServerId>,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let (who, reason) = (who(&form), reason(&form));
    let minutes = form.raw("minutes").trim().to_owned();
    act(signed_in, id, move |game| {
        let (who, minutes) = (who?, minutes_of(&minutes)?);
        let mut send = |command: &str, reason: &str| game.send(command, reason);
        moderation::ban(&mut send, &who, minutes, &reason).map(drop)
    })
    .await
}

/// Whom a form means. `player` is the name of a row of the list of players: a player who is named
/// `#7` must not stand for somebody else.
fn who(form: &Fields) -> Result<Who> {
    match form.get("player") {
        Some(name) => Ok(Who::Name(name.to_owned())),
        None => Ok(form.raw("who").trim().parse()?),
    }
}

/// The reason of a form, as the player and the history get it.
fn reason(form: &Fields) -> String {
    game_command::say_text(form.raw("reason"))
}

/// For ever with an empty field.
fn minutes_of(text: &str) -> Result<u32> {
    if text.is_empty() {
        return Ok(0);
    }

    let number = text.parse().ok();
    number
        .filter(|number| (1..=LONGEST_BAN).contains(number))
        .ok_or_else(|| {
            Error::usage(format!(
                "minutes: '{}' is no number from 1 to {LONGEST_BAN}; empty is for ever",
                shown(text)
            ))
        })
}

/// Does something with the game, and returns to the server's page, whose history shows the
/// commands.
async fn act(
    SignedIn { app, viewer }: SignedIn,
    id: ServerId,
    work: impl FnOnce(&mut Game) -> Result<()> + Send + 'static,
) -> Result<Response, Failure> {
    // Checked before the form: another user's server must not even show form errors.
    let requester = viewer.clone();
    app.store.read(move |db| requester.server(db, id)).await?;

    commands::run(app, viewer, id, work).await?;
    Ok(Redirect::to(&format!("/servers/{id}#events")).into_response())
}

#[derive(Template)]
#[template(path = "server_remove_player.html")]
struct RemovePlayer {
    frame: Frame,
    server: Server,
    /// The name of a row of the list of players; empty if the viewer is to say who.
    player: String,
}

/// The forms to kick or ban a player.
pub async fn ask_remove(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ServerId>,
    QueryFields(asked): QueryFields,
) -> Result<Response, Failure> {
    let requester = viewer.clone();
    let server = app.store.read(move |db| requester.server(db, id)).await?;
    let title = format!("Remove a player from {}", server.name);
    page(&RemovePlayer {
        frame: Frame::of(viewer, title).within("servers"),
        player: asked.get("player").unwrap_or_default().to_owned(),
        server,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_for_ever_or_takes_whole_minutes() {
        assert_eq!(minutes_of("").unwrap(), 0);
        assert_eq!(minutes_of("60").unwrap(), 60);
        for bad in ["0", "-1", "1.5", "ten", "5256001", "99999999999"] {
            let error = minutes_of(bad).unwrap_err();
            assert!(error.to_string().contains("1 to 5256000"), "{bad}: {error}");
        }
    }
}
