//! `purge-files N`: what left4me-purge@N.service does, as the user who owns the files. Root is refused: it would be
//! root that follows what a game wrote.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::geteuid;

use super::directory::{Directory, Found, unusable};
use super::{empty, umount};
use crate::base::names::InstanceName;
use crate::base::{Error, Result, users};
use crate::process::mounts;

/// Empties the upper and work directories of `server`; when instances/N is gone, removes runtime/N as a whole. Nothing
/// there: success.
///
/// # Errors
/// Exit 77 for another user than left4me-game; 4 while the overlay is mounted.
pub(super) fn run(root: &Path, server: &InstanceName) -> Result<()> {
    if users::ids(users::GAME)?.0 != geteuid() {
        let words =
            format!("not permitted: this is for user {}; as root, use `left4me-helper purge {server}`", users::GAME);
        return Err(Error::not_permitted(words));
    }
    let root = Directory::root(root)?;
    let merged = umount::merged(&root, server);
    if !mounts::at(&merged)?.is_empty() {
        return Err(Error::conflict(format!("{} is mounted: stop server {server} first", merged.display())));
    }
    let Found::Open(all) = root.find("runtime")? else { return Ok(()) };
    let Found::Open(runtime) = all.find(server.as_str())? else { return Ok(()) };
    for name in ["upper", "work"] {
        if let Found::Open(directory) = runtime.find(name)? {
            empty::empty(&directory)?;
        }
    }
    if !is_gone(&root, server)? {
        return Ok(());
    }
    let name = std::ffi::CString::new(server.as_str()).map_err(|error| Error::failed(error.to_string()))?;
    empty::remove(&all, &name)
}

/// Whether instances/N does not exist. Not being allowed to look is no proof of it.
fn is_gone(root: &Directory, server: &InstanceName) -> Result<bool> {
    let path = Path::new("instances").join(server.as_str());
    match fstatat(root, &path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) | Err(Errno::EACCES) => Ok(false),
        Err(Errno::ENOENT) => Ok(true),
        Err(errno) => Err(unusable(&root.path.join(path), errno)),
    }
}
