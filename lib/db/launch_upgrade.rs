//! Hook of the sixth migration: converts launch arguments that are no longer accepted, where that
//! is safe. The others stay; the doctor and the pages name them, and starting such a server fails
//! with the reason.

use rusqlite::{Transaction, params};
use rusqlite_migration::HookResult;

use crate::base::clock;
use crate::domain::launch_upgrade::{self, Converted};

/// Converts the file's blueprints. The code uses the tables of this step only, and nothing that
/// depends on a later schema.
pub(super) fn convert(tx: &Transaction<'_>) -> HookResult {
    let now = clock::now_ms();
    for (id, name, arguments, config) in rows(tx)? {
        // A row that was damaged by hand stays unchanged; the doctor names it.
        let parsed = serde_json::from_str(&arguments).and_then(|arguments: Vec<String>| {
            Ok((arguments, serde_json::from_str::<Vec<String>>(&config)?))
        });
        let Ok((arguments, config)) = parsed else {
            continue;
        };
        if let Some(converted) = launch_upgrade::convert(&arguments, &config) {
            write(tx, now, id, &name, &converted)?;
        }
    }

    Ok(())
}

fn rows(tx: &Transaction<'_>) -> rusqlite::Result<Vec<(i64, String, String, String)>> {
    let mut statement =
        tx.prepare("SELECT id, name, arguments, config FROM blueprints ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    rows.collect()
}

fn write(tx: &Transaction<'_>, now: i64, id: i64, name: &str, converted: &Converted) -> HookResult {
    let json = |texts: &[String]| serde_json::Value::from(texts).to_string();
    tx.execute(
        "UPDATE blueprints SET arguments = ?2, config = ?3, updated_at = max(?4, updated_at + 1)
         WHERE id = ?1",
        params![id, json(&converted.arguments), json(&converted.config), now],
    )?;

    tx.execute(
        "INSERT INTO events (at, kind, actor, detail)
         VALUES (?1, 'blueprint.converted', 'left4me', ?2)",
        params![
            now,
            format!("{id} '{name}': {}", converted.changes.join("; "))
        ],
    )?;

    Ok(())
}
