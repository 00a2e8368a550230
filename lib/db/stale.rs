//! The stale files of servers, as the last search found them: the search runs after a start on other
//! game files, and a reset or a deletion leaves none.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::{first, query, run, text};
use crate::domain::stale::{self, MOST_NAMED, Stale, StaleFile};

/// The stale files of a server, as `--json` and the API show them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FoundStale {
    /// When they were searched for, unix ms; null before the first search.
    pub found_at: Option<i64>,
    /// How many there are.
    pub count: u64,
    /// What all of them take, in bytes.
    pub size: u64,
    /// Whether the search saw everything. Otherwise there may be more.
    pub is_whole: bool,
    /// The first 100.
    pub files: Vec<StaleFile>,
}

impl FoundStale {
    /// How many are not named.
    pub fn more(&self) -> u64 {
        self.count.saturating_sub(self.files.len() as u64)
    }

    /// `3 files`, `1 file`, `at least 12 files`.
    pub fn amount(&self) -> String {
        stale::amount(self.count, self.is_whole)
    }
}

/// Records what a search found, in place of what the one before found. Nothing for a server whose
/// row is gone.
pub fn record(tx: &Connection, server: ServerId, stale: &Stale, now: i64) -> Result<()> {
    run(tx, "DELETE FROM stale_files WHERE server_id = ?1", [server])?;
    let sql = "INSERT INTO stale_searches (server_id, found_at, count, size, is_whole)
               SELECT id, ?2, ?3, ?4, ?5 FROM servers WHERE id = ?1
               ON CONFLICT (server_id) DO UPDATE SET found_at = ?2, count = ?3, size = ?4,
               is_whole = ?5";
    let (count, size) = (stale.count.cast_signed(), stale.size.cast_signed());
    run(tx, sql, params![server, now, count, size, stale.is_whole])?;

    for (position, file) in (0_i64..).zip(stale.files.iter().take(MOST_NAMED)) {
        let sql = "INSERT INTO stale_files (server_id, position, path, size)
                   SELECT server_id, ?2, ?3, ?4 FROM stale_searches WHERE server_id = ?1";
        let size = file.size.cast_signed();
        run(tx, sql, params![server, position, file.path, size])?;
    }
    // Pages that show the server are drawn again.
    let sql = "UPDATE servers SET version = version + 1 WHERE id = ?1";
    run(tx, sql, [server])
}

/// The stale files of a server.
pub fn of_server(connection: &Connection, server: ServerId) -> Result<FoundStale> {
    let sql = "SELECT found_at, count, size, is_whole FROM stale_searches WHERE server_id = ?1";
    let Some(found) = first(connection, sql, [server], |row| read(row, 0))? else {
        return Ok(FoundStale {
            is_whole: true,
            ..FoundStale::default()
        });
    };
    let sql = "SELECT path, size FROM stale_files WHERE server_id = ?1 ORDER BY position";
    let files = query(connection, sql, [server], |row| {
        Ok(StaleFile {
            path: text(row, 0)?,
            size: row.get::<_, i64>(1)?.unsigned_abs(),
        })
    })?;
    Ok(FoundStale { files, ..found })
}

/// Every server with stale files, without their names.
pub fn all(connection: &Connection) -> Result<BTreeMap<ServerId, FoundStale>> {
    let sql = "SELECT server_id, found_at, count, size, is_whole FROM stale_searches
               WHERE count > 0";
    let found = query(connection, sql, [], |row| Ok((row.get(0)?, read(row, 1)?)))?;
    Ok(found.into_iter().collect())
}

/// A row of stale_searches from column `at` on.
fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<FoundStale> {
    Ok(FoundStale {
        found_at: row.get(at)?,
        count: row.get::<_, i64>(at + 1)?.unsigned_abs(),
        size: row.get::<_, i64>(at + 2)?.unsigned_abs(),
        is_whole: row.get(at + 3)?,
        files: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn the_last_search_counts_and_its_list_is_bounded() {
        let db = with_servers(2);
        let server = ServerId(1);
        let none = of_server(&db, server).unwrap();
        assert_eq!((none.found_at, none.count, none.is_whole), (None, 0, true));

        let files: Vec<_> = (0..MOST_NAMED as u64 + 5)
            .map(|size| StaleFile {
                path: format!("f{size:03}"),
                size,
            })
            .collect();
        let stale = Stale {
            count: 300,
            size: 9000,
            files,
            is_whole: false,
        };
        record(&db, server, &stale, 5).unwrap();
        let found = of_server(&db, server).unwrap();
        assert_eq!((found.files.len(), found.more()), (MOST_NAMED, 200));
        assert_eq!(found.amount(), "at least 300 files");
        assert_eq!(found.files[7].path, "f007");
        assert_eq!(all(&db).unwrap()[&server].count, 300);

        record(&db, server, &Stale::default(), 6).unwrap();
        let found = of_server(&db, server).unwrap();
        assert_eq!((found.found_at, found.count), (Some(6), 0));
        assert!(found.files.is_empty() && found.is_whole);
        assert!(all(&db).unwrap().is_empty());

        record(&db, server, &stale, 7).unwrap();
        crate::db::run(&db, "DELETE FROM servers WHERE id = 1", []).unwrap();
        record(&db, server, &stale, 8).unwrap();
        assert_eq!(of_server(&db, server).unwrap(), none, "the server is gone");
    }
}
