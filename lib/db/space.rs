//! The size of the files: the write-ahead log stays small, and pages that deleted rows leave behind
//! are returned to the file system.
//!
//! A commit beyond a number of pages writes the log back into the file (SQLite's automatic
//! checkpoint), and the next commit begins the log again. But that does not keep it short:
//!
//! - How much is written back is known only while some program has the file open. The next one
//!   after that finds the whole log, and continues it. A host on which nothing but polls happens
//!   has no program that stays.
//! - While one reader always overlaps with the next, no commit can begin the log again.
//! - The log's file keeps its largest size.
//!
//! So the log is cut off by the poller, by each program that writes it back when it exits, and by
//! any commit that finds it far too large.
//!
//! A file of this version is created with `auto_vacuum = INCREMENTAL`: its free pages can be
//! returned in small steps. A file of an older version needs one VACUUM, which rewrites it.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::base::{Error, Result};
use crate::db::{Db, SHORT_WAL, file, wait_for_lock};

/// A log with more pages than this is cut off if no reader is in the way.
const LONG_LOG: i64 = SHORT_WAL as i64;

/// The same for the size of its file, bytes.
const LARGE_LOG: u64 = 4 << 20;

/// And beyond this size by any commit, because no poll has done it, in bytes.
const OVERLARGE_LOG: u64 = 8 << 20;

/// A log beyond this size is cut off after a pause for readers, in which no program can write,
/// bytes.
const HUGE_LOG: u64 = 64 << 20;

/// That pause.
const PAUSE: Duration = Duration::from_millis(100);

/// How many free pages stay in the file for the next rows.
const SPARE: i64 = 1000;

/// How many pages are returned in one transaction: a few milliseconds.
const STEP: i64 = 200;

/// The pause between two of these transactions, in which a waiting writer gets the lock.
const BREATH: Duration = Duration::from_millis(2);

/// The largest file that is rewritten without being asked, bytes. It takes less than a second, in
/// which others wait, and as much memory.
const SMALL_FILE: i64 = 64 << 20;

/// `PRAGMA auto_vacuum` of a file whose free pages can be returned in steps.
const INCREMENTAL: i64 = 2;

impl Db {
    /// Copies the write-ahead log back into the file, as far as other programs' locks allow, and
    /// cuts it off if it has grown large. For a program that exits.
    pub fn checkpoint(&self) {
        let pause = if self.log_bytes() > HUGE_LOG {
            PAUSE
        } else {
            Duration::ZERO
        };

        if let Err(error) = self.write_back(pause) {
            tracing::debug!(%error, "no checkpoint");
        }
    }

    /// The same after a commit, if the log is far too large. It waits for no reader.
    pub(super) fn bound_log(&self) {
        if self.log_bytes() > OVERLARGE_LOG
            && let Err(error) = self.write_back(Duration::ZERO)
        {
            tracing::debug!(%error, "the log stays large");
        }
    }

    /// Writes the log back, and cuts it off if it has grown large, with `pause` for readers.
    fn write_back(&self, pause: Duration) -> rusqlite::Result<()> {
        // Others write meanwhile, so the second step has little left to do.
        let pages = checkpoint(&self.connection, "PASSIVE")?;
        if pages <= LONG_LOG && self.log_bytes() <= LARGE_LOG {
            return Ok(());
        }

        self.connection.busy_timeout(pause)?;
        let done = checkpoint(&self.connection, "TRUNCATE");
        self.connection.busy_handler(Some(wait_for_lock))?;
        done.map(drop)
    }

    /// The size of the write-ahead log's file.
    pub fn log_bytes(&self) -> u64 {
        file::beside(&self.path, "-wal")
            .symlink_metadata()
            .map_or(0, |found| found.len())
    }

    /// The size of the file, once the log is written back.
    pub fn file_bytes(&self) -> Result<i64> {
        Ok(self.pragma("page_count")? * self.pragma("page_size")?)
    }

    /// The part of [`Self::file_bytes`] that is free.
    pub fn free_bytes(&self) -> Result<i64> {
        Ok(self.pragma("freelist_count")? * self.pragma("page_size")?)
    }

    /// The size of all rows and indexes.
    pub(super) fn used_bytes(&self) -> Result<i64> {
        Ok(self.file_bytes()? - self.free_bytes()?)
    }

    /// Returns free pages to the file system, in small transactions. Returns how many bytes the
    /// file has become smaller. 0 for a file of an older version that was not rewritten.
    pub fn shrink(&self) -> Result<i64> {
        let before = self.file_bytes()?;
        if !self.can_shrink()? {
            return Ok(0);
        }

        loop {
            self.must_be_current()?;
            let free = self.pragma("freelist_count")?;
            if free <= SPARE {
                break;
            }

            let pages = STEP.min(free - SPARE);
            let sql = format!("PRAGMA incremental_vacuum({pages})");
            let mut statement = self.connection.prepare(&sql)?;
            // Each row is one page.
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            std::thread::sleep(BREATH);
        }

        Ok(before - self.file_bytes()?)
    }

    /// Whether free pages of this file can be returned.
    pub fn can_shrink(&self) -> Result<bool> {
        Ok(self.pragma("auto_vacuum")? == INCREMENTAL)
    }

    /// Whether a rewrite of the file takes so little time that others do not notice.
    pub fn is_small(&self) -> Result<bool> {
        Ok(self.file_bytes()? <= SMALL_FILE)
    }

    /// Rewrites the file without free pages, so that its free pages can be returned from then on.
    /// Other programs read meanwhile, and wait with their writes.
    ///
    /// Fails with 69 when another program writes for too long, or when the disk has too little
    /// space; then the file is unchanged.
    pub fn rewrite(&self) -> Result<()> {
        self.must_be_current()?;
        let needed = self.used_bytes()?.saturating_mul(2);
        if let Some(free) = available(&self.path).filter(|free| *free < needed) {
            return Err(Error::unavailable(format!(
                "{} MiB of free space are needed beside {}, and {} MiB are there",
                needed >> 20,
                self.path.display(),
                free >> 20
            )));
        }

        // The copy would otherwise be in memory, whatever its size.
        if !self.is_small()? {
            self.connection.pragma_update(None, "temp_store", "FILE")?;
        }
        self.connection
            .pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        self.connection.execute_batch("VACUUM")?;
        self.checkpoint();

        Ok(())
    }

    fn pragma(&self, name: &str) -> Result<i64> {
        Ok(self
            .connection
            .pragma_query_value(None, name, |row| row.get(0))?)
    }
}

/// Writes the log back, and returns how many pages it has. A log that is in use is no error.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        row.get(1)
    })
}

/// The space on the disk of `path` that this user may use, bytes; none when it is unknown.
fn available(path: &Path) -> Option<i64> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    i64::try_from(u128::from(found.blocks_available()) * u128::from(found.fragment_size())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("left4me.db")).unwrap();
        (dir, db)
    }

    /// Adds events of a kibibyte each.
    fn fill(db: &mut Db, count: i64) {
        db.write(|tx| {
            Ok(tx.execute(
                "INSERT INTO events (at, kind, actor, detail)
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                 SELECT i, 'x', 'x', hex(zeroblob(512)) FROM n",
                [count],
            )?)
        })
        .unwrap();
    }

    #[test]
    fn a_log_that_has_grown_is_cut_off_once_no_reader_needs_it() {
        let (_dir, mut db) = opened();
        let mut reader = Db::open_existing(db.path()).unwrap();

        // A reader that has begun keeps the whole log in use.
        let reading = reader
            .read(|tx| {
                tx.query_row("SELECT count(*) FROM events", [], |_| Ok(()))?;
                for _ in 0..3 {
                    fill(&mut db, 3000);
                    db.checkpoint();
                }
                Ok(db.log_bytes())
            })
            .unwrap();
        assert!(reading > LARGE_LOG, "{reading}");

        db.checkpoint();
        assert_eq!(db.log_bytes(), 0);

        // A small one is kept: the next commits use it again.
        fill(&mut db, 10);
        db.checkpoint();
        assert!((1..LARGE_LOG).contains(&db.log_bytes()));
    }

    #[test]
    fn free_pages_are_returned_but_for_some_and_others_write_meanwhile() {
        let (_dir, mut db) = opened();
        fill(&mut db, 20_000);
        let full = db.file_bytes().unwrap();
        db.write(|tx| Ok(tx.execute("DELETE FROM events", [])?))
            .unwrap();
        assert_eq!(
            db.file_bytes().unwrap(),
            full,
            "free pages stay in the file"
        );

        let mut other = Db::open_existing(db.path()).unwrap();
        let freed = std::thread::scope(|scope| {
            let writing = scope.spawn(|| (0..50).for_each(|_| fill(&mut other, 1)));
            let freed = db.shrink().unwrap();
            writing.join().unwrap();
            freed
        });

        assert!(freed > 15 << 20, "{freed}");
        let spare = SPARE * 4096;
        assert!((1..=spare).contains(&db.free_bytes().unwrap()));
        assert_eq!(db.shrink().unwrap(), 0);
        assert_eq!(
            crate::db::maintenance::check(db.path()).unwrap().complaints,
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_file_of_an_older_version_can_shrink_after_one_rewrite() {
        let (dir, db) = opened();
        let old = dir.path().join("old.db");
        {
            // As older versions made it.
            let connection = Connection::open(&old).unwrap();
            connection
                .execute_batch("PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL")
                .unwrap();
        }

        assert!(db.can_shrink().unwrap(), "a new one can");
        let mut db = Db::open_existing(&old).unwrap();
        fill(&mut db, 10_000);
        db.write(|tx| Ok(tx.execute("DELETE FROM events WHERE id > 100", [])?))
            .unwrap();
        assert!(!db.can_shrink().unwrap() && db.is_small().unwrap());
        assert_eq!(db.shrink().unwrap(), 0);

        let reader = Db::open_existing(&old).unwrap();
        db.rewrite().unwrap();
        assert!(db.can_shrink().unwrap() && db.free_bytes().unwrap() == 0);
        let count: i64 = reader
            .connection()
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 100, "who had it open reads on");
    }
}
