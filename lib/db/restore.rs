//! Replaces the database by another one. The new file is checked and migrated first, then exchanged
//! in one step, and the former one is kept. An interruption at any point leaves one complete
//! database under the name.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::base::{Error, Result, files};
use crate::db::error::{in_file, opening};
use crate::db::{Db, file, maintenance, migrate};

/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How long the exchange waits for another program's transaction.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The name of the copy that a restore creates beside the database.
pub fn staged(database: &Path) -> PathBuf {
    file::beside(database, ".restoring")
}

/// The name under which the former database is kept; none after a hundred restores within one
/// second.
pub fn kept(database: &Path, stamp: &str) -> Option<PathBuf> {
    let names =
        std::iter::once(stamp.to_owned()).chain((2..100).map(|number| format!("{stamp}-{number}")));
    let mut places = names.map(|name| file::beside(database, &format!("{KEPT}{name}")));
    places.find(|place| place.symlink_metadata().is_err())
}

/// Checks a copy that no other program uses, and prepares it: migrated to this program's schema,
/// and one file without a log beside it.
///
/// Fails with 1 when it is damaged, or not a database of left4me; 69 when it is from a newer
/// left4me.
pub fn prepare(staged: &Path) -> Result<()> {
    let complaints = Db::peek(staged, |tx| {
        let found = tx.query_row(
            "SELECT count(*) FROM sqlite_schema
             WHERE type = 'table' AND name IN ('users', 'servers', 'jobs')",
            [],
            |row| row.get::<_, i64>(0),
        );

        // A file that is not a database has no page to read.
        let found = match found {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => 0,
            found => found.map_err(|error| damaged(&error))?,
        };

        let schema = if found < 3 {
            0
        } else {
            migrate::version(tx).map_err(|error| damaged(&error))?
        };

        if schema < 1 {
            return Err(Error::failed(
                "the backup is not a database of left4me; nothing was changed",
            ));
        }

        if schema > migrate::LATEST {
            return Err(Error::unavailable(format!(
                "the backup has schema {schema}, this program knows {}: \
                 it is from a newer left4me; upgrade this one, \
                 then run this again. Nothing was changed",
                migrate::LATEST
            )));
        }

        maintenance::complaints_of(tx).map_err(|error| damaged(&error))
    })?;

    if let Some(first) = complaints.first() {
        return Err(damaged(first));
    }

    let db = Db::open_existing(staged)?;
    let mode = db
        .connection()
        .query_row("PRAGMA journal_mode = DELETE", [], |row| {
            row.get::<_, String>(0)
        });
    match mode.map_err(|error| in_file(staged, &error))? {
        mode if mode == "delete" => Ok(()),
        mode => Err(Error::failed(format!(
            "the backup's journal mode stays '{mode}'; nothing was changed"
        ))),
    }
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::failed(format!(
        "the backup is damaged: {why}; nothing was changed; take another one"
    ))
}

/// Gives `staged`, which [`prepare`] has prepared, the database's name in one step, and the former
/// database the name `kept`. Returns whether there was one.
///
/// Fails with 69 when another program has the database open, or the file system's error. Then the
/// former database is still in place.
pub fn exchange(staged: &Path, path: &Path, kept: &Path) -> Result<bool> {
    let is_there = path.symlink_metadata().is_ok();
    // While this is open, no other program can read the former database and begin a log beside it.
    let held = if is_there { fold(path)? } else { None };
    if let Some(former) = &held {
        raise(staged, former)?;
    }
    for name in file::BESIDE {
        // These files belong to a database that is damaged or gone. SQLite would take them for the
        // new one's.
        let (beside, aside) = (file::beside(path, name), file::beside(kept, name));
        if beside.symlink_metadata().is_err() {
            continue;
        }

        // Once the log is in the file, the other files hold no data.
        let is_empty = held.is_some() && name != "-wal";
        let done = if is_empty {
            fs_err::remove_file(&beside)
        } else {
            fs_err::rename(&beside, &aside)
        };

        done.map_err(|error| opening(path, &error))?;
    }

    if is_there {
        fs_err::hard_link(path, kept).map_err(|error| opening(path, &error))?;
    }

    if let Err(error) = fs_err::rename(staged, path) {
        // Do not leave two names of one database.
        fs_err::remove_file(kept).ok();
        return Err(opening(path, &error));
    }

    sync_directory(path)?;
    drop(held);
    Ok(is_there)
}

/// Numbers that the former database has given are not given again: other hosts know its events and
/// jobs by them.
fn raise(staged: &Path, former: &Connection) -> Result<()> {
    let numbers = |connection: &Connection| -> rusqlite::Result<Vec<(String, i64)>> {
        let sql = "SELECT name, seq FROM sqlite_sequence WHERE name IN ('events', 'jobs')";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    // A former database that cannot be read is no reason to keep it.
    let Ok(given) = numbers(former) else {
        return Ok(());
    };

    let connection = file::open(staged)?;
    let raised = || -> rusqlite::Result<()> {
        let tx = connection.unchecked_transaction()?;
        for (name, number) in &given {
            tx.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, 0
                 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
                [name],
            )?;
            tx.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1",
                rusqlite::params![name, number],
            )?;
        }
        tx.commit()
    };
    raised().map_err(|error| in_file(staged, &error))
}

/// Writes the log into the file, removes it, and keeps all other programs out while the returned
/// connection is open. None for a file that is too damaged.
fn fold(path: &Path) -> Result<Option<Connection>> {
    // SQLite removes the log beside a file that is not a database. No connection of this process
    // has the file open, so closing it here drops no lock.
    let mut magic = [0; MAGIC.len()];
    let mut file = files::open_to_read(path).map_err(|error| opening(path, &error))?;
    if file.read_exact(&mut magic).is_ok() && magic != *MAGIC {
        return Ok(None);
    }
    drop(file);

    let connection = file::open(path)?;
    let folded = || -> rusqlite::Result<()> {
        connection.busy_timeout(TIMEOUT)?;
        connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        // Takes the lock; in exclusive locking mode the connection keeps it.
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
    };

    match folded() {
        Ok(()) => Ok(Some(connection)),
        Err(error) => match error.sqlite_error_code() {
            Some(
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::SystemIoFailure,
            ) => Ok(None),
            _ => Err(in_file(path, &error)),
        },
    }
}

/// Removes what an interrupted restore left: the copy, and a second name of the database.
pub fn clean(staged: &Path, path: &Path) -> Result<()> {
    for place in std::iter::once(staged.to_owned())
        .chain(file::BESIDE.map(|name| file::beside(staged, name)))
    {
        remove(&place)?;
    }

    let (Some(directory), Ok(own)) = (path.parent(), path.symlink_metadata()) else {
        return Ok(());
    };
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let is_kept = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.contains(KEPT));
        if is_kept && entry.metadata().is_ok_and(|found| same(&found, &own)) {
            remove(&entry.path())?;
        }
    }

    Ok(())
}

/// The infix in the name of a replaced database.
const KEPT: &str = ".before-restore-";

fn same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn remove(place: &PathBuf) -> Result<()> {
    match fs_err::remove_file(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes renames in the directory of `path` durable.
fn sync_directory(path: &Path) -> Result<()> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    Ok(fs_err::File::open(directory)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::events;

    fn made(path: &Path, word: &str) {
        let mut db = Db::open(path).unwrap();

        db.write(|tx| {
            Ok(tx.execute(
                "INSERT INTO users (name, password_hash, created_at, updated_at)
                 VALUES (?1, '', 1, 1)",
                [word],
            )?)
        })
        .unwrap();
    }

    fn users(path: &Path) -> Vec<String> {
        let db = Db::open_existing(path).unwrap();
        let mut statement = db
            .connection()
            .prepare("SELECT name FROM users ORDER BY name")
            .unwrap();
        statement
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap()
    }

    fn places(dir: &Path) -> [PathBuf; 3] {
        [
            "left4me.db",
            "left4me.db.restoring",
            "left4me.db.before-restore-1",
        ]
        .map(|name| dir.join(name))
    }

    #[test]
    fn the_new_one_has_the_name_the_former_one_is_kept_whole_and_no_log_is_mixed_up() {
        let dir = tempfile::tempdir().unwrap();
        let [path, staged, kept] = places(dir.path());
        made(&path, "old");

        // Closing does not empty the log: its content belongs to the former database.
        assert!(file::beside(&path, "-wal").metadata().unwrap().len() > 0);
        made(&staged, "new");
        prepare(&staged).unwrap();
        assert!(exchange(&staged, &path, &kept).unwrap());
        assert_eq!(
            (users(&path), users(&kept)),
            (vec!["new".to_owned()], vec!["old".to_owned()])
        );
    }

    #[test]
    fn numbers_of_events_that_the_former_one_has_given_are_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let [path, staged, kept] = places(dir.path());
        let add = |path: &Path, events: usize| {
            let mut db = Db::open(path).unwrap();
            db.write(|tx| {
                (0..events).try_for_each(|_| {
                    events::add(tx, 1, &events::NewEvent::new("queue.paused", "anna", ""))
                })
            })
            .unwrap();
            let sql = "SELECT max(id) FROM events";
            let last = db.connection().query_row(sql, [], |row| row.get(0));
            last.unwrap_or(0_i64)
        };
        add(&path, 7);
        add(&staged, 2);
        prepare(&staged).unwrap();
        assert!(exchange(&staged, &path, &kept).unwrap());
        assert_eq!(add(&path, 1), 8);
    }

    #[test]
    fn who_has_the_former_one_open_is_told_and_writes_nothing_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let [path, staged, kept] = places(dir.path());
        made(&path, "old");

        let mut follower = Db::open_existing(&path).unwrap();
        let mut watch = crate::db::watch::Watch::new(&path).unwrap();
        assert!(!watch.check().unwrap());

        // As by hand: without checking which programs have it open.
        made(&staged, "new");
        prepare(&staged).unwrap();
        std::fs::remove_file(file::beside(&path, "-wal")).unwrap();
        std::fs::rename(&staged, &path).unwrap();

        let words = "was replaced";
        assert!(
            follower
                .read(|tx| events::last(tx, None, 1).map(drop))
                .unwrap_err()
                .to_string()
                .contains(words)
        );

        assert!(
            follower
                .write(|_| Ok(()))
                .unwrap_err()
                .to_string()
                .contains(words)
        );

        assert!(watch.check().unwrap_err().to_string().contains(words));
        assert_eq!(users(&path), ["new"]);
        assert!(!kept.exists());
    }

    #[test]
    fn a_database_that_is_open_elsewhere_is_not_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let [path, staged, kept] = places(dir.path());
        made(&path, "old");
        made(&staged, "new");
        prepare(&staged).unwrap();

        let other = Connection::open(&path).unwrap();
        other
            .execute_batch("BEGIN; SELECT count(*) FROM users")
            .unwrap();

        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(exchange(&staged, &path, &kept)).unwrap());
            let error = receiver.recv().unwrap().unwrap_err();
            assert_eq!(error.exit.code(), 69, "{error}");
        });

        drop(other);
        assert_eq!(users(&path), ["old"]);
    }

    #[test]
    fn a_damaged_database_is_replaced_and_kept_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let [path, staged, kept] = places(dir.path());

        std::fs::write(&path, "no database, but it is what was there".repeat(1000)).unwrap();
        std::fs::write(file::beside(&path, "-wal"), "and a log").unwrap();
        made(&staged, "new");
        prepare(&staged).unwrap();
        assert!(exchange(&staged, &path, &kept).unwrap());
        assert_eq!(users(&path), ["new"]);
        assert_eq!(
            std::fs::read_to_string(file::beside(&kept, "-wal")).unwrap(),
            "and a log"
        );
    }

    #[test]
    fn what_is_no_whole_database_of_a_known_left4me_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [path, staged, _] = places(dir.path());
        let refused = |why: &str| {
            let error = prepare(&staged).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("othing was changed"),
                "{error}"
            );
        };

        std::fs::write(
            &staged,
            "some text that is long enough to be read as a header of a database file",
        )
        .unwrap();

        refused("not a database of left4me");
        std::fs::write(&staged, "").unwrap();
        refused("not a database of left4me");
        std::fs::remove_file(&staged).unwrap();
        Connection::open(&staged)
            .unwrap()
            .execute_batch("CREATE TABLE t (x); PRAGMA user_version = 3")
            .unwrap();
        refused("not a database of left4me");
        clean(&staged, &path).unwrap();
        made(&staged, "new");
        Connection::open(&staged)
            .unwrap()
            .execute_batch("PRAGMA user_version = 9999; PRAGMA journal_mode = DELETE")
            .unwrap();

        refused("newer left4me");
        clean(&staged, &path).unwrap();
        made(&staged, "new");
        Connection::open(&staged)
            .unwrap()
            .execute_batch("PRAGMA journal_mode = DELETE")
            .unwrap();

        let mut bytes = std::fs::read(&staged).unwrap();
        let end = bytes.len();
        bytes[8192..end].fill(0xa5);
        std::fs::write(&staged, bytes).unwrap();
        refused("damaged");
    }

    #[test]
    fn what_an_ended_restore_left_is_removed_and_the_database_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [path, staged, kept] = places(dir.path());
        made(&path, "old");
        std::fs::write(&staged, "half a copy").unwrap();
        std::fs::hard_link(&path, &kept).unwrap();

        let other = dir.path().join("left4me.db.before-restore-0");
        std::fs::write(&other, "an earlier one").unwrap();
        clean(&staged, &path).unwrap();
        assert!(!staged.exists() && !kept.exists() && other.exists());
        assert_eq!(users(&path), ["old"]);
    }
}
