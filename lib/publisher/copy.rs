//! Makes a tree of game files from another one: unchanged files get one more name, the others share
//! their blocks where the file system can do that, or are copied.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, fstat, futimens,
    ioctl_ficlone, linkat, mkdirat, openat, statat, symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::bytes::{self, Buffer, Source};
use super::context::{Context, Progress, Work, failed};
use super::place::{DIRECTORY, Place};
use super::tree::{Directory, File, Node, Time, join};
use crate::base::{Error, failpoint};

/// How many files, and how many bytes of them, are written before they leave the page cache.
pub(super) const FLUSH_FILES: usize = 256;
pub(super) const FLUSH_SIZE: u64 = 32 * 1024 * 1024;

/// How many files were made in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub linked: u64,
    pub cloned: u64,
    pub copied: u64,
    /// The bytes of those that were copied.
    pub copied_size: u64,
}

/// What differs between the requests that copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether no running server uses the files that are read.
    pub is_idle: bool,
    /// Whether what an interrupted request has made is kept where it is complete, and replaced
    /// elsewhere. Without it every name has to be new.
    pub resumes: bool,
}

pub(super) struct Copier<'a, 's> {
    pub context: &'a mut Context<'s>,
    pub made: Made,
    rules: Rules,
    clones: bool,
    buffer: Buffer,
    progress: Progress,
    /// Files that are written and still in the page cache.
    pending: Vec<OwnedFd>,
    pending_size: u64,
}

/// A directory on the three sides: where files come from, the build whose files may get one more
/// name, and the new one.
#[derive(Clone, Copy)]
pub(super) struct Sides<'d> {
    pub from: &'d OwnedFd,
    pub base: Option<&'d OwnedFd>,
    pub to: &'d OwnedFd,
    /// The new one's path, for messages.
    pub path: &'d Path,
}

impl<'a, 's> Copier<'a, 's> {
    pub(super) fn new(context: &'a mut Context<'s>, rules: Rules, clones: bool, size: u64) -> Self {
        Self {
            context,
            made: Made::default(),
            rules,
            clones,
            buffer: Buffer::new(),
            progress: Progress::new("copied", size),
            pending: Vec::new(),
            pending_size: 0,
        }
    }

    /// Fills a directory that is there.
    pub(super) fn fill(&mut self, sides: Sides<'_>, tree: &Directory) -> Work<()> {
        for entry in &tree.entries {
            self.context.check()?;
            let name = entry.name.as_c_str();
            let path = &join(sides.path, name);
            let sides = Sides { path, ..sides };
            match &entry.node {
                Node::Directory(inner) => self.directory(sides, name, inner)?,
                Node::File(file) => self.file(sides, name, name, *file)?,
                Node::Link(target) => self.link(sides, name, target)?,
            }
        }
        Ok(())
    }

    fn directory(&mut self, sides: Sides<'_>, name: &CStr, tree: &Directory) -> Work<()> {
        let refused = |errno| failed(sides.path, errno);
        match mkdirat(sides.to, name, Mode::RWXU) {
            Err(Errno::EXIST) if self.rules.resumes => {}
            made => made.map_err(refused)?,
        }

        let from = openat(sides.from, name, DIRECTORY, Mode::empty()).map_err(refused)?;
        let to = openat(sides.to, name, DIRECTORY, Mode::empty()).map_err(refused)?;
        let base = sides
            .base
            .and_then(|base| openat(base, name, DIRECTORY, Mode::empty()).ok());
        let inner = Sides {
            from: &from,
            base: base.as_ref(),
            to: &to,
            path: sides.path,
        };
        self.fill(inner, tree)?;

        // Its owner can always remove it again.
        fchmod(&to, Mode::from_raw_mode(tree.mode | 0o700)).map_err(refused)?;
        futimens(&to, &times(tree.modified)).map_err(refused)?;
        Ok(())
    }

    fn link(&mut self, sides: Sides<'_>, name: &CStr, target: &CStr) -> Work<()> {
        self.make_free(sides, name)?;
        symlinkat(target, sides.to, name).map_err(|errno| failed(sides.path, errno))?;
        Ok(())
    }

    /// Makes one file. `new` is its name on the new side.
    pub(super) fn file(
        &mut self,
        sides: Sides<'_>,
        name: &CStr,
        new: &CStr,
        file: File,
    ) -> Work<()> {
        if self.rules.resumes && is_complete(sides.to, new, file) {
            self.progress.add(self.context, file.size);
            return Ok(());
        }
        self.make_free(sides, new)?;

        let linked = file.unchanged
            && sides
                .base
                .is_some_and(|base| linkat(base, name, sides.to, new, AtFlags::empty()).is_ok());
        if linked {
            self.made.linked += 1;
            return Ok(());
        }

        let refused = |errno| failed(sides.path, errno);
        let mut source = Source::open(sides.from, name, self.rules.is_idle).map_err(refused)?;
        check_unchanged(&source, file, sides.path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(sides.to, new, flags, Mode::RUSR | Mode::WUSR).map_err(refused)?;

        if self.clone(&source, &to, file).map_err(refused)? {
            self.made.cloned += 1;
            self.progress.add(self.context, file.size);
        } else {
            let copied = bytes::copy(
                self.context,
                &mut self.buffer,
                &mut self.progress,
                &mut source,
                &to,
            )?;
            if copied.map_err(refused)? != file.size {
                return Err(changed(sides.path).into());
            }
            self.made.copied += 1;
            self.made.copied_size = self.made.copied_size.saturating_add(file.size);
        }

        check_unchanged(&source, file, sides.path)?;
        source.forget();
        fchmod(&to, Mode::from_raw_mode(file.mode)).map_err(refused)?;
        futimens(&to, &times(file.modified)).map_err(refused)?;
        failpoint::hit("publisher-file");
        self.settle(to, file.size, sides)
    }

    /// Lets the new file share the blocks of the source. False where the file system cannot do it.
    fn clone(&mut self, source: &Source, to: &OwnedFd, file: File) -> Result<bool, Errno> {
        if !self.clones || file.size == 0 {
            return Ok(false);
        }
        match ioctl_ficlone(to, &source.fd) {
            Ok(()) => Ok(true),
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(errno),
            Err(_) => Ok(false),
        }
    }

    /// Remembers a file that is written. From time to time all of them go to disk together, and
    /// leave the page cache.
    fn settle(&mut self, file: OwnedFd, size: u64, sides: Sides<'_>) -> Work<()> {
        self.pending.push(file);
        self.pending_size = self.pending_size.saturating_add(size);
        if self.pending.len() >= FLUSH_FILES || self.pending_size >= FLUSH_SIZE {
            self.flush(sides.to, sides.path)?;
        }
        Ok(())
    }

    fn flush(&mut self, to: &OwnedFd, path: &Path) -> Work<()> {
        self.context.check()?;
        syncfs(to).map_err(|errno| failed(path, errno))?;
        self.pending.drain(..).for_each(bytes::forget);
        self.pending_size = 0;
        Ok(())
    }

    /// Writes everything that was made to disk.
    pub(super) fn finish(&mut self, to: &Place) -> Work<()> {
        self.flush(&to.fd, &to.path)
    }

    /// Removes what an interrupted request has half made under this name.
    fn make_free(&self, sides: Sides<'_>, name: &CStr) -> Work<()> {
        if !self.rules.resumes {
            return Ok(());
        }
        match unlinkat(sides.to, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(sides.path, errno).into()),
        }
    }
}

/// Whether a file is there as it should become. Its time of change is set last, when it is whole.
fn is_complete(to: &OwnedFd, name: &CStr, file: File) -> bool {
    statat(to, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_nlink == 1
            && File::of(&found) == file
    })
}

/// Fails if the file is no longer the one that was planned: something else writes to the tree.
fn check_unchanged(source: &Source, file: File, path: &Path) -> Result<(), Error> {
    let found = fstat(&source.fd).map_err(|errno| failed(path, errno))?;
    let is_regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    let planned = File {
        unchanged: false,
        ..file
    };
    if is_regular && File::of(&found) == planned {
        return Ok(());
    }
    Err(changed(path))
}

fn changed(path: &Path) -> Error {
    Error::failed(format!(
        "the source of {} changed while it was copied: is steamcmd running?",
        path.display()
    ))
}

/// Sets the time of change only.
fn times(modified: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: modified.0,
            tv_nsec: modified.1,
        },
    }
}
