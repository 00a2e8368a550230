//! `purge-files N`: the work of left4me-purge@N.service, as the server's user. Root is refused,
//! because root must not walk through files that a game wrote.

use std::path::Path;

use nix::unistd::geteuid;

use super::directory::{Directory, Opened};
use super::{empty, runtime};
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::process::mounts;

/// Empties the upper directory of `server`. Succeeds if there is none.
///
/// Fails with 77 if the caller is not the owner of the directory; 4 while the overlay is mounted.
pub(super) fn run(root: &Path, server: &InstanceName) -> Result<()> {
    let root = Directory::root(root)?;
    let merged = runtime::merged(&root, server);
    if !mounts::at(&merged)?.is_empty() {
        return Err(Error::conflict(format!(
            "{} is mounted: stop server {server} first",
            merged.display()
        )));
    }

    let Opened::Open(all) = root.find("runtime")? else {
        return Ok(());
    };
    let Opened::Open(runtime) = all.find(server.as_str())? else {
        return Ok(());
    };
    let Opened::Open(upper) = runtime.find("upper")? else {
        return Ok(());
    };

    let owner = upper.owner()?;
    if owner != geteuid() {
        let why = format!(
            "not permitted: {} belongs to user id {owner}",
            upper.path.display()
        );

        return Err(Error::not_permitted(format!(
            "{why}; as root, use `left4me-helper purge {server}`"
        )));
    }

    empty::empty(&upper)
}
