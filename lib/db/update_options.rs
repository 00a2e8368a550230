//! The options of an update or rollback, which a column of its job holds as JSON.

use rusqlite::Connection;

use crate::base::names::JobId;
use crate::base::{Error, Result};
use crate::db::first;
use crate::domain::update::UpdateOptions;

/// What was asked of an update or rollback.
pub fn of(connection: &Connection, job: JobId) -> Result<UpdateOptions> {
    let sql = "SELECT options FROM jobs WHERE id = ?1";
    let text: Option<Option<String>> = first(connection, sql, [job], |row| row.get(0))?;
    Ok(text.flatten().map_or_else(UpdateOptions::default, parse))
}

/// Options that a newer version knows are left out.
pub(super) fn parse(text: String) -> UpdateOptions {
    serde_json::from_str(&text).unwrap_or_default()
}

pub(super) fn json(options: &UpdateOptions) -> Result<String> {
    serde_json::to_string(options).map_err(|error| Error::failed(error.to_string()))
}
