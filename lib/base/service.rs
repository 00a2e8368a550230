//! What the programs that systemd starts have in common: the signals that end them, and a socket in
//! the foreground.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Error, Result};

/// SIGTERM and SIGINT, to be read from a descriptor from here on. Call it before another thread is
/// started.
pub fn end_signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    mask.thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, flags))
        .map_err(|errno| Error::from(std::io::Error::from(errno)))
}

/// Binds a socket, in place of one that no process serves.
///
/// Fails with 4 if another process serves it.
pub fn bind(path: &Path) -> Result<UnixListener> {
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        if UnixStream::connect(path).is_ok() {
            return Err(Error::conflict(format!(
                "{} is served by another process",
                path.display()
            )));
        }
        fs_err::remove_file(path)?;
    }

    UnixListener::bind(path).map_err(|error| Error::from(error).within(path.display()))
}
