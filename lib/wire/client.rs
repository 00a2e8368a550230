//! The client's side of the protocol: blocking, for threads. Used by the worker and by `l4d2ctl`.

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
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, setsockopt};
use serde::Serialize;

use super::line::{Filled, LineReader, timeout};
use super::{ANSWER_LIMIT, Answer, Cancel, Control, STARTED_LIMIT};
use crate::base::{Error, Result};

/// How long the first answer may take. Under systemd it comes before anything is done; a busy host needs seconds to start
/// the unit.
const FIRST_ANSWER: Duration = Duration::from_secs(120);

/// One request under way. Dropping it closes the connection, and that ends the command.
pub struct Connection {
    socket: Arc<UnixStream>,
    lines: LineReader,
    path: PathBuf,
    over: bool,
    deadline: Option<Instant>,
    /// The sender of the first answer, and how often one said what runs.
    server: Option<Speaker>,
    started: usize,
    opened: Instant,
}

/// The process that the kernel says has sent the first bytes; none when it cannot be seen from here.
#[derive(Clone, Copy, Debug)]
struct Speaker(Option<u32>);

/// Sends control lines of one connection, from any thread.
#[derive(Clone)]
pub struct Canceller {
    socket: Arc<UnixStream>,
}

impl Connection {
    /// Connects to the runner's or helper's socket at `path` and sends `request`.
    ///
    /// # Errors
    /// Exit 69 when nobody listens there, 77 when this user may not connect; the message names the socket and says
    /// what to do.
    pub fn open(path: &Path, request: &impl Serialize) -> Result<Self> {
        let socket = UnixStream::connect(path).map_err(|error| refused(path, &error))?;
        let mut line = serde_json::to_vec(request)
            .map_err(|error| Error::failed(format!("a request for {} cannot be written: {error}", path.display())))?;
        line.push(b'\n');
        // Before the request: nothing is answered earlier, and each answer then comes with its sender's pid.
        setsockopt(&socket, PassCred, &true).map_err(|errno| refused(path, &errno.into()))?;
        let connection = Self::over(socket, path.to_owned());
        match (&*connection.socket).write_all(&line) {
            Ok(()) => Ok(connection),
            // The server may have answered and closed already: its words are still to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(connection),
            Err(error) => Err(refused(&connection.path, &error)),
        }
    }

    fn over(socket: UnixStream, path: PathBuf) -> Self {
        let (socket, lines) = (Arc::new(socket), LineReader::new(ANSWER_LIMIT));
        let (deadline, server, opened) = (None, None, Instant::now());
        Self { socket, lines, path, over: false, deadline, server, started: 0, opened }
    }

    /// The process that serves this connection, as the kernel tells: the one that spoke first, before it could have
    /// started another. None before the first answer, and when it is in a pid namespace that cannot be seen from here.
    #[must_use]
    pub fn server(&self) -> Option<u32> {
        self.server.and_then(|Speaker(pid)| pid)
    }

    /// From `deadline` on nothing more is waited for: `next_answer` returns an error.
    pub fn give_up_at(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// A handle that asks the command to end, for another thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller { socket: Arc::clone(&self.socket) }
    }

    /// Waits for the next answer; `None` after the one with `exit`. The answer borrows this connection's buffer.
    ///
    /// # Errors
    /// When the other side goes away before `exit`, says what is not an answer, or says nothing in time.
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
                self.server = Some(speaker(&self.socket).map_err(|errno| self.broken(&errno.desc()))?);
            }
            match self.lines.fill(self.socket.as_fd(), MsgFlags::empty()) {
                Ok(Filled::Some | Filled::Nothing) => {}
                Ok(Filled::Closed) => return Err(self.broken(&"it closed the connection before the command's end")),
                Err(errno) => return Err(self.broken(&errno.desc())),
            }
        };
        let parsed = match self.lines.text(line) {
            Ok(text) => serde_json::from_str::<Answer<'_>>(text).map_err(|error| self.broken(&error)),
            Err(bad) => Err(self.broken(&bad)),
        };
        let answer = parsed?;
        self.started += usize::from(answer.started.is_some());
        if !answer.is_valid() || self.started > STARTED_LIMIT {
            return Err(broken(&self.path, &"what it says is no answer"));
        }
        self.over = answer.exit.is_some();
        Ok(Some(answer))
    }

    /// Whether the next answer is here already, so that `next_answer` will not wait.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        self.lines.has_line()
    }

    /// Waits for bytes, or for the end, when there is a deadline; without one the read itself waits.
    fn wait(&self) -> Result<()> {
        let first = self.server.is_none().then(|| self.opened + FIRST_ANSWER);
        let Some(deadline) = self.deadline.into_iter().chain(first).min() else { return Ok(()) };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.broken(&"it did not answer in time"));
            }
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout(left)) {
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
        // A Canceller may still hold the socket open; the other side shall see the end now.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Canceller {
    /// Asks the command to end, or kills it.
    ///
    /// # Errors
    /// When the other side is gone already.
    pub fn send(&self, cancel: Cancel) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Control { cancel })?;
        line.push(b'\n');
        (&*self.socket).write_all(&line)
    }

    /// Says that nobody waits any more: the other side ends the command's whole tree and closes the connection, and then
    /// `next_answer` returns an error.
    pub fn leave(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes the connection: the other side ends the command's whole tree, and `next_answer` returns an error.
    pub fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Who has sent what can be read next; the bytes stay to be read.
fn speaker(socket: &UnixStream) -> Result<Speaker, Errno> {
    let (mut byte, mut space) = ([0_u8; 1], nix::cmsg_space!(UnixCredentials));
    let message = loop {
        let mut bytes = [IoSliceMut::new(&mut byte)];
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut bytes, Some(&mut space), MsgFlags::MSG_PEEK) {
            Err(Errno::EINTR) => {}
            // Closed without a word; the next read says so.
            Err(Errno::ECONNRESET) => return Ok(Speaker(None)),
            other => {
                break other?.cmsgs()?.find_map(|message| match message {
                    ControlMessageOwned::ScmCredentials(sender) => Some(sender),
                    _ => None,
                });
            }
        }
    };
    // 0: it lives in a pid namespace that is not below ours.
    Ok(Speaker(message.and_then(|sender| u32::try_from(sender.pid()).ok()).filter(|&pid| pid > 0)))
}

fn broken(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::failed(format!("{} failed: {why}; see `journalctl -u '{}@*'`", path.display(), service(path)))
}

/// `left4me-helper` for `/run/left4me/helper.sock`.
fn service(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(|| "socket".into(), |stem| stem.to_string_lossy());
    format!("left4me-{stem}")
}

fn refused(path: &Path, error: &io::Error) -> Error {
    let (shown, unit) = (path.display(), service(path));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::not_permitted(format!("not permitted to use {shown}: run this as root or with `sudo -u left4me`"))
        }
        io::ErrorKind::NotFound => {
            Error::unavailable(format!("{shown} does not exist: see `systemctl status {unit}.socket`"))
        }
        io::ErrorKind::ConnectionRefused => {
            Error::unavailable(format!("nobody listens on {shown}: see `systemctl status {unit}.socket`"))
        }
        _ => Error::unavailable(format!("{shown} cannot be used: {error}; see `systemctl status {unit}.socket`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{RunnerRequest, Stream, Tree};
    use std::borrow::Cow;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;

    fn served(answers: &'static str) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runner.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(socket.try_clone().unwrap()).read_line(&mut request).unwrap();
            socket.write_all(answers.as_bytes()).unwrap();
            request
        });
        (dir, path, server)
    }

    #[test]
    fn answers_are_borrowed_and_end_with_exit() {
        let (_dir, path, server) =
            served("{\"stdout\":\"hello\"}\n{\"stderr\":\"a\\tb\"}\n{\"exit\":0,\"tree\":\"empty\"}\n");
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
        let first = connection.next_answer().unwrap().unwrap();
        assert!(matches!(first.stdout, Some(Cow::Borrowed("hello"))), "{first:?}");
        let second = connection.next_answer().unwrap().unwrap();
        assert_eq!(second, Answer::line(Stream::Stderr, "a\tb".into()));
        assert_eq!(connection.next_answer().unwrap().unwrap().tree, Some(Tree::Empty));
        assert_eq!(connection.next_answer().unwrap(), None);
        assert_eq!(server.join().unwrap(), "{\"verb\":\"install\"}\n");
    }

    #[test]
    fn a_server_that_goes_away_before_the_end_is_an_error() {
        for answers in ["", "{\"stdout\":\"x\"}\n", "{\"stdout\":\"half", "not json\n"] {
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
    fn who_does_not_answer_in_time_is_given_up_also_when_it_says_a_little_now_and_then() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::over(ours, PathBuf::from("helper.sock"));
        connection.give_up_at(Instant::now() + std::time::Duration::from_millis(50));
        let talk = std::thread::spawn(move || while (&theirs).write_all(b"{\"stdout\":\"x\"}\n").is_ok() {});
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
    fn who_serves_is_told_by_the_kernel_whatever_it_says_itself() {
        let (_dir, path, _server) = served("{\"started\":{\"unit\":\"x\",\"pid\":1}}\n{\"exit\":0}\n");
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
        assert_eq!(connection.server(), None);
        assert!(connection.next_answer().unwrap().unwrap().started.is_some());
        assert_eq!(connection.server(), Some(std::process::id()), "a thread of this process");
        assert_eq!(connection.next_answer().unwrap().unwrap().exit, Some(0));
    }

    #[test]
    fn what_is_no_answer_breaks_the_connection() {
        let flood = "{\"started\":{\"unit\":\"x\",\"pid\":1}}\n".repeat(STARTED_LIMIT + 1).leak();
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
            assert!(end.is_some_and(|error| error.to_string().contains("runner.sock")), "{answers:.60}");
        }
        let (_dir, path, _server) = served("{\"exit\":0}\n{\"exit\":1}\nnonsense");
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
        assert_eq!(connection.next_answer().unwrap().unwrap().exit, Some(0));
        assert_eq!(connection.next_answer().unwrap(), None, "what follows the end is not read");
    }

    #[test]
    fn a_missing_socket_names_its_unit_and_exits_69() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper.sock");
        let error = Connection::open(&path, &RunnerRequest::Install {}).err().expect("nobody is there");
        assert_eq!(error.exit.code(), 69);
        assert!(error.to_string().contains("systemctl status left4me-helper.socket"), "{error}");
        drop(UnixListener::bind(&path).unwrap());
        let error = Connection::open(&path, &RunnerRequest::Install {}).err().expect("nobody listens");
        assert_eq!(error.exit.code(), 69);
        assert!(error.to_string().contains("nobody listens"), "{error}");
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
