//! Servers that have moved to another host of the fleet: their rows and files are left here.

use rusqlite::Connection;

use crate::base::names::ServerId;
use crate::base::{Error, Result};
use crate::db::fleet::here;
use crate::domain::operation::Operation;
use crate::domain::server::DesiredState;

/// Keeps a server that has moved away from being started here: it would run twice. Among all servers
/// it is left out.
///
/// Fails with 4 if such a server was named, or if all have moved.
pub(super) fn leave_out(
    tx: &Connection,
    operation: Operation,
    is_all: bool,
    ids: &mut Vec<ServerId>,
) -> Result<()> {
    if operation.desired_state() != Some(DesiredState::Running) {
        return Ok(());
    }
    let moved = here::moved(tx)?;
    if is_all {
        ids.retain(|id| !moved.contains_key(id));
        return match ids.is_empty() {
            false => Ok(()),
            true => Err(Error::conflict("all servers have moved to other hosts")),
        };
    }
    match ids.iter().find_map(|id| moved.get(id).map(|to| (id, to))) {
        None => Ok(()),
        Some((id, to)) => {
            let to = match to.as_str() {
                "" => "another host",
                to => to,
            };
            Err(Error::conflict(format!(
                "server {id} has moved to {to}: start it there"
            )))
        }
    }
}
