//! UDP ports in use: each server's game port, and SourceTV's where a blueprint turns it on.

use std::collections::HashSet;
use std::fmt;

use rusqlite::Connection;

use crate::base::config::PortRange;
use crate::base::names::{ServerId, UserId};
use crate::base::{Error, Result};
use crate::db::{first, query};
use crate::domain::notices;

/// One port of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    port: u16,
    server: ServerId,
    name: String,
    user: UserId,
    is_tv: bool,
}

/// Two servers that need the same port, or one that needs it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    one: Taken,
    other: Taken,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = |taken: &Taken| {
            let kind = if taken.is_tv { "SourceTV" } else { "the game" };
            format!("{kind} of server {} ('{}')", taken.server, taken.name)
        };

        write!(
            f,
            "UDP port {} is used twice: by {}, and by {}",
            self.one.port,
            what(&self.one),
            what(&self.other)
        )
    }
}

impl Clash {
    /// The refusal of a change to `subjects`, for a user who may not learn about other users'
    /// servers.
    fn refusal(&self, subjects: &[ServerId]) -> Error {
        let is_subject = |taken: &Taken| subjects.contains(&taken.server);
        let (mine, other) = if is_subject(&self.one) {
            (&self.one, &self.other)
        } else {
            (&self.other, &self.one)
        };

        let whose = if other.user != mine.user {
            "another user's server".to_owned()
        } else if mine.server == other.server {
            "its own game".to_owned()
        } else {
            let what = if other.is_tv { " for its SourceTV" } else { "" };
            format!("server {} ('{}'){what}", other.server, other.name)
        };

        let (what, way) = if mine.is_tv {
            (
                "SourceTV's port",
                "set another tv_port in a blueprint of its own, or turn tv_enable off",
            )
        } else {
            ("port", "without --port the lowest free one is taken")
        };

        Error::conflict(format!(
            "{what} {} of server '{}' is taken by {whose}; {way}",
            mine.port, mine.name
        ))
    }
}

/// Every port that is used twice, at least once by SourceTV; two games never share a port.
pub fn shared(connection: &Connection) -> Result<Vec<Clash>> {
    let tv = tv(connection)?;
    if tv.is_empty() {
        return Ok(Vec::new());
    }

    let sql = "SELECT id, name, user_id, port FROM servers ORDER BY id";
    let games = query(connection, sql, [], |row| {
        Ok(Taken {
            server: row.get(0)?,
            name: row.get(1)?,
            user: row.get(2)?,
            port: row.get(3)?,
            is_tv: false,
        })
    })?;

    let mut clashes = Vec::new();
    for (at, one) in tv.iter().enumerate() {
        let others = games
            .iter()
            .chain(tv.iter().skip(at + 1))
            .filter(|other| other.port == one.port);
        clashes.extend(others.map(|other| Clash {
            one: one.clone(),
            other: other.clone(),
        }));
    }

    Ok(clashes)
}

/// Refuses a clash that is not in `before`. The doctor reports the existing ones.
///
/// Fails with 4 with the port, the server that has it, and what to do for `subjects`, which the
/// change is about.
pub(super) fn none_added(tx: &Connection, before: &[Clash], subjects: &[ServerId]) -> Result<()> {
    match shared(tx)?
        .into_iter()
        .find(|clash| !before.contains(clash))
    {
        Some(clash) => Err(clash.refusal(subjects)),
        None => Ok(()),
    }
}

/// The SourceTV ports of all servers.
pub(super) fn of_tv(connection: &Connection) -> Result<Vec<u16>> {
    Ok(tv(connection)?
        .into_iter()
        .map(|taken| taken.port)
        .collect())
}

/// The servers whose blueprint turns SourceTV on. A blueprint with an invalid row starts no server,
/// so it uses no port.
fn tv(connection: &Connection) -> Result<Vec<Taken>> {
    let sql = "SELECT s.id, s.name, s.user_id, b.arguments, b.config FROM servers s
         JOIN blueprints b ON b.id = s.blueprint_id
         WHERE b.arguments LIKE '%tv_enable%' OR b.config LIKE '%tv_enable%' ORDER BY s.id";
    let servers = query(connection, sql, [], |row| {
        let (arguments, config): (String, String) = (row.get(3)?, row.get(4)?);
        let parsed = serde_json::from_str(&arguments)
            .ok()
            .zip(serde_json::from_str(&config).ok());
        let port = parsed.and_then(|(arguments, config): (Vec<_>, Vec<_>)| {
            notices::tv_port(&arguments, &config)
        });
        let (server, name, user) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(port.map(|port| Taken {
            port,
            server,
            name,
            user,
            is_tv: true,
        }))
    })?;

    Ok(servers.into_iter().flatten().collect())
}

/// The lowest port of `range` that no server uses, for its game or for SourceTV.
pub fn lowest_free_port(connection: &Connection, range: PortRange) -> Result<u16> {
    free_port(connection, range, None)
}

/// [`lowest_free_port`], except for the server's own `tv` port.
pub(super) fn free_port(connection: &Connection, range: PortRange, tv: Option<u16>) -> Result<u16> {
    let sql = "SELECT port FROM servers WHERE port BETWEEN ?1 AND ?2";
    let games = query(connection, sql, [range.first, range.last], |row| row.get(0))?;
    let of_tv = of_tv(connection)?;
    let taken: HashSet<u16> = games.into_iter().chain(of_tv).chain(tv).collect();
    (range.first..=range.last)
        .find(|port| !taken.contains(port))
        .ok_or_else(|| {
            Error::conflict(format!(
                "all ports of {range} are taken: remove a server, or widen LEFT4ME_PORT_RANGE"
            ))
        })
}

/// Returns `port` if it lies in the range and no server has it.
pub(super) fn usable_port(
    connection: &Connection,
    port: u16,
    range: PortRange,
    user: UserId,
) -> Result<u16> {
    if !range.contains(port) {
        return Err(Error::usage(format!(
            "port {port} is outside of {range} (LEFT4ME_PORT_RANGE)"
        )));
    }

    let sql = "SELECT id, name, user_id FROM servers WHERE port = ?1";
    let other = first(connection, sql, [port], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, UserId>(2)?,
        ))
    })?;

    match other {
        None => Ok(port),
        Some((id, name, owner)) => {
            // The message must not name another user's server.
            let by = if owner == user {
                format!("server {id} ('{name}')")
            } else {
                "another user's server".to_owned()
            };

            Err(Error::conflict(format!(
                "port {port} is taken by {by}; without --port the lowest free one is taken"
            )))
        }
    }
}
