//! The client's side of the protocol. It blocks, for use in threads: by the worker, the web front
//! and `l4d2ctl`.

use std::fmt;
use std::io::{self, IoSliceMut, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, setsockopt,
};
use serde::Serialize;

use super::line::{Filled, LineReader, timeout};
use super::{
    ANSWER_LIMIT, Answer, Builds, Cancel, Control, EndedBy, LINE_LIMIT, Observation, STARTED_LIMIT,
    Stream, Tree,
};
use crate::base::{Error, Result};

/// How long the first answer may take. Under systemd it is sent before any work; a busy host needs
/// seconds to start the unit.
const FIRST_ANSWER: Duration = Duration::from_secs(120);

/// At most this many lines are passed on at once.
const CHUNK: usize = 256;

/// What a command sends before its end.
#[derive(Debug)]
pub enum Output {
    /// A command runs in `unit`, as the other side reports it. `server` is the process that serves
    /// the connection, as the kernel reports it.
    Started { unit: String, server: Option<u32> },
    /// Lines that arrived together.
    Lines(Vec<(Stream, String)>),
    /// What systemd reported of the unit: only for a request with `observe`.
    Observed(Observation),
    /// The builds of the game: only for `check` and `install`.
    Builds(Builds),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    pub exit: i32,
    pub ended_by: Option<EndedBy>,
    pub tree: Option<Tree>,
    /// Why the request was refused or could not be carried out.
    pub refused: Option<String>,
}

/// One request under way. Dropping it closes the connection, which ends the command.
pub struct Connection {
    socket: Arc<UnixStream>,
    lines: LineReader,
    path: PathBuf,
    over: bool,
    deadline: Option<Instant>,
    /// The sender of the first answer, once that has come.
    server: Option<Sender>,
    /// How many answers said what runs.
    started: usize,
    opened: Instant,
}

/// The process that sent the first bytes, from the kernel; none when it is not visible from here.
#[derive(Clone, Copy, Debug)]
struct Sender(Option<u32>);

/// Sends control lines of one connection, from any thread.
#[derive(Clone)]
pub struct Canceller {
    socket: Arc<UnixStream>,
}

impl Connection {
    /// Connects to the runner's or helper's socket at `path` and sends `request`.
    ///
    /// Fails if no service listens there, or this user may not connect. The message names the
    /// socket and says what to do.
    pub fn open(path: &Path, request: &impl Serialize) -> Result<Self> {
        let socket = UnixStream::connect(path).map_err(|error| refused(path, &error))?;
        let line = json_line(request).map_err(|error| {
            Error::failed(format!(
                "a request for {} cannot be written: {error}",
                path.display()
            ))
        })?;

        // Before the request: no answer comes earlier, so each one carries its sender's pid.
        setsockopt(&socket, PassCred, &true).map_err(|errno| refused(path, &errno.into()))?;
        let connection = Self::over(socket, path.to_owned());
        match (&*connection.socket).write_all(&line) {
            Ok(()) => Ok(connection),
            // The server may have answered and closed already: its answers can still be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(connection),
            Err(error) => Err(refused(&connection.path, &error)),
        }
    }

    fn over(socket: UnixStream, path: PathBuf) -> Self {
        Self {
            socket: Arc::new(socket),
            lines: LineReader::new(ANSWER_LIMIT),
            path,
            over: false,
            deadline: None,
            server: None,
            started: 0,
            opened: Instant::now(),
        }
    }

    /// The process that serves this connection, from the kernel: the sender of the first answer,
    /// which comes before it could start another process. None before the first answer, and when it
    /// is in a pid namespace that is not visible from here.
    pub(super) fn server_pid(&self) -> Option<u32> {
        self.server.and_then(|Sender(pid)| pid)
    }

    /// After `deadline`, `next_answer` returns an error instead of waiting.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    pub(super) fn socket(&self) -> Arc<UnixStream> {
        Arc::clone(&self.socket)
    }

    /// Waits until something can be read, at most `time`. False if nothing came.
    pub(super) fn has_input(&self, time: Duration) -> Result<bool> {
        if self.lines.has_line() {
            return Ok(true);
        }
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout(time)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(self.broken(&errno.desc())),
        }
    }

    /// A handle for another thread, to cancel the command.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            socket: Arc::clone(&self.socket),
        }
    }

    /// Passes on all output until the end, lines in as few pieces as they arrive in. `Ok` even when
    /// the command failed: check the returned end.
    ///
    /// Fails when the connection breaks before the end, or with the error of `each`.
    pub fn run(&mut self, mut each: impl FnMut(Output) -> Result<()>) -> Result<CommandEnd> {
        let (mut lines, mut refused) = (Vec::new(), None);
        loop {
            if lines.len() >= CHUNK || (!lines.is_empty() && !self.lines.has_line()) {
                each(Output::Lines(std::mem::take(&mut lines)))?;
            }

            let answer = match self.next_answer() {
                Ok(Some(answer)) => answer,
                broken => {
                    if !lines.is_empty() {
                        each(Output::Lines(lines))?;
                    }
                    broken?;
                    return Err(self.broken(&"its end was read before"));
                }
            };

            if let Some(text) = answer.stdout {
                lines.push((Stream::Stdout, text.into_owned()));
            } else if let Some(text) = answer.stderr {
                lines.push((Stream::Stderr, text.into_owned()));
            } else if let Some(observation) = answer.observed {
                each(Output::Observed(observation))?;
            } else if let Some(builds) = answer.builds {
                each(Output::Builds(builds))?;
            } else if let Some(error) = answer.error {
                refused = Some(error.chars().take(LINE_LIMIT).collect());
            } else if let Some(started) = answer.started {
                let (unit, server) = (started.unit, self.server_pid());
                each(Output::Started { unit, server })?;
            } else if let Some(exit) = answer.exit {
                let (ended_by, tree) = (answer.ended_by, answer.tree);
                if !lines.is_empty() {
                    each(Output::Lines(lines))?;
                }

                return Ok(CommandEnd {
                    exit,
                    ended_by,
                    tree,
                    refused,
                });
            }
        }
    }

    /// Waits for the next answer; `None` after the one with `exit`. The answer borrows this
    /// connection's buffer.
    pub fn next_answer(&mut self) -> Result<Option<Answer<'_>>> {
        if self.over {
            return Ok(None);
        }

        let line = loop {
            if let Some(line) = self.lines.take().map_err(|bad| self.broken(&bad))? {
                break line;
            }
            self.wait()?;
            if self.server.is_none() {
                self.server =
                    Some(next_sender(&self.socket).map_err(|errno| self.broken(&errno.desc()))?);
            }

            match self.lines.fill(self.socket.as_fd(), MsgFlags::empty()) {
                Ok(Filled::Some | Filled::Nothing) => {}
                Ok(Filled::Closed) => {
                    return Err(ended_early(&self.path));
                }
                Err(errno) => return Err(self.broken(&errno.desc())),
            }
        };

        let text = self.lines.text(line).map_err(|bad| self.broken(&bad))?;
        let answer: Answer<'_> =
            serde_json::from_str(text).map_err(|error| broken(&self.path, &error))?;

        // Of a batch, each server has its own.
        self.started += usize::from(answer.started.is_some() && answer.server.is_none());
        if !answer.is_valid() || self.started > STARTED_LIMIT {
            return Err(broken(&self.path, &"it sent an invalid answer"));
        }
        self.over = answer.exit.is_some() && answer.server.is_none();
        Ok(Some(answer))
    }

    /// Waits for bytes or the end when there is a deadline; without one the read itself waits.
    fn wait(&self) -> Result<()> {
        let first = self.server.is_none().then(|| self.opened + FIRST_ANSWER);
        let Some(deadline) = self.deadline.into_iter().chain(first).min() else {
            return Ok(());
        };

        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.broken(&"it did not answer in time"));
            }

            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout(left)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(self.broken(&errno.desc())),
            }
        }
    }

    fn broken(&self, why: &dyn fmt::Display) -> Error {
        broken(&self.path, why)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A Canceller may still hold the socket open, but the other side has to see the end now.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Canceller {
    /// Terminates or kills the command.
    pub fn send(&self, cancel: Cancel) -> io::Result<()> {
        let control = Control {
            cancel,
            server: None,
        };
        (&*self.socket).write_all(&json_line(&control)?)
    }

    /// Hangs up: the other side ends the command's whole tree and closes the connection, and then
    /// `next_answer` returns an error.
    pub fn hang_up(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes the connection: the other side ends the command's whole tree, and `next_answer`
    /// returns an error now.
    pub fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The sender of the bytes that can be read next. It does not consume them.
fn next_sender(socket: &UnixStream) -> Result<Sender, Errno> {
    let (mut byte, mut space) = ([0_u8; 1], nix::cmsg_space!(UnixCredentials));
    let message = loop {
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_PEEK);
        match recvmsg::<UnixAddr>(fd, &mut bytes, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            // Closed without an answer; the next read reports it.
            Err(Errno::ECONNRESET) => return Ok(Sender(None)),
            other => {
                break other?.cmsgs()?.find_map(|message| match message {
                    ControlMessageOwned::ScmCredentials(sender) => Some(sender),
                    _ => None,
                });
            }
        }
    };

    // 0: it is in a pid namespace that is not below ours.
    let pid = message.and_then(|sender| u32::try_from(sender.pid()).ok());
    Ok(Sender(pid.filter(|&pid| pid > 0)))
}

/// One line of the protocol.
pub(super) fn json_line(line: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

pub(super) fn ended_early(path: &Path) -> Error {
    broken(path, &"it closed the connection before the command's end")
}

fn broken(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::failed(format!(
        "{} failed: {why}; see `journalctl -u '{}@*'`",
        path.display(),
        service(path)
    ))
}

/// `left4me-helper` for `/run/left4me/helper.sock`.
fn service(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map_or_else(|| "socket".into(), |stem| stem.to_string_lossy());
    format!("left4me-{stem}")
}

pub(super) fn refused(path: &Path, error: &io::Error) -> Error {
    let (shown, unit) = (path.display(), service(path));
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::not_permitted(format!(
            "not permitted to use {shown}: run this as root or with `sudo -u left4me`"
        )),
        io::ErrorKind::NotFound => Error::unavailable(format!(
            "{shown} does not exist: see `systemctl status {unit}.socket`"
        )),
        io::ErrorKind::ConnectionRefused => Error::unavailable(format!(
            "no service listens on {shown}: see `systemctl status {unit}.socket`"
        )),
        _ => Error::unavailable(format!(
            "{shown} cannot be used: {error}; see `systemctl status {unit}.socket`"
        )),
    }
}

#[cfg(test)]
mod tests;
