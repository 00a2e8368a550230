//! Tests of `host::content`.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn root() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in("/var/lib");
    let dir = dir.or_else(|_| tempfile::tempdir()).unwrap();

    let root = dir.path().canonicalize().unwrap();
    for below in [
        "overlays/x/left4dead2/addons",
        "overlays/y/left4dead2",
        "workshop_cache",
        "installation/left4dead2/cfg",
        "runtime",
    ] {
        std::fs::create_dir_all(root.join(below)).unwrap();
    }

    std::fs::write(root.join("workshop_cache/7.vpk"), "x").unwrap();
    (dir, root)
}

fn found(root: &Path) -> Vec<String> {
    let (x, y) = ("x".parse().unwrap(), "y".parse().unwrap());
    let mut lines: Vec<String> = inspect(root, &[x], &[y]).unwrap().messages().collect();
    lines
        .iter_mut()
        .for_each(|line| *line = line.replace(&format!("{}/", root.display()), ""));
    lines.sort();
    lines
}

#[test]
fn a_sound_overlay_has_nothing_to_tell() {
    let (_dir, root) = root();
    let addons = root.join("overlays/x/left4dead2/addons");

    symlink(root.join("workshop_cache/7.vpk"), addons.join("whole.vpk")).unwrap();
    symlink(
        "../../../../../workshop_cache/7.vpk",
        addons.join("from-merged.vpk"),
    )
    .unwrap();

    symlink("whole.vpk", addons.join("again.vpk")).unwrap();
    symlink("../cfg", addons.join("game-cfg")).unwrap();
    std::fs::write(root.join("overlays/y/left4dead2/other"), "x").unwrap();
    symlink("../other", addons.join("others")).unwrap();
    symlink("/etc/hostname", addons.join("host")).unwrap();
    assert_eq!(found(&root), [] as [&str; 0]);
}

#[test]
fn links_are_judged_from_the_merged_tree() {
    let (_dir, root) = root();
    let addons = root.join("overlays/x/left4dead2/addons");
    for (name, target, words) in [
        (
            "a",
            "../../../../workshop_cache/7.vpk",
            "runtime/workshop_cache/7.vpk, which the game does not see",
        ),
        ("b", "nothing", "is in no layer"),
        ("c", "c", "leads to itself"),
        (
            "d",
            "/home/anna/7.vpk",
            "/home/anna/7.vpk, which the game does not see",
        ),
        (
            "e",
            &format!("{}/installation/left4dead2/cfg", root.display()),
            "which the game does not see",
        ),
        (
            "f",
            &format!("{}/workshop_cache/8.vpk", root.display()),
            "does not exist",
        ),
    ] {
        symlink(target, addons.join(name)).unwrap();
        let lines = found(&root);
        let line = lines
            .iter()
            .find(|line| line.starts_with(&format!("overlays/x/left4dead2/addons/{name}: ")));
        assert!(
            line.is_some_and(|line| line.contains(words)),
            "{name}: {lines:?}"
        );
    }

    assert_eq!(found(&root).len(), 6);
}

#[test]
fn what_the_game_cannot_read_is_named_with_owner_and_mode() {
    let (_dir, root) = root();
    let close = |path: &str, mode: u32| {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };

    std::fs::write(root.join("overlays/x/left4dead2/addons/p.cfg"), "x").unwrap();
    close("overlays/x/left4dead2/addons/p.cfg", 0o640);
    std::fs::create_dir(root.join("overlays/x/left4dead2/shut")).unwrap();
    std::fs::write(root.join("overlays/x/left4dead2/shut/inner"), "x").unwrap();
    close("overlays/x/left4dead2/shut", 0o700);

    // The game files have this directory, so the modes of the files in it decide.
    std::fs::create_dir(root.join("overlays/x/left4dead2/cfg")).unwrap();
    std::fs::write(
        root.join("overlays/x/left4dead2/cfg/server.cfg"),
        b"\xef\xbb\xbfhostname x",
    )
    .unwrap();

    close("overlays/x/left4dead2/cfg", 0o700);
    close("workshop_cache/7.vpk", 0o600);
    symlink(
        root.join("workshop_cache/7.vpk"),
        root.join("overlays/x/left4dead2/addons/7.vpk"),
    )
    .unwrap();

    nix::unistd::mkfifo(
        &root.join("overlays/x/left4dead2/pipe"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();

    let lines = found(&root);
    let begins = [
        "addons/7.vpk: it leads to ",
        "addons/p.cfg: the game cannot read it (mode 0640, owner ",
        "cfg/server.cfg: it begins with a byte",
        "pipe: it is no regular",
        "shut: it is closed to the game (mode 0700",
    ];

    assert_eq!(lines.len(), begins.len(), "{lines:?}");
    for (line, begin) in lines.iter().zip(begins) {
        assert!(
            line.starts_with(&format!("overlays/x/left4dead2/{begin}")),
            "{line}"
        );
    }
}

#[test]
fn content_beside_left4dead2_is_found_and_the_list_is_bounded() {
    let (_dir, root) = root();
    for below in ["addons", "Maps", "package/left4dead2", "Left4Dead2"] {
        std::fs::create_dir_all(root.join("overlays/x").join(below)).unwrap();
    }

    std::fs::write(root.join("overlays/x/map.VPK"), "x").unwrap();

    let lines = found(&root);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(
        lines.contains(
            &"overlays/x/addons: the game reads left4dead2/addons: move it to left4dead2/addons"
                .to_owned()
        )
    );

    for number in 0..50 {
        symlink(
            "gone\u{202e}\n",
            root.join("overlays/x/left4dead2")
                .join(format!("{number}\n\u{202e}")),
        )
        .unwrap();
    }

    let lines = found(&root);
    assert!(
        lines.len() == MAX_FINDINGS + 1 && lines.contains(&"and 35 more of that kind".to_owned()),
        "{lines:?}"
    );

    assert!(lines.iter().all(|line| !line.contains(['\n', '\u{202e}'])));
}
