//! The loop: it accepts connections, reads their lines, and answers each before the next. All
//! requests write to one database, so that nothing would be gained by answering two at once.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::MsgFlags;

use super::answer::Gate;
use crate::base::{Error, Result, notify};
use crate::wire::gate::{GateAnswer, LINE};
use crate::wire::line::{BadLine, Filled, LineReader, timeout};

/// The most connections; further ones wait in the listener.
const MOST_CLIENTS: usize = 8;

/// A client that takes no answer for this long is disconnected.
const STUCK_TIME: Duration = Duration::from_secs(10);

struct Client {
    stream: UnixStream,
    lines: LineReader,
}

/// Serves until no request has come for `idle`, or until a signal says so.
pub(super) fn serve(
    listener: &UnixListener,
    signals: &SignalFd,
    idle: Duration,
    gate: &mut Gate,
) -> Result<()> {
    let beat = notify::watchdog_interval().unwrap_or(idle);
    let (mut clients, mut active) = (Vec::<Client>::new(), Instant::now());
    loop {
        notify::watchdog();
        let left = idle.saturating_sub(active.elapsed());
        if left.is_zero() {
            return Ok(());
        }

        let has_room = clients.len() < MOST_CLIENTS;
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let streams = clients.iter().map(|client| client.stream.as_fd());
        fds.extend(streams.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        if has_room {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout(left.min(beat))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::failed(format!("poll: {}", errno.desc()))),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        if ready[0] {
            notify::stopping("stopping");
            return Ok(());
        }

        let mut is_ready = ready.iter().skip(1);
        clients.retain_mut(|client| match is_ready.next() {
            Some(true) => client.read(gate, &mut active),
            _ => true,
        });
        if has_room && ready.last() == Some(&true) {
            accept(listener, &mut clients);
        }
    }
}

fn accept(listener: &UnixListener, clients: &mut Vec<Client>) {
    let Ok((stream, _)) = listener.accept() else {
        return;
    };
    let is_usable = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_write_timeout(Some(STUCK_TIME)));
    if is_usable.is_ok() {
        let lines = LineReader::new(LINE);
        clients.push(Client { stream, lines });
    }
}

impl Client {
    /// Reads what has come, and answers the requests in it. False when the connection is over.
    fn read(&mut self, gate: &mut Gate, active: &mut Instant) -> bool {
        let filled = self.lines.fill(self.stream.as_fd(), MsgFlags::MSG_DONTWAIT);
        if matches!(filled, Ok(Filled::Closed) | Err(_)) {
            return false;
        }

        loop {
            let (answer, is_good) = match self.next() {
                Ok(None) => return true,
                Ok(Some(line)) => {
                    let answer = gate.answer(&line);
                    *active = Instant::now();
                    (answer, true)
                }
                Err(bad) => {
                    let why = format!("not a request: {bad}");
                    (GateAnswer::Failed { why }, false)
                }
            };
            if !self.write(&answer) || !is_good {
                return false;
            }
        }
    }

    fn next(&mut self) -> Result<Option<String>, BadLine> {
        let line = self.lines.take()?;
        line.map(|line| self.lines.text(line).map(str::to_owned))
            .transpose()
    }

    fn write(&mut self, answer: &GateAnswer) -> bool {
        let line = serde_json::to_string(answer);
        line.is_ok_and(|line| writeln!(self.stream, "{line}").is_ok())
    }
}
