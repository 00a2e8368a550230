//! Words to systemd about ourselves, and the sockets it hands us. Outside systemd each of these does nothing.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use sd_notify::NotifyState;

/// READY=1 with a first STATUS.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// STATUS=…, what `systemctl status` shows.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// WATCHDOG=1.
pub fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// STOPPING=1 with a last STATUS.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd did not take a notification");
    }
}

/// How often the watchdog must hear from us, when the unit asks for it: half of WATCHDOG_USEC.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// The first socket that was passed to this process (`sd_listen_fds`), if any. To be called once.
#[must_use]
pub fn passed_socket() -> Option<OwnedFd> {
    passed_sockets().into_iter().next()
}

/// All sockets that were passed to this process. To be called once.
#[must_use]
pub fn passed_sockets() -> Vec<OwnedFd> {
    let Ok(fds) = sd_notify::listen_fds() else { return Vec::new() };
    let own = |fd| {
        // SAFETY: systemd opened this descriptor for us (LISTEN_PID is ours, checked by sd_notify)
        // and nothing else in the process owns it: this function is called once, at start.
        #[expect(unsafe_code, reason = "taking ownership of a descriptor that the service manager passed")]
        unsafe {
            OwnedFd::from_raw_fd(fd)
        }
    };
    fds.map(own).collect()
}
