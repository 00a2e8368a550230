//! A stand-in for Left 4 Dead 2's dedicated server, for tests and the demo: never packaged.
//!
//! It takes the game's arguments, prints its console, owns its UDP and TCP port, answers A2S
//! queries and ends on SIGINT. As with the game, the working directory must hold `left4dead2/`,
//! LD_LIBRARY_PATH must begin with `.:bin`, `/proc/cpuinfo` must be readable, and without
//! `$HOME/.steam/sdk32/steamclient.so` it never reaches Steam.
//!
//! Its arguments it reads as the game's engine does (public copies of tier0/commandline.cpp, which
//! differ): joined into one line of at most 2,048 bytes, which is parsed again, with `@file` read
//! into it. Where one copy would read something else than another, it says so, and obeys the worse
//! one. Then it runs each word that begins with `+` as a command, with the word that follows.
//!
//! Then it runs `server.cfg`, with the files that this runs: what it cannot read it leaves out, as
//! `exec: couldn't exec X` says and nothing else, and a byte order mark spoils the first line
//! (both from public reports of "my server.cfg does nothing"). With `tv_enable 1` SourceTV takes
//! UDP 27020 or `tv_port`.
//!
//! Files that appear in `left4dead2/` make it misbehave (looked at every 100 ms; those marked *
//! are removed when obeyed, so that each works once):
//!
//! | file | what happens |
//! |---|---|
//! | `standin.crash` * | dies of SIGSEGV, or of SIGABRT when the file says `abort` |
//! | `standin.crash-on-start` | dies of SIGSEGV at every start |
//! | `standin.crash-after` | dies of SIGSEGV so many ms after every start, once it is ready |
//! | `standin.exit` * | exits with the status in it |
//! | `standin.exit0`, `standin.exit3` * | exits with that status |
//! | `standin.interrupt` * | sends itself SIGINT and dies of it |
//! | `standin.on-interrupt` | on SIGINT, while it is there, dies of it (`die`) or exits with the status in it |
//! | `standin.eat` * | takes as many MiB of memory as the file says, and keeps them |
//! | `standin.hang` | answers no query while it is there |
//! | `standin.ignore-signals` | ignores SIGINT, SIGTERM and SIGHUP while it is there |
//! | `standin.fork-setsid` * | leaves a silent child in a session of its own that ignores those |
//! | `standin.run` * | runs its content with /bin/sh; what that prints is in `standin.run.out` once it has ended |
//! | `standin.say` * | prints its content as console lines |
//!
//! `left4dead2/standin.started` is written at each start and holds the pid.
//!
//! `standin-srcds --query HOST:PORT` asks a server for its name with `A2S_INFO`, prints it and
//! exits 0; 1 when there is no answer within 3 s.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::setsid;

const GAME: &str = "left4dead2";
const DEFAULT_PORT: u16 = 27015;
const TV_PORT: u16 = 27020;
/// Files of commands run one another so deep.
const EXEC_DEPTH: u32 = 16;
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TICK_EVERY: Duration = Duration::from_secs(10);
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--query") => query_command(args.get(2)),
        Some("--stubborn-child") => stubborn_child(),
        _ => serve(&args),
    }
}

/// One console line; a reader that went away is not the game's concern.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn control(name: &str) -> PathBuf {
    Path::new(GAME).join(format!("standin.{name}"))
}

// ---- the server -------------------------------------------------------------------------------

fn serve(args: &[String]) -> ExitCode {
    // Blocked here, in every later thread too, and taken one by one in `obey_signals`.
    let signals = stop_signals();
    signals.thread_block().expect("block signals");

    print_surroundings(args);
    if let Err(problem) = check_surroundings() {
        say(&problem);
        // What the dynamic loader ends with.
        return ExitCode::from(if problem.contains("shared libraries") {
            127
        } else {
            1
        });
    }

    let mut engine = Engine::start(&engine_words(args));
    if control("crash-on-start").exists() {
        crash("");
    }
    let (udp, tcp) = match engine.bind() {
        Ok(sockets) => sockets,
        Err(problem) => {
            say(&problem);
            return ExitCode::FAILURE;
        }
    };

    let _ = fs::write(control("started"), format!("{}\n", std::process::id()));
    print_banner();
    say("Executing dedicated server config file server.cfg");
    // A map is loaded only now: server.cfg wins over the arguments.
    engine.exec("server.cfg", 0);
    let _tv = engine.bind_tv();
    let name = engine
        .hostname
        .unwrap_or_else(|| "Left 4 Dead 2".to_owned());
    thread::spawn(move || obey_signals(&signals));
    thread::spawn(move || answer_queries(&udp, &name));
    watch_controls(&tcp)
}

fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

fn print_surroundings(args: &[String]) {
    for (i, arg) in args.iter().enumerate() {
        say(&format!("argv[{i}]={arg}"));
    }
    let cwd = std::env::current_dir().unwrap_or_default();
    say(&format!("cwd={}", cwd.display()));
}

/// What the engine cannot start without.
fn check_surroundings() -> Result<(), String> {
    if !Path::new(GAME).join("gameinfo.txt").exists() {
        return Err(format!("Error: {GAME}/gameinfo.txt not found"));
    }
    // The engine loads its own libraries by their names.
    let path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    if !path.starts_with(".:bin") {
        return Err(
            "./srcds_linux: error while loading shared libraries: libtier0_srv.so: cannot open"
                .to_owned(),
        );
    }

    fs::read("/proc/cpuinfo")
        .map(|_| ())
        .map_err(|e| format!("Error: cannot read /proc/cpuinfo: {e}"))
}

// ---- its arguments, as the engine reads them --------------------------------------------------

/// The engine's buffer; no copy checks its end.
const LINE: usize = 2048;

/// The words that the engine finds in its joined arguments.
fn engine_words(args: &[String]) -> Vec<String> {
    let newer: String = args.iter().map(|arg| format!("\"{arg}\" ")).collect();
    let older: String = args.iter().map(|arg| format!("{arg} ")).collect();
    if newer.len() >= LINE {
        say("*** stack smashing detected ***: terminated");
        std::process::abort();
    }

    let (newer, older) = (
        words(&with_files(&newer, false)),
        words(&with_files(&older, true)),
    );

    if newer != older {
        say(&format!(
            "standin: the copies of the engine differ: {newer:?} {older:?}"
        ));
    }

    older
}

/// `@file` replaced by what is in that file: where a word begins with it, in the oldest copies
/// anywhere.
fn with_files(line: &str, anywhere: bool) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let begins = before
            .chars()
            .next_back()
            .is_none_or(|c| c.is_whitespace() || c == '"');
        if !anywhere && !begins {
            out.push('@');
            rest = &after[1..];
            continue;
        }

        let end = after.find([' ', '"']).unwrap_or(after.len());
        match fs::read_to_string(&after[1..end]) {
            Ok(text) => out.push_str(&format!("{} ", text.replace('\n', " "))),
            Err(_) => say(&format!(
                "Parameter file '{}' not found, skipping...",
                &after[1..end]
            )),
        }

        rest = after.get(end + 1..).unwrap_or_default();
    }

    out + rest
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match (c, is_quoted, &mut word) {
            ('"', true, _) => {
                words.extend(word.take().filter(|word| !word.is_empty()));
                is_quoted = false;
            }
            ('"', false, None) => {
                is_quoted = true;
                word = Some(String::new());
            }
            (c, false, None) if c.is_whitespace() => {}
            (c, false, Some(_)) if c.is_whitespace() => words.extend(word.take()),
            (c, _, word) => word.get_or_insert_default().push(c),
        }
    }

    words.extend(word);
    words
}

/// What the command line came to.
#[derive(Default)]
struct Engine {
    hostname: Option<String>,
    ip: Option<String>,
    port: Option<String>,
    has_tv: bool,
    tv_port: Option<u16>,
    is_strict: bool,
}

impl Engine {
    /// Options first, then the commands in their order; a later one wins.
    fn start(words: &[String]) -> Self {
        let option = |name: &str| {
            let at = words
                .iter()
                .position(|word| word.eq_ignore_ascii_case(name))?;
            words.get(at + 1).cloned()
        };

        let mut engine = Self {
            is_strict: words
                .iter()
                .any(|word| word.eq_ignore_ascii_case("-strictportbind")),
            ..Self::default()
        };

        for (at, word) in words.iter().enumerate() {
            if let Some(command) = word.strip_prefix('+') {
                let value = words
                    .get(at + 1)
                    .filter(|next| !next.starts_with(['+', '-']));
                engine.console(
                    &format!("{command} {}", value.map_or("", String::as_str)),
                    0,
                );
            }
        }

        engine.ip = option("-ip").or(engine.ip);
        engine.port = option("-port").or(engine.port);
        engine
    }

    /// A line of the console, which is several commands where it has a `;`. `depth`: of files that
    /// run files.
    fn console(&mut self, line: &str, depth: u32) {
        for command in line
            .split(';')
            .map(str::trim)
            .filter(|command| !command.is_empty())
        {
            let (name, value) = command
                .split_once(char::is_whitespace)
                .unwrap_or((command, ""));
            let value = value
                .split("//")
                .next()
                .unwrap_or_default()
                .trim()
                .trim_matches('"')
                .to_owned();
            match name.to_ascii_lowercase().as_str() {
                "hostname" => self.hostname = Some(value),
                "ip" => self.ip = Some(value),
                "hostport" => self.port = Some(value),
                "tv_enable" => self.has_tv = value != "0",
                "tv_port" => self.tv_port = value.parse().ok(),
                "exec" => self.exec(&value, depth + 1),
                // A byte order mark makes its line one of these, and so does each line of UTF-16.
                _ if !name.is_ascii() || name.contains('\0') => {
                    say(&format!("Unknown command \"{name}\""))
                }
                _ => {}
            }
        }
    }

    /// A file below cfg/, found and read as the game's user may.
    fn exec(&mut self, file: &str, depth: u32) {
        if depth > EXEC_DEPTH {
            say(&format!("standin: {file} runs itself"));
            std::process::abort();
        }

        match fs::read(Path::new(GAME).join("cfg").join(file)) {
            Ok(bytes) => {
                say(&format!("execing {file}"));
                let text = String::from_utf8_lossy(&bytes).into_owned();
                text.lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .for_each(|line| self.console(line, depth));
            }
            Err(_) => say(&format!("exec: couldn't exec {file}")),
        }
    }

    /// SourceTV's port, UDP. One that is taken leaves it without SourceTV.
    fn bind_tv(&self) -> Option<UdpSocket> {
        let port = self.tv_port.unwrap_or(TV_PORT);
        let bound = self
            .has_tv
            .then(|| UdpSocket::bind((self.ip.as_deref().unwrap_or("0.0.0.0"), port)))?;
        match &bound {
            Ok(_) => say(&format!("SourceTV on port {port}")),
            Err(e) => say(&format!("WARNING: UDP_OpenSocket: port {port}: bind: {e}")),
        }

        bound.ok()
    }

    /// The game's UDP and RCON's TCP port; with `-strictportbind` that one port or none.
    fn bind(&self) -> Result<(UdpSocket, TcpListener), String> {
        let ip = self.ip.as_deref().unwrap_or("0.0.0.0");
        let first: u16 = match &self.port {
            Some(text) => text
                .parse()
                .map_err(|_| format!("Error: bad port {text}"))?,
            None => DEFAULT_PORT,
        };

        let last = if self.is_strict {
            first
        } else {
            first.saturating_add(10)
        };

        for port in first..=last {
            let sockets = UdpSocket::bind((ip, port))
                .and_then(|udp| Ok((udp, TcpListener::bind((ip, port))?)));
            match sockets {
                Ok(sockets) => {
                    say(&format!(
                        "Network: IP {ip}, mode MP, dedicated Yes, ports {port} SV"
                    ));
                    return Ok(sockets);
                }
                Err(e) => say(&format!("WARNING: UDP_OpenSocket: port {port}: bind: {e}")),
            }
        }

        Err(format!(
            "Couldn't allocate dedicated server IP {ip} port {first}."
        ))
    }
}

fn print_banner() {
    say("Setting breakpad minidump AppID = 222860");
    say("Game.dll loaded for \"Left 4 Dead 2\"");
    say("Server is hibernating");
    let home = std::env::var_os("HOME").unwrap_or_default();
    let client = Path::new(&home).join(".steam/sdk32/steamclient.so");
    if client.exists() {
        say("Connection to Steam servers successful.");
        say("VAC secure mode is activated.");
    } else {
        let path = client.display();
        say(&format!(
            "dlopen failed trying to load: {path} with error: cannot open shared object file"
        ));
        say("[S_API] SteamAPI_Init(): Failed to load module; \
             Could not establish connection to Steam servers.");
    }
}

fn obey_signals(signals: &SigSet) {
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

/// Prints a tick each 10 s and obeys the control files, until one of them ends it.
fn watch_controls(_rcon: &TcpListener) -> ExitCode {
    let mut ticks = 0_u64;
    let mut next_tick = Instant::now() + TICK_EVERY;
    let begun = Instant::now();
    let crash_after = fs::read_to_string(control("crash-after"))
        .ok()
        .and_then(|ms| ms.trim().parse().ok());
    loop {
        // As a plugin does that loads with the first map ("server crashes a few seconds after
        // start, systemd says running": SourceMod's and MetaMod's issue trackers have many).
        if crash_after.is_some_and(|ms| begun.elapsed() >= Duration::from_millis(ms)) {
            say("L 11/28/2026: [SM] Unable to load plugin \"l4dtoolz.smx\": corrupted state");
            crash("");
        }

        if let Some(how) = take("crash") {
            crash(&how);
        }
        if take("exit0").is_some() {
            return ExitCode::SUCCESS;
        }
        if take("exit3").is_some() {
            return ExitCode::from(3);
        }
        if let Some(status) = take("exit") {
            return ExitCode::from(status.trim().parse().unwrap_or(1));
        }
        if take("interrupt").is_some() {
            let _ = stop_signals().thread_unblock();
            let _ = raise(Signal::SIGINT);
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
        if Instant::now() >= next_tick {
            ticks += 1;
            next_tick += TICK_EVERY;
            say(&format!("tick {ticks}"));
        }

        thread::sleep(LOOK_EVERY);
    }
}

/// A control file's content; the file is gone afterwards.
fn take(name: &str) -> Option<String> {
    let path = control(name);
    let content = fs::read(&path).ok()?;
    let _ = fs::remove_file(&path);
    Some(String::from_utf8_lossy(&content).into_owned())
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

fn crash(how: &str) -> ! {
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
        say(&format!("standin: no stubborn child: {e}"));
    }
}

fn stubborn_child() -> ExitCode {
    stop_signals().thread_block().expect("block signals");
    let _ = setsid();
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}

// ---- A2S, https://developer.valvesoftware.com/wiki/Server_queries -----------------------------

const SIMPLE: &[u8] = b"\xff\xff\xff\xff";
const INFO_REQUEST: &[u8] = b"\xff\xff\xff\xffTSource Engine Query\0";
const CHALLENGE: &[u8] = b"\x4c\x34\x44\x32";
const APP_ID: u16 = 550;

fn answer_queries(socket: &UdpSocket, name: &str) {
    let mut packet = [0_u8; 1400];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut packet) else {
            continue;
        };
        if control("hang").exists() {
            continue;
        }
        let port = socket.local_addr().map_or(DEFAULT_PORT, |a| a.port());
        if let Some(reply) = answer(&packet[..len], name, port) {
            let _ = socket.send_to(&reply, peer);
        }
    }
}

fn answer(packet: &[u8], name: &str, port: u16) -> Option<Vec<u8>> {
    let challenge = match packet.strip_prefix(INFO_REQUEST) {
        Some(rest) => rest,
        None => packet.strip_prefix(SIMPLE)?.strip_prefix(b"U")?,
    };

    let kind = packet[SIMPLE.len()];
    let mut reply = SIMPLE.to_vec();
    if challenge != CHALLENGE {
        reply.push(b'A');
        reply.extend_from_slice(CHALLENGE);
    } else if kind == b'U' {
        reply.extend_from_slice(b"D\0");
    } else {
        reply.extend_from_slice(b"I\x11");
        for text in [name, "c1m1_hotel", GAME, "Left 4 Dead 2"] {
            reply.extend_from_slice(text.as_bytes());
            reply.push(0);
        }

        reply.extend_from_slice(&APP_ID.to_le_bytes());
        // No players, of 8, no bots; dedicated, Linux, public, secured; version; port follows.
        reply.extend_from_slice(b"\0\x08\0dl\0\x012.2.4.3\0\x80");
        reply.extend_from_slice(&port.to_le_bytes());
    }

    Some(reply)
}

fn query_command(address: Option<&String>) -> ExitCode {
    let Some(address) = address else {
        eprintln!("standin-srcds --query HOST:PORT");
        return ExitCode::from(2);
    };

    match query(address) {
        Ok(name) => {
            say(&name);
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{address}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn query(address: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(QUERY_TIMEOUT))?;
    let mut reply = ask(&socket, INFO_REQUEST)?;
    if let Some(challenge) = reply.strip_prefix(b"A") {
        reply = ask(&socket, &[INFO_REQUEST, challenge].concat())?;
    }
    reply
        .strip_prefix(b"I")
        .and_then(|info| info.get(1..)?.split(|byte| *byte == 0).next())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .ok_or_else(|| io::Error::other("no A2S_INFO in the answer"))
}

/// Sends a packet; the answer comes without the four bytes that every one begins with.
fn ask(socket: &UdpSocket, packet: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(packet)?;
    let mut reply = [0_u8; 1400];
    let len = socket.recv(&mut reply)?;
    let body = reply[..len].strip_prefix(SIMPLE);
    body.map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::other("not an A2S answer"))
}
