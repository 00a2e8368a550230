//! The Unix users of the package, in one place; sysusers.d makes them.

use nix::unistd::{Gid, Uid, User};

use super::{Error, Result};

/// Runs worker, poller and web; owns the database and instances/.
pub const LEFT4ME: &str = "left4me";
/// Runs steamcmd; owns installation, steam and workshop_cache.
pub const STEAM: &str = "left4me-steam";
/// Runs the game servers; owns runtime/ID/{upper,work}.
pub const GAME: &str = "left4me-game";

/// The ids of a user that must exist.
///
/// # Errors
/// Exit 69 when there is none: the package's sysusers.d was not applied.
pub fn ids(name: &str) -> Result<(Uid, Gid)> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        Ok(None) => Err(Error::unavailable(format!("there is no user {name}: run `systemd-sysusers`"))),
        Err(errno) => Err(Error::unavailable(format!("the user {name} cannot be looked up: {}", errno.desc()))),
    }
}

/// The user's id, when there is such a user.
#[must_use]
pub fn uid(name: &str) -> Option<Uid> {
    User::from_name(name).ok().flatten().map(|user| user.uid)
}
