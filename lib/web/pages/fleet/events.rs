//! What happened on the hosts.

use std::collections::HashMap;

use askama::Template;
use axum::response::Response;

use super::super::extract::QueryFields;
use super::super::frame::{Frame, page};
use super::{Head, Turn, Turns, host_filter};
use crate::base::clock;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::db::fleet::events::{self, EventFilter, HostEvent};
use crate::db::fleet::servers;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

/// An event, with its server's name.
pub(super) struct EventLine {
    pub(super) event: HostEvent,
    pub(super) server: Option<String>,
}

impl EventLine {
    pub(super) fn all(events: Vec<HostEvent>, names: &HashMap<String, String>) -> Vec<Self> {
        let line = |event: HostEvent| Self {
            server: event.server.map(|server| {
                let known = names.get(&server.to_string());
                known.cloned().unwrap_or_else(|| server.to_string())
            }),
            event,
        };
        events.into_iter().map(line).collect()
    }
}

#[derive(Template)]
#[template(path = "fleet/events.html")]
struct EventsPage {
    frame: Frame,
    head: Head,
    host: String,
    kind: String,
    lines: Vec<EventLine>,
    turns: Turns,
}

pub(super) async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(fields): QueryFields,
) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let (only, turn) = (host_filter(&fields)?, Turn::of(&fields)?);
    let order = fields.optional::<Ulid>("order")?;
    let kind: String = fields.raw("kind").trim().chars().take(100).collect();
    let part = turn.part();
    let begins = kind.clone();
    let loaded = app.store.read(move |db| {
        let filter = EventFilter {
            host: only.as_ref().map(FleetHost::as_str),
            order,
            job: None,
            kind: &begins,
        };
        Ok((
            Head::load(db, "events", now)?,
            events::newest(db, filter, part)?,
            servers::names(db)?,
        ))
    });
    let (head, mut found, names) = loaded.await?;

    let host = fields.raw("host").to_owned();
    let filters = serde_urlencoded::to_string([
        ("host", host.as_str()),
        ("kind", &kind),
        ("order", fields.raw("order")),
    ]);
    let filters = filters.map_err(Failure::internal)?;
    let turns = turn.cut(&mut found, &format!("/fleet/events?{filters}"));
    page(&EventsPage {
        frame: Frame::of(viewer, "Activity on all hosts").within("fleet"),
        head,
        host,
        kind,
        lines: EventLine::all(found, &names),
        turns,
    })
}
