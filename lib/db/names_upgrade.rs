//! Hook of the migration that normalizes the names of servers, blueprints and tokens to the form
//! that look-ups use. Earlier versions stored a name as typed, so a name from a Mac (`e` and an
//! accent) differed from the same name typed on Windows (`é`).

use std::collections::HashSet;

use rusqlite::{Transaction, params};
use rusqlite_migration::HookResult;

use crate::base::names::normal;

/// The most characters of a name.
const LONGEST: usize = 64;

/// Normalizes the names in the file. When the user has another row with the normalized name, the
/// name gets a number.
pub(super) fn convert(tx: &Transaction<'_>) -> HookResult {
    for table in ["servers", "blueprints", "tokens"] {
        let rows = rows(tx, table)?;

        let mut taken: HashSet<(i64, String)> = rows
            .iter()
            .map(|(_, user, name)| (*user, name.clone()))
            .collect();
        for (id, user, name) in rows {
            let wanted = normal(&name);
            if wanted == name || wanted.is_empty() {
                continue;
            }
            let free = free(&wanted, |name| taken.contains(&(user, name.to_owned())));
            tx.execute(
                &format!("UPDATE {table} SET name = ?2 WHERE id = ?1"),
                params![id, free],
            )?;

            taken.insert((user, free));
        }
    }

    Ok(())
}

fn rows(tx: &Transaction<'_>, table: &str) -> rusqlite::Result<Vec<(i64, i64, String)>> {
    let mut statement = tx.prepare(&format!(
        "SELECT id, user_id, name FROM {table} ORDER BY id"
    ))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

/// `name`, or the first free one of `name (2)`, `name (3)` and so on, within the length limit.
fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut free = name.to_owned();
    let mut number = 1;
    while is_taken(&free) {
        number += 1;
        let end = format!(" ({number})");
        let begin: String = name.chars().take(LONGEST - end.chars().count()).collect();
        free = format!("{begin}{end}");
    }

    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn an_older_files_names_are_rewritten_and_none_is_lost() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE servers (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT,
                 UNIQUE (user_id, name));
             CREATE TABLE blueprints (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT,
                 UNIQUE (user_id, name));
             CREATE TABLE tokens (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT);",
        )
        .unwrap();

        let add = |db: &Connection, id: i64, user: i64, name: &str| {
            db.execute(
                "INSERT INTO servers VALUES (?1, ?2, ?3)",
                params![id, user, name],
            )
            .unwrap();
        };

        for (id, user, name) in [
            (1, 1, "Cafe\u{301}"),
            (2, 1, "Caf\u{e9}"),
            (3, 2, "Cafe\u{301}"),
            (4, 2, "plain"),
        ] {
            add(&db, id, user, name);
        }

        let tx = db.transaction().unwrap();
        convert(&tx).unwrap();

        let names: Vec<String> = rows(&tx, "servers")
            .unwrap()
            .into_iter()
            .map(|(_, _, name)| name)
            .collect();
        assert_eq!(names, ["Caf\u{e9} (2)", "Caf\u{e9}", "Caf\u{e9}", "plain"]);
    }
}
