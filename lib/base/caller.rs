//! Who runs this program: the name that jobs and events remember.

use std::sync::OnceLock;

use nix::unistd::{Uid, User, getuid};

use super::names::UserName;

/// The name at the first call: a program that root has started becomes another user later.
static CALLER: OnceLock<String> = OnceLock::new();

/// The login name of the real uid; under sudo, which made it root's, the name of who called sudo. `uid N` for a uid
/// without a name.
#[must_use]
pub fn caller() -> String {
    CALLER.get_or_init(look).clone()
}

/// Keeps the name, before this program becomes another user.
pub fn remember() {
    CALLER.get_or_init(look);
}

fn look() -> String {
    let uid = getuid();
    let before = if uid.is_root() { std::env::var("SUDO_USER").ok().and_then(|name| sudo_user(&name)) } else { None };
    before.unwrap_or_else(|| login_name(uid))
}

/// Only root can be told a name by the environment, and only one that exists: sudo sets it, anybody can.
fn sudo_user(name: &str) -> Option<String> {
    let name: UserName = name.parse().ok()?;
    User::from_name(name.as_str()).ok().flatten().map(|user| user.name)
}

fn login_name(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_uid_without_one_is_still_told() {
        assert_eq!(login_name(Uid::from_raw(0)), "root");
        assert_eq!(login_name(Uid::from_raw(4_000_000_000)), "uid 4000000000");
    }

    #[test]
    fn a_sudo_user_that_is_no_name_or_no_account_is_not_believed() {
        for bad in ["", "../x", "a b", "no-such-account-here"] {
            assert_eq!(sudo_user(bad), None, "{bad}");
        }
    }
}
