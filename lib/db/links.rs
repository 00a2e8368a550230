//! Which servers are linked to which blueprint, with their names.

use rusqlite::{Connection, Row};

use crate::base::Result;
use crate::base::names::{BlueprintId, ServerId};
use crate::db::{query, text};

/// A server that is linked to a blueprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    pub blueprint: BlueprintId,
    pub id: ServerId,
    pub name: String,
    pub port: u16,
}

fn linked(row: &Row<'_>) -> rusqlite::Result<Linked> {
    Ok(Linked {
        blueprint: row.get(0)?,
        id: row.get(1)?,
        name: text(row, 2)?,
        port: row.get(3)?,
    })
}

/// The servers of one blueprint, ordered by id.
pub fn of_blueprint(connection: &Connection, id: BlueprintId) -> Result<Vec<Linked>> {
    let sql =
        "SELECT blueprint_id, id, name, port FROM servers WHERE blueprint_id = ?1 ORDER BY id";
    query(connection, sql, [id], linked)
}

/// All servers with their blueprints, ordered by id.
pub fn all(connection: &Connection) -> Result<Vec<Linked>> {
    let sql = "SELECT blueprint_id, id, name, port FROM servers ORDER BY id";
    query(connection, sql, [], linked)
}
