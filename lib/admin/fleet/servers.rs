//! `left4me fleet servers`: the servers of all hosts, as each host told them last.

use super::super::{Context, when};
use super::{none, say_if_away};
use crate::base::names::FleetHost;
use crate::base::table::{Table, Tone};
use crate::base::{Result, clock, output};
use crate::db::fleet::hosts;
use crate::queue::fleet::seen::{SeenServer, all_servers};

#[derive(clap::Args)]
pub(in crate::admin) struct ServersArgs {
    /// Only the servers of this host
    #[arg(long, value_name = "HOST")]
    host: Option<FleetHost>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &ServersArgs) -> Result<()> {
    let mut db = context.db()?;
    let servers = db.read(|tx| {
        if let Some(host) = &args.host {
            hosts::find(tx, host)?;
        }
        let of = args.host.as_ref().map(FleetHost::as_str);
        all_servers(tx, of, context.now)
    })?;

    if args.json {
        return output::json(&servers);
    }
    say_if_away(context, &db)?;
    if servers.is_empty() {
        return none(context, "servers");
    }
    print(&servers, context.now)
}

pub(super) fn print(servers: &[SeenServer], now: i64) -> Result<()> {
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
    for server in servers {
        let plain = |text: String| (text, Tone::Plain);
        let map = server.map.clone().filter(|_| server.known);
        table.toned([
            plain(server.host.clone()),
            plain(server.number.to_string()),
            plain(server.name.clone()),
            state(server, now),
            plain(server.desired_state.clone()),
            plain(server.players_text()),
            plain(map.unwrap_or_default()),
            plain(server.port.to_string()),
            plain(server.owner.clone()),
            plain(when(server.seen_at)),
        ]);
    }
    table.times(&["LAST SEEN"]);
    table.print()
}

/// What is not known any more is not shown as it was.
fn state(server: &SeenServer, now: i64) -> (String, Tone) {
    if !server.known {
        let since = server.seen_at.map(|at| clock::minute(at, now));
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        return (format!("unknown{since}"), Tone::Warning);
    }
    if let Some(host) = server.moved_to() {
        return (
            format!("{}, moved to {host}", server.actual_state),
            Tone::Warning,
        );
    }
    let tone = match server.actual_state.as_str() {
        _ if server.drift => Tone::Warning,
        "running" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Plain,
    };
    (server.actual_state.clone(), tone)
}
