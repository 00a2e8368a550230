//! How this host's part in the fleet is: its connection, and the orders without an end. For pages,
//! metrics and the doctor.

use rusqlite::{Connection, params};
use serde::Serialize;

use super::orders_out::{ORDER, OrderOut, order};
use crate::base::Result;
use crate::db::lists::Part;
use crate::db::{exists, first, one, query, text_or_null};
use crate::domain::fleet::view::{LinkSaid, LinkView, link};

/// What left4me-link and left4me-gate said of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Own {
    /// Unix ms: when left4me-link said something last.
    pub link_at: Option<i64>,
    pub connected_since: Option<i64>,
    pub disconnected_since: Option<i64>,
    /// Why there is no connection.
    pub link_error: Option<String>,
    pub cordoned: bool,
    pub cordoned_by: Option<String>,
    /// Messages that were not signed by whom they should be, or were none at all.
    pub noise: i64,
    /// The newest event that the engine has acknowledged.
    pub events_sent: i64,
    pub roster: i64,
}

impl Own {
    pub fn link(&self, now: i64) -> LinkView {
        let said = LinkSaid {
            at: self.link_at,
            connected_since: self.connected_since,
            disconnected_since: self.disconnected_since,
        };
        link(said, now)
    }
}

/// None where this host belongs to no fleet.
pub fn own(connection: &Connection) -> Result<Option<Own>> {
    let sql =
        "SELECT link_at, connected_since, disconnected_since, link_error, cordoned, cordoned_by,
                      noise, events_sent, roster FROM fleet_self";
    first(connection, sql, [], |row| {
        Ok(Own {
            link_at: row.get(0)?,
            connected_since: row.get(1)?,
            disconnected_since: row.get(2)?,
            link_error: text_or_null(row, 3)?,
            cordoned: row.get(4)?,
            cordoned_by: text_or_null(row, 5)?,
            noise: row.get(6)?,
            events_sent: row.get(7)?,
            roster: row.get(8)?,
        })
    })
}

/// The orders from here whose end is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unsettled {
    pub kept: u32,
    pub sent: u32,
    pub accepted: u32,
    /// Unix ms: when the oldest one that no host has accepted was made.
    pub oldest: Option<i64>,
}

pub fn unsettled(connection: &Connection) -> Result<Unsettled> {
    let sql =
        "SELECT count(*) FILTER (WHERE state = 'kept'), count(*) FILTER (WHERE state = 'sent'),
                      count(*) FILTER (WHERE state = 'accepted'),
                      min(created_at) FILTER (WHERE state <> 'accepted')
               FROM fleet_orders_out WHERE settled_at IS NULL";
    one(connection, sql, [], |row| {
        Ok(Unsettled {
            kept: row.get(0)?,
            sent: row.get(1)?,
            accepted: row.get(2)?,
            oldest: row.get(3)?,
        })
    })
}

/// Which orders are shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderFilter<'a> {
    pub host: Option<&'a str>,
    /// Only those whose end is not known.
    pub open: bool,
}

/// The newest orders from here, newest first.
pub fn orders(connection: &Connection, of: OrderFilter<'_>, part: Part) -> Result<Vec<OrderOut>> {
    let sql = format!(
        "SELECT {ORDER} FROM fleet_orders_out
         WHERE (?1 IS NULL OR to_host = ?1) AND (NOT ?2 OR settled_at IS NULL)
         ORDER BY id DESC LIMIT ?3 OFFSET ?4"
    );
    let values = params![of.host, of.open, part.limit, part.offset];
    query(connection, &sql, values, order)
}

/// How many events of this host the engine has not acknowledged.
pub fn events_behind(connection: &Connection) -> Result<u32> {
    let sql = "SELECT count(*) FROM events WHERE id > (SELECT events_sent FROM fleet_self)";
    one(connection, sql, [], |row| row.get(0))
}

/// How many these are; counted up to `most`.
pub fn count_orders(connection: &Connection, of: OrderFilter<'_>, most: i64) -> Result<i64> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM fleet_orders_out
               WHERE (?1 IS NULL OR to_host = ?1) AND (NOT ?2 OR settled_at IS NULL) LIMIT ?3)";
    one(connection, sql, params![of.host, of.open, most], |row| {
        row.get(0)
    })
}

/// Whether this host belongs to a fleet.
pub fn belongs(connection: &Connection) -> Result<bool> {
    exists(connection, "SELECT 1 FROM fleet_self", [])
}
