//! ROOT/builds and ROOT/installation by descriptor: the lock, the current build, and what an
//! interrupted request left behind.

use std::ffi::CString;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, flock, fsync, openat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::context::{Context, Work, failed};
use super::erase::{Until, erase};
use super::place::{DIRECTORY, Place};
use crate::base::builds::{self, CURRENT};
use crate::base::{Error, Result, failpoint};

/// How much longer than the grace an earlier request may hold the lock while it ends.
const MARGIN: Duration = Duration::from_secs(6);

/// The pause between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(200);

/// The link before it is renamed to [`CURRENT`].
const NEXT: &str = ".new-current";

/// Both directories. The lock on builds/ is held until this is dropped.
pub(super) struct Store {
    pub builds: Place,
    pub installation: Place,
}

impl Store {
    /// Opens both and waits for the end of an earlier request, up to `grace` and some seconds.
    ///
    /// Fails with 4 if that still runs; 1 if a directory is missing.
    pub(super) fn open(context: &mut Context<'_>, grace: Duration) -> Work<Self> {
        let root = context.root;
        let store = Self {
            builds: open(&root.join(builds::DIRECTORY))?,
            installation: open(&root.join("installation"))?,
        };

        let until = Instant::now() + grace + MARGIN;
        loop {
            match flock(&store.builds.fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(store),
                Err(Errno::WOULDBLOCK) if Instant::now() < until => context.pause(PAUSE)?,
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::conflict(format!(
                        "another request is under way: it holds the lock on {}",
                        store.builds.path.display()
                    ))
                    .into());
                }
                Err(errno) => return Err(failed(&store.builds.path, errno).into()),
            }
        }
    }

    /// The current build.
    ///
    /// Fails if the link leads to something that is no build.
    pub(super) fn current(&self, context: &Context<'_>) -> Result<Option<u64>> {
        builds::current(context.root)
            .map_err(|error| Error::failed(format!("{error}: `sudo left4me doctor` says more")))
    }

    /// Makes `build` the current one: a link beside, renamed over the old one.
    pub(super) fn set_current(&self, build: u64) -> Result<()> {
        let Place { fd, path } = &self.builds;
        match unlinkat(fd, NEXT, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(&path.join(NEXT), errno)),
        }

        symlinkat(build.to_string(), fd, NEXT).map_err(|errno| failed(&path.join(NEXT), errno))?;
        failpoint::hit("publisher-link");
        renameat(fd, NEXT, fd, CURRENT).map_err(|errno| failed(&path.join(CURRENT), errno))?;
        self.sync()
    }

    /// Makes no build the current one.
    pub(super) fn unset_current(&self) -> Result<()> {
        match unlinkat(&self.builds.fd, CURRENT, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.sync(),
            Err(errno) => Err(failed(&self.builds.path.join(CURRENT), errno)),
        }
    }

    /// Writes the names in builds/ to disk.
    pub(super) fn sync(&self) -> Result<()> {
        fsync(&self.builds.fd).map_err(|errno| failed(&self.builds.path, errno))
    }

    /// Removes what an interrupted request left in builds/.
    pub(super) fn clear(&self, context: &mut Context<'_>, until: Until) -> Work<()> {
        for name in self.leftovers()? {
            erase(context, until, &self.builds, &name)?;
        }
        Ok(())
    }

    fn leftovers(&self) -> Result<Vec<CString>> {
        let Place { fd, path } = &self.builds;
        let refused = |errno| failed(path, errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(fd).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name().to_owned();
            if [&b".new-"[..], b".old-"]
                .iter()
                .any(|begin| name.to_bytes().starts_with(begin))
            {
                names.push(name);
            }
        }
        Ok(names)
    }
}

fn open(path: &Path) -> Result<Place> {
    match openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(fd) => Ok(Place {
            fd,
            path: path.to_owned(),
        }),
        Err(Errno::NOENT) => Err(Error::failed(format!(
            "{} is missing: run `systemd-tmpfiles --create left4me.conf`",
            path.display()
        ))),
        Err(errno) => Err(failed(path, errno)),
    }
}
