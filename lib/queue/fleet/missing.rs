//! Events of other hosts that have not come here, although later ones have: the engine lost them, or
//! an older left4me dropped them. A viewer asks their host, which still has them unless it has pruned them.

use super::answer::EventPart;
use super::{project, settle};
use crate::base::Result;
use crate::base::names::FleetHost;
use crate::db::Db;
use crate::db::fleet::gaps;
use crate::domain::fleet::view::{Seen, host_state};
use crate::wire::gate::Missing;

/// An event may come after later ones: for this time, in ms, it is not missed.
const LATE: i64 = 60_000;

/// A host that has not answered is asked again after this time, in ms.
const AGAIN: i64 = 300_000;

/// The events to ask for now: of one host, which is there.
pub fn missing(db: &mut Db, here: &FleetHost, now: i64) -> Result<Option<Missing>> {
    let (mut whole, mut missing) = (Vec::new(), None::<Missing>);
    for host in gaps::hosts(db.connection(), here.as_str())? {
        let numbers = gaps::numbers(db.connection(), &host.name, host.whole)?;
        let Some((last, next)) = before_gap(&numbers) else {
            continue;
        };
        if last > host.whole {
            whole.push((host.name.clone(), last));
        }

        let seen = Seen {
            status_received_at: host.seen_at,
            ..Seen::default()
        };
        let is_within = |at: i64, time: i64| (at..at.saturating_add(time)).contains(&now);
        let is_due = next.is_some_and(|came_at| !is_within(came_at, LATE))
            && !is_within(host.asked_at, AGAIN)
            && host_state(seen, now).is_known();
        if is_due && missing.is_none() {
            let host = host.name.parse()?;
            missing = Some(Missing { host, after: last });
        }
    }
    if whole.is_empty() && missing.is_none() {
        return Ok(None);
    }

    db.write(|tx| {
        for (host, last) in &whole {
            gaps::set_whole(tx, host, *last)?;
        }
        if let Some(missing) = &missing {
            gaps::set_asked(tx, missing.host.as_str(), now)?;
        }
        Ok(())
    })?;
    Ok(missing)
}

/// The last event before the first gap, and when the one after the gap came. None without events.
fn before_gap(numbers: &[(i64, i64)]) -> Option<(i64, Option<i64>)> {
    let mut last = numbers.first()?.0;
    for (seq, came_at) in &numbers[1..] {
        if *seq != last + 1 {
            return Some((last, Some(*came_at)));
        }
        last = *seq;
    }
    Some((last, None))
}

/// Takes in what a host has answered: its events after `after`. What it does not have any more is not
/// asked for again.
pub fn take_in(
    db: &mut Db,
    host: &FleetHost,
    after: i64,
    part: &EventPart,
    now: i64,
) -> Result<()> {
    db.write(|tx| {
        for event in part.events.iter().filter(|event| event.host == *host) {
            settle::event(tx, event, now)?;
            project::event(tx, event, now)?;
        }

        let name = host.as_str();
        if let Some(next) =
            gaps::next(tx, name, after)?.filter(|next| *next > after.saturating_add(1))
        {
            let gone = next.saturating_sub(after).saturating_sub(1);
            tracing::info!("{host} has {gone} events after number {after} no more");
            gaps::set_whole(tx, name, next)?;
        }
        // There may be more, which can be asked for at once.
        gaps::set_asked(tx, name, 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gap_is_found_and_what_never_came_before_is_none() {
        assert_eq!(before_gap(&[]), None);
        assert_eq!(before_gap(&[(7, 1)]), Some((7, None)));
        assert_eq!(before_gap(&[(7, 1), (8, 1)]), Some((8, None)));
        assert_eq!(before_gap(&[(7, 1), (9, 5), (12, 6)]), Some((7, Some(5))));
    }
}
