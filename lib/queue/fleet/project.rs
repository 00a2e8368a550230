//! Keeps what other hosts told, for pages and lists. All of it can be thrown away: it comes again
//! from the engine, or from the hosts. Signatures have been verified before.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::db::fleet::cursors::{self, Stream};
use crate::db::fleet::{events, gaps, hosts, jobs, places, self_row, servers};
use crate::domain::fleet::event::FleetEvent;
use crate::domain::fleet::roster::Roster;
use crate::domain::fleet::status::HostStatus;
use crate::domain::fleet::view::{is_old, job_state};

/// Keeps an event of a host, and what it says about a job. False if it was known: then nothing
/// changes.
pub fn event(tx: &Connection, event: &FleetEvent, now: i64) -> Result<bool> {
    if !events::add(tx, event, now)? {
        return Ok(false);
    }
    let Some(job) = event.job else {
        return Ok(true);
    };

    let before = jobs::get(tx, event.host.as_str(), job.0)?;
    let state = job_state(before.as_ref().map(|job| job.state.as_str()), &event.kind);
    if let Some(state) = state {
        let row = jobs::HostJob {
            host: event.host.to_string(),
            job: job.0,
            operation: event.operation.clone().unwrap_or_default(),
            state: state.to_owned(),
            order: event.order,
            updated_at: event.at,
            detail: event.detail.clone(),
        };
        jobs::put(tx, &row)?;
    }
    Ok(true)
}

/// Keeps a host's status and its servers, unless a newer status is known or the host is not in the
/// roster. False if it was not kept.
pub fn status(tx: &Connection, status: &HostStatus, now: i64) -> Result<bool> {
    // The engine keeps the last status of a host that is gone, and hands it out again.
    let seen = if is_old(status.at, now) {
        status.at
    } else {
        now
    };
    let kept = hosts::set_status(tx, status, seen, now)?;
    if kept {
        servers::replace(tx, status)?;
    }
    Ok(kept)
}

/// Makes the hosts those of the roster, unless it is an old one. False if it was not accepted.
///
/// What a host told before the roster named it was noise: the events are read again from their
/// beginning. left4me-link reads the statuses again after each roster.
pub fn roster(tx: &Connection, roster: &Roster) -> Result<bool> {
    self_row::ensure(tx)?;
    if !self_row::set_roster(tx, roster.version)? {
        return Ok(false);
    }

    for host in hosts::all(tx)? {
        let mut members = roster.hosts.iter();
        if !members.any(|member| member.name.as_str() == host.name) {
            hosts::remove(tx, &host.name)?;
            forget(tx, &host.name)?;
        }
    }
    let mut has_new = false;
    for member in &roster.hosts {
        let known = hosts::get(tx, member.name.as_str())?;
        let is_other = |host: &hosts::Host| host.key != member.key.as_str();
        if known.as_ref().is_some_and(is_other) {
            forget(tx, member.name.as_str())?;
        }
        let is_believed = known.is_some_and(|host| host.expelled_at.is_none() && !is_other(&host));
        has_new |= member.expelled_at.is_none() && !is_believed;
        hosts::put(tx, member)?;
    }
    if has_new {
        cursors::read_again(tx, Stream::Events)?;
    }
    Ok(true)
}

/// Drops what a machine told that has this name no more: the next one counts its events from 1, too.
fn forget(tx: &Connection, host: &str) -> Result<()> {
    events::forget(tx, host)?;
    gaps::forget(tx, host)?;
    jobs::forget(tx, host)
}

/// Keeps where a server belongs, if the epoch is newer than the known one.
pub fn place(
    tx: &Connection,
    server: Ulid,
    host: &FleetHost,
    epoch: u64,
    now: i64,
) -> Result<bool> {
    places::put(tx, server, host.as_str(), epoch, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keys::{OpeningKey, SigningKey};
    use crate::base::names::JobId;
    use crate::db::fleet::events::EventFilter;
    use crate::db::fleet::jobs::JobFilter;
    use crate::db::lists::Part;
    use crate::db::with_servers;
    use crate::domain::fleet::roster::Member;
    use crate::domain::fleet::status::{Queue, ServerStatus};
    use crate::domain::fleet::view::HostState;

    const FIRST: Part = Part {
        limit: 10,
        offset: 0,
    };

    fn name(text: &str) -> FleetHost {
        text.parse().unwrap()
    }

    fn member(host: &str, key: &SigningKey) -> Member {
        Member {
            name: name(host),
            key: key.public(),
            seal_key: OpeningKey::generate().public(),
            labels: [("region".to_owned(), "eu".to_owned())].into(),
            roles: vec!["view".to_owned()],
            admitted_at: 1,
            expelled_at: None,
        }
    }

    fn roster_of(version: i64, hosts: Vec<Member>) -> Roster {
        Roster {
            v: 1,
            version,
            fleet: "home".to_owned(),
            hosts,
        }
    }

    fn status_of(host: &str, at: i64, servers: &[&str]) -> HostStatus {
        let server = |(number, name): (usize, &&str)| ServerStatus {
            id: Ulid::from_parts(5, number as u128),
            number: number as i64 + 1,
            name: (*name).to_owned(),
            owner: "anna".to_owned(),
            port: 27015,
            desired: "running".to_owned(),
            actual: "running".to_owned(),
            players: Some(3),
            max_players: Some(8),
            map: None,
            build: None,
            overlays: Vec::new(),
            moved_to: None,
            epoch: 0,
            drift: false,
        };
        HostStatus {
            v: 1,
            host: name(host),
            at,
            version: "0.3.0".to_owned(),
            speaks: vec![1],
            operations: vec!["start".to_owned()],
            capacity: 10,
            used: 1,
            cordoned: false,
            queue: Queue::default(),
            servers: servers.iter().enumerate().map(server).collect(),
            build: None,
            available: None,
            overlays: Default::default(),
            last_event: 0,
        }
    }

    fn event_of(seq: i64, kind: &str, job: Option<i64>) -> FleetEvent {
        FleetEvent {
            v: 1,
            host: name("ams-1"),
            seq,
            at: 100 + seq,
            kind: kind.to_owned(),
            actor: "anna".to_owned(),
            order: None,
            job: job.map(JobId),
            operation: job.map(|_| "restart".to_owned()),
            server: None,
            detail: String::new(),
        }
    }

    #[test]
    fn an_older_roster_does_not_bring_an_expelled_host_back() {
        let tx = &with_servers(0);
        let key = SigningKey::generate();
        let first = roster_of(1, vec![member("ams-1", &key), member("par-1", &key)]);
        assert!(roster(tx, &first).unwrap());
        let key_of = |host| hosts::key_of(tx, &name(host)).unwrap();
        assert_eq!(key_of("ams-1").as_deref(), Some(key.public().as_str()));

        let expelled = Member {
            expelled_at: Some(9),
            ..member("ams-1", &key)
        };
        assert!(roster(tx, &roster_of(2, vec![expelled])).unwrap());
        assert!(!roster(tx, &first).unwrap(), "it is not accepted again");
        assert_eq!(key_of("ams-1"), None);
        assert!(!status(tx, &status_of("ams-1", 50, &[]), 60).unwrap());
        let left = hosts::all(tx).unwrap();
        assert_eq!(left.len(), 1, "par-1 is gone");
        assert_eq!(left[0].state(60), HostState::Expelled);
    }

    #[test]
    fn a_status_that_comes_late_or_twice_changes_nothing_and_one_of_a_stranger_is_not_kept() {
        let tx = &with_servers(0);
        let key = SigningKey::generate();
        roster(tx, &roster_of(1, vec![member("ams-1", &key)])).unwrap();

        assert!(status(tx, &status_of("ams-1", 50, &["One", "Two"]), 1_000).unwrap());
        assert!(!status(tx, &status_of("ams-1", 50, &[]), 2_000).unwrap());
        assert!(!status(tx, &status_of("ams-1", 49, &[]), 2_000).unwrap());
        assert!(!status(tx, &status_of("evil", 50, &["Three"]), 2_000).unwrap());
        let names = |of| {
            let servers = servers::list(tx, of).unwrap();
            servers
                .into_iter()
                .map(|row| row.server.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["One", "Two"]);

        assert!(status(tx, &status_of("ams-1", 51, &["Two"]), 3_000).unwrap());
        assert_eq!(names(Some("ams-1")), ["Two"]);
        let host = hosts::get(tx, "ams-1").unwrap().unwrap();
        assert_eq!(host.status_received_at, Some(3_000));
        assert_eq!(host.state(3_000), HostState::Up);

        // What the engine had kept for an hour does not make a host look alive.
        assert!(status(tx, &status_of("ams-1", 5_000, &[]), 3_600_000).unwrap());
        let host = hosts::get(tx, "ams-1").unwrap().unwrap();
        assert_eq!(host.status_received_at, Some(5_000));
        assert_eq!(host.state(3_600_000), HostState::Silent);

        // Another machine took the name: it has told nothing.
        let other = member("ams-1", &SigningKey::generate());
        roster(tx, &roster_of(2, vec![other])).unwrap();
        let host = hosts::get(tx, "ams-1").unwrap().unwrap();
        assert_eq!(host.state(3_000), HostState::Never);
    }

    #[test]
    fn a_host_whose_clock_was_ahead_is_heard_after_it_is_set_back() {
        let tx = &with_servers(0);
        let key = SigningKey::generate();
        roster(tx, &roster_of(1, vec![member("ams-1", &key)])).unwrap();
        let put = |at, now| status(tx, &status_of("ams-1", at, &[]), now).unwrap();

        let (year, now) = (365 * 24 * 3_600_000, 3_600_000);
        assert!(put(now + year, now));
        assert!(!put(now + year, now + 1), "the same one again");
        assert!(put(now + 60_000, now + 60_000));
        assert!(!put(now + 59_000, now + 61_000), "a late one");
        let host = hosts::get(tx, "ams-1").unwrap().unwrap();
        assert_eq!(host.status_received_at, Some(now + 60_000));
    }

    #[test]
    fn a_jobs_state_follows_its_events_however_often_and_in_whichever_order_they_come() {
        let told = [
            event_of(1, "job.queued", Some(7)),
            event_of(2, "job.started", Some(7)),
            event_of(3, "job.failed", Some(7)),
            event_of(5, "server.crashed", None),
        ];
        for order in [[0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 0, 1]] {
            let tx = &with_servers(0);
            for index in order {
                assert!(event(tx, &told[index], 900).unwrap());
                assert!(!event(tx, &told[index], 901).unwrap(), "twice");
            }
            let jobs = jobs::newest(tx, JobFilter::default(), FIRST).unwrap();
            assert_eq!((jobs.len(), jobs[0].state.as_str()), (1, "failed"));
            assert_eq!(jobs[0].operation, "restart");
            assert_eq!(events::last_of(tx, "ams-1").unwrap(), 5);

            let filter = EventFilter {
                kind: "server.",
                ..EventFilter::default()
            };
            let found = events::newest(tx, filter, FIRST).unwrap();
            assert_eq!(found.len(), 1);
        }
    }

    #[test]
    fn a_place_only_moves_to_a_newer_epoch() {
        let tx = &with_servers(0);
        let server = Ulid::from_parts(5, 5);
        let put = |host, epoch| place(tx, server, &name(host), epoch, 9).unwrap();
        assert!(put("ams-1", 1));
        assert!(!put("par-1", 1));
        assert!(put("par-1", 2));
        assert!(!put("ams-1", 1));
        let known = places::get(tx, server).unwrap().unwrap();
        assert_eq!((known.host.as_str(), known.epoch), ("par-1", 2));
    }
}
