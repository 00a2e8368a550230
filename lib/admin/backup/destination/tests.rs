//! Tests of `admin::backup::destination`.

use super::*;
use std::os::unix::fs::symlink;

#[test]
fn only_names_that_backup_gives_count_as_numbered_backups() {
    assert_eq!(number("left4me-20261120-214407.db"), Some(0));
    assert_eq!(number("left4me-20261120-214407-12.db"), Some(12));

    for other in [
        "left4me-precious.db",
        "left4me-20261120-214407.db.gz",
        "left4me-20261120x214407.db",
        "left4me-20261120-214407-.db",
        "left4me-20261120-214407-x.db",
        "left4me-20261120-214407x1.db",
        "left4me.db",
        "left4me-20261120-21440ä.db",
        "",
    ] {
        assert_eq!(number(other), None, "{other}");
    }
}

#[test]
fn pruning_counts_and_removes_only_regular_files() {
    let root = tempfile::tempdir().unwrap();
    let destination = Backups::in_root(root.path())
        .unwrap()
        .unused("", 1_000_000)
        .unwrap();
    let at = |name: &str| root.path().join("backups").join(name);
    std::fs::write(root.path().join("kept"), "x").unwrap();
    symlink(root.path().join("kept"), at("left4me-20010101-000000.db")).unwrap();
    std::fs::create_dir(at("left4me-20020101-000000.db")).unwrap();
    for name in ["left4me-20030101-000000.db", "left4me-20040101-000000.db"] {
        std::fs::write(at(name), "x").unwrap();
    }

    destination.prune(2).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(at(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "left4me-20010101-000000.db",
            "left4me-20020101-000000.db",
            "left4me-20040101-000000.db"
        ]
    );

    assert!(root.path().join("kept").exists());
}

#[test]
fn a_clock_set_back_changes_neither_the_order_nor_the_new_backup() {
    let root = tempfile::tempdir().unwrap();
    let made = |now: i64| {
        let destination = Backups::in_root(root.path())
            .unwrap()
            .unused("", now)
            .unwrap();
        std::fs::write(destination.path(), "x").unwrap();
        destination
    };

    // In 2033, then, the clock set right, twice in one second of 2001.
    let names = [2_000_000_000_000, 1_000_000_000_000, 1_000_000_000_000].map(|now| made(now).name);
    let newest = made(999_999_999_000);
    newest.prune(2).unwrap();
    assert!(
        newest.path().exists(),
        "the backup of this run is never removed"
    );

    let is_there = |name: &OsString| root.path().join("backups").join(name).exists();
    assert_eq!(
        names.each_ref().map(is_there),
        [false, false, true],
        "{names:?}: in the order of their creation"
    );
}

#[test]
fn a_file_replaced_during_the_backup_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().canonicalize().unwrap().join("saved.db");
    let destination = Destination::walked(&file).unwrap();
    let partial = destination.create().unwrap();

    std::fs::remove_file(partial.path()).unwrap();
    std::fs::write(partial.path(), "another's").unwrap();
    assert!(
        partial
            .publish()
            .unwrap_err()
            .to_string()
            .contains("replaced")
    );

    assert!(!file.exists());
}

#[test]
fn no_link_on_the_path_or_at_its_end_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    std::fs::create_dir(dir.join("real")).unwrap();
    symlink("real", dir.join("link")).unwrap();
    symlink(dir.join("elsewhere"), dir.join("real/saved.db")).unwrap();

    let error = Destination::walked(&dir.join("link/x.db"))
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("name the real path"), "{error}");
    assert_eq!(
        Destination::walked(&dir.join("real/saved.db"))
            .unwrap()
            .must_be_free()
            .unwrap_err()
            .exit
            .code(),
        4
    );

    assert!(
        Destination::named(&dir.join("link/x.db")).is_ok(),
        "a user's own path may contain links"
    );
}
