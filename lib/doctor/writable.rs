//! Checks whether the services can write. It writes a file without a name (O_TMPFILE), and takes
//! and releases the write lock of the database.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use nix::unistd::geteuid;

use super::Finding;
use super::finding::{Advice, quoted};
use crate::base::users::{self, LEFT4ME};
use crate::db::maintenance;
use crate::process::mounts;

/// Where user left4me writes, in LEFT4ME_ROOT.
const OURS: [&str; 5] = ["db", "instances", "tmp", "overlays", "backups"];

/// Where root and left4me-steam write, in LEFT4ME_ROOT.
const THEIRS: [&str; 5] = [
    "runtime",
    "installation",
    "builds",
    "steam",
    "workshop_cache",
];

/// What is written. A few bytes would not do: ext4 keeps them in the inode and uses no block for
/// them.
const BYTES: [u8; 8192] = [0x6c; 8192];

/// The result of trying to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteResult {
    Written,
    ReadOnly,
    NoRoom,
    NoInodes,
    Quota,
    Refused,
    Failed(Errno),
    /// The directory is missing or is another kind of file; the check of the directories reports
    /// that.
    Missing,
}

/// Checks whether each of the services' directories can be written.
pub(super) fn check(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Several directories usually share a file system; its problem is reported once.
    let mut told: Vec<(PathBuf, WriteResult)> = Vec::new();

    let is_left4me = geteuid().is_root() || users::uid(LEFT4ME) == Some(geteuid());
    for (name, tried) in tries(root, is_left4me) {
        let path = root.join(name);
        let mount = mount_of(&path);

        let by_mount = matches!(
            tried,
            WriteResult::ReadOnly
                | WriteResult::NoRoom
                | WriteResult::NoInodes
                | WriteResult::Quota
        );

        if by_mount && told.contains(&(mount.clone(), tried)) {
            continue;
        }

        if let Some(finding) = finding(&path, &mount, tried) {
            told.push((mount, tried));
            findings.push(finding);
        }
    }

    match (findings.is_empty(), is_left4me) {
        (true, true) => findings.push(Finding::ok(
            "writing",
            "each directory of the services can be written",
        )),
        (_, false) => findings.push(Finding::skip(
            "writing",
            "needs root (`sudo left4me doctor`)",
        )),
        _ => {}
    }

    findings
}

/// The directories, each with its result. A directory of another user is judged by its file system
/// alone.
fn tries<'a>(
    root: &'a Path,
    is_left4me: bool,
) -> impl Iterator<Item = (&'static str, WriteResult)> + 'a {
    let ours = OURS.into_iter().map(move |name| {
        let path = root.join(name);
        (
            name,
            if is_left4me {
                try_in(&path)
            } else {
                by_file_system(&path)
            },
        )
    });

    ours.chain(
        THEIRS
            .into_iter()
            .map(|name| (name, by_file_system(&root.join(name)))),
    )
}

fn finding(path: &Path, mount: &Path, tried: WriteResult) -> Option<Finding> {
    let (shown, on) = (path.display(), mount.display());
    let fail = |found: String, advice: Advice| Some(Finding::fail("writing", found, advice));
    match tried {
        WriteResult::Written | WriteResult::Missing => None,
        WriteResult::ReadOnly => {
            let advice = Advice::root(format!("mount -o remount,rw {}", quoted(mount))).after(
                "see why in `journalctl -k` (after errors of \
                 a disk the kernel makes its file systems so)",
            );

            fail(
                format!("{on} is mounted read-only: nothing can be written in {shown}"),
                advice,
            )
        }
        WriteResult::NoRoom => {
            let advice = format!(
                "make room in {on}: `du -xh --max-depth=2 {} | sort -h | tail`",
                quoted(mount)
            );

            fail(
                format!("the file system at {on} is full: nothing can be written in {shown}"),
                advice.into(),
            )
        }
        WriteResult::NoInodes => {
            let advice = format!(
                "delete files in {on}, however small: \
                 `du -x --inodes --max-depth=2 {} | sort -n | tail`",
                quoted(mount)
            );

            fail(
                format!(
                    "the file system at {on} has no inodes left: no file can be made in {shown}"
                ),
                advice.into(),
            )
        }
        WriteResult::Quota => {
            let advice = format!("raise the quota of user {LEFT4ME} at {on}");
            fail(
                format!("the disk quota of user {LEFT4ME} at {on} is used up"),
                advice.into(),
            )
        }
        WriteResult::Refused => {
            let advice = "see the findings about directories; \
                          then whether AppArmor or another policy forbids it (`journalctl -k`)";
            fail(
                format!("user {LEFT4ME} may not write in {shown}"),
                advice.into(),
            )
        }
        WriteResult::Failed(errno) => {
            let advice = "see `journalctl -k` for what the disk or its driver says";
            fail(
                format!("nothing can be written in {shown}: {}", errno.desc()),
                advice.into(),
            )
        }
    }
}

/// Writes a few bytes into a file without a name: nothing is left when this process ends.
fn try_in(directory: &Path) -> WriteResult {
    if !directory
        .symlink_metadata()
        .is_ok_and(|found| found.is_dir())
    {
        return WriteResult::Missing;
    }

    let mut options = std::fs::OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_TMPFILE);

    let written = options
        .open(directory)
        .and_then(|mut file| file.write_all(&BYTES));
    let Err(error) = written else {
        return WriteResult::Written;
    };
    match error.raw_os_error().map(Errno::from_raw) {
        // A file system without such files, for example NFS.
        Some(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => by_file_system(directory),
        Some(Errno::EROFS) => WriteResult::ReadOnly,
        Some(Errno::ENOSPC) if statvfs(directory).is_ok_and(|found| is_without_inodes(&found)) => {
            WriteResult::NoInodes
        }
        Some(Errno::ENOSPC) => WriteResult::NoRoom,
        Some(Errno::EDQUOT) => WriteResult::Quota,
        Some(Errno::EACCES | Errno::EPERM) => WriteResult::Refused,
        Some(errno) => WriteResult::Failed(errno),
        None if error.kind() == ErrorKind::WriteZero => WriteResult::NoRoom,
        None => WriteResult::Failed(Errno::EIO),
    }
}

/// Judges by what the file system reports.
fn by_file_system(directory: &Path) -> WriteResult {
    match statvfs(directory) {
        Ok(found) if found.flags().contains(FsFlags::ST_RDONLY) => WriteResult::ReadOnly,
        Ok(found) if is_without_inodes(&found) => WriteResult::NoInodes,
        Ok(found) if found.blocks() > 0 && found.blocks_available() == 0 => WriteResult::NoRoom,
        Ok(_) => WriteResult::Written,
        Err(_) => WriteResult::Missing,
    }
}

/// Whether a file system has no fixed number of inodes. Such file systems report 0 inodes in total.
fn is_without_inodes(found: &Statvfs) -> bool {
    found.files() > 0 && found.files_available() == 0
}

/// The mount point of a path's file system.
fn mount_of(path: &Path) -> PathBuf {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    mounts::of(&path)
        .ok()
        .flatten()
        .map(|mount| mount.point)
        .unwrap_or_default()
}

/// Checks whether the database can be written, by taking and releasing its write lock. None if
/// another check has reported that its directory cannot be written.
pub(super) fn database(path: &Path) -> Option<Finding> {
    let check = "database writing";
    match maintenance::take_lock(path) {
        Ok(maintenance::Lock::Free) => Some(Finding::ok(
            check,
            "its write lock was taken, and given back",
        )),
        Ok(maintenance::Lock::Busy) => Some(Finding::ok(check, "another program is writing")),
        Ok(maintenance::Lock::Unused) => None,
        Err(error) => {
            let advice = "see the findings about writing and about the database's owner";
            Some(Finding::fail(check, error.to_string(), advice))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_leaves_nothing_and_its_end_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(try_in(dir.path()), WriteResult::Written);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(try_in(&dir.path().join("missing")), WriteResult::Missing);
        assert!(dir.path().starts_with(mount_of(dir.path())));
        assert_eq!(mount_of(Path::new("/proc/self")), Path::new("/proc"));
    }

    #[test]
    fn each_end_is_told_as_what_it_is_with_the_mount() {
        let found_for = |tried| finding(Path::new("/data/tmp"), Path::new("/data"), tried).unwrap();
        let found = found_for(WriteResult::ReadOnly);
        assert!(
            found.found.contains("/data is mounted read-only")
                && found.command.unwrap().ends_with("rw /data")
        );

        assert!(
            found_for(WriteResult::NoRoom)
                .found
                .contains("/data is full")
        );
        assert!(found_for(WriteResult::NoInodes).found.contains("no inodes"));
        assert!(
            found_for(WriteResult::Failed(Errno::EIO))
                .found
                .contains("I/O error")
        );
        assert_eq!(
            finding(Path::new("/x"), Path::new("/"), WriteResult::Written),
            None
        );
    }
}
