//! The store: one SQLite file in WAL mode. All SQL of left4me is in this folder, one named function
//! per query.
//!
//! - A process writes over one connection; the worker's log writer has a second one.
//! - Every read-then-write is BEGIN IMMEDIATE ([`Db::write`]). No transaction stays open while a
//!   host operation runs or a client reads.
//! - Transitions are committed with synchronous=FULL: an accepted job survives power loss. The log
//!   writer's connection ([`Db::open_for_logs`]) has synchronous=NORMAL: power loss may lose the
//!   last lines, never the file's consistency.
//! - Every program migrates the file when it opens it, in one exclusive transaction. A file from a
//!   newer left4me is refused and stays untouched. Only the doctor reads without migrating
//!   ([`Db::peek`]).
//! - A link, a FIFO or another user's file at the database's path is refused and never opened
//!   (file.rs).

pub mod access;
pub mod activity;
pub mod alerts;
pub mod blueprint_change;
pub mod blueprints;
pub mod builds;
pub mod cancellations;
pub mod candidates;
pub mod change_feed;
pub mod conditions;
pub mod crashes;
pub mod deliveries;
pub mod drift;
pub mod error;
pub mod events;
mod file;
pub mod fleet;
pub mod game;
pub mod identity;
mod ids;
mod job_filter;
pub mod job_rows;
mod job_update;
pub mod jobs;
mod launch_upgrade;
pub mod links;
pub mod lists;
pub mod logs;
pub mod maintenance;
pub mod metrics;
pub mod migrate;
pub mod monitor;
mod names_upgrade;
pub mod observations;
mod outbox;
pub mod overlays;
pub mod overview;
mod paging;
pub mod poll;
pub mod ports;
pub mod queue;
pub mod request_keys;
pub mod restore;
pub mod retention;
pub mod rolls;
pub mod runners;
pub mod samples;
pub mod savepoint;
pub mod schedules;
pub mod servers;
pub mod sessions;
mod space;
pub mod stale;
mod states;
pub mod tasks;
pub mod tokens;
pub mod under_way;
pub mod update_options;
pub mod users;
pub mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Params, Row, Transaction, TransactionBehavior,
};

use crate::base::{Error, Result};
use identity::Identity;

/// How long a write waits for the lock of another process before it fails with exit 69.
const BUSY: Duration = Duration::from_secs(15);

/// How long [`Db::peek`] waits for a lock.
const PEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// The first pauses while another process writes, as a commit takes a fraction of a millisecond.
/// SQLite's own busy_timeout begins with whole milliseconds; with it, an enqueue beside a busy
/// worker would take ten times as long.
const PAUSE: Duration = Duration::from_micros(100);
/// The pause after [`SHORT_PAUSES`] short ones, when the lock is held for longer.
const LONG_PAUSE: Duration = Duration::from_millis(10);
/// How many short pauses come first.
const SHORT_PAUSES: i32 = 200;

/// Pages in the write-ahead log before a checkpoint. A process that opens a file which no other has
/// open reads the whole log first; a short log keeps that within a fraction of a millisecond.
const SHORT_WAL: u32 = 256;
/// The same for a program that keeps the file open, so that no process needs to read the log first.
const LONG_WAL: u32 = 1000;

/// The size of the statement cache. rusqlite's default is 16; left4me has about fifty statements,
/// and a worker uses most of them.
const STATEMENTS: usize = 96;

pub struct Db {
    connection: Connection,
    path: PathBuf,
    identity: Identity,
}

impl Db {
    /// Opens the file, creates it if it is missing (0660, owned by this process' user), and
    /// migrates it. Call it once in a process: it checks the file through a descriptor first, and
    /// closing any descriptor of a file drops all POSIX locks that the process has on it, including
    /// those of its other connections. Open those with [`Db::open_existing`].
    pub fn open(path: &Path) -> Result<Self> {
        file::make(path)?;
        Self::connect(path, "FULL")
    }

    /// Opens a file that must exist.
    pub fn open_existing(path: &Path) -> Result<Self> {
        Self::connect(path, "FULL")
    }

    /// Opens a second connection for the log writer, which may lose its last lines on power loss.
    pub fn open_for_logs(path: &Path) -> Result<Self> {
        Self::connect(path, "NORMAL")
    }

    /// Runs `work` on one consistent state of a file that must exist. Reads only, and keeps the
    /// file's schema, so a statement may refer to a missing table or column.
    pub fn peek<T>(path: &Path, work: impl Fn(&Transaction<'_>) -> Result<T>) -> Result<T> {
        file::reading(path, |connection| {
            connection
                .busy_timeout(PEEK_TIMEOUT)
                .map_err(|error| error::in_file(path, &error))?;
            work(&Transaction::new(
                connection,
                TransactionBehavior::Deferred,
            )?)
        })
    }

    fn connect(path: &Path, synchronous: &str) -> Result<Self> {
        let in_file = |error: rusqlite::Error| error::in_file(path, &error);
        let identity = Identity::of(path);
        let connection = file::open(path)?;
        connection
            .busy_handler(Some(wait_for_lock))
            .map_err(in_file)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);

        // The last connection to close skips the checkpoint: `left4me-job enqueue` is often the
        // only one.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(in_file)?;
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
            .map_err(in_file)?;

        let mut db = Self {
            connection,
            path: path.to_owned(),
            identity,
        };

        // The first process switches a new file to WAL. For the others SQLite does not call the
        // busy handler.
        let mut tries = 0;
        while let Err(error) = db.configure(synchronous) {
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || !wait_for_lock(tries) {
                return Err(in_file(error));
            }
            tries += 1;
        }

        file::keep_new_log(path)?;

        // The lock that this process waited for may have been a restore's.
        db.identity.check()?;
        migrate::to_latest(&mut db.connection, path)?;
        Ok(db)
    }

    /// Sets the pragmas, and checks that WAL is on: SQLite returns the mode that stays in effect
    /// instead of an error.
    fn configure(&self, synchronous: &str) -> rusqlite::Result<()> {
        let mode: String = self
            .connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))?;

        // A log beside another file would become that file's log. During a restore the first read
        // waited for its end; `connect` reports the replaced file.
        if !self.identity.is_current() {
            return Ok(());
        }

        if mode != "wal" {
            // Counts for a file that is still empty: the others are converted by a VACUUM.
            self.connection
                .pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            let mode: String =
                self.connection
                    .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            if mode != "wal" {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
                    Some(format!(
                        "write-ahead logging is needed, but the journal mode stays '{mode}'"
                    )),
                ));
            }
        }

        self.connection.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous};
             PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA temp_store = MEMORY;
             PRAGMA wal_autocheckpoint = {SHORT_WAL};"
        ))
    }

    /// For a long-running program: checkpoints less often than one that opens the file for a single
    /// job.
    pub fn stay(&self) -> Result<()> {
        Ok(self
            .connection
            .pragma_update(None, "wal_autocheckpoint", LONG_WAL)?)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connection, for single read statements.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs `work` in one BEGIN IMMEDIATE transaction, and commits it, or rolls back on an error.
    /// Keep `work` fast, because all other writers wait.
    pub fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        self.identity.check()?;
        let transaction = Transaction::new(&mut self.connection, TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        self.bound_log();
        // A write into a file that has lost its name must not count as done.
        self.identity.check()?;
        Ok(value)
    }

    /// Runs several read statements on one consistent state.
    pub fn read<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        self.identity.check()?;
        let transaction = Transaction::new(&mut self.connection, TransactionBehavior::Deferred)?;
        work(&transaction)
    }

    /// Checks that no other file has replaced the database.
    ///
    /// Fails with 69 when another file has the database's name now.
    pub fn must_be_current(&self) -> Result<()> {
        self.identity.check()
    }

    /// Whether another file has the database's name now, so that no other program sees changes of
    /// this one.
    pub fn is_replaced(&self) -> bool {
        !self.identity.is_current()
    }
}

/// The rows of a cached statement, as `read` returns them.
fn query<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement
        .query_map(params, read)?
        .collect::<rusqlite::Result<_>>()?)
}

/// The first row of a cached statement, if there is one.
fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params, read).optional()?)
}

/// The only row of a cached statement.
fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<T> {
    Ok(connection.prepare_cached(sql)?.query_row(params, read)?)
}

/// Whether a cached statement returns a row.
fn exists(connection: &Connection, sql: &str, params: impl Params) -> Result<bool> {
    Ok(connection.prepare_cached(sql)?.exists(params)?)
}

/// How many rows a cached statement changed.
fn execute(connection: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// Runs a cached statement that may change any number of rows.
fn run(connection: &Connection, sql: &str, params: impl Params) -> Result<()> {
    execute(connection, sql, params).map(drop)
}

/// Whether a cached statement changed a row.
fn changes(connection: &Connection, sql: &str, params: impl Params) -> Result<bool> {
    Ok(execute(connection, sql, params)? > 0)
}

/// Runs a cached statement that writes a unique name. `taken` is the message of the conflict when
/// another row has it.
fn write_name(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    taken: impl FnOnce() -> String,
) -> Result<()> {
    match connection.prepare_cached(sql)?.execute(params) {
        Err(error) if error::is_taken(&error) => Err(Error::conflict(taken())),
        written => Ok(written.map(drop)?),
    }
}

/// Reads a text column with any bytes: one damaged row must not stop the reading of the others.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned())
}

/// The same for a column that may be NULL.
fn text_or_null(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => text(row, column).map(Some),
    }
}

/// SQLite calls this when another connection holds the lock. `before` is the number of earlier
/// calls; false gives up.
fn wait_for_lock(before: i32) -> bool {
    let pause = if before < SHORT_PAUSES {
        PAUSE
    } else {
        LONG_PAUSE
    };
    let waited = PAUSE.saturating_mul(before.clamp(0, SHORT_PAUSES).unsigned_abs())
        + LONG_PAUSE.saturating_mul((before - SHORT_PAUSES).max(0).unsigned_abs());
    // An early wake-up is harmless: the count of pauses continues.
    std::thread::park_timeout(pause);
    waited < BUSY
}

/// A database in memory with servers 1 to `count`, on ports from 27000, of one user and one
/// blueprint.
#[cfg(test)]
pub(crate) fn with_servers(count: i64) -> Connection {
    let path = Path::new(":memory:");
    let mut connection = Connection::open(path).unwrap();

    migrate::to_latest(&mut connection, path).unwrap();
    connection
        .execute_batch(
            "INSERT INTO users (name, password_hash, created_at, updated_at)
             VALUES ('anna', '', 1, 1);
             INSERT INTO blueprints (user_id, name, created_at, updated_at)
             VALUES (1, 'plain', 1, 1);",
        )
        .unwrap();

    for number in 0..count {
        let sql = "INSERT INTO servers (user_id, name, port, blueprint_id, created_at, updated_at)
                   VALUES (1, 'S' || ?1, 27000 + ?1, 1, 1, 1)";
        connection.execute(sql, [number]).unwrap();
    }

    connection
}
