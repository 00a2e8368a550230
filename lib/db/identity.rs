//! Detects that another file has replaced the database, as a restored backup does. A program that
//! has the former file open would read old data, and write into a file without a name.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};

use crate::base::{Error, Exit, Result};

/// The file at a path at one moment.
#[derive(Clone, Debug)]
pub struct Identity {
    path: PathBuf,
    /// Its device and inode; none when there was no file.
    file: Option<(u64, u64)>,
    /// The file itself, held open to see whether it still has a name. Closing another descriptor of
    /// it would drop all locks that this process has on it; an O_PATH descriptor does not affect
    /// them (fcntl(2), open(2)).
    kept: Option<Arc<OwnedFd>>,
}

impl Identity {
    /// The file that is at `path` now.
    pub fn of(path: &Path) -> Self {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let kept = open(path, flags, Mode::empty()).ok();
        let file = kept
            .as_ref()
            .and_then(|kept| fstat(kept).ok())
            .map(|found| (found.st_dev, found.st_ino));
        Self {
            path: path.to_owned(),
            file,
            kept: kept.map(Arc::new),
        }
    }

    /// Whether the path still leads to the same file. A file that was only moved counts as the
    /// same, as when an upgrade from version 0.1 moves the database: no other file has its path,
    /// and it still has a name.
    pub fn is_current(&self) -> bool {
        match number(&self.path) {
            None => self.file.is_none() || self.has_a_name(),
            found => found == self.file,
        }
    }

    fn has_a_name(&self) -> bool {
        self.kept
            .as_ref()
            .and_then(|kept| fstat(kept).ok())
            .is_some_and(|found| found.st_nlink > 0)
    }

    /// Checks that the path still leads to the same file.
    ///
    /// Fails with 69 when the path leads to another file, or to none.
    pub fn check(&self) -> Result<()> {
        if self.is_current() {
            Ok(())
        } else {
            Err(self.replaced())
        }
    }

    /// The error that reports a replaced file.
    pub fn replaced(&self) -> Error {
        let path = self.path.display();
        Error::new(
            Exit::Unavailable,
            format!(
                "database {path} was replaced, as by `left4me restore`: \
                 run this again, it opens the new one"
            ),
        )
    }
}

fn number(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata()
        .ok()
        .map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_under_the_same_name_is_another_one_and_a_changed_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("left4me.db"), dir.path().join("other"));
        std::fs::write(&path, "a").unwrap();

        let identity = Identity::of(&path);
        std::fs::write(&path, "ab").unwrap();
        assert!(identity.check().is_ok());

        std::fs::write(&other, "ab").unwrap();
        std::fs::rename(&other, &path).unwrap();

        let error = identity.check().unwrap_err();
        assert!(
            error.exit == Exit::Unavailable && error.to_string().contains("was replaced"),
            "{error}"
        );

        std::fs::remove_file(&path).unwrap();
        assert!(!identity.is_current());
    }

    #[test]
    fn a_file_that_moves_is_the_same_one_until_it_is_removed_or_another_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("left4me.db"), dir.path().join("moved.db"));
        std::fs::write(&path, "a").unwrap();

        let identity = Identity::of(&path);

        std::fs::rename(&path, &moved).unwrap();
        assert!(identity.is_current());
        std::fs::rename(&moved, &path).unwrap();
        assert!(identity.is_current());

        std::fs::rename(&path, &moved).unwrap();
        std::fs::write(&path, "b").unwrap();
        assert!(!identity.is_current(), "another one is in its place");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&moved).unwrap();
        assert!(!identity.is_current(), "removed");
    }
}
