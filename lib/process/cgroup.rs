//! The control group of the command: a sub-group of the one that systemd delegated to this unit
//! (Delegate=yes). Without delegation there is none, and `tree` finds the processes
//! itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::unistd::{AccessFlags, Uid, access};

use super::mounts;

/// The sub-group's name.
const NAME: &str = "command";

/// A sub-group of this process's group. A command enters it before its program starts.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    path: String,
    procs: File,
    events: File,
}

impl Cgroup {
    /// Makes the sub-group `command`; `None` where the group is not delegated to this process.
    pub fn delegated() -> Option<Self> {
        let path = own_path()?;
        let parent = directory_of(Path::new(&path)).filter(|parent| is_delegated(parent, &path))?;

        let directory = parent.join(NAME);
        match Self::create(directory, format!("{}/{NAME}", path.trim_end_matches('/'))) {
            Ok(cgroup) => Some(cgroup),
            Err(error) => {
                tracing::warn!(%error, "no control group for the command: \
                                        its processes are tracked by /proc");
                None
            }
        }
    }

    fn create(directory: PathBuf, path: String) -> io::Result<Self> {
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }

        let procs = fs::OpenOptions::new()
            .write(true)
            .open(directory.join("cgroup.procs"))?;
        let procs = procs.into_parts().0;
        let events = fs::File::open(directory.join("cgroup.events"))?
            .into_parts()
            .0;
        Ok(Self {
            directory,
            path,
            procs,
            events,
        })
    }

    /// The group's path as in /proc/PID/cgroup.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A process that writes "0" to this enters the group.
    pub fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Gets ready for POLLPRI when the group becomes empty.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether a process is in the group or below it. A group that cannot be read counts as
    /// populated.
    pub fn populated(&self) -> bool {
        let mut text = [0_u8; 256];
        match self.events.read_at(&mut text, 0) {
            Ok(length) => {
                let mut lines = text[..length].split(|&byte| byte == b'\n');
                !lines.any(|line| line == b"populated 0")
            }
            Err(_) => true,
        }
    }

    /// Kills every process in the group at once, so that no fork escapes.
    pub fn kill(&self) {
        if let Err(error) = fs::write(self.directory.join("cgroup.kill"), "1") {
            tracing::debug!(%error, "cgroup.kill");
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It fails while a process is left in the group; then systemd removes it with the unit.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The unit of this process: the last part of its control group that is named like a service, or
/// empty.
pub fn own_unit() -> String {
    let path = own_group();
    path.rsplit('/')
        .find(|part| part.ends_with(".service"))
        .unwrap_or_default()
        .to_owned()
}

/// The control group of this process as in /proc/PID/cgroup; empty without a unified hierarchy.
pub fn own_group() -> String {
    own_path().unwrap_or_default()
}

/// The line `0::/path` is the unified hierarchy's.
fn own_path() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// The unified hierarchy. It is not always at /sys/fs/cgroup: a hybrid host mounts it elsewhere.
pub(super) fn hierarchy() -> Option<mounts::Mount> {
    mounts::all()
        .ok()?
        .into_iter()
        .find(|mount| mount.kind == "cgroup2")
}

/// The directory of a group whose path is as in /proc/PID/cgroup.
fn directory_of(path: &Path) -> Option<PathBuf> {
    let hierarchy = hierarchy()?;
    let below = path
        .strip_prefix(&hierarchy.root)
        .or_else(|_| path.strip_prefix("/"))
        .ok()?;
    Some(hierarchy.point.join(below))
}

/// systemd gives a delegated group to the unit's user. root may write everywhere, so for root the
/// attribute that systemd sets on a delegated group is required too: otherwise root's own login
/// session would be divided.
fn is_delegated(directory: &Path, path: &str) -> bool {
    let writable = |file: &str| access(&directory.join(file), AccessFlags::W_OK).is_ok();
    path != "/"
        && writable("")
        && writable("cgroup.procs")
        && (!Uid::effective().is_root()
            || has_attribute(directory, c"user.delegate")
            || has_attribute(directory, c"trusted.delegate"))
}

fn has_attribute(directory: &Path, name: &std::ffi::CStr) -> bool {
    use std::os::unix::ffi::OsStrExt as _;

    let bytes = directory.as_os_str().as_bytes();
    let Ok(directory) = std::ffi::CString::new(bytes) else {
        return false;
    };
    let mut value = [0_u8; 8];
    // SAFETY: both names end with NUL, and the kernel writes at most the length of `value`, which
    // outlives the call.
    #[expect(unsafe_code, reason = "no crate here reads extended attributes")]
    let length = unsafe {
        nix::libc::getxattr(
            directory.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };

    length == 1 && value[0] == b'1'
}
