//! Servers that are to move, as their hosts told them last.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::FleetHost;
use crate::db::fleet::places;
use crate::domain::fleet::drain::{Move, MoveStep};
use crate::domain::fleet::placement::Needs;
use crate::domain::fleet::status::{HostStatus, ServerStatus};

/// Whether a server that this host tells of belongs to another one by now.
pub fn is_elsewhere(
    connection: &Connection,
    host: &FleetHost,
    server: &ServerStatus,
) -> Result<bool> {
    let place = places::get(connection, server.id)?;
    let is_newer = place
        .is_some_and(|place| place.epoch > server.epoch && place.host.as_str() != host.as_str());
    Ok(server.moved_to.is_some() || is_newer)
}

/// The move of a server that is on `host`.
pub fn new_move(
    connection: &Connection,
    host: &FleetHost,
    status: &HostStatus,
    server: &ServerStatus,
    needs: &Needs,
) -> Result<Move> {
    let place = places::get(connection, server.id)?;
    let mut needs = needs.clone();
    for overlay in &server.overlays {
        if let Some(digest) = status.overlays.get(overlay) {
            needs.overlays.insert(overlay.clone(), digest.clone());
        }
    }
    Ok(Move {
        server: server.id,
        name: server.name.clone(),
        owner: server.owner.clone(),
        from: Some(host.clone()),
        start: server.desired == "running",
        needs,
        epoch: place.map_or(0, |place| place.epoch).max(server.epoch),
        to: None,
        unread: 0,
        refused: BTreeMap::new(),
        step: MoveStep::Waiting,
        stuck_since: None,
        why: String::new(),
    })
}
