//! `upgrade`: converts the data of an older version. For the installation of the package, and for
//! root by hand. It skips what is already done, and does not stop servers and jobs.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat};
use nix::unistd::{Uid, fchown, fsync};

use super::directory::{Directory, unusable};
use super::{adopt, former};
use crate::base::config::{BuildMode, Paths};
use crate::base::{Error, Result, output, users};

/// The database and the files beside it. The database is last, because programs look for it: until
/// it has moved, programs of this version refuse to create a new one; from then on, everything is
/// in place.
///
/// Programs of the older version may have them all open. A rename keeps their descriptors, locks
/// and shared memory, so they and the programs of this version continue with the same files. When
/// an old program closes the database, SQLite notices that it is no longer at its path, and leaves
/// the log alone.
const FILES: [&str; 6] = [
    "left4me.db-poller.lock",
    "left4me.db-worker.lock",
    "left4me.db-journal",
    "left4me.db-wal",
    "left4me.db-shm",
    "left4me.db",
];

pub(super) fn run(paths: &Paths, builds: BuildMode) -> Result<()> {
    let root = take_root(paths);
    let database = root.and_then(|()| move_database(paths));
    let servers = former::upgrade(&paths.root);
    let game = match builds {
        BuildMode::Beside => adopt::run(&paths.root),
        BuildMode::InPlace => Ok(()),
    };

    let failed = [database, servers, game]
        .into_iter()
        .filter_map(Result::err);
    let failed = failed.reduce(|one, other| Error::new(one.exit, format!("{one}; {other}")));
    failed.map_or(Ok(()), Err)
}

/// Gives the data directory to root: a user who can write to it can replace any directory in it.
/// tmpfiles.d does the same for /var/lib/left4me, but not for another LEFT4ME_ROOT, nor if that is
/// a link to another disk.
///
/// Fails with 4 if the settings put the database directly in it, where SQLite can no longer create
/// files beside it.
fn take_root(paths: &Paths) -> Result<()> {
    if !paths.root.exists() {
        return Ok(());
    }

    let root = Directory::root(&paths.root)?;
    if !root.owner()?.is_root() {
        let refused = |errno| unusable(&root.path, errno);
        fchown(
            &root,
            Some(Uid::from_raw(0)),
            Some(users::ids(users::LEFT4ME)?.1),
        )
        .map_err(refused)?;

        fchmod(&root, Mode::from_bits_truncate(0o751)).map_err(refused)?;
    }

    let named = paths.database();
    if named.parent() != Some(&paths.root) {
        return Ok(());
    }

    let (name, own) = (named.display(), paths.root.join("db"));
    Err(Error::conflict(format!(
        "LEFT4ME_DB={name} is in a directory that left4me may not write any more: stop \
        left4me.target, move the file \
         and what begins with its name to {}, and name that in /etc/left4me/left4me.env",
        own.display()
    )))
}

/// Moves ROOT/left4me.db into a directory of its own. A database that the settings put elsewhere
/// stays there.
///
/// Fails with 4 if there is a database in the new place too, or another kind of file in the old
/// one. Then nothing is moved.
fn move_database(paths: &Paths) -> Result<()> {
    let Some(root) = paths.root_with_database() else {
        return Ok(());
    };
    if !root.exists() {
        return Ok(());
    }

    let root = Directory::root(root)?;
    let mut found = Vec::new();
    for name in FILES {
        if is_regular(&root, name)? {
            found.push(name);
        }
    }

    if !found.contains(&"left4me.db") {
        return Ok(());
    }

    let own = root.ensure(
        "db",
        Mode::from_bits_truncate(0o2770),
        users::ids(users::LEFT4ME)?,
        &[],
    )?;

    // Check every name before the first rename, so that nothing is moved halfway.
    for name in &found {
        must_be_free(&root, &own, name)?;
    }

    for name in &found {
        renameat2(&root, *name, &own, *name, RenameFlags::RENAME_NOREPLACE)
            .map_err(|errno| unmoved(&root.path.join(name), &own.path, errno))?;
    }

    for directory in [&own, &root] {
        fsync(directory).map_err(|errno| unusable(&directory.path, errno))?;
    }

    output::line(&format!(
        "the database moved from {} to {}",
        root.path.display(),
        own.path.display()
    ))
}

/// Whether there is a regular file of this name.
///
/// Fails with 4 for anything else with this name: older versions created only regular files.
fn is_regular(root: &Directory, name: &str) -> Result<bool> {
    let path = root.path.join(name);
    match fstatat(root, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() => Ok(true),
        Ok(_) => Err(Error::conflict(format!(
            "{} is not a regular file: nothing was moved. \
             Move it away as root, then run `left4me-helper upgrade`",
            path.display()
        ))),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(unusable(&path, errno)),
    }
}

fn must_be_free(root: &Directory, own: &Directory, name: &str) -> Result<()> {
    let path = own.path.join(name);
    match fstatat(own, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(unusable(&path, errno)),
        Ok(_) => Err(Error::conflict(format!(
            "{} and {} are both there: nothing was moved. Compare them, move one away as root, \
            then run `left4me-helper upgrade`",
            root.path.join(name).display(),
            path.display()
        ))),
    }
}

fn unmoved(path: &Path, own: &Path, errno: Errno) -> Error {
    let hint = match errno {
        Errno::EXDEV => {
            ", which is another file system: \
             stop left4me and move the files by hand, the database last"
        }
        _ => "",
    };

    Error::failed(format!(
        "{} cannot be moved to {}{hint}: {}",
        path.display(),
        own.display(),
        errno.desc()
    ))
}
