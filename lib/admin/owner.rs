//! Chooses the owner of a new blueprint or server.

use rusqlite::Connection;

use crate::base::names::UserName;
use crate::base::{Error, Result};
use crate::db::users::{self, User};

/// The user of `--user`; else the left4me user named like the caller; else the only user.
///
/// Fails if the named user does not exist, or if a name is needed.
pub(super) fn owner(
    connection: &Connection,
    named: Option<&UserName>,
    caller: &str,
) -> Result<User> {
    if let Some(name) = named {
        return users::find(connection, name);
    }
    if let Some(user) = users::by_name(connection, caller)? {
        return Ok(user);
    }

    let mut all = users::all(connection)?;
    match all.len() {
        0 => Err(Error::usage(
            "there is no user yet: add one with `left4me user add NAME`",
        )),
        1 => Ok(all.swap_remove(0)),
        _ => Err(Error::usage(format!(
            "pass --user NAME: '{caller}' is not a left4me user, and there are several users"
        ))),
    }
}
