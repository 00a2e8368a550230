//! `unpublish`: gives the files of the current build back to installation/, for updates in place.
//! Nothing may be mounted.
//!
//! The manifest decides which of the two is the game. It leaves the build first, under another
//! name, so that no server starts from half a build, and arrives in installation/ last. A repeated
//! request continues where an interrupted one stopped.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, mkdirat, openat, renameat, statat, symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::context::{Context, Work, failed};
use super::copy::{Copier, FLUSH_FILES, FLUSH_SIZE, Rules, Sides};
use super::erase::{Until, erase};
use super::place::{DIRECTORY, Place};
use super::plan;
use super::publish::is_whole;
use super::store::Store;
use super::tree::{self, Directory, File, MOVING, Node, Sums, join};
use crate::base::{Error, builds, failpoint};
use crate::domain::steam::{MANIFEST, PROGRAMS, UNFINISHED};
use crate::process::game_files;

/// The manifest of a build whose files are being moved.
const MOVED: &str = ".left4me-manifest";

/// Moves the files of the current build to installation/, unless a whole server is there. If the
/// build is not whole either, an installation/ with a manifest stays as it is. Then no build is
/// current, and servers take installation/.
pub(super) fn run(context: &mut Context<'_>, store: &Store) -> Work<()> {
    if let Some(build) = store.current(context)? {
        let installation = &store.installation.path;
        if !game_files::is_begun(installation) {
            move_files(context, store, build)?;
        } else if game_files::verify_finished(installation).is_err()
            && is_whole(context.root, build)
        {
            context.say(&format!(
                "what is in installation/ is not complete: the files of build {build} replace it"
            ));
            remove_manifest(context, &store.installation)?;
            move_files(context, store, build)?;
        }
        store.unset_current()?;
        failpoint::hit("publisher-unset");
    }

    sweep(context, store)?;
    context.say("no build is current: servers take installation/");
    Ok(())
}

/// Removes what is left of builds whose files have moved: directories.
fn sweep(context: &mut Context<'_>, store: &Store) -> Work<()> {
    for published in builds::list(context.root)? {
        let path = builds::path(context.root, published.build);
        let is_empty = [game_files::manifest(&path), path.join(PROGRAMS[0][0])]
            .iter()
            .all(|file| file.symlink_metadata().is_err());
        if !is_empty || is_interrupted(context.root, published.build) {
            continue;
        }
        let (fd, name) = (&store.builds.fd, published.build.to_string());
        renameat(fd, &name, fd, format!(".old-{name}")).map_err(|errno| failed(&path, errno))?;
    }
    store.sync()?;
    store.clear(context, Until::Killed)
}

/// Removes the manifest of an installation that is not whole, so that a repeated request continues.
fn remove_manifest(context: &mut Context<'_>, installation: &Place) -> Work<()> {
    let path = installation.path.join(MANIFEST[0]);
    let refused = |errno| failed(&path, errno);
    let fd = openat(&installation.fd, MANIFEST[0], DIRECTORY, Mode::empty()).map_err(refused)?;
    let steamapps = Place {
        fd,
        path: path.clone(),
    };
    let name = CString::new(MANIFEST[1]).unwrap_or_default();
    erase(context, Until::Cancelled, &steamapps, &name)?;
    syncfs(&steamapps.fd).map_err(refused)?;
    Ok(())
}

fn move_files(context: &mut Context<'_>, store: &Store, build: u64) -> Work<()> {
    let path = builds::path(context.root, build);
    let refused = |errno| failed(&path, errno);
    let fd = openat(
        &store.builds.fd,
        build.to_string(),
        DIRECTORY,
        Mode::empty(),
    )
    .map_err(refused)?;
    let from = Place {
        fd,
        path: path.clone(),
    };

    let steamapps = openat(&from.fd, MANIFEST[0], DIRECTORY, Mode::empty()).map_err(refused)?;
    match renameat(&steamapps, MANIFEST[1], &steamapps, MOVED) {
        // An earlier request did that.
        Err(Errno::NOENT) if is_there(&steamapps, MOVED) => {}
        renamed => renamed.map_err(refused)?,
    }
    syncfs(&from.fd).map_err(refused)?;
    failpoint::hit("publisher-unpublish");

    let mut tree = tree::read(context, &from)?;
    let manifest = tree::take(&mut tree, &[MANIFEST[0], MOVED])
        .ok_or_else(|| Error::failed(format!("build {build} has no manifest")))?;
    let size = Sums::of(&tree).size;
    let rules = Rules {
        is_idle: true,
        resumes: true,
    };
    let to = &store.installation;
    let mut mover = Mover {
        copier: Copier::new(context, rules, true, size),
        top: to,
        moved: Vec::new(),
        moved_size: 0,
    };
    mover.directory(&from.fd, &to.fd, &tree, &to.path)?;

    let steamapps_to = openat(&to.fd, MANIFEST[0], DIRECTORY, Mode::empty())
        .map_err(|errno| failed(&to.path.join(MANIFEST[0]), errno))?;
    syncfs(&to.fd).map_err(refused)?;
    mover.settle()?;
    // The files of a Linux server are in their places: the mark no longer holds.
    match unlinkat(&to.fd, UNFINISHED, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(&to.path.join(UNFINISHED), errno).into()),
    }
    if let Node::File(file) = manifest.node {
        let name = CString::new(MANIFEST[1]).unwrap_or_default();
        let path = game_files::manifest(&to.path);
        mover.file(
            (&steamapps, &manifest.name),
            (&steamapps_to, &name),
            file,
            &path,
        )?;
    }
    syncfs(&to.fd).map_err(refused)?;
    mover.settle()?;
    failpoint::hit("publisher-moved");
    Ok(())
}

struct Mover<'a, 's, 'p> {
    copier: Copier<'a, 's>,
    /// installation/, where a file is made before it gets its name.
    top: &'p Place,
    /// Names in the build whose files are in installation/ already. They go when those are on disk.
    moved: Vec<(OwnedFd, CString)>,
    moved_size: u64,
}

impl Mover<'_, '_, '_> {
    fn directory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        tree: &Directory,
        path: &Path,
    ) -> Work<()> {
        for entry in &tree.entries {
            self.copier.context.check()?;
            let name = entry.name.as_c_str();
            let path = join(path, name);
            let refused = |errno| failed(&path, errno);
            let is_directory = matches!(entry.node, Node::Directory(_));
            self.make_free(to, name, &path, is_directory)?;
            match &entry.node {
                Node::File(file) => self.file((from, name), (to, name), *file, &path)?,
                Node::Link(target) => {
                    match unlinkat(to, name, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(errno) => return Err(refused(errno).into()),
                    }
                    symlinkat(target.as_c_str(), to, name).map_err(refused)?;
                    unlinkat(from, name, AtFlags::empty()).map_err(refused)?;
                }
                Node::Directory(inner) => {
                    match mkdirat(to, name, Mode::from_raw_mode(inner.mode | 0o700)) {
                        Err(Errno::EXIST) => {}
                        made => made.map_err(refused)?,
                    }
                    let open = |fd| openat(fd, name, DIRECTORY, Mode::empty());
                    let (from, to) = (open(from).map_err(refused)?, open(to).map_err(refused)?);
                    self.directory(&from, &to, inner, &path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what is in the way of an entry: a directory of a file or link, and anything else of a
    /// directory. A file or link replaces another one by itself.
    fn make_free(
        &mut self,
        to: &OwnedFd,
        name: &CStr,
        path: &Path,
        is_directory: bool,
    ) -> Work<()> {
        let found = match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(path, errno).into()),
        };
        if (found == FileType::Directory) == is_directory {
            return Ok(());
        }

        let above = Place {
            fd: to.try_clone()?,
            path: path.parent().unwrap_or(path).to_owned(),
        };
        erase(self.copier.context, Until::Cancelled, &above, name)
    }

    /// Moves one file. Inside the unit the two directories are mounts of their own, between which
    /// the kernel renames nothing: then the file is made beside, gets its name, and leaves the
    /// build, so that the disk has to hold one file twice, not all of them.
    fn file(
        &mut self,
        (from, name): (&OwnedFd, &CStr),
        (to, new): (&OwnedFd, &CStr),
        file: File,
        path: &Path,
    ) -> Work<()> {
        let refused = |errno| failed(path, errno);
        match renameat(from, name, to, new) {
            Err(Errno::XDEV) => {}
            renamed => return Ok(renamed.map_err(refused)?),
        }

        if plan::free(self.top)? < file.size.saturating_add(FLUSH_SIZE) {
            self.settle()?;
        }
        let sides = Sides {
            from,
            base: None,
            to: &self.top.fd,
            path,
        };
        self.copier.file(sides, name, c".left4me-moving", file)?;
        renameat(&self.top.fd, MOVING, to, new).map_err(refused)?;
        failpoint::hit("publisher-moving");

        self.moved.push((from.try_clone()?, name.to_owned()));
        self.moved_size = self.moved_size.saturating_add(file.size);
        if self.moved.len() >= FLUSH_FILES || self.moved_size >= FLUSH_SIZE {
            self.settle()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Work<()> {
        self.copier.finish(self.top)?;
        for (from, name) in self.moved.drain(..) {
            unlinkat(from, &name, AtFlags::empty()).map_err(|errno| {
                failed(&self.top.path.join(name.to_string_lossy().as_ref()), errno)
            })?;
        }
        self.moved_size = 0;
        Ok(())
    }
}

/// Whether an earlier request has begun to move the files of this build.
pub(super) fn is_interrupted(root: &Path, build: u64) -> bool {
    let steamapps = builds::path(root, build).join(MANIFEST[0]);
    steamapps.join(MOVED).symlink_metadata().is_ok()
}

fn is_there(directory: &OwnedFd, name: &str) -> bool {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
