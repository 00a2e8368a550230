//! The publisher on file systems of their own: block sharing on btrfs and xfs, full disks, and the
//! page cache. Needs root, for loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::publisher::{PUBLISH, SEED, ask, current, done, names};
use crate::support::game_tree::{install, listing, write};
use crate::support::{Root, is_real_root};

const MIB: usize = 1 << 20;

/// A data directory on a disk of its own.
struct Disk {
    root: Root,
    image: tempfile::NamedTempFile,
}

impl Disk {
    /// Makes a file system with this command. None, with a line that says why, without root.
    fn new(mkfs: &[&str], size: usize) -> Option<Self> {
        if !is_real_root() {
            eprintln!("skipped: a loop device needs root");
            return None;
        }
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size as u64).unwrap();
        let root = Root::new();
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(image.path()));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image.path())
            .arg(root.path()));
        let disk = Self { root, image };
        for name in ["installation", "builds", "instances", "runtime"] {
            std::fs::create_dir(disk.root.join(name)).unwrap();
        }
        Some(disk)
    }

    fn game(&self) -> PathBuf {
        self.root.join("installation")
    }

    fn free(&self) -> u64 {
        run(Command::new("sync").arg("-f").arg(self.root.path()));
        let found = nix::sys::statvfs::statvfs(&self.root.path()).unwrap();
        found.blocks_available() * found.fragment_size()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a program that a failed test left behind may use it.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.root.path())
            .status();
        assert!(self.image.path().exists());
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Content that no file system compresses away.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// How many pages of a file are in the page cache.
fn resident(path: &Path) -> u64 {
    let pages = run(Command::new("fincore")
        .args(["--noheadings", "--bytes", "--output", "PAGES"])
        .arg(path));
    pages.trim().parse().unwrap()
}

fn about(disk: &Disk, build: u64) -> serde_json::Value {
    let text = std::fs::read(disk.root.join(format!("builds/{build}/.left4me"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn where_the_file_system_can_share_blocks_a_build_takes_no_room() {
    for mkfs in [
        &["mkfs.btrfs", "--quiet"][..],
        &["mkfs.xfs", "-q", "-m", "reflink=1"],
    ] {
        let Some(disk) = Disk::new(mkfs, 400 * MIB) else {
            return;
        };
        install(&disk.game(), 6);
        write(
            &disk.game().join("left4dead2/pak01.vpk"),
            noise(1, 120 * MIB),
        );
        let before = disk.free();
        // More than the disk could hold twice is published, too.
        done(&disk.root, PUBLISH);
        let taken = before.saturating_sub(disk.free());
        assert!(taken < 16 * MIB as u64, "{mkfs:?} took {taken} bytes");

        let published = disk.root.join("builds/6/left4dead2/pak01.vpk");
        let map = run(Command::new("filefrag").arg("-v").arg(&published));
        assert!(map.contains("shared"), "{mkfs:?}: {map}");
        let about = about(&disk, 6);
        assert!(about["cloned"].as_u64().unwrap() >= 5, "{about}");
        assert_eq!(about["copied"], 0, "{about}");
        assert_eq!(listing(&disk.root.join("builds/6")), listing(&disk.game()));

        // steamcmd writes in place: the build stays as it is.
        write(&disk.game().join("srcds_linux"), "Server");
        let server = std::fs::read_to_string(disk.root.join("builds/6/srcds_linux"));
        assert_eq!(server.unwrap(), "server");

        // The way back shares the blocks as well.
        std::fs::remove_dir_all(disk.game()).unwrap();
        std::fs::create_dir(disk.game()).unwrap();
        done(&disk.root, SEED);
        let taken = before.saturating_sub(disk.free());
        assert!(taken < 20 * MIB as u64, "{mkfs:?} took {taken} bytes");
    }
}

#[test]
fn a_disk_without_room_is_named_before_anything_is_copied() {
    let Some(disk) = Disk::new(&["mkfs.ext4", "-q"], 64 * MIB) else {
        return;
    };
    install(&disk.game(), 6);
    done(&disk.root, PUBLISH);
    write(
        &disk.game().join("left4dead2/pak01.vpk"),
        noise(2, 32 * MIB),
    );
    install(&disk.game(), 7);

    let received = ask(&disk.root, PUBLISH);
    assert_eq!(received.exit(), 1, "{received:?}");
    for words in [
        "build 7 needs 32.",
        " MiB in ",
        "is free",
        "nothing was copied",
    ] {
        assert!(received.complains(words), "{words}: {received:?}");
    }
    assert_eq!(names(&disk.root), ["6", "current"]);
    assert_eq!(current(&disk.root).as_deref(), Some("6"));

    // Unchanged files need no room.
    std::fs::remove_file(disk.game().join("left4dead2/pak01.vpk")).unwrap();
    done(&disk.root, PUBLISH);
    assert_eq!(current(&disk.root).as_deref(), Some("7"));
}

#[test]
fn a_disk_that_is_full_in_the_middle_leaves_everything_as_it_was() {
    // Its blocks would do, its inodes do not.
    let Some(disk) = Disk::new(&["mkfs.ext4", "-q", "-N", "64"], 64 * MIB) else {
        return;
    };
    install(&disk.game(), 6);
    done(&disk.root, PUBLISH);
    for number in 0..16 {
        write(&disk.game().join(format!("left4dead2/{number}")), "x");
    }
    install(&disk.game(), 7);
    let before = listing(&disk.root.join("builds/6"));

    let received = ask(&disk.root, PUBLISH);
    assert_eq!(received.exit(), 1, "{received:?}");
    assert!(received.complains("the disk is full"), "{received:?}");
    assert_eq!(names(&disk.root), ["6", "current"]);
    assert_eq!(current(&disk.root).as_deref(), Some("6"));
    assert_eq!(listing(&disk.root.join("builds/6")), before);
}

#[test]
fn the_page_cache_keeps_what_games_use_and_gets_nothing_of_the_copy() {
    let Some(disk) = Disk::new(&["mkfs.ext4", "-q"], 600 * MIB) else {
        return;
    };
    let game = disk.game();
    install(&game, 6);
    for (name, seed) in [("used", 1), ("unused", 2)] {
        write(&game.join("left4dead2").join(name), noise(seed, 48 * MIB));
    }
    for number in 0..300 {
        write(
            &game.join(format!("left4dead2/small/{number}")),
            noise(number, 10_000),
        );
    }
    done(&disk.root, PUBLISH);
    let at = |build: u64, name: &str| disk.root.join(format!("builds/{build}/left4dead2/{name}"));
    let nothing_of = |paths: &[PathBuf]| {
        for path in paths {
            assert_eq!(resident(path), 0, "{}", path.display());
        }
    };
    nothing_of(&[
        at(6, "used"),
        at(6, "unused"),
        at(6, "small/7"),
        at(6, "small/299"),
    ]);
    nothing_of(&[
        game.join("left4dead2/used"),
        game.join("left4dead2/small/7"),
    ]);

    // A running game reads one of the two again and again: what is read once goes first when the host is short of memory.
    // Then the kernel takes a few pages all the same. What the copy displaces would be the whole file.
    let pages = 48 * MIB as u64 / 4096;
    let stays = |path: &Path| {
        let left = resident(path);
        assert!(
            left > pages / 10 * 9,
            "{}: {left} of {pages}",
            path.display()
        );
    };
    for _ in 0..3 {
        assert_eq!(std::fs::read(at(6, "used")).unwrap().len(), 48 * MIB);
    }
    stays(&at(6, "used"));

    // A build in which it is the same, found by its content, and one more file.
    write(&game.join("left4dead2/new"), noise(3, 48 * MIB));
    install(&game, 7);
    done(&disk.root, r#"{"verb":"publish","fresh":true}"#);
    stays(&at(6, "used"));
    stays(&at(7, "used"));
    nothing_of(&[at(7, "new"), at(7, "unused"), game.join("left4dead2/new")]);

    // The way back reads it, too.
    std::fs::remove_dir_all(&game).unwrap();
    std::fs::create_dir(&game).unwrap();
    done(&disk.root, SEED);
    stays(&at(7, "used"));
    nothing_of(&[game.join("left4dead2/used"), game.join("left4dead2/new")]);
}

#[test]
fn files_move_between_two_mounts_of_one_disk() {
    let Some(disk) = Disk::new(&["mkfs.ext4", "-q"], 100 * MIB) else {
        return;
    };
    install(&disk.game(), 6);
    for number in 0..8 {
        let name = format!("left4dead2/{number}.vpk");
        write(&disk.game().join(name), noise(number, 8 * MIB));
    }
    std::os::unix::fs::symlink("maps", disk.game().join("left4dead2/link")).unwrap();
    std::fs::rename(disk.game(), disk.root.join("builds/6")).unwrap();
    std::os::unix::fs::symlink("6", disk.root.join("builds/current")).unwrap();
    std::fs::create_dir(disk.game()).unwrap();
    let whole = listing(&disk.root.join("builds/6"));

    // As in the unit, where each of the two is a mount of its own. The disk cannot hold all twice.
    let binds = "mount --bind $LEFT4ME_ROOT/installation $LEFT4ME_ROOT/installation && \
                 mount --bind $LEFT4ME_ROOT/builds $LEFT4ME_ROOT/builds && exec $0";
    let publisher = crate::support::PUBLISHER;
    let argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        binds,
        publisher,
    ];
    for (point, code) in [("publisher-moving", 137), ("", 0)] {
        let mut envs = disk.root.envs();
        envs.push(("LEFT4ME_FAILPOINT".to_owned(), point.to_owned()));
        let mut talk = crate::support::Conversation::start(&argv, &envs);
        talk.send_line(crate::publisher::UNPUBLISH);
        let received = talk.rest();
        assert_eq!(talk.end().0, code, "{received:?}");
    }
    assert_eq!(listing(&disk.game()), whole);
    assert_eq!(names(&disk.root), [""; 0]);
}
