//! The published builds of the game, below ROOT/builds: one directory for each, never changed
//! again, and the link `current` to the one that servers take at their next start.
//!
//! left4me-publisher writes there; every other program only reads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Error, Result, untrusted_file};

/// The directory of the builds, below the root.
pub const DIRECTORY: &str = "builds";

/// The link to the current build, in that directory.
pub const CURRENT: &str = "current";

/// The file in a build that says where it came from.
pub const ABOUT: &str = ".left4me";

/// The largest [`ABOUT`] that is read.
const ABOUT_LIMIT: usize = 64 * 1024;

/// Where a build came from: the content of [`ABOUT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub build: u64,
    /// Unix ms.
    pub published_at: i64,
    /// The job that published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<i64>,
    /// The bytes of its files.
    pub size: u64,
    /// How many files are the same as in an earlier build.
    #[serde(default)]
    pub linked: u64,
    /// How many share their blocks with the installation (FICLONE).
    #[serde(default)]
    pub cloned: u64,
    /// How many were copied.
    #[serde(default)]
    pub copied: u64,
    /// The bytes of those that were copied.
    #[serde(default)]
    pub copied_size: u64,
}

/// A published build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub build: u64,
    pub is_current: bool,
    /// None for the build that an upgrade from an older version found installed.
    pub about: Option<About>,
}

/// The game files at the bottom of a server's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GameFiles {
    /// What steamcmd writes, where no build is published.
    Installation,
    Build(u64),
}

impl fmt::Display for GameFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GameFiles::Installation => f.write_str("installation/"),
            GameFiles::Build(build) => write!(f, "build {build}"),
        }
    }
}

impl GameFiles {
    /// What a server takes at its next start.
    pub fn current(root: &Path) -> io::Result<Self> {
        Ok(current(root)?.map_or(GameFiles::Installation, GameFiles::Build))
    }

    pub fn directory(self, root: &Path) -> PathBuf {
        match self {
            GameFiles::Installation => root.join("installation"),
            GameFiles::Build(build) => path(root, build),
        }
    }

    /// The game files at `layer`, if there are any.
    pub fn at(root: &Path, layer: &Path) -> Option<Self> {
        let below = layer.strip_prefix(root).ok()?;
        if below == Path::new("installation") {
            return Some(GameFiles::Installation);
        }
        let name = below.strip_prefix(DIRECTORY).ok()?.to_str()?;
        parse(name).map(GameFiles::Build)
    }

    pub fn build(self) -> Option<u64> {
        match self {
            GameFiles::Installation => None,
            GameFiles::Build(build) => Some(build),
        }
    }
}

/// The directory of a build.
pub fn path(root: &Path, build: u64) -> PathBuf {
    root.join(DIRECTORY).join(build.to_string())
}

/// The build that servers take at their next start; none if none is published.
///
/// Fails if the link leads to something that is no build.
pub fn current(root: &Path) -> io::Result<Option<u64>> {
    let link = root.join(DIRECTORY).join(CURRENT);
    let target = match fs::read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };

    let build = target.to_str().and_then(parse);
    match build.filter(|&build| path(root, build).is_dir()) {
        Some(build) => Ok(Some(build)),
        None => Err(io::Error::other(format!(
            "{} leads to {}, which is no build there",
            link.display(),
            target.display()
        ))),
    }
}

/// The published builds, the newest first.
pub fn list(root: &Path) -> io::Result<Vec<Published>> {
    let entries = match fs::read_dir(root.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };

    let current = current(root).unwrap_or_default();
    let mut builds = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(build) = entry.file_name().to_str().and_then(parse) else {
            continue;
        };
        if entry.file_type()?.is_dir() {
            builds.push(Published {
                build,
                is_current: current == Some(build),
                about: about(&entry.path()),
            });
        }
    }

    builds.sort_unstable_by_key(|published| std::cmp::Reverse(published.build));
    Ok(builds)
}

/// The build that a rollback goes back to: `wanted`, or the newest one that is older than the current
/// one and not among the `rejected`.
///
/// Fails with 3 if `wanted` is not kept; 4 if it is the current one, or there is none to go back to.
pub fn rollback_target(root: &Path, wanted: Option<u64>, rejected: &[u64]) -> Result<u64> {
    let kept = list(root)?;
    let current = kept.iter().find(|one| one.is_current).map(|one| one.build);
    let is_older = |build: u64| current.is_some_and(|current| build < current);

    match wanted {
        Some(build) if Some(build) == current => Err(Error::conflict(format!(
            "build {build} is the current one: there is nothing to go back to"
        ))),
        Some(build) if kept.iter().any(|one| one.build == build) => Ok(build),
        Some(build) => Err(Error::not_found(format!(
            "build {build} is not kept: `left4me build list` shows those that are"
        ))),
        None => kept
            .iter()
            .map(|one| one.build)
            .find(|build| is_older(*build) && !rejected.contains(build))
            .ok_or_else(|| {
                Error::conflict(
                    "there is no earlier build to go back to: `left4me build list` shows those \
                     that are kept",
                )
            }),
    }
}

fn about(directory: &Path) -> Option<About> {
    let bytes = untrusted_file::read(directory, &[ABOUT], ABOUT_LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The number of a build, as a directory has it in its name.
fn parse(name: &str) -> Option<u64> {
    let build: u64 = name.parse().ok()?;
    // Only its canonical form, and only what fits into the database.
    let fits = build > 0 && i64::try_from(build).is_ok();
    (fits && build.to_string() == name).then_some(build)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Exit;
    use std::os::unix::fs::symlink;

    #[test]
    fn builds_are_directories_with_a_number_as_their_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(list(root).unwrap(), []);
        assert_eq!(GameFiles::current(root).unwrap(), GameFiles::Installation);

        for name in ["9", "10", ".new-11", "012", "+3", "x"] {
            std::fs::create_dir_all(root.join("builds").join(name)).unwrap();
        }
        std::fs::write(root.join("builds/7"), "").unwrap();
        symlink("10", root.join("builds/current")).unwrap();
        std::fs::write(
            root.join("builds/10/.left4me"),
            r#"{"build":10,"published_at":5,"size":7}"#,
        )
        .unwrap();

        let found = list(root).unwrap();
        let numbers: Vec<_> = found.iter().map(|one| one.build).collect();
        assert_eq!(numbers, [10, 9]);
        assert!(found[0].is_current && !found[1].is_current);
        assert_eq!(found[0].about.as_ref().unwrap().size, 7);
        assert_eq!(GameFiles::current(root).unwrap(), GameFiles::Build(10));
    }

    #[test]
    fn a_rollback_goes_to_the_newest_older_build_that_was_not_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let target = |wanted, rejected: &[u64]| rollback_target(root, wanted, rejected);
        assert_eq!(target(None, &[]).unwrap_err().exit, Exit::Conflict);

        for name in ["5", "6", "7", "8"] {
            std::fs::create_dir_all(root.join("builds").join(name)).unwrap();
        }
        symlink("7", root.join("builds/current")).unwrap();

        assert_eq!(target(None, &[8]).unwrap(), 6, "8 is newer");
        assert_eq!(target(None, &[6]).unwrap(), 5);
        assert_eq!(target(None, &[5, 6]).unwrap_err().exit, Exit::Conflict);
        assert_eq!(target(Some(6), &[6]).unwrap(), 6, "it was asked for");
        assert_eq!(target(Some(8), &[]).unwrap(), 8);
        assert_eq!(target(Some(7), &[]).unwrap_err().exit, Exit::Conflict);
        assert_eq!(target(Some(4), &[]).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn a_link_to_something_else_is_refused() {
        for target in ["../installation", "8", "10/", "/etc", "010"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("builds/10")).unwrap();
            symlink(target, dir.path().join("builds/current")).unwrap();
            let refused = current(dir.path()).unwrap_err().to_string();
            assert!(refused.contains(target), "{refused}");
        }
    }

    #[test]
    fn a_layer_is_recognised() {
        let root = Path::new("/srv/l4");
        for (layer, found) in [
            ("/srv/l4/installation", Some(GameFiles::Installation)),
            ("/srv/l4/builds/10", Some(GameFiles::Build(10))),
            ("/srv/l4/builds/10/x", None),
            ("/srv/l4/builds/current", None),
            ("/srv/l4/overlays/10", None),
            ("/elsewhere/installation", None),
        ] {
            assert_eq!(GameFiles::at(root, Path::new(layer)), found, "{layer}");
        }
    }
}
