//! A lab as a value: up when it is made, down when it is dropped, whatever happened in between.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::report;

/// `deploy/lab exec` ends with it when the lab itself is at fault.
const LAB_AT_FAULT: i32 = 125;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The Debians that left4me supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// 12
    Bookworm,
    /// 13
    Trixie,
}

impl Suite {
    /// As Debian calls it, and our tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }
}

/// A booted Debian with left4me in it.
pub struct Lab {
    name: String,
    suite: Suite,
    /// None when its end is not our affair.
    reaper: Option<Child>,
}

/// Set to the name of the lab in a test that runs inside of its network; see
/// [`Lab::in_its_network`].
const INSIDE: &str = "LEFT4ME_TEST_INSIDE";

/// What a command in the lab came to.
#[derive(Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it printed, without the last line breaks.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    command: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Output {
            code,
            stdout,
            stderr,
            command,
        } = self;

        write!(
            f,
            "# {command}\nexit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---"
        )
    }
}

impl Output {
    /// Panics, with all of it, unless it ended with `code`.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Panics unless it said something on standard error, on one line, that has all of `words`.
    #[track_caller]
    pub fn complains_of(self, words: &[&str]) -> Self {
        assert_eq!(
            self.stderr.lines().count(),
            1,
            "one line of complaint\n{self}"
        );

        for word in words {
            assert!(
                self.stderr.contains(word),
                "a complaint about '{word}'\n{self}"
            );
        }

        self
    }
}

impl Lab {
    /// Boots `suite`, installs the package that `tests/run` built, and puts the stand-ins in place.
    #[track_caller]
    pub fn up(suite: Suite) -> Self {
        if let Ok(name) = std::env::var(INSIDE) {
            return Self {
                name,
                suite,
                reaper: None,
            };
        }

        let (deb, standin) = (deb(), setting("LEFT4ME_TEST_STANDIN"));
        Self::boot(
            suite,
            &[
                "--prepared".as_ref(),
                "--deb".as_ref(),
                deb.as_os_str(),
                "--standin".as_ref(),
                standin.as_os_str(),
            ],
            "",
        )
    }

    /// Boots `suite` and nothing else: a Debian that has never seen left4me.
    #[track_caller]
    pub fn bare(suite: Suite) -> Self {
        Self::boot(suite, &[], "")
    }

    /// [`Lab::bare`], with more packages in its root file system.
    #[track_caller]
    pub fn with_packages(suite: Suite, packages: &str) -> Self {
        Self::boot(suite, &[], packages)
    }

    /// [`Lab::up`], with a cable to the other labs of this network.
    #[track_caller]
    pub fn in_network(suite: Suite, network: &str, address: &str, packages: &str) -> Self {
        let (deb, standin) = (deb(), setting("LEFT4ME_TEST_STANDIN"));
        Self::boot(
            suite,
            &[
                "--prepared".as_ref(),
                "--deb".as_ref(),
                deb.as_os_str(),
                "--standin".as_ref(),
                standin.as_os_str(),
                "--network".as_ref(),
                network.as_ref(),
                "--address".as_ref(),
                address.as_ref(),
            ],
            packages,
        )
    }

    /// Pulls its cable out, or puts it in again.
    #[track_caller]
    pub fn cable(&self, is_in: bool) {
        let verb = if is_in { "plug" } else { "unplug" };
        let done = command(lab_script())
            .args([verb, &self.name])
            .stdin(Stdio::null())
            .output();
        let done = done.expect("deploy/lab runs");
        assert!(
            done.status.success(),
            "deploy/lab {verb}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    #[track_caller]
    fn boot(suite: Suite, options: &[&std::ffi::OsStr], packages: &str) -> Self {
        report::remember_panics();
        let mut up = command(lab_script());
        up.args(["up", "--suite", suite.as_str()])
            .args(options)
            .stdin(Stdio::null());
        if !packages.is_empty() {
            up.env("LEFT4ME_LAB_PACKAGES", packages);
        }
        let up = up.output().expect("deploy/lab runs");
        let complaint = String::from_utf8_lossy(&up.stderr);
        assert!(
            up.status.success(),
            "deploy/lab up: {}\n{complaint}",
            up.status
        );

        let name = String::from_utf8_lossy(&up.stdout).trim().to_owned();
        let reaper = (std::env::var_os("LEFT4ME_TEST_KEEP").is_none()).then(|| reaper(&name));
        Self {
            name,
            suite,
            reaper,
        }
    }

    /// Runs `story`, the test of this name, so that 127.0.0.1 is the lab's and not this machine's:
    /// in another process of this same test, whose programs are this machine's. A browser is one;
    /// all that it starts ends with the lab.
    #[track_caller]
    pub fn in_its_network(&self, name: &str, story: fn(&Lab)) {
        if std::env::var_os(INSIDE).is_some() {
            return story(self);
        }
        let own = std::env::current_exe().expect("our own path");
        // sudo, on the way, passes no environment on.
        let ours = std::env::vars()
            .filter(|(key, _)| key.starts_with("LEFT4ME_") || key == "PATH" || key == "HOME");
        let status = command(lab_script())
            .args(["net", &self.name, "--", "env"])
            .args(ours.map(|(key, value)| format!("{key}={value}")))
            .arg(format!("{INSIDE}={}", self.name))
            .arg(own)
            .args([
                "--exact",
                &format!("{}::{name}", self.suite.as_str()),
                "--nocapture",
            ])
            .stdin(Stdio::null())
            .status()
            .expect("deploy/lab runs");
        assert!(
            status.success(),
            "the story inside of the lab's network: {status}"
        );
    }

    /// Which Debian it is.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Runs a command as root.
    pub fn run(&self, argv: &[&str]) -> Output {
        self.run_as("root", argv)
    }

    /// Runs a command as a user.
    pub fn run_as(&self, user: &str, argv: &[&str]) -> Output {
        self.run_with(user, argv, "")
    }

    /// Runs a command with something to read.
    #[track_caller]
    pub fn run_with(&self, user: &str, argv: &[&str], input: &str) -> Output {
        let mut child = self
            .exec(user, argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("deploy/lab runs");
        // Whether a command reads what it is given is its own affair.
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(input.as_bytes())
            .ok();
        let output = child.wait_with_output().expect("an end of deploy/lab");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        // What sudo, on the way into the lab, says of a host that is not in its own /etc/hosts.
        let from_inside = |line: &&str| !line.starts_with("sudo: unable to resolve host");
        let output = Output {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr)
                .lines()
                .filter(from_inside)
                .collect::<Vec<_>>()
                .join("\n"),
            command: argv.join(" "),
        };

        assert!(output.code != LAB_AT_FAULT, "the lab failed\n{output}");
        output
    }

    /// What a command prints that has to succeed.
    #[track_caller]
    pub fn ok(&self, argv: &[&str]) -> String {
        self.run(argv).ends_with(0).stdout
    }

    /// What a shell script prints that has to succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["bash", "-euc", script])
    }

    /// Whether a shell's condition holds.
    pub fn is(&self, condition: &str) -> bool {
        self.run(&["bash", "-c", condition]).code == 0
    }

    /// Writes a file, for everybody to read.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        self.run_with(
            "root",
            &["install", "-D", "-m", "644", "/dev/stdin", path],
            text,
        )
        .ends_with(0);
    }

    /// Puts a file of ours there, with its mode.
    #[track_caller]
    pub fn push(&self, file: &Path, path: &str) {
        let pushed = command(lab_script())
            .args(["push", &self.name])
            .arg(file)
            .arg(path)
            .stdin(Stdio::null())
            .output();
        let pushed = pushed.expect("deploy/lab runs");
        assert!(
            pushed.status.success(),
            "deploy/lab push: {}",
            String::from_utf8_lossy(&pushed.stderr)
        );
    }

    /// A property of a unit.
    #[track_caller]
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// A real reboot; returns when it is up again.
    #[track_caller]
    pub fn reboot(&self) {
        let output = command(lab_script())
            .args(["reboot", &self.name])
            .stdin(Stdio::null())
            .output();
        let output = output.expect("deploy/lab runs");
        assert!(
            output.status.success(),
            "deploy/lab reboot: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Which boot this is.
    #[track_caller]
    pub fn boot_id(&self) -> String {
        self.ok(&["cat", "/proc/sys/kernel/random/boot_id"])
    }

    /// Waits until it is up again in another boot than that. What cuts its power is the caller's:
    /// `systemctl reboot --force --force`, which stops nothing first.
    #[track_caller]
    pub fn wait_for_boot_after(&self, before: &str) {
        let script = "systemctl is-system-running; cat /proc/sys/kernel/random/boot_id";
        wait_for("it is up again", s(90), || {
            // A command that goes down with the lab has no end of its own.
            let output = command("timeout")
                .args(["--kill-after=1", "5"])
                .arg(lab_script())
                .args(["exec", &self.name, "--", "bash", "-c", script])
                .stdin(Stdio::null())
                .output()
                .expect("timeout runs");
            let seen = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut lines = seen.lines();
            let is_up = matches!(lines.next(), Some("running" | "degraded"));
            match lines.next() {
                Some(boot) if is_up && boot != before => Ok(()),
                _ => Err(seen),
            }
        });
    }

    fn exec(&self, user: &str, argv: &[&str]) -> Command {
        let mut exec = command(lab_script());
        exec.args(["exec", "--user", user, &self.name, "--"])
            .args(argv);
        exec
    }

    /// What a script prints, whatever comes of it.
    pub fn tries(&self, script: &str) -> String {
        let output = self
            .exec("root", &["bash", "-c", script])
            .stdin(Stdio::null())
            .output();
        let output = output
            .map(|output| [output.stdout, output.stderr].concat())
            .unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Its name, as `deploy/lab` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::env::var_os(INSIDE).is_some() {
            return;
        }
        if thread::panicking() {
            report::tell(self);
        }
        let Some(mut reaper) = self.reaper.take() else {
            eprintln!(
                "{} is kept: deploy/lab exec {} -- bash",
                self.name, self.name
            );

            return;
        };

        drop(reaper.stdin.take());
        let ended = reaper.wait();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!("{}: deploy/lab down failed", self.name);
        }
    }
}

/// Looks until `look` is content; panics with what it saw last when `deadline` has passed.
#[track_caller]
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if begun.elapsed() > deadline => {
                panic!("{what}: not within {deadline:?}; last seen: {seen}")
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// [`wait_for`] something that is so or not.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut is_so: impl FnMut() -> bool) {
    wait_for(what, deadline, || {
        if is_so() {
            Ok(())
        } else {
            Err("not so".to_owned())
        }
    });
}

/// Seconds.
pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The package under test.
pub fn deb() -> PathBuf {
    setting("LEFT4ME_TEST_DEB")
}

/// A stand-in.
pub fn standin(name: &str) -> PathBuf {
    setting("LEFT4ME_TEST_STANDIN").join(name)
}

fn setting(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    PathBuf::from(value.unwrap_or_else(|| {
        panic!("{name} is not set: tests/run builds what these tests need, and sets it")
    }))
}

/// The checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn lab_script() -> PathBuf {
    repository().join("deploy/lab")
}

#[expect(clippy::disallowed_methods, reason = "the tests' way to the lab")]
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Ends the lab when its standard input closes: because the test is over, or because it was killed.
fn reaper(name: &str) -> Child {
    command("setsid")
        .args(["sh", "-c", r#"cat; exec "$0" down "$1""#])
        .args([lab_script().as_os_str(), name.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setsid runs")
}
