//! Restricts the credentials of a Steam account that steamcmd keeps to their user.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err as fs;

use crate::base::Result;

/// Where steamcmd keeps its configuration with the token of a login, below its home. It makes the
/// first one at the first login; the others belong to other ways to install steamcmd.
const DIRECTORIES: [&str; 6] = [
    "Steam/config",
    "config",
    ".local/share/Steam/config",
    ".local/share/Steam/steamcmd/config",
    ".steam/steam/config",
    ".steam/steamcmd/config",
];

/// Makes these directories private: steamcmd makes them readable for all, and every user of the
/// host may enter its home.
pub(super) fn make_private(home: &Path) -> Result<()> {
    let first = home.join(DIRECTORIES[0]);
    if let Some(above) = first.parent().filter(|_| first.symlink_metadata().is_err()) {
        fs::create_dir_all(above)?;
        std::fs::DirBuilder::new().mode(0o700).create(&first)?;
    }

    for directory in DIRECTORIES {
        let path = home.join(directory);
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        if found.is_dir() && found.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        }
    }

    Ok(())
}
