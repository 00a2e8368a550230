//! `left4me fleet hosts`: the hosts of the fleet, as this one knows them.

use serde::Serialize;

use super::super::{Context, when};
use super::{none, say_if_away};
use crate::base::table::{Table, Tone};
use crate::base::{Result, output};
use crate::db::fleet::hosts::{self, Host};
use crate::domain::fleet::view::HostState;

#[derive(clap::Args)]
pub(in crate::admin) struct HostsArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A host with what this one makes of it.
#[derive(Serialize)]
pub(super) struct Seen<'a> {
    pub(super) state: HostState,
    #[serde(flatten)]
    pub(super) host: &'a Host,
}

pub(super) fn run(context: &Context, args: &HostsArgs) -> Result<()> {
    let db = context.db()?;
    let hosts = hosts::all(db.connection())?;
    let seen = |host| Seen {
        state: Host::state(host, context.now),
        host,
    };
    if args.json {
        return output::json(&hosts.iter().map(seen).collect::<Vec<_>>());
    }
    say_if_away(context, &db)?;
    if hosts.is_empty() {
        return none(context, "hosts");
    }

    let mut table = Table::new([
        "HOST",
        "STATE",
        "LAST SEEN",
        "SERVERS",
        "QUEUE",
        "VERSION",
        "ROLES",
        "LABELS",
    ]);
    for host in &hosts {
        let plain = |text: String| (text, Tone::Plain);
        let status = host.status.as_ref();
        let state = host.state(context.now);
        table.toned([
            plain(host.name.clone()),
            (state.to_string(), tone(state)),
            plain(when(host.status_received_at)),
            plain(status.map_or_else(String::new, |it| format!("{} of {}", it.used, it.capacity))),
            plain(status.map_or_else(String::new, |it| queue(&it.queue))),
            plain(status.map_or_else(String::new, |it| it.version.clone())),
            plain(host.roles.join(" ")),
            plain(labels(host)),
        ]);
    }
    table.times(&["LAST SEEN"]);
    table.print()
}

pub(super) fn tone(state: HostState) -> Tone {
    match state {
        HostState::Up => Tone::Good,
        HostState::Cordoned | HostState::Never => Tone::Warning,
        HostState::Silent => Tone::Bad,
        HostState::Expelled => Tone::Plain,
    }
}

/// `2 queued, 1 running`; `paused` beside it.
pub(super) fn queue(queue: &crate::domain::fleet::status::Queue) -> String {
    let paused = if queue.paused { ", paused" } else { "" };
    format!("{} queued, {} running{paused}", queue.queued, queue.running)
}

/// `disk=ssd region=eu`
pub(super) fn labels(host: &Host) -> String {
    let pairs = host.labels.iter();
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}
