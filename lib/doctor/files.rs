//! Users, directories, sockets, settings: what sysusers.d, tmpfiles.d and the package put in place.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

use super::{Finding, proxy, quoted};
use crate::base::config::HandSockets;
use crate::base::files::kind;
use crate::base::users::{self, GAME, LEFT4ME, STEAM};
use crate::domain::steam;

/// Directories below the root as tmpfiles.d/left4me.conf has them: name, mode, user, group.
const DIRECTORIES: [(&str, u32, &str, &str); 10] = [
    // Were it writable for the group, a member could exchange whole directories.
    ("", 0o751, "root", LEFT4ME),
    ("db", 0o2770, LEFT4ME, LEFT4ME),
    ("installation", 0o755, STEAM, STEAM),
    ("steam", 0o755, STEAM, STEAM),
    ("workshop_cache", 0o755, STEAM, STEAM),
    ("overlays", 0o2770, LEFT4ME, LEFT4ME),
    ("instances", 0o711, LEFT4ME, LEFT4ME),
    ("runtime", 0o711, "root", "root"),
    ("tmp", 0o770, LEFT4ME, LEFT4ME),
    ("backups", 0o750, LEFT4ME, LEFT4ME),
];

/// Directories whose content has one owner, and how deep to look.
const OWNED_INSIDE: [(&str, u32, &str); 3] =
    [("instances", 5, LEFT4ME), ("installation", 1, STEAM), ("steam", 1, STEAM)];

pub(super) const TMPFILES: &str = "as root: systemd-tmpfiles --create left4me.conf";

/// The directory of all data that tmpfiles.d/left4me.conf knows.
const SHIPPED: &str = "/var/lib/left4me";

/// What systemd reads before it starts a server; without it none starts.
const ENVIRONMENTS: &str = "/run/left4me-servers";

/// The most entries that are looked at in one directory tree.
const MOST_ENTRIES: usize = 20_000;

pub(super) fn users() -> Vec<Finding> {
    let missing: Vec<&str> =
        [LEFT4ME, STEAM, GAME].into_iter().filter(|name| !matches!(User::from_name(name), Ok(Some(_)))).collect();
    vec![if missing.is_empty() {
        Finding::ok("users", [LEFT4ME, STEAM, GAME].join(", "))
    } else {
        Finding::fail("users", format!("missing: {}", missing.join(", ")), "as root: systemd-sysusers left4me.conf")
    }]
}

pub(super) fn directories(root: &Path) -> Vec<Finding> {
    let mut findings: Vec<Finding> = DIRECTORIES
        .iter()
        .map(|(name, mode, user, group)| {
            let path = root.join(name);
            let path = if name.is_empty() { root } else { &path };
            let check = format!("directory {}", if name.is_empty() { "LEFT4ME_ROOT" } else { name });
            // The one directory that may be a link is that of all data: its path comes from root's settings.
            match if name.is_empty() { path.metadata() } else { path.symlink_metadata() } {
                Ok(found) if !found.is_dir() => {
                    let what = kind(found.file_type());
                    let advice = format!("as root: rm {}, then {TMPFILES}", quoted(path));
                    Finding::fail(check, format!("{} is {what}, not a directory", path.display()), advice)
                }
                Ok(found) => owned(&check, path, &found, user, group, *mode),
                Err(error) => told(&check, path, &error),
            }
        })
        .collect();
    if root == Path::new(SHIPPED) {
        findings.push(match Path::new(ENVIRONMENTS).symlink_metadata() {
            Ok(found) => owned("directory servers", Path::new(ENVIRONMENTS), &found, "root", "root", 0o700),
            Err(error) => told("directory servers", Path::new(ENVIRONMENTS), &error),
        });
    }
    findings.extend(OWNED_INSIDE.iter().filter_map(|(name, depth, user)| foreign_inside(root, name, *depth, user)));
    findings
}

/// A finding when something below ROOT/NAME belongs to another user than it should.
fn foreign_inside(root: &Path, name: &str, depth: u32, user: &str) -> Option<Finding> {
    let owner = User::from_name(user).ok().flatten()?.uid.as_raw();
    let mut waiting = vec![(root.join(name), depth)];
    let (mut foreign, mut first, mut seen) = (0, None, 0);
    while let Some((dir, depth)) = waiting.pop() {
        // What cannot be read was told already, by the directory's own check.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            seen += 1;
            if found.uid() != owner {
                foreign += 1;
                first.get_or_insert(entry.path());
            }
            if found.is_dir() && depth > 1 && seen < MOST_ENTRIES {
                waiting.push((entry.path(), depth - 1));
            }
        }
    }
    let first = first?;
    Some(Finding::fail(
        format!("inside {name}"),
        format!("{foreign} entries do not belong to {user}, as {}", first.display()),
        format!("as root: chown -hR {user} {}", quoted(root.join(name))),
    ))
}

/// Whether owner, group and mode are as they should be.
pub(super) fn owned(check: &str, path: &Path, found: &Metadata, user: &str, group: &str, mode: u32) -> Finding {
    let is = (user_name(found.uid()), group_name(found.gid()), found.mode() & 0o7777);
    let text = format!("{} {}:{} {:04o}", path.display(), is.0, is.1, is.2);
    // A directory below one with the setgid bit has it too, unless somebody took it away: harmless.
    let inherited = if found.is_dir() { 0o2000 } else { 0 };
    if (is.0.as_str(), is.1.as_str(), is.2 & !inherited) == (user, group, mode & !inherited) && is.2 & mode == mode {
        return Finding::ok(check, text);
    }
    Finding::fail(check, format!("{text}, and should be {user}:{group} {mode:04o}"), mend(path, user, group, mode))
}

/// The command that gives a path its owner and mode. None follows a link that another user puts there meanwhile:
/// systemd-tmpfiles looks first, and chmod, which would follow one, has no more rights than the owner.
pub(super) fn mend(path: &Path, user: &str, group: &str, mode: u32) -> String {
    if path.starts_with(SHIPPED) || path.starts_with(ENVIRONMENTS) {
        return TMPFILES.to_owned();
    }
    let path = quoted(path);
    format!("as root: chown -h {user}:{group} {path} && sudo -u {user} chmod {mode:04o} {path}")
}

/// What the operating system said instead of letting us look.
pub(super) fn told(check: &str, path: &Path, error: &std::io::Error) -> Finding {
    match error.kind() {
        ErrorKind::NotFound => Finding::fail(check, format!("{} is missing", path.display()), TMPFILES),
        ErrorKind::PermissionDenied => {
            // Root looks as left4me: that one has to be let in.
            let is_left4me = users::uid(LEFT4ME) == Some(nix::unistd::geteuid());
            let advice = if is_left4me { "let user left4me in" } else { "run this as root" };
            Finding::warn(check, format!("{} cannot be looked at by this user", path.display()), advice)
        }
        _ => Finding::fail(check, format!("{}: {error}", path.display()), "see the message"),
    }
}

fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn group_name(gid: u32) -> String {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name)
}

/// The three sockets: files, owners, modes, and whether somebody listens.
pub(super) fn sockets(worker: &Path, hands: &HandSockets) -> Vec<Finding> {
    vec![
        socket("worker", worker, "root", 0o660),
        socket("helper", &hands.helper_socket, LEFT4ME, 0o600),
        socket("runner", &hands.runner_socket, LEFT4ME, 0o600),
    ]
}

/// The three sockets' files alone, for who cannot tell whose they are. Nobody is connected to: that would start a unit.
pub(super) fn socket_files(worker: &Path, hands: &HandSockets) -> Vec<Finding> {
    [("worker", worker), ("helper", &hands.helper_socket), ("runner", &hands.runner_socket)]
        .into_iter()
        .map(|(name, path)| match socket_file(name, path) {
            Ok(_) => Finding::ok(format!("socket {name}"), format!("{} is there", path.display())),
            Err(finding) => finding,
        })
        .collect()
}

fn socket_file(name: &str, path: &Path) -> Result<Metadata, Finding> {
    let check = format!("socket {name}");
    let start = format!("as root: systemctl restart left4me-{name}.socket");
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => Ok(found),
        Ok(_) => Err(Finding::fail(check, format!("{} is no socket", path.display()), start)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Finding::fail(check, format!("{} is missing", path.display()), start))
        }
        Err(error) => Err(told(&check, path, &error)),
    }
}

fn socket(name: &str, path: &Path, user: &str, mode: u32) -> Finding {
    let check = format!("socket {name}");
    let start = format!("as root: systemctl restart left4me-{name}.socket");
    let found = match socket_file(name, path) {
        Ok(found) => found,
        Err(finding) => return finding,
    };
    let finding = owned(&check, path, &found, user, LEFT4ME, mode);
    if finding.advice.is_some() {
        return Finding { advice: Some(start), ..finding };
    }
    // The worker's takes datagrams: a connection of another kind is refused with EPROTOTYPE when somebody listens. The
    // other two would start a unit each; that they listen is for the units' check.
    let nobody =
        name == "worker" && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if nobody { Finding::fail(check, format!("nobody listens on {}", path.display()), start) } else { finding }
}

/// The settings of this program were parsed before anything else; here are the names that no program reads.
pub(super) fn settings() -> Finding {
    let settings = Path::new("/etc/left4me/left4me.env");
    match std::fs::read_to_string(settings) {
        Ok(text) => steam_account(&text).unwrap_or_else(|| unknown_settings(&text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Finding::warn(
            "settings",
            format!("{} is missing: all defaults", settings.display()),
            "reinstall the package, or leave it so",
        ),
        Err(error) => told("settings", settings, &error),
    }
}

/// Whether the web front's proxy is one that it can trust; nothing where no settings name one.
pub(super) fn proxy_settings() -> Option<Finding> {
    proxy::check(&std::fs::read_to_string("/etc/left4me/left4me.env").ok()?)
}

/// Only root may look into its directory.
pub(super) fn sudoers() -> Finding {
    let sudoers = Path::new("/etc/sudoers.d/left4me");
    match sudoers.symlink_metadata() {
        Ok(found) => owned("sudoers", sudoers, &found, "root", "root", 0o440),
        Err(error) if error.kind() == ErrorKind::NotFound => Finding::fail(
            "sudoers",
            format!("{} is missing: group left4me cannot use l4d2ctl", sudoers.display()),
            "reinstall the package",
        ),
        Err(error) => told("sudoers", sudoers, &error),
    }
}

/// Every setting of every program.
const SETTINGS: [&str; 26] = [
    "LEFT4ME_ROOT",
    "LEFT4ME_DB",
    "LEFT4ME_STEAMCMD",
    "LEFT4ME_WORKER_SOCKET",
    "LEFT4ME_HELPER_SOCKET",
    "LEFT4ME_RUNNER_SOCKET",
    "LEFT4ME_WORKER_SLOTS",
    "LEFT4ME_WORKER_IDLE_SECONDS",
    "LEFT4ME_CANCEL_GRACE_SECONDS",
    "LEFT4ME_CLEAN_RETRY_SECONDS",
    "LEFT4ME_STEAM_RETRY_SECONDS",
    "LEFT4ME_STEAM_RATE_LIMIT_SECONDS",
    "LEFT4ME_STEAM_SILENCE_SECONDS",
    "LEFT4ME_STEAM_ACCOUNT",
    "LEFT4ME_POLL_SECONDS",
    "LEFT4ME_PORT_RANGE",
    "LEFT4ME_WEB_IDLE_SECONDS",
    "LEFT4ME_WEB_ORIGIN",
    "LEFT4ME_WEB_PROXIES",
    "LEFT4ME_WEB_PROXY_SECRET_FILE",
    "LEFT4ME_WEB_CONNECTIONS",
    "LEFT4ME_WEB_STREAMS_PER_USER",
    "LEFT4ME_SESSION_HOURS",
    "LEFT4ME_JOB_LOG_REPLAY_LIMIT",
    "LEFT4ME_LOG",
    "LEFT4ME_ENV_FILE",
];

/// What is no login name, each installation refuses; it may be a password, and is not repeated.
fn steam_account(text: &str) -> Option<Finding> {
    let line = text.lines().rev().find_map(|line| line.trim().strip_prefix("LEFT4ME_STEAM_ACCOUNT="))?;
    let why = steam::account(line.trim().trim_matches(['"', '\''])).err()?;
    let advice = "correct the line in /etc/left4me/left4me.env";
    Some(Finding::fail("settings", why, advice))
}

fn unknown_settings(text: &str) -> Finding {
    let names =
        text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])).filter_map(|line| line.split_once('='));
    let names: Vec<&str> = names.map(|(name, _)| name.trim()).collect();
    let unknown: Vec<&str> =
        names.iter().filter(|name| name.starts_with("LEFT4ME_") && !SETTINGS.contains(name)).copied().collect();
    if unknown.is_empty() {
        return Finding::ok("settings", format!("{} set, all others as by default", names.len()));
    }
    Finding::warn(
        "settings",
        format!("nobody reads {}", unknown.join(", ")),
        "correct the name in /etc/left4me/left4me.env",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn a_steam_account_is_a_name_and_what_is_none_is_not_repeated() {
        for good in ["", "LEFT4ME_STEAM_ACCOUNT=", "LEFT4ME_STEAM_ACCOUNT=\"anna_7\"", "#LEFT4ME_STEAM_ACCOUNT=a b"] {
            assert_eq!(steam_account(good), None, "{good}");
        }
        let finding = steam_account("LEFT4ME_STEAM_ACCOUNT=anna hunter2\n").unwrap();
        assert!(finding.severity == Severity::Fail && !finding.found.contains("hunter2"), "{finding:?}");
    }

    #[test]
    fn a_setting_that_nobody_reads_is_named_and_comments_are_not() {
        assert_eq!(unknown_settings("# LEFT4ME_OLD=1\nLEFT4ME_LOG=info\nTZ=UTC\n").severity, Severity::Ok);
        let finding = unknown_settings("LEFT4ME_PORTRANGE=1-2\n");
        assert!(finding.severity == Severity::Warn && finding.found.contains("LEFT4ME_PORTRANGE"));
    }

    #[test]
    fn every_setting_that_the_shipped_file_describes_is_known() {
        // Each stands there commented out, with its default.
        let described = include_str!("../../deploy/left4me.env").lines().filter(|line| line.starts_with("#LEFT4ME_"));
        let set: String = described.map(|line| format!("{}\n", &line[1..])).collect();
        assert!(set.lines().count() >= 18, "{set}");
        let finding = unknown_settings(&set);
        assert_eq!(finding.severity, Severity::Ok, "{}", finding.found);
    }

    #[test]
    fn a_setgid_bit_may_be_inherited_but_not_missing() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let judged = |has: u32, needs: u32| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(has)).unwrap();
            let found = dir.path().metadata().unwrap();
            let (user, group) = (user_name(found.uid()), group_name(found.gid()));
            owned("x", dir.path(), &found, &user, &group, needs).severity
        };
        assert_eq!([judged(0o2755, 0o755), judged(0o2750, 0o2750)], [Severity::Ok; 2]);
        assert_eq!([judged(0o750, 0o2750), judged(0o777, 0o755)], [Severity::Fail; 2]);
    }

    #[test]
    fn a_wrong_mode_is_told_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let found = dir.path().metadata().unwrap();
        let finding = owned("x", dir.path(), &found, "nobody-like-that", "nogroup", 0o2775);
        assert_eq!(finding.severity, Severity::Fail);
        let advice = finding.advice.unwrap();
        assert!(
            advice.contains("chown -h nobody") && advice.contains("sudo -u nobody-like-that chmod 2775"),
            "{advice}"
        );
        assert_eq!(mend(Path::new("/var/lib/left4me/db"), LEFT4ME, LEFT4ME, 0o2770), TMPFILES);
    }
}
