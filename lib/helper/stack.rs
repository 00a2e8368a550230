//! Builds the mounts of a server's merged directory.
//!
//! ```text
//! runtime/ID/merged     overlay: upper over the instance's own layer over
//!   (detached)          overlay, read-only, metacopy=on: stand-ins over the blueprint's overlays over the game
//!     (detached)        tmpfs: the stand-ins
//! ```
//!
//! It needs two overlays. With `metacopy=on` and an upper layer the kernel would copy only metadata
//! into that layer too, and renamed files would change or be lost with the lower layer. So the
//! upper layer has whole files, as in every earlier version, and a version without stand-ins can
//! mount it. The two inner mounts are on runtime/ID/parts. They are detached as soon as the outer
//! one holds them: one mount remains, and it is unmounted as a whole.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::open;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::directory::{Directory, FLAGS, unusable};
use super::layers::Layer;
use super::runtime::Runtime;
use super::{mirror, standins};
use crate::base::names::InstanceName;
use crate::base::{Error, Result, filesystem, users};
use crate::process::mounts;

const FLAGS_OF_ALL: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// A mount without stand-ins: the game can only read the files of its overlays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WithoutStandIns(pub Errno);

/// Mounts `layers`, the topmost first, below the upper layer of `runtime`. `owner` can write the
/// files, unless the result says otherwise.
///
/// Fails with 1 or 77 if the kernel refuses; then nothing is mounted.
pub(super) fn mount(
    source: &str,
    layers: &[Layer],
    runtime: &Runtime,
    owner: (Uid, Gid),
) -> Result<Option<WithoutStandIns>, Refused> {
    let mounted = build(source, layers, runtime, owner);
    match clear(&runtime.parts.path) {
        Ok(()) => mounted,
        Err(error) => mounted.and(Err(Refused::Other(error))),
    }
}

#[derive(Debug)]
pub(super) enum Refused {
    /// The kernel did not mount the overlay.
    Kernel(Errno, PathBuf),
    /// Another error.
    Other(Error),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Kernel(errno, target) => kernel_refused(&target, errno),
            Refused::Other(error) => error,
        }
    }
}

fn build(
    source: &str,
    layers: &[Layer],
    runtime: &Runtime,
    owner: (Uid, Gid),
) -> Result<Option<WithoutStandIns>, Refused> {
    // In /proc/self/fd the name of each directory has a few digits, so 500 layers fit in the one
    // page that the kernel accepts. It also mounts exactly what was checked, even if a path is
    // moved meanwhile.
    let parts = &runtime.parts.path;
    let refused = |errno| Refused::Kernel(errno, runtime.merged.path.clone());
    nix::unistd::chdir("/proc/self/fd").map_err(refused)?;

    let tmpfs = MountArguments {
        kind: "tmpfs",
        source,
        flags: MsFlags::MS_NOEXEC,
        options: standins::OPTIONS,
    };

    tmpfs
        .mount(&runtime.parts.fd)
        .map_err(|errno| Refused::Kernel(errno, parts.clone()))?;

    let files = Directory {
        fd: reopen(parts).map_err(Refused::Other)?,
        path: parts.clone(),
    };

    let shared = users::ids(users::GAME).ok().map(|ids| ids.1);
    let made =
        mirror::mirror(layers, &runtime.upper, &files, owner, shared).map_err(Refused::Other)?;

    let (own, others): (Vec<&Layer>, Vec<&Layer>) = layers.iter().partition(|layer| layer.is_own);
    let inner = made
        .and_then(|()| read_only(source, &files.fd, &others))
        .and_then(|()| {
            let top = open(parts, FLAGS, Mode::empty())?;
            let lower = own
                .iter()
                .map(|layer| layer.fd.as_raw_fd())
                .chain([top.as_raw_fd()]);
            outer(source, lower, runtime)
        });
    let Err(errno) = inner else { return Ok(None) };

    // The data may already be on an overlay (the kernel stacks only two), or the stand-ins may not
    // fit. Mounts without them.
    let lower = layers.iter().map(|layer| layer.fd.as_raw_fd());

    outer(source, lower, runtime).map_err(refused)?;
    tracing::warn!(
        "the game can only read, not write in place, the files of its overlays: {} (see `dmesg`)",
        errno.desc()
    );

    Ok(Some(WithoutStandIns(errno)))
}

/// Mounts the stand-ins above the layers that they stand for.
fn read_only(source: &str, files: &OwnedFd, layers: &[&Layer]) -> Result<(), Errno> {
    let lower = [files]
        .into_iter()
        .chain(layers.iter().map(|layer| &layer.fd))
        .map(|fd| fd.as_raw_fd());
    let options = format!("metacopy=on,lowerdir={}", joined(lower));
    MountArguments {
        kind: "overlay",
        source,
        flags: MsFlags::MS_RDONLY,
        options: &options,
    }
    .mount(files)
}

fn outer(source: &str, lower: impl Iterator<Item = i32>, runtime: &Runtime) -> Result<(), Errno> {
    let (upper, work) = (runtime.upper.fd.as_raw_fd(), runtime.work.fd.as_raw_fd());
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", joined(lower));
    MountArguments {
        kind: "overlay",
        source,
        flags: MsFlags::empty(),
        options: &options,
    }
    .mount(&runtime.merged.fd)
}

fn joined(fds: impl Iterator<Item = i32>) -> String {
    fds.map(|fd| fd.to_string()).collect::<Vec<_>>().join(":")
}

/// The arguments of mount(2).
struct MountArguments<'m> {
    kind: &'m str,
    source: &'m str,
    flags: MsFlags,
    options: &'m str,
}

impl MountArguments<'_> {
    fn mount(&self, target: &OwnedFd) -> Result<(), Errno> {
        let target = target.as_raw_fd().to_string();
        let flags = FLAGS_OF_ALL | self.flags;
        nix::mount::mount(
            Some(self.source),
            target.as_str(),
            Some(self.kind),
            flags,
            Some(self.options),
        )
    }
}

/// Opens what is now mounted on `path`.
fn reopen(path: &Path) -> Result<OwnedFd> {
    open(path, FLAGS, Mode::empty()).map_err(|errno| unusable(path, errno))
}

/// Unmounts what an interrupted mount of `server` left behind. Runs before its directories are
/// opened, because they are below.
pub(super) fn clear_leftovers(root: &Directory, server: &InstanceName) -> Result<()> {
    clear(
        &root
            .path
            .join("runtime")
            .join(server.as_str())
            .join("parts"),
    )
}

/// Unmounts everything on `path`. The unmount is detached, because the mount above still uses it.
pub(super) fn clear(path: &Path) -> Result<()> {
    for _ in mounts::at(path)? {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: no longer mounted.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(unusable(path, errno)),
        }
    }

    Ok(())
}

fn kernel_refused(target: &Path, errno: Errno) -> Error {
    let words = format!(
        "the overlay cannot be mounted on {}: {}",
        target.display(),
        errno.desc()
    );

    let hint = match errno {
        Errno::EPERM | Errno::EACCES => " (CAP_SYS_ADMIN is needed)",
        Errno::EBUSY => " (upper or work is in use by another mount)",
        Errno::EINVAL => match filesystem::unfit(target) {
            Some(kind) => {
                let why =
                    format!("{words}: it is on {kind}; `sudo left4me doctor` says what to do");
                return Error::failed(why);
            }
            None => {
                " (the file system cannot hold an upper layer, or two layers overlap: \
                 `sudo left4me doctor` tries the first, `dmesg` says which)"
            }
        },
        Errno::ENODEV => " (the kernel has no overlayfs: `modprobe overlay`)",
        _ => "",
    };

    let exit = if matches!(errno, Errno::EPERM | Errno::EACCES) {
        crate::base::Exit::NotPermitted
    } else {
        crate::base::Exit::Failed
    };

    Error::new(exit, format!("{words}{hint}"))
}
