//! A part of a transaction that can fail by itself.

use rusqlite::Connection;

use crate::base::Result;

/// Runs `work` as a part of the transaction. If it fails, only what it wrote is rolled back, and the
/// transaction goes on.
pub fn within<T>(tx: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    tx.execute_batch("SAVEPOINT part")?;
    let result = work(tx);
    if result.is_err() {
        tx.execute_batch("ROLLBACK TO part")?;
    }
    tx.execute_batch("RELEASE part")?;
    result
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
}
