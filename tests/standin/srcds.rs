//! A stand-in for Left 4 Dead 2's dedicated server, for tests and the demo: never packaged.
//!
//! It takes the game's arguments, prints its console, owns its UDP and TCP port, answers A2S
//! queries and RCON, and ends on SIGINT. As with the game, the working directory must hold
//! `left4dead2/`, LD_LIBRARY_PATH must begin with `.:bin`, `/proc/cpuinfo` must be readable, and
//! without `$HOME/.steam/sdk32/steamclient.so` it never reaches Steam.
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
//! # Queries and console
//!
//! Where the public record differs from what one would like, it is as the record has it:
//!
//! - Each A2S query wants a challenge, `A2S_INFO` too. Challenges change every 30 s. Rules are
//!   longer than a packet, and the parts come in the wrong order. At most `sv_max_queries_sec` (3)
//!   packets a second of one address are read, on average over `sv_max_queries_window` (30) s, those
//!   that ask for a challenge among them: after 90 it is silent until the window ends.
//! - RCON listens where `+ip` says; without it on 127.0.1.1, so that 127.0.0.1 is refused. Without
//!   a password it closes each connection, and after `sv_rcon_minfailures` (5) wrong ones in
//!   `sv_rcon_minfailuretime` (30) s, or `sv_rcon_maxfailures` (10) at all, those of that address,
//!   loopback or not, whose queries are not answered either; for ever, unless `sv_rcon_banpenalty`
//!   says for how many minutes.
//! - Each time that `rcon_password` is written, by server.cfg after a change of map for instance,
//!   authenticated connections are closed, and the command that did it is not answered.
//! - An answer is cut into bodies of 4,086 bytes. With `log on` it ends with the log's lines about
//!   the command itself.
//! - One thread does everything: during a change of map (2 s) nothing is answered; what was asked
//!   meanwhile is answered late. A change of map runs server.cfg again.
//! - `status` has bots as rows and does not count them. `standin_status csgo` prints it as other
//!   games of the engine do. A name is printed as it is.
//! - Lines of the log need `log on`; `sv_logecho 0` keeps them from the console.
//!   `standin_long_log 1` names character, health and place in them, as some versions do.
//! - When the last player has left, it hibernates after `sv_hibernate_postgame_delay` (5) s, and a
//!   lobby's reservation ends. It prints `tick N` every 2 s, and every 10 s while it hibernates.
//!
//! # Control files
//!
//! Files that appear in `left4dead2/` make it misbehave, or somebody play (looked for within 100 ms;
//! those marked * are removed when obeyed, so that each works once: write another name and rename,
//! and wait until the last one is gone):
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
//! | `standin.hang` | answers no query and no RCON while it is there |
//! | `standin.only-on` | `crash-on-start`, `crash-after` and `hang` hold for the games on these ports alone |
//! | `standin.silent-insecure` | answers no query while it is there, if started with `-insecure` or `-nomaster` |
//! | `standin.silent-loopback` | answers no query of a loopback address while it is there, as some hosts have it |
//! | `standin.map-load-ms` | how long a map takes to load, the first one too |
//! | `standin.join` * | a player comes for each line: `NAME`, `NAME⇥STEAMID`, `NAME⇥STEAMID⇥SCORE`, with a tab between; any bytes are a name; `STEAM_ID_LAN` and `BOT` are ids |
//! | `standin.players` | who is there from the start on, as in `standin.join` |
//! | `standin.talk` * | the player says it, for each line `NAME: TEXT` |
//! | `standin.leave` * | the player leaves, for each line `NAME` or `NAME⇥REASON` |
//! | `standin.lobby` * | a lobby reserves it: `COOKIE [MAP [MODE]]`; 4 players may come then, or 8 to `versus` |
//! | `standin.ignore-signals` | ignores SIGINT, SIGTERM and SIGHUP while it is there |
//! | `standin.fork-setsid` * | leaves a silent child in a session of its own that ignores those |
//! | `standin.run` * | runs its content with /bin/sh; what that prints is in `standin.run.out` once it has ended |
//! | `standin.say` * | prints its content as console lines |
//!
//! `left4dead2/standin.started` is written at each start and holds the pid. The version that it
//! answers with is the one in `left4dead2/steam.inf`; `standin.files` lists what belongs to it.
//!
//! `standin-srcds --query HOST:PORT` asks a server for its name with `A2S_INFO`, prints it and
//! exits 0; 1 when there is no answer within 3 s. `standin-srcds --probe FILE PORT...` asks many all
//! the time (`probe.rs`).
#![forbid(unsafe_code)]

#[path = "srcds/arguments.rs"]
mod arguments;
#[path = "srcds/ask.rs"]
mod ask;
#[path = "srcds/bans.rs"]
mod bans;
#[path = "srcds/build.rs"]
mod build;
#[path = "srcds/console.rs"]
mod console;
#[path = "srcds/controls.rs"]
mod controls;
#[path = "srcds/cvars.rs"]
mod cvars;
#[path = "srcds/game.rs"]
mod game;
#[path = "srcds/maps.rs"]
mod maps;
#[path = "srcds/players.rs"]
mod players;
#[path = "srcds/ports.rs"]
mod ports;
#[path = "srcds/probe.rs"]
mod probe;
#[path = "srcds/query.rs"]
mod query;
#[path = "srcds/rcon.rs"]
mod rcon;
#[path = "srcds/status.rs"]
mod status;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use controls::control;
use game::{Game, Shared};

pub const GAME: &str = "left4dead2";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--query") => ask::command(args.get(2)),
        Some("--probe") => probe::command(&args[2..]),
        Some("--stubborn-child") => controls::stubborn_child(),
        _ => serve(&args),
    }
}

/// One console line, of any bytes; a reader that went away is not the game's concern.
pub fn say(line: impl AsRef<[u8]>) {
    let mut out = io::stdout().lock();
    let line = [line.as_ref(), b"\n"].concat();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

fn serve(args: &[String]) -> ExitCode {
    // Blocked here, in every later thread too, and taken one by one in `obey_signals`.
    let signals = controls::stop_signals();
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

    let mut game = Game::new(arguments::engine_words(args));
    game.run_arguments();
    if controls::has_fault("crash-on-start") {
        controls::crash("");
    }
    let (udp, tcp) = match ports::bind(&mut game) {
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
    game.exec("server.cfg", 0);
    let _tv = ports::bind_tv(&game);
    game.start_first_map();

    let shared = Shared::new(game);
    let (queries, commands) = (shared.clone(), shared.clone());
    thread::spawn(move || controls::obey_signals(&signals));
    thread::spawn(move || query::serve(&udp, &queries));
    thread::spawn(move || rcon::serve(&tcp, &commands));
    controls::watch(&shared)
}

fn print_surroundings(args: &[String]) {
    for (i, arg) in args.iter().enumerate() {
        say(format!("argv[{i}]={arg}"));
    }
    let cwd = std::env::current_dir().unwrap_or_default();
    say(format!("cwd={}", cwd.display()));
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
        say(format!(
            "dlopen failed trying to load: {path} with error: cannot open shared object file"
        ));
        say("[S_API] SteamAPI_Init(): Failed to load module; \
             Could not establish connection to Steam servers.");
    }
}
