//! Unix accounts of this host, by name or by uid.
//!
//! /etc/passwd is read first: nearly every account is there, and reading it takes a fraction of the
//! time that the C library takes to set up its name service. Other accounts (LDAP, systemd-homed)
//! come from the name service. A statically linked program must not call it, because it would load
//! the shared libraries of whatever C library is installed: such a program names another way with
//! [`look_up_with`].

use std::path::Path;
use std::sync::OnceLock;

use nix::unistd::{Gid, Uid, User};

const PASSWD: &str = "/etc/passwd";

/// How this program looks up an account that is not in /etc/passwd: gets a name or a uid, returns
/// the account's line.
static NAME_SERVICE: OnceLock<fn(&str) -> Option<String>> = OnceLock::new();

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: Uid,
    pub gid: Gid,
}

/// Sets how to look up what is not in /etc/passwd, instead of with the C library.
pub fn look_up_with(name_service: fn(&str) -> Option<String>) {
    NAME_SERVICE.get_or_init(|| name_service);
}

/// The account with this name; none if there is none. Fails if the name service fails.
pub fn by_name(name: &str) -> nix::Result<Option<Account>> {
    find(
        name,
        |account| account.name == name,
        || User::from_name(name),
    )
}

/// The account with this uid; none if there is none, or the name service fails.
pub fn by_uid(uid: Uid) -> Option<Account> {
    let key = uid.to_string();
    let is_it = |account: &Account| account.uid == uid;
    find(&key, is_it, || User::from_uid(uid)).ok().flatten()
}

fn find(
    key: &str,
    is_it: impl Fn(&Account) -> bool,
    library: impl FnOnce() -> nix::Result<Option<User>>,
) -> nix::Result<Option<Account>> {
    if let Some(account) = in_file(Path::new(PASSWD), &is_it) {
        return Ok(Some(account));
    }

    match NAME_SERVICE.get() {
        Some(look_up) => Ok(look_up(key)
            .and_then(|line| parse(line.trim_end()))
            .filter(is_it)),
        None => Ok(library()?.map(|user| Account {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
        })),
    }
}

fn in_file(path: &Path, is_it: impl Fn(&Account) -> bool) -> Option<Account> {
    let lines = std::fs::read(path).ok()?;
    String::from_utf8_lossy(&lines)
        .lines()
        .filter_map(parse)
        .find(is_it)
}

/// Parses a line of passwd(5). None for a comment, and for a reference to NIS (`+` or `-` first).
fn parse(line: &str) -> Option<Account> {
    if line.starts_with(['#', '+', '-']) {
        return None;
    }

    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;

    Some(Account {
        name: name.to_owned(),
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(gid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_of_passwd_is_found_by_name_and_by_uid_as_the_library_finds_it() {
        for name in ["root", "daemon", "nobody"] {
            let user = User::from_name(name).unwrap().unwrap();
            let account = by_name(name).unwrap().unwrap();
            assert_eq!(
                (&account.name, account.uid, account.gid),
                (&user.name, user.uid, user.gid)
            );
            assert_eq!(by_uid(user.uid), Some(account));
        }
    }

    #[test]
    fn the_first_line_counts_and_a_line_that_is_no_account_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        let text = b"# c:x:1:1\n+nis:x:7:7::\n-nis:x:7:7::\n:x:7:7::\nshort:x:7\nbad:x:y:7::\n\
                     \xff:x:8:8:::\nanna:x:7:70:::\nbert:x:7:71:::\n";
        std::fs::write(&path, text).unwrap();

        let found = in_file(&path, |account| account.uid.as_raw() == 7).unwrap();
        assert_eq!((found.name.as_str(), found.gid.as_raw()), ("anna", 70));
        assert_eq!(in_file(&path, |account| account.name == "nis"), None);
        assert_eq!(in_file(&dir.path().join("missing"), |_| true), None);
    }
}
