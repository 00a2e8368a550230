//! Checks the package's accounts: each exists, is a system account, and does not allow a login.

use nix::unistd::{Group, User, getgrouplist};

use super::Finding;
use super::finding::Advice;
use crate::base::users::{CONSOLE, GAME, LEFT4ME, NOTIFY, STEAM};

/// Each account and its home, as in sysusers.d/left4me.conf.
const ACCOUNTS: [(&str, &str); 5] = [
    (LEFT4ME, "/var/lib/left4me"),
    (STEAM, "/var/lib/left4me/steam"),
    (NOTIFY, "/nonexistent"),
    (GAME, "/var/lib/left4me/runtime"),
    (CONSOLE, "/run/left4me-console"),
];

/// Groups whose members can become root, or can read data of others.
const POWERFUL: [&str; 16] = [
    "root",
    "sudo",
    "wheel",
    "admin",
    "adm",
    "docker",
    "lxd",
    "incus-admin",
    "libvirt",
    "kvm",
    "disk",
    "shadow",
    "kmem",
    "systemd-journal",
    "staff",
    "podman",
];

/// The highest uid of system accounts if /etc/login.defs does not set one.
const SYS_UID_MAX: u32 = 999;

const MAKE: &str = "systemd-sysusers left4me.conf";

/// Names each service, because systemctl waits only for the units that it is given, and not for
/// those that stop with the target.
const STOP: &str = "systemctl stop left4me.target left4me-worker.service \
                    left4me-web.service left4me-poller.service left4me-console.service \
                    left4me-alerts.service left4me-schedules.service 'left4me-schedule@*.service'";

/// What is known about an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    name: &'static str,
    uid: u32,
    gid: u32,
    /// The name of its primary group.
    group: String,
    shell: String,
    home: String,
    /// The names of all its groups.
    groups: Vec<String>,
}

pub(super) fn check() -> Vec<Finding> {
    let most = std::fs::read_to_string("/etc/login.defs")
        .ok()
        .and_then(|text| setting(&text))
        .unwrap_or(SYS_UID_MAX);
    let mut findings = Vec::new();

    let mut missing = Vec::new();
    for (name, home) in ACCOUNTS {
        match look_up(name) {
            Some(account) => findings.extend(judge(&account, home, most)),
            None => missing.push(name),
        }
    }

    if !missing.is_empty() {
        findings.push(Finding::fail(
            "users",
            format!("missing: {}", missing.join(", ")),
            Advice::root(MAKE),
        ));
    }

    if findings.is_empty() {
        findings.push(Finding::ok(
            "users",
            ACCOUNTS.map(|(name, _)| name).join(", "),
        ));
    }

    findings
}

/// Checks whether an account can log in with a password. Only root can read that.
pub(super) fn passwords() -> Vec<Finding> {
    let shadow = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
    ACCOUNTS
        .iter()
        .filter(|(name, _)| has_password(&shadow, name))
        .map(|(name, _)| password(name))
        .collect()
}

fn password(name: &str) -> Finding {
    let found = format!("{name} can sign in with a password");
    Finding::fail(
        "users",
        found,
        Advice::root(format!("usermod --lock {name}")),
    )
}

fn look_up(name: &'static str) -> Option<Account> {
    let user = User::from_name(name).ok().flatten()?;
    let group = |gid| {
        Group::from_gid(gid)
            .ok()
            .flatten()
            .map_or_else(|| gid.to_string(), |group| group.name)
    };

    let own = std::ffi::CString::new(name).ok()?;
    let groups = getgrouplist(&own, user.gid).unwrap_or_default();

    Some(Account {
        name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        group: group(user.gid),
        shell: user.shell.display().to_string(),
        home: user.dir.display().to_string(),
        groups: groups.into_iter().map(group).collect(),
    })
}

/// SYS_UID_MAX from login.defs(5).
fn setting(text: &str) -> Option<u32> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix("SYS_UID_MAX")?.trim().parse().ok())
}

fn judge(account: &Account, home: &str, most: u32) -> Vec<Finding> {
    let name = account.name;
    let fail = |found: String, advice: Advice| Finding::fail("users", found, advice);

    let mut findings = Vec::new();
    if account.uid == 0 || account.uid > most {
        let found = format!(
            "{name} has uid {}, and accounts of the system have 1 to {most}: \
             left4me runs as a person's account",
            account.uid
        );

        findings.push(fail(found, another(account)));
    }

    if !no_login(&account.shell) {
        let found = format!("{name} has the login shell {}", account.shell);
        findings.push(fail(
            found,
            Advice::root(format!("usermod --shell /usr/sbin/nologin {name}")),
        ));
    }

    for group in account
        .groups
        .iter()
        .filter(|group| POWERFUL.contains(&group.as_str()))
    {
        if *group == account.group {
            continue;
        }
        let found =
            format!("{name} is in group {group}: each service that runs as {name} has its rights");
        findings.push(fail(
            found,
            Advice::root(format!("gpasswd --delete {name} {group}")),
        ));
    }

    if account.group != name {
        let found = format!(
            "the group of {name} is {}, not one of its own",
            account.group
        );

        let command = format!("groupadd --system --force {name} && usermod --gid {name} {name}");
        findings.push(fail(found, Advice::root(command)));
    }

    if account.home != home && !no_login(&account.shell) {
        // An account that cannot log in never uses its home; the units set HOME for programs that
        // need it.
        let found = format!("the home of {name} is {}, not {home}", account.home);
        let advice = Advice::root(format!("usermod --home {home} {name}"))
            .after("when no process of it runs");
        findings.push(Finding::warn("users", found, advice));
    }

    findings
}

fn no_login(shell: &str) -> bool {
    shell.ends_with("/nologin") || shell.ends_with("/false")
}

/// Renames an account that belongs to a person, so that left4me can create its own.
fn another(account: &Account) -> Advice {
    let Account { name, uid, gid, .. } = account;
    if *uid == 0 {
        return Advice::from(
            "give this name back to left4me in /etc/passwd: no service may run as root",
        );
    }

    let owned = "/var/lib/left4me -xdev";
    let mut command = format!("{STOP} && usermod --login {name}-person {name}");

    if account.group == *name {
        command.push_str(&format!(" && groupmod --new-name {name}-person {name}"));
    }

    command.push_str(&format!(
        " && {MAKE} && find {owned} -uid {uid} -exec chown --no-dereference {name} {{}} + && \
         find {owned} -gid {gid} -exec chgrp --no-dereference {name} {{}} + && \
         systemd-tmpfiles --create left4me.conf && systemctl start left4me.target"
    ));

    Advice::root(command).after(format!(
        "end what else runs as {name}; the person keeps the account as {name}-person"
    ))
}

/// Whether an account has a password in shadow(5), or needs none.
fn has_password(shadow: &str, name: &str) -> bool {
    let hash = shadow.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(':')?
            .split(':')
            .next()
    });
    hash.is_some_and(|hash| !hash.starts_with(['!', '*']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Account {
        Account {
            name: LEFT4ME,
            uid: 997,
            gid: 997,
            group: LEFT4ME.to_owned(),
            shell: "/usr/sbin/nologin".to_owned(),
            home: "/var/lib/left4me".to_owned(),
            groups: vec![LEFT4ME.to_owned()],
        }
    }

    fn judged(account: &Account) -> Vec<(String, Option<String>)> {
        let findings = judge(account, "/var/lib/left4me", 999).into_iter();
        findings
            .map(|finding| (finding.found, finding.command))
            .collect()
    }

    #[test]
    fn a_system_account_without_login_is_good_and_a_persons_is_not() {
        assert_eq!(judged(&good()), []);

        let person = Account {
            uid: 1000,
            shell: "/bin/bash".to_owned(),
            home: "/home/left4me".to_owned(),
            groups: vec![LEFT4ME.to_owned(), "sudo".to_owned(), "games".to_owned()],
            ..good()
        };

        let found = judged(&person);

        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            found[0].0.contains("uid 1000")
                && found[0].1.as_ref().unwrap().contains("left4me-person")
        );

        assert!(found[1].0.contains("/bin/bash"));
        assert_eq!(found[2].1.as_deref(), Some("gpasswd --delete left4me sudo"));
        assert_eq!(judged(&Account { uid: 0, ..good() }).len(), 1);
        assert_eq!(
            judged(&Account {
                group: "users".to_owned(),
                ..good()
            })
            .len(),
            1
        );

        assert!(
            judged(&Account {
                shell: String::new(),
                ..good()
            })[0]
                .0
                .contains("login shell"),
            "it is /bin/sh"
        );
    }

    #[test]
    fn a_locked_password_is_none_and_an_empty_one_lets_everybody_in() {
        let shadow = "root:*:1::::::\nleft4me:!*:20000::::::\nleft4me-steam:$y$x:1::::::\nleft4me-game::1::::::\n";
        assert!(
            !has_password(shadow, LEFT4ME)
                && has_password(shadow, STEAM)
                && has_password(shadow, GAME)
        );
        assert_eq!(setting("#SYS_UID_MAX 1\nSYS_UID_MAX\t\t  499\n"), Some(499));
    }
}
