//! `left4me server rotate-rcon`: requests a new RCON password, which nobody gets to see.

use super::super::Context;
use crate::base::names::ServerRef;
use crate::base::{Result, output};
use crate::db::events::{self, NewEvent};
use crate::db::servers;
use crate::domain::server::ActualState;
use crate::host::rcon_password;

pub(super) const EXAMPLES: &str = "\
The new password is generated when the server starts the next time. Until then the old one is
valid: a running game would return to it at the next change of the map. It is never shown;
`left4me server exec` uses it.

Examples:
  sudo left4me server rotate-rcon Friday
  left4me-job enqueue restart --server Friday";

#[derive(clap::Args)]
pub(in crate::admin) struct RotateArgs {
    /// The server's name or id
    server: ServerRef,
}

pub(super) fn run(context: &Context, args: &RotateArgs) -> Result<()> {
    let mut db = context.db()?;
    let server = servers::find(db.connection(), &args.server)?;
    rcon_password::request_rotation(&context.paths.root, &server.id.into())?;

    db.write(|tx| {
        let event = NewEvent {
            server: Some(server.id),
            ..NewEvent::new("server.rcon-rotated", &context.actor, "")
        };
        events::add(tx, context.now, &event)
    })?;

    let id = server.id;
    output::line(&match server.actual_state {
        ActualState::Stopped | ActualState::Failed => {
            format!(
                "server {id} '{}' gets a new RCON password at its next start",
                server.name
            )
        }
        _ => format!(
            "server {id} '{}' keeps its RCON password until its next start: \
             `left4me-job enqueue restart --server {id}`",
            server.name
        ),
    })
}
