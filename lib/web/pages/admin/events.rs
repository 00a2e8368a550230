//! The list of events, as sentences.

use askama::Template;
use axum::response::Response;
use serde::Serialize;

use super::super::extract::{self, QueryFields};
use super::super::frame::{Frame, page};
use super::super::parts::is_gone;
use super::super::sentence::{self, Fragment, sentence};
use crate::base::names::{ServerId, shown};
use crate::db::activity::{self, ActivityFilter, Entry};
use crate::db::links::{self, Linked};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

const ROWS: u32 = 50;
/// The longest actor or kind, bytes.
const LONGEST: usize = 200;

/// The filters, as they were sent.
#[derive(Serialize)]
pub struct SentFilters {
    actor: String,
    server: String,
    kind: String,
}

struct EventLine {
    at: i64,
    kind: String,
    parts: Vec<Fragment>,
    reason: String,
    actor: String,
    way: &'static str,
}

impl EventLine {
    fn of(entry: Entry) -> Self {
        let parts = sentence(&entry.event, entry.server_name.as_deref());
        let event = entry.event;

        Self {
            at: event.at,
            parts,
            way: sentence::way(&event.actor),
            kind: event.kind,
            reason: event.reason,
            actor: event.actor,
        }
    }
}

#[derive(Template)]
#[template(path = "admin/events.html")]
struct EventsPage {
    frame: Frame,
    tab: &'static str,
    wanted: SentFilters,
    lines: Vec<EventLine>,
    newest: Option<String>,
    older: Option<String>,
    servers: Vec<Linked>,
}

impl EventsPage {
    /// Whether the filter names a server that no longer exists.
    fn is_gone(&self) -> bool {
        is_gone(&self.servers, &self.wanted.server)
    }

    fn kinds() -> impl Iterator<Item = &'static str> {
        sentence::kinds()
    }
}

pub(super) async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(fields): QueryFields,
) -> Result<Response, Failure> {
    let field = |name| fields.raw(name).to_owned();
    let wanted = SentFilters {
        actor: field("actor"),
        server: field("server"),
        kind: field("kind"),
    };

    let before = fields.get("before").map(extract::id::<i64>).transpose()?;

    let filter = ActivityFilter {
        actor: short(&wanted.actor)?,
        server: fields.optional::<ServerId>("server")?,
        kind: short(&wanted.kind)?,
        before,
        limit: ROWS + 1,
    };

    let (mut entries, servers) = app
        .store
        .read(move |db| Ok((activity::page(db, &filter)?, links::all(db)?)))
        .await?;
    let filters = serde_urlencoded::to_string(&wanted).map_err(Failure::internal)?;

    // One more row than is shown, to know whether there are more.
    let rows = usize::try_from(ROWS).unwrap_or(usize::MAX);
    let has_more = entries.len() > rows;
    entries.truncate(rows);

    let last = entries.last().filter(|_| has_more);
    let older = last.map(|entry| format!("/admin/events?{filters}&before={}", entry.event.id));
    let newest = before.map(|_| format!("/admin/events?{filters}"));
    let lines = entries.into_iter().map(EventLine::of).collect();
    let frame = Frame::of(viewer, "Activity").within("admin");

    page(&EventsPage {
        frame,
        tab: "events",
        wanted,
        lines,
        newest,
        older,
        servers,
    })
}

fn short(text: &str) -> Result<Option<String>, Failure> {
    let text = text.trim();
    if text.len() > LONGEST {
        return Err(Failure::unprocessable(format!(
            "'{}' is too long for a filter",
            shown(text)
        )));
    }

    Ok((!text.is_empty()).then(|| text.to_owned()))
}
