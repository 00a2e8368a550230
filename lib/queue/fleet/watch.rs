//! Events about the fleet that time makes: a host that has been silent for minutes, a connection that
//! does not come back, orders that nobody answers. Alerts tell of them. The poller calls this.

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
