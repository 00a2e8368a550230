//! Notifications to systemd, and the sockets it passes to us. Outside systemd, these do nothing.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use sd_notify::NotifyState;

/// READY=1 with a first STATUS.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// STATUS=…, what `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// WATCHDOG=1.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// STOPPING=1 with a last STATUS.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn send(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}

/// How often to notify the watchdog, half of WATCHDOG_USEC; none if the unit has no watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// The first socket passed to this process (`sd_listen_fds`), if any. Call it only once.
pub fn passed_socket() -> Option<OwnedFd> {
    passed_sockets().into_iter().next()
}

/// All sockets passed to this process. Call it only once.
pub fn passed_sockets() -> Vec<OwnedFd> {
    let Ok(fds) = sd_notify::listen_fds() else {
        return Vec::new();
    };
    let own = |fd| {
        // SAFETY: systemd opened this descriptor for us (sd_notify checks that LISTEN_PID is ours),
        // and nothing else in the process owns it: this function is called once, at start.
        #[expect(
            unsafe_code,
            reason = "taking ownership of a descriptor that the service manager passed"
        )]
        unsafe {
            OwnedFd::from_raw_fd(fd)
        }
    };

    fds.map(own).collect()
}
