//! The one-byte datagram that wakes the worker. Only the rows count: a lost datagram loses no job.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::base::{Error, Result};

/// Tells the worker that there is work; systemd starts it if it does not run. A full socket means
/// that it is already notified.
///
/// Fails if no worker can be notified: the job waits until a worker is started in another way.
pub fn worker(socket: &Path) -> Result<()> {
    let sent = UnixDatagram::unbound().and_then(|datagram| {
        datagram.set_nonblocking(true)?;
        datagram.send_to(b"!", socket)
    });

    let error = match sent {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => error,
    };

    let path = socket.display();
    Err(match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::unavailable(format!(
            "no worker listens at {path}: is left4me-worker.socket active? (`systemctl start \
            left4me.target`, \
             `left4me doctor`)"
        )),
        ErrorKind::PermissionDenied => Error::not_permitted(format!(
            "{path} is closed to this user: be a member of group left4me"
        )),
        _ => Error::unavailable(format!("{path}: {error}")),
    })
}
