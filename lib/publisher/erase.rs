//! Removes a tree, name by name, without following a link.

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, Mode, fchmod, openat, unlinkat};
use rustix::io::Errno;

use super::context::{Context, Work, failed};
use super::place::{DIRECTORY, Place};
use crate::base::Error;

/// How many levels of directories are removed; a published tree has at most half of that.
const DEPTH: usize = 128;

/// What ends a removal early, between any two names. A kill grants it two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Cancelled,
    Killed,
}

/// Removes `name` in `place` with everything in it.
pub(super) fn erase(
    context: &mut Context<'_>,
    until: Until,
    place: &Place,
    name: &CStr,
) -> Work<()> {
    let path = place.path.join(OsStr::from_bytes(name.to_bytes()));
    let begun = Instant::now();
    let mut eraser = Eraser {
        context,
        until,
        begun,
    };
    eraser.entry(&place.fd, name, &path, DEPTH)
}

struct Eraser<'a, 's> {
    context: &'a mut Context<'s>,
    until: Until,
    begun: Instant,
}

impl Eraser<'_, '_> {
    fn entry(&mut self, above: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> Work<()> {
        match self.until {
            Until::Cancelled => self.context.check()?,
            Until::Killed => self.context.check_kill(self.begun)?,
        }

        match unlinkat(above, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(failed(path, errno).into()),
        }

        self.inside(above, name, path, depth)?;
        match unlinkat(above, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(path, errno).into()),
        }
    }

    fn inside(&mut self, above: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> Work<()> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Error::failed(format!(
                "{} has directories more than {DEPTH} levels deep: remove it by hand",
                path.display()
            ))
            .into());
        };

        let refused = |errno| failed(path, errno);
        let directory = openat(above, name, DIRECTORY, Mode::empty()).map_err(refused)?;
        // The game's own directories may be closed to their owner. A failure shows below.
        let _ = fchmod(&directory, Mode::RWXU);

        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }

        for name in names {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            self.entry(&directory, &name, &path, depth)?;
        }
        Ok(())
    }
}
