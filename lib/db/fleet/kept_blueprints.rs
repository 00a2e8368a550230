//! What servers were placed with from here, for when their host is dead.

use rusqlite::{Connection, params};

use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::db::{first, run, text};
use crate::domain::fleet::blueprint::FleetBlueprint;

/// The blueprint, and when it was kept (unix ms).
pub fn get(connection: &Connection, server: Ulid) -> Result<Option<(FleetBlueprint, i64)>> {
    let sql = "SELECT document, updated_at FROM fleet_blueprints WHERE server = ?1";
    let row = first(connection, sql, params![server], |row| {
        Ok((text(row, 0)?, row.get(1)?))
    })?;
    let parsed = |(document, at): (String, i64)| {
        let blueprint = serde_json::from_str(&document).map_err(|error| {
            Error::failed(format!("the kept blueprint of server {server}: {error}"))
        });
        blueprint.map(|blueprint| (blueprint, at))
    };
    row.map(parsed).transpose()
}

pub fn put(tx: &Connection, server: Ulid, blueprint: &FleetBlueprint, now: i64) -> Result<()> {
    let document = serde_json::to_string(blueprint)
        .map_err(|error| Error::failed(format!("blueprint '{}': {error}", blueprint.name)))?;
    let sql = "INSERT INTO fleet_blueprints (server, document, updated_at) VALUES (?1, ?2, ?3)
               ON CONFLICT (server) DO UPDATE SET document = ?2, updated_at = ?3";
    run(tx, sql, params![server, document, now])
}
