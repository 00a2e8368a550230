//! One connection of a program that asks. Neither a silent client nor one that does not read takes
//! more than its bounded memory, and none for long.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::MsgFlags;

use crate::wire::console::{ConnectionError, ConsoleAnswer, ConsoleRequest};
use crate::wire::line::{Batch, Filled, LineReader};
use crate::wire::{REQUEST_LIMIT, parse};

/// The most requests under way; further ones stay in the socket.
const MOST_PENDING: usize = 1024;
/// With this many bytes of answers waiting, no more requests are read.
const FULL: usize = 256 * 1024;
/// A client that takes no answer for this long is disconnected.
const STUCK_TIME: Duration = Duration::from_secs(10);
/// A client without requests is disconnected after this time.
const SILENT_TIME: Duration = Duration::from_secs(60);

pub struct Client {
    stream: UnixStream,
    lines: LineReader,
    out: Batch,
    /// How many answers it still gets.
    pending: usize,
    /// When it last sent a request or took an answer.
    active: Instant,
    /// It sends nothing more.
    is_done: bool,
    is_gone: bool,
}

impl Client {
    /// A connection that was accepted, and set non-blocking.
    pub fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            lines: LineReader::new(REQUEST_LIMIT),
            out: Batch::default(),
            pending: 0,
            active: now,
            is_done: false,
            is_gone: false,
        }
    }

    /// What to wait for.
    pub fn events(&self) -> (BorrowedFd<'_>, PollFlags) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, self.has_room() && !self.is_done);
        flags.set(PollFlags::POLLOUT, self.out.waiting() > 0);
        (self.stream.as_fd(), flags)
    }

    /// Whether it waits for an answer, or has not taken one.
    pub fn is_waiting(&self) -> bool {
        self.pending > 0 || self.out.waiting() > 0
    }

    /// Whether the connection can be closed.
    pub fn is_over(&self, now: Instant) -> bool {
        self.is_gone || (self.is_done && !self.is_waiting()) || now >= self.due()
    }

    /// When it is disconnected if nothing happens.
    pub fn due(&self) -> Instant {
        self.active
            + match (self.out.waiting() > 0, self.pending > 0) {
                (true, _) => STUCK_TIME,
                // Each request ends by itself.
                (false, true) => Duration::from_secs(3600),
                (false, false) => SILENT_TIME,
            }
    }

    /// Reads what has come, and returns the requests in it. `ready` is what poll reported.
    pub fn read(&mut self, now: Instant, ready: PollFlags) -> Vec<ConsoleRequest> {
        // Both directions are closed: nobody takes an answer.
        if ready.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            self.is_gone = true;
            return Vec::new();
        }

        if ready.contains(PollFlags::POLLIN) {
            match self.lines.fill(self.stream.as_fd(), MsgFlags::MSG_DONTWAIT) {
                Ok(Filled::Some) => self.active = now,
                Ok(Filled::Nothing) => {}
                Ok(Filled::Closed) => self.is_done = true,
                Err(_) => self.is_gone = true,
            }
        }
        self.requests()
    }

    /// Adds the answer to one request.
    pub fn answer(&mut self, now: Instant, answer: &ConsoleAnswer) {
        self.pending = self.pending.saturating_sub(1);
        if self.out.waiting() == 0 {
            self.active = now;
        }
        self.out.bytes(&answer.line());
    }

    /// Sends what the socket takes now.
    pub fn write(&mut self, now: Instant) {
        let before = self.out.waiting();
        if before == 0 {
            return;
        }
        match self.out.send(self.stream.as_fd()) {
            Ok(()) if self.out.waiting() < before => self.active = now,
            Ok(()) => {}
            Err(_) => self.is_gone = true,
        }
    }

    /// Says why the connection ends, as far as the socket takes it now.
    pub fn refuse(&mut self, why: &str) {
        let error = why.to_owned();
        self.out.bytes(&ConnectionError { error }.line());
        // A peer that does not read this misses only the reason.
        drop(self.out.send(self.stream.as_fd()));
        self.is_gone = true;
    }

    fn has_room(&self) -> bool {
        self.pending < MOST_PENDING && self.out.waiting() < FULL
    }

    /// The requests that were read, as many as may be under way.
    fn requests(&mut self) -> Vec<ConsoleRequest> {
        let mut requests = Vec::new();
        while self.has_room() && !self.is_gone {
            let line = match self.lines.take() {
                Ok(None) => break,
                Ok(Some(line)) => self.lines.text(line).map_err(|bad| bad.to_string()),
                Err(bad) => Err(bad.to_string()),
            };
            match line.and_then(parse::<ConsoleRequest>) {
                Ok(request) => {
                    self.pending += 1;
                    requests.push(request);
                }
                Err(why) => {
                    tracing::warn!("a request was refused: {why}");
                    self.refuse(&format!("not a request: {why}"));
                }
            }
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::console::ConsoleResult;
    use std::io::{Read as _, Write as _};

    fn pair() -> (Client, UnixStream) {
        let (own, other) = UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        (Client::new(own, Instant::now()), other)
    }

    fn request(id: u32) -> String {
        format!("{{\"id\":{id},\"server\":\"7\",\"port\":27015,\"verb\":\"info\"}}\n")
    }

    #[test]
    fn only_so_many_requests_of_a_client_are_under_way() {
        let (mut client, mut other) = pair();
        let now = Instant::now();
        let sender = std::thread::spawn(move || {
            let all: String = (0..3000).map(request).collect();
            other.write_all(all.as_bytes()).unwrap();
            other
        });

        let mut found = Vec::new();
        while found.len() < 3000 {
            found.extend(client.read(now, PollFlags::POLLIN));
            assert!(client.pending <= MOST_PENDING);
            if client.pending == MOST_PENDING {
                assert!(!client.events().1.contains(PollFlags::POLLIN));
                client.pending = 0;
            }
        }
        assert!(found.iter().map(|request| request.id).eq(0..3000));
        drop(sender.join());
    }

    #[test]
    fn a_client_that_does_not_read_or_says_nothing_is_disconnected() {
        let (mut client, other) = pair();
        let now = Instant::now();
        assert!(!client.is_over(now) && client.is_over(now + SILENT_TIME));

        let text = "x".repeat(60_000);
        let result = ConsoleResult::Output { text, cut: false };
        for id in 0..20 {
            client.answer(
                now,
                &ConsoleAnswer {
                    id,
                    result: result.clone(),
                },
            );
            client.write(now);
        }
        assert!(!client.has_room() && !client.is_over(now));
        assert!(client.is_over(now + STUCK_TIME));
        drop(other);
        client.write(now);
        assert!(client.is_over(now));
    }

    #[test]
    fn nonsense_ends_the_connection_with_a_reason() {
        for bad in [
            "nonsense\n",
            "{\"id\":1}\n",
            "\0\n",
            &"x".repeat(REQUEST_LIMIT + 2),
        ] {
            let (mut client, mut other) = pair();
            other.write_all(bad.as_bytes()).unwrap();
            while !client.is_gone {
                assert!(client.read(Instant::now(), PollFlags::POLLIN).is_empty());
            }
            drop(client);
            let mut answer = String::new();
            other.read_to_string(&mut answer).unwrap();
            assert!(
                answer.starts_with("{\"error\":\"not a request: "),
                "{answer}"
            );
        }
    }
}
