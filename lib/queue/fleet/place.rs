//! Takes in a server of another host, or gives one up.

use rusqlite::Connection;

use super::accept::{Host, Performed};
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};
use crate::domain::fleet::order::{Order, Place};

pub(super) fn place(
    _tx: &Connection,
    _host: &Host<'_>,
    _order: &Order,
    _asked: &Place,
    _now: i64,
) -> Result<Performed> {
    Err(Error::usage("this version takes in no servers"))
}

pub(super) fn unplace(
    _tx: &Connection,
    _host: &Host<'_>,
    _order: &Order,
    _server: Ulid,
    _epoch: u64,
    _now: i64,
) -> Result<Performed> {
    Err(Error::usage("this version gives up no servers"))
}
