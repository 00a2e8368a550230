//! `left4me server exec`: sends one command to a running game's console.

use super::super::Context;
use super::game::{self, Game};
use crate::base::Result;
use crate::base::names::ServerRef;

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me server exec Friday status
  left4me server exec Friday 'sm_cvar z_difficulty Hard'

The command, who sent it and the beginning of the reply are in `left4me server history`.";

#[derive(clap::Args)]
pub(in crate::admin) struct ExecArgs {
    /// The server's name or id
    server: ServerRef,
    /// The command, as one argument: at most 500 bytes, without line breaks and ';'
    #[arg(allow_hyphen_values = true)]
    command: String,
}

pub(super) fn run(context: &Context, args: &ExecArgs) -> Result<()> {
    let reply = Game::find(context, &args.server)?.send(&args.command, "")?;
    game::print(&reply)
}
