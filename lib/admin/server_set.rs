//! `left4me server set`: settings of a server that are not part of its blueprint.

use super::Context;
use crate::base::names::ServerRef;
use crate::base::words::words;
use crate::base::{Result, output};
use crate::db::{game, servers};

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me server set Friday --restart-unresponsive yes
  left4me server show Friday

A server is unresponsive if its game has answered since its start, but not for 5 polls and 2 minutes, and
loads no map. It is reported in any case. With this setting it is also restarted, at most once an hour, by a
job of left4me-poller.";

words! {
    /// Whether a setting is on.
    pub enum YesNo ("yes or no") {
        Yes = "yes",
        No = "no",
    }
}

#[derive(clap::Args)]
pub(super) struct SetArgs {
    /// The server's name or id
    server: ServerRef,
    /// Whether to restart it when its game no longer answers: yes or no
    #[arg(long, value_name = "YES|NO")]
    restart_unresponsive: YesNo,
}

pub(super) fn run(context: &Context, args: &SetArgs) -> Result<()> {
    let on = args.restart_unresponsive == YesNo::Yes;
    let server = context.db()?.write(|tx| {
        let server = servers::find(tx, &args.server)?;
        game::set_restart(tx, context.now, &context.actor, server.id, on)?;
        Ok(server)
    })?;

    let then = match on {
        true => "is restarted if its game no longer answers",
        false => "is not restarted if its game no longer answers",
    };
    output::line(&format!("server {} '{}' {then}", server.id, server.name))
}
