//! The helper and the game's builds: mounts over a published one, and the upgrade that makes what
//! is installed the first of them.

use std::os::unix::fs::{MetadataExt as _, symlink};

use crate::helper::{Sandbox, outcome};
use crate::support::game_tree::{install, listing};
use crate::support::is_real_root;

/// A server with the usual layers over these game files.
fn over(game: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.root.write("instances/7/layer/config", "from layer");
    sandbox.root.write("overlays/maps/map", "from maps");
    name(&sandbox, game);
    sandbox
}

fn name(sandbox: &Sandbox, game: &str) {
    sandbox
        .layers(&["instances/7/layer", "overlays/maps", game].map(|name| sandbox.root.join(name)));
}

fn lowest(sandbox: &Sandbox) -> String {
    let text = std::fs::read_to_string(sandbox.root.join("instances/7/instance.env")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("LEFT4ME_LOWERDIRS"));
    let (_, lowest) = line
        .unwrap()
        .trim_end_matches('"')
        .rsplit_once(':')
        .unwrap();
    let root = sandbox.root.path();
    lowest
        .strip_prefix(&format!("{}/", root.display()))
        .unwrap()
        .to_owned()
}

/// What the mounted server has of a file whose content says where it is from.
const MOUNT: &str = "$HELPER mount 7 && cat $ROOT/runtime/7/merged/where; code=$?; \
                     $HELPER umount 7; exit $code";

#[test]
fn a_published_build_is_the_lowest_layer_and_nothing_else_in_that_directory() {
    let sandbox = over("builds/6");
    install(&sandbox.root.join("builds/6"), 6);
    sandbox.root.write("builds/6/where", "build 6");
    let (code, out, err) = outcome(&sandbox.shell(MOUNT));
    assert_eq!((code, out.as_str()), (0, "build 6"), "{err}");

    symlink("6", sandbox.root.join("builds/current")).unwrap();
    install(&sandbox.root.join("builds/.new-7"), 7);
    for other in [
        "builds/current",
        "builds/.new-7",
        "builds",
        "builds/6/left4dead2",
        "builds/06",
    ] {
        name(&sandbox, other);
        let (code, _, err) = sandbox.helper("mount 7");
        assert!(
            code == 1 && err.contains("is not where lower layers are"),
            "{other}: {err}"
        );
    }

    // A link in place of a build is not followed.
    std::fs::remove_file(sandbox.root.join("builds/current")).unwrap();
    symlink(sandbox.root.join("tmp"), sandbox.root.join("builds/8")).unwrap();
    name(&sandbox, "builds/8");
    let (code, _, err) = sandbox.helper("mount 7");
    assert!(code == 1 && err.contains("symbolic link"), "{err}");
}

#[test]
fn a_server_whose_game_files_are_gone_starts_with_the_current_ones() {
    let sandbox = over("installation");
    install(&sandbox.root.join("builds/6"), 6);
    sandbox.root.write("builds/6/where", "build 6");
    symlink("6", sandbox.root.join("builds/current")).unwrap();
    for gone in ["installation", "builds/5"] {
        name(&sandbox, gone);
        let (code, out, err) = outcome(&sandbox.shell(MOUNT));
        assert_eq!((code, out.as_str()), (0, "build 6"), "{gone}: {err}");
        assert!(err.contains("server 7 starts with build 6"), "{err}");
    }

    // What instance.env names comes first.
    install(&sandbox.root.join("builds/5"), 5);
    sandbox.root.write("builds/5/where", "build 5");
    let (code, out, err) = outcome(&sandbox.shell(MOUNT));
    assert_eq!((code, out.as_str()), (0, "build 5"), "{err}");

    // Back in place: the build is gone, and the installation is the game.
    std::fs::remove_file(sandbox.root.join("builds/current")).unwrap();
    std::fs::remove_dir_all(sandbox.root.join("builds/5")).unwrap();
    install(&sandbox.root.join("installation"), 6);
    sandbox.root.write("installation/where", "installation");
    let (code, out, err) = outcome(&sandbox.shell(MOUNT));
    assert_eq!((code, out.as_str()), (0, "installation"), "{err}");
}

#[test]
fn half_a_build_is_not_mounted() {
    let sandbox = over("builds/6");
    install(&sandbox.root.join("builds/6"), 6);
    let steamapps = sandbox.root.join("builds/6/steamapps");
    std::fs::rename(
        steamapps.join("appmanifest_222860.acf"),
        steamapps.join(".left4me-manifest"),
    )
    .unwrap();
    symlink("6", sandbox.root.join("builds/current")).unwrap();
    let (code, _, err) = sandbox.helper("mount 7");
    assert!(
        code == 4 && err.contains("build 6 in ") && err.contains("update"),
        "{err}"
    );
}

/// A host of an older version: a whole installation, with a mark in it.
fn older() -> Sandbox {
    let sandbox = over("installation");
    let game = sandbox.root.join("installation");
    install(&game, 6);
    sandbox.root.write("installation/where", "installed");
    std::fs::write(sandbox.root.join("steam/.left4me-install.lock"), "").unwrap();
    sandbox
}

#[test]
fn an_upgrade_makes_the_installation_the_first_build_under_running_servers() {
    if !is_real_root() {
        return; // A user namespace has one user only.
    }
    let sandbox = older();
    let root = &sandbox.root;
    let (inode, whole) = (
        root.join("installation").metadata().unwrap().ino(),
        listing(&root.join("installation")),
    );
    let script = "set -e; chown 64122:64123 $ROOT/instances $ROOT/instances/7/instance.env
         chmod 640 $ROOT/instances/7/instance.env; $HELPER mount 7
         exec 5<$ROOT/runtime/7/merged/srcds_linux; $HELPER upgrade; $HELPER upgrade
         cat <&5; echo; cat $ROOT/runtime/7/merged/where; echo; stat -c '%a %u:%g' \
         $ROOT/instances/7/instance.env $ROOT/installation; ls -A $ROOT/installation $ROOT/builds
         readlink $ROOT/builds/current; exec 5<&-; $HELPER umount 7; $HELPER mount 7
         cat $ROOT/runtime/7/merged/where; $HELPER umount 7";
    let (code, out, err) = outcome(&sandbox.shell(script));
    let builds = root.join("builds");
    let expected = format!(
        "the game in installation/ is build 6 now, in {builds}/6\nserver\ninstalled\n\
         640 64122:64123\n755 64125:64125\n{builds}:\n6\ncurrent\n\n{}:\n6\ninstalled",
        root.join("installation").display(),
        builds = builds.display()
    );
    assert_eq!((code, out.as_str()), (0, expected.as_str()), "{err}");
    assert_eq!(builds.join("6").metadata().unwrap().ino(), inode);
    assert_eq!(listing(&builds.join("6")), whole);
    assert_eq!(lowest(&sandbox), "builds/6");
}

#[test]
fn an_upgrade_that_is_killed_leaves_a_game_to_start_and_is_finished_by_the_next() {
    if !is_real_root() {
        return; // A user namespace has one user only.
    }
    for point in [
        "adopt-linked",
        "adopt-renamed",
        "adopt-emptied",
        "adopt-instance",
    ] {
        let sandbox = older();
        let script = format!("LEFT4ME_FAILPOINT={point} $HELPER upgrade >&2; echo $?; {MOUNT}");
        let (code, out, err) = outcome(&sandbox.shell(&script));
        assert_eq!(
            (code, out.as_str()),
            (0, "137\ninstalled"),
            "{point}: {err}"
        );

        let (code, out, err) = outcome(&sandbox.shell(&format!("$HELPER upgrade >&2 && {MOUNT}")));
        assert_eq!((code, out.as_str()), (0, "installed"), "{point}: {err}");
        assert_eq!(lowest(&sandbox), "builds/6", "{point}");
        let current = std::fs::read_link(sandbox.root.join("builds/current")).unwrap();
        assert_eq!(current.to_str(), Some("6"), "{point}");
        assert!(
            listing(&sandbox.root.join("installation")).is_empty(),
            "{point}"
        );
        let left = std::fs::read_dir(sandbox.root.join("instances/7"))
            .unwrap()
            .count();
        assert_eq!(left, 2, "{point}: instance.env and layer");
    }
}

#[test]
fn an_upgrade_leaves_what_it_must_not_take() {
    if !is_real_root() {
        return; // A user namespace has one user only.
    }
    let untouched = |sandbox: &Sandbox| {
        assert!(sandbox.root.join("installation/where").is_file());
        assert!(
            std::fs::read_dir(sandbox.root.join("builds"))
                .unwrap()
                .next()
                .is_none()
        );
        assert_eq!(lowest(sandbox), "installation");
    };

    let sandbox = older();
    let (code, _, err) = outcome(&sandbox.shell("LEFT4ME_BUILDS=in-place $HELPER upgrade"));
    assert_eq!(code, 0, "{err}");
    untouched(&sandbox);

    let (code, _, err) = outcome(
        &sandbox.shell("exec 5<$ROOT/steam/.left4me-install.lock; flock 5; $HELPER upgrade"),
    );
    assert!(
        code == 4 && err.contains("an installation is under way"),
        "{err}"
    );
    untouched(&sandbox);
    let (code, _, err) = outcome(&sandbox.shell("exec 5<$ROOT/builds; flock 5; $HELPER upgrade"));
    assert!(
        code == 4 && err.contains("a build is being published"),
        "{err}"
    );
    untouched(&sandbox);

    let (code, _, err) = outcome(&sandbox.shell(
        "mount -t tmpfs none $ROOT/builds; $HELPER upgrade; code=$?; umount $ROOT/builds; exit $code",
    ));
    assert!(
        code == 4 && err.contains("are on different file systems"),
        "{err}"
    );
    untouched(&sandbox);

    sandbox.root.write("installation/.left4me-unfinished", "");
    let (code, _, err) = sandbox.helper("upgrade");
    assert_eq!(code, 0, "{err}");
    untouched(&sandbox);
}
