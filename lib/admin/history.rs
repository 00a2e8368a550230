//! `left4me server history`: what happened to a server, and what caused it.

use super::{Context, hint, when};
use crate::base::names::ServerRef;
use crate::base::table::{Table, Tone};
use crate::base::{Result, output};
use crate::db::events::{self, ServerEvent};
use crate::db::{samples, servers};
use crate::domain::history::peak;

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me server history Friday
  left4me server history Friday --journal --limit 3      with the output before a crash
  left4me server history Friday --json | jq '.[] | select(.kind == \"server.crashed\")'

CAUSE is the job that caused it, or `outside`: systemd itself, or a person with systemctl.";

#[derive(clap::Args)]
pub(super) struct HistoryArgs {
    /// The server's name or id
    server: ServerRef,
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Also print the unit's last journal lines, which are kept when it crashes or fails
    #[arg(long)]
    journal: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &HistoryArgs) -> Result<()> {
    let mut db = context.db()?;
    let (server, history, players) = db.read(|tx| {
        let server = servers::find(tx, &args.server)?;
        let history = events::of_server(tx, server.id, args.limit)?;
        let players = samples::peak_yesterday(tx, server.id, context.now)?;
        Ok((server, history, players))
    })?;

    if args.json {
        return output::json(&history);
    }
    if let Some(peak) = peak(players) {
        hint(&format!("server {}: {peak}", server.id));
    }
    if history.is_empty() {
        hint(&format!("nothing has happened to server {} yet", server.id));
        return Ok(());
    }

    if args.journal {
        return history.iter().try_for_each(story);
    }

    let mut table = Table::new(["AT", "WHAT", "CAUSE", "BY", "DETAIL"]);
    for event in history {
        let plain = |text: String| (text, Tone::Plain);
        let by = if event.job_id.is_some() {
            event.actor.clone()
        } else {
            String::new()
        };

        table.toned([
            plain(when(Some(event.at))),
            (what(&event).to_owned(), tone(&event)),
            plain(event.cause),
            plain(by),
            plain(event.detail),
        ]);
    }

    table.times(&["AT"]);
    table.print()
}

/// The kind of the event without its prefix `server.`.
fn what(event: &ServerEvent) -> &str {
    event.kind.strip_prefix("server.").unwrap_or(&event.kind)
}

fn tone(event: &ServerEvent) -> Tone {
    match what(event) {
        "crashed" | "failed" => Tone::Bad,
        "drifted" | "unresponsive" => Tone::Warning,
        "started" | "drift_ended" => Tone::Good,
        _ => Tone::Plain,
    }
}

/// Prints an event on a line, and the kept journal lines below it.
fn story(event: &ServerEvent) -> Result<()> {
    let detail = output::printable(&event.detail);
    output::line(&format!(
        "{}  {}, {}: {detail}",
        when(Some(event.at)),
        what(event),
        event.cause
    ))?;

    event
        .journal
        .iter()
        .try_for_each(|line| output::line(&format!("    {}", output::printable(line))))
}
