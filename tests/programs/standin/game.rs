//! A stand-in game that runs, and what a client can send it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::support::{PATIENCE, until};

/// Long enough that an answer would have come.
pub const SILENCE: Duration = Duration::from_millis(300);

pub const PASSWORD: &str = "hunter2";

/// It is there with the feature `tools`.
const PROGRAM: Option<&str> = option_env!("CARGO_BIN_EXE_standin-srcds");

pub const INFO: &[u8] = b"\xff\xff\xff\xffTSource Engine Query\0";

pub struct Game {
    dir: tempfile::TempDir,
    child: Child,
    console: Arc<Mutex<Vec<u8>>>,
    pub port: u16,
}

impl Game {
    /// With a password, and with these lines behind it in server.cfg.
    pub fn start(cfg: &str) -> Self {
        let cfg = format!("rcon_password {PASSWORD}\n{cfg}");
        Self::start_with(&cfg, &["+ip", "0.0.0.0"])
    }

    pub fn start_with(cfg: &str, arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), cfg, arguments)
    }

    /// In a tree that is there already.
    pub fn start_in(dir: tempfile::TempDir, cfg: &str, arguments: &[&str]) -> Self {
        let program =
            PROGRAM.expect("the stand-in is missing: build the tests with --all-features");
        let cfg_dir = dir.path().join("left4dead2/cfg");
        std::fs::create_dir_all(&cfg_dir).unwrap();
        std::fs::write(dir.path().join("left4dead2/gameinfo.txt"), "").unwrap();
        std::fs::write(cfg_dir.join("server.cfg"), cfg).unwrap();

        // Ports of other tests: the game tries the next ones.
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let mut child = Command::new(program)
            .args(["-game", "left4dead2", "+hostport", &port])
            .args(arguments)
            .args(["+map", "c1m1_hotel"])
            .current_dir(dir.path())
            .env("LD_LIBRARY_PATH", ".:bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();

        let console = Arc::new(Mutex::new(Vec::new()));
        let (mut out, seen) = (
            BufReader::new(child.stdout.take().unwrap()),
            Arc::clone(&console),
        );
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while out.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                seen.lock().unwrap().append(&mut line);
            }
        });

        let mut game = Self {
            dir,
            child,
            console,
            port: 0,
        };
        game.prints("server.cfg\n");
        let console = game.console();
        let ports = console.split(", ports ").nth(1).unwrap();
        game.port = ports.split(' ').next().unwrap().parse().unwrap();
        game
    }

    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub fn prints(&self, text: &str) {
        until(&format!("the console has {text:?}"), || {
            self.console().contains(text).then_some(())
        });
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("left4dead2").join(name)
    }

    /// Puts a control file there; waits until one that is removed when obeyed is gone.
    #[track_caller]
    pub fn control(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.file(&format!("standin.{name}"));
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, content).unwrap();
        std::fs::rename(fresh, &path).unwrap();
        let stays = name == "map-load-ms" || name == "hang" || name.starts_with("silent");
        if !stays {
            until(&format!("{name} is obeyed"), || {
                (!path.exists()).then_some(())
            });
        }
    }

    /// What a client of the virtual environment prints, as tests/run installs it, or its default site.
    #[track_caller]
    pub fn ask(&self, kind: &str, arguments: &[&str]) -> Value {
        let cache =
            || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/left4me/game-tools/bin"));
        let bin = std::env::var_os("LEFT4ME_TEST_GAME_CLIENTS")
            .map(PathBuf::from)
            .or_else(cache)
            .unwrap_or_default();
        let python = bin.join("python3");
        assert!(
            python.exists(),
            "{} is missing: tests/run installs it; or: python3 -m venv DIR && DIR/bin/pip install \
             python-a2s rconx python-valve, and LEFT4ME_TEST_GAME_CLIENTS=DIR/bin",
            python.display()
        );

        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/standin/clients.py");
        let output = Command::new(python)
            .arg(script)
            .args([kind, &self.port.to_string()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The answers to commands over one connection, by a client that nobody here wrote.
    #[track_caller]
    pub fn commands(&self, commands: &[&str]) -> Vec<String> {
        let answers = self.ask("valve", &[&[PASSWORD], commands].concat());
        serde_json::from_value(answers).unwrap()
    }

    #[track_caller]
    pub fn command(&self, command: &str) -> String {
        self.commands(&[command]).remove(0)
    }

    pub fn udp(&self) -> Udp {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", self.port)).unwrap();
        Udp(socket)
    }

    pub fn rcon(&self) -> Rcon {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Rcon(stream)
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket of the test's own, for what the layout of the packets is.
pub struct Udp(UdpSocket);

impl Udp {
    pub fn send(&self, packet: &[u8]) {
        self.0.send(packet).unwrap();
    }

    /// The next packet, if one comes in that time.
    pub fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut packet = [0; 2000];
        let len = self.0.recv(&mut packet).ok()?;
        Some(packet[..len].to_vec())
    }

    #[track_caller]
    pub fn next(&self) -> Vec<u8> {
        self.receive(PATIENCE).expect("an answer")
    }

    /// The four bytes that a query is to be repeated with.
    #[track_caller]
    pub fn challenge(&self, query: &[u8]) -> Vec<u8> {
        self.send(query);
        let reply = self.next();
        let challenge = reply
            .strip_prefix(b"\xff\xff\xff\xffA")
            .expect("a challenge");
        assert_eq!(challenge.len(), 4, "{reply:?}");
        challenge.to_vec()
    }
}

/// A connection of the test's own. A packet is id, type and body.
pub struct Rcon(TcpStream);

impl Rcon {
    pub fn send(&mut self, id: i32, kind: i32, body: &str) {
        let size = i32::try_from(body.len()).unwrap() + 10;
        let head = [size, id, kind].map(i32::to_le_bytes).concat();
        self.0
            .write_all(&[&head, body.as_bytes(), b"\0\0"].concat())
            .unwrap();
    }

    /// The next packet; `None` when the game has closed the connection.
    pub fn receive(&mut self) -> Option<(i32, i32, Vec<u8>)> {
        let number = |bytes: &[u8]| i32::from_le_bytes(*bytes.first_chunk().unwrap());
        let mut size = [0; 4];
        self.0.read_exact(&mut size).ok()?;
        let mut rest = vec![0; usize::try_from(number(&size)).unwrap()];
        self.0.read_exact(&mut rest).unwrap();
        let body = rest[8..].strip_suffix(b"\0\0").expect("two NULs");
        Some((number(&rest), number(&rest[4..]), body.to_vec()))
    }

    /// Gives the id of the AUTH_RESPONSE.
    #[track_caller]
    pub fn log_in(&mut self, password: &str) -> i32 {
        self.send(7, 3, password);
        assert_eq!(self.receive(), Some((7, 0, vec![])), "the empty one first");
        let (id, kind, body) = self.receive().unwrap();
        assert_eq!((kind, body.as_slice()), (2, &b""[..]));
        id
    }
}
