//! runtime/ID/layers: what the server's upper layer was last mounted over, the topmost layer first,
//! one path relative to the data directory per line. The instance's own layer is left out.
//!
//! The search for stale files runs as the server's user, which may not read instance.env. Only root
//! can write in runtime/ID, so systemd can show the file to that search.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};

use super::directory::{Directory, Opened, unusable};
use super::layers::{self, Layer};
use crate::base::names::InstanceName;
use crate::base::{Error, Exit, Result};

/// The file's name, also in left4me-stale@.service and left4me-purge-stale@.service.
pub(super) const NAME: &str = "layers";
const NEW: &str = "layers.new";

/// The largest file that is read, in bytes: as for instance.env.
const FILE_LIMIT: u64 = 256 * 1024;

/// Writes the file of `server` atomically, if it differs. runtime/ID must exist.
pub(super) fn write(root: &Directory, server: &InstanceName, layers: &[Layer]) -> Result<()> {
    let directory = root.enter("runtime")?.enter(server.as_str())?;
    let path = directory.path.join(NAME);
    let failed = |errno| unusable(&path, errno);

    let mut text = Vec::new();
    for layer in layers.iter().filter(|layer| !layer.is_own) {
        let below = layer.path.strip_prefix(&root.path).unwrap_or(&layer.path);
        text.extend_from_slice(below.as_os_str().as_encoded_bytes());
        text.push(b'\n');
    }
    if matches!(content(&directory), Ok(Some(found)) if found == text) {
        return Ok(());
    }

    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let new: OwnedFd =
        openat(&directory, NEW, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    // Paths of layers are no secret, and the server's user must read them.
    fchmod(&new, Mode::from_bits_truncate(0o644)).map_err(failed)?;
    std::fs::File::from(new)
        .write_all(&text)
        .map_err(|error| Error::from(error).within(path.display()))?;
    renameat(&directory, NEW, &directory, NAME).map_err(failed)
}

/// A layer that the server's upper layer was last mounted over.
#[derive(Debug)]
pub(super) struct Mounted {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// None if it is gone.
    pub fd: Option<OwnedFd>,
}

/// Opens the layers that `runtime`, which is runtime/ID, was last mounted over, the topmost first.
/// None if that is not known.
pub(super) fn open(root: &Directory, runtime: &Directory) -> Result<Option<Vec<Mounted>>> {
    let Some(text) = content(runtime)? else {
        return Ok(None);
    };
    let text = String::from_utf8(text)
        .map_err(|_| Error::failed(format!("{} is not text", runtime.path.join(NAME).display())))?;

    let open = |below: &str| {
        let path = PathBuf::from(below);
        let fd = match layers::open_layer(root, &path) {
            Ok(fd) => Some(fd),
            Err(error) if error.exit == Exit::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Mounted { path, fd })
    };
    text.lines().map(open).collect::<Result<_>>().map(Some)
}

/// The content of the file in runtime/ID; none if there is none.
fn content(runtime: &Directory) -> Result<Option<Vec<u8>>> {
    let path = runtime.path.join(NAME);
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(runtime, NAME, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(unusable(&path, errno)),
    };

    let found = fstat(&file).map_err(|errno| unusable(&path, errno))?;
    let is_regular = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if !is_regular || bytes.len() as u64 > FILE_LIMIT {
        let path = path.display();
        return Err(Error::failed(format!("{path} was not written by left4me")));
    }
    Ok(Some(bytes))
}

/// Whether the layers of `server` are known, and so whether stale files can be found.
pub(super) fn is_there(runtime: &Directory) -> bool {
    matches!(content(runtime), Ok(Some(_)))
}

/// Opens runtime/ID of `server`; none if there is none.
pub(super) fn runtime_of(root: &Directory, server: &InstanceName) -> Result<Option<Directory>> {
    let Opened::Open(all) = root.find("runtime")? else {
        return Ok(None);
    };
    match all.find(server.as_str())? {
        Opened::Open(runtime) => Ok(Some(runtime)),
        Opened::Missing => Ok(None),
    }
}
