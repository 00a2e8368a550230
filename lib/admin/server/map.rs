//! `left4me server map`: changes the map of a running game.

use super::super::Context;
use super::game::Game;
use crate::base::names::ServerRef;
use crate::base::{Result, output};
use crate::queue::moderation;

#[derive(clap::Args)]
pub(in crate::admin) struct MapArgs {
    /// The server's name or id
    server: ServerRef,
    /// The map, as in c1m1_hotel
    map: String,
}

pub(super) fn run(context: &Context, args: &MapArgs) -> Result<()> {
    let mut game = Game::find(context, &args.server)?;
    moderation::change_map(&mut |command, reason| game.send(command, reason), &args.map)?;
    output::line(&format!(
        "server {} changes to {}: it does not answer until the map is loaded",
        game.server.id, args.map
    ))
}
