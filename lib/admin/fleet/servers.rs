//! `left4me fleet servers`: the servers of all hosts, as each host told them last.

use std::collections::HashMap;

use serde::Serialize;

use super::super::{Context, when};
use super::{none, say_if_away};
use crate::base::names::FleetHost;
use crate::base::table::{Table, Tone};
use crate::base::{Result, clock, output};
use crate::db::fleet::hosts::{self, Host};
use crate::db::fleet::servers::{self, FleetServer};

#[derive(clap::Args)]
pub(in crate::admin) struct ServersArgs {
    /// Only the servers of this host
    #[arg(long, value_name = "HOST")]
    host: Option<FleetHost>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A server with how old the knowledge is.
#[derive(Serialize)]
pub(super) struct Known<'a> {
    /// Whether its host tells its status. If not, its state was so at `seen_at`; it can be another
    /// one now.
    pub(super) known: bool,
    /// Unix ms.
    pub(super) seen_at: Option<i64>,
    #[serde(flatten)]
    pub(super) server: &'a FleetServer,
}

pub(super) fn run(context: &Context, args: &ServersArgs) -> Result<()> {
    let mut db = context.db()?;
    let host = args.host.as_ref();
    let (hosts, servers) = db.read(|tx| {
        if let Some(host) = host {
            hosts::find(tx, host)?;
        }
        let servers = servers::list(tx, host.map(FleetHost::as_str))?;
        Ok((hosts::all(tx)?, servers))
    })?;

    if args.json {
        return output::json(&known(&hosts, &servers, context.now));
    }
    say_if_away(context, &db)?;
    if servers.is_empty() {
        return none(context, "servers");
    }
    print(&hosts, &servers, context.now)
}

/// The servers, each with whether its host tells its status.
pub(super) fn known<'a>(hosts: &[Host], servers: &'a [FleetServer], now: i64) -> Vec<Known<'a>> {
    let by_name: HashMap<_, _> = hosts
        .iter()
        .map(|host| (host.name.as_str(), host))
        .collect();
    let known = servers.iter().map(|server| {
        let host = by_name.get(server.host.as_str());
        Known {
            known: host.is_some_and(|host| host.state(now).is_known()),
            seen_at: host.and_then(|host| host.status_received_at),
            server,
        }
    });
    known.collect()
}

pub(super) fn print(hosts: &[Host], servers: &[FleetServer], now: i64) -> Result<()> {
    let mut table = Table::new([
        "HOST",
        "ID",
        "NAME",
        "STATE",
        "DESIRED",
        "PLAYERS",
        "MAP",
        "PORT",
        "OWNER",
        "LAST SEEN",
    ]);
    for row in known(hosts, servers, now) {
        let plain = |text: String| (text, Tone::Plain);
        let server = &row.server.server;
        table.toned([
            plain(row.server.host.clone()),
            plain(server.number.to_string()),
            plain(server.name.clone()),
            state(&row, now),
            plain(server.desired.clone()),
            plain(if row.known {
                players(&row)
            } else {
                String::new()
            }),
            plain(server.map.clone().filter(|_| row.known).unwrap_or_default()),
            plain(server.port.to_string()),
            plain(server.owner.clone()),
            plain(when(row.seen_at)),
        ]);
    }
    table.times(&["LAST SEEN"]);
    table.print()
}

/// What is not known any more is never shown as it was.
fn state(row: &Known<'_>, now: i64) -> (String, Tone) {
    let server = &row.server.server;
    match (row.known, row.seen_at) {
        (true, _) if server.drift => (server.actual.clone(), Tone::Warning),
        (true, _) if server.actual == "running" => (server.actual.clone(), Tone::Good),
        (true, _) => (server.actual.clone(), Tone::Plain),
        (false, Some(at)) => {
            let since = clock::minute(at, now);
            (format!("unknown since {since}"), Tone::Warning)
        }
        (false, None) => ("unknown".to_owned(), Tone::Warning),
    }
}

/// `3/8`; empty while unknown.
fn players(row: &Known<'_>) -> String {
    let server = &row.server.server;
    match (server.players, server.max_players) {
        (Some(players), Some(most)) => format!("{players}/{most}"),
        (Some(players), None) => players.to_string(),
        (None, _) => String::new(),
    }
}
