//! A connection on which questions are asked.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;
use nix::sys::socket::MsgFlags;
use serde::Deserialize;

use super::{ANSWER_LIMIT, ConsoleAnswer, ConsoleRequest};
use crate::wire::client::json_line;
use crate::wire::line::{Batch, Filled, LineReader};

/// The questions of one connection, and how far they are.
pub(super) struct Call<'a> {
    /// What is not written yet.
    requests: std::slice::Iter<'a, ConsoleRequest>,
    out: Batch,
    lines: LineReader,
    /// How many answers each id still gets.
    open: HashMap<u32, usize>,
}

/// How many bytes of requests are prepared at once.
const PREPARED: usize = 64 * 1024;

impl<'a> Call<'a> {
    pub(super) fn new(requests: &'a [ConsoleRequest]) -> Self {
        let mut open = HashMap::new();
        for request in requests {
            *open.entry(request.id).or_default() += 1;
        }

        Self {
            requests: requests.iter(),
            out: Batch::default(),
            lines: LineReader::new(ANSWER_LIMIT),
            open,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn events(&self) -> PollFlags {
        match self.out.waiting() {
            0 => PollFlags::POLLIN,
            _ => PollFlags::POLLIN | PollFlags::POLLOUT,
        }
    }

    /// Writes as much as the socket takes now.
    pub(super) fn send(&mut self, stream: &UnixStream) -> Result<(), String> {
        loop {
            while self.out.waiting() < PREPARED
                && let Some(request) = self.requests.next()
            {
                let line = json_line(request).map_err(|error| error.to_string())?;
                self.out.bytes(&line);
            }

            match self.out.send(stream.as_fd()) {
                // It refused this user, and its reason can be read.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    self.out.clear();
                    return Ok(());
                }
                sent => sent.map_err(|error| error.to_string())?,
            }

            if self.out.waiting() > 0 || self.requests.len() == 0 {
                return Ok(());
            }
        }
    }

    /// Reads and passes on what has come.
    pub(super) fn receive(
        &mut self,
        stream: &UnixStream,
        each: &mut impl FnMut(ConsoleAnswer),
    ) -> Result<(), String> {
        let filled = self.lines.fill(stream.as_fd(), MsgFlags::MSG_DONTWAIT);
        let filled = filled.map_err(|errno| errno.desc().to_owned())?;

        while let Some(line) = self.lines.take().map_err(|bad| bad.to_string())? {
            let text = self.lines.text(line).map_err(|bad| bad.to_string())?;
            match serde_json::from_str(text).map_err(|error| error.to_string())? {
                Line::Answer(answer) => {
                    if self.is_expected(answer.id) {
                        each(answer);
                    }
                }
                Line::Error { error } => return Err(error),
            }
        }

        match filled {
            Filled::Closed if self.is_open() => Err("it closed the connection".to_owned()),
            _ => Ok(()),
        }
    }

    fn is_expected(&mut self, id: u32) -> bool {
        match self.open.get_mut(&id) {
            None => false,
            Some(1) => self.open.remove(&id).is_some(),
            Some(count) => {
                *count -= 1;
                true
            }
        }
    }
}

/// A line that a client gets.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Answer(ConsoleAnswer),
    /// Why the connection ends.
    Error {
        error: String,
    },
}
