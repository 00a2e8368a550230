//! A left4me-web of its own: the real binary on a house's database, at a port that the kernel chose.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use left4me::base::password;
use left4me::db::users::{self, Role};

use super::house::House;
use super::{PATIENCE, ended};

/// The program.
pub const WEB: &str = env!("CARGO_BIN_EXE_left4me-web");

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";

/// A web front that runs.
pub struct Web {
    /// Where it listens.
    pub address: SocketAddr,
    /// The program.
    pub child: Child,
    _stderr: std::thread::JoinHandle<()>,
}

impl Web {
    /// Starts it; `args` besides where to listen.
    pub fn start(house: &House, args: &[&str]) -> Self {
        let mut child = house
            .command(WEB, &[&["--listen", "127.0.0.1:0"], args].concat())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("left4me-web starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("left4me-web ended: {said}")).expect("a line");
            if let Some((_, address)) = line.split_once("listening at http://") {
                break address.trim().parse().expect("an address");
            }
            said.push_str(&line);
        };
        // What it says later must not fill the pipe; it is of use when a test fails.
        let rest = std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("web: {line}")));
        Self { address, child, _stderr: rest }
    }

    /// A connection that waits for at most [`PATIENCE`].
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        stream
    }

    /// Sends bytes, and gives all that comes back until the server closes.
    pub fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        // A refusal may come, and the connection end, before all of it is sent.
        stream.write_all(request.as_bytes()).ok();
        all(&mut stream)
    }

    /// Asks for a page on a connection of its own; the whole answer.
    pub fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address))
    }

    /// Resident memory, KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Tells it to leave; its exit code.
    pub fn stop(mut self) -> i32 {
        super::house::stop(&self.child, nix::sys::signal::Signal::SIGTERM);
        ended(&mut self.child)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// All that comes until the end; a connection that is reset ends too.
pub fn all(stream: &mut TcpStream) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("nothing came for {PATIENCE:?}: {error}; before: {}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The status of an answer.
pub fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}"));
    word.parse().unwrap_or_else(|_| panic!("no status: {answer}"))
}

impl House {
    /// A user with [`PASSWORD`].
    pub fn user(&self, name: &str, role: Role) {
        let hash = password::hash(PASSWORD).unwrap();
        self.db().write(|tx| users::create(tx, 1, "test", &name.parse()?, role, &hash)).unwrap();
    }
}

/// Waits until the peer closes, throwing away what it sends; false when it has not after `time`.
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
