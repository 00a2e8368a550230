//! Who may run l4d2ctl, and as whom it goes on: root, which becomes left4me, or left4me itself.

use nix::unistd::{User, geteuid};

use super::PROGRAM;
use super::hands::aside;
use crate::base::names::shown;
use crate::base::users::LEFT4ME;
use crate::base::{Error, Result, users};

/// Refuses everybody else, with the line to use instead. Where there is no such user, as on a developer's machine, the
/// file system's own permissions are all there is to protect.
///
/// # Errors
/// 77.
pub(super) fn check() -> Result<()> {
    let uid = geteuid();
    match User::from_name(LEFT4ME) {
        Ok(Some(user)) if !uid.is_root() && uid != user.uid => {
            let words: Vec<String> = std::env::args().skip(1).map(|word| shown(&word)).collect();
            Err(Error::not_permitted(format!(
                "root's or {LEFT4ME}'s rights are needed: run `sudo -u {LEFT4ME} {PROGRAM} {}`",
                words.join(" ")
            )))
        }
        _ => Ok(()),
    }
}

/// When root runs this: gives root's rights away for good.
///
/// # Errors
/// 77 when the system does not let us.
pub(super) fn become_left4me() -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Ok(Some(user)) = User::from_name(LEFT4ME) else {
        aside(&format!("{PROGRAM}: there is no user {LEFT4ME}: going on as root"));
        return Ok(());
    };
    users::become_user(user.uid, user.gid)
}
