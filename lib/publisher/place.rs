//! A directory by descriptor: nothing is reached through a path that steamcmd can change.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::OFlags;

/// A directory that is read, or whose entries are opened, without following a link.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory with its path for messages.
pub(super) struct Place {
    pub fd: OwnedFd,
    pub path: PathBuf,
}
