//! The name of the person who runs this program, for jobs and events.

use std::sync::OnceLock;

use nix::unistd::{Uid, getuid};

use super::accounts;
use super::names::UserName;

/// The name at the first call, because a program that root starts changes its user later.
static CALLER: OnceLock<String> = OnceLock::new();

/// The login name of the real uid; under sudo, the name of the user who ran sudo. `uid N` for a uid
/// without a name.
pub fn caller() -> String {
    CALLER.get_or_init(lookup).clone()
}

/// Stores the name before this program changes its user.
pub fn remember() {
    CALLER.get_or_init(lookup);
}

fn lookup() -> String {
    let uid = getuid();
    let sudo = if uid.is_root() {
        std::env::var("SUDO_USER")
            .ok()
            .and_then(|name| sudo_user(&name))
    } else {
        None
    };

    sudo.unwrap_or_else(|| login_name(uid))
}

/// SUDO_USER counts only for root, and only if the user exists: any user can set the variable.
fn sudo_user(name: &str) -> Option<String> {
    let name: UserName = name.parse().ok()?;
    accounts::by_name(name.as_str())
        .ok()
        .flatten()
        .map(|account| account.name)
}

fn login_name(uid: Uid) -> String {
    accounts::by_uid(uid).map_or_else(|| format!("uid {uid}"), |account| account.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_without_a_name_is_shown_as_a_number() {
        assert_eq!(login_name(Uid::from_raw(0)), "root");
        assert_eq!(login_name(Uid::from_raw(4_000_000_000)), "uid 4000000000");
    }

    #[test]
    fn an_invalid_or_unknown_sudo_user_is_ignored() {
        for bad in ["", "../x", "a b", "no-such-account-here"] {
            assert_eq!(sudo_user(bad), None, "{bad}");
        }
    }
}
