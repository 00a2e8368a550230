//! The lower layers' directories, made again in the upper one as the game's own.
//!
//! In an overlay a directory that only lower layers have shows their owner and mode: steamcmd's, or left4me's. The game
//! could not make a file beside theirs (no log, no download, no add-on's data). A directory of the same name in the
//! upper layer is merged with theirs, and its owner and mode count. Files stay the lower layers' own until the game
//! replaces them.
//!
//! A directory that the game's user could not read where it is, stays closed: it is not made in the upper layer, and the
//! overlay shows the owner and mode that it has. What a layer further down has there is closed with it.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::directory::{Directory, unusable};
use super::layers::Layer;
use crate::base::{Error, Result};

const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Directories are followed so deep; the game's own tree has fewer than ten levels.
const DEPTH: usize = 64;

/// Makes in `upper` each directory that a layer has, owned by `owner`. What the game has put in place of one (a file, a
/// whiteout where it removed the directory, a link) is left alone, and so is what would lie below.
///
/// # Errors
/// When a layer cannot be read, or is deeper than any game's; when a directory cannot be made.
pub(super) fn mirror(layers: &[Layer], upper: &Directory, owner: (Uid, Gid)) -> Result<()> {
    let mut mirror = Mirror { owner, closed: HashSet::new() };
    for layer in layers {
        let copy = upper.fd.try_clone()?;
        let own = openat(&layer.fd, c".", FLAGS, Mode::empty()).map_err(|errno| unusable(&layer.path, errno))?;
        mirror.below(own, copy, Path::new(""), DEPTH).map_err(|errno| match errno {
            Errno::ELOOP => {
                Error::failed(format!("{} has directories more than {DEPTH} levels deep", layer.path.display()))
            }
            errno => unusable(&layer.path, errno).within("its directories cannot be made for the game"),
        })?;
    }
    Ok(())
}

struct Mirror {
    owner: (Uid, Gid),
    /// Directories that are closed in a layer, from its top.
    closed: HashSet<PathBuf>,
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
            if self.closed.contains(&path) {
                continue;
            }
            if !self.may_read(&fstat(&inner)?) {
                tracing::info!("{} is closed to the game in a lower layer, and stays so", path.display());
                self.closed.insert(path);
                continue;
            }
            if let Some(copy) = ensure(&to, &name, self.owner)? {
                self.below(inner, copy, &path, depth - 1)?;
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
    // Ours from now, or from an earlier mount that was interrupted before it handed it over.
    if Uid::from_raw(fstat(&directory)?.st_uid).is_root() {
        fchmod(&directory, Mode::from_bits_truncate(0o755))?;
        fchown(&directory, Some(owner.0), Some(owner.1))?;
    }
    Ok(Some(directory))
}
