//! Opens directories without following links, for programs that run as root.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::geteuid;

/// A directory that was reached without following a link.
#[derive(Debug)]
pub struct Walked {
    /// The directory (O_PATH): names can be opened in it, but it can be neither read nor synced.
    pub fd: OwnedFd,
    /// Whether only root can change where the path leads, and what is in the directory.
    pub is_roots: bool,
}

/// Opens a directory one path component after the other. The owner of a directory on the path could
/// put a link into it, so a program that runs as root must open paths in no other way.
pub fn walk(path: &Path) -> IoResult<Walked> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let path = std::path::absolute(path)?;
    let mut fd = nix::fcntl::open("/", flags, Mode::empty())?;
    let mut is_safe = true;
    let mut last = fstat(&fd)?;

    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::ParentDir => "..".as_ref(),
            _ => continue,
        };

        is_safe &= is_roots(&last, true);
        fd = match openat(&fd, name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::ENOTDIR | Errno::ELOOP) if is_link(&fd, name) => {
                let message = format!("'{}' on the path is a link", name.to_string_lossy());
                return Err(IoError::new(ErrorKind::InvalidInput, message));
            }
            Err(errno) => return Err(errno.into()),
        };

        last = fstat(&fd)?;
    }

    Ok(Walked {
        is_roots: is_safe && is_roots(&last, false),
        fd,
    })
}

/// Opens, with root's rights, a file that root named and that only root can change. None if this is
/// not root, or for any other file: such a file is opened later, with the rights of the user that
/// root becomes.
pub fn open_root_owned(path: &Path) -> Option<File> {
    if !geteuid().is_root() {
        return None;
    }

    let path = std::path::absolute(path).ok()?;
    let walked = walk(path.parent()?).ok().filter(|walked| walked.is_roots)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(&walked.fd, path.file_name()?, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;

    (found.is_file() && found.uid() == 0).then_some(file)
}

/// Whether only root can change a directory. With `sticky`, whether only root can replace root's
/// files in it.
fn is_roots(found: &FileStat, sticky: bool) -> bool {
    let mode = Mode::from_bits_truncate(found.st_mode);
    let others = if found.st_gid == 0 {
        Mode::S_IWOTH
    } else {
        Mode::S_IWGRP | Mode::S_IWOTH
    };
    found.st_uid == 0 && (!mode.intersects(others) || (sticky && mode.contains(Mode::S_ISVTX)))
}

fn is_link(directory: &OwnedFd, name: &std::ffi::OsStr) -> bool {
    fstatat(directory.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|found| found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_walk_follows_no_link_on_the_path_or_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        symlink("a", dir.join("link")).unwrap();
        symlink("b", dir.join("a/end")).unwrap();

        assert!(walk(&dir.join("a/b")).is_ok() && walk(&dir.join("a/b/../b")).is_ok());
        for (through, name) in [("link/b", "'link'"), ("a/end", "'end'"), ("link", "'link'")] {
            let error = walk(&dir.join(through)).unwrap_err();
            assert!(
                error.kind() == ErrorKind::InvalidInput && error.to_string().contains(name),
                "{error}"
            );
        }

        assert_eq!(
            walk(&dir.join("missing")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn a_directory_is_roots_if_only_root_can_change_its_path() {
        let found = |uid: u32, gid: u32, mode: u32| {
            let mut found = fstat(std::io::stdin()).unwrap();
            (found.st_uid, found.st_gid, found.st_mode) = (uid, gid, mode);
            found
        };

        for (gid, mode) in [(0, 0o755), (0, 0o1777), (0, 0o2770), (7, 0o751)] {
            assert!(is_roots(&found(0, gid, mode), true), "{gid} {mode:o}");
        }

        for (uid, gid, mode, sticky) in [
            (0, 0, 0o1777, false),
            (0, 7, 0o775, true),
            (0, 0, 0o757, true),
            (7, 0, 0o700, true),
        ] {
            assert!(
                !is_roots(&found(uid, gid, mode), sticky),
                "{uid} {gid} {mode:o}"
            );
        }
    }
}
