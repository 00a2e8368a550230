//! Where a backup comes to lie: a name in a directory that is open. The file is made under another name beside it, and
//! gets its own when it is whole.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, open, openat, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, linkat, unlinkat};

use super::{dated, unusable, walk};
use crate::base::{Error, Result, output};

/// A name in an open directory.
pub(super) struct Place {
    directory: OwnedFd,
    /// For messages, and for SQLite, which takes no descriptor.
    path: PathBuf,
    name: OsString,
}

/// The directory of the backups that have no name of their own.
pub(super) struct Backups {
    directory: OwnedFd,
    path: PathBuf,
}

/// A file that is being made.
pub(super) struct Part<'a> {
    place: &'a Place,
    file: File,
    /// Its name while it is made; nothing when it has its own, or is gone.
    name: Option<OsString>,
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

impl Backups {
    /// ROOT/backups, made when it is missing.
    pub(super) fn in_root(root: &Path) -> Result<Self> {
        let path = root.join("backups");
        match std::fs::DirBuilder::new().mode(0o750).create(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(unusable(&path, error)),
            _ => {}
        }
        // A link that root made, in a directory that root alone can write, leads to root's choice of a disk.
        let follow = if is_roots_link(root, &path) { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let directory = open(&path, DIRECTORY | follow, Mode::empty());
        let directory = directory.map_err(|errno| unusable(&path, errno.into()))?;
        Ok(Self { directory, path })
    }

    /// A name with the date, for people, and the next number, which no clock that is set back takes back.
    pub(super) fn unused(self, prefix: &str, now: i64) -> Result<Place> {
        let failed = |errno: Errno| unusable(&self.path, errno.into());
        let newest = saved(&self.directory).map_err(failed)?.into_iter().map(|(number, _)| number).max();
        let name = OsString::from(dated(prefix, now, newest.unwrap_or(0).saturating_add(1)));
        Ok(Place { path: self.path.join(&name), directory: self.directory, name })
    }
}

fn is_roots_link(root: &Path, path: &Path) -> bool {
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink() && found.uid() == 0);
    is_link && root.symlink_metadata().is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
}

impl Place {
    /// A file that was named, with the rights of the user who named it.
    pub(super) fn named(file: &Path) -> Result<Self> {
        Self::at(file, |directory| {
            open(directory, DIRECTORY, Mode::empty()).map_err(|errno| unusable(directory, errno.into()))
        })
    }

    /// A file that was named, for root: no link on the way is followed.
    pub(super) fn walked(file: &Path) -> Result<Self> {
        Self::at(file, walk)
    }

    fn at(file: &Path, reach: impl FnOnce(&Path) -> Result<OwnedFd>) -> Result<Self> {
        let path = std::path::absolute(file)?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::usage(format!("{} cannot be a file", file.display())));
        };
        Ok(Self { directory: reach(directory)?, name: name.to_owned(), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// 4 when something has the name already, be it a link.
    pub(super) fn must_be_free(&self) -> Result<()> {
        match look(&self.directory, &self.name) {
            Err(Errno::ENOENT) => Ok(()),
            Ok(_) => Err(self.exists()),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Whether the directory belongs to `user`.
    pub(super) fn belongs_to(&self, user: Uid) -> Result<bool> {
        Ok(fstat(&self.directory).map_err(|errno| self.failed(errno))?.st_uid == user.as_raw())
    }

    /// A new, empty file beside the place.
    pub(super) fn part(&self) -> Result<Part<'_>> {
        let name = [b".", self.name.as_bytes(), format!(".{}.part", std::process::id()).as_bytes()].concat();
        let name = OsString::from_vec(name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, name.as_os_str(), flags, Mode::from_bits_truncate(0o640));
        let file = File::from(file.map_err(|errno| self.failed(errno))?);
        let part = Part { place: self, file, name: Some(name) };
        part.file.set_permissions(std::fs::Permissions::from_mode(0o640))?;
        Ok(part)
    }

    /// Removes all but the newest of what backups without a name left in this directory, and never this one.
    pub(super) fn prune(&self, keep: u32) -> Result<()> {
        let mut others = saved(&self.directory).map_err(|errno| self.failed(errno))?;
        others.retain(|(_, name)| name.as_bytes() != self.name.as_bytes());
        // By their numbers; those from before there were numbers come first, by the dates in their names.
        others.sort_unstable();
        let besides = usize::try_from(keep).unwrap_or(usize::MAX).saturating_sub(1);
        let old = others.len().saturating_sub(besides);

        for (_, name) in &others[..old] {
            unlinkat(&self.directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
                .map_err(|errno| self.failed(errno))?;
            let path = self.path.with_file_name(OsStr::from_bytes(name.as_bytes()));
            output::line(&format!("{} removed", path.display()))?;
        }
        Ok(())
    }

    fn exists(&self) -> Error {
        Error::conflict(format!("{} exists and is not overwritten: name another file", self.path.display()))
    }

    fn failed(&self, errno: Errno) -> Error {
        unusable(&self.path, errno.into())
    }
}

impl Part<'_> {
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where it is, for SQLite.
    pub(super) fn path(&self) -> PathBuf {
        self.place.path.with_file_name(self.name.as_deref().unwrap_or_default())
    }

    /// What root saves in a directory of `owner` is for `owner`.
    pub(super) fn give_to(&self, owner: (Uid, Gid)) -> Result<()> {
        fchown(&self.file, Some(owner.0), Some(owner.1)).map_err(|errno| self.place.failed(errno))
    }

    /// # Errors
    /// 1 when another file has its name now: who else may write in the directory has exchanged it.
    pub(super) fn must_be_itself(&self) -> Result<()> {
        self.is_at(self.name.as_deref().unwrap_or_default())
    }

    fn is_at(&self, name: &OsStr) -> Result<()> {
        let own = self.file.metadata()?;
        let there = look(&self.place.directory, name);
        if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (own.dev(), own.ino())) {
            return Ok(());
        }
        let directory = self.place.path.parent().unwrap_or(&self.place.path);
        Err(Error::failed(format!(
            "another process exchanged the backup's file in {} meanwhile: save to a directory of your own",
            directory.display()
        )))
    }

    /// Gives it its name, durably. Gives its size.
    pub(super) fn settle(mut self) -> Result<u64> {
        self.file.sync_all()?;
        self.must_be_itself()?;
        let Some(name) = self.name.clone() else { return Err(self.place.failed(Errno::ENOENT)) };
        self.name_it(&name)?;
        self.name = None;
        self.is_at(&self.place.name)?;

        let failed = |errno| self.place.failed(errno);
        let directory = openat(&self.place.directory, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        File::from(directory).sync_all()?;
        Ok(self.file.metadata()?.len())
    }

    fn name_it(&self, from: &OsStr) -> Result<()> {
        let (directory, to) = (self.place.directory.as_fd(), self.place.name.as_os_str());
        let named = match renameat2(directory, from, directory, to, RenameFlags::RENAME_NOREPLACE) {
            // A file system that cannot do that can still link, which does not overwrite either.
            Err(Errno::EINVAL | Errno::ENOSYS) => linkat(directory, from, directory, to, LinkatFlags::empty())
                .and_then(|()| unlinkat(directory, from, UnlinkatFlags::NoRemoveDir)),
            named => named,
        };
        named.map_err(|errno| if errno == Errno::EEXIST { self.place.exists() } else { self.place.failed(errno) })
    }

    /// Removes it.
    pub(super) fn discard(&mut self) {
        if let Some(name) = self.name.take() {
            // A file that is gone already needs no removal.
            unlinkat(&self.place.directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir).ok();
        }
    }
}

impl Drop for Part<'_> {
    /// A copy that failed leaves nothing.
    fn drop(&mut self) {
        self.discard();
    }
}

fn look(directory: &OwnedFd, name: &OsStr) -> nix::Result<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The backups without a name of their own in a directory, with their numbers.
fn saved(directory: &OwnedFd) -> nix::Result<Vec<(u64, CString)>> {
    let again = openat(directory, ".", DIRECTORY, Mode::empty())?;
    let mut listing = nix::dir::Dir::from_fd(again)?;
    let mut saved = Vec::new();
    for entry in listing.iter() {
        let name = entry?.file_name().to_owned();
        let is_regular = look(directory, OsStr::from_bytes(name.as_bytes())).is_ok_and(|found| is_file(&found));
        if let Some(number) = name.to_str().ok().and_then(number).filter(|_| is_regular) {
            saved.push((number, name));
        }
    }
    Ok(saved)
}

fn is_file(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
}

/// The number in `left4me-20261120-214407-12.db`; 0 without one, as versions before 0.2 named them.
fn number(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("left4me-")?.strip_suffix(".db")?;
    let (stamp, number) = rest.split_at_checked(15)?;
    let is_stamp =
        stamp.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'-' } else { byte.is_ascii_digit() });
    if !is_stamp {
        return None;
    }
    match number.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        None if number.is_empty() => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_that_backup_itself_names_are_ever_removed() {
        assert_eq!(number("left4me-20261120-214407.db"), Some(0));
        assert_eq!(number("left4me-20261120-214407-12.db"), Some(12));
        for other in [
            "left4me-precious.db",
            "left4me-20261120-214407.db.gz",
            "left4me-20261120x214407.db",
            "left4me-20261120-214407-.db",
            "left4me-20261120-214407-x.db",
            "left4me-20261120-214407x1.db",
            "left4me.db",
            "left4me-20261120-21440ä.db",
            "",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn pruning_counts_and_removes_regular_files_only() {
        let root = tempfile::tempdir().unwrap();
        let place = Backups::in_root(root.path()).unwrap().unused("", 1_000_000).unwrap();
        let at = |name: &str| root.path().join("backups").join(name);
        std::fs::write(root.path().join("kept"), "x").unwrap();
        symlink(root.path().join("kept"), at("left4me-20010101-000000.db")).unwrap();
        std::fs::create_dir(at("left4me-20020101-000000.db")).unwrap();
        for name in ["left4me-20030101-000000.db", "left4me-20040101-000000.db"] {
            std::fs::write(at(name), "x").unwrap();
        }
        place.prune(2).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(at("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["left4me-20010101-000000.db", "left4me-20020101-000000.db", "left4me-20040101-000000.db"]);
        assert!(root.path().join("kept").exists());
    }

    #[test]
    fn a_clock_that_is_set_back_takes_neither_the_order_nor_the_new_backup() {
        let root = tempfile::tempdir().unwrap();
        let made = |now: i64| {
            let place = Backups::in_root(root.path()).unwrap().unused("", now).unwrap();
            std::fs::write(place.path(), "x").unwrap();
            place
        };
        // In 2033, then, the clock set right, twice in one second of 2001.
        let names = [2_000_000_000_000, 1_000_000_000_000, 1_000_000_000_000].map(|now| made(now).name);
        let newest = made(999_999_999_000);
        newest.prune(2).unwrap();
        assert!(newest.path().exists(), "what this run made is never removed");
        let is_there = |name: &OsString| root.path().join("backups").join(name).exists();
        assert_eq!(names.each_ref().map(is_there), [false, false, true], "{names:?}: the order is that of making");
    }

    #[test]
    fn a_file_that_was_exchanged_while_it_was_made_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().canonicalize().unwrap().join("saved.db");
        let place = Place::walked(&file).unwrap();
        let part = place.part().unwrap();
        std::fs::remove_file(part.path()).unwrap();
        std::fs::write(part.path(), "another's").unwrap();
        assert!(part.settle().unwrap_err().to_string().contains("exchanged"));
        assert!(!file.exists());
    }

    #[test]
    fn a_link_on_the_way_or_in_the_files_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        symlink("real", dir.join("link")).unwrap();
        symlink(dir.join("elsewhere"), dir.join("real/saved.db")).unwrap();
        let error = Place::walked(&dir.join("link/x.db")).err().expect("refused").to_string();
        assert!(error.contains("name the real path"), "{error}");
        assert_eq!(Place::walked(&dir.join("real/saved.db")).unwrap().must_be_free().unwrap_err().exit.code(), 4);
        assert!(Place::named(&dir.join("link/x.db")).is_ok(), "with one's own rights it is");
    }
}
