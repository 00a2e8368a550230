//! Reads files that another user can replace by a link, a FIFO, a device, or a huge file.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::files::{self, NO_FOLLOW};

/// Reads at most `limit` bytes of the file `below` in `top`. `top` itself may be a link, because
/// its owner made it. Below it, no link is followed, and only a regular file is read.
pub fn read(top: &Path, below: &[&str], limit: usize) -> Result<Vec<u8>> {
    let (name, folders) = below.split_last().ok_or(ErrorKind::InvalidInput)?;
    let mut dir = open(
        top,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;

    for folder in folders {
        dir = openat(
            &dir,
            *folder,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | NO_FOLLOW,
            Mode::empty(),
        )?;
    }

    let file =
        require_regular(openat(&dir, *name, OFlag::O_RDONLY | NO_FOLLOW, Mode::empty())?.into())?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks that `file` is a regular file.
pub fn require_regular(file: File) -> Result<File> {
    let found = file.metadata()?;
    if found.is_file() {
        Ok(file)
    } else {
        Err(Error::new(
            ErrorKind::InvalidInput,
            files::not_regular(&found),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::mkfifo;

    #[test]
    fn only_a_regular_file_is_read_and_only_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        let at = |name: &str| dir.path().join("in").join(name);
        std::fs::write(at("file"), "0123456789").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("in", dir.path().join("out")).unwrap();
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();

        assert_eq!(read(dir.path(), &["in", "file"], 4).unwrap(), b"0123");
        for below in [["in", "link"], ["in", "fifo"], ["out", "file"], ["in", "."]] {
            assert!(read(dir.path(), &below, 4).is_err(), "{below:?}");
        }
    }
}
