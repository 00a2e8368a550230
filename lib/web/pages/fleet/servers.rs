//! The servers of all hosts.

use askama::Template;
use axum::response::Response;

use super::super::extract::QueryFields;
use super::super::frame::{Frame, page};
use super::{Head, host_filter};
use crate::base::clock;
use crate::base::names::FleetHost;
use crate::queue::fleet::seen::{SeenServer, all_servers};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "fleet/servers.html")]
struct ServersPage {
    frame: Frame,
    head: Head,
    /// The filters, as they were sent.
    host: String,
    text: String,
    /// How many there are without the filter by text.
    all: usize,
    servers: Vec<SeenServer>,
}

pub(super) async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(fields): QueryFields,
) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let only = host_filter(&fields)?;
    let loaded = app.store.read(move |db| {
        let servers = all_servers(db, only.as_ref().map(FleetHost::as_str), now)?;
        Ok((Head::load(db, "servers", now)?, servers))
    });
    let (head, mut servers) = loaded.await?;

    let text: String = fields.raw("q").chars().take(100).collect();
    let all = servers.len();
    servers.retain(|server| fits(server, text.trim()));
    page(&ServersPage {
        frame: Frame::of(viewer, "Servers of all hosts").within("fleet"),
        head,
        host: fields.raw("host").to_owned(),
        text,
        all,
        servers,
    })
}

/// Whether a name, an owner, a map or a state has this text in it.
fn fits(server: &SeenServer, text: &str) -> bool {
    let text = text.to_lowercase();
    let state = match server.known {
        true => server.actual_state.as_str(),
        false => "unknown",
    };
    let map = server.map.as_deref().unwrap_or_default();
    [&server.name, &server.owner, map, state, &server.host]
        .iter()
        .any(|field| field.to_lowercase().contains(&text))
        || server.port.to_string() == text
}
