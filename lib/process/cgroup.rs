//! The control group of the command: a sub-group of the one that systemd delegated to this unit (Delegate=yes).
//! Where none was delegated there is none, and [`super::tree`] has to find the processes by itself.

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

/// A sub-group of our own that a command enters before its program starts.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    path: String,
    procs: File,
    events: File,
}

impl Cgroup {
    /// The sub-group `command` of our own control group, made now; `None` where that is not delegated to us.
    #[must_use]
    pub fn delegated() -> Option<Self> {
        let path = own_path()?;
        let parent = directory_of(Path::new(&path)).filter(|parent| is_delegated(parent, &path))?;
        let directory = parent.join(NAME);
        match Self::create(directory, format!("{}/{NAME}", path.trim_end_matches('/'))) {
            Ok(cgroup) => Some(cgroup),
            Err(error) => {
                tracing::warn!(%error, "no control group for the command: its processes are followed one by one");
                None
            }
        }
    }

    fn create(directory: PathBuf, path: String) -> io::Result<Self> {
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let procs = fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs"))?.into_parts().0;
        let events = fs::File::open(directory.join("cgroup.events"))?.into_parts().0;
        Ok(Self { directory, path, procs, events })
    }

    /// The group as in /proc/PID/cgroup.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Writing "0" to this moves the writer into the group.
    #[must_use]
    pub fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Becomes ready for POLLPRI when the group becomes empty.
    #[must_use]
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether any process lives in the group or below it. What cannot be read counts as populated.
    #[must_use]
    pub fn populated(&self) -> bool {
        let mut text = [0_u8; 256];
        match self.events.read_at(&mut text, 0) {
            Ok(length) => !text[..length].split(|&byte| byte == b'\n').any(|line| line == b"populated 0"),
            Err(_) => true,
        }
    }

    /// SIGKILL to every process in the group at once, so that no fork escapes it.
    pub fn kill(&self) {
        if let Err(error) = fs::write(self.directory.join("cgroup.kill"), "1") {
            tracing::debug!(%error, "cgroup.kill");
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails while a process is left in it; then systemd removes it with the unit.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The unit this process belongs to: the last part of its control group that is named like a service, or nothing.
#[must_use]
pub fn own_unit() -> String {
    let path = own_group();
    path.rsplit('/').find(|part| part.ends_with(".service")).unwrap_or_default().to_owned()
}

/// The control group this process is in, as in /proc/PID/cgroup; empty where there is no unified hierarchy.
#[must_use]
pub fn own_group() -> String {
    own_path().unwrap_or_default()
}

/// This process's place in the unified hierarchy: the line `0::/path`.
fn own_path() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The unified hierarchy. Not always at /sys/fs/cgroup: a hybrid host has it beside the old ones.
pub(super) fn hierarchy() -> Option<mounts::Mount> {
    mounts::all().ok()?.into_iter().find(|mount| mount.kind == "cgroup2")
}

/// The directory of a group, which is as in /proc/PID/cgroup.
fn directory_of(path: &Path) -> Option<PathBuf> {
    let hierarchy = hierarchy()?;
    let below = path.strip_prefix(&hierarchy.root).or_else(|_| path.strip_prefix("/")).ok()?;
    Some(hierarchy.point.join(below))
}

/// systemd gives a delegated group to the unit's user. For root, who may write everywhere, the mark that systemd
/// puts on a delegated group has to be there too: a person's session is not ours to divide.
fn is_delegated(directory: &Path, path: &str) -> bool {
    let writable = |file: &str| access(&directory.join(file), AccessFlags::W_OK).is_ok();
    path != "/"
        && writable("")
        && writable("cgroup.procs")
        && (!Uid::effective().is_root()
            || marked(directory, c"user.delegate")
            || marked(directory, c"trusted.delegate"))
}

fn marked(directory: &Path, name: &std::ffi::CStr) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(directory) = std::ffi::CString::new(directory.as_os_str().as_bytes()) else { return false };
    let mut value = [0_u8; 8];
    // SAFETY: both names end with NUL, and the kernel writes at most the length of `value`, which outlives the call.
    #[expect(unsafe_code, reason = "no crate here reads extended attributes")]
    let length =
        unsafe { nix::libc::getxattr(directory.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    length == 1 && value[0] == b'1'
}
