//! Who asked for a command and hears about it: a client on a socket, or a person at our own standard output.

use std::io::{stderr, stdout};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;
use nix::sys::socket::MsgFlags;

use crate::wire::line::{Batch, Filled, LineReader};
use crate::wire::{Answer, Cancel, Control, Observation, Started, Stream, parse};

/// So many bytes may wait for a slow reader; then the command's output is not read until they are fewer.
const FULL: usize = 256 * 1024;

/// The other side of a [`super::Stage`].
#[derive(Debug)]
pub struct Peer {
    side: Side,
    out: Batch,
    gone: bool,
}

#[derive(Debug)]
enum Side {
    Wire { socket: OwnedFd, controls: LineReader },
    Person { name: &'static str, err: Batch },
}

/// One descriptor of the peer that a poll loop watches.
pub(super) struct Watched<'a> {
    pub fd: BorrowedFd<'a>,
    pub events: PollFlags,
    pub door: Door,
}

/// Which of the peer's descriptors it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Socket,
    Out,
    Err,
}

/// What the peer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Cancel(Cancel),
    /// It went away.
    Gone,
    /// It sent what is no control line; it gets no further say.
    Nonsense,
}

impl Peer {
    /// A client whose request has been read through `controls`.
    #[must_use]
    pub fn wire(socket: OwnedFd, controls: LineReader) -> Self {
        Self { side: Side::Wire { socket, controls }, out: Batch::default(), gone: false }
    }

    /// A person who called the program `name`: lines go to our standard output and error as they are.
    #[must_use]
    pub fn person(name: &'static str) -> Self {
        Self { side: Side::Person { name, err: Batch::default() }, out: Batch::default(), gone: false }
    }

    /// Whether nobody is there to hear any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether so much waits that no more output should be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting() >= FULL
    }

    /// How many bytes wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match &self.side {
            Side::Wire { .. } => self.out.waiting(),
            Side::Person { err, .. } => self.out.waiting() + err.waiting(),
        }
    }

    /// A line of output.
    pub fn line(&mut self, stream: Stream, text: &str) {
        match (&mut self.side, stream) {
            _ if self.gone => {}
            (Side::Wire { .. }, _) => self.out.answer(&Answer::line(stream, text.into())),
            (Side::Person { .. }, Stream::Stdout) => self.out.line(text),
            (Side::Person { err, .. }, Stream::Stderr) => err.line(text),
        }
    }

    /// A command has started. A person sees that without being told.
    pub fn started(&mut self, started: Started) {
        if let (Side::Wire { .. }, false) = (&self.side, self.gone) {
            self.out.answer(&Answer::started(started));
        }
    }

    /// What systemd reported of the unit, for a client that asked for it.
    pub fn observed(&mut self, observation: Observation) {
        if let (Side::Wire { .. }, false) = (&self.side, self.gone) {
            self.out.answer(&Answer::observed(observation));
        }
    }

    /// Why the request cannot be carried out.
    pub fn error(&mut self, text: &str) {
        match &mut self.side {
            _ if self.gone => {}
            Side::Wire { .. } => self.out.answer(&Answer::error(text)),
            Side::Person { name, err } => err.line(&format!("{name}: {text}")),
        }
    }

    /// The last answer. A person gets it as the exit code.
    pub fn last(&mut self, answer: &Answer<'_>) {
        if let (Side::Wire { .. }, false) = (&self.side, self.gone) {
            self.out.answer(answer);
        }
    }

    /// What to watch now.
    pub(super) fn watched<'a>(&'a self, out: BorrowedFd<'a>, err: BorrowedFd<'a>) -> Vec<Watched<'a>> {
        let wanting = |batch: &Batch| if batch.waiting() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
        match &self.side {
            _ if self.gone => Vec::new(),
            Side::Wire { socket, .. } => {
                let events = PollFlags::POLLIN | wanting(&self.out);
                vec![Watched { fd: socket.as_fd(), events, door: Door::Socket }]
            }
            Side::Person { err: waiting, .. } => vec![
                Watched { fd: out, events: wanting(&self.out), door: Door::Out },
                Watched { fd: err, events: wanting(waiting), door: Door::Err },
            ],
        }
    }

    /// Serves one descriptor that is ready.
    pub(super) fn serve(&mut self, door: Door, ready: PollFlags) -> Wish {
        let failed = ready.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL | PollFlags::POLLHUP);
        match (door, &mut self.side) {
            (Door::Socket, Side::Wire { .. }) if ready.contains(PollFlags::POLLIN) || failed => self.listen(),
            (Door::Out, Side::Person { .. }) if failed => self.leave(),
            (Door::Out, Side::Person { .. }) if ready.contains(PollFlags::POLLOUT) => {
                if self.out.write_some(stdout()).is_err() {
                    return self.leave();
                }
                Wish::Nothing
            }
            (Door::Err, Side::Person { err, .. }) => {
                // A closed standard error loses words, not the command.
                if failed || err.write_some(stderr()).is_err() {
                    err.clear();
                }
                Wish::Nothing
            }
            _ => Wish::Nothing,
        }
    }

    /// Sends what a socket takes now. A person's terminal is written only when poll said that it would not block.
    pub(super) fn flush(&mut self) -> Wish {
        let Side::Wire { socket, .. } = &self.side else { return Wish::Nothing };
        if self.gone || self.out.waiting() == 0 || self.out.send(socket.as_fd()).is_ok() {
            return Wish::Nothing;
        }
        self.leave()
    }

    /// What control lines that have been read say: the strongest of them.
    pub(super) fn controls(&mut self) -> Wish {
        let Side::Wire { controls, .. } = &mut self.side else { return Wish::Nothing };
        let mut wish = None;
        loop {
            match controls.take() {
                Ok(None) => return wish.map_or(Wish::Nothing, Wish::Cancel),
                Ok(Some(line)) => match controls.text(line).map_err(|bad| bad.to_string()).and_then(parse) {
                    Ok(Control { cancel }) => wish = wish.max(Some(cancel)),
                    Err(_) => return Wish::Nonsense,
                },
                Err(_) => return Wish::Nonsense,
            }
        }
    }

    fn listen(&mut self) -> Wish {
        let Side::Wire { socket, controls } = &mut self.side else { return Wish::Nothing };
        let filled = controls.fill(socket.as_fd(), MsgFlags::MSG_DONTWAIT).unwrap_or(Filled::Closed);
        match (filled, self.controls()) {
            // A kill that was sent just before the end still counts.
            (Filled::Closed, wish) => {
                self.leave();
                if wish == Wish::Cancel(Cancel::Kill) { wish } else { Wish::Gone }
            }
            (_, wish) => wish,
        }
    }

    fn leave(&mut self) -> Wish {
        self.gone = true;
        self.out.clear();
        Wish::Gone
    }
}
