//! `left4me fleet hosts`: the hosts of the fleet, as this one knows them.

use super::super::{Context, when};
use super::{none, say_if_away};
use crate::base::table::{Table, Tone};
use crate::base::{Result, output};
use crate::domain::fleet::view::HostState;
use crate::queue::fleet::seen::all_hosts;

#[derive(clap::Args)]
pub(in crate::admin) struct HostsArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &HostsArgs) -> Result<()> {
    let db = context.db()?;
    let hosts = all_hosts(db.connection(), context.now)?;
    if args.json {
        return output::json(&hosts);
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
        "PLAYERS",
        "QUEUE",
        "VERSION",
        "ROLES",
        "LABELS",
    ]);
    for host in &hosts {
        let plain = |text: String| (text, Tone::Plain);
        let players = host.players.filter(|_| host.state.is_known());
        table.toned([
            plain(host.name.clone()),
            (host.state.to_string(), tone(host.state)),
            plain(when(host.seen_at)),
            plain(host.servers_text()),
            plain(players.map_or_else(String::new, |players| players.to_string())),
            plain(host.queue_text()),
            plain(host.version.clone().unwrap_or_default()),
            plain(host.roles.join(" ")),
            plain(host.label_text()),
        ]);
    }
    table.times(&["LAST SEEN"]);
    table.print()
}

fn tone(state: HostState) -> Tone {
    match state {
        HostState::Up => Tone::Good,
        HostState::Cordoned | HostState::Never => Tone::Warning,
        HostState::Silent => Tone::Bad,
        HostState::Expelled => Tone::Plain,
    }
}
