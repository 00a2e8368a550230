//! Events about the fleet that time makes: a host that has been silent for minutes, a connection that
//! does not come back, orders that stay without an answer. Alerts tell of them. The poller calls this.

use crate::base::{Result, clock};
use crate::db::Db;
use crate::db::events::{self, NewEvent, OUTSIDE};
use crate::db::fleet::{overview, self_row, told};
use crate::domain::fleet::view::{tells_away, tells_late, tells_silence};

/// Adds an event for what has begun or ended since the last call. Reads little, and writes only then.
pub fn look(db: &mut Db, now: i64) -> Result<()> {
    let connection = db.connection();
    let Some(own) = self_row::get(connection)? else {
        return Ok(());
    };
    let link = overview::link(&own, now);
    let mut news = Vec::new();

    let (was_away, was_late) = told::own(connection)?;
    let is_away = tells_away(was_away, link, now);
    if is_away != was_away {
        let since = link.away_since().map_or_else(String::new, clock::local);
        news.push(match is_away {
            true => ("fleet.away", format!("since {since}")),
            false => ("fleet.back", String::new()),
        });
    }

    let unsettled = overview::unsettled(connection)?;
    let is_late = tells_late(unsettled.oldest, now);
    if is_late != was_late {
        let waiting = unsettled.kept + unsettled.sent;
        let since = unsettled.oldest.map_or_else(String::new, clock::local);
        news.push(match is_late {
            true => (
                "fleet.orders_late",
                format!("{waiting} without an answer, the oldest since {since}"),
            ),
            false => ("fleet.orders_answered", String::new()),
        });
    }

    let mut changed = Vec::new();
    for host in told::hosts(connection)? {
        let is_silent = tells_silence(host.told_silent, host.at, link, now);
        if is_silent != host.told_silent {
            let since = clock::local(host.at);
            news.push(match is_silent {
                true => ("fleet.host_silent", format!("{} since {since}", host.host)),
                false => ("fleet.host_back", host.host.clone()),
            });
            changed.push((host.host, is_silent));
        }
    }

    if news.is_empty() {
        return Ok(());
    }
    db.write(|tx| {
        told::set_own(tx, is_away, is_late)?;
        for (host, is_silent) in &changed {
            told::set_silent(tx, host, *is_silent)?;
        }
        for (kind, detail) in &news {
            events::add(tx, now, &NewEvent::new(kind, OUTSIDE, detail))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::events;

    const MINUTE: i64 = 60_000;

    #[test]
    fn what_begins_is_told_once_and_its_end_too() {
        let directory = tempfile::tempdir().unwrap();
        let mut db = Db::open(&directory.path().join("left4me.db")).unwrap();
        look(&mut db, 9).unwrap();
        let rows = |db: &Db, sql: &str| db.connection().execute_batch(sql).unwrap();
        rows(
            &db,
            "INSERT INTO fleet_self (only, link_at, connected_since) VALUES (1, 0, 0);
             INSERT INTO fleet_hosts (name, key, seal_key, admitted_at, status_received_at)
             VALUES ('ams-1', '', '', 1, 0)",
        );
        let mut told = |at: i64, change: &str| {
            rows(
                &db,
                &format!("UPDATE fleet_self SET link_at = {at}; {change}"),
            );
            let before = events::last(db.connection(), None, 100).unwrap().len();
            look(&mut db, at).unwrap();
            let mut all = events::last(db.connection(), None, 100).unwrap();
            let new = all.split_off(before).into_iter();
            new.map(|event| event.kind).collect::<Vec<_>>()
        };

        assert!(told(4 * MINUTE, "").is_empty());
        assert_eq!(told(6 * MINUTE, ""), ["fleet.host_silent"]);
        assert!(told(7 * MINUTE, "").is_empty(), "once");
        let heard = "UPDATE fleet_hosts SET status_received_at = 480000";
        assert_eq!(told(8 * MINUTE, heard), ["fleet.host_back"]);

        let away = "UPDATE fleet_self SET connected_since = NULL, disconnected_since = 480000";
        assert!(told(9 * MINUTE, away).is_empty());
        assert_eq!(
            told(14 * MINUTE, ""),
            ["fleet.away"],
            "not that ams-1 is silent"
        );
        let back = "UPDATE fleet_self SET connected_since = 900000, disconnected_since = NULL";
        assert_eq!(told(15 * MINUTE, back), ["fleet.back"]);
        assert!(told(16 * MINUTE, "").is_empty(), "ams-1 gets time to tell");

        let order = "INSERT INTO fleet_orders_out (id, to_host, kind, body, summary, requested_by,
                         created_at, updated_at, not_after)
                     VALUES ('01KBA6T5R8Y3W9M2F4B7C1D001', 'ams-1', 'cordon', x'00', '', '', 0, 0, 9)";
        let heard = "UPDATE fleet_hosts SET status_received_at = 1000000";
        assert_eq!(
            told(17 * MINUTE, &format!("{order}; {heard}")),
            ["fleet.orders_late"]
        );
        let gone = "DELETE FROM fleet_orders_out";
        assert_eq!(told(18 * MINUTE, gone), ["fleet.orders_answered"]);
    }
}
