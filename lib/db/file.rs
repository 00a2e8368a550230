//! Checks on the database file before SQLite opens it. Members of the group can replace it: by a
//! link to another database, which would be migrated, or by a FIFO, which would block the program
//! without end.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::base::config::DATABASE;
use crate::base::files::{self, refusal};
use crate::base::{Error, Result};
use crate::db::error::{in_file, opening, refused};

/// The files that SQLite keeps beside the database.
pub(super) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Opens the file, which must exist, for reading and writing.
///
/// Fails with 69 when it is missing, not a regular file, or of an unexpected owner; 77 when
/// permission is denied.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    connect(&checked(path)?, flags, path)
}

/// Runs `work` on a read-only connection, without migrating. When no program has the file open, no
/// file is created beside it: then the write-ahead log is empty and not needed.
pub(super) fn reading<T>(path: &Path, work: impl Fn(&mut Connection) -> Result<T>) -> Result<T> {
    let place = checked(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;

    let is_open = || beside(&place, "-wal").symlink_metadata().is_ok();
    if !is_open() {
        let mut connection = connect(
            Path::new(&immutable(&place)),
            flags | OpenFlags::SQLITE_OPEN_URI,
            path,
        )?;

        let found = work(&mut connection);
        // A program that has opened the file meanwhile may have written during the read.
        if !is_open() {
            return found;
        }
    }

    work(&mut connect(&place, flags, path)?)
}

fn connect(place: &Path, flags: OpenFlags, path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(place, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW);
    connection.map_err(|error| in_file(path, &error))
}

/// A file name for SQLite with `immutable=1`: without locks, and without files beside it.
fn immutable(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(byte))
            }
            // Writing into a String cannot fail.
            _ => drop(write!(uri, "%{byte:02x}")),
        }
    }

    uri + "?immutable=1"
}

/// The path with resolved directories, if all files that SQLite would open there are regular files.
/// The check is by name, because closing a descriptor of the file drops all locks that this process
/// has on it.
pub(super) fn checked(path: &Path) -> Result<PathBuf> {
    let found = fs_err::symlink_metadata(path).map_err(|error| opening(path, &error))?;
    if let Some(why) = refusal(&found) {
        return Err(refused(path, &why));
    }

    for name in BESIDE {
        let beside = beside(path, name);
        if let Ok(found) = beside.symlink_metadata()
            && !found.is_file()
        {
            let why = format!(
                "it is {}, not a regular file",
                files::kind(found.file_type())
            );

            return Err(refused(&beside, &why));
        }
    }

    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused(path, "it cannot be a file"));
    };

    Ok(fs_err::canonicalize(directory)
        .map_err(|error| opening(path, &error))?
        .join(name))
}

/// Syncs the directory if the write-ahead log has just been created, so that its name survives power
/// loss as its content does. Call it on an open database, before anything is written: no other
/// process removes the log then.
///
/// SQLite would sync the directory at each process' first commit, which costs an enqueue as much as
/// the commit itself; .cargo/config.toml turns that off (SQLITE_DISABLE_DIRSYNC). A log with content
/// needs no sync: the program that wrote it found it empty, and has synced.
pub(super) fn keep_new_log(path: &Path) -> Result<()> {
    let is_new = beside(path, "-wal")
        .symlink_metadata()
        .is_ok_and(|log| log.len() == 0);
    if !is_new {
        return Ok(());
    }

    // As SQLite, this goes on where the directory cannot be read.
    let Some(Ok(directory)) = path.parent().map(std::fs::File::open) else {
        return Ok(());
    };
    directory.sync_all().map_err(|error| opening(path, &error))
}

pub(super) fn beside(path: &Path, name: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(name);
    PathBuf::from(beside)
}

/// Creates the file and its directory when they are missing. On a packaged installation tmpfiles.d
/// creates the directory; elsewhere, such as on a developer's machine, this function does.
///
/// Fails with 69 when it cannot be created, and while a database of an older version is at its
/// former path; 77 when permission is denied.
pub(super) fn make(path: &Path) -> Result<()> {
    let is_missing = path
        .symlink_metadata()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if is_missing && let Some(root) = path.ancestors().nth(2).filter(|_| path.ends_with(DATABASE)) {
        let former = root.join("left4me.db");
        // A new file here would hide the old database.
        if former.symlink_metadata().is_ok() {
            return Err(Error::unavailable(format!(
                "database {}: that of an older version is still at {}; \
                 the package's installation moves it, or as root `left4me-helper upgrade`",
                path.display(),
                former.display()
            )));
        }

        make_directory(path)?;
    }

    // The descriptor is closed at once, before there are connections; see Db::open.
    files::open_shared(path)
        .map(drop)
        .map_err(|error| opening(path, &error))
}

fn make_directory(path: &Path) -> Result<()> {
    // This checks first instead of using mkdir's error: the services' sandboxes refuse the setgid
    // bit before the kernel sees the path.
    let Some(directory) = path.parent().filter(|directory| !directory.exists()) else {
        return Ok(());
    };
    match std::fs::DirBuilder::new().mode(0o2770).create(directory) {
        Ok(()) => {
            let mode = std::fs::Permissions::from_mode(0o2770);
            std::fs::set_permissions(directory, mode).map_err(|error| opening(path, &error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(opening(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn new(dir: &Path) -> PathBuf {
        let path = dir.join("db/left4me.db");
        make(&path).unwrap();
        path
    }

    #[test]
    fn a_link_a_fifo_or_a_directory_in_its_place_or_beside_it_is_refused_with_69() {
        let dir = tempfile::tempdir().unwrap();

        let path = new(dir.path());
        for name in ["", "-wal", "-shm", "-journal"] {
            let place = beside(&path, name);
            for trick in ["link", "fifo", "directory"] {
                std::fs::remove_file(&place).ok();

                match trick {
                    "link" => symlink("/etc/passwd", &place).unwrap(),
                    "fifo" => nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                    _ => std::fs::create_dir(&place).unwrap(),
                }

                let error = open(&path).expect_err(trick);
                assert_eq!(error.exit.code(), 69, "{name} {trick}");
                assert!(
                    error.to_string().contains(place.to_str().unwrap()),
                    "{error}"
                );

                assert_eq!(
                    reading(&path, |_| Ok(())).unwrap_err().exit.code(),
                    69,
                    "{name} {trick}"
                );

                assert!(make(&path).is_err() || !name.is_empty());
                if trick == "directory" {
                    std::fs::remove_dir(&place).unwrap();
                }
            }

            std::fs::remove_file(&place).ok();
            make(&path).unwrap();
        }
    }

    #[test]
    fn reading_makes_no_file_and_sees_what_is_still_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("odd name?#%.db");
        let count = |path: &Path| {
            reading(path, |connection| {
                Ok(connection
                    .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?)
            })
        };

        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)",
            )
            .unwrap();
        assert_eq!(count(&path).unwrap(), 1, "out of the log");
        drop(writer);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "the last one has closed it"
        );

        assert_eq!(count(&path).unwrap(), 1);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "and reading made no file"
        );
    }

    #[test]
    fn no_new_file_hides_that_of_an_older_version() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("left4me.db"), "").unwrap();
        let error = make(&dir.path().join("db/left4me.db")).unwrap_err();
        assert!(
            error.exit.code() == 69 && error.to_string().contains("left4me-helper upgrade"),
            "{error}"
        );

        assert!(!dir.path().join("db").exists());
    }
}
