//! Servers that have moved to another host of the fleet: their rows and files are left here.

use rusqlite::Connection;

use crate::base::names::ServerId;
use crate::base::{Error, Result};
use crate::db::fleet::here;
use crate::domain::operation::Operation;
use crate::domain::server::DesiredState;

/// Leaves servers that have moved away out of all servers: started here, one would run twice.
///
/// Fails with 4 if all have moved.
pub(super) fn leave_out(
    tx: &Connection,
    operation: Operation,
    ids: &mut Vec<ServerId>,
) -> Result<()> {
    if !starts(operation) {
        return Ok(());
    }
    let moved = here::moved(tx)?;
    ids.retain(|id| !moved.contains_key(id));
    match ids.is_empty() {
        false => Ok(()),
        true => Err(Error::conflict("all servers have moved to other hosts")),
    }
}

/// Refuses to start a server here that has moved away: it would run twice.
///
/// Fails with 4 if one of these has.
pub(super) fn refuse(tx: &Connection, operation: Operation, ids: &[ServerId]) -> Result<()> {
    if !starts(operation) {
        return Ok(());
    }
    let moved = here::moved(tx)?;
    let Some((id, to)) = ids.iter().find_map(|id| moved.get(id).map(|to| (id, to))) else {
        return Ok(());
    };
    let to = match to.as_str() {
        "" => "another host",
        to => to,
    };
    Err(Error::conflict(format!(
        "server {id} has moved to {to}: start it there"
    )))
}

/// Whether the operation ends with servers that run.
fn starts(operation: Operation) -> bool {
    operation.desired_state() == Some(DesiredState::Running)
}
