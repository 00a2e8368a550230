//! `mount N`: a server's overlay, on ROOT/runtime/N/merged. For left4me-overlay@.service, and root by hand.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use sha2::{Digest as _, Sha256};

use super::directory::Directory;
use super::layers::{self, Layer};
use super::{mirror, umount};
use crate::base::names::InstanceName;
use crate::base::{Error, Result, users};
use crate::process::mounts;

/// Mounts the overlay with the layers that instance.env names. The same layers mounted already: nothing to do.
///
/// # Errors
/// Exit 3 when the server was not initialized or a layer is missing; 4 when something that is not ours is mounted
/// there; 1 for a layer that may not be one, and for what the kernel refuses.
pub(super) fn run(root: &Path, server: &InstanceName) -> Result<()> {
    let game = users::ids(users::GAME)?;
    let directory = Directory::root(root)?;
    // Until the mount stands, nobody changes a layer: whoever initializes holds the other side of this lock.
    let _reading = layers::lock(&directory, server)?;
    let layers = layers::open(&directory, root, server)?;
    let source = source(server, &layers);
    let merged = umount::merged(&directory, server);
    match mounts::at(&merged)?.last() {
        None => {}
        Some(mount) if mount.kind == "overlay" && mount.source == source => return Ok(()),
        Some(mount) if mount.kind == "overlay" && mount.source.starts_with("left4me-") => {
            umount::run(root, server)?;
        }
        Some(mount) => {
            let words = format!("{} has a {} mounted on it that is not ours", merged.display(), mount.kind);
            return Err(Error::conflict(format!("{words}: unmount it first")));
        }
    }
    let runtime = directory.enter("runtime")?.ensure(server.as_str(), mode(0o750), game)?;
    let upper = runtime.ensure("upper", mode(0o755), game)?;
    let work = runtime.ensure("work", mode(0o750), game)?;
    let target = runtime.ensure("merged", mode(0o755), game)?;
    mirror::mirror(&layers, &upper, game)?;
    // In /proc/self/fd each directory has a name of a few digits: 500 layers fit the one page that the kernel takes,
    // and what is mounted is what was checked, whoever moves a path meanwhile.
    nix::unistd::chdir("/proc/self/fd").map_err(|errno| refused(&target.path, errno))?;
    let lower: Vec<String> = layers.iter().map(|layer| layer.fd.as_raw_fd().to_string()).collect();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.fd.as_raw_fd(), work.fd.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let target_fd = target.fd.as_raw_fd().to_string();
    nix::mount::mount(Some(source.as_str()), target_fd.as_str(), Some("overlay"), flags, Some(options.as_str()))
        .map_err(|errno| refused(&target.path, errno))
}

/// What stands as source in the list of mounts: a mount with the same source has the same layers.
fn source(server: &InstanceName, layers: &[Layer]) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(layer.path.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    let hex: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("left4me-{server}:{hex}")
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

fn refused(target: &Path, errno: Errno) -> Error {
    let hint = match errno {
        Errno::EPERM | Errno::EACCES => " (CAP_SYS_ADMIN is needed)",
        Errno::EBUSY => " (upper or work is in use by another mount)",
        Errno::EINVAL => " (see `dmesg`)",
        Errno::ENODEV => " (the kernel has no overlayfs: `modprobe overlay`)",
        _ => "",
    };
    let exit = if matches!(errno, Errno::EPERM | Errno::EACCES) {
        crate::base::Exit::NotPermitted
    } else {
        crate::base::Exit::Failed
    };
    Error::new(exit, format!("the overlay cannot be mounted on {}: {}{hint}", target.display(), errno.desc()))
}
