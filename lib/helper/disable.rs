//! `disable N`: stops a server now and at each boot, and unmounts its overlay.

use super::causes;
use super::commands::{overlay_unit, server_unit, systemctl, systemctl_with};
use crate::base::names::InstanceName;
use crate::base::{Result, clock};
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::EndedBy;

/// Disables and stops the unit of the server, then that of its overlay, and resets their failed
/// states. A server that was never started or does not exist counts as stopped.
pub(super) fn run(supervisor: &mut Supervisor, name: &InstanceName) -> Result<Outcome> {
    let (server, overlay) = (server_unit(name), overlay_unit(name));
    let began = clock::now_ms();

    let disabled = systemctl(supervisor, &["disable", "--now", &server])?;
    if !disabled.succeeded() {
        return causes::of(supervisor, name, began, disabled);
    }

    // When systemd stops the overlay's unit, that unit outlives the server's by a moment. The
    // caller must find it gone.
    let unmounted = systemctl(supervisor, &["stop", &overlay])?;
    if !unmounted.succeeded() {
        return causes::of(supervisor, name, began, unmounted);
    }

    // Fails for a unit that is not loaded; then there is no failed state to reset.
    let forgotten = systemctl_with(
        supervisor,
        &["reset-failed", &server, &overlay],
        &mut |_, _| Relay::Drop,
    )?;

    Ok(Outcome {
        code: if forgotten.ended_by == EndedBy::Exit {
            0
        } else {
            forgotten.code
        },
        ..forgotten
    })
}
