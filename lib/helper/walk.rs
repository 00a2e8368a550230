//! Visits everything below a directory by descriptor. It follows no link, enters no other file
//! system, and needs two descriptors for a tree of any depth.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::directory::{Directory, FLAGS, unusable};
use crate::base::{Error, Result};

/// Called for each entry with its directory, its name there and its attributes.
type Visit<'v> = &'v mut dyn FnMut(BorrowedFd<'_>, &CStr, &FileStat) -> Result<(), Errno>;

/// A directory on the way down.
struct Level {
    device: u64,
    inode: u64,
    /// Subdirectories that are still to be entered.
    waiting: Vec<CString>,
}

/// Gives entries in `top` that belong to a user in `from`, and `top` itself last, to `to`. As long
/// as `top` is not theirs, something may be left, and another call continues. The kernel drops
/// setuid bits and capabilities of files.
///
/// Fails if an entry cannot be changed or is on another file system.
pub(super) fn give(top: &Directory, from: &[Uid], to: (Uid, Gid)) -> Result<()> {
    each(top, &mut |parent, name, found| {
        if !from.contains(&Uid::from_raw(found.st_uid)) {
            return Ok(());
        }
        fchownat(
            parent,
            name,
            Some(to.0),
            Some(to.1),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
    })?;

    fchown(top, Some(to.0), Some(to.1)).map_err(|errno| unusable(&top.path, errno))
}

/// Sets the group of everything that `owner` has in `top`, and of `top` itself. A file with a
/// second hard link is skipped, because that link may be anywhere.
pub(super) fn share(top: &Directory, owner: Uid, group: Gid) -> Result<()> {
    let differs = |found: &FileStat| {
        let is_alone = is_directory(found) || found.st_nlink == 1;
        found.st_uid == owner.as_raw() && found.st_gid != group.as_raw() && is_alone
    };

    each(top, &mut |parent, name, found| {
        if !differs(found) {
            return Ok(());
        }

        // The owner may change its tree meanwhile. O_PATH pins the entry, so that the checked file
        // is changed, whatever has its name by now.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;

        let entry = openat(parent, name, flags, Mode::empty())?;
        if differs(&fstat(&entry)?) {
            fchownat(&entry, c"", None, Some(group), AtFlags::AT_EMPTY_PATH)?;
        }

        Ok(())
    })?;

    let failed = |errno| unusable(&top.path, errno);
    if differs(&fstat(top).map_err(failed)?) {
        fchown(top, None, Some(group)).map_err(failed)
    } else {
        Ok(())
    }
}

/// Visits everything below `top`; a directory comes before its contents.
fn each(top: &Directory, visit: Visit<'_>) -> Result<()> {
    let failed = |errno| unusable(&top.path, errno);
    let mut here = openat(top, c".", FLAGS, Mode::empty()).map_err(failed)?;
    let found = fstat(&here).map_err(failed)?;
    let device = found.st_dev;

    let mut levels = vec![Level {
        device,
        inode: found.st_ino,
        waiting: sweep(&here, visit).map_err(failed)?,
    }];

    while let Some(level) = levels.last_mut() {
        let Some(name) = level.waiting.pop() else {
            levels.pop();
            if let Some(parent) = levels.last() {
                here = up(&here, parent).map_err(failed)?;
            }
            continue;
        };

        let inner = openat(&here, name.as_c_str(), FLAGS, Mode::empty()).map_err(failed)?;
        let found = fstat(&inner).map_err(failed)?;
        if found.st_dev != device {
            let name = name.to_string_lossy();
            return Err(Error::failed(format!(
                "{name} in {} is on another file system",
                top.path.display()
            )));
        }

        here = inner;
        levels.push(Level {
            device,
            inode: found.st_ino,
            waiting: sweep(&here, visit).map_err(failed)?,
        });
    }

    Ok(())
}

/// Opens the parent directory, and checks that it is the one we came from.
fn up(here: &OwnedFd, parent: &Level) -> Result<OwnedFd, Errno> {
    let above = openat(here, c"..", FLAGS, Mode::empty())?;
    let found = fstat(&above)?;
    if (found.st_dev, found.st_ino) == (parent.device, parent.inode) {
        Ok(above)
    } else {
        Err(Errno::ESTALE)
    }
}

/// Visits the entries of a directory and gives its subdirectories.
fn sweep(here: &OwnedFd, visit: Visit<'_>) -> Result<Vec<CString>, Errno> {
    let mut inner = Vec::new();
    let mut entries = Dir::from_fd(openat(here, c".", FLAGS, Mode::empty())?)?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }

        let found = fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        visit(here.as_fd(), name, &found)?;
        if is_directory(&found) {
            inner.push(name.to_owned());
        }
    }

    Ok(inner)
}

fn is_directory(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}
