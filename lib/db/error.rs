//! Turns SQLite's errors into messages that say what to do.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::base::{Error, Exit};

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        with_hint("the database", &error)
    }
}

/// An error of the database file at `path`.
pub fn in_file(path: &Path, error: &rusqlite::Error) -> Error {
    with_hint(&format!("database {}", path.display()), error)
}

/// A file that cannot be reached.
pub fn opening(path: &Path, error: &std::io::Error) -> Error {
    let (shown, path) = (path, path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::unavailable(format!(
            "database {path} is not there: install the package, \
             run `systemd-tmpfiles --create`, or name the file with LEFT4ME_DB"
        )),
        std::io::ErrorKind::InvalidInput => refused(shown, &error.to_string()),
        std::io::ErrorKind::PermissionDenied => Error::not_permitted(format!(
            "database {path}: not permitted: run this as root or as a member of group left4me"
        )),
        _ => Error::unavailable(format!("database {path} cannot be opened: {error}")),
    }
}

/// A file that is not a database of left4me and is not opened.
pub fn refused(path: &Path, why: &str) -> Error {
    Error::unavailable(format!(
        "database {} is not opened: {why}; see `left4me doctor`",
        path.display()
    ))
}

fn with_hint(what: &str, error: &rusqlite::Error) -> Error {
    let (exit, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            Exit::Unavailable,
            "another process holds it locked; try again, and see who with `fuser` on the file",
        ),
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied,
        ) => (
            Exit::NotPermitted,
            "it cannot be written; run this as root or as a \
             member of group left4me, and see `left4me doctor`",
        ),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => (
            Exit::Unavailable,
            "the file is damaged or not a database; nothing was changed; restore a backup",
        ),
        Some(ErrorCode::DiskFull) => (
            Exit::Unavailable,
            "the disk is full; nothing was changed; make room",
        ),
        Some(ErrorCode::CannotOpen) => (
            Exit::Unavailable,
            "it cannot be opened; see `left4me doctor` for owners and modes",
        ),
        Some(ErrorCode::SystemIoFailure) => {
            (Exit::Unavailable, "the disk does not answer as it should")
        }
        _ => (Exit::Failed, ""),
    };

    let semicolon = if advice.is_empty() { "" } else { ": " };

    Error::new(exit, format!("{what}: {error}{semicolon}{advice}"))
}

/// Whether `error` comes from a UNIQUE constraint.
pub fn is_taken(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(code, _)
        if code.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
}
