//! Directories by descriptor. The owner of a directory may put a symbolic link into it at any
//! moment, so root never follows a path through one. Each step opens one name and follows no link.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use crate::base::{Error, Result};

/// An open directory, with its path for messages.
#[derive(Debug)]
pub(super) struct Directory {
    pub fd: OwnedFd,
    /// Its path, for messages and to look it up in the list of mounts.
    pub path: PathBuf,
}

/// The flags for opening a directory.
pub(super) const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A directory that was looked up. An error means that the name exists but cannot be used.
#[derive(Debug)]
pub(super) enum Opened {
    Open(Directory),
    /// Nothing has this name.
    Missing,
}

impl Directory {
    /// Opens the data directory. Its path comes from the settings and is trusted, including
    /// symbolic links.
    pub(super) fn root(root: &Path) -> Result<Self> {
        let path = fs_err::canonicalize(root)?;
        let fd = open(&path, FLAGS, Mode::empty()).map_err(|errno| unusable(&path, errno))?;
        Ok(Self { fd, path })
    }

    /// Opens the directory `name` in this one. A symbolic link is refused.
    pub(super) fn find(&self, name: &str) -> Result<Opened> {
        let path = self.path.join(name);
        match openat(&self.fd, name, FLAGS, Mode::empty()) {
            Ok(fd) => Ok(Opened::Open(Self { fd, path })),
            Err(Errno::ENOENT) => Ok(Opened::Missing),
            Err(errno) => Err(unusable(&path, errno)),
        }
    }

    /// Opens the directory `name`, which must exist.
    pub(super) fn enter(&self, name: &str) -> Result<Self> {
        match self.find(name)? {
            Opened::Open(directory) => Ok(directory),
            Opened::Missing => Err(Error::not_found(format!(
                "{} does not exist",
                self.path.join(name).display()
            ))),
        }
    }

    /// Opens the directory `name` with `mode` and owned by `owner`, and creates it if it is
    /// missing. A directory of root or of a user in `former` is handed over. One of any other user
    /// is refused, because no other user should have been able to create it.
    pub(super) fn ensure(
        &self,
        name: &str,
        mode: Mode,
        owner: (Uid, Gid),
        former: &[Uid],
    ) -> Result<Self> {
        match mkdirat(&self.fd, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(unusable(&self.path.join(name), errno)),
        }

        let directory = self.enter(name)?;
        let refused = |errno| unusable(&directory.path, errno);
        let found = fstat(&directory.fd).map_err(refused)?;

        let uid = Uid::from_raw(found.st_uid);
        if uid == owner.0 && found.st_mode & 0o7777 == mode.bits() {
            return Ok(directory);
        }

        if uid != owner.0 && !uid.is_root() && !former.contains(&uid) {
            let why = format!(
                "{} belongs to user id {uid}, not to {}",
                directory.path.display(),
                owner.0
            );

            return Err(Error::conflict(why));
        }

        // The mode is set while root owns the directory: changing another user's would need a
        // capability.
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        if !uid.is_root() {
            fchown(&directory.fd, Some(root.0), Some(root.1)).map_err(refused)?;
        }

        fchmod(&directory.fd, mode).map_err(refused)?;
        if owner != root {
            fchown(&directory.fd, Some(owner.0), Some(owner.1)).map_err(refused)?;
        }

        Ok(directory)
    }

    /// The owner of the directory.
    pub(super) fn owner(&self) -> Result<Uid> {
        let found = fstat(&self.fd).map_err(|errno| unusable(&self.path, errno))?;
        Ok(Uid::from_raw(found.st_uid))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error for a directory that cannot be used, with its path.
pub(super) fn unusable(path: &Path, errno: Errno) -> Error {
    let path = path.display();
    match errno {
        Errno::ELOOP | Errno::ENOTDIR => {
            Error::failed(format!("{path} is not a directory, or is a symbolic link"))
        }
        Errno::EACCES | Errno::EPERM => Error::not_permitted(format!("{path}: {}", errno.desc())),
        errno => Error::failed(format!("{path}: {}", errno.desc())),
    }
}
