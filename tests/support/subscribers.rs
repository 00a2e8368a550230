//! Many SSE clients over real HTTP in one thread: plain sockets, and a reader that checks every id
//! of every client without parsing the data.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::PATIENCE;

/// What a client received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The status of the response.
    Status(u16),
    /// A log line: its seq and data.
    Line(i64, &'a [u8]),
    /// An event without an id, by name.
    Event(&'a [u8]),
    /// The connection was closed.
    Closed,
}

/// One client, across all of its connections.
#[derive(Default)]
pub struct Subscriber {
    stream: Option<TcpStream>,
    cookie: String,
    /// The received part of an incomplete event, without the chunked encoding.
    text: Vec<u8>,
    body: Body,
    /// The seq of the last line.
    pub last: i64,
    /// Number of lines received.
    pub lines: i64,
    /// Number of lines missing between two others.
    pub lost: i64,
    /// Number of lines received twice.
    pub repeated: i64,
    /// Whether the `end` event was received.
    pub ended: bool,
    /// The status of its last response.
    pub status: u16,
    hung_up: bool,
}

/// The position in a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    Head,
    /// In a chunk's size, with the value so far.
    Size(usize),
    /// In a chunk, with the number of bytes left.
    Data(usize),
    /// In the line break after a chunk.
    Break,
    /// In the body of an error, which is ignored.
    Waste,
}

impl Subscriber {
    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Closes the connection and discards events that were not processed yet.
    pub fn hang_up(&mut self) {
        (self.stream, self.hung_up) = (None, true);
    }

    /// Processes received bytes, however they were split.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        received: &mut impl FnMut(&mut Subscriber, Received<'_>),
    ) {
        if self.body == Body::Head {
            self.text.extend_from_slice(bytes);
            let Some(end) = self.text.windows(4).position(|four| four == b"\r\n\r\n") else {
                return;
            };
            let head = std::mem::take(&mut self.text);
            let status = std::str::from_utf8(&head[9..12])
                .ok()
                .and_then(|word| word.parse().ok());
            self.status = status.expect("a status");
            self.body = if self.status == 200 {
                Body::Size(0)
            } else {
                Body::Waste
            };

            received(self, Received::Status(self.status));
            if self.status == 200 {
                self.take(&head[end + 4..], received);
            }
            return;
        }

        while let Some(&first) = bytes.first() {
            match self.body {
                Body::Data(left) => {
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    self.text.extend_from_slice(data);
                    bytes = rest;
                    self.body = if left == data.len() {
                        Body::Break
                    } else {
                        Body::Data(left - data.len())
                    };

                    continue;
                }
                Body::Break if first == b'\n' => self.body = Body::Size(0),
                Body::Size(size) if first == b'\n' => self.body = Body::Data(size),
                Body::Size(size) => {
                    let digit = char::from(first)
                        .to_digit(16)
                        .map(|digit| size * 16 + digit as usize);
                    self.body = Body::Size(digit.unwrap_or(size));
                }
                Body::Break | Body::Head => {}
                Body::Waste => return,
            }

            bytes = &bytes[1..];
        }

        self.events(received);
    }

    fn events(&mut self, received: &mut impl FnMut(&mut Subscriber, Received<'_>)) {
        let mut text = std::mem::take(&mut self.text);
        let mut rest = text.as_slice();
        while let (false, Some((event, behind))) = (self.hung_up, one(rest)) {
            rest = behind;
            match event {
                Received::Line(seq, _) => {
                    self.lost += (seq - self.last - 1).max(0);
                    self.repeated += i64::from(seq <= self.last);
                    self.lines += 1;
                    self.last = seq;
                }
                Received::Event(name) => self.ended |= name == b"end",
                Received::Status(_) | Received::Closed => {}
            }

            received(self, event);
        }

        let parsed = text.len() - rest.len();
        text.drain(..parsed);
        self.text = text;
    }
}

/// Splits the first complete event off `text`.
fn one(text: &[u8]) -> Option<(Received<'_>, &[u8])> {
    let (first, mut rest) = line(text)?;
    if first == b":" {
        return line(rest).map(|(_, rest)| (Received::Event(b":"), rest));
    }

    let mut seq = None;
    let mut name = first;
    if let Some(digits) = first.strip_prefix(b"id: ") {
        seq = Some(
            digits
                .iter()
                .fold(0, |number, digit| number * 10 + i64::from(digit - b'0')),
        );

        (name, rest) = line(rest)?;
    }

    let (data, rest) = line(rest)?;
    let (empty, rest) = line(rest)?;
    assert!(empty.is_empty(), "{:?}", String::from_utf8_lossy(text));

    let (name, data) = (
        name.strip_prefix(b"event: ")?,
        data.strip_prefix(b"data: ")?,
    );

    Some((
        seq.map_or(Received::Event(name), |seq| Received::Line(seq, data)),
        rest,
    ))
}

fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|&byte| byte == b'\n')?;
    Some((&text[..end], &text[end + 1..]))
}

/// The clients of one stream.
pub struct Subscribers {
    addr: SocketAddr,
    path: String,
    epoll: Epoll,
    scratch: Vec<u8>,
    pub all: Vec<Subscriber>,
}

impl Subscribers {
    /// How many got this status.
    pub fn with_status(&self, status: u16) -> usize {
        let with = |subscriber: &&Subscriber| subscriber.status == status;
        self.all.iter().filter(with).count()
    }

    /// No clients yet, for `path` at `addr`.
    pub fn new(addr: SocketAddr, path: impl Into<String>) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
        Self {
            addr,
            path: path.into(),
            epoll,
            scratch: vec![0; 256 * 1024],
            all: Vec::new(),
        }
    }

    /// Adds a client that is signed in by `cookie`.
    pub fn join(&mut self, cookie: &str) {
        self.all.push(Subscriber {
            cookie: cookie.to_owned(),
            ..Subscriber::default()
        });
        self.open(self.all.len() - 1);
    }

    /// Connects a client. A reconnect sends the id of the last line, as a browser does.
    pub fn open(&mut self, which: usize) {
        let subscriber = &mut self.all[which];
        let mut stream = TcpStream::connect(self.addr).expect("a connection");
        let (path, addr, cookie) = (&self.path, self.addr, &subscriber.cookie);
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nCookie: {cookie}\r\n");

        if subscriber.last > 0 {
            head.push_str(&format!("Last-Event-ID: {}\r\n", subscriber.last));
        }

        head.push_str("\r\n");
        // A server without a free connection answers and closes before it has read this.
        stream.write_all(head.as_bytes()).ok();
        stream.set_nonblocking(true).expect("a flag");

        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, which as u64);
        self.epoll.add(&stream, event).expect("watched");
        (subscriber.body, subscriber.status, subscriber.hung_up) = (Body::Head, 0, false);
        subscriber.text.clear();
        subscriber.stream = Some(stream);
    }

    /// Waits for at most `time` and processes what was received. Returns whether there was
    /// anything.
    pub fn turn(
        &mut self,
        time: Duration,
        mut received: impl FnMut(usize, &mut Subscriber, Received<'_>),
    ) -> bool {
        let mut events = [EpollEvent::empty(); 256];
        let time = EpollTimeout::try_from(time).expect("a short time");
        let count = match self.epoll.wait(&mut events, time) {
            Err(nix::errno::Errno::EINTR) => 0,
            count => count.expect("epoll"),
        };

        for event in &events[..count] {
            let which = usize::try_from(event.data()).expect("ours");
            let subscriber = &mut self.all[which];
            let Some(stream) = &mut subscriber.stream else {
                continue;
            };

            match stream.read(&mut self.scratch) {
                Ok(0) => {
                    subscriber.stream = None;
                    received(which, subscriber, Received::Closed);
                }
                Ok(read) => subscriber.take(
                    &self.scratch[..read],
                    &mut |subscriber: &mut Subscriber, what: Received<'_>| {
                        received(which, subscriber, what)
                    },
                ),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    subscriber.stream = None;
                    received(which, subscriber, Received::Closed);
                }
            }
        }

        count > 0
    }

    /// Reads until `done`; panics with `what` if nothing arrives for [`PATIENCE`].
    pub fn until(
        &mut self,
        what: &str,
        mut received: impl FnMut(usize, &mut Subscriber, Received<'_>),
        mut done: impl FnMut(&[Subscriber]) -> bool,
    ) {
        while !done(&self.all) {
            assert!(self.turn(PATIENCE, &mut received), "waited in vain: {what}");
        }
    }
}

/// Raises the limit of open files to its maximum, also for child processes; returns it.
pub fn many_files() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("up to what is allowed");
    most
}
