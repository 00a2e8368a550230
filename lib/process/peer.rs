//! The requester of a command, which gets its output: a client on a socket, or a person at this
//! process's standard output.

use std::io::{stderr, stdout};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;
use nix::sys::socket::MsgFlags;

use crate::base::names::InstanceName;
use crate::wire::batch::BatchLine;
use crate::wire::line::{Batch, Filled, LineReader};
use crate::wire::{Answer, Builds, Cancel, Control, Observation, Started, Stream, parse};

/// How many bytes may wait for a slow reader before the command's output is not read any more.
const FULL: usize = 256 * 1024;

/// The other side of a [`super::Supervisor`].
#[derive(Debug)]
pub struct Peer {
    side: Side,
    out: Batch,
    gone: bool,
    /// Lines of a batch that are not handled yet; none when the request is no batch.
    batch: Option<Vec<BatchLine>>,
    /// Whether a batch's client knows the unit that serves it.
    named: bool,
}

#[derive(Debug)]
enum Side {
    Wire {
        socket: OwnedFd,
        controls: LineReader,
    },
    Person {
        name: &'static str,
        err: Batch,
    },
}

/// A descriptor of the peer for the poll loop.
pub(super) struct Polled<'a> {
    pub fd: BorrowedFd<'a>,
    pub events: PollFlags,
    pub which: PeerFd,
}

/// One of the peer's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerFd {
    Socket,
    Out,
    Err,
}

/// What happened on the peer's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerEvent {
    None,
    Cancel(Cancel),
    /// It went away.
    Gone,
    /// It sent a line that is no control line.
    Malformed,
}

impl Peer {
    /// A client whose request was read with `controls`.
    pub fn wire(socket: OwnedFd, controls: LineReader) -> Self {
        Self {
            side: Side::Wire { socket, controls },
            out: Batch::default(),
            gone: false,
            batch: None,
            named: false,
        }
    }

    /// Expects the lines of a batch from now on.
    pub fn expect_batch(&mut self) {
        self.batch = Some(Vec::new());
    }

    pub(super) fn has_batch_lines(&self) -> bool {
        self.batch.as_ref().is_some_and(|lines| !lines.is_empty())
    }

    /// The lines of the batch that arrived since the last call.
    pub(super) fn take_batch_lines(&mut self) -> Vec<BatchLine> {
        self.batch.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Adds an answer that concerns one server of the batch.
    pub fn of_server(&mut self, server: &InstanceName, answer: Answer<'_>) {
        if !self.gone {
            let server = Some(server.clone());
            self.out.answer(&Answer { server, ..answer });
        }
    }

    /// A person who ran the program `name`: lines go unchanged to standard output and error.
    pub fn person(name: &'static str) -> Self {
        Self {
            side: Side::Person {
                name,
                err: Batch::default(),
            },
            out: Batch::default(),
            gone: false,
            batch: None,
            named: false,
        }
    }

    /// Whether the peer has gone away.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether so much waits that no more output should be read.
    pub fn is_full(&self) -> bool {
        self.waiting() >= FULL
    }

    /// How many bytes wait to be sent.
    pub fn waiting(&self) -> usize {
        match &self.side {
            Side::Wire { .. } => self.out.waiting(),
            Side::Person { err, .. } => self.out.waiting() + err.waiting(),
        }
    }

    /// Adds a line of output.
    pub fn line(&mut self, stream: Stream, text: &str) {
        match (&mut self.side, stream) {
            _ if self.gone => {}
            (Side::Wire { .. }, _) => self.out.answer(&Answer::line(stream, text.into())),
            (Side::Person { .. }, Stream::Stdout) => self.out.line(text),
            (Side::Person { err, .. }, Stream::Stderr) => err.line(text),
        }
    }

    /// Reports that a command has started, to a client only. In a batch the client does not need to
    /// know about each command.
    pub fn started(&mut self, started: Started) {
        if self.batch.is_some() && std::mem::replace(&mut self.named, true) {
            return;
        }

        if let (Side::Wire { .. }, false) = (&self.side, self.gone) {
            self.out.answer(&Answer::started(started));
        }
    }

    /// Reports what systemd says of the unit, to a client only.
    pub fn observed(&mut self, observation: Observation) {
        if let (Side::Wire { .. }, false) = (&self.side, self.gone) {
            self.out.answer(&Answer::observed(observation));
        }
    }

    /// Reports the builds of the game, to a client only.
    pub fn builds(&mut self, builds: Builds) {
        if let (Side::Wire { .. }, false) = (&self.side, self.gone) {
            self.out.answer(&Answer {
                builds: Some(builds),
                ..Answer::default()
            });
        }
    }

    /// Reports why the request cannot be carried out.
    pub fn error(&mut self, text: &str) {
        match &mut self.side {
            _ if self.gone => {}
            Side::Wire { .. } => self.out.answer(&Answer::error(text)),
            Side::Person { name, err } => err.line(&format!("{name}: {text}")),
        }
    }

    /// Adds the last answer. A person gets it as the exit code.
    pub fn last(&mut self, answer: &Answer<'_>) {
        if let (Side::Wire { .. }, false) = (&self.side, self.gone) {
            self.out.answer(answer);
        }
    }

    pub(super) fn polled<'a>(
        &'a self,
        out: BorrowedFd<'a>,
        err: BorrowedFd<'a>,
    ) -> Vec<Polled<'a>> {
        let pollout = |batch: &Batch| {
            if batch.waiting() > 0 {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            }
        };

        match &self.side {
            _ if self.gone => Vec::new(),
            Side::Wire { socket, .. } => {
                let events = PollFlags::POLLIN | pollout(&self.out);
                vec![Polled {
                    fd: socket.as_fd(),
                    events,
                    which: PeerFd::Socket,
                }]
            }
            Side::Person { err: waiting, .. } => vec![
                Polled {
                    fd: out,
                    events: pollout(&self.out),
                    which: PeerFd::Out,
                },
                Polled {
                    fd: err,
                    events: pollout(waiting),
                    which: PeerFd::Err,
                },
            ],
        }
    }

    /// Reads or writes one descriptor that is ready.
    pub(super) fn serve(&mut self, which: PeerFd, ready: PollFlags) -> PeerEvent {
        let failed =
            ready.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL | PollFlags::POLLHUP);
        match (which, &mut self.side) {
            (PeerFd::Socket, Side::Wire { .. }) if ready.contains(PollFlags::POLLIN) || failed => {
                self.read_controls()
            }
            (PeerFd::Out, Side::Person { .. }) if failed => self.close(),
            (PeerFd::Out, Side::Person { .. }) if ready.contains(PollFlags::POLLOUT) => {
                if self.out.write_some(stdout()).is_err() {
                    return self.close();
                }
                PeerEvent::None
            }
            (PeerFd::Err, Side::Person { err, .. }) => {
                // When standard error is closed, its lines are lost, but the command goes on.
                if failed || err.write_some(stderr()).is_err() {
                    err.clear();
                }
                PeerEvent::None
            }
            _ => PeerEvent::None,
        }
    }

    /// Sends what a socket takes now. A terminal is written only when poll says that it does not
    /// block.
    pub(super) fn flush(&mut self) -> PeerEvent {
        let Side::Wire { socket, .. } = &self.side else {
            return PeerEvent::None;
        };
        if self.gone || self.out.waiting() == 0 || self.out.send(socket.as_fd()).is_ok() {
            return PeerEvent::None;
        }
        self.close()
    }

    /// The strongest of the control lines that have been read.
    pub(super) fn controls(&mut self) -> PeerEvent {
        let Side::Wire { controls, .. } = &mut self.side else {
            return PeerEvent::None;
        };
        let mut strongest = None;
        loop {
            match controls.take() {
                Ok(None) => return strongest.map_or(PeerEvent::None, PeerEvent::Cancel),
                Ok(Some(line)) => {
                    let text = controls.text(line).map_err(|bad| bad.to_string());
                    let cancel = match &mut self.batch {
                        None => text.and_then(parse).and_then(of_command),
                        Some(lines) => text.and_then(parse).map(|line| of_batch(line, lines)),
                    };
                    match cancel {
                        Ok(cancel) => strongest = strongest.max(cancel),
                        Err(_) => return PeerEvent::Malformed,
                    }
                }
                Err(_) => return PeerEvent::Malformed,
            }
        }
    }

    fn read_controls(&mut self) -> PeerEvent {
        let Side::Wire { socket, controls } = &mut self.side else {
            return PeerEvent::None;
        };
        let filled = controls.fill(socket.as_fd(), MsgFlags::MSG_DONTWAIT);
        let filled = filled.unwrap_or(Filled::Closed);

        match (filled, self.controls()) {
            // A kill that was sent just before the hangup still counts.
            (Filled::Closed, event) => {
                self.close();
                if event == PeerEvent::Cancel(Cancel::Kill) {
                    event
                } else {
                    PeerEvent::Gone
                }
            }
            (_, event) => event,
        }
    }

    fn close(&mut self) -> PeerEvent {
        self.gone = true;
        self.out.clear();
        PeerEvent::Gone
    }
}

/// The cancellation in a control line. Only a batch has servers to choose from.
fn of_command(control: Control) -> Result<Option<Cancel>, String> {
    match control.server {
        None => Ok(Some(control.cancel)),
        Some(_) => Err("the request is no batch".to_owned()),
    }
}

/// The cancellation of the whole batch, if that is what the line says; else keeps the line.
fn of_batch(line: BatchLine, lines: &mut Vec<BatchLine>) -> Option<Cancel> {
    match line {
        BatchLine::Cancel(cancel, None) => Some(cancel),
        other => {
            lines.push(other);
            None
        }
    }
}
