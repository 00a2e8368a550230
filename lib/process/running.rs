//! A running command: its process tree and its output.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;

use super::cgroup::Cgroup;
use super::escalation::TreeState;
use super::lines::Lines;
use super::peer::Peer;
use super::spawn::Child;
use super::tree::ProcessTree;
use crate::wire::Stream;

/// The most that a pipe can hold after its last writer is gone, in bytes (fcntl(2), F_SETPIPE_SZ).
const PIPE_MAX: usize = 1024 * 1024;

/// What happens to a line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relay {
    /// The peer gets it unchanged.
    AsIs,
    /// The peer gets this line instead.
    Replace(Stream, String),
    /// The peer gets it on this stream.
    To(Stream),
    /// The peer does not get it.
    Drop,
}

/// One output of a running command.
#[derive(Debug)]
pub(super) struct Output {
    pub stream: Stream,
    pub fd: Option<OwnedFd>,
    pub lines: Lines,
}

pub(super) struct Running<'o> {
    pub tree: ProcessTree,
    pub outputs: Vec<Output>,
    pub signs: SignsOfLife,
    observe: &'o mut dyn FnMut(Stream, &str) -> Relay,
}

/// Bytes that end no line, and lines that differ from the line before. A hung program can repeat
/// itself.
#[derive(Debug, Default)]
pub(super) struct SignsOfLife {
    /// Whether there was one since this was reset.
    pub any: bool,
    last: String,
}

impl<'o> Running<'o> {
    pub(super) fn new(
        child: Child,
        line_limit: usize,
        cgroup: Option<Rc<Cgroup>>,
        observe: &'o mut dyn FnMut(Stream, &str) -> Relay,
    ) -> Self {
        let output = |(stream, fd)| Output {
            stream,
            fd: Some(fd),
            lines: Lines::up_to(line_limit),
        };

        let outputs = child.outputs.into_iter().map(output).collect();
        let tree = ProcessTree::new(child.pid, cgroup);
        Self {
            tree,
            outputs,
            signs: SignsOfLife::default(),
            observe,
        }
    }

    pub(super) fn state(&mut self) -> TreeState {
        let main_ended = self.tree.code.is_some();
        TreeState {
            main_ended,
            group_empty: main_ended && self.tree.group_empty(),
            tree_empty: main_ended && self.tree.empty(),
            output_open: self.outputs.iter().any(|output| output.fd.is_some()),
        }
    }

    /// Relays the progress updates that are due.
    pub(super) fn relay_due(&mut self, peer: &mut Peer, now: Instant) {
        for output in &mut self.outputs {
            let mut relay = relay(output.stream, peer, self.observe, &mut self.signs);
            output.lines.emit_due(now, &mut relay);
        }
    }

    /// Reads what one output has now, at most `limit` bytes.
    pub(super) fn read(&mut self, which: usize, limit: usize, peer: &mut Peer, buffer: &mut [u8]) {
        let Some(output) = self.outputs.get_mut(which) else {
            return;
        };
        let mut taken = 0;
        while let (Some(fd), true) = (&output.fd, taken < limit) {
            match nix::unistd::read(fd, buffer) {
                Ok(count) if count > 0 => {
                    let bytes = &buffer[..count];
                    let mut relay = relay(output.stream, peer, self.observe, &mut self.signs);
                    output.lines.feed(bytes, Instant::now(), &mut relay);
                    drop(relay);
                    self.signs.any |= !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
                    taken += count;
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // The end: no writer has the pipe (0) or the terminal (EIO) open.
                Ok(_) | Err(_) => {
                    output.fd = None;
                    let mut relay = relay(output.stream, peer, self.observe, &mut self.signs);
                    output.lines.finish(&mut relay);
                }
            }
        }
    }

    /// Reads what is left without waiting for more, and closes the outputs.
    pub(super) fn drain(&mut self, peer: &mut Peer, buffer: &mut [u8]) {
        for which in 0..self.outputs.len() {
            self.read(which, PIPE_MAX, peer, buffer);

            let output = &mut self.outputs[which];
            if output.fd.take().is_some() {
                let mut relay = relay(output.stream, peer, self.observe, &mut self.signs);
                output.lines.finish(&mut relay);
            }
        }
    }
}

/// A function that relays one line of `stream`.
fn relay<'a>(
    stream: Stream,
    peer: &'a mut Peer,
    observe: &'a mut dyn FnMut(Stream, &str) -> Relay,
    signs: &'a mut SignsOfLife,
) -> impl FnMut(&str) + 'a {
    move |text| {
        if signs.last != text {
            signs.any = true;
            text.clone_into(&mut signs.last);
        }

        match observe(stream, text) {
            Relay::AsIs => peer.line(stream, text),
            Relay::Replace(other, line) => peer.line(other, &line),
            Relay::To(other) => peer.line(other, text),
            Relay::Drop => {}
        }
    }
}
