//! Append-only schema migrations. Every program that opens the file migrates it, in one exclusive
//! transaction.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use rusqlite_migration::{M, Migrations};

use crate::base::{Error, Result};
use crate::db::error::in_file;
use crate::db::fleet::ulids;
use crate::db::{launch_upgrade, names_upgrade};

/// The steps, oldest first. A released step is never edited: a later one corrects it.
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
    include_str!("migrations/0010-retention.sql"),
    include_str!("migrations/0011-players.sql"),
    include_str!("migrations/0012-alerts.sql"),
    include_str!("migrations/0013-conditions.sql"),
    include_str!("migrations/0014-schedules.sql"),
    include_str!("migrations/0015-builds.sql"),
    include_str!("migrations/0016-updates.sql"),
    include_str!("migrations/0017-stale.sql"),
    include_str!("migrations/0018-scheduled-updates.sql"),
    include_str!("migrations/0019-fleet.sql"),
];

/// The step after whose SQL the blueprints' launch arguments are converted.
const LAUNCH: usize = 6;

/// The step after whose SQL names are rewritten.
const NAMES: usize = 7;

/// The step after whose SQL servers get their names in the fleet.
const FLEET: usize = 19;

/// The schema version of this program: the number of steps.
pub const LATEST: i64 = STEPS.len() as i64;

fn migrations() -> Migrations<'static> {
    let step = |(index, sql)| match index + 1 {
        LAUNCH => M::up_with_hook(sql, launch_upgrade::convert),
        NAMES => M::up_with_hook(sql, names_upgrade::convert),
        FLEET => M::up_with_hook(sql, ulids::convert),
        _ => M::up(sql),
    };
    Migrations::new(STEPS.iter().copied().enumerate().map(step).collect())
}

/// The schema version of the file: the number of steps applied.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Migrates the file to [`LATEST`]. Two programs may start at once: the second finds the work done.
///
/// Fails with 69 with both versions when the file is from a newer left4me; it stays untouched.
pub fn to_latest(connection: &mut Connection, path: &Path) -> Result<()> {
    let before = version(connection).map_err(|error| in_file(path, &error))?;
    if before == LATEST {
        return Ok(());
    }

    if before > LATEST {
        return Err(Error::unavailable(format!(
            "database {} has schema {before}, this program knows {LATEST}: it is from a newer \
            left4me; upgrade this one. Nothing was changed",
            path.display()
        )));
    }

    connection.set_transaction_behavior(TransactionBehavior::Exclusive);
    let done = migrations().to_latest(connection);
    connection.set_transaction_behavior(TransactionBehavior::Immediate);

    let Err(error) = done else { return Ok(()) };

    // rusqlite_migration reads the version before it takes the lock, so the second of two programs
    // would find the tables created already. All steps are one transaction: the version shows
    // whether another program has applied them.
    if version(connection).map_err(|error| in_file(path, &error))? == LATEST {
        return Ok(());
    }

    Err(match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => in_file(path, &err),
        other => Error::unavailable(format!(
            "database {}: migration failed: {other}",
            path.display()
        )),
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
