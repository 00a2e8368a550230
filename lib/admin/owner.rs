//! Whose a new blueprint or server is.

use rusqlite::Connection;

use crate::base::names::UserName;
use crate::base::{Error, Result};
use crate::db::users::{self, User};

/// The user who was named; else who runs this, when that is a user; else the only user.
///
/// # Errors
/// 3 when the named user does not exist; 2 when nobody can be meant without a name.
pub(super) fn owner(connection: &Connection, named: Option<&UserName>, caller: &str) -> Result<User> {
    if let Some(name) = named {
        return users::find(connection, name);
    }
    if let Some(user) = users::by_name(connection, caller)? {
        return Ok(user);
    }
    let mut all = users::all(connection)?;
    match all.len() {
        0 => Err(Error::usage("there is no user yet: add one with `left4me user add NAME`")),
        1 => Ok(all.swap_remove(0)),
        _ => {
            Err(Error::usage(format!("whose it is has to be said: '{caller}' is no user of left4me; pass --user NAME")))
        }
    }
}
