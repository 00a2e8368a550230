//! Counts a server's crashes of the last day since its last deliberate start. A server that crashes
//! now and then looks healthy at each single poll.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::{one, run};
use crate::domain::drift::{Crashes, DAY, RECENT};

/// At most this many crashes between two polls are counted.
const MOST: u32 = 50;

/// Records crashes, and deletes rows that are too old. A clock that was set back leaves rows in the
/// future: their true time is unknown, so they count as of now.
pub fn add(tx: &Connection, server: ServerId, count: u32, now: i64) -> Result<()> {
    let sql = "DELETE FROM server_crashes WHERE server_id = ?1 AND at < ?2";
    run(tx, sql, params![server, now - DAY])?;
    let sql = "UPDATE server_crashes SET at = ?2 WHERE server_id = ?1 AND at > ?2";
    run(tx, sql, params![server, now])?;

    for _ in 0..count.min(MOST) {
        let sql = "INSERT INTO server_crashes (server_id, at) VALUES (?1, ?2)";
        run(tx, sql, params![server, now])?;
    }

    Ok(())
}

/// Deletes the crashes of a server that was started deliberately: the count begins at 0.
pub fn forget(tx: &Connection, server: ServerId) -> Result<()> {
    let sql = "DELETE FROM server_crashes WHERE server_id = ?1";
    run(tx, sql, [server])
}

/// How often it crashed recently.
pub fn count(connection: &Connection, server: ServerId, now: i64) -> Result<Crashes> {
    let sql = "SELECT count(*) FILTER (WHERE at > ?2), count(*), coalesce(max(at) FILTER
               (WHERE at > ?2) - min(at) FILTER (WHERE at > ?2), 0) FROM server_crashes
               WHERE server_id = ?1 AND at > ?3";
    one(
        connection,
        sql,
        params![server, now - RECENT, now - DAY],
        |row| {
            Ok(Crashes {
                recent: row.get(0)?,
                day: row.get(1)?,
                spread: row.get(2)?,
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn crashes_are_counted_though_the_clock_is_set_back_and_once_it_is_right_again() {
        let db = with_servers(1);
        let (server, hour, now) = (ServerId(1), 3_600_000, 1_800_000_000_000);
        for second in [0, 20, 40] {
            add(&db, server, 1, now + second * 1000).unwrap();
        }

        let back = now - hour;
        assert!(
            count(&db, server, back).unwrap().keep_coming(false),
            "the three before"
        );

        add(&db, server, 1, back).unwrap();
        assert_eq!(count(&db, server, back).unwrap().recent, 4);
        assert_eq!(
            count(&db, server, back + DAY + 1).unwrap(),
            Crashes::default()
        );

        // The clock was ten years ahead for a moment.
        add(&db, server, 1, now + 3650 * DAY).unwrap();
        add(&db, server, 1, now).unwrap();
        assert_eq!(
            count(&db, server, now + DAY + 1).unwrap(),
            Crashes::default(),
            "none stays for ten years"
        );
    }
}
