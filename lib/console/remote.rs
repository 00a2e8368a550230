//! The console of one game: its waiting commands, and the connection that is kept.
//!
//! Commands are sent one after another, each at most once: when a connection ends after a command
//! was sent, nobody knows whether the game has carried it out. A refused password is not tried
//! again, because a game bans who fails several times.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::output;
use super::rcon::{Conversation, Said};
use super::sockets::Sockets;
use crate::base::names::InstanceName;
use crate::base::rcon_password::{FILE, RconPassword};
use crate::wire::console::{ConsoleResult, Failure};

/// How long connection and login may take.
const LOGIN_TIME: Duration = Duration::from_secs(3);
/// How long a game may take until its reply is complete.
const REPLY_TIME: Duration = Duration::from_secs(5);
/// A reply without its last packet is complete after this time without another one.
const QUIET_TIME: Duration = Duration::from_secs(1);
/// How long a command may wait for those before it.
const QUEUE_TIME: Duration = Duration::from_secs(10);
/// The most waiting commands of a game.
const MOST_WAITING: usize = 32;
/// A connection without commands is closed after this time.
const KEEP_TIME: Duration = Duration::from_secs(600);
/// How long a refused password is remembered, while nothing changes.
const REFUSAL_TIME: Duration = Duration::from_secs(3600);
/// A connection that ends later than this after a refused login ends because the game does.
const HANG_UP_TIME: Duration = Duration::from_secs(2);
/// How much is read at once, so that a game that never stops does not hold up the others.
const READ_SIZE: usize = 64 * 1024;

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub client: u64,
    /// The request's.
    pub id: u32,
}

/// What became of a command.
pub type Ended = (Ticket, ConsoleResult);

pub struct Remote {
    password_file: PathBuf,
    port: u16,
    waiting: VecDeque<Command>,
    running: Option<Ticket>,
    link: Option<Link>,
    refusal: Option<Refusal>,
}

struct Command {
    ticket: Ticket,
    text: String,
    deadline: Instant,
}

/// A connection.
struct Link {
    socket: TcpStream,
    conversation: Conversation,
    password: RconPassword,
    /// What is not written yet.
    out: Vec<u8>,
    /// Of the login, or of the reply; of the connection while it is not used.
    deadline: Instant,
    last_input: Option<Instant>,
    /// Whether it has carried out a command before.
    is_kept: bool,
}

/// A refused password.
struct Refusal {
    password: RconPassword,
    at: Instant,
    /// The connection, which ends with the game. None when the game has closed it at once.
    socket: Option<TcpStream>,
}

/// Why a connection ends.
enum Broken {
    /// The game closed it, or it failed.
    Closed,
    /// No byte of a command was written.
    Unsent,
    Refused,
    Bad(String),
    Failed(Failure, String),
}

impl Refusal {
    /// What is left of it: nothing when the game has ended, or after a long time.
    fn after(mut self, now: Instant) -> Option<Self> {
        let age = now.saturating_duration_since(self.at);
        if let Some(socket) = &mut self.socket {
            // Whatever it still sends is of no interest.
            let is_open = match socket.read(&mut [0; 4096]) {
                Ok(count) => count > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            if !is_open {
                self.socket = None;
                if age > HANG_UP_TIME {
                    return None;
                }
            }
        }
        (age < REFUSAL_TIME).then_some(self)
    }
}

impl Broken {
    /// For a connection that is not tried again.
    fn sent(self) -> Self {
        match self {
            Broken::Unsent => Broken::Closed,
            other => other,
        }
    }
}

impl Remote {
    pub fn new(root: &Path, server: &InstanceName, port: u16) -> Self {
        Self {
            password_file: root.join("instances").join(server.as_str()).join(FILE),
            port,
            waiting: VecDeque::new(),
            running: None,
            link: None,
            refusal: None,
        }
    }

    /// Adds a command. [`Remote::advance`] sends it.
    pub fn push(&mut self, now: Instant, ticket: Ticket, text: String) -> Option<ConsoleResult> {
        if self.waiting.len() >= MOST_WAITING {
            let message = "too many commands wait for this game: try again in a moment";
            return Some(ConsoleResult::failed(Failure::Busy, message));
        }

        self.waiting.push_back(Command {
            ticket,
            text,
            deadline: now + QUEUE_TIME,
        });
        None
    }

    /// Drops the commands of a client that has gone and are not sent yet.
    pub fn forget(&mut self, client: u64) {
        self.waiting
            .retain(|command| command.ticket.client != client);
    }

    /// Whether a command waits or runs.
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// Whether nothing would be lost without it.
    pub fn is_over(&self, now: Instant) -> bool {
        !self.is_busy() && self.link.is_none() && !self.remembers(now)
    }

    /// Whether a refused password has to be remembered.
    pub fn remembers(&self, now: Instant) -> bool {
        let refusal = self.refusal.as_ref();
        refusal.is_some_and(|refusal| now.saturating_duration_since(refusal.at) < REFUSAL_TIME)
    }

    /// What to wait for.
    pub fn events(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let Some(link) = &self.link else {
            let socket = self.refusal.as_ref()?.socket.as_ref()?;
            return Some((socket.as_fd(), PollFlags::POLLIN));
        };
        let out = match link.out.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::POLLOUT,
        };
        Some((link.socket.as_fd(), PollFlags::POLLIN | out))
    }

    /// When [`Remote::advance`] has to be called although nothing happened.
    pub fn due(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|command| command.deadline);
        let link = self.link.as_ref().map(Link::due);
        waiting.into_iter().chain(link).min()
    }

    /// Does what can be done now. Returns what has ended, and what the journal should say of the
    /// game.
    pub fn advance(&mut self, now: Instant, sockets: &mut Sockets) -> (Vec<Ended>, Option<String>) {
        let mut ended = Vec::new();
        let mut complaint = None;
        self.expire(now, &mut ended);
        self.refusal = self.refusal.take().and_then(|refusal| refusal.after(now));

        // At most twice: a kept connection that turns out to be closed is opened again.
        for _ in 0..2 {
            let Err(broken) = self.step(now, sockets, &mut ended) else {
                break;
            };
            complaint = self.broken(broken, &mut ended).or(complaint);
            if self.waiting.is_empty() {
                break;
            }
        }
        (ended, complaint)
    }

    fn expire(&mut self, now: Instant, ended: &mut Vec<Ended>) {
        let message = "the game was busy with earlier commands for 10 s: this one was not sent";
        while let Some(first) = self.waiting.front()
            && first.deadline <= now
        {
            let failed = ConsoleResult::failed(Failure::TimedOut, message);
            ended.extend(self.waiting.pop_front().map(|first| (first.ticket, failed)));
        }
    }

    /// Reads, sends the next command, writes.
    fn step(
        &mut self,
        now: Instant,
        sockets: &mut Sockets,
        ended: &mut Vec<Ended>,
    ) -> Result<(), Broken> {
        if self.link.is_none() && !self.waiting.is_empty() {
            self.link = Some(self.open(now, sockets)?);
        }
        let Some(link) = &mut self.link else {
            return Ok(());
        };

        for said in link.read(now)? {
            match said {
                Said::LoggedIn => link.deadline = now + KEEP_TIME,
                Said::WrongPassword => {
                    self.refusal = self.link.take().map(|link| Refusal {
                        password: link.password,
                        at: now,
                        socket: Some(link.socket),
                    });
                    return Err(Broken::Refused);
                }
                Said::Reply { bytes, cut } => {
                    link.is_kept = true;
                    link.deadline = now + KEEP_TIME;
                    let output = output::of(&bytes, cut, &link.password);
                    ended.extend(self.running.take().map(|ticket| (ticket, output)));
                }
            }
        }

        if let Some(output) = link.end_quiet_reply(now) {
            ended.extend(self.running.take().map(|ticket| (ticket, output)));
            // What comes late must not be taken for the reply to the next command, which gets a new
            // connection.
            return Err(Broken::Unsent);
        }
        if link.deadline <= now {
            return Err(link.late(self.running.is_some()));
        }

        if link.conversation.is_ready()
            && self.running.is_none()
            && let Some(command) = self.waiting.pop_front()
        {
            link.conversation.command(&command.text);
            link.out = link.conversation.take_output();
            link.last_input = None;
            link.deadline = now + REPLY_TIME;
            match link.write() {
                Err(Broken::Unsent) if link.is_kept => {
                    self.waiting.push_front(command);
                    return Err(Broken::Unsent);
                }
                written => {
                    self.running = Some(command.ticket);
                    return written.map_err(Broken::sent);
                }
            }
        }
        link.write().map_err(Broken::sent)
    }

    fn open(&mut self, now: Instant, sockets: &mut Sockets) -> Result<Link, Broken> {
        let password = match RconPassword::read(&self.password_file) {
            Ok(Some(password)) => password,
            Ok(None) => {
                let why = "it has no password for its console yet: start or restart it";
                return Err(Broken::Failed(Failure::NoPassword, why.to_owned()));
            }
            Err(error) => {
                let why = format!("the password of its console cannot be read: {error}");
                return Err(Broken::Failed(Failure::NoPassword, why));
            }
        };

        self.refusal = self
            .refusal
            .take()
            .filter(|refusal| refusal.password == password);
        match self.refusal {
            Some(_) => Err(Broken::Refused),
            None => match sockets.tcp(self.port) {
                Ok(socket) => Ok(Link::new(now, socket, password)),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(not_listening()),
                Err(error) => Err(Broken::Failed(
                    Failure::NotListening,
                    format!("the game's port cannot be reached: {error}"),
                )),
            },
        }
    }

    /// Ends the connection and the commands that end with it. Returns a line for the journal.
    fn broken(&mut self, broken: Broken, ended: &mut Vec<Ended>) -> Option<String> {
        let was_kept = matches!(&self.link, Some(link) if link.is_kept);
        let was_heard = matches!(&self.link, Some(link) if link.last_input.is_some());
        self.link = None;

        let (kind, message) = match broken {
            // The next step opens it again.
            Broken::Unsent => return None,
            Broken::Closed if self.running.is_some() => (
                Failure::BadAnswer,
                "the game closed the connection before its reply was complete: the command may \
                 have been carried out"
                    .to_owned(),
            ),
            // A game that was restarted, for example. Nothing was sent.
            Broken::Closed if was_kept => return None,
            Broken::Closed if was_heard => (
                Failure::BadAnswer,
                "the game closed the connection during the login".to_owned(),
            ),
            Broken::Closed => (
                Failure::Banned,
                "the game closes the connection at once: it has no rcon_password, has banned this \
                 host after wrong ones, or is ending; restart the server"
                    .to_owned(),
            ),
            Broken::Refused => (
                Failure::WrongPassword,
                "the game refuses the password: something else sets rcon_password, or it was \
                 changed while the game ran; restart the server"
                    .to_owned(),
            ),
            Broken::Bad(why) => (
                Failure::BadAnswer,
                format!("the game's answer breaks the protocol: {why}"),
            ),
            Broken::Failed(kind, message) => (kind, message),
        };

        let failed = |ticket| (ticket, ConsoleResult::failed(kind, message.clone()));
        match self.running.take() {
            Some(ticket) => ended.push(failed(ticket)),
            // It concerns the connection, so all that wait for it.
            None => ended.extend(self.waiting.drain(..).map(|command| failed(command.ticket))),
        }
        let is_remarkable = matches!(
            kind,
            Failure::BadAnswer | Failure::Banned | Failure::WrongPassword
        );
        is_remarkable.then_some(message)
    }
}

impl Link {
    fn new(now: Instant, socket: TcpStream, password: RconPassword) -> Self {
        socket.set_nodelay(true).ok();
        let mut conversation = Conversation::begin(password.expose());
        Self {
            socket,
            out: conversation.take_output(),
            conversation,
            password,
            deadline: now + LOGIN_TIME,
            last_input: None,
            is_kept: false,
        }
    }

    fn due(&self) -> Instant {
        match self.last_input {
            Some(at) if self.conversation.has_begun() => self.deadline.min(at + QUIET_TIME),
            _ => self.deadline,
        }
    }

    fn read(&mut self, now: Instant) -> Result<Vec<Said>, Broken> {
        let (mut all, mut bytes) = (Vec::new(), [0; 8192]);
        let mut read = 0;
        while read < READ_SIZE {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => {
                    read += count;
                    self.last_input = Some(now);
                    let mut input = &bytes[..count];
                    loop {
                        let said = self.conversation.receive(input);
                        match said.map_err(|bad| Broken::Bad(bad.to_string()))? {
                            Some(said) => all.push(said),
                            None => break,
                        }
                        input = &[];
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break,
                    // Not connected yet.
                    ErrorKind::NotConnected => break,
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionRefused => return Err(not_listening()),
                    _ => return Err(Broken::Closed),
                },
            }
            // A reply must be passed on before the connection's end, which may follow it.
            if !all.is_empty() {
                break;
            }
        }
        Ok(all)
    }

    fn write(&mut self) -> Result<(), Broken> {
        let mut is_unsent = true;
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(count) => {
                    is_unsent = false;
                    self.out.drain(..count);
                }
                Err(error) => match error.kind() {
                    // The second while it is not connected yet.
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return Ok(()),
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionRefused => return Err(not_listening()),
                    _ if is_unsent => return Err(Broken::Unsent),
                    _ => return Err(Broken::Closed),
                },
            }
        }
        Ok(())
    }

    /// The reply of a game that does not send the last packet.
    fn end_quiet_reply(&mut self, now: Instant) -> Option<ConsoleResult> {
        let at = self.last_input?;
        if !self.conversation.has_begun() || now.saturating_duration_since(at) < QUIET_TIME {
            return None;
        }
        match self.conversation.end_reply() {
            Some(Said::Reply { bytes, cut }) => Some(output::of(&bytes, cut, &self.password)),
            _ => None,
        }
    }

    fn late(&self, is_running: bool) -> Broken {
        let message = match is_running {
            true => "the game did not reply within 5 s: the command may have been carried out",
            // Nobody waits for an unused connection.
            false if self.conversation.is_ready() => return Broken::Closed,
            false => {
                "the game did not answer within 3 s, it may be loading a map: the command was not sent"
            }
        };
        Broken::Failed(Failure::TimedOut, message.to_owned())
    }
}

fn not_listening() -> Broken {
    Broken::Failed(
        Failure::NotListening,
        "no program listens at the game's port: it has not started yet, or has ended".to_owned(),
    )
}

#[cfg(test)]
mod tests;
