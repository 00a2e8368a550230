//! Removes the contents of a directory of any depth: by descriptor, without following links, and
//! without entering another file system.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, openat, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::directory::{Directory, FLAGS, unusable};
use crate::base::{Error, Result};

/// How many levels are entered, with a descriptor each. Deeper directories are first moved to the
/// top.
const DEPTH: usize = 64;

/// A directory on the way down.
struct Level {
    fd: OwnedFd,
    name: CString,
    /// Its subdirectories that are not empty yet.
    full: Vec<CString>,
}

/// Removes everything in `directory`.
///
/// Fails if something cannot be removed or is on another file system. Whatever could be removed
/// before that is gone.
pub(super) fn empty(directory: &Directory) -> Result<()> {
    let failed = |errno| unusable(&directory.path, errno);
    let device = fstat(directory).map_err(failed)?.st_dev;
    let top = directory.fd.try_clone()?;
    own(&top);

    let full = sweep(&top).map_err(failed)?;
    let mut levels = vec![Level {
        fd: top,
        name: c"".into(),
        full,
    }];

    loop {
        let deep = levels.len() > DEPTH;
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        let Some(name) = level.full.pop() else {
            // This level is empty: remove its directory from the one above.
            let done = levels.pop();
            if let (Some(level), Some(done)) = (levels.last(), done) {
                unlinkat(&level.fd, done.name.as_c_str(), UnlinkatFlags::RemoveDir)
                    .map_err(failed)?;
            }

            continue;
        };

        if deep {
            let (Some(top), Some(level)) = (levels.first(), levels.last()) else {
                continue;
            };
            let up = lift(&level.fd, &name, &top.fd).map_err(failed)?;
            levels[0].full.push(up);
            continue;
        }

        let fd = enter(&level.fd, &name).map_err(failed)?;
        if fstat(&fd).map_err(failed)?.st_dev != device {
            let words = format!(
                "{} in {} is on another file system",
                name.to_string_lossy(),
                directory.path.display()
            );

            return Err(Error::failed(words));
        }

        let full = sweep(&fd).map_err(failed)?;
        levels.push(Level { fd, name, full });
    }
}

/// Removes `name` in `directory`, whatever it is. Succeeds if nothing has this name.
pub(super) fn remove(directory: &Directory, name: &CStr) -> Result<()> {
    match unlink(&directory.fd, name) {
        Ok(()) => return Ok(()),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
        Err(errno) => return Err(unusable(&directory.path, errno)),
    }

    let fd = enter(&directory.fd, name).map_err(|errno| unusable(&directory.path, errno))?;
    empty(&Directory {
        fd,
        path: directory.path.join(name.to_string_lossy().as_ref()),
    })?;

    unlink(&directory.fd, name).map_err(|errno| unusable(&directory.path, errno))
}

/// Moves a directory to the top, under a name that is free there. The name cannot be known in
/// advance, because the owner of the tree may have taken any predictable one.
fn lift(from: &OwnedFd, name: &CStr, top: &OwnedFd) -> Result<CString, Errno> {
    // Moving a directory changes its "..", which fails if its owner made it read-only.
    if !geteuid().is_root() {
        fchmodat(from, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    }

    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let (seconds, nanoseconds) = (now.tv_sec(), now.tv_nsec());
    for attempt in 0_u32.. {
        let up = CString::new(format!(
            ".left4me-purge-{seconds:x}-{nanoseconds:x}-{attempt}"
        ));
        let up = up.map_err(|_| Errno::EINVAL)?;
        match renameat2(
            from,
            name,
            top,
            up.as_c_str(),
            RenameFlags::RENAME_NOREPLACE,
        ) {
            Err(Errno::EEXIST) => {}
            moved => return moved.map(|()| up),
        }
    }

    Err(Errno::EEXIST)
}

/// Removes every file and every empty directory in `fd`, and gives the other directories.
fn sweep(fd: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut full = Vec::new();
    // A separate descriptor, because reading moves its position.
    let mut entries = Dir::from_fd(openat(fd, c".", FLAGS, Mode::empty())?)?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }

        match unlink(fd, name) {
            Ok(()) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => full.push(name.to_owned()),
            Err(errno) => return Err(errno),
        }
    }

    Ok(full)
}

fn unlink(parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
    let gone = |result| {
        if result == Err(Errno::ENOENT) {
            Ok(())
        } else {
            result
        }
    };

    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {
            gone(unlinkat(&parent, name, UnlinkatFlags::RemoveDir))
        }
        result => gone(result),
    }
}

fn enter(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let fd = match openat(parent, name, FLAGS, Mode::empty()) {
        // The owner may have removed its own access. Root always has access, and must not use the
        // name again, because it may be a link by now.
        Err(Errno::EACCES) if !geteuid().is_root() => {
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            openat(parent, name, FLAGS, Mode::empty())?
        }
        opened => opened?,
    };

    own(&fd);
    Ok(fd)
}

/// Makes a read-only directory writable for its owner. An error here shows up later, as a file that
/// cannot be removed.
fn own(fd: &OwnedFd) {
    let shut = fstat(fd).is_ok_and(|found| found.st_mode & 0o700 != 0o700);
    if shut && !geteuid().is_root() {
        let _ = fchmod(fd, Mode::S_IRWXU);
    }
}
