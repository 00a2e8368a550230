//! A stand-in for steamcmd, for tests and the demo: never packaged.
//!
//! It takes steamcmd's arguments, prints what steamcmd prints and lays down a small Left 4 Dead 2
//! dedicated server: `srcds_linux`, the stand-in for the game, and beside it a `srcds_run` that has
//! the real one's ways, so that tests can see that nothing runs it. Without a terminal on stdout it
//! stalls as the real one does: nothing is printed until 2 s after its work is done.
//!
//! `standin.conf` beside the executable (or the file `STANDIN_STEAMCMD_CONF` names) holds `key=value`
//! lines that make it slow, loud or faulty:
//!
//! | key | what it does |
//! |---|---|
//! | `lines=N`, `rate=N` | N more lines, `line 1`…; N of them per second (0: as fast as it goes) |
//! | `seconds=N` | the download takes N s, with moving progress |
//! | `cr_progress=N` | N progress updates that end in CR alone |
//! | `say=PATH` | prints what stands in that file, as it is |
//! | `longline=BYTES`, `badutf8=1` | a line that long; a line with bytes that are no UTF-8 |
//! | `state=0x602`, `state_times=N` | ends in that state, exit 8; only the first N times |
//! | `missing_configuration=1` | does nothing, exit 0, until primed by a run without `+app_update` |
//! | `invalid_platform=1` | the linux pass fails unless the windows pass came before |
//! | `login_fail=1` | exit 5 |
//! | `acf=partial` | success that the manifest denies: not all bytes downloaded |
//! | `buildid=N` | the build it installs |
//! | `exit=N` | exits with N whatever happened |
//! | `children=N` | N children while it works |
//! | `respawn=1` | each of them starts another in its place about once a second, and ends: always N, never the same |
//! | `fork=setsid` | leaves a child in its own session that ignores SIGTERM, SIGINT and SIGHUP |
//! | `fork=double` | leaves such a child whose parent has ended, so that it is nobody's |
//! | `hold_pipe=1` | leaves such a child that keeps stdout open, before it hangs or at its end |
//! | `ignore_term=1` | ignores the three itself, and so do its children |
//! | `run=COMMAND` | runs it with /bin/sh before anything else, its output on ours |
//! | `stuck=PATH` | opens PATH, once it has printed its lines, and tries to read it (see `stuck.rs`) |
//! | `hang=1` | never ends, once it has printed its lines |
//! | `record=1` | appends every line it prints to `standin-printed.log` |
//!
//! What it has to remember (`standin.primed`, `standin.failures`) and the record lie beside the
//! configuration.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::setsid;

const APP: &str = "222860";
const TOTAL_BYTES: u64 = 8_618_418_181;
const STALL: Duration = Duration::from_secs(2);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
const LOGIN_FAILED: u8 = 5;
const INSTALL_FAILED: u8 = 8;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--child") => child(&args[2..]),
        Some("--stubborn-child") => stubborn_child(),
        Some("--double-fork") => return double_fork(),
        _ => {}
    }
    let conf = Conf::read(&args[0]);
    if conf.has("ignore_term") {
        block_stop_signals();
    }
    let mut printer = Printer::new(&conf);
    if let Some(command) = conf.text("run") {
        run_command(command);
    }
    let code = run(&conf, &Order::parse(&args[1..]), &mut printer);
    printer.finish();
    hold_pipe(&conf);
    let code = conf.number("exit").map_or(code, |n| u8::try_from(n).unwrap_or(u8::MAX));
    ExitCode::from(code)
}

// ---- what is asked, and how to misbehave ------------------------------------------------------

/// The `+command`s of the command line that matter here.
#[derive(Default)]
struct Order {
    windows: bool,
    install_dir: Option<PathBuf>,
    login: bool,
    update: bool,
}

impl Order {
    fn parse(args: &[String]) -> Self {
        let mut order = Self::default();
        for (i, arg) in args.iter().enumerate() {
            let value = args.get(i + 1);
            match arg.as_str() {
                "+@sSteamCmdForcePlatformType" => order.windows = value.is_some_and(|platform| platform == "windows"),
                "+force_install_dir" => order.install_dir = value.map(PathBuf::from),
                "+login" => order.login = true,
                "+app_update" => order.update = value.is_some_and(|app| app == APP),
                _ => {}
            }
        }
        order
    }
}

struct Conf {
    dir: PathBuf,
    values: HashMap<String, String>,
}

impl Conf {
    fn read(argv0: &str) -> Self {
        let file = std::env::var_os("STANDIN_STEAMCMD_CONF").map_or_else(
            || {
                let me = if argv0.contains('/') {
                    PathBuf::from(argv0)
                } else {
                    std::env::current_exe().unwrap_or_default()
                };
                me.with_file_name("standin.conf")
            },
            PathBuf::from,
        );
        let text = fs::read_to_string(&file).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let values = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect();
        let dir = file.parent().unwrap_or(Path::new(".")).to_owned();
        Self { dir, values }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    fn has(&self, key: &str) -> bool {
        self.text(key).is_some_and(|value| value != "0")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

// ---- output -----------------------------------------------------------------------------------

/// stdout: at once on a terminal, all at the end elsewhere.
struct Printer {
    held: Option<Vec<u8>>,
    record: Option<File>,
}

impl Printer {
    fn new(conf: &Conf) -> Self {
        let held = (!io::stdout().is_terminal()).then(Vec::new);
        let record = conf.has("record").then(|| {
            File::options().create(true).append(true).open(conf.beside("standin-printed.log")).expect("the record")
        });
        Self { held, record }
    }

    fn line(&mut self, text: &str) {
        self.bytes(text.as_bytes(), b"\n");
    }

    fn bytes(&mut self, line: &[u8], end: &[u8]) {
        if let Some(record) = &mut self.record {
            let _ = record.write_all(&[line, b"\n"].concat());
        }
        let whole = [line, end].concat();
        match &mut self.held {
            Some(held) => held.extend_from_slice(&whole),
            None => put(&whole),
        }
    }

    fn finish(&mut self) {
        if let Some(held) = self.held.take() {
            thread::sleep(STALL);
            put(&held);
        }
    }
}

/// A reader that went away does not stop steamcmd.
fn put(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

// ---- the run ----------------------------------------------------------------------------------

fn run(conf: &Conf, order: &Order, out: &mut Printer) -> u8 {
    out.line("Redirecting stderr to 'stderr.txt'");
    out.line("[----] Verifying installation...");
    out.line("-- type 'quit' to exit --");
    out.line("Loading Steam API...OK");
    if order.login {
        if conf.has("login_fail") {
            out.line("Connecting anonymously to Steam Public...FAILED (No Connection)");
            return LOGIN_FAILED;
        }
        out.line("Connecting anonymously to Steam Public...OK");
        out.line("Waiting for client config...OK");
        out.line("Waiting for user info...OK");
    }
    if !order.update {
        let _ = fs::write(conf.beside("standin.primed"), "");
        return 0;
    }
    let mut children = spawn_children(conf);
    let code = update(conf, order, out);
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
    code
}

fn update(conf: &Conf, order: &Order, out: &mut Printer) -> u8 {
    let Some(dir) = &order.install_dir else {
        out.line("Please use force_install_dir before logon!");
        return INSTALL_FAILED;
    };
    if conf.has("missing_configuration") && !conf.beside("standin.primed").exists() {
        out.line(&format!("ERROR! Failed to install app '{APP}' (Missing configuration)"));
        return 0;
    }
    let after_windows = dir.join("steamapps/standin.windows-pass");
    if conf.has("invalid_platform") && !order.windows && !after_windows.exists() {
        out.line(&format!("ERROR! Failed to install app '{APP}' (Invalid platform)"));
        return INSTALL_FAILED;
    }
    download(conf, out);
    print_extras(conf, out);
    if let Some(path) = conf.text("stuck") {
        out.line(&format!("opening {path}"));
        out.line(&format!("{path}: {:?}", fs::read(path).map(|bytes| bytes.len())));
    }
    if conf.has("hang") {
        hold_pipe(conf);
        hang();
    }
    let laid = match failing_state(conf) {
        Some(state) => {
            out.line(&format!("Error! App '{APP}' state is {state} after update job."));
            leave_staging(dir).map(|()| INSTALL_FAILED)
        }
        None => lay_down(conf, dir, order.windows).map(|()| {
            out.line(&format!("Success! App '{APP}' fully installed."));
            0
        }),
    };
    laid.unwrap_or_else(|e| {
        out.line(&format!("Error! App '{APP}' state is 0x606 after update job. ({e})"));
        INSTALL_FAILED
    })
}

fn download(conf: &Conf, out: &mut Printer) {
    out.line(" Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)");
    let whole = conf.number("seconds").unwrap_or(0) * 1000;
    let start = Instant::now();
    while let Some(part) = (ms_since(start) * 10_000).checked_div(whole).filter(|part| *part < 10_000) {
        out.line(&progress("0x61) downloading", part));
        thread::sleep(PROGRESS_EVERY);
    }
    if whole == 0 {
        out.line(&progress("0x61) downloading", 4532));
    }
    out.line(&progress("0x61) downloading", 10_000));
    let updates = conf.number("cr_progress").unwrap_or(0);
    for i in 1..=updates {
        out.bytes(progress("0x81) verifying update", 10_000 * i / updates).as_bytes(), b"\r");
    }
    out.line(&progress("0x101) committing", 10_000));
}

fn ms_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// One progress line; the part is in hundredths of a percent.
fn progress(state: &str, part: u64) -> String {
    let done = TOTAL_BYTES / 10_000 * part + TOTAL_BYTES % 10_000 * part / 10_000;
    format!(" Update state ({state}, progress: {}.{:02} ({done} / {TOTAL_BYTES})", part / 100, part % 100)
}

fn print_extras(conf: &Conf, out: &mut Printer) {
    let rate = conf.number("rate").unwrap_or(0);
    let start = Instant::now();
    for i in 1..=conf.number("lines").unwrap_or(0) {
        if let Some(due) = Duration::from_secs(i).checked_div(u32::try_from(rate).unwrap_or(0)) {
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        out.line(&format!("line {i}"));
    }
    if let Some(said) = conf.text("say") {
        out.bytes(&fs::read(said).unwrap_or_default(), b"");
    }
    if let Some(len) = conf.number("longline").and_then(|n| usize::try_from(n).ok()) {
        out.bytes(&vec![b'x'; len], b"\n");
    }
    if conf.has("badutf8") {
        out.bytes(b"bad \xff\xfe utf8 \xc3(", b"\n");
    }
}

/// The state to fail with, if it is to fail this time.
fn failing_state(conf: &Conf) -> Option<&str> {
    let state = conf.text("state")?;
    let counter = conf.beside("standin.failures");
    let failed: u64 = fs::read_to_string(&counter).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    if failed >= conf.number("state_times").unwrap_or(u64::MAX) {
        return None;
    }
    let _ = fs::write(counter, format!("{}\n", failed + 1));
    Some(state)
}

// ---- what it lays down ------------------------------------------------------------------------

/// The stand-in for the game, where a lab puts it.
const GAME_STANDIN: &str = "/usr/local/lib/left4me-standin/srcds";

/// A script with the ways of the real one, which is not ours to copy: it splits and globs its
/// arguments again, has options that run commands, restarts by itself, and ends itself with SIGINT.
const SRCDS_RUN: &str = r#"#!/bin/sh
export LD_LIBRARY_PATH=".:bin:$LD_LIBRARY_PATH"
cd "`dirname \"$0\"`"
PARAMS=$* HL=./srcds_linux GAME= MAP= RESTART=yes UPDATE= STEAM_DIR= STEAMCMD_SCRIPT= DEBUG= GDB=gdb
fail() { echo "$1"; trap - 2; kill -2 $$; }
init() {
    while test $# -gt 0; do
        case "$1" in
            -game) GAME=$2; shift ;;
            +map) MAP=$2; shift ;;
            -binary) HL=$2; shift ;;
            -gdb) GDB=$2; shift ;;
            -debug) DEBUG=1 ;;
            -norestart) RESTART= ;;
            -autoupdate) UPDATE=yes RESTART=yes ;;
            -steam_dir) STEAM_DIR=$2; shift ;;
            -steamcmd_script) STEAMCMD_SCRIPT=$2; shift ;;
            -ignoresigint) trap "" 2 ;;
        esac
        shift
    done
    test -n "$MAP" || PARAMS="$PARAMS +map c1m1_hotel"
    test -x "$HL" || fail "ERROR: Source Engine binary '$HL' not found, exiting"
    test -z "$DEBUG" || $GDB -v
}
update() {
    test -n "$UPDATE" && test -d "$STEAM_DIR" || return 0
    OLDWD=$(pwd)
    eval "cd $STEAM_DIR"
    eval "./steamcmd.sh +runscript $STEAMCMD_SCRIPT +quit"
    eval "cd $OLDWD"
}
init $*
if test -n "$RESTART"; then
    while true; do
        update
        $HL $PARAMS && test -z "$UPDATE" && break
        echo "Server restart in 1 seconds"
        sleep 1
    done
    fail "Server Quit"
fi
update
exec $HL $PARAMS
"#;

/// For tests without a lab, where the game is not started.
const NO_GAME: &str = "#!/bin/sh\necho 'the stand-in for the game is not here' >&2\nexit 1\n";

/// What an update that broke off leaves behind.
fn leave_staging(dir: &Path) -> io::Result<()> {
    let staging = dir.join("steamapps/downloading").join(APP);
    fs::create_dir_all(&staging)?;
    fs::write(staging.join("partial"), "half of it\n")
}

fn lay_down(conf: &Conf, dir: &Path, windows: bool) -> io::Result<()> {
    let game = dir.join("left4dead2");
    for folder in ["cfg", "maps", "addons"] {
        fs::create_dir_all(game.join(folder))?;
    }
    fs::create_dir_all(dir.join("steamapps"))?;
    fs::write(game.join("gameinfo.txt"), "\"GameInfo\"\n{\n\tgame\t\"Left 4 Dead 2\"\n}\n")?;
    fs::write(game.join("maps/c1m1_hotel.bsp"), "VBSP\n")?;
    if windows {
        return fs::write(dir.join("steamapps/standin.windows-pass"), "");
    }
    let game = fs::read(GAME_STANDIN).unwrap_or_else(|_| NO_GAME.into());
    for (name, content) in [("srcds_run", SRCDS_RUN.as_bytes()), ("srcds_linux", &game)] {
        let path = dir.join(name);
        // A new file: the old one may be running.
        let _ = fs::remove_file(&path);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let _ = fs::remove_dir_all(dir.join("steamapps/downloading"));
    fs::write(dir.join(format!("steamapps/appmanifest_{APP}.acf")), manifest(conf))
}

fn manifest(conf: &Conf) -> String {
    let partial = conf.text("acf") == Some("partial");
    let (flags, downloaded) = if partial { (1026, TOTAL_BYTES / 2) } else { (4, TOTAL_BYTES) };
    let buildid = conf.number("buildid").unwrap_or(14_245_183);
    let values = [
        ("appid", APP.to_owned()),
        ("universe", "1".to_owned()),
        ("name", "Left 4 Dead 2 Dedicated Server".to_owned()),
        ("StateFlags", flags.to_string()),
        ("installdir", "Left 4 Dead 2 Dedicated Server".to_owned()),
        ("SizeOnDisk", TOTAL_BYTES.to_string()),
        ("buildid", buildid.to_string()),
        ("BytesToDownload", TOTAL_BYTES.to_string()),
        ("BytesDownloaded", downloaded.to_string()),
        ("BytesToStage", TOTAL_BYTES.to_string()),
        ("BytesStaged", downloaded.to_string()),
    ];
    let lines = values.map(|(key, value)| format!("\t\"{key}\"\t\t\"{value}\"\n"));
    format!("\"AppState\"\n{{\n{}}}\n", lines.concat())
}

// ---- children ---------------------------------------------------------------------------------

/// The children that end with the work, unless others came in their place; the stubborn one is meant to be left behind.
fn spawn_children(conf: &Conf) -> Vec<Child> {
    match conf.text("fork") {
        Some("setsid") => drop(spawn_self(&["--stubborn-child"], Stdio::null())),
        Some("double") => drop(spawn_self(&["--double-fork"], Stdio::null()).wait()),
        _ => {}
    }
    let mut role = vec!["--child"];
    role.extend(["ignore_term", "respawn"].into_iter().filter(|habit| conf.has(habit)));
    (0..conf.number("children").unwrap_or(0)).map(|_| spawn_self(&role, Stdio::null())).collect()
}

fn hold_pipe(conf: &Conf) {
    if conf.has("hold_pipe") {
        drop(spawn_self(&["--stubborn-child"], Stdio::inherit()));
    }
}

#[expect(clippy::disallowed_methods, reason = "it plays a foreign program")]
fn spawn_self(role: &[&str], stdout: Stdio) -> Child {
    let me = std::env::current_exe().expect("own path");
    let mut command = Command::new(me);
    command.args(role).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    command.spawn().expect("a child")
}

/// What a taken-over steamcmd does.
#[expect(clippy::disallowed_methods, reason = "it plays a foreign program")]
fn run_command(command: &str) {
    let status = Command::new("/bin/sh").args(["-c", command]).stdin(Stdio::null()).status();
    put(format!("standin: run: {status:?}\n").as_bytes());
}

fn child(habits: &[String]) -> ! {
    let has = |habit| habits.iter().any(|word| word == habit);
    if has("ignore_term") {
        block_stop_signals();
    }
    if !has("respawn") {
        sleep_for_ever()
    }
    // Not all of them at once.
    thread::sleep(Duration::from_millis(500 + u64::from(std::process::id()) % 1000));
    let role: Vec<&str> = ["--child"].into_iter().chain(habits.iter().map(String::as_str)).collect();
    drop(spawn_self(&role, Stdio::null()));
    std::process::exit(0)
}

fn double_fork() -> ExitCode {
    let _ = setsid();
    drop(spawn_self(&["--stubborn-child"], Stdio::null()));
    ExitCode::SUCCESS
}

fn stubborn_child() -> ! {
    block_stop_signals();
    let _ = setsid();
    sleep_for_ever()
}

/// A blocked signal is as good as an ignored one, and needs no handler.
fn block_stop_signals() {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().expect("block signals");
}

/// Children that found a successor have ended, and are to be gone.
fn hang() -> ! {
    loop {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
        thread::sleep(Duration::from_millis(100));
    }
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
