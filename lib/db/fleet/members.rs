//! The hosts of the fleet, as far as it matters whom to believe.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::keys::PublicKey;
use crate::base::names::FleetHost;
use crate::db::{first, query, text};

/// A host that belongs to the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub key: String,
    pub roles: String,
    /// When its newest status came, by this host's clock, unix ms.
    pub heard_at: Option<i64>,
}

impl Member {
    /// Whether this is the key with which it signs.
    pub fn signs_with(&self, key: &PublicKey) -> bool {
        self.key == key.as_str()
    }

    /// Whether it may be told about other hosts.
    pub fn views(&self) -> bool {
        let mut roles = self.roles.split([',', ' ']);
        roles.any(|role| matches!(role, "view" | "control"))
    }
}

/// The host of this name. None if it does not belong to the fleet, or no longer does.
pub fn get(connection: &Connection, name: &FleetHost) -> Result<Option<Member>> {
    let sql = "SELECT key, roles, status_received_at FROM fleet_hosts
               WHERE name = ?1 AND expelled_at IS NULL";
    first(connection, sql, [name.as_str()], |row| {
        Ok(Member {
            key: text(row, 0)?,
            roles: text(row, 1)?,
            heard_at: row.get(2)?,
        })
    })
}

/// When the newest status of each host came, by this host's clock, unix ms.
pub fn heard(connection: &Connection) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT name, status_received_at FROM fleet_hosts
               WHERE status_received_at IS NOT NULL AND expelled_at IS NULL";
    query(connection, sql, [], |row| Ok((text(row, 0)?, row.get(1)?)))
}
