//! Checks of the game files before a server's start.

use std::path::Path;

use crate::base::{Error, Result};
use crate::domain::steam::UNFINISHED;

/// Refuses a start over Windows files: a windows pass without a linux pass after it.
///
/// Fails with 4, with what to do.
pub fn refuse_unfinished(root: &Path) -> Result<()> {
    let installation = root.join("installation");
    if installation.join(UNFINISHED).symlink_metadata().is_err() {
        return Ok(());
    }

    Err(Error::conflict(format!(
        "{} holds Windows files of an update that was not finished: enqueue install, then start",
        installation.display()
    )))
}
