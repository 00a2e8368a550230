//! What people and programs of a controller need to send an order: their fleet, the host, its
//! servers, and how far the order is.

use std::path::Path;

use rusqlite::Connection;

use crate::base::fleet::Fleet;
use crate::base::names::{FleetHost, ServerRef};
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::fleet::orders_out::OrderOut;
use crate::db::fleet::{hosts, orders_to_send, self_row, servers};
use crate::domain::fleet::rules;
use crate::domain::fleet::view::{self, LinkSaid};
use crate::domain::fleet::way::Way;

/// This host's part in its fleet, from the directory of its files.
///
/// Fails with 4 where this host belongs to no fleet; 77 if it may not send orders.
pub fn controller(directory: &Path) -> Result<Fleet> {
    let fleet = member(directory)?;
    if !fleet.controls() {
        return Err(Error::not_permitted(format!(
            "{} may not send orders: it has not the role control, which `left4me fleet admit {} \
             --role control` gives on a controller",
            fleet.host, fleet.host
        )));
    }
    Ok(fleet)
}

/// The same on any host of a fleet.
///
/// Fails with 4 where this host belongs to no fleet.
pub fn member(directory: &Path) -> Result<Fleet> {
    Fleet::read(directory)?.ok_or_else(|| {
        Error::conflict(
            "this host belongs to no fleet: `left4me fleet join` makes it a part of one",
        )
    })
}

/// Checks that the fleet has this host.
///
/// Fails with 3 if it has not; 4 if the host was expelled.
pub fn check_host(connection: &Connection, host: &FleetHost) -> Result<()> {
    match hosts::find(connection, host)?.expelled_at {
        None => Ok(()),
        Some(_) => Err(Error::conflict(format!(
            "{host} was expelled from the fleet: it gets no orders"
        ))),
    }
}

/// The ULIDs of servers of another host, from their numbers there, their names or their ULIDs.
///
/// Fails with 3 for a server that the host has not told of; 2 for a name that two of them have.
pub fn servers(
    connection: &Connection,
    host: &FleetHost,
    asked: &[ServerRef],
) -> Result<Vec<Ulid>> {
    let known = servers::list(connection, Some(host.as_str()))?;
    let one = |asked: &ServerRef| {
        // The host itself says if it has no such server.
        if let ServerRef::Name(name) = asked
            && let Ok(ulid) = name.as_str().parse::<Ulid>()
        {
            return Ok(ulid);
        }
        let is_meant = |server: &&servers::FleetServer| match asked {
            ServerRef::Id(id) => server.server.number == id.0,
            ServerRef::Name(name) => server.server.name == name.as_str(),
        };
        let mut found = known.iter().filter(is_meant);
        match (found.next(), found.next()) {
            (Some(server), None) => Ok(server.server.id),
            (Some(_), Some(_)) => Err(Error::usage(format!(
                "two users on {host} have a server '{asked}': use its number; \
                 `left4me fleet servers --host {host}` lists them"
            ))),
            (None, _) => Err(Error::not_found(format!(
                "{host} has told of no server '{asked}'; `left4me fleet servers --host {host}` \
                 lists those that it has told of"
            ))),
        }
    };
    asked.iter().map(one).collect()
}

/// Where an order is, in words.
pub fn way(connection: &Connection, order: &OrderOut, now: i64) -> Result<String> {
    let own = self_row::get(connection)?.unwrap_or_default();
    let said = LinkSaid {
        at: own.link_at,
        connected_since: own.connected_since,
        disconnected_since: own.disconnected_since,
    };
    let host = hosts::get(connection, &order.to_host)?;
    let open = orders_to_send::get(connection, order.id)?;
    let way = Way {
        state: order.state,
        host: &order.to_host,
        job: order.remote_job,
        detail: &order.detail,
        link: view::link(said, now),
        is_host_there: host.is_some_and(|host| host.state(now).is_known()),
        is_held: open.is_some_and(|open| rules::holds(open.outgoing().withdrawal)),
    };
    Ok(way.message())
}
