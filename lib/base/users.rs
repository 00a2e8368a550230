//! The Unix users of the package, which sysusers.d creates.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, geteuid, setgid, setgroups, setuid};

use super::{Error, Result, accounts, caller, walk};

/// Runs the worker; owns the database and instances/.
pub const LEFT4ME: &str = "left4me";
/// Runs steamcmd; owns installation, steam and workshop_cache.
pub const STEAM: &str = "left4me-steam";
/// Runs left4me-console, which talks to games; owns nothing.
pub const CONSOLE: &str = "left4me-console";
/// Runs left4me-notify, which sends alerts; owns nothing.
pub const NOTIFY: &str = "left4me-notify";
/// The additional group of every server. It was the user of all servers before each had its own
/// (see server_user.rs).
pub const GAME: &str = "left4me-game";

/// The ids of a user that must exist.
///
/// Fails if there is none: the package's sysusers.d was not applied.
pub fn ids(name: &str) -> Result<(Uid, Gid)> {
    match accounts::by_name(name) {
        Ok(Some(account)) => Ok((account.uid, account.gid)),
        Ok(None) => Err(Error::unavailable(format!(
            "there is no user {name}: run `systemd-sysusers`"
        ))),
        Err(errno) => Err(Error::unavailable(format!(
            "the user {name} cannot be looked up: {}",
            errno.desc()
        ))),
    }
}

/// The user's id, if the user exists.
pub fn uid(name: &str) -> Option<Uid> {
    accounts::by_name(name)
        .ok()
        .flatten()
        .map(|account| account.uid)
}

/// Whether a user administers left4me: root, left4me, or a member of the group left4me.
pub fn is_admin(user: Uid) -> bool {
    if user.is_root() || Some(user) == uid(LEFT4ME) {
        return true;
    }

    let Some(account) = accounts::by_uid(user) else {
        return false;
    };
    let group = Group::from_name(LEFT4ME).ok().flatten();
    group.is_some_and(|group| group.gid == account.gid || group.mem.contains(&account.name))
}

/// Drops root's rights for good and continues as `uid` and `gid`.
pub fn become_user(uid: Uid, gid: Gid) -> Result<()> {
    setgroups(&[gid])
        .and_then(|()| setgid(gid))
        .and_then(|()| setuid(uid))
        .map_err(|errno| {
            Error::not_permitted(format!("cannot become user id {uid}: {}", errno.desc()))
        })
}

/// The user that a program started by root has to become before it works in `directory`. This is
/// the one rule for all programs. None if it does not change its user.
///
/// It becomes the owner of the directory, which is left4me on an installed host. So new files
/// belong to the same user as the others, and a link placed there by another member of the group
/// leads no further than left4me's permissions. Root stays root in a directory that only root can
/// change, and where there is no user left4me, as on a developer's machine.
pub fn unprivileged_user(directory: &Path) -> Option<(Uid, Gid)> {
    if !geteuid().is_root() {
        return None;
    }

    match fs_err::metadata(directory) {
        Ok(owner) if owner.uid() != 0 => {
            Some((Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid())))
        }
        Ok(_) if walk::walk(directory).is_ok_and(|walked| walked.is_roots) => None,
        // A missing directory is reported later, by the program that needs it.
        _ => ids(LEFT4ME).ok(),
    }
}

/// Becomes the [`unprivileged_user`] of the database's directory, for good. Call it before opening
/// anything that does not belong to root.
pub fn drop_root(database: &Path) -> Result<()> {
    let Some((uid, gid)) = unprivileged_user(database.parent().unwrap_or(database)) else {
        return Ok(());
    };
    // Jobs and events name the person who started the program.
    caller::remember();
    become_user(uid, gid)
}
