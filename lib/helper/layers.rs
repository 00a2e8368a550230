//! Checks the lower layers that initialize wrote into instance.env. The file is untrusted: root
//! mounts no directory outside those where layers belong.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;

use super::directory::{Directory, unusable};
use crate::base::builds::GameFiles;
use crate::base::names::{InstanceName, shown};
use crate::base::{Error, Result};

/// The largest number of layers, the kernel's OVL_MAX_STACK.
pub(super) const MOST: usize = 500;

#[derive(Debug)]
pub(super) struct Layer {
    /// Its path, as in instance.env.
    pub path: PathBuf,
    pub fd: OwnedFd,
    /// Whether it is the instance's own layer.
    pub is_own: bool,
    /// Whether it holds the game files.
    pub is_game: bool,
}

/// Takes a shared lock (flock(2)) on the directory of the instance, until the result is dropped.
///
/// Fails with 3 if the server was not initialized.
pub(super) fn lock(root: &Directory, server: &InstanceName) -> Result<Flock<OwnedFd>> {
    let instance = root.enter("instances")?.enter(server.as_str())?;
    Flock::lock(instance.fd, FlockArg::LockShared)
        .map_err(|(_, errno)| unusable(&instance.path, errno))
}

/// Opens and checks the layers that instance.env names, the topmost first.
pub(super) fn open(
    root: &Directory,
    settings_root: &Path,
    server: &InstanceName,
    names: &[String],
) -> Result<Vec<Layer>> {
    let file = root
        .path
        .join("instances")
        .join(server.as_str())
        .join("instance.env");
    if names.len() > MOST {
        return Err(Error::failed(format!(
            "{} has {} lower layers, at most {MOST} are possible",
            file.display(),
            names.len()
        )));
    }

    let mut seen = HashSet::new();
    let mut layers = Vec::with_capacity(names.len());
    for name in names {
        let below = [&root.path, settings_root]
            .into_iter()
            .find_map(|root| below(root, name));
        let below = below
            .filter(|below| allowed(below, server))
            .ok_or_else(|| {
                Error::failed(format!(
                    "'{}' in {} is not where lower layers are",
                    shown(name),
                    file.display()
                ))
            })?;

        if !seen.insert(below.clone()) {
            return Err(Error::failed(format!(
                "'{}' is twice in {}",
                shown(name),
                file.display()
            )));
        }

        let is_own = below.starts_with("instances");
        layers.push(Layer {
            fd: open_layer(root, &below)?,
            path: root.path.join(&below),
            is_own,
            is_game: game(&below).is_some(),
        });
    }

    Ok(layers)
}

/// `name` relative to `root`, if it is a path below it in canonical form, without `.` and `..`.
fn below(root: &Path, name: &str) -> Option<PathBuf> {
    let rest = Path::new(name).strip_prefix(root).ok()?;
    // Joining the components again drops a doubled or trailing slash and `.`, so that the
    // comparison fails for them.
    let below: PathBuf = rest.components().collect();
    let plain = below
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let canonical = root.join(&below).as_os_str() == name;
    (plain && canonical && !name.contains(|c: char| c.is_control() || matches!(c, ',' | '\\')))
        .then_some(below)
}

fn allowed(below: &Path, server: &InstanceName) -> bool {
    let own: PathBuf = ["instances", server.as_str(), "layer"].iter().collect();
    below == own
        || below.starts_with("installation")
        || game(below).is_some()
        || below.starts_with("workshop_cache")
        || (below.starts_with("overlays") && below.components().count() > 1)
}

/// The game files at `below`: installation/, or a published build.
fn game(below: &Path) -> Option<GameFiles> {
    GameFiles::at(Path::new(""), below)
}

/// Opens a layer without following any link, so that its path is its real path, now and when it is
/// mounted. It opens one name at a time: openat2 could do it in one call, but is not available in a
/// unit with RestrictSUIDSGID=.
pub(super) fn open_layer(root: &Directory, below: &Path) -> Result<OwnedFd> {
    let path = root.path.join(below);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;

    let mut fd = root.fd.try_clone()?;
    for name in below {
        fd = openat(&fd, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT => {
                Error::not_found(format!("the lower layer {} does not exist", path.display()))
            }
            Errno::ENOTDIR | Errno::ELOOP => Error::failed(format!(
                "the lower layer {} goes through a symbolic link, or is no directory",
                path.display()
            )),
            errno => unusable(&path, errno),
        })?;
    }

    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_allowed(name: &str) -> bool {
        below(Path::new("/srv/l4"), name)
            .is_some_and(|below| allowed(&below, &"7".parse().unwrap()))
    }

    #[test]
    fn a_layer_is_where_layers_are() {
        for good in [
            "/srv/l4/installation",
            "/srv/l4/builds/6",
            "/srv/l4/overlays/maps",
            "/srv/l4/overlays/a/b",
            "/srv/l4/workshop_cache/1",
            "/srv/l4/instances/7/layer",
        ] {
            assert!(is_allowed(good), "{good}");
        }

        for bad in [
            "",
            "/",
            "/srv/l4",
            "/srv/l4/overlays",
            "/srv/l4/overlays/../steam",
            "/srv/l4/overlays/./maps",
            "/srv/l4//installation",
            "/srv/l4/installation/",
            "/srv/l4/instances/8/layer",
            "/srv/l4/instances/7/layer/x",
            "/srv/l4/instances/7",
            "/srv/l4/steam",
            "/srv/l4/installation2",
            "/srv/l4/builds",
            "/srv/l4/builds/current",
            "/srv/l4/builds/.new-6",
            "/srv/l4/builds/06",
            "/srv/l4/builds/6/left4dead2",
            "/srv/l4/builds/6/",
            "/etc",
            "installation",
            "/srv/l4/overlays/a,b",
            "/srv/l4/overlays/a\\b",
            "/srv/l4/overlays/a\tb",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_allowed_stays_below_the_root(name in "(/srv/l4)?(/|\\.|\\.\\.|overlays|installation|builds|[0-9]|instances/7/layer|[a-z:,\\\\]){0,9}") {
            if is_allowed(&name) {
                prop_assert!(name.starts_with("/srv/l4/") && !name.contains("/../") && !name.ends_with("/.."));
            }
        }
    }
}
