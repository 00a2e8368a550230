//! The lower layers' directories, made again in the upper one as the game's own.
//!
//! In an overlay a directory that only lower layers have shows their owner and mode: steamcmd's, or left4me's. The game
//! could not make a file beside theirs (no log, no download, no add-on's data). A directory of the same name in the
//! upper layer is merged with theirs, and its owner and mode count. Files stay the lower layers' own until the game
//! replaces them.
//!
//! A directory that the game's user could not read where it is stays closed: it is not made in the upper layer, and one
//! that is there already (the game's, or one that an earlier version made) gets the owner and mode of the closed one.
//! Where overlays differ, the topmost decides. A directory that the game itself has stays open, and the modes of the
//! files in it decide: an overlay that was filled with a strict umask must not close `left4dead2`.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::directory::{Directory, FLAGS, unusable};
use super::layers::Layer;
use crate::base::{Error, Result};

/// Directories are followed so deep; the game's own tree has fewer than ten levels.
const DEPTH: usize = 64;

/// Makes in `upper` each directory that a layer has, owned by `owner`. What the game has put in place of one (a file, a
/// whiteout where it removed the directory, a link) is left alone, and so is what would lie below.
///
/// # Errors
/// When a layer cannot be read, or is deeper than any game's; when a directory cannot be made.
pub(super) fn mirror(layers: &[Layer], upper: &Directory, owner: (Uid, Gid)) -> Result<()> {
    let mut mirror = Mirror { owner, is_the_games: false, open: HashSet::new(), closed: HashMap::new() };
    for layer in layers {
        mirror.is_the_games = layer.path.ends_with("installation");
        let copy = upper.fd.try_clone()?;
        let own = openat(&layer.fd, c".", FLAGS, Mode::empty()).map_err(|errno| unusable(&layer.path, errno))?;
        mirror.below(own, copy, Path::new(""), DEPTH).map_err(|errno| match errno {
            Errno::ELOOP => {
                Error::failed(format!("{} has directories more than {DEPTH} levels deep", layer.path.display()))
            }
            errno => unusable(&layer.path, errno).within("its directories cannot be made for the game"),
        })?;
    }

    for (path, found) in mirror.closed.iter().filter(|(path, _)| !mirror.open.contains(*path)) {
        tracing::info!("{} is closed to the game in a lower layer, and stays so", path.display());
        close(upper, path, found).map_err(|errno| unusable(&upper.path.join(path), errno))?;
    }
    Ok(())
}

struct Mirror {
    owner: (Uid, Gid),
    /// Whether the layer is the installation.
    is_the_games: bool,
    /// Directories that the game may read, from a layer's top.
    open: HashSet<PathBuf>,
    /// Those that the topmost layer that has them closes, and what they are there.
    closed: HashMap<PathBuf, FileStat>,
}

impl Mirror {
    fn below(&mut self, from: OwnedFd, to: OwnedFd, path: &Path, depth: usize) -> Result<(), Errno> {
        let mut entries = Dir::from_fd(from)?;
        let mut names: Vec<CString> = Vec::new();
        for entry in entries.iter() {
            let entry = entry?;
            let name = entry.file_name();
            // A file system that does not tell types: opening as a directory tells.
            if matches!(entry.file_type(), Some(Type::Directory) | None) && name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        if !names.is_empty() && depth == 0 {
            return Err(Errno::ELOOP);
        }

        for name in names {
            let inner = match openat(entries.as_fd(), name.as_c_str(), FLAGS, Mode::empty()) {
                Ok(inner) => inner,
                Err(Errno::ENOTDIR | Errno::ELOOP | Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            };
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let found = fstat(&inner)?;
            if !self.may_read(&found) {
                if !self.open.contains(&path) {
                    self.closed.entry(path).or_insert(found);
                }
                continue;
            }
            if self.closed.contains_key(&path) && !self.is_the_games {
                continue;
            }
            if let Some(copy) = ensure(&to, &name, self.owner)? {
                self.below(inner, copy, &path, depth - 1)?;
                self.open.insert(path);
            }
        }
        Ok(())
    }

    /// Whether the server's user may list a directory and pass through it where it is.
    fn may_read(&self, found: &FileStat) -> bool {
        let shift = if found.st_uid == self.owner.0.as_raw() {
            6
        } else if found.st_gid == self.owner.1.as_raw() {
            3
        } else {
            0
        };
        found.st_mode >> shift & 0o5 == 0o5
    }
}

/// The directory `name` in `parent`, made for `owner` when nothing has that name; none when something else has.
fn ensure(parent: &OwnedFd, name: &CString, owner: (Uid, Gid)) -> Result<Option<OwnedFd>, Errno> {
    match mkdirat(parent, name.as_c_str(), Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let directory = match openat(parent, name.as_c_str(), FLAGS, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // Made just now, or by a mount that was interrupted, or closed until now.
    if fstat(&directory)?.st_uid != owner.0.as_raw() {
        give(&directory, 0o755, owner)?;
    }
    Ok(Some(directory))
}

/// Gives the directory at `path` in the upper layer the owner and mode of a closed one. None there: nothing to do.
fn close(upper: &Directory, path: &Path, closed: &FileStat) -> Result<(), Errno> {
    let mut directory = openat(upper, c".", FLAGS, Mode::empty())?;
    for name in path {
        directory = match openat(&directory, name, FLAGS, Mode::empty()) {
            Ok(inner) => inner,
            // What the game has put in its place hides the closed one.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(errno) => return Err(errno),
        };
    }

    let found = fstat(&directory)?;
    let is_closed = (found.st_uid, found.st_gid, found.st_mode) == (closed.st_uid, closed.st_gid, closed.st_mode);
    if is_closed {
        return Ok(());
    }
    give(&directory, closed.st_mode & 0o777, (Uid::from_raw(closed.st_uid), Gid::from_raw(closed.st_gid)))
}

/// Root's in between: the mode of another user's directory is not root's to change without a capability.
fn give(directory: &OwnedFd, mode: u32, owner: (Uid, Gid)) -> Result<(), Errno> {
    fchown(directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
    fchmod(directory, Mode::from_bits_truncate(mode))?;
    fchown(directory, Some(owner.0), Some(owner.1))
}
