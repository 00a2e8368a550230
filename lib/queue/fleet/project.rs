//! Keeps what other hosts told, for pages and lists. All of it can be thrown away: it comes again
//! from the engine, or from the hosts. Signatures have been verified before.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::db::fleet::{events, hosts, jobs, places, servers};
use crate::domain::fleet::event::FleetEvent;
use crate::domain::fleet::roster::Roster;
use crate::domain::fleet::status::HostStatus;
use crate::domain::fleet::view::job_state;

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
    let kept = hosts::set_status(tx, status, now)?;
    if kept {
        servers::replace(tx, status)?;
    }
    Ok(kept)
}

/// Makes the hosts those of the roster, unless it is an old one. False if it was not accepted.
pub fn roster(tx: &Connection, roster: &Roster) -> Result<bool> {
    if roster.version <= hosts::roster_version(tx)? {
        return Ok(false);
    }

    for host in hosts::all(tx)? {
        let mut members = roster.hosts.iter();
        if !members.any(|member| member.name.as_str() == host.name) {
            hosts::remove(tx, &host.name)?;
        }
    }
    for member in &roster.hosts {
        hosts::put(tx, member)?;
    }
    hosts::set_roster_version(tx, roster.version)?;
    Ok(true)
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
