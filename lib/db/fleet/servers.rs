//! The servers of other hosts, as each host told them last.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::{Error, Result};
use crate::db::{query, run, text};
use crate::domain::fleet::status::{HostStatus, ServerStatus};

/// A server of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FleetServer {
    pub host: String,
    #[serde(flatten)]
    pub server: ServerStatus,
}

/// All of them, or those of one host, by host and name.
pub fn list(connection: &Connection, of: Option<&str>) -> Result<Vec<FleetServer>> {
    let sql = "SELECT host, document FROM fleet_servers WHERE ?1 IS NULL OR host = ?1
               ORDER BY host, name COLLATE NOCASE, server";
    let rows = query(connection, sql, [of], server)?;
    Ok(rows.into_iter().flatten().collect())
}

fn server(row: &Row<'_>) -> rusqlite::Result<Option<FleetServer>> {
    let (host, document) = (text(row, 0)?, text(row, 1)?);
    let server = serde_json::from_str(&document).ok();
    Ok(server.map(|server| FleetServer { host, server }))
}

/// Makes the servers of a host those of its status.
pub fn replace(tx: &Connection, status: &HostStatus) -> Result<()> {
    let host = status.host.as_str();
    run(tx, "DELETE FROM fleet_servers WHERE host = ?1", [host])?;

    let sql = "INSERT OR REPLACE INTO fleet_servers (host, server, name, document)
               VALUES (?1, ?2, ?3, ?4)";
    for server in &status.servers {
        let document = serde_json::to_string(server)
            .map_err(|error| Error::failed(format!("server {}: {error}", server.id)))?;
        run(tx, sql, params![host, server.id, server.name, document])?;
    }
    Ok(())
}

/// The name of each server that some host has told, by its ULID.
pub fn names(connection: &Connection) -> Result<std::collections::HashMap<String, String>> {
    let sql = "SELECT server, name FROM fleet_servers";
    let rows = query(connection, sql, [], |row| {
        Ok((text(row, 0)?, text(row, 1)?))
    })?;
    Ok(rows.into_iter().collect())
}
