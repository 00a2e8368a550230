//! Whether a directory holds a whole Linux server: the proof of an installation, and of a published
//! build. Reads only; nothing in the directory is trusted.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::base::untrusted_file;
use crate::domain::steam::{MANIFEST, MANIFEST_LIMIT, PROGRAMS, UNFINISHED, prove};

/// Where the manifest is.
pub fn manifest(directory: &Path) -> PathBuf {
    directory.join(MANIFEST.iter().collect::<PathBuf>())
}

/// Whether there is a manifest, so that something was installed here before.
pub fn is_begun(directory: &Path) -> bool {
    manifest(directory).symlink_metadata().is_ok()
}

/// Whether it may hold Windows files: no linux pass has finished after a windows pass.
pub fn is_unfinished(directory: &Path) -> bool {
    directory.join(UNFINISHED).symlink_metadata().is_ok()
}

/// The text of the manifest; the error says why there is none.
pub fn read_manifest(directory: &Path) -> Result<String, String> {
    let read = untrusted_file::read(directory, &MANIFEST, MANIFEST_LIMIT.saturating_add(1));
    let bytes = read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        _ => error.to_string(),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The build that is here, from the manifest. The programs of a Linux server have to exist too.
///
/// Fails with what is missing.
pub fn verify(directory: &Path) -> Result<u64, String> {
    let text = read_manifest(directory);
    let build = text.and_then(|text| prove(&text).map_err(|why| why.to_string()));
    let build = build.map_err(|why| format!("{}: {why}", manifest(directory).display()))?;

    for group in PROGRAMS {
        if !group.iter().any(|name| is_program(&directory.join(name))) {
            let path = directory.join(group[0]);
            return Err(format!(
                "{} is missing, empty or cannot be read",
                path.display()
            ));
        }
    }

    let server = directory.join(PROGRAMS[0][0]);
    let mode = server
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    if mode & 0o111 == 0 {
        return Err(format!("{} cannot be executed", server.display()));
    }
    Ok(build)
}

/// As [`verify`], and no windows pass is unfinished.
///
/// Fails with what is missing.
pub fn verify_finished(directory: &Path) -> Result<u64, String> {
    if is_unfinished(directory) {
        return Err(format!(
            "{} holds Windows files of an update that was not finished",
            directory.display()
        ));
    }
    verify(directory)
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.len() > 0)
}
