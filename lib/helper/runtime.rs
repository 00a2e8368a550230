//! runtime/ID: a directory of root's, in which `upper` alone belongs to the server's user. The game can exchange none of
//! the four that a mount is made of, and no other local user can pass to what the game wrote.

use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::directory::{Directory, Found};
use super::walk;
use crate::base::Result;
use crate::base::names::InstanceName;

const ROOT: (Uid, Gid) = (Uid::from_raw(0), Gid::from_raw(0));

/// The directories of one server.
pub(super) struct Runtime {
    /// What the game wrote.
    pub upper: Directory,
    /// The kernel's own.
    pub work: Directory,
    /// Where the overlay is mounted.
    pub merged: Directory,
    /// Where what the overlay is made of is mounted while it is made.
    pub parts: Directory,
}

impl Runtime {
    /// Makes what is missing, and gives what one of `former` had to root and to `owner`. Nothing may be mounted.
    ///
    /// # Errors
    /// Exit 4 when something belongs to another user; 1 for a link in the place of a directory.
    pub(super) fn ensure(root: &Directory, server: &InstanceName, owner: (Uid, Gid), former: &[Uid]) -> Result<Self> {
        Self::inside(&close(root, server, former)?, owner, former)
    }

    /// The four of them in a directory that is root's.
    ///
    /// # Errors
    /// As [`Runtime::ensure`].
    pub(super) fn inside(all: &Directory, owner: (Uid, Gid), former: &[Uid]) -> Result<Self> {
        let work = all.ensure("work", Mode::S_IRWXU, ROOT, former)?;
        let merged = all.ensure("merged", mode(0o755), ROOT, former)?;
        let parts = all.ensure("parts", Mode::S_IRWXU, ROOT, &[])?;

        let upper = match all.find("upper")? {
            Found::Open(upper) if upper.owner()? == owner.0 => upper,
            Found::Open(upper) if former.contains(&upper.owner()?) => {
                walk::give(&upper, former, owner)?;
                upper
            }
            _ => all.ensure("upper", mode(0o755), owner, &[])?,
        };

        Ok(Self { upper, work, merged, parts })
    }
}

/// runtime/ID itself, which is root's from now on.
///
/// # Errors
/// As [`Runtime::ensure`].
pub(super) fn close(root: &Directory, server: &InstanceName, former: &[Uid]) -> Result<Directory> {
    let all = root.ensure("runtime", mode(0o711), ROOT, former)?;
    all.ensure(server.as_str(), Mode::S_IRWXU, ROOT, former)
}

/// The owner of what the game wrote; none where nothing was ever mounted.
///
/// # Errors
/// When it cannot be seen.
pub(super) fn upper_owner(root: &Directory, server: &InstanceName) -> Result<Option<Uid>> {
    let Found::Open(all) = root.find("runtime")? else { return Ok(None) };
    let Found::Open(runtime) = all.find(server.as_str())? else { return Ok(None) };
    match runtime.find("upper")? {
        Found::Open(upper) => upper.owner().map(Some),
        Found::Missing => Ok(None),
    }
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

/// Where the overlay of `server` is mounted, as the kernel calls it.
pub(super) fn merged(root: &Directory, server: &InstanceName) -> PathBuf {
    root.path.join("runtime").join(server.as_str()).join("merged")
}
