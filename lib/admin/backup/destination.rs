//! The destination of a backup: a name in an open directory. The file is written under a temporary
//! name beside it, and renamed when it is complete.

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
pub(super) struct Destination {
    directory: OwnedFd,
    /// For messages, and for SQLite, which cannot open a descriptor.
    path: PathBuf,
    name: OsString,
}

/// The directory of the numbered backups.
pub(super) struct Backups {
    directory: OwnedFd,
    path: PathBuf,
}

/// A backup that is being written; removed on drop unless published.
pub(super) struct PartialFile<'a> {
    destination: &'a Destination,
    file: File,
    /// Its temporary name; none once it is published or removed.
    name: Option<OsString>,
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

impl Backups {
    /// Opens ROOT/backups; creates it if it is missing.
    pub(super) fn in_root(root: &Path) -> Result<Self> {
        let path = root.join("backups");
        match std::fs::DirBuilder::new().mode(0o750).create(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(unusable(&path, error));
            }
            _ => {}
        }

        // Root may link the directory to another disk, where only root can change the link.
        let follow = if is_roots_link(root, &path) {
            OFlag::empty()
        } else {
            OFlag::O_NOFOLLOW
        };

        let directory = open(&path, DIRECTORY | follow, Mode::empty());
        let directory = directory.map_err(|errno| unusable(&path, errno.into()))?;

        Ok(Self { directory, path })
    }

    /// A name with the date, and with the next number, which keeps the order if the clock is set
    /// back.
    pub(super) fn unused(self, prefix: &str, now: i64) -> Result<Destination> {
        let failed = |errno: Errno| unusable(&self.path, errno.into());
        let newest = saved(&self.directory)
            .map_err(failed)?
            .into_iter()
            .map(|(number, _)| number)
            .max();
        let name = OsString::from(dated(prefix, now, newest.unwrap_or(0).saturating_add(1)));
        Ok(Destination {
            path: self.path.join(&name),
            directory: self.directory,
            name,
        })
    }
}

fn is_roots_link(root: &Path, path: &Path) -> bool {
    let is_link = path
        .symlink_metadata()
        .is_ok_and(|found| found.is_symlink() && found.uid() == 0);
    is_link
        && root
            .symlink_metadata()
            .is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
}

impl Destination {
    /// A file named by a user, opened with that user's rights.
    pub(super) fn named(file: &Path) -> Result<Self> {
        Self::at(file, |directory| {
            open(directory, DIRECTORY, Mode::empty())
                .map_err(|errno| unusable(directory, errno.into()))
        })
    }

    /// A file named by root, opened without following links.
    pub(super) fn walked(file: &Path) -> Result<Self> {
        Self::at(file, walk)
    }

    fn at(file: &Path, reach: impl FnOnce(&Path) -> Result<OwnedFd>) -> Result<Self> {
        let path = std::path::absolute(file)?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::usage(format!("{} cannot be a file", file.display())));
        };
        Ok(Self {
            directory: reach(directory)?,
            name: name.to_owned(),
            path,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the name is taken, also by a link.
    pub(super) fn must_be_free(&self) -> Result<()> {
        match look(&self.directory, &self.name) {
            Err(Errno::ENOENT) => Ok(()),
            Ok(_) => Err(self.exists()),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Whether the directory belongs to `user`.
    pub(super) fn belongs_to(&self, user: Uid) -> Result<bool> {
        Ok(fstat(&self.directory)
            .map_err(|errno| self.failed(errno))?
            .st_uid
            == user.as_raw())
    }

    /// Creates an empty temporary file beside the destination.
    pub(super) fn create(&self) -> Result<PartialFile<'_>> {
        let name = [
            b".",
            self.name.as_bytes(),
            format!(".{}.part", std::process::id()).as_bytes(),
        ]
        .concat();

        let name = OsString::from_vec(name);
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(
            &self.directory,
            name.as_os_str(),
            flags,
            Mode::from_bits_truncate(0o640),
        );

        let file = File::from(file.map_err(|errno| self.failed(errno))?);
        let partial = PartialFile {
            destination: self,
            file,
            name: Some(name),
        };

        partial
            .file
            .set_permissions(std::fs::Permissions::from_mode(0o640))?;
        Ok(partial)
    }

    /// Removes the numbered backups in this directory but the `keep` newest, and never this one.
    pub(super) fn prune(&self, keep: u32) -> Result<()> {
        let mut others = saved(&self.directory).map_err(|errno| self.failed(errno))?;
        others.retain(|(_, name)| name.as_bytes() != self.name.as_bytes());

        // By number. Backups from before there were numbers come first, by date.
        others.sort_unstable();
        let keep_others = usize::try_from(keep)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        let old = others.len().saturating_sub(keep_others);

        for (_, name) in &others[..old] {
            unlinkat(&self.directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
                .map_err(|errno| self.failed(errno))?;
            let path = self.path.with_file_name(OsStr::from_bytes(name.as_bytes()));
            output::line(&format!("{} removed", path.display()))?;
        }

        Ok(())
    }

    fn exists(&self) -> Error {
        Error::conflict(format!(
            "{} exists and is not overwritten: choose another file name",
            self.path.display()
        ))
    }

    fn failed(&self, errno: Errno) -> Error {
        unusable(&self.path, errno.into())
    }
}

impl PartialFile<'_> {
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The temporary path, for SQLite.
    pub(super) fn path(&self) -> PathBuf {
        self.destination
            .path
            .with_file_name(self.name.as_deref().unwrap_or_default())
    }

    /// Changes the owner: what root saves in a user's directory belongs to that user.
    pub(super) fn give_to(&self, owner: (Uid, Gid)) -> Result<()> {
        fchown(&self.file, Some(owner.0), Some(owner.1))
            .map_err(|errno| self.destination.failed(errno))
    }

    /// Fails if the name leads to another file now: another user with write access replaced it.
    pub(super) fn must_be_unchanged(&self) -> Result<()> {
        self.is_at(self.name.as_deref().unwrap_or_default())
    }

    fn is_at(&self, name: &OsStr) -> Result<()> {
        let own = self.file.metadata()?;
        let there = look(&self.destination.directory, name);
        if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (own.dev(), own.ino())) {
            return Ok(());
        }

        let directory = self
            .destination
            .path
            .parent()
            .unwrap_or(&self.destination.path);
        Err(Error::failed(format!(
            "another process replaced the backup file in {} during the backup: \
             save to a directory that only you can write",
            directory.display()
        )))
    }

    /// Renames the file to its final name, durably. Returns the size.
    pub(super) fn publish(mut self) -> Result<u64> {
        self.file.sync_all()?;
        self.must_be_unchanged()?;
        let Some(name) = self.name.clone() else {
            return Err(self.destination.failed(Errno::ENOENT));
        };
        self.rename(&name)?;
        self.name = None;
        self.is_at(&self.destination.name)?;

        let failed = |errno| self.destination.failed(errno);
        let directory =
            openat(&self.destination.directory, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        File::from(directory).sync_all()?;
        Ok(self.file.metadata()?.len())
    }

    fn rename(&self, from: &OsStr) -> Result<()> {
        let (directory, to) = (
            self.destination.directory.as_fd(),
            self.destination.name.as_os_str(),
        );

        let named = match renameat2(
            directory,
            from,
            directory,
            to,
            RenameFlags::RENAME_NOREPLACE,
        ) {
            // Not every file system has RENAME_NOREPLACE; a hard link does not overwrite either.
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                linkat(directory, from, directory, to, LinkatFlags::empty())
                    .and_then(|()| unlinkat(directory, from, UnlinkatFlags::NoRemoveDir))
            }
            named => named,
        };

        named.map_err(|errno| {
            if errno == Errno::EEXIST {
                self.destination.exists()
            } else {
                self.destination.failed(errno)
            }
        })
    }

    pub(super) fn discard(&mut self) {
        if let Some(name) = self.name.take() {
            // The file may be gone already.
            unlinkat(
                &self.destination.directory,
                name.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            )
            .ok();
        }
    }
}

impl Drop for PartialFile<'_> {
    /// A failed backup leaves no file.
    fn drop(&mut self) {
        self.discard();
    }
}

fn look(directory: &OwnedFd, name: &OsStr) -> nix::Result<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The numbered backups in a directory.
fn saved(directory: &OwnedFd) -> nix::Result<Vec<(u64, CString)>> {
    let again = openat(directory, ".", DIRECTORY, Mode::empty())?;
    let mut listing = nix::dir::Dir::from_fd(again)?;
    let mut saved = Vec::new();

    for entry in listing.iter() {
        let name = entry?.file_name().to_owned();
        let is_regular =
            look(directory, OsStr::from_bytes(name.as_bytes())).is_ok_and(|found| is_file(&found));
        if let Some(number) = name.to_str().ok().and_then(number).filter(|_| is_regular) {
            saved.push((number, name));
        }
    }

    Ok(saved)
}

fn is_file(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
}

/// The number in `left4me-20261120-214407-12.db`; 0 for names without one, as before version 0.2.
fn number(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("left4me-")?.strip_suffix(".db")?;
    let (stamp, number) = rest.split_at_checked(15)?;
    let is_stamp = stamp.bytes().enumerate().all(|(at, byte)| {
        if at == 8 {
            byte == b'-'
        } else {
            byte.is_ascii_digit()
        }
    });

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
mod tests;
