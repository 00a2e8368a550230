//! Writes an instance's files: instance.env, which systemd reads, its own layer, which the game
//! sees, and its RCON password.
//!
//! They are written only when they differ, and never while the instance's overlay is mounted: the
//! kernel's documentation calls changing a lower layer under a mount undefined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::base::builds::GameFiles;
use crate::base::names::InstanceName;
use crate::base::rcon_password::RconPassword;
use crate::base::{Error, Result, lock};
use crate::domain::blueprint::Spec;
use crate::domain::env_file;
use crate::host::configs::{self, ConfigFile};
use crate::host::layer::{self, Node};
use crate::host::rendering::{self, Rendering};
use crate::host::{overlay, rcon_password};
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

/// Brings the instance's files to the state that `spec` describes, over `game`, or over the current
/// game files. ROOT/instances must exist. `may_write` is called last, after the wait for the lock,
/// which may take long.
///
/// Fails with 1 with the overlay when one cannot be used; 1 or 77 when the files cannot be written;
/// the error of `may_write`.
pub fn initialize(
    root: &Path,
    instance: &InstanceName,
    spec: &Spec,
    game: Option<GameFiles>,
    may_write: impl FnOnce() -> Result<()>,
) -> Result<Initialized> {
    let root = fs_err::canonicalize(root)?;
    let game = game.map_or_else(|| current(&root), Ok)?;
    let wanted = Files::of(&root, instance, spec, game)?;
    if rcon_password::current(&wanted.dir).is_some_and(|password| wanted.are_there(&password)) {
        return Ok(Initialized::Unchanged);
    }

    let lock = wanted.lock()?;

    // A program that mounts the overlay takes this lock too, so it finds either the old files or
    // the new ones.
    if overlay_mounts::is_mounted(&root, instance)? {
        return Ok(Initialized::InUse);
    }

    may_write()?;
    let password = rcon_password::ensure(&wanted.dir)?;
    wanted.write(&password)?;
    rcon_password::settle(&wanted.dir)?;
    drop(lock);
    Ok(Initialized::Written)
}

/// Whether [`initialize`] would succeed with `spec`, as far as can be checked without writing:
/// every layer exists and is usable, and the text can be rendered.
pub fn check(root: &Path, instance: &InstanceName, spec: &Spec) -> Result<()> {
    let root = fs_err::canonicalize(root)?;
    let game = current(&root)?;
    Files::of(&root, instance, spec, game)?;

    let directory = game.directory(&root);
    if !directory.is_dir() {
        return Err(Error::failed(format!(
            "the game is not installed: there is no {}; \
             enqueue update, which installs and starts again",
            directory.display()
        )));
    }

    Ok(())
}

/// The game files that servers take at their next start.
fn current(root: &Path) -> Result<GameFiles> {
    GameFiles::current(root)
        .map_err(|error| Error::failed(format!("{error}: `sudo left4me doctor` says what to do")))
}

/// The game files that the instance was initialized with: what is mounted while it runs, and at the
/// next start of its unit. None if it was not initialized.
pub fn game_files(root: &Path, instance: &InstanceName) -> Option<GameFiles> {
    let file = root
        .join("instances")
        .join(instance.as_str())
        .join("instance.env");
    let text = fs_err::read_to_string(file).ok()?;
    let layers = env_file::value(&text, env_file::LAYERS)?;
    let lowest = layers.rsplit(':').next()?;
    let canonical = fs_err::canonicalize(root).ok();
    [Some(root), canonical.as_deref()]
        .into_iter()
        .flatten()
        .find_map(|root| GameFiles::at(root, Path::new(lowest)))
}

/// The game files of every instance that was initialized.
pub fn all_game_files(root: &Path) -> Result<BTreeMap<InstanceName, GameFiles>> {
    let mut all = BTreeMap::new();
    for entry in fs_err::read_dir(root.join("instances"))? {
        let name = entry?.file_name();
        if let Some(instance) = name.to_str().and_then(|name| name.parse().ok())
            && let Some(game) = game_files(root, &instance)
        {
            all.insert(instance, game);
        }
    }
    Ok(all)
}

/// Makes the instance use other game files from its next start on; everything else stays. False if
/// it is mounted now.
pub fn switch_game(root: &Path, instance: &InstanceName, game: GameFiles) -> Result<bool> {
    let root = fs_err::canonicalize(root)?;
    let dir = root.join("instances").join(instance.as_str());
    let lock = lock::directory(&dir)?;
    if overlay_mounts::is_mounted(&root, instance)? {
        return Ok(false);
    }

    let file = dir.join("instance.env");
    let text = fs_err::read_to_string(&file)?;
    let layers = env_file::value(&text, env_file::LAYERS);
    let above = layers.as_deref().and_then(|layers| layers.rsplit_once(':'));
    let (Some((above, _)), Some(lowest)) =
        (above, game.directory(&root).to_str().map(str::to_owned))
    else {
        return Err(Error::failed(format!(
            "{} has no lower layers: initialize server {instance}",
            file.display()
        )));
    };

    let layers = format!("{above}:{lowest}");
    let changed = env_file::with_value(&text, env_file::LAYERS, &layers)?;
    layer::replace_file(&file, &changed)?;
    drop(lock);
    Ok(true)
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
    let instances = root.join("instances");
    let dir = instances.join(instance.as_str());
    // Held until its files are gone: its overlay cannot be mounted meanwhile.
    let is_there = dir.symlink_metadata().is_ok_and(|found| found.is_dir());
    let _lock = is_there.then(|| lock::directory(&dir)).transpose()?;
    if overlay_mounts::is_mounted(&root, instance)? {
        return Err(Error::conflict(format!(
            "server {instance} has its overlay mounted: stop it first"
        )));
    }

    may_remove()?;
    layer::remove(&dir)?;
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
        .chain(rcon_password::beside(&dir))
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

/// The target content of an instance's directory, except for its RCON password.
struct Files {
    root: PathBuf,
    dir: PathBuf,
    text: Rendering,
    /// The overlays' own server.cfg files.
    brought: Vec<ConfigFile>,
}

impl Files {
    fn of(root: &Path, instance: &InstanceName, spec: &Spec, game: GameFiles) -> Result<Self> {
        let layers = overlay::lower_layers(root, instance, &spec.overlays, game)?;
        let brought = configs::find(overlay::with_paths(&spec.overlays, &layers), &layers);
        let text = rendering::render(spec, &layers, &brought)?;
        Ok(Self {
            root: root.to_owned(),
            dir: root.join("instances").join(instance.as_str()),
            text,
            brought,
        })
    }

    fn layer(&self, password: &RconPassword) -> Node {
        layer::of(&self.root, &self.text.server_cfg, &self.brought, password)
    }

    fn are_there(&self, password: &RconPassword) -> bool {
        Node::File(self.text.environment()).is_at(&self.dir.join("instance.env"))
            && self.layer(password).is_at(&self.dir.join("layer"))
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

        lock::directory(dir)
    }

    /// Writes the files that differ.
    fn write(&self, password: &RconPassword) -> Result<()> {
        let dir = &self.dir;
        let layer = self.layer(password);
        if !layer.is_at(&dir.join("layer")) {
            layer.replace(&dir.join("layer"))?;
        }
        layer::replace_file(&dir.join("instance.env"), &self.text.environment())?;
        dir.parent().map_or(Ok(()), layer::sync)
    }
}

fn unusable(dir: &Path, error: std::io::Error) -> Error {
    Error::from(error).within(dir.display())
}

#[cfg(test)]
mod tests;
