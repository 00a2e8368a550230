//! `left4me server players`: who plays on a running server.

use serde::Serialize;

use super::super::{Context, hint};
use super::game::Game;
use crate::base::names::ServerRef;
use crate::base::table::Table;
use crate::base::{Result, clock, output};
use crate::domain::status::{Row, Status};
use crate::queue::{game, moderation};
use crate::wire::console::{GameInfo, Player};

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me server players Friday
  left4me server players Friday --ids          with the numbers and accounts that kick and ban take
  left4me server players Friday --json | jq '.players[].name'

--ids sends the command `status` to the game's console, which the server's history then shows.";

#[derive(clap::Args)]
pub(in crate::admin) struct PlayersArgs {
    /// The server's name or id
    server: ServerRef,
    /// Show numbers and Steam IDs
    #[arg(long)]
    ids: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    info: GameInfo,
    players: Vec<Player>,
}

pub(super) fn run(context: &Context, args: &PlayersArgs) -> Result<()> {
    let mut found = Game::find(context, &args.server)?;
    if args.ids {
        let status = moderation::status(&mut |command, reason| found.send(command, reason))?;
        return print_ids(&status, args.json);
    }

    let (info, players) = game::look(&context.console.console_socket, &found.server)?;
    if args.json {
        return output::json(&Answer { info, players });
    }

    hint(&summary(&info));
    if players.is_empty() {
        return Ok(());
    }

    let mut table = Table::new(["NAME", "SCORE", "FOR"]);
    for player in players {
        table.row([
            player.name,
            player.score.to_string(),
            clock::span(i64::from(player.seconds) * 1000),
        ]);
    }
    table.print()
}

fn summary(info: &GameInfo) -> String {
    let bots = match info.bots {
        0 => String::new(),
        1 => " and 1 bot".to_owned(),
        bots => format!(" and {bots} bots"),
    };
    format!(
        "{} of {} players{bots} on {}, answered in {} ms",
        info.players, info.max_players, info.map, info.response_ms
    )
}

fn print_ids(status: &Status, json: bool) -> Result<()> {
    if json {
        return output::json(&status.rows);
    }

    if status.rows.is_empty() {
        hint("nobody is on the server");
        return Ok(());
    }

    let mut table = Table::new(["NUMBER", "NAME", "STEAM ID", "FOR", "PING", "STATE"]);
    for row in &status.rows {
        table.row(cells(row));
    }
    table.print()
}

fn cells(row: &Row) -> [String; 6] {
    let account = match &row.steam_id {
        Some(id) => id.to_string(),
        None if row.is_bot => "bot".to_owned(),
        None => String::new(),
    };
    [
        format!("#{}", row.user_id),
        row.name.clone(),
        account,
        row.connected.map_or_else(String::new, |seconds| {
            clock::span(i64::from(seconds) * 1000)
        }),
        row.ping.map_or_else(String::new, |ms| format!("{ms} ms")),
        row.state.clone(),
    ]
}
