//! Which game files are the lowest layer of a mount. instance.env names them; where they are gone,
//! the current ones take their place, so that a server starts at boot after a power cut in the
//! middle of an upgrade or an update in place.

use std::path::Path;

use super::directory::Directory;
use super::layers::Layer;
use crate::base::builds::GameFiles;
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::process::game_files;

/// Replaces the lowest of `layers`, the topmost first, if it holds no game and the current game
/// files are whole.
pub(super) fn choose(
    root: &Directory,
    settings_root: &Path,
    server: &InstanceName,
    layers: &mut [String],
) {
    let Some(lowest) = layers.last_mut() else {
        return;
    };
    let named = [root.path.as_path(), settings_root]
        .into_iter()
        .find_map(|root| GameFiles::at(root, Path::new(lowest)));
    let Some(named) = named else { return };
    if game_files::is_begun(&named.directory(&root.path)) {
        return;
    }

    let Ok(current) = GameFiles::current(&root.path) else {
        return;
    };
    let directory = current.directory(&root.path);
    if current != named && game_files::verify_finished(&directory).is_ok() {
        tracing::warn!("server {server} starts with {current}: {named} holds no game");
        *lowest = directory.display().to_string();
    }
}

/// Refuses a build that is not complete: its files are on their way back to installation/.
///
/// Fails with 4, with advice.
pub(super) fn refuse_incomplete(root: &Path, layers: &[Layer]) -> Result<()> {
    for layer in layers {
        if let Some(game @ GameFiles::Build(_)) = GameFiles::at(root, &layer.path)
            && !game_files::is_begun(&layer.path)
        {
            return Err(Error::conflict(format!(
                "{game} in {} is not complete: `left4me-job enqueue update --follow` first",
                layer.path.display()
            )));
        }
    }
    Ok(())
}
