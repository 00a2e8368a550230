//! The publisher as systemd starts it: one connection, one request. What it makes on other file
//! systems, and what it leaves in the page cache, is in `publisher_disks.rs`; what is left when it
//! is killed, in `publisher_kills.rs`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::game_tree::{install, listing, write};
use crate::support::{Conversation, PUBLISHER, Received, Root, until};

pub const PUBLISH: &str = r#"{"verb":"publish","job":7}"#;
const FRESH: &str = r#"{"verb":"publish","fresh":true}"#;
pub const SEED: &str = r#"{"verb":"seed"}"#;
pub const UNPUBLISH: &str = r#"{"verb":"unpublish"}"#;

pub fn use_build(build: u64) -> String {
    format!(r#"{{"verb":"use","build":{build}}}"#)
}

pub fn remove(build: u64) -> String {
    format!(r#"{{"verb":"remove","build":{build}}}"#)
}

/// Sends one request with additional settings; the exit code of the program itself, too.
pub fn ask_with(root: &Root, request: &str, settings: &[(&str, &str)]) -> (Received, i32) {
    let mut envs = root.envs();
    envs.extend(
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let mut talk = Conversation::start(&[PUBLISHER], &envs);
    talk.send_line(request);
    let received = talk.rest();
    (received, talk.end().0)
}

pub fn ask(root: &Root, request: &str) -> Received {
    let (received, code) = ask_with(root, request, &[]);
    assert_eq!(code, 0, "{received:?}");
    received
}

#[track_caller]
pub fn done(root: &Root, request: &str) -> Received {
    let received = ask(root, request);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    received
}

/// Where the link to the current build leads.
pub fn current(root: &Root) -> Option<String> {
    let target = std::fs::read_link(root.join("builds/current")).ok()?;
    Some(target.to_str().unwrap().to_owned())
}

/// The names in builds/.
pub fn names(root: &Root) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("builds")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

fn about(root: &Root, build: u64) -> Value {
    let text = std::fs::read(root.join(format!("builds/{build}/.left4me"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Sets a file's time of change to a second that is long past.
pub fn touch(path: &Path, second: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn what_is_installed_becomes_the_current_build() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    symlink("left4dead2/maps", game.join("link")).unwrap();
    symlink("/etc/passwd", game.join("out")).unwrap();
    touch(&game.join("bin/engine_srv.so"), 1_000_000);
    write(&game.join("steamapps/downloading/222860/half"), "half");
    write(&game.join("left4dead2/a\nb"), "an odd name");

    let received = done(&root, PUBLISH);
    assert!(
        received
            .stdout
            .last()
            .unwrap()
            .starts_with("published: build 6, "),
        "{received:?}"
    );
    assert_eq!(current(&root).as_deref(), Some("6"));
    assert_eq!(names(&root), ["6", "current"]);

    let mut expected = listing(&game);
    expected.retain(|line| !line.starts_with("steamapps/downloading"));
    assert_eq!(listing(&root.join("builds/6")), expected);
    let engine = "bin/engine_srv.so";
    assert_eq!(
        root.join("builds/6")
            .join(engine)
            .metadata()
            .unwrap()
            .mtime(),
        1_000_000
    );
    assert_ne!(
        inode(&game.join(engine)),
        inode(&root.join("builds/6").join(engine))
    );

    let about = about(&root, 6);
    assert_eq!(
        (&about["build"], &about["job"]),
        (&6.into(), &7.into()),
        "{about}"
    );
    assert_eq!(about["linked"], 0, "{about}");

    // Nothing to do the second time, however often.
    let before = inode(&root.join("builds/6"));
    let received = done(&root, PUBLISH);
    assert!(received.stdout[0].contains("nothing to do"), "{received:?}");
    assert_eq!(inode(&root.join("builds/6")), before);
}

#[test]
fn unchanged_files_of_the_next_build_are_those_of_the_one_before() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    for name in ["same", "touched", "changed", "silent", "mode"] {
        write(&game.join("left4dead2").join(name), "before");
    }
    done(&root, PUBLISH);

    let second = |name: &str| {
        game.join("left4dead2")
            .join(name)
            .metadata()
            .unwrap()
            .modified()
    };
    let silent = second("silent").unwrap();
    touch(&game.join("left4dead2/touched"), 2_000_000);
    write(&game.join("left4dead2/changed"), "after!");
    touch(&game.join("left4dead2/changed"), 2_000_000);
    write(&game.join("left4dead2/silent"), "silent");
    let file = std::fs::File::options()
        .append(true)
        .open(game.join("left4dead2/silent"))
        .unwrap();
    file.set_modified(silent).unwrap();
    std::fs::set_permissions(
        game.join("left4dead2/mode"),
        PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    std::fs::remove_file(game.join("left4dead2/maps/c1m1_hotel.bsp")).unwrap();
    install(&game, 7);
    done(&root, PUBLISH);

    let at = |build: u64, name: &str| root.join(format!("builds/{build}/left4dead2/{name}"));
    for name in ["same", "touched", "silent"] {
        assert_eq!(inode(&at(6, name)), inode(&at(7, name)), "{name}");
    }
    for name in ["changed", "mode"] {
        assert_ne!(inode(&at(6, name)), inode(&at(7, name)), "{name}");
    }
    assert_eq!(std::fs::read_to_string(at(7, "changed")).unwrap(), "after!");
    assert_eq!(std::fs::read_to_string(at(6, "changed")).unwrap(), "before");
    // What changed only its time is not newer than what a server wrote over it.
    assert_ne!(at(7, "touched").metadata().unwrap().mtime(), 2_000_000);
    assert!(about(&root, 7)["linked"].as_u64().unwrap() >= 5);
    assert_eq!(current(&root).as_deref(), Some("7"));
}

#[test]
fn a_repair_compares_content_and_replaces_only_a_build_that_differs() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    write(&game.join("left4dead2/damaged"), "whole");
    done(&root, PUBLISH);

    // Everything is as it was published.
    let before = inode(&root.join("builds/6"));
    let received = done(&root, FRESH);
    assert!(
        received.stdout[0].contains("every file of build 6"),
        "{received:?}"
    );
    assert_eq!(inode(&root.join("builds/6")), before);

    // A file of the build differs, and neither size nor time shows it.
    let published = root.join("builds/6/left4dead2/damaged");
    let time = published.metadata().unwrap().modified().unwrap();
    write(&published, "wrong");
    std::fs::File::options()
        .append(true)
        .open(&published)
        .unwrap()
        .set_modified(time)
        .unwrap();
    done(&root, FRESH);
    assert_eq!(std::fs::read_to_string(&published).unwrap(), "whole");
    let (bin, other) = ("builds/6/bin/engine_srv.so", names(&root)[0].clone());
    assert!(other.starts_with(".replaced-6-"), "{other}");
    assert_eq!(
        inode(&root.join(bin)),
        inode(&root.join(format!("builds/{other}/bin/engine_srv.so"))),
    );

    // The files that running servers have stay: only a boot removes them.
    done(&root, PUBLISH);
    done(&root, &remove(5));
    assert!(root.join("builds").join(&other).join("bin").is_dir());
}

#[test]
fn nothing_is_published_without_the_proof() {
    let root = Root::new();
    let game = root.join("installation");
    let refused = |words: &str| {
        let received = ask(&root, PUBLISH);
        assert_eq!(received.exit(), 1, "{received:?}");
        assert!(received.complains(words), "{words}: {received:?}");
        assert!(names(&root).is_empty(), "{:?}", names(&root));
    };

    refused("does not exist");
    install(&game, 6);
    write(&game.join(".left4me-unfinished"), "");
    refused("Windows files");
    std::fs::remove_file(game.join(".left4me-unfinished")).unwrap();
    std::fs::remove_file(game.join("bin/engine_srv.so")).unwrap();
    refused("engine_srv.so");
}

#[test]
fn a_foreign_tree_is_refused_by_name_and_its_links_are_not_followed() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    let odd = game.join("left4dead2/odd");
    let refused = |words: &str| {
        let received = ask(&root, PUBLISH);
        assert!(
            received.exit() == 1 && received.complains(words),
            "{received:?}"
        );
        assert!(received.complains("left4dead2/odd"), "{received:?}");
        assert!(names(&root).is_empty(), "{:?}", names(&root));
    };

    nix::unistd::mkfifo(&odd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("a FIFO");
    std::fs::remove_file(&odd).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&odd).unwrap();
    refused("a socket");
    std::fs::remove_file(&odd).unwrap();

    // A directory of the base that is a link now, and the other way round.
    done(&root, PUBLISH);
    std::fs::remove_dir_all(root.join("builds/6/left4dead2/maps")).unwrap();
    symlink("/etc", root.join("builds/6/left4dead2/maps")).unwrap();
    write(&game.join("setuid"), "x");
    std::fs::set_permissions(game.join("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
    write(&root.join("tmp/secret"), "secret");
    symlink(root.join("tmp"), game.join("left4dead2/cfg")).unwrap();
    install(&game, 7);
    done(&root, PUBLISH);

    let mode = |name: &str| root.join("builds/7").join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("setuid"), 0o755);
    assert!(
        root.join("builds/7/left4dead2/maps/c1m1_hotel.bsp")
            .is_file()
    );
    assert!(root.join("builds/7/left4dead2/cfg").is_symlink());
}

#[test]
fn ten_thousand_files_and_a_deep_tree_are_published() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    for number in 0..10_000 {
        let path = game.join(format!("left4dead2/many/{}/{number}", number % 10));
        write(&path, number.to_string());
    }
    let deep = format!("left4dead2/{}end", "d/".repeat(50));
    write(&game.join(&deep), "deep");
    done(&root, PUBLISH);
    assert_eq!(listing(&root.join("builds/6")), listing(&game));

    write(
        &game.join(format!("left4dead2/{}end", "d/".repeat(80))),
        "too deep",
    );
    install(&game, 7);
    let received = ask(&root, PUBLISH);
    assert!(
        received.exit() == 1 && received.complains("levels deep"),
        "{received:?}"
    );
    assert_eq!(names(&root), ["6", "current"]);
}

#[test]
fn an_installation_is_seeded_from_the_current_build_and_shares_no_file_with_it() {
    let root = Root::new();
    let game = root.join("installation");

    // There is nothing to copy from.
    let received = done(&root, SEED);
    assert!(
        received.stdout[0].contains("no build is published"),
        "{received:?}"
    );
    install(&game, 6);
    let received = done(&root, SEED);
    assert!(
        received.stdout[0].contains("there is an installation"),
        "{received:?}"
    );

    done(&root, PUBLISH);
    let before = listing(&game);
    std::fs::remove_dir_all(&game).unwrap();
    std::fs::create_dir(&game).unwrap();
    // An interrupted copy: one file is whole, one is not.
    std::fs::copy(root.join("builds/6/srcds_linux"), game.join("srcds_linux")).unwrap();
    write(&game.join("bin/engine_srv.so"), "eng");

    done(&root, SEED);
    assert_eq!(listing(&game), before);
    for name in [
        "srcds_linux",
        "bin/engine_srv.so",
        "left4dead2/maps/c1m1_hotel.bsp",
    ] {
        assert_eq!(game.join(name).metadata().unwrap().nlink(), 1, "{name}");
    }
    assert_eq!(current(&root).as_deref(), Some("6"));

    // A damaged build is nothing to start from, and stops no job that repairs it.
    std::fs::remove_file(root.join("builds/6/bin/engine_srv.so")).unwrap();
    std::fs::remove_dir_all(&game).unwrap();
    std::fs::create_dir(&game).unwrap();
    let received = done(&root, SEED);
    assert!(
        received.stdout[0].contains("build 6 is damaged"),
        "{received:?}"
    );
    assert_eq!(listing(&game), [""; 0]);
}

#[test]
fn the_current_build_is_switched_and_only_others_are_removed() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    done(&root, PUBLISH);
    install(&game, 7);
    done(&root, PUBLISH);

    done(&root, &use_build(6));
    assert_eq!(current(&root).as_deref(), Some("6"));
    let received = ask(&root, &use_build(8));
    assert!(
        received.exit() == 3 && received.complains("no build 8"),
        "{received:?}"
    );
    std::fs::create_dir(root.join("builds/9")).unwrap();
    let received = ask(&root, &use_build(9));
    assert!(
        received.exit() == 4 && received.complains("not complete"),
        "{received:?}"
    );
    assert_eq!(current(&root).as_deref(), Some("6"));

    let received = ask(&root, &remove(6));
    assert!(
        received.exit() == 4 && received.complains("current build"),
        "{received:?}"
    );
    done(&root, &remove(9));
    done(&root, &remove(7));
    assert_eq!(names(&root), ["6", "current"]);
    let received = done(&root, &remove(7));
    assert!(received.stdout[0].contains("nothing to do"), "{received:?}");
    assert!(
        root.join("builds/6/left4dead2/maps/c1m1_hotel.bsp")
            .is_file()
    );
}

#[test]
fn unpublishing_gives_the_files_back_to_the_installation() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    symlink("maps", game.join("left4dead2/link")).unwrap();
    done(&root, PUBLISH);
    let whole = listing(&game);

    // The installation has a game: it stays, and so does the build.
    done(&root, UNPUBLISH);
    assert_eq!(
        (names(&root), listing(&game)),
        (vec!["6".to_owned()], whole.clone())
    );

    // It has none: the build's files move there.
    done(&root, &use_build(6));
    std::fs::remove_dir_all(&game).unwrap();
    write(&game.join("left4dead2/rest"), "of something");
    std::fs::remove_file(game.join("left4dead2/rest")).unwrap();
    done(&root, UNPUBLISH);
    assert_eq!(listing(&game), whole);
    assert!(names(&root).is_empty(), "{:?}", names(&root));
    let received = done(&root, UNPUBLISH);
    assert!(
        received.stdout[0].contains("no build is current"),
        "{received:?}"
    );
}

#[test]
fn unpublishing_replaces_an_installation_that_is_not_whole() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    symlink("maps", game.join("left4dead2/link")).unwrap();
    done(&root, PUBLISH);
    let whole = listing(&game);

    // A download of build 7 that did not end, with other kinds of names where the build's go.
    install(&game, 7);
    write(&game.join(".left4me-unfinished"), "");
    std::fs::remove_file(game.join("bin/engine_srv.so")).unwrap();
    write(&game.join("bin/engine_srv.so/inside"), "a directory");
    std::fs::remove_file(game.join("left4dead2/link")).unwrap();
    write(&game.join("left4dead2/link/inside"), "a directory");
    write(&root.join("tmp/elsewhere/c1m1_hotel.bsp"), "elsewhere");
    std::fs::remove_dir_all(game.join("left4dead2/maps")).unwrap();
    symlink(root.join("tmp/elsewhere"), game.join("left4dead2/maps")).unwrap();

    let received = done(&root, UNPUBLISH);
    assert!(
        received.stdout[0].contains("the files of build 6 replace it"),
        "{received:?}"
    );
    assert_eq!(listing(&game), whole);
    assert!(names(&root).is_empty(), "{:?}", names(&root));
    let elsewhere = root.join("tmp/elsewhere/c1m1_hotel.bsp");
    assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), "elsewhere");

    // Neither is whole: both stay, and servers take installation/ as before.
    done(&root, PUBLISH);
    for directory in ["installation", "builds/6"] {
        std::fs::remove_file(root.join(directory).join("bin/engine_srv.so")).unwrap();
    }
    let damaged = listing(&game);
    done(&root, UNPUBLISH);
    assert_eq!(listing(&game), damaged);
    assert_eq!(names(&root), ["6"]);
}

#[test]
fn a_cancelled_copy_leaves_nothing_and_the_next_one_succeeds() {
    let root = Root::new();
    let game = root.join("installation");
    install(&game, 6);
    // Large enough that the cancellation arrives in the middle.
    for number in 0..24 {
        write(
            &game.join(format!("left4dead2/{number}.vpk")),
            vec![7; 24 << 20],
        );
    }

    for (control, code, how) in [
        (r#"{"cancel":"terminate"}"#, 143, "terminate"),
        (r#"{"cancel":"kill"}"#, 137, "kill"),
    ] {
        let mut talk = Conversation::start(&[PUBLISHER], &root.envs());
        talk.send_line(PUBLISH);
        let new = root.join("builds/.new-6/left4dead2");
        until("the copy has begun", || new.exists().then_some(()));
        talk.send_line(control);
        let received = talk.rest();
        assert_eq!(received.ending(), (code, how, "empty"), "{received:?}");
        assert_eq!(names(&root), [""; 0], "{control}");
    }

    // A client that is gone has cancelled, too.
    let mut talk = Conversation::start(&[PUBLISHER], &root.envs());
    talk.send_line(PUBLISH);
    until("the copy has begun", || {
        root.join("builds/.new-6/left4dead2").exists().then_some(())
    });
    assert_eq!(talk.end().0, 0);
    assert_eq!(names(&root), [""; 0]);

    done(&root, PUBLISH);
    assert_eq!(names(&root), ["6", "current"]);
}

#[test]
fn one_request_at_a_time() {
    let root = Root::new();
    install(&root.join("installation"), 6);
    let builds = std::fs::File::open(root.join("builds")).unwrap();
    let lock = nix::fcntl::Flock::lock(builds, nix::fcntl::FlockArg::LockExclusive).unwrap();

    let mut waiting = Conversation::start(&[PUBLISHER], &root.envs());
    waiting.send_line(PUBLISH);
    let mut cancelled = Conversation::start(&[PUBLISHER], &root.envs());
    cancelled.send_line(PUBLISH);
    cancelled.send_line(r#"{"cancel":"terminate"}"#);
    assert_eq!(cancelled.rest().ending(), (143, "terminate", "empty"));
    assert_eq!(names(&root), [""; 0]);
    drop(lock);
    assert_eq!(waiting.rest().ending(), (0, "exit", "empty"));

    let builds = std::fs::File::open(root.join("builds")).unwrap();
    let _lock = nix::fcntl::Flock::lock(builds, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let received = ask_with(&root, PUBLISH, &[("LEFT4ME_CANCEL_GRACE_SECONDS", "1")]).0;
    assert!(
        received.exit() == 4 && received.complains("another request"),
        "{received:?}"
    );
}

#[test]
fn only_root_and_left4me_may_ask_and_only_what_is_a_request() {
    let root = Root::new();
    install(&root.join("installation"), 6);
    for line in [
        r#"{"verb":"publish","path":"/etc"}"#,
        r#"{"verb":"use","build":"../x"}"#,
        r#"{"verb":"use","build":-1}"#,
        r#"{"verb":"install"}"#,
        "publish",
    ] {
        let received = ask(&root, line);
        assert_eq!(received.exit(), 64, "{line}: {received:?}");
    }
    for build in ["0", "18446744073709551615"] {
        let received = ask(&root, &format!(r#"{{"verb":"use","build":{build}}}"#));
        assert_eq!(received.exit(), 3, "{received:?}");
    }
    assert!(names(&root).is_empty());
}
