//! Creates stand-ins for files of lower layers. An overlay mount with `metacopy=on` takes owner,
//! mode and size from the stand-in, and the content from the file of the same name in the layer
//! below (the kernel's Documentation/filesystems/overlayfs.rst, "Metadata only copy up").
//!
//! They are in a tmpfs that exists as long as the mount. They take about 1 KiB of memory each, need
//! no updates and leave nothing behind. The same 30,000 files on ext4 took 1.6 times as long, and
//! have to be removed again.
//!
//! Idmapped lower mounts (mount_setattr(2)) cost nothing, but map each owner to one other: files of
//! left4me, root and members cannot all become the server's. They also need CAP_SETUID, CAP_SETGID
//! and user namespaces in left4me-overlay@.

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

/// Mount options of the tmpfs. They limit how much kernel memory a member can make it use. The
/// files in it take no blocks.
pub(super) const OPTIONS: &str = "mode=0755,size=1m,nr_inodes=300000";

const METACOPY: &CStr = c"trusted.overlay.metacopy";
const ACL: &CStr = c"system.posix_acl_access";

/// Opens the directory `name` in `parent` and creates it if it is missing. None if a higher layer
/// has a file of this name.
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

/// Creates the stand-in of a file with the attributes `found`, for `owner`, who may read and write
/// it. An existing stand-in of a higher layer is kept.
pub(super) fn file(
    parent: &OwnedFd,
    name: &CStr,
    found: &FileStat,
    owner: (Uid, Gid),
) -> Result<(), Errno> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(file) => file,
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    };

    ftruncate(&file, found.st_size)?;
    rustix::fs::fsetxattr(&file, METACOPY, &[], XattrFlags::CREATE)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;

    let times = [
        (found.st_atime, found.st_atime_nsec),
        (found.st_mtime, found.st_mtime_nsec),
    ];

    let [accessed, modified] = times.map(|(seconds, nanos)| TimeSpec::new(seconds, nanos));
    futimens(&file, &accessed, &modified)?;
    fchmod(
        &file,
        Mode::from_bits_truncate(found.st_mode & 0o777 | 0o600),
    )?;

    // The owner changes last: setting mode and times of another user's file would need a
    // capability.
    fchown(&file, Some(owner.0), Some(owner.1))
}

/// Whether a file has an ACL.
pub(super) fn has_acl(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    // Before Linux 6.13 no call reads attributes of a name in a directory.
    let path = Path::new("/proc/self/fd")
        .join(parent.as_raw_fd().to_string())
        .join(OsStr::from_bytes(name.to_bytes()));
    rustix::fs::lgetxattr(&path, ACL, &mut [0_u8; 0][..]).is_ok_and(|size| size > 0)
}
