//! What steamcmd remembers of a Steam account: for its user's eyes alone.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err as fs;

use crate::base::Result;

/// Where steamcmd keeps its configuration, and in it the token of a login, below its home. The first is there from the
/// first login on; the others belong to other ways to install it.
const PLACES: [&str; 6] = [
    "Steam/config",
    "config",
    ".local/share/Steam/config",
    ".local/share/Steam/steamcmd/config",
    ".steam/steam/config",
    ".steam/steamcmd/config",
];

/// Closes these directories: steamcmd makes them with the modes of any other, and every user of the host passes through
/// its home.
///
/// # Errors
/// 1 or 77 when one cannot be closed: it may be another user's.
pub(super) fn close(home: &Path) -> Result<()> {
    let first = home.join(PLACES[0]);
    if let Some(above) = first.parent().filter(|_| first.symlink_metadata().is_err()) {
        fs::create_dir_all(above)?;
        std::fs::DirBuilder::new().mode(0o700).create(&first)?;
    }
    for place in PLACES {
        let path = home.join(place);
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.is_dir() && found.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}
