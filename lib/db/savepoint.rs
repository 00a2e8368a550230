//! A part of a transaction that can fail by itself.

use rusqlite::Connection;

use crate::base::{Error, Result};

/// Runs `work` as a part of the transaction. If it fails, only what it wrote is rolled back, and the
/// transaction goes on. Fails with 69 if nothing is left of the transaction: SQLite ends it itself
/// on a full disk.
pub fn within<T>(tx: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    tx.execute_batch("SAVEPOINT part")?;
    let result = work(tx);
    match result {
        Ok(done) => {
            tx.execute_batch("RELEASE part")?;
            Ok(done)
        }
        Err(error) if tx.is_autocommit() => Err(Error::unavailable(error.to_string())),
        Err(error) => match tx.execute_batch("ROLLBACK TO part; RELEASE part") {
            Ok(()) => Err(error),
            Err(_) => Err(Error::unavailable(error.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Error;
    use crate::db::{one, with_servers};

    #[test]
    fn what_fails_leaves_nothing_and_the_rest_stays() {
        let tx = &with_servers(1);
        tx.execute_batch("BEGIN IMMEDIATE").unwrap();
        let rename = |name: &str| tx.execute("UPDATE servers SET name = ?1", [name]);
        within(tx, |_| Ok(rename("kept")?)).unwrap();
        let failed: Result<()> = within(tx, |_| {
            rename("lost")?;
            Err(Error::conflict("no"))
        });
        assert!(failed.is_err());
        tx.execute_batch("COMMIT").unwrap();
        let name: String = one(tx, "SELECT name FROM servers", [], |row| row.get(0)).unwrap();
        assert_eq!(name, "kept");
    }

    #[test]
    fn what_failed_first_is_told_if_the_whole_transaction_is_gone() {
        let tx = &with_servers(1);
        tx.execute_batch("BEGIN IMMEDIATE").unwrap();
        let failed: Result<()> = within(tx, |tx| {
            tx.execute_batch("ROLLBACK")?;
            Err(Error::failed("the disk is full"))
        });
        let error = failed.unwrap_err();
        assert_eq!(
            (error.exit.code(), error.to_string().as_str()),
            (69, "the disk is full")
        );
    }
}
