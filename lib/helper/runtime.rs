//! runtime/ID: a directory of root in which only `upper` belongs to the server's user. The game
//! cannot replace any of the four directories of a mount, and no other local user can reach what
//! the game wrote.

use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::directory::{Directory, Opened};
use super::walk;
use crate::base::Result;
use crate::base::names::InstanceName;

const ROOT: (Uid, Gid) = (Uid::from_raw(0), Gid::from_raw(0));

/// The directories of one server.
pub(super) struct Runtime {
    /// The upper layer: what the game wrote.
    pub upper: Directory,
    pub work: Directory,
    /// Where the overlay is mounted.
    pub merged: Directory,
    /// Where the parts of the overlay are mounted while it is built.
    pub parts: Directory,
}

impl Runtime {
    /// Creates missing directories, and gives those of users in `former` to root and to `owner`.
    /// Nothing may be mounted.
    ///
    /// Fails with 4 if something belongs to another user; 1 for a link in place of a directory.
    pub(super) fn ensure(
        root: &Directory,
        server: &InstanceName,
        owner: (Uid, Gid),
        former: &[Uid],
    ) -> Result<Self> {
        Self::inside(&close(root, server, former)?, owner, former)
    }

    /// Creates the four directories in `all`, which belongs to root.
    pub(super) fn inside(all: &Directory, owner: (Uid, Gid), former: &[Uid]) -> Result<Self> {
        let work = all.ensure("work", Mode::S_IRWXU, ROOT, former)?;
        let merged = all.ensure("merged", mode(0o755), ROOT, former)?;
        let parts = all.ensure("parts", Mode::S_IRWXU, ROOT, &[])?;

        let upper = match all.find("upper")? {
            Opened::Open(upper) if upper.owner()? == owner.0 => upper,
            Opened::Open(upper) if former.contains(&upper.owner()?) => {
                walk::give(&upper, former, owner)?;
                upper
            }
            _ => all.ensure("upper", mode(0o755), owner, &[])?,
        };

        Ok(Self {
            upper,
            work,
            merged,
            parts,
        })
    }
}

/// Opens runtime/ID and makes it root's.
pub(super) fn close(root: &Directory, server: &InstanceName, former: &[Uid]) -> Result<Directory> {
    let all = root.ensure("runtime", mode(0o711), ROOT, former)?;
    all.ensure(server.as_str(), Mode::S_IRWXU, ROOT, former)
}

/// The owner of the upper layer; none if the overlay was never mounted.
pub(super) fn upper_owner(root: &Directory, server: &InstanceName) -> Result<Option<Uid>> {
    let Opened::Open(all) = root.find("runtime")? else {
        return Ok(None);
    };
    let Opened::Open(runtime) = all.find(server.as_str())? else {
        return Ok(None);
    };
    match runtime.find("upper")? {
        Opened::Open(upper) => upper.owner().map(Some),
        Opened::Missing => Ok(None),
    }
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

/// The mount point of a server's overlay, as the kernel lists it.
pub(super) fn merged(root: &Directory, server: &InstanceName) -> PathBuf {
    root.path
        .join("runtime")
        .join(server.as_str())
        .join("merged")
}
