//! Refuses to start a server from files of another platform. After a Windows pass without a Linux
//! pass the runner leaves a marker file in the installation, and removes it when a Linux server is
//! complete there.

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::layers::Layer;
use crate::base::{Error, Result};
use crate::domain::steam::UNFINISHED;

/// Refuses a mount over an installation that may contain Windows files.
///
/// Fails with 4, with advice.
pub(super) fn refuse(layers: &[Layer]) -> Result<()> {
    // Only the game files count: an overlay may contain a file of any name.
    match layers.iter().find(|layer| layer.is_game) {
        Some(layer) if fstatat(&layer.fd, UNFINISHED, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() => {
            Err(Error::conflict(format!(
                "{} holds Windows files of an update that was not finished: \
                 `left4me-job enqueue install --follow` first",
                layer.path.display()
            )))
        }
        _ => Ok(()),
    }
}
