//! Samples of memory, CPU, restarts and players of each server at each poll. All polls of a day are
//! kept, and one per ten minutes for 30 days. Older samples are deleted when a server's next ten
//! minutes begin, so the file does not grow without limit. Each deletion is small, so a clock that
//! is years ahead for an hour does not delete the history.

use rusqlite::{Connection, ToSql, params};
use serde::Serialize;

use crate::base::names::ServerId;
use crate::base::{Result, clock};
use crate::db::{changes, exists, one, query, run};

/// How long every poll is kept, ms.
pub const DAY: i64 = 24 * 3600 * 1000;
/// How long one poll of every [`COARSE`] is kept, ms.
pub const MONTH: i64 = 30 * DAY;
/// Ten minutes, ms.
pub const COARSE: i64 = 600 * 1000;

/// A server's resource use at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Unix ms.
    pub at: i64,
    /// Memory of all its processes; none without systemd's accounting.
    pub memory_bytes: Option<i64>,
    /// CPU time of all its processes since the unit's start; none without systemd's accounting.
    pub cpu_ns: Option<i64>,
    pub restarts: u32,
    /// How many people played; none when the game did not answer. Of ten minutes, the most.
    pub players: Option<u32>,
    /// The game's response time, ms; none when it did not answer.
    pub response_ms: Option<u32>,
}

/// Whether the server's game has answered since `since` (unix ms).
pub fn answered_since(connection: &Connection, server: ServerId, since: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM samples_10min
               WHERE server_id = ?1 AND at >= ?2 AND response_ms IS NOT NULL LIMIT 1";
    exists(connection, sql, params![server, since])
}

/// How many rows are deleted at once, in addition to as many as were added in the ten minutes
/// before.
const PORTION: i64 = 20;

/// Adds a sample. The first sample of each ten minutes also deletes some that are too old, and some
/// that a wrong clock left more than a day ahead. Samples less far ahead stay: a clock that is set
/// back by an hour deletes nothing.
pub fn add(tx: &Connection, server: ServerId, sample: &Sample) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO samples (server_id, at, memory_bytes, cpu_ns, restarts,
               players, response_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    run(tx, sql, values(&server, &sample.at, sample))?;

    // The time is the start of the ten minutes, so the first sample stays and the later ones
    // conflict with it. Only the number of players is that of the sample with the most.
    let begin = sample.at - sample.at.rem_euclid(COARSE);
    let sql = "INSERT OR IGNORE INTO samples_10min (server_id, at, memory_bytes, cpu_ns, restarts,
               players, response_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    if changes(tx, sql, values(&server, &begin, sample))? {
        drop_old(tx, server, sample.at)?;
    } else if let Some(players) = sample.players {
        let sql = "UPDATE samples_10min SET players = ?3
                   WHERE server_id = ?1 AND at = ?2 AND coalesce(players, -1) < ?3";
        run(tx, sql, params![server, begin, players])?;
    }

    Ok(())
}

/// The values of a row.
fn values<'a>(server: &'a ServerId, at: &'a i64, sample: &'a Sample) -> [&'a dyn ToSql; 7] {
    [
        server,
        at,
        &sample.memory_bytes,
        &sample.cpu_ns,
        &sample.restarts,
        &sample.players,
        &sample.response_ms,
    ]
}

fn drop_old(tx: &Connection, server: ServerId, now: i64) -> Result<()> {
    for (table, age) in [("samples", DAY), ("samples_10min", MONTH)] {
        let sql = format!(
            "DELETE FROM {table} WHERE server_id = ?1 AND at IN (SELECT at FROM {table}
             WHERE server_id = ?1 AND (at < ?2 OR at > ?3)
             ORDER BY at LIMIT ?4 + 2 * (SELECT count(*) FROM {table}
             WHERE server_id = ?1 AND at > ?5 AND at <= ?6))"
        );
        run(
            tx,
            &sql,
            params![server, now - age, now + DAY, PORTION, now - COARSE, now],
        )?;
    }

    Ok(())
}

/// Deletes some of the old samples of a server that does not run, because it gets no new ones.
pub fn prune_idle(tx: &Connection, server: ServerId, now: i64) -> Result<()> {
    drop_old(tx, server, now)
}

/// A server's samples after `since`, oldest first: all polls when `since` is within the last day,
/// otherwise one per ten minutes.
pub fn since(
    connection: &Connection,
    server: ServerId,
    since: i64,
    now: i64,
) -> Result<Vec<Sample>> {
    let table = if since >= now - DAY {
        "samples"
    } else {
        "samples_10min"
    };

    let sql = format!(
        "SELECT at, memory_bytes, cpu_ns, restarts, players, response_ms FROM {table}
         WHERE server_id = ?1 AND at > ?2 AND at <= ?3 ORDER BY at"
    );
    query(connection, &sql, params![server, since, now], |row| {
        Ok(Sample {
            at: row.get(0)?,
            memory_bytes: row.get(1)?,
            cpu_ns: row.get(2)?,
            restarts: row.get(3)?,
            players: row.get(4)?,
            response_ms: row.get(5)?,
        })
    })
}

/// How many people played at once at most within this time, to ten minutes; none if no game
/// answered. `until` is excluded.
pub fn peak(
    connection: &Connection,
    server: ServerId,
    since: i64,
    until: i64,
) -> Result<Option<u32>> {
    let sql = "SELECT max(players) FROM samples_10min
               WHERE server_id = ?1 AND at >= ?2 AND at < ?3";
    one(connection, sql, params![server, since, until], |row| {
        row.get(0)
    })
}

/// The same for the day before that of `now`, in the host's time zone.
pub fn peak_yesterday(connection: &Connection, server: ServerId, now: i64) -> Result<Option<u32>> {
    match clock::day_before(now) {
        Some((begin, end)) => peak(connection, server, begin, end),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn a_month_of_polls_leaves_a_day_at_full_and_thirty_days_at_ten_minutes() {
        let db = with_servers(1);
        let server = ServerId(1);
        let sample = |at| Sample {
            at,
            memory_bytes: Some(1 << 30),
            cpu_ns: Some(at),
            players: Some(8),
            response_ms: Some(12),
            ..Sample::default()
        };

        let count = |table: &str| -> i64 {
            db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .unwrap()
        };

        let start = 1_800_000_000_000;

        let mut now = start;
        // A step of 300 s instead of 30 s keeps this test short.
        while now < start + 40 * DAY {
            now += 300_000;
            add(&db, server, &sample(now)).unwrap();
        }

        assert!(
            (288..=291).contains(&count("samples")),
            "{} of a day",
            count("samples")
        );

        assert!(
            (4320..=4322).contains(&count("samples_10min")),
            "{} of 30 days",
            count("samples_10min")
        );

        let day = super::since(&db, server, now - DAY / 2, now).unwrap();
        assert_eq!(
            (day.len(), day.last().map(|sample| sample.at)),
            (144, Some(now))
        );

        assert_eq!(
            super::since(&db, server, now - 10 * DAY, now)
                .unwrap()
                .len(),
            1440
        );

        // The clock is ten years ahead for an hour, then correct again.
        let before = (count("samples"), count("samples_10min"));
        for minutes in (0..60).step_by(5) {
            add(&db, server, &sample(now + 3650 * DAY + minutes * 60_000)).unwrap();
        }

        assert!(count("samples") > before.0 - 150 && count("samples_10min") > before.1 - 150);
        add(&db, server, &sample(now + COARSE)).unwrap();
        assert!(
            super::since(&db, server, now - MONTH, now + COARSE)
                .unwrap()
                .len()
                > 4100,
            "the history is there"
        );

        assert_eq!(
            super::since(&db, server, now, now + COARSE).unwrap().len(),
            1,
            "and nothing from the future"
        );

        // An hour back deletes nothing. 60 days back deletes what lies ahead.
        let before = count("samples");

        add(&db, server, &sample(now - 3_600_000)).unwrap();
        assert!(count("samples") >= before, "{before}");
        for step in 0..400 {
            add(&db, server, &sample(now - 60 * DAY + step * COARSE)).unwrap();
        }

        let ahead = "SELECT count(*) FROM samples_10min WHERE at > (SELECT min(at)
                     FROM samples_10min) + 4 * 86400000";
        assert_eq!(
            db.query_row(ahead, [], |row| row.get::<_, i64>(0)).unwrap(),
            0
        );

        for _ in 0..50 {
            prune_idle(&db, server, now + 31 * DAY).unwrap();
        }

        assert_eq!((count("samples"), count("samples_10min")), (0, 0));
    }

    #[test]
    fn the_peak_of_a_day_is_that_of_any_poll_although_ten_minutes_keep_one() {
        let db = with_servers(1);
        let server = ServerId(1);
        let day = 1_800_000_000_000 / DAY * DAY;
        for (minute, players) in [
            (1, Some(3)),
            (2, Some(7)),
            (3, Some(0)),
            (4, None),
            (15, None),
            (16, Some(2)),
        ] {
            let sample = Sample {
                at: day + minute * 60_000,
                memory_bytes: Some(minute),
                players,
                ..Sample::default()
            };
            add(&db, server, &sample).unwrap();
        }

        let peak = |since, until| peak(&db, server, since, until).unwrap();
        assert_eq!(peak(day, day + DAY), Some(7));
        assert_eq!(peak(day + COARSE, day + DAY), Some(2));
        assert_eq!(peak(day - DAY, day), None, "nothing is known of it");

        let coarse = super::since(&db, server, day - 2 * DAY, day + DAY).unwrap();
        let first = coarse.first().unwrap();
        assert_eq!((first.memory_bytes, first.players), (Some(1), Some(7)));
    }
}
