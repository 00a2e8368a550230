//! Opens files that the services and the group left4me share. Any member of the group can replace
//! them at any moment, so an open follows no link, does not block on a FIFO, and checks the result.

use std::fs::{File, FileType, Metadata};
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::fcntl::OFlag;
use nix::unistd::{Uid, geteuid};

use super::{accounts, users};

/// The flags for opening a file that another user can replace: they follow no link and do not block
/// on a FIFO.
pub const NO_FOLLOW: OFlag = OFlag::O_NOFOLLOW
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// Opens a file for reading and writing; creates it with mode 0660, whatever the umask.
pub fn open_shared(path: &Path) -> IoResult<File> {
    let mut options = fs_err::OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(NO_FOLLOW.bits());
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => create(&mut options, path)?,
        Err(error) => return Err(explain(path, error)),
        Ok(file) => file,
    };

    match refusal(&file.metadata()?) {
        None => Ok(file.into()),
        Some(why) => Err(IoError::new(ErrorKind::InvalidInput, why)),
    }
}

fn create(options: &mut fs_err::OpenOptions, path: &Path) -> IoResult<fs_err::File> {
    match options.clone().create_new(true).mode(0o660).open(path) {
        // Another process created it first.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        Ok(file) => {
            file.set_permissions(std::fs::Permissions::from_mode(0o660))?;
            Ok(file)
        }
        failed => failed,
    }
}

/// Opens a regular file for reading in a directory that another user can write.
pub fn open_to_read(path: &Path) -> IoResult<File> {
    let mut options = fs_err::OpenOptions::new();
    let refused = |found: &Metadata| IoError::new(ErrorKind::InvalidInput, not_regular(found));
    match options.read(true).custom_flags(NO_FOLLOW.bits()).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file.into()),
        Ok(file) => Err(refused(&file.metadata()?)),
        Err(error) => match path.symlink_metadata() {
            Ok(found) if !found.is_file() => Err(refused(&found)),
            _ => Err(error),
        },
    }
}

/// Says what a file is if it is not a regular file.
pub fn not_regular(found: &Metadata) -> String {
    format!("it is {}, not a regular file", kind(found.file_type()))
}

/// Replaces ELOOP and ENXIO, which say nothing to most people, by what is at `path`.
fn explain(path: &Path, error: IoError) -> IoError {
    match path.symlink_metadata() {
        // A regular file that this user may not open.
        Ok(found) if found.is_file() && error.kind() == ErrorKind::PermissionDenied => error,
        Ok(found) => {
            refusal(&found).map_or(error, |why| IoError::new(ErrorKind::InvalidInput, why))
        }
        Err(_) => error,
    }
}

/// Why a file, whose metadata was read without following a link, is refused. None if it is a
/// regular file that belongs to user left4me or to the current user.
pub fn refusal(found: &Metadata) -> Option<String> {
    if !found.is_file() {
        return Some(not_regular(found));
    }

    let owner = Uid::from_raw(found.uid());
    if owner == geteuid() || Some(owner) == users::uid(users::LEFT4ME) {
        return None;
    }

    Some(format!(
        "it belongs to {}, not to {}",
        user_name(owner),
        users::LEFT4ME
    ))
}

/// The type of a file, in words.
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
    accounts::by_uid(uid).map_or_else(|| format!("user id {uid}"), |account| account.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_a_fifo_and_a_directory_are_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("target"), "kept").unwrap();
        symlink(at("target"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(at("directory")).unwrap();

        for (name, words) in [
            ("link", "a link"),
            ("dangling", "a link"),
            ("fifo", "a FIFO"),
            ("directory", "a directory"),
        ] {
            let error = open_shared(&at(name)).unwrap_err();
            assert!(
                error.kind() == ErrorKind::InvalidInput && error.to_string().contains(words),
                "{name}: {error}"
            );

            let error = open_to_read(&at(name)).unwrap_err();
            assert!(
                error.kind() == ErrorKind::InvalidInput && error.to_string().contains(words),
                "{name}: {error}"
            );
        }

        assert!(open_to_read(&at("target")).is_ok());
        assert!(!at("nothing").exists(), "no file is created through a link");
        assert_eq!(std::fs::read_to_string(at("target")).unwrap(), "kept");
    }

    #[test]
    fn a_shared_file_is_writable_for_the_group_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let file = open_shared(&dir.path().join("new")).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o660);
        assert!(
            open_shared(&dir.path().join("new")).is_ok(),
            "and opened again"
        );
    }
}
