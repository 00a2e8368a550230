//! The question before a job that ends the game of people, and what a form says about waiting for
//! them.

use askama::Template;
use axum::response::Response;
use rusqlite::Connection;

use super::extract::Fields;
use super::frame::{Frame, page};
use crate::base::names::ServerId;
use crate::base::{Result, clock, secret};
use crate::db::conditions;
use crate::domain::condition::{Condition, ConditionRequest};
use crate::domain::operation::Operation;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// What the job is to wait for. Without a time, what to do then and the warnings have no meaning.
///
/// Fails with 422 if the fields do not fit together.
pub(super) fn condition(
    form: &Fields,
    operation: Operation,
    now: i64,
) -> std::result::Result<Option<Condition>, Failure> {
    let has_time = form.is_set("until");
    let request = ConditionRequest {
        when_empty: form.is_set("when_empty"),
        until: form.optional("until")?,
        then: if has_time {
            form.optional("then")?
        } else {
            None
        },
        warn: if has_time {
            form.optional("warn")?
        } else {
            None
        },
    };
    Ok(request.resolve(operation, now, &clock::zone(), str::to_owned)?)
}

/// Who plays on the server, or on any server, if the form asks for a job that ends their game at
/// once and does not say that this is meant.
pub(super) fn playing(
    db: &Connection,
    form: &Fields,
    operation: Operation,
    server: Option<ServerId>,
    now: i64,
) -> Result<Option<String>> {
    let is_meant = form.is_set("anyway") || form.is_set("when_empty") || form.is_set("until");
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
    /// For an update: it downloads and verifies everything.
    validate: bool,
    /// For a reset: it drops only stale files.
    stale: bool,
}

/// The page that asks.
pub(super) fn ask(
    viewer: Viewer,
    playing: String,
    operation: Operation,
    server: Option<ServerId>,
    validate: bool,
    stale: bool,
) -> std::result::Result<Response, Failure> {
    let (action, back) = match server {
        Some(id) => (
            format!("/servers/{id}/{operation}"),
            format!("/servers/{id}"),
        ),
        None => (format!("/admin/{operation}"), "/admin".to_owned()),
    };
    page(&PlayersOn {
        frame: Frame::of(viewer, playing.clone()).within("servers"),
        playing,
        operation,
        action,
        back,
        key: secret::random()?,
        validate,
        stale,
    })
}
