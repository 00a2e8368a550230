//! The Unix users of the package, in one place; sysusers.d makes them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, geteuid, setgid, setgroups, setuid};

use super::{Error, Result, caller, walk};

/// Runs the worker; owns the database and instances/.
pub const LEFT4ME: &str = "left4me";
/// Runs steamcmd; owns installation, steam and workshop_cache.
pub const STEAM: &str = "left4me-steam";
/// The group that every server has besides its own; the user of all servers before each had one (server_user.rs).
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

/// As whom a program goes on that root has started, and that works on what lies in `directory`: the one rule for all of
/// them. Nothing when it stays as it is.
///
/// It becomes the owner of the directory, which is left4me where the package is installed: what is written belongs to
/// the same user as the rest, and a link that another member has put there leads no further than left4me may go. Root
/// stays root in a directory of root's own that no other user can exchange, and where there is no user left4me, as on a
/// developer's machine.
#[must_use]
pub fn successor(directory: &Path) -> Option<(Uid, Gid)> {
    if !geteuid().is_root() {
        return None;
    }
    match fs_err::metadata(directory) {
        Ok(owner) if owner.uid() != 0 => Some((Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()))),
        Ok(_) if walk::walk(directory).is_ok_and(|walked| walked.is_roots) => None,
        // One that is missing is told later, by the program that needs it.
        _ => ids(LEFT4ME).ok(),
    }
}

/// Becomes what [`successor`] says of the database's directory, for good. To be called before anything is opened that is not root's.
///
/// # Errors
/// Exit 77 when the system does not let us.
pub fn become_successor(database: &Path) -> Result<()> {
    let Some((uid, gid)) = successor(database.parent().unwrap_or(database)) else { return Ok(()) };
    // Jobs and events name the person who began.
    caller::remember();
    become_user(uid, gid)
}
