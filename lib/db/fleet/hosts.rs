//! The hosts of the fleet: the signed roster, and what each host told of itself last.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::FleetHost;
use crate::base::{Error, Result};
use crate::db::{changes, first, query, run, text, text_or_null};
use crate::domain::fleet::roster::Member;
use crate::domain::fleet::status::HostStatus;
use crate::domain::fleet::view::{HostState, Seen, host_state};

/// A host of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    pub name: String,
    /// Its public keys: what it signs with, and what is sealed to it.
    pub key: String,
    pub seal_key: String,
    pub labels: BTreeMap<String, String>,
    /// `view`, `control`.
    pub roles: Vec<String>,
    /// Unix ms.
    pub admitted_at: i64,
    pub expelled_at: Option<i64>,
    /// Its newest status document; None until one has come, and on a host without the view role.
    pub status: Option<HostStatus>,
    /// When it told that: by its own clock, and by this host's.
    pub status_at: Option<i64>,
    pub status_received_at: Option<i64>,
}

impl Host {
    pub fn state(&self, now: i64) -> HostState {
        host_state(self.seen(), now)
    }

    /// What its state is decided from.
    pub fn seen(&self) -> Seen {
        Seen {
            expelled: self.expelled_at.is_some(),
            status_received_at: self.status_received_at,
            cordoned: self.status.as_ref().is_some_and(|status| status.cordoned),
        }
    }

    pub fn views(&self) -> bool {
        self.controls() || self.roles.iter().any(|role| role == "view")
    }

    pub fn controls(&self) -> bool {
        self.roles.iter().any(|role| role == "control")
    }
}

const HOST: &str = "name, key, seal_key, labels, roles, admitted_at, expelled_at, status,
                    status_at, status_received_at";

fn host(row: &Row<'_>) -> rusqlite::Result<Host> {
    let status = text_or_null(row, 7)?;
    Ok(Host {
        name: text(row, 0)?,
        key: text(row, 1)?,
        seal_key: text(row, 2)?,
        labels: serde_json::from_str(&text(row, 3)?).unwrap_or_default(),
        roles: text(row, 4)?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        admitted_at: row.get(5)?,
        expelled_at: row.get(6)?,
        // A later version may have written what this one cannot read.
        status: status.and_then(|status| serde_json::from_str(&status).ok()),
        status_at: row.get(8)?,
        status_received_at: row.get(9)?,
    })
}

/// All hosts by name, with the expelled ones.
pub fn all(connection: &Connection) -> Result<Vec<Host>> {
    let sql = format!("SELECT {HOST} FROM fleet_hosts ORDER BY name");
    query(connection, &sql, [], host)
}

pub fn get(connection: &Connection, name: &str) -> Result<Option<Host>> {
    let sql = format!("SELECT {HOST} FROM fleet_hosts WHERE name = ?1");
    first(connection, &sql, [name], host)
}

/// Fails with 3 if the fleet has no host of this name.
pub fn find(connection: &Connection, name: &FleetHost) -> Result<Host> {
    get(connection, name.as_str())?.ok_or_else(|| {
        Error::not_found(format!(
            "the fleet has no host '{name}'; `left4me fleet hosts` lists them"
        ))
    })
}

/// The public key whose signature a host's words must have. None for a host that is expelled or
/// not in the roster.
pub fn key_of(connection: &Connection, name: &FleetHost) -> Result<Option<String>> {
    let sql = "SELECT key FROM fleet_hosts WHERE name = ?1 AND expelled_at IS NULL";
    first(connection, sql, [name.as_str()], |row| text(row, 0))
}

/// Makes a host's row that of the roster. Another key is another machine: what the old one told is
/// not its own.
pub fn put(tx: &Connection, member: &Member) -> Result<()> {
    let labels = serde_json::to_string(&member.labels)
        .map_err(|error| Error::failed(format!("labels of {}: {error}", member.name)))?;
    let sql =
        "INSERT INTO fleet_hosts (name, key, seal_key, labels, roles, admitted_at, expelled_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (name) DO UPDATE SET
                   status = CASE WHEN key = excluded.key THEN status END,
                   status_at = CASE WHEN key = excluded.key THEN status_at END,
                   status_received_at = CASE WHEN key = excluded.key THEN status_received_at END,
                   key = excluded.key, seal_key = excluded.seal_key, labels = excluded.labels,
                   roles = excluded.roles, admitted_at = excluded.admitted_at,
                   expelled_at = excluded.expelled_at";
    let row = params![
        member.name.as_str(),
        member.key.as_str(),
        member.seal_key.as_str(),
        labels,
        member.roles.join(" "),
        member.admitted_at,
        member.expelled_at
    ];
    run(tx, sql, row)
}

/// Removes a host that the roster does not name any more, with its servers.
pub fn remove(tx: &Connection, name: &str) -> Result<()> {
    run(tx, "DELETE FROM fleet_hosts WHERE name = ?1", [name])
}

/// How far another host's clock may be ahead of this one's, in ms.
const AHEAD: i64 = 120_000;

/// Keeps a host's status, unless a newer one is known. One from a clock that was ahead is not newer:
/// the clock has been set back since, or will be. False if it was not kept.
pub fn set_status(tx: &Connection, status: &HostStatus, seen: i64, now: i64) -> Result<bool> {
    let document = serde_json::to_string(status)
        .map_err(|error| Error::failed(format!("status of {}: {error}", status.host)))?;
    let sql = "UPDATE fleet_hosts SET status = ?2, status_at = ?3, status_received_at = ?4
               WHERE name = ?1 AND expelled_at IS NULL
                   AND (coalesce(status_at, 0) < ?3 OR (status_at > ?5 AND status_at <> ?3))";
    let ahead = now.saturating_add(AHEAD);
    let row = params![status.host.as_str(), document, status.at, seen, ahead];
    changes(tx, sql, row)
}
