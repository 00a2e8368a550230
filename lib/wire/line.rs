//! Lines over a socket: a bounded reader and a batching writer. Neither holds more than its limit
//! in memory, whatever the other side sends.

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use super::Answer;

/// How long a client may take to send its request.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How much is read from a socket at once, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// Why a line could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// No line break within the limit, in bytes.
    TooLong(usize),
    /// No line break within the time.
    TooSlow(Duration),
    /// A byte that no JSON line has: NUL or another control byte, or bytes that are not UTF-8.
    Binary,
    /// The other side closed the connection before the line was complete.
    Closed,
    Broken(Errno),
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLine::TooLong(limit) => write!(f, "the line is longer than {limit} bytes"),
            BadLine::TooSlow(time) => {
                write!(f, "no complete line arrived within {} s", time.as_secs())
            }
            BadLine::Binary => {
                f.write_str("the line is not text: UTF-8 without control characters is needed")
            }
            BadLine::Closed => {
                f.write_str("the connection was closed before a complete line arrived")
            }
            BadLine::Broken(errno) => write!(f, "the connection failed: {}", errno.desc()),
        }
    }
}

impl std::error::Error for BadLine {}

/// The result of one read from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Bytes came.
    Some,
    /// Nothing can be read now.
    Nothing,
    /// The other side closed the connection.
    Closed,
}

/// Splits the bytes of a socket into lines of at most `limit` bytes.
#[derive(Debug)]
pub struct LineReader {
    bytes: Vec<u8>,
    start: usize,
    scanned: usize,
    end: usize,
    limit: usize,
}

impl LineReader {
    /// A reader of lines of at most `limit` bytes, without their line break.
    pub fn new(limit: usize) -> Self {
        let bytes = vec![0; limit + 1 + READ_SIZE.min(limit * 2)];
        Self {
            bytes,
            start: 0,
            scanned: 0,
            end: 0,
            limit,
        }
    }

    /// Reads once; without waiting when `flags` has `MSG_DONTWAIT`. Repeats an interrupted call.
    pub fn fill(&mut self, socket: BorrowedFd<'_>, flags: MsgFlags) -> Result<Filled, Errno> {
        if self.start > 0 && (self.start == self.end || self.end == self.bytes.len()) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }

        if self.end == self.bytes.len() {
            // Full of one unfinished line; `take` reports it as too long.
            return Ok(Filled::Some);
        }

        loop {
            match recv(socket.as_raw_fd(), &mut self.bytes[self.end..], flags) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(Filled::Closed),
                Ok(count) => {
                    self.end += count;
                    return Ok(Filled::Some);
                }
                Err(Errno::EAGAIN) => return Ok(Filled::Nothing),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The next complete line, as a range for [`LineReader::text`]; `None` when there is none yet.
    pub fn take(&mut self) -> Result<Option<Range<usize>>, BadLine> {
        match self.bytes[self.scanned..self.end]
            .iter()
            .position(|&byte| byte == b'\n')
        {
            Some(at) => {
                let line = self.start..self.scanned + at;
                self.start = line.end + 1;
                self.scanned = self.start;
                if line.len() > self.limit {
                    return Err(BadLine::TooLong(self.limit));
                }
                Ok(Some(line))
            }
            None => {
                self.scanned = self.end;
                if self.end - self.start > self.limit {
                    return Err(BadLine::TooLong(self.limit));
                }
                Ok(None)
            }
        }
    }

    /// Whether the buffer has a complete line, so that `take` finds it without a read.
    pub fn has_line(&self) -> bool {
        self.bytes[self.scanned..self.end].contains(&b'\n')
    }

    /// The text of the line that `take` found last. Valid until the next `fill`.
    pub fn text(&self, line: Range<usize>) -> Result<&str, BadLine> {
        let bytes = self.bytes.get(line).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.iter().any(|&byte| byte < b' ' && byte != b'\t') => Ok(text),
            _ => Err(BadLine::Binary),
        }
    }

    /// Waits for one complete line, at most `time`.
    pub fn read_line(&mut self, socket: BorrowedFd<'_>, time: Duration) -> Result<&str, BadLine> {
        let deadline = Instant::now() + time;
        let line = loop {
            if let Some(line) = self.take()? {
                break line;
            }
            // A NUL is an error at once, not after the time: no client of this protocol sends one.
            if self.bytes[self.start..self.end].contains(&0) {
                return Err(BadLine::Binary);
            }

            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(BadLine::TooSlow(time));
            }
            let mut wait = [PollFd::new(socket, PollFlags::POLLIN)];
            match poll(&mut wait, timeout(left)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => match self
                    .fill(socket, MsgFlags::MSG_DONTWAIT)
                    .map_err(BadLine::Broken)?
                {
                    Filled::Closed => return Err(BadLine::Closed),
                    Filled::Some | Filled::Nothing => {}
                },
                Err(errno) => return Err(BadLine::Broken(errno)),
            }
        };

        self.text(line)
    }
}

/// `left` for poll: in milliseconds, rounded up so that a wait does not spin at its end.
pub fn timeout(left: Duration) -> PollTimeout {
    let ms = left.as_micros().div_ceil(1000).min(i32::MAX as u128);
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

/// Bytes that wait to be sent.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    sent: usize,
}

impl Batch {
    pub fn answer(&mut self, answer: &Answer<'_>) {
        let before = self.bytes.len();
        match serde_json::to_writer(&mut self.bytes, answer) {
            Ok(()) => self.bytes.push(b'\n'),
            // Strings and numbers always serialise; but no half line may be left behind.
            Err(_) => self.bytes.truncate(before),
        }
    }

    pub fn line(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b'\n');
    }

    /// Adds a complete line, with its line break.
    pub fn bytes(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Sends as much as the socket takes without waiting.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        self.write_with(usize::MAX, |bytes| send(socket.as_raw_fd(), bytes, flags))
    }

    /// Writes at most 4096 bytes, what a pipe takes atomically. After poll said that `file` is
    /// writable, this does not wait, although the file is not set non-blocking: it may be shared
    /// with a person's shell.
    pub fn write_some(&mut self, file: impl AsFd) -> io::Result<()> {
        self.write_with(4096, |bytes| nix::unistd::write(&file, bytes))
    }

    fn write_with(
        &mut self,
        limit: usize,
        mut write: impl FnMut(&[u8]) -> Result<usize, Errno>,
    ) -> io::Result<()> {
        let stop = self.sent.saturating_add(limit).min(self.bytes.len());
        while self.sent < stop {
            match write(&self.bytes[self.sent..stop]) {
                Ok(count) => self.sent += count,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }

        if self.sent == self.bytes.len() {
            self.clear();
        } else if self.sent > READ_SIZE {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }

        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    fn read(sent: &[u8], close: bool, time: Duration) -> Result<String, BadLine> {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(sent).unwrap();

        let kept = Some(client).filter(|_| !close);
        let mut reader = LineReader::new(64);
        let line = reader.read_line(server.as_fd(), time).map(str::to_owned);
        drop(kept);
        line
    }

    #[test]
    fn each_kind_of_bad_line_has_its_own_error() {
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(10));

        assert_eq!(read(b"{\"a\":1}\n", false, long).unwrap(), "{\"a\":1}");
        assert_eq!(read(b"crlf\r\n", false, long).unwrap(), "crlf");
        assert_eq!(read(b"half", false, short), Err(BadLine::TooSlow(short)));
        assert_eq!(read(b"half", true, long), Err(BadLine::Closed));
        assert_eq!(read(b"", true, long), Err(BadLine::Closed));
        assert_eq!(read(&[b'x'; 65], false, long), Err(BadLine::TooLong(64)));
        assert_eq!(
            read(&[&[b'x'; 65][..], b"\n"].concat(), false, long),
            Err(BadLine::TooLong(64))
        );

        assert_eq!(read(b"a\0b", false, long), Err(BadLine::Binary));
        assert_eq!(read(b"a\xffb\n", false, long), Err(BadLine::Binary));
        assert_eq!(read(b"a\x1b[0m\n", false, long), Err(BadLine::Binary));
        assert_eq!(
            read(&[&[b'x'; 64][..], b"\n"].concat(), false, long)
                .unwrap()
                .len(),
            64
        );
    }

    #[test]
    fn lines_are_complete_and_in_order_however_they_are_split() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            let all: String = (0..5000).map(|i| format!("line {i}\n")).collect();
            for piece in all.as_bytes().chunks(37) {
                client.write_all(piece).unwrap();
            }
        });

        let mut reader = LineReader::new(64);
        for i in 0..5000 {
            assert_eq!(
                reader
                    .read_line(server.as_fd(), Duration::from_secs(10))
                    .unwrap(),
                format!("line {i}")
            );
        }

        sender.join().unwrap();
        assert_eq!(
            reader.read_line(server.as_fd(), Duration::from_secs(10)),
            Err(BadLine::Closed)
        );
    }

    #[test]
    fn a_batch_keeps_what_the_socket_does_not_take() {
        let (client, server) = UnixStream::pair().unwrap();
        let mut batch = Batch::default();
        for i in 0..20_000 {
            batch.line(&format!("line number {i}"));
        }

        batch.send(server.as_fd()).unwrap();
        assert!(
            batch.waiting() > 0,
            "a socket's buffer is smaller than that"
        );

        let mut reader = LineReader::new(64);
        for i in 0..20_000 {
            batch.send(server.as_fd()).unwrap();
            let line = reader
                .read_line(client.as_fd(), Duration::from_secs(10))
                .unwrap();
            assert_eq!(line, format!("line number {i}"));
        }

        assert_eq!(batch.waiting(), 0);
    }
}
