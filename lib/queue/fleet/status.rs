//! This host, as others see it: its status document.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::base::config::PortRange;
use crate::base::names::FleetHost;
use crate::base::{Error, Result, builds};
use crate::db::fleet::{events_out, places, self_row, ulids};
use crate::db::servers::Server;
use crate::db::{Db, builds as published, jobs, queue, servers};
use crate::domain::fleet::status::{HostStatus, Queue, ServerStatus};
use crate::domain::fleet::{LONGEST, VERSION};
use crate::domain::operation::Operation;

/// The host whose status it is.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    pub name: &'a FleetHost,
    /// How many servers it takes; None for as many as there are ports.
    pub capacity: Option<u32>,
    pub ports: PortRange,
    /// left4me's data directory.
    pub root: &'a Path,
}

/// The status of this host, and each overlay's digest as `overlays` has it.
pub fn status(
    db: &mut Db,
    host: &Host<'_>,
    overlays: BTreeMap<String, String>,
    now: i64,
) -> Result<HostStatus> {
    let ports = u32::from(host.ports.last - host.ports.first) + 1;
    // Without a link, or with one that leads nowhere, the installation itself is used.
    let build = builds::current(host.root).ok().flatten();

    db.read(|tx| {
        let rows = servers::all(tx)?;
        let epochs: HashMap<_, _> = places::all(tx)?
            .into_iter()
            .map(|place| (place.server, place.epoch))
            .collect();
        let (queued, running) = jobs::counts(tx)?;
        let own = self_row::get(tx)?.unwrap_or_default();
        let available = published::available(tx)?.map(|available| available.build);

        Ok(HostStatus {
            v: VERSION,
            host: host.name.clone(),
            at: now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            speaks: vec![VERSION],
            operations: Operation::ALL.map(|one| one.as_str().to_owned()).to_vec(),
            capacity: host.capacity.unwrap_or(ports),
            used: count(rows.len()),
            cordoned: own.cordoned,
            queue: Queue {
                queued: count(queued),
                running: count(running),
                paused: queue::pause(tx)?.is_some(),
            },
            servers: rows
                .iter()
                .filter_map(|row| server(row, |ulid| epochs.get(&ulid).copied()))
                .collect(),
            build,
            available: available.filter(|&available| Some(available) != build),
            overlays,
            last_event: events_out::newest(tx)?,
        })
    })
}

fn count(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// A server in the status. None for one that has no name in the fleet: see [`name_servers`].
fn server(
    row: &Server,
    epoch: impl Fn(crate::base::ulid::Ulid) -> Option<u64>,
) -> Option<ServerStatus> {
    let id = row.ulid?;
    Some(ServerStatus {
        id,
        number: row.id.0,
        name: row.name.clone(),
        owner: row.user.clone(),
        port: row.port,
        desired: row.desired_state.to_string(),
        actual: row.actual_state.to_string(),
        players: row.players,
        max_players: row.max_players,
        map: row.map.clone(),
        build: row.build,
        epoch: epoch(id).unwrap_or(0),
        drift: row.drift.is_some(),
    })
}

/// Names servers whose rows were written by hand.
pub fn name_servers(db: &mut Db) -> Result<()> {
    db.write(|tx| ulids::fill(tx)).map(drop)
}

/// The document's text. One that would be too long for the engine leaves out what is played.
pub fn text(status: &HostStatus) -> Result<String> {
    let text = |status: &HostStatus| {
        serde_json::to_string(status)
            .map_err(|error| Error::failed(format!("the status document: {error}")))
    };
    let whole = text(status)?;
    if whole.len() <= LONGEST {
        return Ok(whole);
    }

    let mut shorter = status.clone();
    for server in &mut shorter.servers {
        (server.map, server.max_players, server.build) = (None, None, None);
    }
    text(&shorter)
}
