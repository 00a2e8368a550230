//! A small HTTP client for the web tests, and left4me-web as a child process.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::host::TestHost;
use super::page::Page;
use super::{PASSWORD, PATIENCE, WEB};

/// A running left4me-web, killed on drop.
pub struct Web {
    pub child: Child,
    pub addr: SocketAddr,
}

impl Web {
    /// Starts it on a free port and waits until it listens.
    pub fn start(host: &TestHost, args: &[&str]) -> Self {
        Self::start_with(host, args, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(host: &TestHost, args: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut command = host.command(
            WEB,
            &[&["--listen", "127.0.0.1:0", "--idle-seconds", "0"], args].concat(),
        );

        // The settings of its unit; the memory tests depend on them.
        command.envs([
            ("MALLOC_ARENA_MAX", "2"),
            ("MALLOC_MMAP_THRESHOLD_", "262144"),
        ]);

        command.envs(envs.iter().copied());

        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("left4me-web starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its standard error"));
        let mut printed = String::new();
        let addr = loop {
            let mut line = String::new();
            assert!(
                lines.read_line(&mut line).expect("a line") > 0,
                "it ended: {printed}"
            );

            printed.push_str(&line);
            if let Some((_, at)) = line.split_once("listening at http://") {
                break at.trim().parse().expect("an address");
            }
        };

        // Keep reading, so that it never blocks on a full pipe.
        std::thread::spawn(move || {
            lines
                .lines()
                .map_while(Result::ok)
                .for_each(|line| eprintln!("web: {line}"))
        });

        Self { child, addr }
    }

    /// A client without cookies.
    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// A client that is signed in as this user, who has [`PASSWORD`].
    pub fn signed_in(&self, name: &str) -> Client {
        let mut client = self.client();
        client.sign_in(name, PASSWORD);
        client
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens a connection with a timeout of [`PATIENCE`].
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("a connection");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time limit");
        stream
    }

    /// Sends a raw request; returns everything until the server closes.
    pub fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        // The server may refuse and close before all of it is sent.
        stream.write_all(request.as_bytes()).ok();
        all(&mut stream)
    }

    /// Requests a page on a new connection; returns the raw response.
    pub fn get(&self, path: &str) -> String {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.addr
        ))
    }

    /// Resident memory, KiB.
    pub fn resident(&self) -> u64 {
        memory(self.pid(), "VmRSS")
    }

    /// Resident memory at its peak, KiB.
    pub fn peak(&self) -> u64 {
        memory(self.pid(), "VmHWM")
    }

    /// Stops it with SIGTERM; returns its exit code.
    pub fn stop(mut self) -> i32 {
        super::host::stop(&self.child, nix::sys::signal::Signal::SIGTERM);
        super::ended(&mut self.child)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A memory figure of /proc/PID/status, KiB.
pub fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .expect("the field");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As text; invalid UTF-8 is replaced.
    pub body: String,
}

impl Answer {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The target of a redirect.
    pub fn location(&self) -> &str {
        self.header("location")
            .unwrap_or_else(|| panic!("no redirect: {} {}", self.status, self.body))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body as a page.
    pub fn page(&self) -> Page {
        Page::parse(&self.body)
    }

    /// The value of the first field with this name, as a browser would send it.
    pub fn input(&self, name: &str) -> Option<String> {
        self.page().field(name)
    }
}

/// An HTTP client that keeps cookies, and the CSRF token of the last page that had one. It follows
/// no redirects.
pub struct Client {
    addr: SocketAddr,
    /// By name.
    pub cookies: BTreeMap<String, String>,
    /// The CSRF token that forms contain.
    pub csrf: String,
}

impl Client {
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            cookies: BTreeMap::new(),
            csrf: String::new(),
        }
    }

    /// Signs in and loads a page for its CSRF token.
    pub fn sign_in(&mut self, name: &str, password: &str) {
        let answer = self.post("/login", &[("name", name), ("password", password)]);
        assert_eq!(answer.status, 303, "{}", answer.body);
        assert_eq!(self.get("/account").status, 200);
    }

    /// Its cookies, as the header Cookie has them.
    pub fn cookie(&self) -> String {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    /// Posts a form as our own pages do. The CSRF token is added unless the fields have one.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf.clone();
        let mut all = fields.to_vec();
        if !csrf.is_empty() && !fields.iter().any(|(name, _)| *name == "csrf") {
            all.push(("csrf", &csrf));
        }

        let body = serde_urlencoded::to_string(&all).expect("a form");
        let headers = [
            ("Sec-Fetch-Site", "same-origin"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];

        self.send("POST", path, &headers, &body)
    }

    /// Sends any request. Cookies are added, and Host unless the headers have one.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut stream = TcpStream::connect(self.addr).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );

        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head.push_str(&format!("Host: {}\r\n", self.addr));
        }

        if !self.cookies.is_empty() {
            head.push_str(&format!("Cookie: {}\r\n", self.cookie()));
        }

        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }

        stream
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .expect("sent");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");

        let answer = parse(&bytes);
        self.remember(&answer);
        answer
    }

    fn remember(&mut self, answer: &Answer) {
        for (_, value) in answer
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
        {
            let (name, rest) = value.split_once('=').expect("a cookie");
            let text = rest.split(';').next().unwrap_or_default();
            if text.is_empty() || rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), text.to_owned());
            }
        }

        let is_page = answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"));
        if let Some(token) = Some(answer)
            .filter(|_| is_page)
            .and_then(|answer| answer.input("csrf"))
        {
            self.csrf = token;
        }
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("the end of the head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();

    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let rest = &bytes[end + 4..];
    let body = if chunked {
        unchunked(rest)
    } else {
        rest.to_vec()
    };

    Answer {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.expect("a chunk's size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }

    panic!("the body broke off");
}

/// Reads until the connection is closed or reset.
pub fn all(stream: &mut TcpStream) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!(
                "nothing came for {PATIENCE:?}: {error}; before: {}",
                String::from_utf8_lossy(&bytes)
            ),
        }
    }

    String::from_utf8_lossy(&bytes).into_owned()
}

/// The status of a raw response.
pub fn status(answer: &str) -> u16 {
    let word = answer
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no answer: {answer:?}"));
    word.parse()
        .unwrap_or_else(|_| panic!("no status: {answer}"))
}

/// Discards input until the peer closes; false if it does not within `time`.
pub fn closes(stream: &mut TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).expect("a time limit");
    let mut waste = [0; 4096];
    loop {
        match stream.read(&mut waste) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
