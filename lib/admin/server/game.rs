//! What the commands about a running game have in common.

use super::super::{Context, hint};
use crate::base::names::ServerRef;
use crate::base::{Result, output};
use crate::db::Db;
use crate::db::servers::{self, Server};
use crate::queue::game::{Reply, Sender};

/// A server, and the database in which commands to it are recorded.
pub(super) struct Game<'c> {
    context: &'c Context,
    db: Db,
    pub server: Server,
}

impl<'c> Game<'c> {
    pub fn find(context: &'c Context, server: &ServerRef) -> Result<Self> {
        let db = context.db()?;
        let server = servers::find(db.connection(), server)?;
        Ok(Self {
            context,
            db,
            server,
        })
    }

    /// Records a command with the caller's name, sends it, and keeps the reply.
    pub fn send(&mut self, command: &str, reason: &str) -> Result<Reply> {
        let mut sender = Sender {
            db: &mut self.db,
            socket: &self.context.console.console_socket,
            now: crate::base::clock::now_ms(),
            actor: &self.context.actor,
            server: &self.server,
        };
        sender.send(command, reason)
    }
}

/// Prints a reply, safe for a terminal.
pub(super) fn print(reply: &Reply) -> Result<()> {
    for line in reply.text.lines() {
        output::line(&output::printable(line))?;
    }
    if reply.cut {
        hint("the reply was longer: this is its beginning");
    }
    Ok(())
}
