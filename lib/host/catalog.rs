//! Finds or creates the directory of an overlay that is added to the catalog.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

use crate::base::names::OverlayRef;
use crate::base::{Error, Result};
use crate::host::overlay::locate;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub path: PathBuf,
    /// Whether it was created, and so is empty.
    pub made: bool,
}

/// Makes sure that the overlay has a directory that the game can see: creates it when nothing is
/// there.
///
/// Fails with 1 with its name when it cannot be used; 1 or 77 when it cannot be created.
pub fn add(root: &Path, reference: &OverlayRef) -> Result<Added> {
    let root = fs_err::canonicalize(root)?;
    let path = root.join("overlays").join(reference.as_str());

    let made = path.symlink_metadata().is_err();
    if made {
        make(&root, reference)?;
    }

    locate(&root, reference)?;
    Ok(Added { path, made })
}

/// Creates the directory and its parents, 02775, with the owner of overlays/. Does not follow links
/// on the way, because root may run this while members of the group may write here.
fn make(root: &Path, reference: &OverlayRef) -> Result<()> {
    let top = root.join("overlays");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut dir: File = nix::fcntl::open(&top, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| match errno {
            Errno::ENOENT => Error::failed(format!(
                "{} is missing: run `systemd-tmpfiles --create`",
                top.display()
            )),
            other => Error::from(std::io::Error::from(other)).within(top.display()),
        })?;

    let owner = dir.metadata()?;
    for part in reference.as_str().split('/') {
        let failed = |errno: Errno| {
            Error::from(std::io::Error::from(errno))
                .within(format!("overlays/{reference}: '{part}'"))
        };

        let made = match mkdirat(&dir, part, Mode::from_bits_truncate(0o775)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed(errno)),
        };

        dir = openat(&dir, part, flags, Mode::empty())
            .map(File::from)
            .map_err(failed)?;

        if made {
            if geteuid().is_root() {
                fchown(
                    &dir,
                    Some(Uid::from_raw(owner.uid())),
                    Some(Gid::from_raw(owner.gid())),
                )
                .map_err(failed)?;
            }

            fchmod(&dir, Mode::from_bits_truncate(0o2775)).map_err(failed)?;
        }
    }

    Ok(())
}
