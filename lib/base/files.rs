//! Files and directories that the services and group left4me share. Each of them can be exchanged by another member at
//! any moment, so each open follows no link, waits for no FIFO, and looks at what it has got.

use std::fs::{File, FileType, Metadata};
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::fcntl::OFlag;
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
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
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
}
