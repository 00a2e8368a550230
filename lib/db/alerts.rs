//! Alerts: destinations outside this host, and what each listens for. A destination is a secret that
//! no list shows.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{AlertId, AlertName, ServerId, shown};
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::outbox::subscription;
use crate::db::{execute, first, query, run, text, text_or_null, write_name};
use crate::domain::alert::{AlertClass, Channel, Target};

/// A new alert.
#[derive(Clone, Debug)]
pub struct NewAlert<'a> {
    pub name: &'a AlertName,
    pub target: &'a Target,
    pub classes: &'a [AlertClass],
    /// Empty: all servers.
    pub servers: &'a [ServerId],
}

/// An alert as lists show it: without its destination's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    pub id: AlertId,
    pub name: String,
    /// `discord`, `webhook`, `ntfy` or `mail`.
    pub kind: String,
    /// The destination's host, or a mail address without its name.
    pub destination: String,
    /// The classes that it listens for.
    pub events: Vec<AlertClass>,
    /// The servers; none for all.
    pub servers: Vec<ServerId>,
    /// Unix ms.
    pub created_at: i64,
    pub created_by: String,
    /// Unix ms; none if it is not muted.
    pub muted_until: Option<i64>,
    /// How many events wait to be told.
    pub pending: i64,
    /// When delivery is tried again after a failure, unix ms.
    pub retry_at: Option<i64>,
    /// Why the last delivery failed; none after a success.
    pub last_error: Option<String>,
}

/// `SELECT` of an [`Alert`], followed by `$tail`.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, name, kind, target, events, servers, created_at, created_by, muted_until,
                 (SELECT count(*) FROM alert_outbox o WHERE o.alert_id = alerts.id
                  AND o.state = 'pending'), retry_at, last_error
             FROM alerts ",
            $tail
        )
    };
}

fn alert(row: &Row<'_>) -> rusqlite::Result<Alert> {
    let (kind, target) = (text(row, 2)?, text(row, 3)?);
    let muted_until = row.get(8)?;
    let listens = subscription(&text(row, 4)?, &text(row, 5)?, muted_until);

    Ok(Alert {
        id: row.get(0)?,
        name: text(row, 1)?,
        destination: target_of(&kind, &target).map_or_else(|_| "?".to_owned(), |t| t.masked()),
        kind,
        events: listens.iter().flat_map(|l| l.classes.clone()).collect(),
        servers: listens.iter().flat_map(|l| l.servers.clone()).collect(),
        created_at: row.get(6)?,
        created_by: text(row, 7)?,
        muted_until,
        pending: row.get(9)?,
        retry_at: row.get(10)?,
        last_error: text_or_null(row, 11)?,
    })
}

/// The destination in a row. A row that a person wrote by hand is checked like any input.
pub(super) fn target_of(kind: &str, target: &str) -> Result<Target> {
    let channel: Channel = kind.parse()?;
    Ok(Target::new(channel, target)?)
}

/// Adds an alert and its event.
///
/// Fails with 4 when the name is taken.
pub fn create(tx: &Connection, now: i64, actor: &str, new: &NewAlert<'_>) -> Result<Alert> {
    let sql = "INSERT INTO alerts (name, kind, target, events, servers, created_at, created_by)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let json = |value: std::result::Result<String, serde_json::Error>| {
        value.map_err(|error| Error::failed(format!("alert '{}': {error}", new.name)))
    };
    let row = params![
        new.name.as_str(),
        new.target.channel().as_str(),
        new.target.secret(),
        json(serde_json::to_string(new.classes))?,
        json(serde_json::to_string(new.servers))?,
        now,
        actor
    ];
    write_name(tx, sql, row, || {
        format!(
            "an alert '{}' exists already: choose another name",
            new.name
        )
    })?;

    event(tx, now, "alert.added", actor, new.name)?;
    find(tx, new.name)
}

/// All alerts, ordered by name.
pub fn all(connection: &Connection) -> Result<Vec<Alert>> {
    query(connection, select!("ORDER BY name"), [], alert)
}

/// The alert with this name.
///
/// Fails with 3 when there is none.
pub fn find(connection: &Connection, name: &AlertName) -> Result<Alert> {
    first(
        connection,
        select!("WHERE name = ?1"),
        [name.as_str()],
        alert,
    )?
    .ok_or_else(|| not_found(name))
}

/// The destination of the alert with this name.
///
/// Fails with 3 when there is none; 2 when its row is damaged.
pub fn target(connection: &Connection, name: &AlertName) -> Result<Target> {
    let sql = "SELECT kind, target FROM alerts WHERE name = ?1";
    let row = first(connection, sql, [name.as_str()], |row| {
        Ok((text(row, 0)?, text(row, 1)?))
    })?;
    let (kind, target) = row.ok_or_else(|| not_found(name))?;
    target_of(&kind, &target)
}

/// Records that the destination works: what waits is delivered at once.
pub fn works(tx: &Connection, name: &AlertName) -> Result<()> {
    let sql = "UPDATE alerts SET failures = 0, retry_at = NULL, last_error = NULL WHERE name = ?1";
    run(tx, sql, [name.as_str()])
}

/// Mutes an alert until this time, or not any more. What waits is dropped: it would arrive when the
/// person has long seen it.
///
/// Fails with 3 when there is none with this name.
pub fn mute(
    tx: &Connection,
    now: i64,
    actor: &str,
    name: &AlertName,
    until: Option<i64>,
) -> Result<()> {
    let id = find(tx, name)?.id;
    let sql = "UPDATE alerts SET muted_until = ?2 WHERE id = ?1";
    run(tx, sql, params![id, until])?;

    if until.is_some() {
        let sql = "DELETE FROM alert_outbox WHERE alert_id = ?1 AND state = 'pending'";
        execute(tx, sql, [id])?;
    }
    let kind = if until.is_some() {
        "alert.muted"
    } else {
        "alert.unmuted"
    };
    event(tx, now, kind, actor, name)
}

/// Removes an alert with what waits for it.
///
/// Fails with 3 when there is none with this name.
pub fn remove(tx: &Connection, now: i64, actor: &str, name: &AlertName) -> Result<()> {
    let id = find(tx, name)?.id;
    run(tx, "DELETE FROM alerts WHERE id = ?1", [id])?;
    event(tx, now, "alert.removed", actor, name)
}

fn event(tx: &Connection, now: i64, kind: &str, actor: &str, name: &AlertName) -> Result<()> {
    events::add(tx, now, &NewEvent::new(kind, actor, name.as_str()))
}

fn not_found(name: &AlertName) -> Error {
    Error::not_found(format!(
        "no alert '{}': `left4me alert list` shows them",
        shown(name.as_str())
    ))
}
