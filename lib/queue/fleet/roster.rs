//! The roster, as a controller signs it.

use rusqlite::Connection;

use crate::base::Result;
use crate::db::fleet::hosts;
use crate::domain::fleet::VERSION;
use crate::domain::fleet::roster::{Member, Roster};

/// The roster of the tables; None before a host was admitted.
pub fn roster(connection: &Connection, fleet: &str) -> Result<Option<Roster>> {
    let version = hosts::roster_version(connection)?;
    if version == 0 {
        return Ok(None);
    }

    let member = |host: hosts::Host| {
        Ok(Member {
            name: host.name.parse()?,
            key: host.key.parse()?,
            seal_key: host.seal_key.parse()?,
            labels: host.labels,
            roles: host.roles,
            admitted_at: host.admitted_at,
            expelled_at: host.expelled_at,
        })
    };
    let hosts = hosts::all(connection)?.into_iter().map(member);
    Ok(Some(Roster {
        v: VERSION,
        version,
        fleet: fleet.to_owned(),
        hosts: hosts.collect::<Result<_>>()?,
    }))
}
