//! One RCON conversation with a game: the login, then commands one after another. It does no I/O:
//! the caller sends what [`Conversation::take_output`] gives and passes on what it receives.
//!
//! A reply of more than 4,096 bytes comes in several packets, and none says whether another
//! follows. So each command is followed by an empty packet, which the game sends back after the
//! reply.

pub mod packet;

use packet::{BadSize, COMMAND, LOGIN, LOGIN_RESULT, Packet, Packets, RESPONSE};

use crate::wire::console::OUTPUT_LIMIT;

/// The most bytes that a reply may have in all. What is beyond [`OUTPUT_LIMIT`] is dropped.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The most packets that are ignored between two commands: the end of the last reply, and one that
/// some plugins send.
const MOST_STRAY: u32 = 64;

/// What a packet has besides its body, in bytes.
const FRAME: usize = 14;

const LOGIN_ID: i32 = 1;
const FIRST_ID: i32 = 2;

#[derive(Debug)]
pub struct Conversation {
    packets: Packets,
    output: Vec<u8>,
    state: State,
    next_id: i32,
    stray: u32,
}

#[derive(Debug)]
enum State {
    LoggingIn,
    Ready,
    Replying(Reply),
}

/// What has come of a reply.
#[derive(Debug)]
struct Reply {
    id: i32,
    bytes: Vec<u8>,
    received: usize,
    /// Whether any packet of it has come.
    begun: bool,
    cut: bool,
}

/// What a game has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    LoggedIn,
    WrongPassword,
    /// The whole reply to the command.
    Reply {
        bytes: Vec<u8>,
        cut: bool,
    },
}

/// Why the conversation has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadConversation {
    Size(BadSize),
    /// An answer to the login that is none.
    Login,
    /// A reply without an end.
    Endless,
    /// Packets that nobody asked for.
    Stray,
}

impl std::fmt::Display for BadConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadConversation::Size(size) => size.fmt(f),
            BadConversation::Login => f.write_str("an answer to the login that is none"),
            BadConversation::Endless => f.write_str("a reply without an end"),
            BadConversation::Stray => f.write_str("packets that nobody asked for"),
        }
    }
}

impl Conversation {
    /// Begins with the login.
    pub fn begin(password: &str) -> Self {
        Self {
            packets: Packets::default(),
            output: packet::build(LOGIN_ID, LOGIN, password.as_bytes()),
            state: State::LoggingIn,
            next_id: FIRST_ID,
            stray: 0,
        }
    }

    /// Whether the login was accepted and no command is under way.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether a part of the reply has come.
    pub fn has_begun(&self) -> bool {
        matches!(&self.state, State::Replying(reply) if reply.begun)
    }

    /// Sends a command. Only when [`Conversation::is_ready`].
    pub fn command(&mut self, command: &str) {
        let id = self.next_id;
        // Even ids are commands, the next odd one ends the reply.
        self.next_id = id.checked_add(2).unwrap_or(FIRST_ID);
        self.output = packet::build(id, COMMAND, command.as_bytes());
        self.output.extend(packet::build(id + 1, RESPONSE, b""));
        self.stray = 0;
        self.state = State::Replying(Reply {
            id,
            bytes: Vec::new(),
            received: 0,
            begun: false,
            cut: false,
        });
    }

    /// What has to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes bytes. What follows the returned message is taken with the next call: pass on an empty
    /// slice until there is `None`.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Said>, BadConversation> {
        self.packets.add(bytes);
        while let Some(packet) = self.packets.next().map_err(BadConversation::Size)? {
            if let Some(said) = self.take(packet)? {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// Ends the reply without its last packet, for a game that does not send it.
    pub fn end_reply(&mut self) -> Option<Said> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Replying(mut reply) => Some(reply.end()),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn take(&mut self, packet: Packet) -> Result<Option<Said>, BadConversation> {
        match &mut self.state {
            State::LoggingIn => match (packet.kind, packet.id) {
                // An empty one comes before the result.
                (RESPONSE, _) => self.ignore(),
                (LOGIN_RESULT, -1) => Ok(Some(Said::WrongPassword)),
                (LOGIN_RESULT, LOGIN_ID) => {
                    self.state = State::Ready;
                    Ok(Some(Said::LoggedIn))
                }
                _ => Err(BadConversation::Login),
            },
            State::Replying(reply) if packet.kind == RESPONSE && packet.id == reply.id => {
                reply.add(&packet.body).map(|()| None)
            }
            State::Replying(reply) if packet.kind == RESPONSE && packet.id == reply.id + 1 => {
                let said = reply.end();
                self.state = State::Ready;
                Ok(Some(said))
            }
            // The second packet that follows each reply, for example.
            State::Replying(_) | State::Ready => self.ignore(),
        }
    }

    fn ignore(&mut self) -> Result<Option<Said>, BadConversation> {
        self.stray += 1;
        if self.stray > MOST_STRAY {
            return Err(BadConversation::Stray);
        }
        Ok(None)
    }
}

impl Reply {
    fn add(&mut self, body: &[u8]) -> Result<(), BadConversation> {
        // With the frame, so that empty ones come to an end, too.
        self.received += body.len() + FRAME;
        if self.received > MOST_BYTES {
            return Err(BadConversation::Endless);
        }

        self.begun = true;
        let left = OUTPUT_LIMIT.saturating_sub(self.bytes.len());
        self.cut |= body.len() > left;
        self.bytes.extend(&body[..body.len().min(left)]);
        Ok(())
    }

    fn end(&mut self) -> Said {
        Said::Reply {
            bytes: std::mem::take(&mut self.bytes),
            cut: self.cut,
        }
    }
}

#[cfg(test)]
mod tests;
