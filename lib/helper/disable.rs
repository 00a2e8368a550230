//! `disable N`: the server is stopped, now and after each boot, and nothing of it is mounted.

use super::causes;
use super::commands::{overlay_unit, server_unit, systemctl, systemctl_with};
use crate::base::names::InstanceName;
use crate::base::{Result, clock};
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::EndedBy;

/// Disables and stops the server's unit, then its overlay's, and forgets a failure of either. A server that was never
/// started, or that nobody knows, is stopped already.
///
/// # Errors
/// When systemctl cannot be started.
pub(super) fn run(supervisor: &mut Supervisor, name: &InstanceName) -> Result<Outcome> {
    let (server, overlay) = (server_unit(name), overlay_unit(name));
    let began = clock::now_ms();

    let disabled = systemctl(supervisor, &["disable", "--now", &server])?;
    if !disabled.succeeded() {
        return causes::of(supervisor, name, began, disabled);
    }

    // The overlay's unit outlives the server's by a moment when systemd stops it; whoever called shall find it gone.
    let unmounted = systemctl(supervisor, &["stop", &overlay])?;
    if !unmounted.succeeded() {
        return causes::of(supervisor, name, began, unmounted);
    }

    // Fails for a unit that is not loaded: then there is no failure to forget.
    let forgotten = systemctl_with(supervisor, &["reset-failed", &server, &overlay], &mut |_, _| Relay::Drop)?;
    Ok(Outcome { code: if forgotten.ended_by == EndedBy::Exit { 0 } else { forgotten.code }, ..forgotten })
}
