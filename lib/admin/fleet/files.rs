//! Writes the files of a fleet in /etc/left4me/fleet: whole or not at all.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::base::{Error, Result};

/// For secrets, and for all else.
pub(super) const SECRET: u32 = 0o600;
pub(super) const PUBLIC: u32 = 0o644;

/// Makes a directory, and those above it, unless it is there.
pub(super) fn directory(path: &Path, mode: u32) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(mode).create(path);
    made.map_err(|error| Error::from(error).within(path.display()))
}

/// Replaces a file: after a power cut it is the old one or the new one.
pub(super) fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::from(error).within(path.display());
    let new = path.with_file_name(format!(
        ".{}.new",
        path.file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("file")
    ));
    std::fs::remove_file(&new).ok();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(failed)?;
    let parent = path.parent().unwrap_or(path);
    std::fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(failed)
}

/// None if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from(error).within(path.display())),
    }
}
