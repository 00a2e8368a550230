//! Ways to a directory that follow no link, for programs that still have root's rights.

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
    /// The directory, to open names in; it can be neither read nor synced itself.
    pub fd: OwnedFd,
    /// Whether root alone can change what this path leads to, and what is in the directory.
    pub is_roots: bool,
}

/// Opens a directory, one name of its path after the other. Who owns a directory on the way may put a link into it, so
/// a program that still has root's rights opens no path otherwise.
///
/// # Errors
/// The operating system's; [`ErrorKind::InvalidInput`] for a link.
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
                let words = format!("'{}' on the way is a link", name.to_string_lossy());
                return Err(IoError::new(ErrorKind::InvalidInput, words));
            }
            Err(errno) => return Err(errno.into()),
        };
        last = fstat(&fd)?;
    }
    Ok(Walked { is_roots: is_safe && is_roots(&last, false), fd })
}

/// A file that root has named and that root alone can exchange, opened with root's rights. Nothing when this is not
/// root, or it is another kind of file: that is opened later, with the rights of whom root becomes.
#[must_use]
pub fn open_roots(path: &Path) -> Option<File> {
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

/// Whether root alone can change a directory; with `sticky`, whether root alone can exchange what is root's in it.
fn is_roots(found: &FileStat, sticky: bool) -> bool {
    let mode = Mode::from_bits_truncate(found.st_mode);
    let others = if found.st_gid == 0 { Mode::S_IWOTH } else { Mode::S_IWGRP | Mode::S_IWOTH };
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
    fn a_walk_follows_no_link_on_the_way_nor_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        symlink("a", dir.join("link")).unwrap();
        symlink("b", dir.join("a/end")).unwrap();
        assert!(walk(&dir.join("a/b")).is_ok() && walk(&dir.join("a/b/../b")).is_ok());
        for (through, name) in [("link/b", "'link'"), ("a/end", "'end'"), ("link", "'link'")] {
            let error = walk(&dir.join(through)).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(name), "{error}");
        }
        assert_eq!(walk(&dir.join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_is_roots_only_when_no_one_else_can_exchange_a_part_of_its_path() {
        let found = |uid: u32, gid: u32, mode: u32| {
            let mut found = fstat(std::io::stdin()).unwrap();
            (found.st_uid, found.st_gid, found.st_mode) = (uid, gid, mode);
            found
        };
        for (gid, mode) in [(0, 0o755), (0, 0o1777), (0, 0o2770), (7, 0o751)] {
            assert!(is_roots(&found(0, gid, mode), true), "{gid} {mode:o}");
        }
        for (uid, gid, mode, sticky) in
            [(0, 0, 0o1777, false), (0, 7, 0o775, true), (0, 0, 0o757, true), (7, 0, 0o700, true)]
        {
            assert!(!is_roots(&found(uid, gid, mode), sticky), "{uid} {gid} {mode:o}");
        }
    }
}
