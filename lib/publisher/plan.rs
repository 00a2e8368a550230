//! What has to be copied, and whether there is room for it. Decided before anything is written.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::bytes::{Buffer, Source, are_equal};
use super::context::{Context, Progress, Work, failed, size};
use super::place::{DIRECTORY, Place};
use super::tree::{Directory, Entry, File, Node, Sums, join, modified};
use crate::base::Error;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fstatvfs, ioctl_ficlone, openat, statat, unlinkat,
};

/// The room of a name, in bytes: a block of a directory, and one at the end of a file.
const NAME_SIZE: u64 = 4096;

/// How an unchanged file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// By its size and time of change, else by its content.
    Times,
    /// By its content only.
    Content,
}

/// Marks the files of `tree`, which is in `from`, that `base` has with the same content and mode.
pub(super) fn compare(
    context: &mut Context<'_>,
    from: &Place,
    base: &Place,
    tree: &mut Directory,
    trust: Trust,
) -> Work<()> {
    let mut comparison = Comparison {
        context,
        trust,
        buffers: [Buffer::new(), Buffer::new()],
        progress: Progress::new("compared", Sums::of(tree).size),
    };
    comparison.directory(&from.fd, &base.fd, tree, &from.path)
}

struct Comparison<'a, 's> {
    context: &'a mut Context<'s>,
    trust: Trust,
    buffers: [Buffer; 2],
    progress: Progress,
}

impl Comparison<'_, '_> {
    fn directory(
        &mut self,
        from: &OwnedFd,
        base: &OwnedFd,
        tree: &mut Directory,
        path: &Path,
    ) -> Work<()> {
        for entry in &mut tree.entries {
            let path = join(path, &entry.name);
            match &mut entry.node {
                Node::Link(_) => {}
                Node::File(file) => {
                    let same = self.is_same(from, base, entry.name.as_c_str(), *file, &path)?;
                    file.unchanged = same;
                }
                Node::Directory(inner) => {
                    // Where the base has something else, everything below is new.
                    let Ok(base) = openat(base, &entry.name, DIRECTORY, Mode::empty()) else {
                        continue;
                    };
                    let from = openat(from, &entry.name, DIRECTORY, Mode::empty());
                    let from = from.map_err(|errno| failed(&path, errno))?;
                    self.directory(&from, &base, inner, &path)?;
                }
            }
        }
        Ok(())
    }

    fn is_same(
        &mut self,
        from: &OwnedFd,
        base: &OwnedFd,
        name: &std::ffi::CStr,
        file: File,
        path: &Path,
    ) -> Work<bool> {
        self.context.check()?;
        let Ok(found) = statat(base, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(false);
        };
        let is_like = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_mode & 0o7777 == file.mode
            && found.st_size.unsigned_abs() == file.size;
        if !is_like {
            return Ok(false);
        }
        if self.trust == Trust::Times && modified(&found) == file.modified {
            self.progress.add(self.context, file.size);
            return Ok(true);
        }

        // Of two that cannot be read, the one that is published is not worth a failure.
        let mut mine = Source::open(from, name, true).map_err(|errno| failed(path, errno))?;
        let Ok(mut theirs) = Source::open(base, name, false) else {
            return Ok(false);
        };
        let equal = are_equal(
            self.context,
            &mut self.buffers,
            &mut self.progress,
            &mut mine,
            &mut theirs,
        )?;
        mine.forget();
        Ok(equal.unwrap_or(false))
    }
}

/// Whether the file system can make files of `from` share their blocks with new ones in `to`. It is
/// tried with the first file that has to be copied; `probe` is a name that nothing uses.
pub(super) fn can_clone(from: &Place, tree: &Directory, to: &Place, probe: &str) -> bool {
    let Some(source) = first_changed(&from.fd, tree) else {
        return false;
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let Ok(new) = openat(&to.fd, probe, flags, Mode::RUSR) else {
        return false;
    };
    let cloned = ioctl_ficlone(&new, &source.fd).is_ok();
    let _ = unlinkat(&to.fd, probe, AtFlags::empty());
    cloned
}

fn first_changed(from: &OwnedFd, tree: &Directory) -> Option<Source> {
    tree.entries
        .iter()
        .find_map(|Entry { name, node }| match node {
            Node::File(file) if !file.unchanged && file.size > 0 => {
                Source::open(from, name, true).ok()
            }
            Node::Directory(inner) => {
                let from = openat(from, name, DIRECTORY, Mode::empty()).ok()?;
                first_changed(&from, inner)
            }
            Node::File(_) | Node::Link(_) => None,
        })
}

/// How much room the disk has, in bytes.
pub(super) fn free(place: &Place) -> Result<u64, Error> {
    let found = fstatvfs(&place.fd).map_err(|errno| failed(&place.path, errno))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Fails if the disk has no room for what has to be written.
pub(super) fn ask_room(to: &Place, what: &str, sums: Sums, clones: bool) -> Result<(), Error> {
    let copied = if clones { 0 } else { sums.changed_size };
    let needed = copied.saturating_add(sums.names.saturating_mul(NAME_SIZE));
    let there = free(to)?;
    if needed <= there {
        return Ok(());
    }

    Err(Error::failed(format!(
        "{what} needs {} in {}, {} is free: nothing was copied; \
         make room, or set LEFT4ME_BUILDS=in-place",
        size(needed),
        to.path.display(),
        size(there)
    )))
}
