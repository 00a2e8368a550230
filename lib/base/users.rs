//! The Unix users of the package, in one place; sysusers.d makes them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, geteuid, setgid, setgroups, setuid};

use super::{Error, Result};

/// Runs the worker; owns the database and instances/.
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

/// Gives root's rights away for good and goes on as `uid` and `gid`.
///
/// # Errors
/// Exit 77 when the system does not let us.
pub fn become_user(uid: Uid, gid: Gid) -> Result<()> {
    setgroups(&[gid])
        .and_then(|()| setgid(gid))
        .and_then(|()| setuid(uid))
        .map_err(|errno| Error::not_permitted(format!("cannot become user id {uid}: {}", errno.desc())))
}

/// When root runs this: goes on as the owner of `directory`, so that what is written there belongs to whom the rest
/// belongs to. A directory of root's own, as on a developer's machine, changes nothing.
///
/// # Errors
/// Exit 77 when the system does not let us.
pub fn become_owner(directory: &Path) -> Result<()> {
    let owner = match fs_err::metadata(directory) {
        Ok(owner) if geteuid().is_root() && owner.uid() != 0 => owner,
        // A directory that is missing is told by whoever needs it.
        _ => return Ok(()),
    };
    become_user(Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()))
}
