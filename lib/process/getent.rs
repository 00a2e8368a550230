//! Asks getent for an account, for a program that must not use the C library's name service.

use std::process::{Command, Stdio};

/// The passwd(5) line of the account with this name or uid; none if there is none, or getent cannot
/// be started.
pub fn account(key: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "lib/process/ is the only place that spawns"
    )]
    let mut getent = Command::new("/usr/bin/getent");
    let found = getent
        .args(["passwd", "--", key])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;

    let line = String::from_utf8(found.stdout).ok()?;
    (found.status.success() && !line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::account;

    #[test]
    fn an_account_is_found_by_name_and_by_uid_and_an_unknown_one_is_not() {
        assert!(account("root").unwrap().starts_with("root:"));
        assert_eq!(account("0"), account("root"));
        assert_eq!(account("no-such-account-here"), None);
        assert_eq!(account("--help"), None);
    }
}
