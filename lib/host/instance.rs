//! Writes an instance's files: instance.env, which systemd reads, and its own layer, which the game
//! sees.
//!
//! Both are written only when they differ, and never while the instance's overlay is mounted: the
//! kernel's documentation calls changing a lower layer under a mount undefined.

use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::domain::blueprint::Spec;
use crate::host::layer::{self, Node};
use crate::host::{configs, overlay, rendering};
use crate::process::overlay_mounts;

/// The umask for the modes of an instance's directories. Programs that initialize set it when they
/// start.
pub const UMASK: u32 = 0o027;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialized {
    /// The files differed and were written.
    Written,
    /// The files were up to date; nothing was written.
    Unchanged,
    /// The files differ, but the instance's overlay is mounted; nothing was written.
    InUse,
}

/// Brings the instance's files to the state that `spec` describes. ROOT/instances must exist.
/// `may_write` is called last, after the wait for the lock, which may take long.
///
/// Fails with 1 with the overlay when one cannot be used; 1 or 77 when the files cannot be written;
/// the error of `may_write`.
pub fn initialize(
    root: &Path,
    instance: &InstanceName,
    spec: &Spec,
    may_write: impl FnOnce() -> Result<()>,
) -> Result<Initialized> {
    let root = fs_err::canonicalize(root)?;
    let wanted = Files::of(&root, instance, spec)?;
    if wanted.are_in(&wanted.dir) {
        return Ok(Initialized::Unchanged);
    }

    let lock = wanted.lock()?;

    // A program that mounts the overlay takes this lock too, so it finds either the old files or
    // the new ones.
    if overlay_mounts::is_mounted(&root, instance)? {
        return Ok(Initialized::InUse);
    }

    may_write()?;
    wanted.write()?;
    drop(lock);
    Ok(Initialized::Written)
}

/// Whether [`initialize`] would succeed with `spec`, as far as can be checked without writing:
/// every layer exists and is usable, and the text can be rendered.
pub fn check(root: &Path, instance: &InstanceName, spec: &Spec) -> Result<()> {
    let root = fs_err::canonicalize(root)?;
    Files::of(&root, instance, spec)?;

    let installation = root.join("installation");
    if !installation.is_dir() {
        return Err(Error::failed(format!(
            "the game is not installed: there is no {}; \
             enqueue update, which installs and starts again",
            installation.display()
        )));
    }

    Ok(())
}

/// Removes the instance's files; missing ones are no error. Does not follow links. `may_remove` is
/// called last.
///
/// Fails with 4 while its overlay is mounted; 1 or 77 when something is left; the error of
/// `may_remove`.
pub fn remove(
    root: &Path,
    instance: &InstanceName,
    may_remove: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let root = fs_err::canonicalize(root)?;
    if overlay_mounts::is_mounted(&root, instance)? {
        return Err(Error::conflict(format!(
            "server {instance} has its overlay mounted: stop it first"
        )));
    }

    let instances = root.join("instances");
    may_remove()?;
    layer::remove(&instances.join(instance.as_str()))?;
    if instances.is_dir() {
        layer::sync(&instances)
    } else {
        Ok(())
    }
}

/// Removes what an interrupted initialization left beside the instance's files. Returns what was
/// removed.
///
/// Fails with 1 when another program holds the instance's lock, or something cannot be removed.
pub fn tidy(root: &Path, instance: &InstanceName) -> Result<Vec<PathBuf>> {
    let dir = root.join("instances").join(instance.as_str());
    if !dir.is_dir() {
        return Ok(Vec::new());
    }

    let opened = std::fs::File::open(&dir).map_err(|error| unusable(&dir, error))?;
    let lock =
        Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => Error::conflict(format!(
                "another program (l4d2ctl?) uses the files of server {instance}"
            )),
            other => unusable(&dir, other.into()),
        })?;

    let mut removed = Vec::new();
    for path in layer::beside(&dir.join("layer"))
        .into_iter()
        .chain(layer::beside(&dir.join("instance.env")))
    {
        if path.symlink_metadata().is_ok() {
            layer::remove(&path)?;
            removed.push(path);
        }
    }

    drop(lock);
    Ok(removed)
}

/// Whether the instance was initialized, so that systemd can start it.
pub fn is_initialized(root: &Path, instance: &InstanceName) -> bool {
    root.join("instances")
        .join(instance.as_str())
        .join("instance.env")
        .is_file()
}

/// The target content of an instance's directory.
struct Files {
    dir: PathBuf,
    environment: String,
    layer: Node,
}

impl Files {
    fn of(root: &Path, instance: &InstanceName, spec: &Spec) -> Result<Self> {
        let layers = overlay::lower_layers(root, instance, &spec.overlays)?;
        let own = configs::find(overlay::with_paths(&spec.overlays, &layers), &layers);
        let text = rendering::render(spec, &layers, &own)?;
        let dir = root.join("instances").join(instance.as_str());
        Ok(Self {
            dir,
            environment: text.environment(),
            layer: layer::of(root, text.server_cfg, &own),
        })
    }

    fn are_in(&self, dir: &Path) -> bool {
        Node::File(self.environment.clone()).is_at(&dir.join("instance.env"))
            && self.layer.is_at(&dir.join("layer"))
    }

    /// Creates the instance's directory if it is missing, and locks it (flock(2)): worker and
    /// `l4d2ctl` may write to it at the same time.
    fn lock(&self) -> Result<Flock<std::fs::File>> {
        let dir = &self.dir;
        if let Some(instances) = dir.parent()
            && !instances.is_dir()
        {
            return Err(Error::failed(format!(
                "{} is missing: run `systemd-tmpfiles --create`",
                instances.display()
            )));
        }

        layer::make_dir(dir)?;
        layer::settle_instance_mode(dir)?;

        let opened = std::fs::File::open(dir).map_err(|error| unusable(dir, error))?;
        Flock::lock(opened, FlockArg::LockExclusive)
            .map_err(|(_, errno)| unusable(dir, errno.into()))
    }

    /// Writes the files that differ.
    fn write(&self) -> Result<()> {
        let dir = &self.dir;
        if !self.layer.is_at(&dir.join("layer")) {
            self.layer.replace(&dir.join("layer"))?;
        }
        layer::replace_file(&dir.join("instance.env"), &self.environment)?;
        dir.parent().map_or(Ok(()), layer::sync)
    }
}

fn unusable(dir: &Path, error: std::io::Error) -> Error {
    Error::from(error).within(dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;
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
            initialize(&root, &name(), &spec(), || Ok(())).unwrap(),
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
            config.starts_with("// left4me") && config.ends_with("\nhostname \"x\"\n"),
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
            initialize(&root, &name(), &spec(), || Ok(())).unwrap(),
            Initialized::Unchanged
        );

        assert_eq!(before, (seen("instance.env"), seen("layer"), seen(".")));
    }

    #[test]
    fn a_change_is_written_and_nothing_is_left_beside_it() {
        let (_dir, root) = root();
        initialize(&root, &name(), &spec(), || Ok(())).unwrap();
        let changed = Spec {
            port: 27001,
            config: Vec::new(),
            ..spec()
        };

        assert_eq!(
            initialize(&root, &name(), &changed, || Ok(())).unwrap(),
            Initialized::Written
        );

        std::fs::write(
            root.join("instances/7/layer/left4dead2/cfg/server.cfg"),
            "by hand",
        )
        .unwrap();

        assert_eq!(
            initialize(&root, &name(), &changed, || Ok(())).unwrap(),
            Initialized::Written
        );

        assert_eq!(
            std::fs::read_dir(root.join("instances/7")).unwrap().count(),
            2
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
        std::fs::set_permissions(instances.join("7"), std::fs::Permissions::from_mode(0o2750))
            .unwrap();
        initialize(&root, &name(), &spec(), || Ok(())).unwrap();
        assert_eq!(
            [mode("7"), mode("7/layer"), mode("7/layer/left4dead2/cfg")],
            [0o711, 0o750, 0o750]
        );

        assert_eq!(
            [
                mode("7/instance.env"),
                mode("7/layer/left4dead2/cfg/server.cfg")
            ],
            [0o640; 2]
        );
    }

    #[test]
    fn removing_is_idempotent_and_follows_no_link() {
        let (_dir, root) = root();

        remove(&root, &name(), || Ok(())).unwrap();
        initialize(&root, &name(), &spec(), || Ok(())).unwrap();
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
        assert!(initialize(&root, &name(), &spec(), || Ok(())).is_err());
        assert!(!root.join("overlays/instance.env").exists());
        std::fs::remove_file(root.join("instances/7")).unwrap();
        std::fs::remove_dir(root.join("instances")).unwrap();
        assert!(
            initialize(&root, &name(), &spec(), || Ok(()))
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
        assert_eq!(
            initialize(&root, &name(), &spec(), || Ok(())).unwrap(),
            Initialized::Written
        );

        assert_eq!(
            std::fs::read_dir(root.join("instances/7")).unwrap().count(),
            2
        );
    }
}
