//! The files in `left4dead2/` that make it do something; the table is in `srcds.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::setsid;

use crate::game::Shared;
use crate::{GAME, say};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Files are looked for when the directory has changed, and this often: sixty stand-ins that look
/// for twenty files ten times a second would keep a processor busy.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);
/// While it hibernates, and while somebody is there.
const TICK_EVERY: Duration = Duration::from_secs(10);
const TICK_AWAKE: Duration = Duration::from_secs(2);

pub fn control(name: &str) -> PathBuf {
    Path::new(GAME).join(format!("standin.{name}"))
}

pub fn is_there(name: &str) -> bool {
    control(name).exists()
}

/// Whether the game has this fault: a build's faults may be those of some ports alone.
pub fn has_fault(name: &str) -> bool {
    static ONLY: OnceLock<bool> = OnceLock::new();
    is_there(name) && *ONLY.get_or_init(is_meant)
}

/// Whether `standin.only-on` names our port, or is not there.
fn is_meant() -> bool {
    let Ok(ports) = fs::read_to_string(control("only-on")) else {
        return true;
    };
    let words: Vec<String> = std::env::args().collect();
    let port = words
        .windows(2)
        .find(|pair| pair[0].trim_start_matches(['-', '+']).ends_with("port"))
        .map(|pair| pair[1].clone());
    port.is_some_and(|port| ports.split_whitespace().any(|named| named == port))
}

/// What `standin.map-load-ms` says.
pub fn map_load() -> Option<Duration> {
    let text = fs::read_to_string(control("map-load-ms")).ok()?;
    text.trim().parse().ok().map(Duration::from_millis)
}

pub fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

pub fn obey_signals(signals: &SigSet) {
    loop {
        let signal = signals.wait().expect("wait for a signal");
        if control("ignore-signals").exists() {
            continue;
        }
        let on_interrupt =
            fs::read_to_string(control("on-interrupt")).unwrap_or_else(|_| "0".to_owned());
        if signal == Signal::SIGINT && on_interrupt.trim() != "die" {
            say("Server shutting down");
            std::process::exit(on_interrupt.trim().parse().unwrap_or(0));
        }

        // The game has no handler for the others.
        let _ = signals.thread_unblock();
        let _ = raise(signal);
    }
}

/// Obeys the files, lets the game's time pass and prints ticks, until one of the files ends it.
pub fn watch(shared: &Shared) -> ExitCode {
    let mut ticks = 0_u64;
    let mut last_tick = Instant::now();
    let begun = Instant::now();
    let crash_after = fs::read_to_string(control("crash-after"))
        .ok()
        .filter(|_| has_fault("crash-after"))
        .and_then(|ms| ms.trim().parse().ok());
    let mut files = Files::default();
    for line in of_lines(&fs::read(control("players")).unwrap_or_default()) {
        shared.lock().join(line);
    }
    loop {
        // As a plugin does that loads with the first map ("server crashes a few seconds after
        // start, systemd says running": SourceMod's and MetaMod's issue trackers have many).
        if crash_after.is_some_and(|ms| begun.elapsed() >= Duration::from_millis(ms)) {
            say("L 11/28/2026: [SM] Unable to load plugin \"l4dtoolz.smx\": corrupted state");
            crash("");
        }

        if files.may_have_changed() {
            if let Some(status) = end() {
                return status;
            }
            if let Some(how_much) = take("eat") {
                eat(&how_much);
            }
            if take("fork-setsid").is_some() {
                leave_stubborn_child();
            }
            if let Some(script) = take("run") {
                run(&script);
            }
            if let Some(text) = take("say") {
                text.lines().for_each(say);
            }
            people(shared);
        } else if !has_fault("hang") {
            shared.lock().step();
        }

        let tick_every = if shared.lock().is_hibernating {
            TICK_EVERY
        } else {
            TICK_AWAKE
        };
        if last_tick.elapsed() >= tick_every {
            ticks += 1;
            last_tick = Instant::now();
            say(format!("tick {ticks}"));
        }

        thread::sleep(LOOK_EVERY);
    }
}

/// When the files were looked for last.
#[derive(Default)]
struct Files {
    modified: Option<SystemTime>,
    looked: Option<Instant>,
}

impl Files {
    fn may_have_changed(&mut self) -> bool {
        let modified = fs::metadata(GAME).and_then(|game| game.modified()).ok();
        let is_recent = self.looked.is_some_and(|at| at.elapsed() < LOOK_AT_LEAST);
        if is_recent && modified == self.modified {
            return false;
        }

        self.modified = modified;
        self.looked = Some(Instant::now());
        true
    }
}

/// Those that end the program; some by themselves.
fn end() -> Option<ExitCode> {
    if let Some(how) = take("crash") {
        crash(&how);
    }
    if take("exit0").is_some() {
        return Some(ExitCode::SUCCESS);
    }
    if take("exit3").is_some() {
        return Some(ExitCode::from(3));
    }
    if let Some(status) = take("exit") {
        return Some(ExitCode::from(status.trim().parse().unwrap_or(1)));
    }
    if take("interrupt").is_some() {
        let _ = stop_signals().thread_unblock();
        let _ = raise(Signal::SIGINT);
    }
    None
}

/// Those about players. A game that hangs notices none of them; one that loads a map leaves them
/// until it has done so.
fn people(shared: &Shared) {
    if has_fault("hang") {
        return;
    }
    let mut game = shared.lock();
    game.step();
    if game.is_loading() {
        return;
    }

    if let Some(line) = take("lobby") {
        game.reserve(&line);
    }
    let lines = |name| take_bytes(name).unwrap_or_default();
    for line in of_lines(&lines("join")) {
        game.join(line);
    }
    for line in of_lines(&lines("talk")) {
        game.talk(line);
    }
    for line in of_lines(&lines("leave")) {
        let mut fields = line.splitn(2, |byte| *byte == b'\t');
        let name = fields.next().unwrap_or_default();
        let reason = fields.next().unwrap_or(b"Disconnect by user.");
        if let Some(at) = game.position(name) {
            game.leave(at, reason);
        }
    }
}

fn of_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
}

/// A control file's content; the file is gone afterwards.
fn take_bytes(name: &str) -> Option<Vec<u8>> {
    let path = control(name);
    let content = fs::read(&path).ok()?;
    let _ = fs::remove_file(&path);
    Some(content)
}

fn take(name: &str) -> Option<String> {
    take_bytes(name).map(|content| String::from_utf8_lossy(&content).into_owned())
}

/// What a plugin that has broken out of the game's own scripts does.
#[expect(clippy::disallowed_methods, reason = "it plays a foreign program")]
fn run(script: &str) {
    let output = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .output();
    let text = output.map_or_else(
        |e| e.to_string().into_bytes(),
        |out| [out.stdout, out.stderr].concat(),
    );

    let (fresh, done) = (control("run.new"), control("run.out"));
    let _ = fs::write(&fresh, text).and_then(|()| fs::rename(fresh, done));
}

pub fn crash(how: &str) -> ! {
    if how.trim() != "abort" {
        // Rust's own handler takes the first one, finds no stack overflow and steps aside.
        let _ = raise(Signal::SIGSEGV);
        let _ = raise(Signal::SIGSEGV);
    }
    std::process::abort()
}

/// Each page is written to: memory that is merely asked for is nothing to the kernel.
fn eat(how_much: &str) {
    let mebibytes: usize = how_much.trim().parse().unwrap_or(0);
    for _ in 0..mebibytes {
        std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

#[expect(clippy::disallowed_methods, reason = "it plays a foreign program")]
fn leave_stubborn_child() {
    let me = std::env::current_exe().expect("own path");
    let spawned = Command::new(me)
        .arg("--stubborn-child")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(e) = spawned {
        say(format!("standin: no stubborn child: {e}"));
    }
}

pub fn stubborn_child() -> ExitCode {
    stop_signals().thread_block().expect("block signals");
    let _ = setsid();
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
