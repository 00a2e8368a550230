//! Stand-ins of lower layers' files: what an overlay mount with `metacopy=on` takes owner, mode and size from, while the
//! content is that of the same name in the layer below (the kernel's Documentation/filesystems/overlayfs.rst, "Metadata
//! only copy up").
//!
//! They are in a tmpfs that lives as long as the mount: about 1 KiB of memory each, nothing to bring up to date and nothing
//! left behind. The same 30,000 on ext4 took 1.6 times as long, and have to be removed again. Idmapped lower mounts
//! (mount_setattr(2)) cost nothing, but map each owner to one other: files of left4me, root and members cannot all become
//! the server's. They also need CAP_SETUID, CAP_SETGID and user namespaces in left4me-overlay@.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, ftruncate};
use rustix::fs::XattrFlags;

use super::directory::FLAGS;

/// The tmpfs: a bound for what a member can make the kernel keep in memory. The files in it take no blocks.
pub(super) const OPTIONS: &str = "mode=0755,size=1m,nr_inodes=300000";

const METACOPY: &CStr = c"trusted.overlay.metacopy";
const ACL: &CStr = c"system.posix_acl_access";

/// The directory `name` in `parent`, made when it is missing; none when it is a higher layer's file.
pub(super) fn directory(parent: &OwnedFd, name: &CString) -> Result<Option<OwnedFd>, Errno> {
    match mkdirat(parent, name.as_c_str(), Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }

    match openat(parent, name.as_c_str(), FLAGS, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes the stand-in of a file that was found as `found`, for `owner`, who may read and write it. A higher layer's is
/// left alone.
pub(super) fn file(parent: &OwnedFd, name: &CStr, found: &FileStat, owner: (Uid, Gid)) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(file) => file,
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    };

    ftruncate(&file, found.st_size)?;
    rustix::fs::fsetxattr(&file, METACOPY, &[], XattrFlags::CREATE)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;

    let times = [(found.st_atime, found.st_atime_nsec), (found.st_mtime, found.st_mtime_nsec)];
    let [accessed, modified] = times.map(|(seconds, nanos)| TimeSpec::new(seconds, nanos));
    futimens(&file, &accessed, &modified)?;
    fchmod(&file, Mode::from_bits_truncate(found.st_mode & 0o777 | 0o600))?;

    // Last: the mode and the times of another user's file are not root's to change without a capability.
    fchown(&file, Some(owner.0), Some(owner.1))
}

/// Whether a file has a list of access rights besides its mode.
pub(super) fn has_acl(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    // There is no call for a name in a directory before Linux 6.13.
    let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(OsStr::from_bytes(name.to_bytes()));
    rustix::fs::lgetxattr(&path, ACL, &mut [0_u8; 0][..]).is_ok_and(|size| size > 0)
}
