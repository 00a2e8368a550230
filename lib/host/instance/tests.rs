//! What initializing writes, with its modes, and what it leaves alone.

use super::*;
use crate::base::rcon_password::{FILE, ROTATE};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

fn root() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for below in [
        "overlays/maps",
        "workshop_cache",
        "installation",
        "instances",
    ] {
        std::fs::create_dir_all(root.join(below)).unwrap();
    }

    (dir, root)
}

fn spec() -> Spec {
    Spec {
        port: 27000,
        overlays: vec!["maps".parse().unwrap()],
        arguments: vec!["+map".parse().unwrap(), "c1m1_hotel".parse().unwrap()],
        config: vec!["hostname \"x\"".parse().unwrap()],
    }
}

fn name() -> InstanceName {
    "7".parse().unwrap()
}

#[test]
fn initializing_writes_settings_and_layer_and_a_second_time_touches_nothing() {
    let (_dir, root) = root();
    assert_eq!(
        initialize(&root, &name(), &spec(), None, || Ok(())).unwrap(),
        Initialized::Written
    );

    let dir = root.join("instances/7");
    let shown = root.display();

    assert_eq!(
        std::fs::read_to_string(dir.join("instance.env")).unwrap(),
        format!(
            "L4D2_PORT=27000\nL4D2_ARGS=\"\\\"+map\\\" \\\"c1m1_hotel\\\"\"\n\
             LEFT4ME_LOWERDIRS=\"{shown}/instances/7/layer:{shown}/overlays/maps:{shown}/installation\"\n"
        )
    );

    let config = std::fs::read_to_string(dir.join("layer/left4dead2/cfg/server.cfg")).unwrap();
    assert!(
        config.starts_with("// left4me") && config.contains("\nhostname \"x\"\n"),
        "{config}"
    );

    assert_eq!(
        std::fs::read_link(dir.join("layer/.steam/sdk32")).unwrap(),
        root.join("steam/linux32")
    );

    let seen = |path: &str| {
        dir.join(path)
            .metadata()
            .map(|found| (found.ino(), found.ctime_nsec()))
            .unwrap()
    };

    let before = (seen("instance.env"), seen("layer"), seen("."));
    assert_eq!(
        initialize(&root, &name(), &spec(), None, || Ok(())).unwrap(),
        Initialized::Unchanged
    );

    assert_eq!(before, (seen("instance.env"), seen("layer"), seen(".")));
}

#[test]
fn a_change_is_written_and_nothing_is_left_beside_it() {
    let (_dir, root) = root();
    initialize(&root, &name(), &spec(), None, || Ok(())).unwrap();
    let changed = Spec {
        port: 27001,
        config: Vec::new(),
        ..spec()
    };

    assert_eq!(
        initialize(&root, &name(), &changed, None, || Ok(())).unwrap(),
        Initialized::Written
    );

    std::fs::write(
        root.join("instances/7/layer/left4dead2/cfg/server.cfg"),
        "by hand",
    )
    .unwrap();

    assert_eq!(
        initialize(&root, &name(), &changed, None, || Ok(())).unwrap(),
        Initialized::Written
    );

    assert_eq!(
        std::fs::read_dir(root.join("instances/7")).unwrap().count(),
        3
    );
}

#[test]
fn modes_do_not_depend_on_what_was_there() {
    let (_dir, root) = root();
    let instances = root.join("instances");
    let mode = |path: &str| {
        instances
            .join(path)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };

    // As the previous version left it.
    std::fs::create_dir(instances.join("7")).unwrap();
    std::fs::set_permissions(instances.join("7"), std::fs::Permissions::from_mode(0o2750)).unwrap();
    initialize(&root, &name(), &spec(), None, || Ok(())).unwrap();
    assert_eq!(
        [mode("7"), mode("7/layer"), mode("7/layer/left4dead2/cfg")],
        [0o711, 0o750, 0o750]
    );

    assert_eq!(
        [
            mode("7/instance.env"),
            mode("7/layer/left4dead2/cfg/server.cfg"),
            mode("7/layer/left4dead2/cfg/left4me_rcon.cfg"),
            mode("7/rcon_password"),
        ],
        [0o640; 4]
    );
}

#[test]
fn removing_is_idempotent_and_follows_no_link() {
    let (_dir, root) = root();

    remove(&root, &name(), || Ok(())).unwrap();
    initialize(&root, &name(), &spec(), None, || Ok(())).unwrap();
    remove(&root, &name(), || Ok(())).unwrap();
    assert!(!root.join("instances/7").exists());
    symlink(root.join("overlays"), root.join("instances/7")).unwrap();
    remove(&root, &name(), || Ok(())).unwrap();
    assert!(root.join("overlays/maps").is_dir());
}

#[test]
fn nothing_is_written_through_a_link_or_without_the_instances_directory() {
    let (_dir, root) = root();
    symlink(root.join("overlays"), root.join("instances/7")).unwrap();
    assert!(initialize(&root, &name(), &spec(), None, || Ok(())).is_err());
    assert!(!root.join("overlays/instance.env").exists());
    std::fs::remove_file(root.join("instances/7")).unwrap();
    std::fs::remove_dir(root.join("instances")).unwrap();
    assert!(
        initialize(&root, &name(), &spec(), None, || Ok(()))
            .unwrap_err()
            .to_string()
            .contains("tmpfiles")
    );
}

#[test]
fn a_leftover_of_a_broken_off_initialize_is_no_obstacle() {
    let (_dir, root) = root();
    std::fs::create_dir_all(root.join("instances/7/layer.new/x")).unwrap();
    std::fs::write(root.join("instances/7/instance.new"), "x").unwrap();
    std::fs::write(root.join("instances/7/rcon_password.new"), "x").unwrap();
    assert_eq!(
        initialize(&root, &name(), &spec(), None, || Ok(())).unwrap(),
        Initialized::Written
    );

    assert_eq!(
        std::fs::read_dir(root.join("instances/7")).unwrap().count(),
        3
    );
}

/// The password for left4me-console, after checking that the game gets the same.
fn password(root: &Path) -> String {
    let file = std::fs::read_to_string(root.join("instances/7").join(FILE)).unwrap();
    let password = file.strip_suffix('\n').unwrap().to_owned();
    assert!(password.len() == 32 && password.bytes().all(|b| b.is_ascii_alphanumeric()));

    let cfg = root.join("instances/7/layer/left4dead2/cfg");
    let set = std::fs::read_to_string(cfg.join("left4me_rcon.cfg")).unwrap();
    assert_eq!(set, format!("rcon_password \"{password}\"\n"));

    let server_cfg = std::fs::read_to_string(cfg.join("server.cfg")).unwrap();
    assert!(
        server_cfg.ends_with("\nexec left4me_rcon.cfg\n"),
        "{server_cfg}"
    );
    for shown in [server_cfg, read(root, "instance.env")] {
        assert!(!shown.contains(&password), "{shown}");
    }

    password
}

fn read(root: &Path, below: &str) -> String {
    std::fs::read_to_string(root.join("instances/7").join(below)).unwrap()
}

fn init(root: &Path, spec: &Spec) -> Initialized {
    initialize(root, &name(), spec, None, || Ok(())).unwrap()
}

#[test]
fn the_rcon_password_stays_until_a_rotation_and_wins_over_the_blueprints() {
    let (_dir, root) = root();
    let mine = Spec {
        config: vec!["rcon_password \"mine\"".parse().unwrap()],
        ..spec()
    };
    init(&root, &mine);
    let first = password(&root);

    // Neither an initialization nor another blueprint changes it.
    assert_eq!(init(&root, &mine), Initialized::Unchanged);
    assert_eq!(init(&root, &spec()), Initialized::Written);
    assert_eq!(password(&root), first);

    // A rotation changes nothing before the next initialization.
    rcon_password::request_rotation(&root, &name()).unwrap();
    rcon_password::request_rotation(&root, &name()).unwrap();
    assert_eq!(password(&root), first);
    assert_eq!(init(&root, &spec()), Initialized::Written);
    let second = password(&root);
    assert_ne!(second, first);
    assert!(!root.join("instances/7").join(ROTATE).exists());
    assert_eq!(init(&root, &spec()), Initialized::Unchanged);

    // Another server has another one.
    let other = "8".parse().unwrap();
    initialize(&root, &other, &spec(), None, || Ok(())).unwrap();
    let other = std::fs::read_to_string(root.join("instances/8").join(FILE)).unwrap();
    assert_ne!(other.trim_end(), second);
}

#[test]
fn a_password_that_was_lost_opened_or_changed_by_hand_is_replaced() {
    let (_dir, root) = root();
    init(&root, &spec());
    let path = root.join("instances/7").join(FILE);

    for damage in [
        &(|| std::fs::remove_file(&path).unwrap()) as &dyn Fn(),
        &|| std::fs::write(&path, "x; quit\n").unwrap(),
        &|| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap(),
    ] {
        let before = password(&root);
        damage();
        assert_eq!(init(&root, &spec()), Initialized::Written);
        assert_ne!(password(&root), before);
    }

    // As an interrupted initialization leaves them: the game has the old one.
    std::fs::write(&path, format!("{}\n", "n".repeat(32))).unwrap();
    assert_eq!(init(&root, &spec()), Initialized::Written);
    assert_eq!(password(&root), "n".repeat(32));
}

#[test]
fn a_server_without_files_has_no_password_to_rotate() {
    let (_dir, root) = root();
    let error = rcon_password::request_rotation(&root, &name()).unwrap_err();
    assert_eq!(error.exit.code(), 4, "{error}");

    init(&root, &spec());
    remove(&root, &name(), || Ok(())).unwrap();
    assert!(!root.join("instances/7").exists());
}
