//! Wakes the worker: another process with a one-byte datagram, a thread of its own with a
//! [`Waker`]. The jobs are in the database, so a lost datagram loses none. The delivery of alerts is
//! woken in the same way.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use rusqlite::Connection;

use crate::base::{Error, Result};
use crate::db::deliveries;
use crate::db::fleet::self_row;

/// Tells the worker that there is work; systemd starts it if it does not run. A full socket means
/// that it is already notified.
///
/// Fails if no worker can be notified: the job waits until a worker is started in another way.
pub fn worker(socket: &Path) -> Result<()> {
    let Err(error) = notify(socket) else {
        return Ok(());
    };

    let path = socket.display();
    Err(match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::unavailable(format!(
            "no worker listens at {path}: is left4me-worker.socket \
             active? (`systemctl start left4me.target`, `left4me doctor`)"
        )),
        ErrorKind::PermissionDenied => members_only(socket),
        _ => Error::unavailable(format!("{path}: {error}")),
    })
}

/// Starts the delivery of alerts if any wait. Nobody has to know if that fails: the poller tries
/// again at its next poll, so it is only logged.
pub fn alerts(connection: &Connection, socket: &Path) {
    let sent = match deliveries::any_pending(connection) {
        Ok(false) => return,
        Ok(true) => notify(socket).map_err(Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::warn!(
            "alerts wait, but {} cannot be notified: {error} (is left4me-alerts.socket active?)",
            socket.display()
        );
    }
}

/// Tells left4me-schedules.service that schedules have changed; systemd starts it.
///
/// Fails if it cannot be started: the timers follow at the next change, or the next boot.
pub fn schedules(socket: &Path) -> Result<()> {
    let Err(error) = notify(socket) else {
        return Ok(());
    };

    let path = socket.display();
    Err(match error.kind() {
        ErrorKind::PermissionDenied => members_only(socket),
        _ => Error::unavailable(format!(
            "systemd's timers do not follow yet: nothing listens at {path} ({error}); \
             `sudo systemctl start left4me-schedules.socket left4me-schedules.service` makes them"
        )),
    })
}

/// Wakes left4me-link if this host has events that the engine does not have. Only logged if that
/// fails: link looks by itself, too.
pub fn link_for_news(connection: &Connection, socket: &Path) {
    match self_row::has_news(connection) {
        Ok(true) => link(socket),
        Ok(false) => {}
        Err(error) => tracing::warn!("cannot read what the fleet was told: {error}"),
    }
}

/// Tells left4me-link that there is something for other hosts. Without a fleet nothing listens; link
/// looks by itself from time to time, so that a failure only delays.
pub fn link(socket: &Path) {
    if let Err(error) = notify(socket)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(
            "left4me-link cannot be woken at {}: {error}",
            socket.display()
        );
    }
}

/// Tells left4me-rollout that there is a rollout to drive; systemd starts it.
///
/// Fails if it cannot be started: the rollout waits until it is started in another way.
pub fn rollout(socket: &Path) -> Result<()> {
    let Err(error) = notify(socket) else {
        return Ok(());
    };
    let path = socket.display();
    Err(match error.kind() {
        ErrorKind::PermissionDenied => members_only(socket),
        _ => Error::unavailable(format!(
            "the rollout waits: nothing listens at {path} ({error}); \
             `sudo systemctl enable --now left4me-rollout.socket left4me-rollout.service`"
        )),
    })
}

/// The error of a user who may not write to a socket of left4me.
pub fn members_only(socket: &Path) -> Error {
    Error::not_permitted(format!(
        "this user may not write to {}: only members of group left4me may",
        socket.display()
    ))
}

/// Sends one byte. A full socket is as good.
fn notify(socket: &Path) -> std::io::Result<()> {
    let sent = UnixDatagram::unbound().and_then(|datagram| {
        datagram.set_nonblocking(true)?;
        datagram.send_to(b"!", socket)
    });
    match sent {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Wakes the worker from another thread of its process.
#[derive(Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    pub fn new() -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    pub fn wake(&self) {
        if let Err(error) = self.0.write(1) {
            tracing::error!(%error, "cannot wake the worker");
        }
    }

    /// Forgets the wake-ups so far. Without one the read returns EAGAIN.
    pub fn clear(&self) {
        self.0.read().ok();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
