//! Shared by the tests of the programs: a temporary data directory, programs started as systemd
//! starts them, the line protocol, and waiting for conditions.
//!
//! No test relies on a fixed sleep: each wait names its condition and fails after a deadline.
#![allow(dead_code, reason = "each test binary uses its share")]
#![allow(clippy::disallowed_methods, reason = "tests start the real programs")]

pub mod batch;
pub mod builds;
pub mod console;
pub mod destinations;
pub mod fleet;
pub mod game_tree;
pub mod games;
pub mod host;
pub mod http;
pub mod page;
pub mod real_fleet;
pub mod steamcmd;
pub mod stuck;
pub mod subscribers;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The password of every test user.
pub const PASSWORD: &str = "correct horse battery";

pub const CONSOLE: &str = env!("CARGO_BIN_EXE_left4me-console");
pub const GATE: &str = env!("CARGO_BIN_EXE_left4me-gate");
pub const JOB: &str = env!("CARGO_BIN_EXE_left4me-job");
pub const LEFT4ME: &str = env!("CARGO_BIN_EXE_left4me");
pub const NOTIFY: &str = env!("CARGO_BIN_EXE_left4me-notify");
pub const POLLER: &str = env!("CARGO_BIN_EXE_left4me-poller");
pub const PUBLISHER: &str = env!("CARGO_BIN_EXE_left4me-publisher");
pub const RUNNER: &str = env!("CARGO_BIN_EXE_left4me-runner");
pub const WEB: &str = env!("CARGO_BIN_EXE_left4me-web");
pub const WORKER: &str = env!("CARGO_BIN_EXE_left4me-worker");

pub type Envs = Vec<(String, String)>;

/// Waits until `condition` returns a value; panics with `what` after [`PATIENCE`].
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s in vain: {what}",
            PATIENCE.as_secs()
        );

        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A unique argument, to find the processes of one test.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // A number, so that it can be an argument of `sleep`.
    format!(
        "9{:07}.{:05}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The processes that have `marker` among their arguments, without zombies.
pub fn alive(marker: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments
            .split(|&byte| byte == 0)
            .any(|word| word == marker.as_bytes())
    })
    .collect()
}

/// Whether this is root in the initial user namespace. Only then can a test change its user or
/// mount file systems.
pub fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    nix::unistd::Uid::effective().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A temporary data directory, removed on drop.
pub struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    /// Creates it with the directories that the package creates.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("left4me-test-")
            .tempdir()
            .expect("a directory");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("mode");
        for name in [
            "db",
            "installation",
            "builds",
            "overlays",
            "instances",
            "runtime",
            "workshop_cache",
            "steam",
            "tmp",
        ] {
            std::fs::create_dir(directory.path().join(name)).expect("a directory");
        }

        Self { directory }
    }

    /// The path, without symbolic links.
    pub fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().expect("it exists")
    }

    pub fn join(&self, below: impl AsRef<Path>) -> PathBuf {
        self.path().join(below)
    }

    /// Runs a program with only the environment for this directory; `input` is its standard input.
    pub fn run(&self, program: &str, args: &[&str], input: &[u8]) -> Finished {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(self.envs())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");

        // A program that fails early does not read its input.
        child.stdin.take().expect("a pipe").write_all(input).ok();
        Finished::from(child.wait_with_output().expect("it ends"))
    }

    /// Writes a file below it; creates the parent directories.
    pub fn write(&self, below: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(below);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Writes an executable below it. `mv` copies it, so that no fork of another thread holds it
    /// open for writing.
    pub fn script(&self, below: &str, text: &str) -> PathBuf {
        let fresh = self.write(format!("{below}.new"), text);
        std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).expect("mode");
        let copied = Command::new("mv")
            .arg(&fresh)
            .arg(self.join(below))
            .status()
            .expect("mv");
        assert!(copied.success());
        self.join(below)
    }

    /// The environment that every program needs here: no settings file, a short grace, no pause
    /// between attempts.
    pub fn envs(&self) -> Envs {
        let root = self.path().display().to_string();
        [
            ("LEFT4ME_ROOT", root.as_str()),
            ("LEFT4ME_ENV_FILE", "/nonexistent"),
            ("LEFT4ME_CANCEL_GRACE_SECONDS", "1"),
            ("LEFT4ME_STEAM_RETRY_SECONDS", "0"),
            ("LEFT4ME_LOG", "info"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// A program that ended: its exit code, -1 for a signal, and what it printed.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Finished {
    /// Checks that it failed with `code`, printed nothing, and that its standard error contains
    /// `words`.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "'{word}' is missing: {self:?}");
        }
    }

    /// The same for an error of one line, except that the usage follows a usage error (2).
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        self.failed(code, words);
        if code != 2 {
            assert_eq!(self.err.lines().count(), 1, "{self:?}");
        }
    }

    /// Its standard output; checks that it succeeded.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The one line of JSON that it printed.
    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.done();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).expect("JSON")
    }
}

/// Starts `argv` with `socket` as descriptor 3 and LISTEN_FDS=1, as systemd does for Accept=yes.
pub fn start(argv: &[&str], envs: &Envs, socket: impl Into<OwnedFd>, stderr: Stdio) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg("export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 </dev/null")
        .args(argv)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .envs(envs.iter().cloned())
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("sh starts")
}

/// Waits for a child to exit, at most [`PATIENCE`]; returns its exit code, 128+n for a signal.
pub fn ended(child: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let status = until("a program's end", || child.try_wait().expect("wait"));
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Stands in for a socket unit with Accept=yes at `path`: one instance of `argv` per connection,
/// until the guard is dropped.
pub fn accept(path: &Path, argv: &[&str], envs: &Envs) -> SocketUnit {
    let (argv, envs): (Vec<String>, _) = (
        argv.iter().map(|&word| word.to_owned()).collect(),
        envs.clone(),
    );

    accept_with(path, move |connection, children| {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let child = start(&words, &envs, connection, Stdio::inherit());
        children.lock().expect("no panic").push(child);
    })
}

/// Gives each connection at `path` to `serve`, with the list of what it starts, until the guard is
/// dropped.
fn accept_with(
    path: &Path,
    serve: impl Fn(UnixStream, &Arc<Mutex<Vec<Child>>>) + Send + 'static,
) -> SocketUnit {
    let listener = UnixListener::bind(path).expect("a socket");
    let stop = Arc::new(AtomicBool::new(false));
    let children = Arc::new(Mutex::new(Vec::new()));

    let (stopped, started) = (Arc::clone(&stop), Arc::clone(&children));
    let thread = std::thread::spawn(move || {
        for connection in listener.incoming() {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            serve(connection.expect("a connection"), &started);
        }
    });

    SocketUnit {
        path: path.to_owned(),
        stop,
        children,
        thread: Some(thread),
    }
}

/// The instances that [`accept`] started; dropping it stops them.
pub struct SocketUnit {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    children: Arc<Mutex<Vec<Child>>>,
    thread: Option<JoinHandle<()>>,
}

impl SocketUnit {
    /// How many instances are running.
    pub fn running(&self) -> usize {
        let mut children = self.children.lock().expect("no panic");
        children
            .iter_mut()
            .filter_map(|child| child.try_wait().expect("wait").is_none().then_some(()))
            .count()
    }

    /// How many instances were started.
    pub fn started(&self) -> usize {
        self.children.lock().expect("no panic").len()
    }
}

impl Drop for SocketUnit {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }

        let Ok(mut children) = self.children.lock() else {
            return;
        };
        // SIGTERM, not SIGKILL, so that each instance can end its children.
        for child in children.iter_mut() {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            if let Ok(None) = child.try_wait() {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            }
            let _ = child.wait();
        }
    }
}

/// A conversation with one instance of a program.
pub struct Conversation {
    pub stream: UnixStream,
    pub child: Child,
    lines: BufReader<UnixStream>,
}

impl Conversation {
    /// Starts `argv` with one end of a socket pair.
    pub fn start(argv: &[&str], envs: &Envs) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        Self::over(ours, start(argv, envs, theirs, Stdio::piped()))
    }

    /// Talks over `stream` with `child`, which has the other end.
    pub fn over(stream: UnixStream, child: Child) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let lines = BufReader::with_capacity(256 * 1024, stream.try_clone().expect("a clone"));
        Self {
            stream,
            child,
            lines,
        }
    }

    /// Sends one line. If the peer is gone, reading reports it.
    pub fn send_line(&mut self, line: &str) {
        let _ = self.stream.write_all(format!("{line}\n").as_bytes());
    }

    /// Reads the next answer; `None` if the program has closed the connection.
    pub fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")),
            ),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Reads answers until `found` accepts one.
    pub fn receive_until(&mut self, what: &str, mut found: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self
                .receive()
                .unwrap_or_else(|| panic!("the connection ended before {what}"));
            if found(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}");
        }
    }

    /// Whether it reports the start of a command, not, as under systemd, only the serving instance.
    pub fn is_start(&self, answer: &Value) -> bool {
        answer["started"].is_object() && answer["started"]["pid"] != self.child.id()
    }

    /// Reads all answers up to `exit`, and checks that the connection ends there.
    pub fn rest(&mut self) -> Received {
        let mut received = Received::default();
        while let Some(answer) = self.receive() {
            assert!(
                received.last.is_none(),
                "an answer after the last one: {answer}"
            );

            for (list, key) in [
                (&mut received.stdout, "stdout"),
                (&mut received.stderr, "stderr"),
                (&mut received.errors, "error"),
            ] {
                list.extend(answer[key].as_str().map(str::to_owned));
            }

            let properties = answer["observed"]["properties"]
                .as_array()
                .into_iter()
                .flatten();
            received
                .observed
                .extend(properties.filter_map(|line| line.as_str().map(str::to_owned)));
            if answer["builds"].is_object() {
                received.builds.push(answer["builds"].clone());
            }
            received.started += usize::from(self.is_start(&answer));
            if answer["exit"].is_number() {
                received.last = Some(answer);
            }
        }

        received
    }

    /// Waits for the program to exit; returns its exit code and standard error.
    pub fn end(mut self) -> (i32, String) {
        drop(self.stream);
        drop(self.lines);
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut text).expect("text");
        }
        (ended(&mut self.child), text)
    }
}

/// The answers of one conversation.
#[derive(Debug, Default)]
pub struct Received {
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
    pub errors: Vec<String>,
    /// The properties of the unit, for a request with `observe`.
    pub observed: Vec<String>,
    /// The builds of the game, for a check.
    pub builds: Vec<Value>,
    /// Number of commands that were started.
    pub started: usize,
    pub last: Option<Value>,
}

impl Received {
    /// The exit code of the last answer.
    pub fn exit(&self) -> i64 {
        self.last
            .as_ref()
            .and_then(|last| last["exit"].as_i64())
            .unwrap_or_else(|| panic!("no end: {self:?}"))
    }

    /// Exit code, `ended_by` and `tree` of the last answer.
    pub fn ending(&self) -> (i64, &str, &str) {
        let last = self
            .last
            .as_ref()
            .unwrap_or_else(|| panic!("no end: {self:?}"));
        (
            self.exit(),
            last["ended_by"].as_str().unwrap_or("-"),
            last["tree"].as_str().unwrap_or("-"),
        )
    }

    /// Whether a line on standard error, or an error, contains `words`.
    pub fn complains(&self, words: &str) -> bool {
        self.stderr
            .iter()
            .chain(&self.errors)
            .any(|line| line.contains(words))
    }
}
