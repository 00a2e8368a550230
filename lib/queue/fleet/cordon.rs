//! A cordoned host takes in no more servers; those that it has stay.

use rusqlite::Connection;

use super::host::Performed;
use crate::base::Result;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::self_row;

pub(super) fn cordon(tx: &Connection, by: &str, reason: &str, now: i64) -> Result<Performed> {
    cordon_here(tx, by, reason, now).map(Performed::Done)
}

pub(super) fn uncordon(tx: &Connection, by: &str, now: i64) -> Result<Performed> {
    uncordon_here(tx, by, now).map(Performed::Done)
}

/// Cordons this host. In words, what came of it.
pub fn cordon_here(tx: &Connection, by: &str, reason: &str, now: i64) -> Result<String> {
    self_row::ensure(tx)?;
    let what = match self_row::set_cordoned(tx, Some(by))? {
        true => {
            let event = NewEvent {
                reason,
                ..NewEvent::new("fleet.cordoned", by, "")
            };
            events::add(tx, now, &event)?;
            "cordoned"
        }
        false => "it was cordoned already",
    };
    Ok(what.to_owned())
}

pub fn uncordon_here(tx: &Connection, by: &str, now: i64) -> Result<String> {
    let what = match self_row::set_cordoned(tx, None)? {
        true => {
            events::add(tx, now, &NewEvent::new("fleet.uncordoned", by, ""))?;
            "uncordoned"
        }
        false => "it was not cordoned",
    };
    Ok(what.to_owned())
}
