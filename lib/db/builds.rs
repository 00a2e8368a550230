//! The build of the game that Steam publishes, as the last check or installation found it.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{changes, first, query, run, text};
use crate::domain::build::Builds;

/// The published build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    pub build: u64,
    /// When Steam published it, unix ms, if Steam says so.
    pub published_at: Option<i64>,
    /// When left4me first found it, unix ms.
    pub known_since: i64,
    /// When Steam was last asked, unix ms.
    pub checked_at: i64,
}

impl Available {
    /// Whether it is another build than the installed one. One with a lower number is new too: Valve
    /// has taken a build back. An installation records what it took, so the other way round does not
    /// happen.
    pub fn is_new(&self, installed: u64) -> bool {
        self.build != installed
    }
}

/// What the last check or installation found; none if there was none.
pub fn available(connection: &Connection) -> Result<Option<Available>> {
    let sql = "SELECT build, published_at, known_since, checked_at FROM available_build";
    first(connection, sql, [], |row| {
        Ok(Available {
            build: row.get::<_, i64>(0)?.unsigned_abs(),
            published_at: row.get(1)?,
            known_since: row.get(2)?,
            checked_at: row.get(3)?,
        })
    })
}

/// Records what a check or an installation found. True once for each build that is not the installed
/// one: an event is due.
pub fn record(tx: &Connection, found: &Builds, now: i64) -> Result<bool> {
    // It was read as a number that fits.
    let build = found.available.cast_signed();
    let sql = "INSERT INTO available_build (id, build, published_at, known_since, checked_at)
               VALUES (1, ?1, ?2, ?3, ?3) ON CONFLICT (id) DO UPDATE SET
               known_since = CASE build WHEN ?1 THEN known_since ELSE ?3 END,
               published_at = CASE build WHEN ?1 THEN coalesce(?2, published_at) ELSE ?2 END,
               build = ?1, checked_at = ?3";
    run(tx, sql, params![build, found.published_at, now])?;

    if found.installed.is_none() || found.is_current() {
        return Ok(false);
    }
    let sql = "UPDATE available_build SET announced = build WHERE announced IS NOT build";
    changes(tx, sql, [])
}

/// A build that updates leave alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub build: u64,
    /// Unix ms.
    pub at: i64,
    /// Who went back from it.
    pub actor: String,
    pub why: String,
}

/// The builds that updates leave alone, the newest first.
pub fn rejected(connection: &Connection) -> Result<Vec<Rejected>> {
    let sql = "SELECT build, at, actor, why FROM rejected_builds ORDER BY build DESC";
    query(connection, sql, [], |row| {
        Ok(Rejected {
            build: row.get::<_, i64>(0)?.unsigned_abs(),
            at: row.get(1)?,
            actor: text(row, 2)?,
            why: text(row, 3)?,
        })
    })
}

/// Why updates leave a build alone, if they do.
pub fn rejection(connection: &Connection, build: u64) -> Result<Option<Rejected>> {
    let mut all = rejected(connection)?.into_iter();
    Ok(all.find(|one| one.build == build))
}

/// Makes updates leave a build alone; the first reason stays.
pub fn reject(tx: &Connection, build: u64, actor: &str, why: &str, now: i64) -> Result<()> {
    let sql = "INSERT INTO rejected_builds (build, at, actor, why) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO NOTHING";
    run(tx, sql, params![build.cast_signed(), now, actor, why])
}

/// Lets updates take a build again.
pub fn accept(tx: &Connection, build: u64) -> Result<()> {
    let sql = "DELETE FROM rejected_builds WHERE build = ?1";
    run(tx, sql, [build.cast_signed()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn a_build_is_new_once_and_known_since_then() {
        let db = with_servers(1);
        assert_eq!(available(&db).unwrap(), None);
        let found = |available, installed| Builds {
            available,
            published_at: Some(7),
            installed,
            ..Builds::default()
        };

        for (available, installed, now, is_news) in [
            (5, None, 10, false),
            (5, Some(5), 20, false),
            (6, Some(5), 30, true),
            (6, Some(5), 40, false),
            (6, Some(6), 50, false),
            (7, Some(6), 60, true),
        ] {
            let found = found(available, installed);
            assert_eq!(record(&db, &found, now).unwrap(), is_news, "{found:?}");
        }

        let known = available(&db).unwrap().unwrap();
        let is_new = [6, 7, 8].map(|installed| known.is_new(installed));
        assert_eq!(is_new, [true, false, true], "build 7 is known");

        record(&db, &found(7, Some(6)), 70).unwrap();
        let expected = Available {
            build: 7,
            published_at: Some(7),
            known_since: 60,
            checked_at: 70,
        };
        assert_eq!(available(&db).unwrap(), Some(expected));
    }

    #[test]
    fn an_installation_is_no_news_and_a_build_that_was_taken_back_is() {
        let db = with_servers(1);
        let found = |available, installed| Builds {
            available,
            published_at: Some(7),
            installed: Some(installed),
            ..Builds::default()
        };
        record(&db, &found(5, 5), 10).unwrap();

        // Build 6 came and was installed without a check.
        assert!(!record(&db, &Builds::installed(6), 20).unwrap());
        let known = available(&db).unwrap().unwrap();
        assert_eq!((known.build, known.published_at), (6, None));
        assert!(!known.is_new(6));

        // The check after it adds when that was, and the next installation keeps it.
        record(&db, &found(6, 6), 30).unwrap();
        record(&db, &Builds::installed(6), 40).unwrap();
        let known = available(&db).unwrap().unwrap();
        assert_eq!((known.published_at, known.known_since), (Some(7), 20));

        assert!(record(&db, &found(5, 6), 50).unwrap(), "it was taken back");
        assert!(available(&db).unwrap().unwrap().is_new(6));
    }
}
