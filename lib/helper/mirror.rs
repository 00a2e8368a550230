//! Makes the directories and files of the lower layers writable for the game.
//!
//! In an overlay, files that only a lower layer has keep their owner and mode: steamcmd's,
//! left4me's or a member's. The game could neither create a file beside them nor write to one in
//! place (a SQLite database, banned_user.cfg, a log).
//!
//! A **directory** of the same name in the upper layer is merged with the lower one, and its owner
//! and mode count. A **file** gets a stand-in: an empty file that belongs to the server's user. Its
//! attribute `trusted.overlay.metacopy` says that its content is that of the next layer below. The
//! stand-ins form a layer of their own, which stack.rs puts above the others. The first write
//! copies the file into the upper layer, as for any file; the lower layers never change.
//!
//! Files that the server's user could not read in their layer stay closed.
//!
//! A closed directory is not created in the upper layer. One that exists there already, from the
//! game or from an older version, gets the owner and mode of the closed one.
//!
//! A closed file gets no stand-in. A file of that name in a layer below gets none either, because
//! its stand-in would open the closed one.
//!
//! If overlays differ, the topmost decides. A directory that the game itself has stays open, and
//! the modes of the files in it decide: an overlay that was filled with a strict umask must not
//! close `left4dead2`.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::directory::{Directory, FLAGS, unusable};
use super::layers::Layer;
use super::standins;
use crate::base::{Error, Result};

/// How many levels of directories are followed. The game's own tree has fewer than ten.
const DEPTH: usize = 64;

/// Creates in `upper` each directory that a layer has, and in `files` a stand-in of each file,
/// owned by `owner`. If the game has replaced a directory (by a file, a link, or a whiteout after
/// removing it), that is left alone, with everything below it. Gives an error number if `files`
/// could not take all stand-ins.
pub(super) fn mirror(
    layers: &[Layer],
    upper: &Directory,
    files: &Directory,
    owner: (Uid, Gid),
    shared: Option<Gid>,
) -> Result<Result<(), Errno>> {
    let (open, closed, taken) = (HashSet::new(), HashMap::new(), HashSet::new());
    let mut mirror = Mirror {
        owner,
        shared,
        is_own: false,
        open,
        closed,
        taken,
        files: Ok(()),
    };

    let game = layers.iter().find(|layer| layer.is_game);
    for layer in layers {
        mirror.is_own = layer.is_own;

        let failed = |errno| unusable(&layer.path, errno);
        let top = |fd: &OwnedFd| openat(fd, c".", FLAGS, Mode::empty()).map_err(failed);
        let place = Place {
            from: top(&layer.fd)?,
            upper: upper.fd.try_clone()?,
            files: files.fd.try_clone()?,
            game: game.map(|game| top(&game.fd)).transpose()?,
        };

        mirror
            .below(place, Path::new(""), DEPTH)
            .map_err(|errno| match errno {
                Errno::ELOOP => Error::failed(format!(
                    "{} has directories more than {DEPTH} levels deep",
                    layer.path.display()
                )),
                errno => failed(errno).within("its directories cannot be made for the game"),
            })?;
    }

    for (path, found) in &mirror.closed {
        tracing::info!(
            "{} is closed to the game in a lower layer, and stays so",
            path.display()
        );

        close(upper, path, found).map_err(|errno| unusable(&upper.path.join(path), errno))?;
    }

    Ok(mirror.files)
}

struct Mirror {
    owner: (Uid, Gid),
    /// The group that every server has besides its own.
    shared: Option<Gid>,
    /// Whether the layer is the instance's own. Only left4me writes its files.
    is_own: bool,
    /// Directories that the game may read, relative to a layer.
    open: HashSet<PathBuf>,
    /// Directories that the topmost layer which has them closes, with their attributes there.
    closed: HashMap<PathBuf, FileStat>,
    /// Names that a higher layer has as something other than an open directory or a file with a
    /// stand-in.
    taken: HashSet<PathBuf>,
    /// Whether all stand-ins could be created so far.
    files: Result<(), Errno>,
}

/// A directory of a layer and the directories that correspond to it.
struct Place {
    from: OwnedFd,
    upper: OwnedFd,
    files: OwnedFd,
    /// The same directory in the game files, if the game has it too.
    game: Option<OwnedFd>,
}

impl Mirror {
    fn below(&mut self, place: Place, path: &Path, depth: usize) -> Result<(), Errno> {
        let Place {
            from,
            upper,
            files,
            game,
        } = place;

        let mut entries = Dir::from_fd(from)?;

        let (mut directories, mut others) = (Vec::<CString>::new(), Vec::<CString>::new());
        for entry in entries.iter() {
            let entry = entry?;
            let name = entry.file_name();
            match entry.file_type() {
                _ if name == c"." || name == c".." => {}
                // Without a type the file system does not report types; opening it as a directory
                // decides.
                Some(Type::Directory) | None => directories.push(name.to_owned()),
                Some(_) => others.push(name.to_owned()),
            }
        }

        if !directories.is_empty() && depth == 0 {
            return Err(Errno::ELOOP);
        }

        for name in directories {
            let inner = match openat(entries.as_fd(), name.as_c_str(), FLAGS, Mode::empty()) {
                Ok(inner) => inner,
                Err(Errno::ENOENT) => continue,
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    others.push(name);
                    continue;
                }
                Err(errno) => return Err(errno),
            };

            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let game = game
                .as_ref()
                .and_then(|game| self.readable_directory(game, &name));
            if !self.is_open(&path, &fstat(&inner)?, game.is_some()) {
                continue;
            }

            let Some(files) = standins::directory(&files, &name)? else {
                continue;
            };
            if let Some(upper) = ensure(&upper, &name, self.owner)? {
                self.below(
                    Place {
                        from: inner,
                        upper,
                        files,
                        game,
                    },
                    &path,
                    depth - 1,
                )?;
            }
        }

        for name in others {
            self.file(
                &entries,
                &files,
                &name,
                path.join(OsStr::from_bytes(name.to_bytes())),
            )?;
        }

        Ok(())
    }

    /// Whether the game may see the contents of a directory. The topmost layer that has it decides,
    /// or the game's own directory.
    fn is_open(&mut self, path: &Path, found: &FileStat, is_the_games: bool) -> bool {
        if self.open.contains(path) {
            return true;
        }

        if self.closed.contains_key(path) || self.taken.contains(path) {
            return false;
        }

        if self.may(found, 0o5) || is_the_games {
            return self.open.insert(path.to_owned());
        }

        self.closed.insert(path.to_owned(), *found);
        false
    }

    /// Handles an entry that is not a directory.
    fn file(
        &mut self,
        from: &Dir,
        files: &OwnedFd,
        name: &CStr,
        path: PathBuf,
    ) -> Result<(), Errno> {
        if self.taken.contains(&path) || self.closed.contains_key(&path) {
            return Ok(());
        }

        let found = match fstatat(from.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };

        let is_file = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;

        // A file with an ACL gets no stand-in, because the mode does not say everything.
        let is_ours = is_file
            && !self.is_own
            && self.may(&found, 0o4)
            && !standins::has_acl(from.as_fd(), name);
        if !is_ours {
            self.taken.insert(path);
        } else if self.files.is_ok() {
            self.files = standins::file(files, name, &found, self.owner);
        }

        Ok(())
    }

    fn readable_directory(&self, parent: &OwnedFd, name: &CStr) -> Option<OwnedFd> {
        let directory = openat(parent, name, FLAGS, Mode::empty()).ok()?;
        fstat(&directory)
            .is_ok_and(|found| self.may(&found, 0o5))
            .then_some(directory)
    }

    /// Whether the server's user has these rights on a file or directory.
    fn may(&self, found: &FileStat, rights: u32) -> bool {
        let group = Gid::from_raw(found.st_gid);
        let shift = if found.st_uid == self.owner.0.as_raw() {
            6
        } else if group == self.owner.1 || self.shared == Some(group) {
            3
        } else {
            0
        };

        found.st_mode >> shift & rights == rights
    }
}

/// Opens the directory `name` in `parent` and creates it for `owner` if it is missing. None if
/// something else has this name.
fn ensure(parent: &OwnedFd, name: &CString, owner: (Uid, Gid)) -> Result<Option<OwnedFd>, Errno> {
    match mkdirat(parent, name.as_c_str(), Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }

    let directory = match openat(parent, name.as_c_str(), FLAGS, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
        Err(errno) => return Err(errno),
    };

    // It was just created, or an interrupted mount left it, or it was closed before.
    if fstat(&directory)?.st_uid != owner.0.as_raw() {
        give(&directory, 0o755, owner)?;
    }

    Ok(Some(directory))
}

/// Gives the directory at `path` in the upper layer the owner and mode of the closed one, if it
/// exists there.
fn close(upper: &Directory, path: &Path, closed: &FileStat) -> Result<(), Errno> {
    let mut directory = openat(upper, c".", FLAGS, Mode::empty())?;
    for name in path {
        directory = match openat(&directory, name, FLAGS, Mode::empty()) {
            Ok(inner) => inner,
            // What the game put in its place hides the closed directory.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(errno) => return Err(errno),
        };
    }

    let found = fstat(&directory)?;
    let is_closed = (found.st_uid, found.st_gid, found.st_mode)
        == (closed.st_uid, closed.st_gid, closed.st_mode);
    if is_closed {
        return Ok(());
    }

    give(
        &directory,
        closed.st_mode & 0o777,
        (Uid::from_raw(closed.st_uid), Gid::from_raw(closed.st_gid)),
    )
}

/// Root owns the directory meanwhile: changing the mode of another user's directory would need a
/// capability.
fn give(directory: &OwnedFd, mode: u32, owner: (Uid, Gid)) -> Result<(), Errno> {
    fchown(directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
    fchmod(directory, Mode::from_bits_truncate(mode))?;
    fchown(directory, Some(owner.0), Some(owner.1))
}
