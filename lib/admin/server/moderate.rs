//! `left4me server kick`, `ban` and `unban`: removes players from a running game, by name, number
//! or Steam account.

use super::super::Context;
use super::game::Game;
use crate::base::names::ServerRef;
use crate::base::{Result, output};
use crate::domain::game_command::LONGEST_BAN;
use crate::domain::status::{SteamId, Who};
use crate::queue::moderation;

pub(super) const EXAMPLES: &str = "\
WHO is a name, '#NUMBER' as `left4me server players --ids` shows it, or a Steam ID.

Examples:
  left4me server kick Friday 'Bad Guy' --reason 'team kills'
  left4me server ban Friday '#12' --minutes 60
  left4me server ban Friday STEAM_1:0:12345
  left4me server unban Friday STEAM_1:0:12345";

#[derive(clap::Args)]
pub(in crate::admin) struct KickArgs {
    /// The server's name or id
    server: ServerRef,
    /// A name, '#NUMBER' or a Steam ID
    who: Who,
    /// The reason, which the player sees
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
}

#[derive(clap::Args)]
pub(in crate::admin) struct BanArgs {
    #[command(flatten)]
    kick: KickArgs,
    /// How long [default: for ever]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(LONGEST_BAN)))]
    minutes: Option<u32>,
}

#[derive(clap::Args)]
pub(in crate::admin) struct UnbanArgs {
    /// The server's name or id
    server: ServerRef,
    /// The Steam ID, as in STEAM_1:0:12345
    who: SteamId,
    /// The reason, for the history
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
}

pub(super) fn kick(context: &Context, args: &KickArgs) -> Result<()> {
    let mut game = Game::find(context, &args.server)?;
    let row = moderation::kick(
        &mut |command, reason| game.send(command, reason),
        &args.who,
        &args.reason,
    )?;
    output::line(&format!(
        "kicked #{} {} from server {}",
        row.user_id,
        output::printable(&row.name),
        game.server.id
    ))
}

pub(super) fn ban(context: &Context, args: &BanArgs) -> Result<()> {
    let mut game = Game::find(context, &args.kick.server)?;
    let banned = moderation::ban(
        &mut |command, reason| game.send(command, reason),
        &args.kick.who,
        args.minutes.unwrap_or(0),
        &args.kick.reason,
    )?;

    let name = banned.player.map_or_else(String::new, |row| {
        format!(" ({})", output::printable(&row.name))
    });
    let long = args
        .minutes
        .map_or_else(|| "for ever".to_owned(), |n| format!("for {n} min"));
    output::line(&format!(
        "banned {}{name} from server {} {long}",
        banned.id, game.server.id
    ))
}

pub(super) fn unban(context: &Context, args: &UnbanArgs) -> Result<()> {
    let mut game = Game::find(context, &args.server)?;
    moderation::unban(
        &mut |command, reason| game.send(command, reason),
        &args.who,
        &args.reason,
    )?;
    output::line(&format!(
        "{} is no longer banned from server {}",
        args.who, game.server.id
    ))
}
