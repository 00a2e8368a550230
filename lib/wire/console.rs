//! The line protocol of left4me-console, and its client. One connection carries many requests at
//! once; each answer has its request's id, and they come in any order.
//!
//! ```text
//! {"id":1,"server":"7","port":27015,"verb":"look"}
//! {"id":2,"server":"7","port":27015,"verb":"exec","command":"status"}
//! {"id":2,"output":{"text":"hostname: Friday\n","cut":false}}
//! {"id":1,"look":{"info":{…},"players":[…]}}
//! ```

mod call;

use std::fmt;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, poll};
use serde::{Deserialize, Serialize};

use super::client::{json_line, refused};
use super::line::timeout;
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use call::Call;

/// The longest answer line that a client accepts, in bytes: an output of [`OUTPUT_LIMIT`] in which
/// every character is escaped, and its frame.
pub const ANSWER_LIMIT: usize = 512 * 1024;

/// The longest output of a command that is passed on, in bytes; a longer one is cut.
pub const OUTPUT_LIMIT: usize = 64 * 1024;

/// The longest name of a player, in characters; a longer one is cut.
pub const PLAYER_NAME_LIMIT: usize = 128;

/// How often a wait for many answers looks up whether it is over.
const OVER_INTERVAL: Duration = Duration::from_millis(200);

/// A request to left4me-console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatRequest")]
pub struct ConsoleRequest {
    /// Chosen by the client; the answer has it. Different for each request under way.
    pub id: u32,
    pub server: InstanceName,
    /// The game's port on this host.
    pub port: u16,
    #[serde(flatten)]
    pub verb: ConsoleVerb,
}

/// What can be asked of a running game.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum ConsoleVerb {
    /// [`GameInfo`], over A2S.
    Info,
    /// The players, over A2S. Bots are among them.
    Players,
    /// The public settings, over A2S.
    Rules,
    /// Info and players in one answer.
    Look,
    /// A console command, over RCON. It is sent at most once.
    Exec { command: String },
}

/// The fields of a request as they come. serde cannot refuse unknown fields beside flattened ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatRequest {
    id: u32,
    server: InstanceName,
    port: u16,
    verb: VerbName,
    #[serde(default)]
    command: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum VerbName {
    Info,
    Players,
    Rules,
    Look,
    Exec,
}

impl TryFrom<FlatRequest> for ConsoleRequest {
    type Error = &'static str;

    fn try_from(flat: FlatRequest) -> Result<Self, Self::Error> {
        let verb = match (flat.verb, flat.command) {
            (VerbName::Info, None) => ConsoleVerb::Info,
            (VerbName::Players, None) => ConsoleVerb::Players,
            (VerbName::Rules, None) => ConsoleVerb::Rules,
            (VerbName::Look, None) => ConsoleVerb::Look,
            (VerbName::Exec, Some(command)) => ConsoleVerb::Exec { command },
            (VerbName::Exec, None) => return Err("exec needs a command"),
            (_, Some(_)) => return Err("only exec has a command"),
        };

        if flat.port == 0 {
            return Err("no game has port 0");
        }

        Ok(Self {
            id: flat.id,
            server: flat.server,
            port: flat.port,
            verb,
        })
    }
}

impl ConsoleVerb {
    /// The verb's name, for logs and messages.
    pub fn name(&self) -> &'static str {
        match self {
            ConsoleVerb::Info => "info",
            ConsoleVerb::Players => "players",
            ConsoleVerb::Rules => "rules",
            ConsoleVerb::Look => "look",
            ConsoleVerb::Exec { .. } => "exec",
        }
    }
}

/// An answer of left4me-console: `{"id":1,"info":{…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleAnswer {
    /// The request's.
    pub id: u32,
    #[serde(flatten)]
    pub result: ConsoleResult,
}

/// What became of a request. Serialised as one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleResult {
    Info(GameInfo),
    Players(Vec<Player>),
    /// Names and values, in the game's order.
    Rules(Vec<(String, String)>),
    Look {
        info: GameInfo,
        players: Vec<Player>,
    },
    /// The reply to a command.
    Output {
        /// Lines, each ended by a line break. Control characters other than tabs, and deceptive
        /// ones, are made visible. At most [`OUTPUT_LIMIT`] bytes.
        text: String,
        /// Whether there was more.
        cut: bool,
    },
    Failed {
        kind: Failure,
        /// One line for people. It does not name the server.
        message: String,
    },
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The game did not answer over UDP. It may be loading a map: not a proof that it hangs.
    NoAnswer,
    /// No program listens on the game's TCP port.
    NotListening,
    /// The game refused the RCON password.
    WrongPassword,
    /// The game has banned this host after wrong passwords.
    Banned,
    /// The server has no file with an RCON password.
    NoPassword,
    /// The answer breaks the protocol.
    BadAnswer,
    /// The game took too long over TCP. A command may have been carried out.
    TimedOut,
    /// The command or the request is not allowed.
    Refused,
    /// Too many requests are under way.
    Busy,
}

impl Failure {
    /// The word in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::NoAnswer => "no-answer",
            Failure::NotListening => "not-listening",
            Failure::WrongPassword => "wrong-password",
            Failure::Banned => "banned",
            Failure::NoPassword => "no-password",
            Failure::BadAnswer => "bad-answer",
            Failure::TimedOut => "timed-out",
            Failure::Refused => "refused",
            Failure::Busy => "busy",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the game says of itself. Texts are made visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameInfo {
    pub name: String,
    pub map: String,
    pub game: String,
    /// People, without bots.
    pub players: u8,
    pub bots: u8,
    pub max_players: u8,
    /// Whether players need a password to join.
    pub password: bool,
    pub vac: bool,
    pub version: String,
    /// Time from the question to the answer, ms.
    pub response_ms: u32,
}

/// A player, or a bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Player {
    /// Made visible, at most [`PLAYER_NAME_LIMIT`] characters. Empty while the player connects.
    pub name: String,
    pub score: i32,
    /// Seconds since the player connected.
    pub seconds: u32,
}

/// Asks one question and waits for its answer, at most `time`.
///
/// Fails with 69 when left4me-console is not there or does not answer in time, with 77 when this
/// user may not connect.
pub fn ask(socket: &Path, request: &ConsoleRequest, time: Duration) -> Result<ConsoleResult> {
    let mut result = None;
    ask_many(socket, std::slice::from_ref(request), time, |answer| {
        result = Some(answer.result);
    })?;

    result.ok_or_else(|| {
        let seconds = time.as_secs_f32();
        broken(socket, &format!("no answer within {seconds} s"))
    })
}

/// Asks many questions over one connection and passes on each answer when it comes. Returns when
/// all are answered, or after `time`: what was not answered by then is not passed on.
///
/// Fails with 69 when left4me-console is not there or goes away, with 77 when this user may not
/// connect.
pub fn ask_many(
    socket: &Path,
    requests: &[ConsoleRequest],
    time: Duration,
    each: impl FnMut(ConsoleAnswer),
) -> Result<()> {
    ask_until(socket, requests, time, &mut || false, each)
}

/// [`ask_many`], which also returns once `is_over`. That is asked every [`OVER_INTERVAL`].
fn ask_until(
    socket: &Path,
    requests: &[ConsoleRequest],
    time: Duration,
    is_over: &mut dyn FnMut() -> bool,
    mut each: impl FnMut(ConsoleAnswer),
) -> Result<()> {
    if requests.is_empty() {
        return Ok(());
    }

    let begun = Instant::now();
    let (deadline, mut look_up) = (begun + time, begun + OVER_INTERVAL);
    let stream = UnixStream::connect(socket).map_err(|error| refused(socket, &error))?;
    let mut call = Call::new(requests);

    while call.is_open() {
        // The other side may stop reading until its answers are read, so nothing here blocks.
        call.send(&stream).map_err(|why| broken(socket, &why))?;

        if Instant::now() >= look_up {
            if is_over() {
                break;
            }
            // After the question: it may have taken a while.
            look_up = Instant::now() + OVER_INTERVAL;
        }

        let now = Instant::now();

        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            break;
        }
        let left = left.min(look_up.saturating_duration_since(now));

        let mut fds = [PollFd::new(stream.as_fd(), call.events())];
        match poll(&mut fds, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(broken(socket, errno.desc())),
        }

        call.receive(&stream, &mut each)
            .map_err(|why| broken(socket, &why))?;
    }

    Ok(())
}

/// Asks several games the same, side by side: each at an instance and its port. Gives what came,
/// in their order, with none for a game whose answer did not come within `time` or before
/// `is_over`, and whether all were asked. The errors are those of [`ask_many`].
pub fn ask_all(
    socket: &Path,
    games: impl IntoIterator<Item = (InstanceName, u16)>,
    verb: &ConsoleVerb,
    time: Duration,
    is_over: &mut dyn FnMut() -> bool,
) -> (Vec<Option<ConsoleResult>>, Result<()>) {
    let requests: Vec<ConsoleRequest> = (0..)
        .zip(games)
        .map(|(id, (server, port))| ConsoleRequest {
            id,
            server,
            port,
            verb: verb.clone(),
        })
        .collect();

    let mut results = vec![None; requests.len()];
    let asked = ask_until(socket, &requests, time, is_over, |answer| {
        let place = usize::try_from(answer.id).ok();
        if let Some(result) = place.and_then(|place| results.get_mut(place)) {
            *result = Some(answer.result);
        }
    });
    (results, asked)
}

/// `{"error":…}`: the last line of a connection that is refused.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionError {
    pub error: String,
}

impl ConsoleAnswer {
    /// The answer's line, with its line break. What is longer than [`ANSWER_LIMIT`] is replaced by a
    /// failure.
    pub fn line(&self) -> Vec<u8> {
        match json_line(self) {
            Ok(line) if line.len() <= ANSWER_LIMIT => line,
            _ => Self {
                id: self.id,
                result: ConsoleResult::failed(Failure::BadAnswer, "the game's answer is too large"),
            }
            .line(),
        }
    }
}

impl ConsoleResult {
    pub fn failed(kind: Failure, message: impl Into<String>) -> Self {
        ConsoleResult::Failed {
            kind,
            message: message.into(),
        }
    }
}

impl ConnectionError {
    /// The line, with its line break.
    pub fn line(&self) -> Vec<u8> {
        json_line(self).unwrap_or_default()
    }
}

fn broken(path: &Path, why: &str) -> Error {
    Error::unavailable(format!(
        "{} failed: {why}; see `journalctl -u left4me-console`",
        path.display()
    ))
}

#[cfg(test)]
mod tests;
