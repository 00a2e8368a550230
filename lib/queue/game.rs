//! Commands to a running game, as the command line and the web front send them: each is an event
//! before it is sent, and the event keeps the reply.
//!
//! [`Recorded`] has the three steps, for a caller that opens its transactions itself; [`Sender`]
//! takes them one after the other.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::base::names::ServerId;
use crate::base::{Error, Exit, Result};
use crate::db::Db;
use crate::db::events;
use crate::db::servers::Server;
use crate::domain::game_command;
use crate::domain::server::ActualState;
use crate::wire::console::{
    self, ConsoleRequest, ConsoleResult, ConsoleVerb, Failure, GameInfo, Player,
};

/// How long a reply may take. left4me-console has shorter limits of its own for each step.
const REPLY_TIME: Duration = Duration::from_secs(20);

/// How many bytes of a reply its event keeps.
pub const REPLY_KEPT: usize = 4096;

/// A game's reply to a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Lines, safe to show.
    pub text: String,
    /// Whether there was more.
    pub cut: bool,
}

/// A command whose event is recorded. Send it after the commit.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The event's id.
    pub event: i64,
    pub server: ServerId,
    target: Target,
    command: String,
}

impl Recorded {
    /// Records that `actor` sends a command.
    ///
    /// Fails with 2 when the command is refused; 4 when the server does not run.
    pub fn new(
        tx: &Connection,
        now: i64,
        actor: &str,
        server: &Server,
        command: &str,
        reason: &str,
    ) -> Result<Self> {
        game_command::check(command)?;
        must_run(server)?;
        let event = events::add_command(tx, now, actor, server.id, command, reason)?;
        Ok(Self {
            event,
            server: server.id,
            target: Target::of(server),
            command: command.to_owned(),
        })
    }

    /// Sends the command once, and waits for the reply.
    ///
    /// Fails with 1 when the game did not take it or did not reply; 69 when left4me-console is not
    /// there.
    pub fn send(&self, socket: &Path) -> Result<Reply> {
        let command = self.command.clone();
        match self.target.ask(socket, ConsoleVerb::Exec { command })? {
            ConsoleResult::Output { text, cut } => Ok(Reply { text, cut }),
            other => Err(self.target.unexpected(&other)),
        }
    }

    /// Adds the reply, or why there is none, to the event.
    pub fn keep(&self, tx: &Connection, reply: &Result<Reply>) -> Result<()> {
        let lines = match reply {
            Ok(reply) => kept(reply),
            Err(error) => vec![format!("[no reply: {error}]")],
        };
        events::keep_reply(tx, self.event, self.server, &lines)
    }
}

/// The lines of a reply that are kept, with a note if that is not all.
fn kept(reply: &Reply) -> Vec<String> {
    let end = reply.text.floor_char_boundary(REPLY_KEPT);
    let mut lines: Vec<String> = reply.text[..end].lines().map(str::to_owned).collect();
    if reply.cut || end < reply.text.len() {
        lines.push("[the rest of the reply is not kept]".to_owned());
    }
    lines
}

/// Sends commands of one person to one server.
pub struct Sender<'s> {
    pub db: &'s mut Db,
    /// The socket of left4me-console.
    pub socket: &'s Path,
    /// The time of the events, unix ms.
    pub now: i64,
    /// Who sends them, as events name people.
    pub actor: &'s str,
    pub server: &'s Server,
}

impl Sender<'_> {
    /// Records a command, sends it and keeps the reply. The errors are those of [`Recorded`].
    pub fn send(&mut self, command: &str, reason: &str) -> Result<Reply> {
        let (now, actor, server) = (self.now, self.actor, self.server);
        let recorded = self
            .db
            .write(|tx| Recorded::new(tx, now, actor, server, command, reason))?;

        let reply = recorded.send(self.socket);
        if let Err(error) = self.db.write(|tx| recorded.keep(tx, &reply)) {
            // The command was carried out, whatever becomes of its record.
            tracing::warn!(event = recorded.event, %error, "the reply to a command is not recorded");
        }
        reply
    }
}

/// What a running game says of itself, and who plays. It is no command: nothing is recorded.
///
/// Fails with 4 when the server does not run; 1 when it does not answer; 69 when left4me-console is
/// not there.
pub fn look(socket: &Path, server: &Server) -> Result<(GameInfo, Vec<Player>)> {
    must_run(server)?;
    let target = Target::of(server);
    match target.ask(socket, ConsoleVerb::Look)? {
        ConsoleResult::Look { info, players } => Ok((info, players)),
        other => Err(target.unexpected(&other)),
    }
}

/// A server for left4me-console, and for messages.
#[derive(Clone, Debug)]
struct Target {
    id: ServerId,
    label: String,
    port: u16,
}

impl Target {
    fn of(server: &Server) -> Self {
        Self {
            id: server.id,
            label: label(server),
            port: server.port,
        }
    }

    fn ask(&self, socket: &Path, verb: ConsoleVerb) -> Result<ConsoleResult> {
        let request = ConsoleRequest {
            id: 1,
            server: self.id.into(),
            port: self.port,
            verb,
        };
        console::ask(socket, &request, REPLY_TIME).map_err(|error| error.within(&self.label))
    }

    fn unexpected(&self, result: &ConsoleResult) -> Error {
        match result {
            ConsoleResult::Failed { kind, message } => self.failed(*kind, message),
            _ => Error::unavailable(format!(
                "{}: left4me-console answered something else; is it of this version? \
                 `systemctl restart left4me-console` starts it anew",
                self.label
            )),
        }
    }

    /// What failed, and what to do about it.
    fn failed(&self, kind: Failure, message: &str) -> Error {
        let restart = format!("`left4me-job enqueue restart --server {}`", self.id);
        let show = format!("see `left4me server show {}`", self.id);
        let (exit, advice) = match kind {
            Failure::NoAnswer => (Exit::Failed, format!("it may be loading a map; {show}")),
            Failure::NotListening => (
                Exit::Failed,
                format!("it is starting, or has stopped; {show}"),
            ),
            Failure::WrongPassword | Failure::NoPassword => (
                Exit::Conflict,
                format!("{restart} gives it left4me's password"),
            ),
            Failure::Banned => (Exit::Conflict, format!("{restart} lifts that")),
            Failure::TimedOut | Failure::BadAnswer => (
                Exit::Failed,
                format!("the command may have been carried out; {show}"),
            ),
            Failure::Refused => (Exit::Usage, String::new()),
            Failure::Busy => (Exit::Unavailable, "try again in a moment".to_owned()),
        };

        let error = Error::new(exit, format!("{}: {message}", self.label));
        if advice.is_empty() {
            error
        } else {
            error.because(advice)
        }
    }
}

/// What messages call a server.
pub fn label(server: &Server) -> String {
    format!("server {} '{}'", server.id, server.name)
}

/// Refuses a server that certainly does not run. Whether it does is known after it was asked.
fn must_run(server: &Server) -> Result<()> {
    let state = server.actual_state;
    if may_run(state) {
        return Ok(());
    }

    Err(Error::conflict(format!(
        "{} is not running ({state}): `left4me-job enqueue start --server {}` starts it",
        label(server),
        server.id
    )))
}

/// Whether the game of a server in this state may take commands.
pub fn may_run(state: ActualState) -> bool {
    match state {
        ActualState::Running | ActualState::Starting | ActualState::Unknown => true,
        ActualState::Stopped | ActualState::Stopping | ActualState::Failed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_keeps_the_first_4_kib_of_whole_characters() {
        let reply = |text: &str, cut| {
            kept(&Reply {
                text: text.to_owned(),
                cut,
            })
        };

        assert_eq!(reply("a\nb\n", false), ["a", "b"]);
        assert_eq!(reply("", false), [] as [&str; 0]);
        assert_eq!(reply("a\n", true).len(), 2);

        let long = reply(&"漢".repeat(2000), false);
        assert_eq!((long[0].len(), long.len()), (4095, 2));
        assert!(long[1].contains("not kept"));
    }
}
