//! How this host's part in the fleet is: its connection, and the orders without an end. For pages,
//! metrics and the doctor.

use rusqlite::{Connection, params};
use serde::Serialize;

use super::orders_out::{ORDER, OrderOut, OrderState, order};
use super::self_row::SelfRow;
use crate::base::Result;
use crate::db::lists::Part;
use crate::db::paging::words;
use crate::db::{exists, one, query};
use crate::domain::fleet::view::{self, LinkSaid, LinkView};

/// How this host is connected to the engine.
pub fn link(own: &SelfRow, now: i64) -> LinkView {
    let said = LinkSaid {
        at: own.link_at,
        connected_since: own.connected_since,
        disconnected_since: own.disconnected_since,
    };
    view::link(said, now)
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
    /// Only those in one of these states; empty means all.
    pub states: &'a [OrderState],
}

impl OrderFilter<'_> {
    /// A condition; ?1 is the host.
    fn fits(self) -> String {
        let states = match self.states {
            [] => "TRUE".to_owned(),
            states => format!("state IN ({})", words(states)),
        };
        format!("(?1 IS NULL OR to_host = ?1) AND {states}")
    }
}

/// The newest orders from here, newest first.
pub fn orders(connection: &Connection, of: OrderFilter<'_>, part: Part) -> Result<Vec<OrderOut>> {
    let fits = of.fits();
    let sql = format!(
        "SELECT {ORDER} FROM fleet_orders_out WHERE {fits} ORDER BY id DESC LIMIT ?2 OFFSET ?3"
    );
    query(
        connection,
        &sql,
        params![of.host, part.limit, part.offset],
        order,
    )
}

/// How many these are; counted up to `most`.
pub fn count_orders(connection: &Connection, of: OrderFilter<'_>, most: i64) -> Result<i64> {
    let fits = of.fits();
    let sql =
        format!("SELECT count(*) FROM (SELECT 1 FROM fleet_orders_out WHERE {fits} LIMIT ?2)");
    one(connection, &sql, params![of.host, most], |row| row.get(0))
}

/// How many events of this host the engine has not acknowledged.
pub fn events_behind(connection: &Connection) -> Result<u32> {
    let sql = "SELECT count(*) FROM events WHERE id > (SELECT events_sent FROM fleet_self)";
    one(connection, sql, [], |row| row.get(0))
}

/// Whether this host belongs to a fleet.
pub fn belongs(connection: &Connection) -> Result<bool> {
    exists(connection, "SELECT 1 FROM fleet_self", [])
}
