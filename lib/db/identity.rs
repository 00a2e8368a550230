//! Which file a path leads to. A restored backup is another file under the same name: a program that
//! has the former one open would read old data, and write into a file that has no name any more.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::{Error, Exit, Result};

/// The file that a path led to at one moment. It is looked at by name: closing a descriptor of the
/// file would drop all locks that this process has on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    path: PathBuf,
    /// Its device and inode; nothing when there was no file.
    file: Option<(u64, u64)>,
}

impl Identity {
    /// Of what `path` leads to now.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), file: number(path) }
    }

    /// Whether the path leads to the same file still.
    #[must_use]
    pub fn is_current(&self) -> bool {
        number(&self.path) == self.file
    }

    /// # Errors
    /// 69 when the path leads to another file, or to none.
    pub fn check(&self) -> Result<()> {
        if self.is_current() { Ok(()) } else { Err(self.replaced()) }
    }

    /// In words, that it is not the same file any more.
    #[must_use]
    pub fn replaced(&self) -> Error {
        let path = self.path.display();
        Error::new(
            Exit::Unavailable,
            format!("database {path} was replaced, as by `left4me restore`: run this again, it opens the new one"),
        )
    }
}

fn number(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()))
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
        assert!(error.exit == Exit::Unavailable && error.to_string().contains("was replaced"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(!identity.is_current());
    }
}
