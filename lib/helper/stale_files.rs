//! `stale-files N` and `drop-stale-files N`: the work of left4me-stale@N.service and
//! left4me-purge-stale@N.service, as the server's user. Root is refused, because root must not walk
//! through files that a game wrote.
//!
//! The upper layer is the game's, which may run and change it at any moment. So the walk goes along
//! the game files that it hides, which only left4me changes: their number bounds it, whatever the
//! game wrote. A name is looked up in the upper layer only if the game files have it, one directory
//! at a time, and no link is followed.
//!
//! Whiteouts are left alone: a file that the game deleted stays deleted. It has no content that
//! could be outdated, and no time that says when (overlayfs links all whiteouts of a mount to one
//! file). What stands for a directory is left alone too.
//!
//! Only root could see that the game removed a directory and made it again: then its files hide no
//! others, but they are older than those of the game files, and are found.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::directory::{Directory, FLAGS, Opened, unusable};
use super::{mounted_layers, runtime};
use crate::base::builds::{ABOUT, GameFiles};
use crate::base::names::InstanceName;
use crate::base::{Error, Result, output};
use crate::domain::stale::{Escape, Line, MOST_DROPPED, MOST_NAMED, StaleFile, shown};
use crate::process::mounts;

/// How long a search may take. The game files of an installation take less than a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many bytes are read to compare files. What is not compared counts as different: to drop a
/// file that is the same does no harm.
const READ_LIMIT: u64 = 1024 * 1024 * 1024;

/// How many levels of directories are followed. The game's own tree has fewer than ten.
const DEPTH: usize = 64;

/// What left4me's own layer, between the game files and the upper layer, always has. Other files of
/// it are links, which no game files have.
const OWN: [&str; 2] = [
    "left4dead2/cfg/server.cfg",
    "left4dead2/cfg/left4me_rcon.cfg",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Only name them. The server may run.
    Find,
    /// Remove them. The overlay must not be mounted.
    Drop,
}

/// Prints the stale files of `server` as [`Line`]s, and removes them for [`Act::Drop`].
///
/// Fails with 77 if the caller is not the owner of the upper directory; with [`Act::Drop`] with 4
/// while the overlay is mounted, and 1 if a file cannot be removed.
pub(super) fn run(root: &Path, server: &InstanceName, act: Act) -> Result<()> {
    let root = Directory::root(root)?;
    let merged = runtime::merged(&root, server);
    if act == Act::Drop && !mounts::at(&merged)?.is_empty() {
        return Err(Error::conflict(format!(
            "{} is mounted: stop server {server} first",
            merged.display()
        )));
    }

    let mut found = Found::default();
    if let Some(mut search) = Search::open(&root, server, act)? {
        search.walk(&mut found)?;
    }

    output::json(&Line::End {
        count: found.count,
        size: found.size,
        is_whole: found.is_whole && found.failed.is_none(),
    })?;
    found.failed.map_or(Ok(()), Err)
}

struct Found {
    count: u64,
    size: u64,
    is_whole: bool,
    /// Why a file could not be removed.
    failed: Option<Error>,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            count: 0,
            size: 0,
            is_whole: true,
            failed: None,
        }
    }
}

struct Search {
    act: Act,
    upper: Directory,
    /// The game files, the lowest layer.
    game: OwnedFd,
    /// The layers between, in any order: one that has a file hides that of the game files.
    between: Vec<OwnedFd>,
    began: Instant,
    /// How many bytes may still be read.
    budget: u64,
}

/// A file that may be stale.
struct Candidate {
    name: CString,
    size: u64,
}

impl Search {
    /// None if the server has written nothing, or never ran.
    fn open(root: &Directory, server: &InstanceName, act: Act) -> Result<Option<Self>> {
        let Some(runtime) = mounted_layers::runtime_of(root, server)? else {
            return Ok(None);
        };
        let Opened::Open(upper) = runtime.find("upper")? else {
            return Ok(None);
        };
        let owner = upper.owner()?;
        if owner != geteuid() {
            return Err(Error::not_permitted(format!(
                "not permitted: {} belongs to user id {owner}; as root, use `left4me-helper stale \
                 {server}`",
                upper.path.display()
            )));
        }

        let Some(mut layers) = mounted_layers::open(root, &runtime)? else {
            return Ok(None);
        };
        // Without its game files nothing is newer.
        let Some(mounted_layers::Mounted {
            path,
            fd: Some(game),
        }) = layers.pop()
        else {
            return Ok(None);
        };
        if GameFiles::at(&root.path, &root.path.join(path)).is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            act,
            upper,
            game,
            between: layers.into_iter().filter_map(|layer| layer.fd).collect(),
            began: Instant::now(),
            budget: READ_LIMIT,
        }))
    }

    fn walk(&mut self, found: &mut Found) -> Result<()> {
        let mut waiting = vec![PathBuf::new()];
        while let Some(path) = waiting.pop() {
            if self.began.elapsed() > PATIENCE {
                found.is_whole = false;
                return Ok(());
            }

            // What the game replaced or removed, or closed to itself, has nothing to look up.
            let Some(game) = descend(&self.game, &path) else {
                continue;
            };
            let Some(upper) = descend(&self.upper, &path) else {
                continue;
            };

            let mut here = self
                .directory(&game, &upper, &path, &mut waiting)
                .map_err(|errno| unusable(&path, errno).within("the game files"))?;
            self.keep_uncovered(&path, &mut here);
            for candidate in here {
                self.take(&upper, &path, &candidate, found)?;
            }
        }
        Ok(())
    }

    /// The files of one directory that are older than those of the game files and differ from them.
    /// Adds its directories to `waiting`, in such an order that paths are found in theirs.
    fn directory(
        &mut self,
        game: &OwnedFd,
        upper: &OwnedFd,
        path: &Path,
        waiting: &mut Vec<PathBuf>,
    ) -> Result<Vec<Candidate>, Errno> {
        let (mut here, mut inner) = (Vec::new(), Vec::new());
        let mut entries = Dir::from_fd(openat(game, c".", FLAGS, Mode::empty())?)?;
        for entry in entries.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }

            // Most file systems say the kind without a look at each file.
            let kind = match entry.file_type() {
                Some(kind) => Some(kind),
                None => status(game, name).map(|found| kind_of(&found)),
            };
            match kind {
                Some(Type::Directory) if path.components().count() < DEPTH => {
                    inner.push(path.join(OsStr::from_bytes(name.to_bytes())));
                }
                Some(Type::File) => here.extend(self.candidate(game, upper, path, name)),
                _ => {}
            }
        }

        here.sort_unstable_by(|one: &Candidate, other| one.name.cmp(&other.name));
        inner.sort_unstable_by(|one, other| other.cmp(one));
        waiting.append(&mut inner);
        Ok(here)
    }

    fn candidate(
        &mut self,
        game: &OwnedFd,
        upper: &OwnedFd,
        path: &Path,
        name: &CStr,
    ) -> Option<Candidate> {
        let below = path.join(OsStr::from_bytes(name.to_bytes()));
        if below == Path::new(ABOUT) || OWN.iter().any(|own| below == Path::new(own)) {
            return None;
        }

        let written = status(upper, name).filter(is_file)?;
        let newer = status(game, name).filter(is_file)?;
        let size = u64::try_from(written.st_size).ok()?;
        let is_stale = time(&written) < time(&newer)
            && (written.st_size != newer.st_size || !self.is_same(game, upper, name, size));
        is_stale.then(|| Candidate {
            name: name.to_owned(),
            size,
        })
    }

    /// Whether the content of both files is the same, as far as it may be read.
    fn is_same(&mut self, game: &OwnedFd, upper: &OwnedFd, name: &CStr, size: u64) -> bool {
        let Some(rest) = self.budget.checked_sub(size) else {
            return false;
        };
        self.budget = rest;
        let (Some(one), Some(other)) = (open_file(game, name), open_file(upper, name)) else {
            return false;
        };
        same_content(one, other, size)
    }

    /// Removes from `here` the files that a layer between hides.
    fn keep_uncovered(&self, path: &Path, here: &mut Vec<Candidate>) {
        for layer in &self.between {
            if here.is_empty() {
                return;
            }
            match descend_as(layer, path, OFlag::O_PATH) {
                Ok(layer) => here.retain(|candidate| {
                    let found = fstatat(
                        &layer,
                        candidate.name.as_c_str(),
                        AtFlags::AT_SYMLINK_NOFOLLOW,
                    );
                    found.is_err_and(|errno| errno == Errno::ENOENT)
                }),
                Err(Errno::ENOENT) => {}
                // A file or a link in place of the directory hides it; in one that cannot be
                // opened there may be anything.
                Err(_) => here.clear(),
            }
        }
    }

    /// Counts and prints a stale file, and removes it for [`Act::Drop`].
    fn take(
        &self,
        upper: &OwnedFd,
        path: &Path,
        candidate: &Candidate,
        found: &mut Found,
    ) -> Result<()> {
        let below = path.join(OsStr::from_bytes(candidate.name.to_bytes()));
        let path = shown(below.as_os_str().as_bytes(), Escape::Raw);
        let most = match self.act {
            Act::Find => MOST_NAMED,
            Act::Drop => {
                if let Err(errno) = remove(upper, &candidate.name) {
                    let error = format!("{path} cannot be removed: {}", errno.desc());
                    found.failed = found.failed.take().or(Some(Error::failed(error)));
                    return Ok(());
                }
                MOST_DROPPED
            }
        };

        found.count += 1;
        found.size = found.size.saturating_add(candidate.size);
        if found.count <= most as u64 {
            let size = candidate.size;
            output::json(&Line::File(StaleFile { path, size }))?;
        }
        Ok(())
    }
}

/// Opens a directory below `top`, without following links. None if it is not there, is no directory
/// or cannot be read.
fn descend(top: &impl AsFd, path: &Path) -> Option<OwnedFd> {
    descend_as(top, path, OFlag::O_RDONLY).ok()
}

/// As [`descend`], opened with `how`.
fn descend_as(top: &impl AsFd, path: &Path, how: OFlag) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut fd = openat(top, c".", flags | OFlag::O_PATH, Mode::empty())?;
    for name in path {
        fd = openat(&fd, name, flags | OFlag::O_PATH, Mode::empty())?;
    }
    openat(&fd, c".", flags | how, Mode::empty())
}

fn status(directory: &OwnedFd, name: &CStr) -> Option<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
}

fn kind_of(found: &FileStat) -> Type {
    match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Type::Directory,
        SFlag::S_IFREG => Type::File,
        _ => Type::Fifo,
    }
}

fn is_file(found: &FileStat) -> bool {
    kind_of(found) == Type::File
}

/// When the content was last changed: seconds and nanoseconds.
fn time(found: &FileStat) -> (i64, i64) {
    (found.st_mtime, found.st_mtime_nsec)
}

/// Opens a file to read it; none for anything else that has its name by now.
fn open_file(directory: &OwnedFd, name: &CStr) -> Option<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty()).ok()?;
    let found = fstat(&file).ok()?;
    is_file(&found).then(|| File::from(file))
}

/// Whether both files have the same `size` bytes and no more.
fn same_content(one: File, other: File, size: u64) -> bool {
    const PART: usize = 64 * 1024;
    let (mut one, mut other) = (one.take(size + 1), other.take(size + 1));
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        let part = PART as u64;
        let read = (&mut one).take(part).read_to_end(&mut left);
        let too = (&mut other).take(part).read_to_end(&mut right);
        match (read, too) {
            (Ok(_), Ok(_)) if left != right => return false,
            (Ok(0), Ok(_)) => return true,
            (Ok(_), Ok(_)) => {}
            _ => return false,
        }
    }
}

/// Removes a file, also from a directory that its owner made read-only; the directory's mode stays.
fn remove(directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let unlink = || match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    };
    match unlink() {
        Err(Errno::EACCES) => {
            let mode = Mode::from_bits_truncate(fstat(directory)?.st_mode);
            fchmod(directory, mode | Mode::S_IRWXU)?;
            let removed = unlink();
            fchmod(directory, mode)?;
            removed
        }
        result => result,
    }
}
