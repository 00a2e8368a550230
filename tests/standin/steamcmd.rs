//! A stand-in for steamcmd, for tests and the demo: never packaged.
//!
//! It takes steamcmd's arguments, prints what steamcmd prints and lays down a small Left 4 Dead 2
//! dedicated server: `srcds_linux`, the stand-in for the game, and beside it a `srcds_run` that has
//! the real one's ways, so that tests can see that nothing runs it. Without a terminal on stdout it
//! stalls as the real one does: nothing is printed until 2 s after its work is done.
//!
//! `standin.conf` beside the executable (or the file `STANDIN_STEAMCMD_CONF` names) holds
//! `key=value` lines that make it slow, loud or faulty:
//!
//! | key | what it does |
//! |---|---|
//! | `lines=N`, `rate=N` | N more lines, `line 1`…; N of them per second (0: as fast as it goes) |
//! | `seconds=N` | the download takes N s, with moving progress |
//! | `cr_progress=N` | N progress updates that end in CR alone |
//! | `say=PATH` | prints what stands in that file, as it is |
//! | `longline=BYTES`, `badutf8=1` | a line that long; a line with bytes that are no UTF-8 |
//! | `missing_configuration=1` | does nothing, exit 0, until primed by a run without `+app_update` |
//! | `invalid_platform=1` | the linux pass fails unless the windows pass came before |
//! | `acf=partial` | success that the manifest denies: not all bytes downloaded |
//! | `depots=windows` | success, and the depot of the Linux server is not in the manifest |
//! | `missing=bin/engine_srv.so` | success, and that file is not there |
//! | `old_manifest=1` | says `fully installed` and leaves files and manifest of before |
//! | `up_to_date=1` | says `already up to date` and leaves them, which is its right |
//! | `self_update=1` | updates itself first, once: CR progress, then starts again as exit 42 makes its script do |
//! | `silent_work=N` | N s without a word, in which the download grows |
//! | `buildid=N` | the build it installs |
//! | `files=MIB` | the game has so many MiB more, in files of which a quarter changes from build to build; what changes is staged first |
//! | `rewrite=1` | the files that are the same are downloaded, too, and have a new time |
//! | `commit_ms=N` | what was staged is moved into place file by file, one in N ms |
//! | `hang_at=commit` | never ends, with half of them in place |
//! | `game=FAULT` | the game of this build has a fault: `crash-on-start`, `crash-after:MS`, `hang`; with `@PORT,PORT` on these ports alone |
//! | `available=N` | the build that app info names; by default the one it installs if that is set, else a newer one each time |
//! | `info=old` | the first answer of app info is an old one; by default it is empty |
//! | `info=lone`, `info=broken`, `info=nothing` | the second answer does not come, breaks off; neither comes |
//! | `info=no_branch` | app info without the public branch |
//! | `info=long` | app info of almost a megabyte |
//! | `info=hang` | app info never comes |
//! | `exit=N` | exits with N whatever happened |
//! | `children=N` | N children while it works |
//! | `respawn=1` | each of them starts another in its place about once a second, and ends: always N, never the same |
//! | `fork=setsid` | leaves a child in its own session that ignores SIGTERM, SIGINT and SIGHUP |
//! | `fork=double` | leaves such a child whose parent has ended, so that PID 1 adopts it |
//! | `hold_pipe=1` | leaves such a child that keeps stdout open, before it hangs or at its end |
//! | `ignore_term=1` | ignores the three itself, and so do its children |
//! | `run=COMMAND` | runs it with /bin/sh before anything else, its output on ours |
//! | `crash=1` | a segmentation fault at the end, whatever came before (exit code 139) |
//! | `stuck=PATH` | opens PATH, once it has printed its lines, and tries to read it (see `stuck.rs`) |
//! | `hang=1` | never ends, once it has printed its lines |
//! | `repeat=1` | never ends, and always prints the same progress |
//! | `prompt=1` | sits at its prompt until its input ends |
//! | `record=1` | appends every line it prints to `standin-printed.log` |
//!
//! App info comes among other lines, in colours. How it fails in words is told in `steamcmd_words.rs`. A login with a name needs what a login by
//! hand has left in `$HOME/Steam/config/config.vdf`; without that it asks for the password.
//!
//! What it has to remember (`standin.primed`, `standin.updated`, `standin.failures`) and the record
//! lie beside the configuration. A windows pass takes the Linux server's files away, as the real
//! one.
#![forbid(unsafe_code)]

#[path = "steamcmd_info.rs"]
mod info;
#[path = "steamcmd_tree.rs"]
mod tree;
#[path = "steamcmd_words.rs"]
mod words;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::setsid;

const APP: &str = "222860";
const TOTAL_BYTES: u64 = 8_618_418_181;
const STALL: Duration = Duration::from_secs(2);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
const INSTALL_FAILED: u8 = 8;

/// The build that it installs if nothing else is set.
const BUILD: u64 = 14_245_183;

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
    if conf.has("crash") {
        let _ = signal::raise(Signal::SIGSEGV);
    }
    let code = conf
        .number("exit")
        .map_or(code, |n| u8::try_from(n).unwrap_or(u8::MAX));
    ExitCode::from(code)
}

// ---- what is asked, and how to misbehave ------------------------------------------------------

/// The `+command`s of the command line that matter here.
#[derive(Default)]
struct Order {
    windows: bool,
    install_dir: Option<PathBuf>,
    login: Option<String>,
    no_prompt: bool,
    update: bool,
    /// How often app info is asked for.
    info: u32,
}

impl Order {
    fn parse(args: &[String]) -> Self {
        let mut order = Self::default();
        for (i, arg) in args.iter().enumerate() {
            let value = args.get(i + 1);
            match arg.as_str() {
                "+@sSteamCmdForcePlatformType" => {
                    order.windows = value.is_some_and(|platform| platform == "windows")
                }
                "+force_install_dir" => order.install_dir = value.map(PathBuf::from),
                "+login" => order.login = value.cloned(),
                "+@NoPromptForPassword" => {
                    order.no_prompt = value.is_some_and(|value| value == "1")
                }
                "+app_update" => order.update = value.is_some_and(|app| app == APP),
                "+app_info_print" if value.is_some_and(|app| app == APP) => order.info += 1,
                _ => {}
            }
        }

        order
    }

    /// As the key `pass` names it.
    fn pass(&self) -> &'static str {
        match (self.update, self.windows) {
            (false, _) if self.info > 0 => "info",
            (false, _) => "prime",
            (true, true) => "windows",
            (true, false) => "linux",
        }
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
        let values = pairs
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect();
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
            File::options()
                .create(true)
                .append(true)
                .open(conf.beside("standin-printed.log"))
                .expect("the record")
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
    let home = std::env::var("HOME").unwrap_or_default();
    out.line(&format!(
        "Redirecting stderr to '{home}/Steam/logs/stderr.txt'"
    ));
    out.line(&format!("Logging directory: '{home}/Steam/logs'"));
    let way = words::chosen(conf, order);
    if let Some(code) = way.as_ref().and_then(|way| way.at_start(out)) {
        return code;
    }
    self_update(conf, out);
    out.line("[  0%] Checking for available updates...");
    out.line("[----] Verifying installation...");
    out.line("UpdateUI: skip show logo");
    out.line("Steam Console Client (c) Valve Corporation - version 1785186678");
    out.line("-- type 'quit' to exit --");
    out.line("Loading Steam API...OK");
    out.line("");
    let login = order.login.as_ref();
    if let Some(code) = login.and_then(|account| words::log_in(order, account, way.as_ref(), out)) {
        return code;
    }
    if conf.has("prompt") {
        out.bytes(b"Steam>", b"");
        while io::stdin()
            .read_line(&mut String::new())
            .is_ok_and(|read| read > 0)
        {}
        out.line("");
    }

    if !order.update && order.info > 0 {
        let code = info::print(conf, order, way.as_ref(), out);
        out.line("Unloading Steam API...OK");
        return code;
    }

    if !order.update {
        let _ = fs::write(conf.beside("standin.primed"), "");
        out.line("Unloading Steam API...OK");
        return 0;
    }

    let mut children = spawn_children(conf);
    let code = update(conf, order, way.as_ref(), out);
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }

    out.line("Unloading Steam API...OK");
    code
}

/// As the first run of a fresh steamcmd: the package, the end of the old program with exit code 42,
/// and the new one.
fn self_update(conf: &Conf, out: &mut Printer) {
    if !conf.has("self_update") || conf.beside("standin.updated").exists() {
        return;
    }
    let _ = fs::write(conf.beside("standin.updated"), "");
    out.line("ILocalize::AddFile() failed to load file \"public/steambootstrapper_english.txt\".");
    out.line("[  0%] Checking for available update...");
    for percent in (0..100).step_by(10) {
        let done = 48_436 * percent / 100;
        let kib = format!("{},{:03}", done / 1000, done % 1000);
        out.bytes(
            format!("[{percent:3}%] Downloading update ({kib} of 48,436 KB)...").as_bytes(),
            b"\r",
        );

        thread::sleep(Duration::from_millis(30));
    }

    for line in [
        "[100%] Download Complete.",
        "[----] Applying update...",
        "[----] Extracting package...",
        "[----] Extracting package...",
        "[----] Installing update...",
        "[----] Cleaning up...",
        "[----] Update complete, launching Steamcmd...",
        "threadtools.cpp (3552) : Assertion Failed: Illegal termination of worker thread \
        'Thread(0x02F18F10/0x00000224/0x'",
    ] {
        out.line(line);
    }

    let home = std::env::var("HOME").unwrap_or_default();
    out.line(&format!(
        "Redirecting stderr to '{home}/Steam/logs/stderr.txt'"
    ));
}

fn update(conf: &Conf, order: &Order, way: Option<&words::Way>, out: &mut Printer) -> u8 {
    let Some(dir) = &order.install_dir else {
        out.line("Please use force_install_dir before logon!");
        return INSTALL_FAILED;
    };

    if conf.has("missing_configuration") && !conf.beside("standin.primed").exists() {
        out.line(&format!(
            "ERROR! Failed to install app '{APP}' (Missing configuration)"
        ));
        return 0;
    }

    let after_windows = dir.join("steamapps/standin.windows-pass");
    if conf.has("invalid_platform") && !order.windows && !after_windows.exists() {
        out.line(&format!(
            "ERROR! Failed to install app '{APP}' (Invalid platform)"
        ));
        return INSTALL_FAILED;
    }

    if let Some(code) = way.and_then(|way| way.before_download(out)) {
        return code;
    }
    let build = conf.number("buildid").unwrap_or(BUILD);
    let mut staged = match tree::Download::begin(conf, dir, build) {
        Ok(staged) => staged,
        Err(error) => return disk_failed(&error, out),
    };
    if let Err(error) = download(conf, &mut staged, out) {
        return disk_failed(&error, out);
    }
    print_extras(conf, out);
    work_silently(conf, dir);
    while conf.has("repeat") {
        out.line(&progress("0x61) downloading", 4532));
        thread::sleep(PROGRESS_EVERY);
    }

    if let Some(path) = conf.text("stuck") {
        out.line(&format!("opening {path}"));
        out.line(&format!(
            "{path}: {:?}",
            fs::read(path).map(|bytes| bytes.len())
        ));
    }

    if conf.has("hang") {
        hold_pipe(conf);
        hang();
    }

    if let Some(line) = way.and_then(words::Way::at_end) {
        out.line(&line);
        let _ = leave_staging(dir);
        return INSTALL_FAILED;
    }

    for (key, words) in [
        ("old_manifest", "fully installed"),
        ("up_to_date", "already up to date"),
    ] {
        if conf.has(key) {
            out.line(&format!("Success! App '{APP}' {words}."));
            return 0;
        }
    }

    match lay_down(conf, dir, staged, order.windows) {
        Ok(()) => {
            out.line(&format!("Success! App '{APP}' fully installed."));
            0
        }
        Err(error) => disk_failed(&error, out),
    }
}

fn disk_failed(error: &io::Error, out: &mut Printer) -> u8 {
    out.line(&format!(
        "Error! App '{APP}' state is 0x606 after update job. ({error})"
    ));
    INSTALL_FAILED
}

fn work_silently(conf: &Conf, dir: &Path) {
    let staging = dir.join("steamapps/downloading").join(APP);
    for _ in 0..conf.number("silent_work").unwrap_or(0) * 4 {
        let _ = fs::create_dir_all(&staging);
        let part = File::options()
            .create(true)
            .append(true)
            .open(staging.join("part"));
        let _ = part.and_then(|mut part| part.write_all(&[b'x'; 4096]));
        thread::sleep(PROGRESS_EVERY);
    }
}

fn download(conf: &Conf, staged: &mut tree::Download, out: &mut Printer) -> io::Result<()> {
    out.line(" Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)");
    let whole = conf.number("seconds").unwrap_or(0) * 1000;
    let start = Instant::now();
    while let Some(part) = (ms_since(start) * 10_000)
        .checked_div(whole)
        .filter(|part| *part < 10_000)
    {
        out.line(&progress("0x61) downloading", part));
        staged.until(part)?;
        thread::sleep(PROGRESS_EVERY);
    }

    if whole == 0 {
        out.line(&progress("0x61) downloading", 4532));
    }
    staged.until(10_000)?;
    out.line(&progress("0x61) downloading", 10_000));
    let updates = conf.number("cr_progress").unwrap_or(0);
    for i in 1..=updates {
        out.bytes(
            progress("0x81) verifying update", 10_000 * i / updates).as_bytes(),
            b"\r",
        );
    }

    out.line(&progress("0x101) committing", 10_000));
    Ok(())
}

fn ms_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// One progress line; the part is in hundredths of a percent.
fn progress(state: &str, part: u64) -> String {
    let done = TOTAL_BYTES / 10_000 * part + TOTAL_BYTES % 10_000 * part / 10_000;
    format!(
        " Update state ({state}, progress: {}.{:02} ({done} / {TOTAL_BYTES})",
        part / 100,
        part % 100
    )
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
    if let Some(len) = conf
        .number("longline")
        .and_then(|n| usize::try_from(n).ok())
    {
        out.bytes(&vec![b'x'; len], b"\n");
    }
    if conf.has("badutf8") {
        out.bytes(b"bad \xff\xfe utf8 \xc3(", b"\n");
    }
}

// ---- what it lays down ------------------------------------------------------------------------

const MANIFEST: &str = "steamapps/appmanifest_222860.acf";

/// What the Linux depot holds besides the program.
const LIBRARIES: [&str; 2] = ["bin/engine_srv.so", "left4dead2/bin/server_srv.so"];

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

fn lay_down(conf: &Conf, dir: &Path, staged: tree::Download, windows: bool) -> io::Result<()> {
    staged.commit(conf, dir)?;
    let game = dir.join("left4dead2");
    for folder in ["bin", "cfg", "maps", "addons"] {
        fs::create_dir_all(game.join(folder))?;
    }
    fs::create_dir_all(dir.join("steamapps"))?;
    fs::create_dir_all(dir.join("bin"))?;
    fs::write(
        game.join("gameinfo.txt"),
        "\"GameInfo\"\n{\n\tgame\t\"Left 4 Dead 2\"\n}\n",
    )?;

    fs::write(game.join("maps/c1m1_hotel.bsp"), "VBSP\n")?;
    tree::describe(conf, dir, conf.number("buildid").unwrap_or(BUILD))?;
    if windows {
        for name in ["srcds_linux", "srcds_run"].iter().chain(&LIBRARIES) {
            let _ = fs::remove_file(dir.join(name));
        }
        fs::write(dir.join("srcds.exe"), "MZ stand-in\n")?;
        fs::write(dir.join("steamapps/standin.windows-pass"), "")?;
        return fs::write(dir.join(MANIFEST), manifest(conf, true));
    }

    let _ = fs::remove_file(dir.join("srcds.exe"));
    for name in LIBRARIES {
        fs::write(dir.join(name), "ELF stand-in\n")?;
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
    if let Some(name) = conf.text("missing") {
        fs::remove_file(dir.join(name))?;
    }
    fs::write(
        dir.join(MANIFEST),
        manifest(conf, conf.text("depots") == Some("windows")),
    )
}

fn manifest(conf: &Conf, windows: bool) -> String {
    let partial = conf.text("acf") == Some("partial");
    let (flags, downloaded) = if partial {
        (1026, TOTAL_BYTES / 2)
    } else {
        (4, TOTAL_BYTES)
    };

    let buildid = conf.number("buildid").unwrap_or(BUILD);
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
    let depot = |id: &str, size: u64| {
        let inside = format!(
            "\t\t\t\"manifest\"\t\t\"7181612376951637386\"\n\t\t\t\"size\"\t\t\"{size}\"\n"
        );
        format!("\t\t\"{id}\"\n\t\t{{\n{inside}\t\t}}\n")
    };

    let depots = depot("222861", 9_509_213_145)
        + &depot(if windows { "222862" } else { "222863" }, 252_009_413);
    format!(
        "\"AppState\"\n{{\n{}\t\"InstalledDepots\"\n\t{{\n{depots}\t}}\n}}\n",
        lines.concat()
    )
}

// ---- children ---------------------------------------------------------------------------------

/// The children that end with the work, unless others came in their place; the stubborn one is
/// meant to be left behind.
fn spawn_children(conf: &Conf) -> Vec<Child> {
    match conf.text("fork") {
        Some("setsid") => drop(spawn_self(&["--stubborn-child"], Stdio::null())),
        Some("double") => drop(spawn_self(&["--double-fork"], Stdio::null()).wait()),
        _ => {}
    }

    let mut role = vec!["--child"];
    role.extend(
        ["ignore_term", "respawn"]
            .into_iter()
            .filter(|habit| conf.has(habit)),
    );

    (0..conf.number("children").unwrap_or(0))
        .map(|_| spawn_self(&role, Stdio::null()))
        .collect()
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
    command
        .args(role)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null());
    command.spawn().expect("a child")
}

/// What a taken-over steamcmd does.
#[expect(clippy::disallowed_methods, reason = "it plays a foreign program")]
fn run_command(command: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .status();
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
    thread::sleep(Duration::from_millis(
        500 + u64::from(std::process::id()) % 1000,
    ));
    let role: Vec<&str> = ["--child"]
        .into_iter()
        .chain(habits.iter().map(String::as_str))
        .collect();
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
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
