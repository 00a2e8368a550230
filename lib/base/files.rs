//! Files and directories that the services and group left4me share. Each of them can be exchanged by another member at
//! any moment, so each open follows no link, waits for no FIFO, and looks at what it has got.

use std::fs::{File, FileType, Metadata};
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Uid, User, geteuid};

use super::users;

/// What is added to the flags of each open of a file that another user can exchange: no link is followed and no FIFO
/// waited for.
pub const SAFELY: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Opens a file for reading and writing; makes it, when it is missing, 0660 whatever the umask.
///
/// # Errors
/// The operating system's, with the path; [`ErrorKind::InvalidInput`] for what [`refusal`] refuses.
pub fn open_shared(path: &Path) -> IoResult<File> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).custom_flags(SAFELY.bits());
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => make(&mut options, path)?,
        Err(error) => return Err(better(path, error)),
        Ok(file) => file,
    };
    match refusal(&file.metadata()?) {
        None => Ok(file.into()),
        Some(why) => Err(IoError::new(ErrorKind::InvalidInput, why)),
    }
}

fn make(options: &mut fs_err::OpenOptions, path: &Path) -> IoResult<fs_err::File> {
    match options.clone().create_new(true).mode(0o660).open(path) {
        // Another process was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        Ok(file) => {
            file.set_permissions(std::fs::Permissions::from_mode(0o660))?;
            Ok(file)
        }
        failed => failed,
    }
}

/// Opens a file for reading whose directory another user may write: a link or a FIFO in its place is refused at once.
///
/// # Errors
/// The operating system's, with the path; [`ErrorKind::InvalidInput`] for anything but a regular file.
pub fn open_to_read(path: &Path) -> IoResult<File> {
    let mut options = fs_err::OpenOptions::new();
    let refused = |found: &Metadata| IoError::new(ErrorKind::InvalidInput, not_regular(found));
    match options.read(true).custom_flags(SAFELY.bits()).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file.into()),
        Ok(file) => Err(refused(&file.metadata()?)),
        Err(error) => match path.symlink_metadata() {
            Ok(found) if !found.is_file() => Err(refused(&found)),
            _ => Err(error),
        },
    }
}

/// What stands in the place of a regular file, in words.
#[must_use]
pub fn not_regular(found: &Metadata) -> String {
    format!("it is {}, not a regular file", kind(found.file_type()))
}

/// ELOOP and ENXIO are no words for people, and a FIFO is not mended by another user: says what is at `path` instead.
fn better(path: &Path, error: IoError) -> IoError {
    match path.symlink_metadata() {
        // It is a file, and this user may not open it.
        Ok(found) if found.is_file() && error.kind() == ErrorKind::PermissionDenied => error,
        Ok(found) => refusal(&found).map_or(error, |why| IoError::new(ErrorKind::InvalidInput, why)),
        Err(_) => error,
    }
}

/// Why the file behind `found`, which was looked at without following a link, is none of ours; nothing when it is one: a
/// regular file of user left4me, or of the user that this program runs as.
#[must_use]
pub fn refusal(found: &Metadata) -> Option<String> {
    if !found.is_file() {
        return Some(not_regular(found));
    }
    let owner = Uid::from_raw(found.uid());
    if owner == geteuid() || Some(owner) == users::uid(users::LEFT4ME) {
        return None;
    }
    Some(format!("it belongs to {}, not to {}", user_name(owner), users::LEFT4ME))
}

/// What a file is, in words.
#[must_use]
pub fn kind(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_file() => "a regular file",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a link",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

fn user_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("user id {uid}"), |user| user.name)
}

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
    fn a_link_a_fifo_and_a_directory_are_refused_in_words_and_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("target"), "kept").unwrap();
        symlink(at("target"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        for (name, words) in
            [("link", "a link"), ("dangling", "a link"), ("fifo", "a FIFO"), ("directory", "a directory")]
        {
            let error = open_shared(&at(name)).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(words), "{name}: {error}");
            let error = open_to_read(&at(name)).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(words), "{name}: {error}");
        }
        assert!(open_to_read(&at("target")).is_ok());
        assert!(!at("nothing").exists(), "no file is made behind a link");
        assert_eq!(std::fs::read_to_string(at("target")).unwrap(), "kept");
    }

    #[test]
    fn a_shared_file_is_made_for_the_group_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let file = open_shared(&dir.path().join("new")).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o660);
        assert!(open_shared(&dir.path().join("new")).is_ok(), "and opened again");
    }

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
