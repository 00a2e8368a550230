//! No server starts over the files of another platform: after a windows pass without a linux pass
//! the runner leaves a file in the installation, and removes it when a Linux server is whole there.

use std::path::Path;

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::layers::Layer;
use crate::base::{Error, Result};
use crate::domain::steam::UNFINISHED;

/// Refuses a mount over an installation in which Windows files may lie.
///
/// # Errors
/// Exit 4, with what to do.
pub(super) fn refuse(roots: [&Path; 2], layers: &[Layer]) -> Result<()> {
    // An overlay may hold a file of any name.
    let installations = roots.map(|root| root.join("installation"));

    let installation = layers.iter().find(|layer| installations.contains(&layer.path));
    match installation {
        Some(layer) if fstatat(&layer.fd, UNFINISHED, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() => {
            Err(Error::conflict(format!(
                "{} holds Windows files of an update that was not finished: `left4me-job enqueue install --follow` first",
                layer.path.display()
            )))
        }
        _ => Ok(()),
    }
}
