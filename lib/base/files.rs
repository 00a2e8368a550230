//! Files that root, the services and group left4me share.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;

/// Opens a file for reading and writing; makes it, when it is missing, 0660 whatever the umask, and, when root makes
/// it, owned by whom its directory belongs to: root's file would shut out the services.
///
/// # Errors
/// The operating system's, with the path.
pub fn open_shared(path: &Path) -> std::io::Result<File> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).custom_flags(nix::libc::O_NOFOLLOW);
    match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        opened => return opened.map(File::from),
    }
    let file = match options.clone().create_new(true).mode(0o660).open(path) {
        // Somebody else was quicker.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return options.open(path).map(File::from),
        made => made?,
    };
    file.set_permissions(std::fs::Permissions::from_mode(0o660))?;
    if nix::unistd::geteuid().is_root()
        && let Some(parent) = path.parent()
    {
        let owner = fs_err::metadata(parent)?;
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(file.into())
}
