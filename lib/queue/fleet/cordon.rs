//! A cordoned host takes in no more servers; those that it has stay.

use rusqlite::Connection;

use super::accept::Performed;
use crate::base::Result;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::self_row;

pub(super) fn cordon(tx: &Connection, by: &str, reason: &str, now: i64) -> Result<Performed> {
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
    Ok(Performed::Done(what.to_owned()))
}

pub(super) fn uncordon(tx: &Connection, by: &str, now: i64) -> Result<Performed> {
    let what = match self_row::set_cordoned(tx, None)? {
        true => {
            events::add(tx, now, &NewEvent::new("fleet.uncordoned", by, ""))?;
            "uncordoned"
        }
        false => "it was not cordoned",
    };
    Ok(Performed::Done(what.to_owned()))
}
