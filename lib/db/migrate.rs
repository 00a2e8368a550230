//! Append-only migrations. Every program that opens the file brings it up to date, under one exclusive transaction.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use rusqlite_migration::{M, Migrations};

use crate::base::{Error, Result};
use crate::db::error::in_file;
use crate::db::{launch_upgrade, names_upgrade};

/// The steps, oldest first. A step that was released is never edited: a later one mends it.
const STEPS: &[&str] = &[
    include_str!("migrations/0001-spine.sql"),
    include_str!("migrations/0002-poller.sql"),
    include_str!("migrations/0003-cancel.sql"),
    include_str!("migrations/0004-web.sql"),
    include_str!("migrations/0005-metrics.sql"),
    include_str!("migrations/0006-launch.sql"),
    include_str!("migrations/0007-names.sql"),
    include_str!("migrations/0008-crashes.sql"),
    include_str!("migrations/0009-records.sql"),
];

/// The step that converts the blueprints' launch arguments after its SQL.
const LAUNCH: usize = 6;

/// The step that rewrites names after its SQL.
const NAMES: usize = 7;

/// The schema's version that this program knows: the number of steps.
pub const LATEST: i64 = STEPS.len() as i64;

fn migrations() -> Migrations<'static> {
    let step = |(index, sql)| match index + 1 {
        LAUNCH => M::up_with_hook(sql, launch_upgrade::convert),
        NAMES => M::up_with_hook(sql, names_upgrade::convert),
        _ => M::up(sql),
    };
    Migrations::new(STEPS.iter().copied().enumerate().map(step).collect())
}

/// The file's version: how many steps it has seen.
///
/// # Errors
/// 69 when the file cannot be read.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the file to [`LATEST`]. Two programs that start at once are no problem: the second finds it done.
///
/// # Errors
/// 69 with both versions named when the file is from a newer left4me; nothing is touched then.
pub fn to_latest(connection: &mut Connection, path: &Path) -> Result<()> {
    let before = version(connection).map_err(|error| in_file(path, &error))?;
    if before == LATEST {
        return Ok(());
    }
    if before > LATEST {
        return Err(Error::unavailable(format!(
            "database {} has schema {before}, this program knows {LATEST}: it is from a newer left4me; upgrade this one. Nothing was changed",
            path.display()
        )));
    }
    connection.set_transaction_behavior(TransactionBehavior::Exclusive);
    let done = migrations().to_latest(connection);
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let Err(error) = done else { return Ok(()) };
    // rusqlite_migration reads the version before it takes the lock, so that of two programs the second finds the
    // tables made already. All of it is one transaction: the version tells whether somebody else has done it.
    if version(connection).map_err(|error| in_file(path, &error))? == LATEST {
        return Ok(());
    }
    Err(match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => in_file(path, &err),
        other => Error::unavailable(format!("database {}: migration failed: {other}", path.display())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_apply_to_an_empty_file_and_keep_foreign_keys() {
        migrations().validate().unwrap();
    }
}
