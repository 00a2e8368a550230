//! Maintenance of the whole file: check its health, copy it. Both open it without migrating it.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use crate::base::{Error, Result};
use crate::db::error::in_file;
use crate::db::{Db, file, migrate};

/// The result of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its schema version; this program's is [`migrate::LATEST`].
    pub schema: i64,
    /// The complaints of `PRAGMA quick_check`; empty when the file is sound.
    pub complaints: Vec<String>,
}

/// Checks the file, without migrating or changing it.
///
/// Fails with 69 or 77 when it cannot be read.
pub fn check(path: &Path) -> Result<Health> {
    Db::peek(path, |tx| {
        let health = || -> rusqlite::Result<Health> {
            Ok(Health {
                schema: migrate::version(tx)?,
                complaints: complaints(tx, "quick_check")?,
            })
        };

        health().map_err(|error| in_file(path, &error))
    })
}

/// Whether the database's write lock is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It was taken and released.
    Free,
    /// Another program holds it.
    Busy,
    /// No program has the file open: there is no lock, and none was taken.
    Unused,
}

/// How long to wait for the lock.
const LOCK_TIME: Duration = Duration::from_millis(300);

/// Takes and releases the write lock, without a change. A file that no program has open stays
/// closed, because opening it would create files beside it.
///
/// Fails with 69 or 77 when the file cannot be written.
pub fn take_lock(path: &Path) -> Result<Lock> {
    if file::beside(path, "-wal").symlink_metadata().is_err() {
        return Ok(Lock::Unused);
    }

    let connection = file::open(path)?;
    let locked = || -> rusqlite::Result<()> {
        connection.busy_timeout(LOCK_TIME)?;
        // Closing must not write the log back.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")
    };

    match locked() {
        Ok(()) => Ok(Lock::Free),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(Lock::Busy),
        Err(error) => Err(in_file(path, &error)),
    }
}

/// Copies the database at `from`, in the state of one moment, into the empty file `to`, and checks
/// the copy. Other programs read and write meanwhile. The copy is one file, without a write-ahead
/// log.
///
/// Fails with 69 or 77 when one of the files cannot be used; 1 when the copy fails its check.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let source = file::open(from)?;
    source
        .busy_timeout(Duration::from_secs(15))
        .map_err(|error| in_file(from, &error))?;

    let mut target = file::open(to)?;
    let mut found = || -> rusqlite::Result<Vec<String>> {
        let backup = Backup::new(&source, &mut target)?;
        // One step for all pages is one read transaction, which another process' commits cannot
        // restart.
        while !matches!(backup.step(-1)?, StepResult::Done) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(backup);
        target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        complaints(&target, "integrity_check")
    };

    let found = found().map_err(|error| in_file(to, &error))?;
    match found.first() {
        None => Ok(()),
        Some(first) => Err(Error::failed(format!(
            "the copy of {} fails its check: {first}",
            from.display()
        ))),
    }
}

/// The complaints of a full check of the file, including references between tables.
pub(super) fn complaints_of(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = complaints(connection, "integrity_check")?;
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    if let Some(row) = rows.next()? {
        found.push(format!(
            "a row of {} refers to one that is not there",
            row.get::<_, String>(0)?
        ));
    }

    Ok(found)
}

fn complaints(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA {check}(10)"))?;
    let lines = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}
