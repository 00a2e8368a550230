//! `left4me server say`: says a text to all players of a running game.

use super::super::Context;
use super::game::Game;
use crate::base::names::ServerRef;
use crate::base::{Result, output};
use crate::domain::game_command;

#[derive(clap::Args)]
pub(in crate::admin) struct SayArgs {
    /// The server's name or id
    server: ServerRef,
    /// The text. Quotes, ';' and line breaks are left out; at most 250 bytes are said
    #[arg(required = true)]
    text: Vec<String>,
}

pub(super) fn run(context: &Context, args: &SayArgs) -> Result<()> {
    let command = game_command::say(&args.text.join(" "))?;
    let mut game = Game::find(context, &args.server)?;
    game.send(&command, "")?;
    let said = command.strip_prefix("say ").unwrap_or(&command);
    output::line(&format!("said on server {}: {said}", game.server.id))
}
