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
use super::{ANSWER_LIMIT, Answer, Cancel, Control, STARTED_LIMIT};
use crate::base::{Error, Result};

/// How long the first answer may take. Under systemd it is sent before any work; a busy host needs
/// seconds to start the unit.
const FIRST_ANSWER: Duration = Duration::from_secs(120);

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
        let mut line = serde_json::to_vec(request).map_err(|error| {
            Error::failed(format!(
                "a request for {} cannot be written: {error}",
                path.display()
            ))
        })?;

        line.push(b'\n');

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
        let (socket, lines) = (Arc::new(socket), LineReader::new(ANSWER_LIMIT));
        let (deadline, server, opened) = (None, None, Instant::now());
        Self {
            socket,
            lines,
            path,
            over: false,
            deadline,
            server,
            started: 0,
            opened,
        }
    }

    /// The process that serves this connection, from the kernel: the sender of the first answer,
    /// which comes before it could start another process. None before the first answer, and when it
    /// is in a pid namespace that is not visible from here.
    #[must_use]
    pub fn server_pid(&self) -> Option<u32> {
        self.server.and_then(|Sender(pid)| pid)
    }

    /// After `deadline`, `next_answer` returns an error instead of waiting.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// A handle for another thread, to cancel the command.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller {
            socket: Arc::clone(&self.socket),
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
                    return Err(self.broken(&"it closed the connection before the command's end"));
                }
                Err(errno) => return Err(self.broken(&errno.desc())),
            }
        };

        let parsed = match self.lines.text(line) {
            Ok(text) => {
                serde_json::from_str::<Answer<'_>>(text).map_err(|error| self.broken(&error))
            }
            Err(bad) => Err(self.broken(&bad)),
        };

        let answer = parsed?;

        self.started += usize::from(answer.started.is_some());
        if !answer.is_valid() || self.started > STARTED_LIMIT {
            return Err(broken(&self.path, &"it sent an invalid answer"));
        }
        self.over = answer.exit.is_some();
        Ok(Some(answer))
    }

    /// Whether the next answer has been read already, so that `next_answer` does not wait.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        self.lines.has_line()
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
        let mut line = serde_json::to_vec(&Control { cancel })?;
        line.push(b'\n');
        (&*self.socket).write_all(&line)
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

fn refused(path: &Path, error: &io::Error) -> Error {
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
mod tests {
    use super::*;
    use crate::wire::{RunnerRequest, Stream, Tree};
    use std::borrow::Cow;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;

    fn served(
        answers: &'static str,
    ) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runner.sock");
        let listener = UnixListener::bind(&path).unwrap();

        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(socket.try_clone().unwrap())
                .read_line(&mut request)
                .unwrap();
            socket.write_all(answers.as_bytes()).unwrap();
            request
        });

        (dir, path, server)
    }

    #[test]
    fn answers_are_borrowed_and_end_with_exit() {
        let (_dir, path, server) = served(
            "{\"stdout\":\"hello\"}\n{\"stderr\":\"a\\tb\"}\n{\"exit\":0,\"tree\":\"empty\"}\n",
        );
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();

        let first = connection.next_answer().unwrap().unwrap();
        assert!(
            matches!(first.stdout, Some(Cow::Borrowed("hello"))),
            "{first:?}"
        );

        let second = connection.next_answer().unwrap().unwrap();
        assert_eq!(second, Answer::line(Stream::Stderr, "a\tb".into()));
        assert_eq!(
            connection.next_answer().unwrap().unwrap().tree,
            Some(Tree::Empty)
        );

        assert_eq!(connection.next_answer().unwrap(), None);

        assert_eq!(server.join().unwrap(), "{\"verb\":\"install\"}\n");
    }

    #[test]
    fn a_server_that_goes_away_before_the_end_is_an_error() {
        for answers in [
            "",
            "{\"stdout\":\"x\"}\n",
            "{\"stdout\":\"half",
            "not json\n",
        ] {
            let (_dir, path, _server) = served(answers);
            let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();

            let error = loop {
                match connection.next_answer() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("no end was sent"),
                    Err(error) => break error,
                }
            };

            assert!(error.to_string().contains("runner.sock"), "{error}");
        }
    }

    #[test]
    fn the_deadline_ends_the_wait_even_while_answers_come() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::over(ours, PathBuf::from("helper.sock"));
        connection.set_deadline(Instant::now() + Duration::from_millis(50));
        let line = b"{\"stdout\":\"x\"}\n";
        let talk = std::thread::spawn(move || while (&theirs).write_all(line).is_ok() {});

        let error = loop {
            if let Err(error) = connection.next_answer() {
                break error;
            }
        };

        assert!(error.to_string().contains("in time"), "{error}");

        drop(connection);
        talk.join().unwrap();
    }

    #[test]
    fn the_server_pid_comes_from_the_kernel() {
        let (_dir, path, _server) =
            served("{\"started\":{\"unit\":\"x\",\"pid\":1}}\n{\"exit\":0}\n");
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();

        assert_eq!(connection.server_pid(), None);
        assert!(connection.next_answer().unwrap().unwrap().started.is_some());
        assert_eq!(
            connection.server_pid(),
            Some(std::process::id()),
            "a thread of this process"
        );

        assert_eq!(connection.next_answer().unwrap().unwrap().exit, Some(0));
    }

    #[test]
    fn an_invalid_answer_breaks_the_connection() {
        let flood = "{\"started\":{\"unit\":\"x\",\"pid\":1}}\n"
            .repeat(STARTED_LIMIT + 1)
            .leak();
        for answers in [
            "{}\n",
            "[]\n",
            "{\"exit\":256}\n",
            "{\"exit\":-1}\n",
            "{\"exit\":99999999999}\n",
            "{\"exit\":0,\"stdout\":\"x\"}\n",
            "{\"stdout\":\"x\",\"stderr\":\"x\"}\n",
            "{\"tree\":\"empty\"}\n",
            "{\"stdout\":\"x\",\"tree\":\"left\"}\n",
            "{\"started\":{\"unit\":\"x\",\"pid\":-1}}\n",
            flood,
        ] {
            let (_dir, path, _server) = served(answers);
            let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
            let end = (0..=STARTED_LIMIT).find_map(|_| connection.next_answer().err());
            let is_named = |error: Error| error.to_string().contains("runner.sock");
            assert!(end.is_some_and(is_named), "{answers:.60}");
        }

        let (_dir, path, _server) = served("{\"exit\":0}\n{\"exit\":1}\nnonsense");
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
        assert_eq!(connection.next_answer().unwrap().unwrap().exit, Some(0));
        assert_eq!(
            connection.next_answer().unwrap(),
            None,
            "what follows the end is not read"
        );
    }

    #[test]
    fn a_missing_socket_names_its_unit_and_exits_69() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper.sock");

        let error = Connection::open(&path, &RunnerRequest::Install {})
            .err()
            .expect("no socket");
        assert_eq!(error.exit.code(), 69);
        assert!(
            error
                .to_string()
                .contains("systemctl status left4me-helper.socket"),
            "{error}"
        );

        drop(UnixListener::bind(&path).unwrap());
        let error = Connection::open(&path, &RunnerRequest::Install {})
            .err()
            .expect("no listener");
        assert_eq!(error.exit.code(), 69);
        assert!(error.to_string().contains("no service listens"), "{error}");
    }

    #[test]
    fn dropping_a_connection_closes_it_although_a_canceller_lives() {
        let (_dir, path, server) = served("{\"stdout\":\"x\"}\n");
        let connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
        let canceller = connection.canceller();
        server.join().unwrap();

        drop(connection);
        assert!(canceller.send(Cancel::Kill).is_err());
    }
}
