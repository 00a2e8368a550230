//! The stand-ins for steamcmd and the game with large files: what a build changes, what an
//! interrupted update leaves behind, and what the game and the probe make of it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::game::{Game, INFO};
use crate::support::until;

const STEAMCMD: Option<&str> = option_env!("CARGO_BIN_EXE_standin-steamcmd");
const SRCDS: Option<&str> = option_env!("CARGO_BIN_EXE_standin-srcds");

/// Begins a linux pass into this directory.
fn begin(dir: &Path, conf: &str) -> Child {
    let file = dir.join("standin.conf");
    std::fs::write(&file, conf.replace(' ', "\n")).unwrap();
    Command::new(STEAMCMD.expect("build the tests with --all-features"))
        .args([
            "+@sSteamCmdForcePlatformType",
            "linux",
            "+force_install_dir",
        ])
        .arg(dir)
        .args(["+login", "anonymous", "+app_update", "222860", "+quit"])
        .env("STANDIN_STEAMCMD_CONF", file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[track_caller]
fn install(dir: &Path, conf: &str) {
    assert!(begin(dir, conf).wait().unwrap().success(), "{conf}");
}

/// The large files: their inodes and first lines.
fn files(dir: &Path) -> BTreeMap<String, (u64, String)> {
    let folder = dir.join("left4dead2");
    let names = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with("pak"))
        .map(|name| {
            let path = folder.join(&name);
            let inode = path.metadata().unwrap().ino();
            let content = std::fs::read(path).unwrap();
            let first = content.split(|byte| *byte == b'\n').next().unwrap();
            (name, (inode, String::from_utf8(first.to_vec()).unwrap()))
        })
        .collect()
}

fn manifest(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("steamapps/appmanifest_222860.acf")).unwrap()
}

/// What the game says that it is.
fn version(game: &Game) -> String {
    let udp = game.udp();
    let challenge = udp.challenge(INFO);
    udp.send(&[INFO, &challenge].concat());
    let answer = udp.next();
    let mut texts = answer.split(|byte| *byte == 0);
    let found =
        texts.find(|text| text.starts_with(b"\x01") && text.len() > 1 || text.starts_with(b"2."));
    String::from_utf8_lossy(found.unwrap_or_default())
        .trim_start_matches('\u{1}')
        .to_owned()
}

#[test]
fn a_build_changes_a_quarter_of_the_files_and_what_is_interrupted_is_repaired() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    install(dir, "buildid=1 files=16");
    let first = files(dir);
    assert_eq!(first.len(), 16);

    install(dir, "buildid=2 files=16");
    let second = files(dir);
    let changed = |before: &BTreeMap<String, (u64, String)>,
                   after: &BTreeMap<String, (u64, String)>| {
        let pairs = before.iter().filter(|(name, file)| after[*name] != **file);
        pairs.count()
    };
    assert_eq!(changed(&first, &second), 4);
    assert!(second["pak00_dir.vpk"].1.ends_with("pak00_dir.vpk 2"));
    assert!(manifest(dir).contains("\"buildid\"\t\t\"2\""));

    // Killed in the middle of the move: half of the files are new, and the manifest says so.
    let mut steamcmd = begin(dir, "buildid=3 files=16 hang_at=commit");
    until("half of it is in its place", || {
        (changed(&second, &files(dir)) == 2).then_some(())
    });
    steamcmd.kill().unwrap();
    steamcmd.wait().unwrap();
    assert!(manifest(dir).contains("\"1026\"") && manifest(dir).contains("\"buildid\"\t\t\"2\""));
    let game = Game::start_in(copy(dir), "", &[]);
    assert_eq!(version(&game), "2.2.2-mixed");
    drop(game);

    install(dir, "buildid=3 files=16");
    assert_eq!(changed(&second, &files(dir)), 4);
    assert!(manifest(dir).contains("\"4\""), "{}", manifest(dir));
    let game = Game::start_in(copy(dir), "", &[]);
    assert_eq!(version(&game), "2.2.3");
}

/// A tree for a game of its own.
fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = dir.join(".");
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(copy.path())
        .status();
    assert!(status.unwrap().success());
    copy
}

#[test]
fn a_fault_of_a_build_can_be_that_of_one_port_and_the_probe_sees_it() {
    let game = Game::start("sv_max_queries_sec 1000\n");
    std::fs::write(game.file("standin.only-on"), "1 2").unwrap();
    std::fs::write(game.file("standin.hang"), "").unwrap();
    assert_eq!(
        version(&game),
        "2.2.4.3",
        "the fault is that of other ports"
    );
    drop(game);

    let game = Game::start("sv_max_queries_sec 1000\n");
    let log = game.file("probe.log");
    let mut probe = Command::new(SRCDS.unwrap())
        .arg("--probe")
        .arg(&log)
        .arg(game.port.to_string())
        .spawn()
        .unwrap();
    let says = |what: &str| {
        until(what, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines()
                .last()
                .is_some_and(|line| line.ends_with(what))
                .then_some(())
        });
    };
    let port = game.port;
    says(&format!("{port} answers 2.2.4.3"));
    game.control("hang", "");
    says(&format!("{port} silent"));
    std::fs::remove_file(game.file("standin.hang")).unwrap();
    says(&format!("{port} answers 2.2.4.3"));
    probe.kill().unwrap();
    probe.wait().unwrap();
}
