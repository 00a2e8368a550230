//! Checks the directories and the sudoers file that tmpfiles.d and the package create.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

use super::Finding;
use super::finding::{Advice, quoted};
use super::units::REINSTALL;
use crate::base::files::kind;
use crate::base::users::{self, LEFT4ME, STEAM};

/// Directories below the data directory, as in tmpfiles.d/left4me.conf: name, mode, user, group.
const DIRECTORIES: [(&str, u32, &str, &str); 11] = [
    // If the group could write here, a member could replace whole directories.
    ("", 0o751, "root", LEFT4ME),
    ("db", 0o2770, LEFT4ME, LEFT4ME),
    ("installation", 0o755, STEAM, STEAM),
    ("builds", 0o755, STEAM, STEAM),
    ("steam", 0o755, STEAM, STEAM),
    ("workshop_cache", 0o755, STEAM, STEAM),
    ("overlays", 0o2770, LEFT4ME, LEFT4ME),
    ("instances", 0o711, LEFT4ME, LEFT4ME),
    ("runtime", 0o711, "root", "root"),
    ("tmp", 0o770, LEFT4ME, LEFT4ME),
    ("backups", 0o750, LEFT4ME, LEFT4ME),
];

/// Directories in which all files have one owner: name, depth to check, owner.
const OWNED_INSIDE: [(&str, u32, &str); 4] = [
    ("instances", 5, LEFT4ME),
    ("installation", 1, STEAM),
    ("builds", 2, STEAM),
    ("steam", 1, STEAM),
];

pub(super) const TMPFILES: &str = "systemd-tmpfiles --create left4me.conf";

/// The data directory that tmpfiles.d/left4me.conf creates.
const SHIPPED: &str = "/var/lib/left4me";

/// Directories in /run that belong to root: the one that systemd reads before it starts a server,
/// and the root directories of the poller and the web front, of the helper, of the console, of left4me-notify, and of
/// the servers. None of these starts without its directory.
const IN_RUN: [(&str, &str, u32); 6] = [
    ("servers", "/run/left4me-servers", 0o700),
    ("web root", "/run/left4me-root", 0o755),
    ("helper root", "/run/left4me-helper-root", 0o755),
    ("console root", "/run/left4me-console-root", 0o755),
    ("notify root", "/run/left4me-notify-root", 0o755),
    ("game root", "/run/left4me-game-root", 0o755),
];

/// The largest number of entries that are checked in one directory tree.
const MOST_ENTRIES: usize = 20_000;

pub(super) fn directories(root: &Path) -> Vec<Finding> {
    let mut findings: Vec<Finding> = DIRECTORIES
        .iter()
        .map(|(name, mode, user, group)| {
            let path = root.join(name);
            let path = if name.is_empty() { root } else { &path };

            let check = format!(
                "directory {}",
                if name.is_empty() {
                    "LEFT4ME_ROOT"
                } else {
                    name
                }
            );

            // Only the data directory itself may be a symbolic link: its path comes from root's
            // settings.
            match if name.is_empty() {
                path.metadata()
            } else {
                path.symlink_metadata()
            } {
                Ok(found) if !found.is_dir() => {
                    let what = kind(found.file_type());
                    let advice = Advice::root(format!(
                        "rm {} && {}",
                        quoted(path),
                        make(path, user, group, *mode)
                    ));

                    Finding::fail(
                        check,
                        format!("{} is {what}, not a directory", path.display()),
                        advice,
                    )
                }
                Ok(found) => owned(&check, path, &found, user, group, *mode),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let advice = Advice::root(make(path, user, group, *mode));
                    Finding::fail(check, format!("{} is missing", path.display()), advice)
                }
                Err(error) => io_finding(&check, path, &error),
            }
        })
        .collect();

    if root == Path::new(SHIPPED) {
        findings.extend(IN_RUN.iter().map(|(name, path, mode)| {
            let (check, path) = (format!("directory {name}"), Path::new(path));
            match path.symlink_metadata() {
                Ok(found) => owned(&check, path, &found, "root", "root", *mode),
                Err(error) => io_finding(&check, path, &error),
            }
        }));
    }

    findings.extend(
        OWNED_INSIDE
            .iter()
            .filter_map(|(name, depth, user)| foreign_inside(root, name, *depth, user)),
    );

    findings
}

/// Reports entries below ROOT/NAME that do not belong to `user`.
fn foreign_inside(root: &Path, name: &str, depth: u32, user: &str) -> Option<Finding> {
    let owner = User::from_name(user).ok().flatten()?.uid.as_raw();
    let mut waiting = vec![(root.join(name), depth)];

    let (mut foreign, mut first, mut seen) = (0, None, 0);
    while let Some((dir, depth)) = waiting.pop() {
        // The check of the directory itself has already reported what cannot be read.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
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
        format!(
            "{foreign} entries do not belong to {user}, as {}",
            first.display()
        ),
        Advice::root(format!("chown -hR {user} {}", quoted(root.join(name)))),
    ))
}

/// Checks owner, group and mode.
pub(super) fn owned(
    check: &str,
    path: &Path,
    found: &Metadata,
    user: &str,
    group: &str,
    mode: u32,
) -> Finding {
    let is = (
        user_name(found.uid()),
        group_name(found.gid()),
        found.mode() & 0o7777,
    );

    let text = format!("{} {}:{} {:04o}", path.display(), is.0, is.1, is.2);

    // A directory below one with the setgid bit inherits the bit. It may also have been removed;
    // both are harmless.
    let inherited = if found.is_dir() { 0o2000 } else { 0 };
    if (is.0.as_str(), is.1.as_str(), is.2 & !inherited) == (user, group, mode & !inherited)
        && is.2 & mode == mode
    {
        return Finding::ok(check, text);
    }

    Finding::fail(
        check,
        format!("{text}, and should be {user}:{group} {mode:04o}"),
        repair(path, user, group, mode),
    )
}

/// The command that sets a path's owner and mode. It cannot follow a link that another user puts
/// there meanwhile: systemd-tmpfiles checks for links. chmod would follow one, but runs with the
/// owner's rights only.
pub(super) fn repair(path: &Path, user: &str, group: &str, mode: u32) -> Advice {
    if is_shipped(path) {
        return Advice::root(TMPFILES);
    }
    let path = quoted(path);
    Advice::root(format!(
        "chown -h {user}:{group} {path} && sudo -u {user} chmod {mode:04o} {path}"
    ))
}

/// Whether tmpfiles.d/left4me.conf creates a path.
fn is_shipped(path: &Path) -> bool {
    path.starts_with(SHIPPED) || IN_RUN.iter().any(|(_, ours, _)| path.starts_with(ours))
}

/// The command that creates a directory.
fn make(path: &Path, user: &str, group: &str, mode: u32) -> String {
    if is_shipped(path) {
        return TMPFILES.to_owned();
    }
    format!(
        "install -d -o {user} -g {group} -m {mode:04o} {}",
        quoted(path)
    )
}

/// The finding for an error of the operating system while checking a path.
pub(super) fn io_finding(check: &str, path: &Path, error: &std::io::Error) -> Finding {
    match error.kind() {
        ErrorKind::NotFound => Finding::fail(
            check,
            format!("{} is missing", path.display()),
            Advice::root(TMPFILES),
        ),
        ErrorKind::PermissionDenied => {
            // Root checks as user left4me, so that user must have access.
            let is_left4me = users::uid(LEFT4ME) == Some(nix::unistd::geteuid());
            if !is_left4me {
                return Finding::skip(
                    check,
                    format!("{} needs root (`sudo left4me doctor`)", path.display()),
                );
            }

            let closed = path
                .ancestors()
                .skip(1)
                .find(|above| above.read_dir().is_ok())
                .unwrap_or(path);
            let advice = format!(
                "let user left4me pass through each directory below {}",
                closed.display()
            );

            Finding::warn(
                check,
                format!("{} cannot be accessed by user left4me", path.display()),
                advice,
            )
        }
        _ => {
            let advice = "see `journalctl -k` for what the disk or its driver says";
            Finding::fail(check, format!("{}: {error}", path.display()), advice)
        }
    }
}

fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name)
}

fn group_name(gid: u32) -> String {
    Group::from_gid(Gid::from_raw(gid))
        .ok()
        .flatten()
        .map_or_else(|| gid.to_string(), |group| group.name)
}

/// Checks the sudoers file. Only root may read its directory.
pub(super) fn sudoers() -> Finding {
    let sudoers = Path::new("/etc/sudoers.d/left4me");
    match sudoers.symlink_metadata() {
        Ok(found) => owned("sudoers", sudoers, &found, "root", "root", 0o440),
        Err(error) if error.kind() == ErrorKind::NotFound => Finding::fail(
            "sudoers",
            format!(
                "{} is missing: group left4me cannot use l4d2ctl",
                sudoers.display()
            ),
            Advice::root(REINSTALL).after("in the directory of the package's file"),
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Finding::skip("sudoers", "needs root (`sudo left4me doctor`)")
        }
        Err(error) => io_finding("sudoers", sudoers, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

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

        assert_eq!(
            [judged(0o2755, 0o755), judged(0o2750, 0o2750)],
            [Severity::Ok; 2]
        );

        assert_eq!(
            [judged(0o750, 0o2750), judged(0o777, 0o755)],
            [Severity::Fail; 2]
        );
    }

    #[test]
    fn a_wrong_mode_is_told_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let found = dir.path().metadata().unwrap();
        let finding = owned(
            "x",
            dir.path(),
            &found,
            "nobody-like-that",
            "nogroup",
            0o2775,
        );

        assert_eq!(finding.severity, Severity::Fail);

        let advice = finding.advice.unwrap();
        assert!(
            advice.contains("chown -h nobody")
                && advice.contains("sudo -u nobody-like-that chmod 2775"),
            "{advice}"
        );

        assert_eq!(
            repair(Path::new("/var/lib/left4me/db"), LEFT4ME, LEFT4ME, 0o2770),
            Advice::root(TMPFILES)
        );
    }
}
