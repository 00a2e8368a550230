//! Reads a tree of game files: what is in it, before anything is copied.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat, openat, readlinkat, statat};

use super::context::{Context, Work, failed};
use super::place::{DIRECTORY, Place};
use crate::base::Error;
use crate::base::builds::ABOUT;
use crate::domain::steam::UNFINISHED;

/// How many levels of directories are followed; the game has fewer than ten.
const DEPTH: usize = 64;

/// How many names a tree may have; the game has some ten thousand.
const MOST: usize = 1_000_000;

/// A file while it is made in installation/, before it is renamed.
pub(super) const MOVING: &str = ".left4me-moving";

/// What is no part of the game: left4me's own marks, and what steamcmd has half downloaded.
const LEFT_OUT: [&str; 5] = [
    ABOUT,
    MOVING,
    UNFINISHED,
    "steamapps/downloading",
    "steamapps/temp",
];

/// A file's time of change: seconds and nanoseconds.
pub(super) type Time = (i64, i64);

pub(super) struct Entry {
    pub name: CString,
    pub node: Node,
}

pub(super) enum Node {
    Directory(Directory),
    File(File),
    Link(CString),
}

#[derive(Default)]
pub(super) struct Directory {
    pub mode: u32,
    pub modified: Time,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub size: u64,
    /// Its permissions, without setuid, setgid and sticky bit.
    pub mode: u32,
    pub modified: Time,
    /// Whether the build that it is compared with has the same file.
    pub unchanged: bool,
}

impl File {
    pub(super) fn of(found: &Stat) -> Self {
        Self {
            size: found.st_size.unsigned_abs(),
            mode: found.st_mode & 0o777,
            modified: modified(found),
            unchanged: false,
        }
    }
}

pub(super) fn modified(found: &Stat) -> Time {
    (
        found.st_mtime,
        i64::try_from(found.st_mtime_nsec).unwrap_or_default(),
    )
}

/// Reads the whole tree in `place`.
///
/// Fails with the name of anything but a regular file, a directory or a link.
pub(super) fn read(context: &mut Context<'_>, place: &Place) -> Work<Directory> {
    let mut reader = Reader {
        context,
        top: &place.path,
        left: MOST,
    };
    let entries = reader.read(&place.fd, Path::new(""), DEPTH)?;
    Ok(Directory {
        entries,
        ..Directory::default()
    })
}

struct Reader<'a, 's> {
    context: &'a mut Context<'s>,
    top: &'a Path,
    left: usize,
}

impl Reader<'_, '_> {
    fn read(&mut self, directory: &OwnedFd, below: &Path, depth: usize) -> Work<Vec<Entry>> {
        let refused = |errno| failed(&self.top.join(below), errno);
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.unfit(
                below,
                &format!("has directories more than {DEPTH} levels deep"),
            ));
        };

        let mut entries = Vec::new();
        for entry in Dir::read_from(directory).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name().to_owned();
            let path = below.join(OsStr::from_bytes(name.to_bytes()));
            if matches!(name.to_bytes(), b"." | b"..") || is_left_out(&path) {
                continue;
            }

            self.context.check()?;
            let Some(left) = self.left.checked_sub(1) else {
                return Err(self.unfit(below, &format!("and the rest have more than {MOST} names")));
            };
            self.left = left;
            let node = self.node(directory, &name, &path, depth)?;
            entries.push(Entry { name, node });
        }

        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn node(&mut self, above: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> Work<Node> {
        let whole = self.top.join(path);
        let refused = |errno| failed(&whole, errno);
        let found = statat(above, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?;

        let what = match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => return Ok(Node::File(File::of(&found))),
            FileType::Symlink => {
                let target = readlinkat(above, name, Vec::new()).map_err(refused)?;
                return Ok(Node::Link(target));
            }
            FileType::Directory => {
                let inner = openat(above, name, DIRECTORY, Mode::empty()).map_err(refused)?;
                return Ok(Node::Directory(Directory {
                    mode: found.st_mode & 0o777,
                    modified: modified(&found),
                    entries: self.read(&inner, path, depth)?,
                }));
            }
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        Err(self.unfit(
            path,
            &format!("is {what}, and a build has files, directories and links only: remove it"),
        ))
    }

    fn unfit(&self, below: &Path, why: &str) -> super::Stop {
        Error::failed(format!("{} {why}", self.top.join(below).display())).into()
    }
}

fn is_left_out(below: &Path) -> bool {
    LEFT_OUT.iter().any(|name| below == Path::new(name))
}

/// Takes a file out of the tree.
pub(super) fn take(tree: &mut Directory, path: &[&str]) -> Option<Entry> {
    let (first, rest) = path.split_first()?;
    let index = tree
        .entries
        .iter()
        .position(|entry| entry.name.to_bytes() == first.as_bytes())?;
    if rest.is_empty() {
        return Some(tree.entries.remove(index));
    }
    match &mut tree.entries[index].node {
        Node::Directory(directory) => take(directory, rest),
        _ => None,
    }
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Names of any kind.
    pub names: u64,
    /// Bytes of all files.
    pub size: u64,
    /// Files and bytes that are not in the build that the tree was compared with.
    pub changed: u64,
    pub changed_size: u64,
}

impl Sums {
    pub(super) fn of(tree: &Directory) -> Self {
        let mut sums = Self::default();
        let mut waiting = vec![tree];
        while let Some(directory) = waiting.pop() {
            for entry in &directory.entries {
                sums.names += 1;
                match &entry.node {
                    Node::Directory(inner) => waiting.push(inner),
                    Node::File(file) => sums.add(file),
                    Node::Link(_) => {}
                }
            }
        }
        sums
    }

    fn add(&mut self, file: &File) {
        self.size = self.size.saturating_add(file.size);
        if !file.unchanged {
            self.changed += 1;
            self.changed_size = self.changed_size.saturating_add(file.size);
        }
    }
}

/// The path of an entry below `above`.
pub(super) fn join(above: &Path, name: &CStr) -> PathBuf {
    above.join(OsStr::from_bytes(name.to_bytes()))
}
