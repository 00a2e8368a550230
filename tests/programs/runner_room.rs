//! The runner asks for room on the disk before it starts steamcmd.

use serde_json::json;

use crate::support::Root;
use crate::support::steamcmd::{
    calls, check, check_with, install, install_with, installed, steamcmd_that_answers,
};

/// More than any disk of a test has, for each of the two depots.
const HUGE: u64 = 1 << 48;

fn answers(root: &Root, files: u64, download: u64) {
    let info = format!("FILES={files}; DOWNLOAD={download}; asked 43");
    steamcmd_that_answers(root, &info);
}

/// Whether files certainly take their size there. Elsewhere nothing is refused.
fn is_plain(root: &Root) -> bool {
    let kind = nix::sys::statfs::statfs(&root.path()).unwrap();
    let kind = kind.filesystem_type();
    kind == nix::sys::statfs::EXT4_SUPER_MAGIC || kind == nix::sys::statfs::TMPFS_MAGIC
}

/// Everything below installation/, with sizes.
fn files(root: &Root) -> Vec<String> {
    let listed = std::process::Command::new("find")
        .arg(root.join("installation"))
        .args(["-printf", "%p %s %T@\n"])
        .output()
        .unwrap();
    let mut lines: Vec<String> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn the_answer_says_what_the_build_takes() {
    let root = Root::new();
    answers(&root, 4_000_000_000, 1_000_000_000);
    assert_eq!(
        check(&root).builds[0]["size"],
        json!({"files": 8_000_000_000_u64, "download": 2_000_000_000})
    );

    steamcmd_that_answers(&root, "asked 43");
    assert!(check(&root).builds[0].get("size").is_none());
}

#[test]
fn without_room_nothing_is_downloaded_and_nothing_changed() {
    for is_first in [true, false] {
        let root = Root::new();
        if !is_first {
            installed(&root);
        }
        answers(&root, HUGE, 1);
        assert_eq!(check(&root).exit(), 0);

        let before = files(&root);
        let received = install(&root);
        if !is_plain(&root) {
            assert_eq!(received.exit(), 0, "{received:?}");
            assert!(received.complains("may need up to"), "{received:?}");
            continue;
        }
        assert_eq!(received.exit(), 1, "{received:?}");
        let error = received.errors.last().expect("an error");
        let expected = if is_first {
            "and the same for the copy that servers use, 1048576.0 GiB in all"
        } else {
            "build 43 needs 524287.9 GiB more in"
        };
        for part in [
            "nothing was downloaded or changed",
            expected,
            "are free: make room",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(error.chars().count() < 500, "{error}");
        assert_eq!(calls(&root), ["info"], "steamcmd was not started again");
        assert_eq!(files(&root), before);
    }
}

#[test]
fn what_is_only_likely_is_a_warning() {
    let root = Root::new();
    installed(&root);
    answers(&root, 1000, HUGE);
    assert_eq!(check(&root).exit(), 0);
    let received = install(&root);
    assert_eq!(received.exit(), 0, "{received:?}");
    assert!(
        received.complains("warning: build 43 may need up to"),
        "{received:?}"
    );

    // In place, there is no copy.
    let in_place = [("LEFT4ME_BUILDS", "in-place")];
    let received = install_with(&root, &in_place);
    assert!(
        received.complains("may need up to 524288.0 GiB"),
        "{received:?}"
    );

    // What Steam said long ago proves nothing.
    let root = Root::new();
    answers(&root, HUGE, HUGE);
    assert_eq!(check_with(&root, &in_place).exit(), 0);
    let kept = root.join("steam/.left4me-available.json");
    let text = std::fs::read_to_string(&kept).unwrap();
    let (before, _) = text.split_once("\"asked_at\":").unwrap();
    std::fs::write(&kept, format!("{before}\"asked_at\":1}}")).unwrap();
    let received = install_with(&root, &in_place);
    assert_eq!(received.exit(), 0, "{received:?}");
    assert!(received.complains("may need up to"), "{received:?}");
}
