//! Who may run l4d2ctl: left4me, or root, which becomes left4me.

use nix::unistd::{User, geteuid};

use super::PROGRAM;
use super::context::print_stderr;
use crate::base::names::shown;
use crate::base::users::LEFT4ME;
use crate::base::{Error, Result, users};

/// Refuses other users, and names the command to use instead. Where there is no user left4me, as on
/// a developer's machine, file permissions are the only protection.
pub(super) fn check() -> Result<()> {
    let uid = geteuid();
    match User::from_name(LEFT4ME) {
        Ok(Some(user)) if !uid.is_root() && uid != user.uid => {
            let words: Vec<String> = std::env::args().skip(1).map(|word| shown(&word)).collect();
            Err(Error::not_permitted(format!(
                "only root and {LEFT4ME} may do this: run `sudo -u {LEFT4ME} {PROGRAM} {}`",
                words.join(" ")
            )))
        }
        _ => Ok(()),
    }
}

/// Drops root's rights for good, if this is root.
pub(super) fn become_left4me() -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }

    let Ok(Some(user)) = User::from_name(LEFT4ME) else {
        print_stderr(&format!(
            "{PROGRAM}: there is no user {LEFT4ME}: continuing as root"
        ));
        return Ok(());
    };

    users::become_user(user.uid, user.gid)
}
