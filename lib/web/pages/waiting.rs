//! The question before a job that ends the game of people.

use askama::Template;
use axum::response::Response;
use rusqlite::Connection;

use super::extract::Fields;
use super::frame::{Frame, page};
use super::roll::{Field, RollRequest};
use crate::base::names::ServerId;
use crate::base::{Result, secret};
use crate::db::conditions;
use crate::domain::operation::Operation;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// Who plays on the server, or on any server, if the form asks for a job that ends their game at
/// once and does not say that this is meant. `asked`: what else the form asks for.
pub(super) fn playing(
    db: &Connection,
    form: &Fields,
    asked: &RollRequest,
    operation: Operation,
    server: Option<ServerId>,
    now: i64,
) -> Result<Option<String>> {
    let spares = asked.condition.is_some() || asked.options.no_restart;
    let is_meant = form.is_set("anyway") || spares;
    if is_meant || !operation.takes_condition() {
        return Ok(None);
    }
    let servers = server.map(|id| [id]);
    conditions::playing(db, servers.as_ref().map(|ids| &ids[..]), now)
}

#[derive(Template)]
#[template(path = "players_on.html")]
struct PlayersOn {
    frame: Frame,
    /// `4 players on Friday`
    playing: String,
    operation: Operation,
    /// Where the form goes, and where the way back leads.
    action: String,
    back: String,
    key: String,
    /// For a reset: it drops only stale files.
    stale: bool,
    /// What else was asked for: fields for the job that waits, and for the one that does not.
    carried: (Vec<Field>, Vec<Field>),
}

/// The page that asks.
pub(super) fn ask(
    viewer: Viewer,
    playing: String,
    operation: Operation,
    server: Option<ServerId>,
    asked: &RollRequest,
) -> std::result::Result<Response, Failure> {
    let (action, back) = match server {
        Some(id) => (
            format!("/servers/{id}/{operation}"),
            format!("/servers/{id}"),
        ),
        None if operation.rolls_out() => {
            (format!("/admin/{operation}"), "/admin/builds".to_owned())
        }
        None => (format!("/admin/{operation}"), "/admin".to_owned()),
    };
    page(&PlayersOn {
        frame: Frame::of(viewer, playing.clone()).within("servers"),
        playing,
        operation,
        action,
        back,
        key: secret::random()?,
        stale: asked.options.stale,
        carried: asked.carried(),
    })
}
