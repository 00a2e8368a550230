//! `enable N`: starts a server now and at each boot.

use std::path::Path;

use super::causes;
use super::commands::{server_unit, systemctl, systemctl_with};
use crate::base::names::InstanceName;
use crate::base::{Error, Result, clock};
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::EndedBy;

/// Enables and starts the server's unit.
///
/// Fails with 3 if the instance was never initialized.
pub(super) fn run(
    supervisor: &mut Supervisor,
    root: &Path,
    server: &InstanceName,
) -> Result<Outcome> {
    require_initialized(root, server)?;
    enable(supervisor, server)
}

/// Fails with 3 if the instance was never initialized: without instance.env the unit could only
/// fail.
fn require_initialized(root: &Path, server: &InstanceName) -> Result<()> {
    let file = root
        .join("instances")
        .join(server.as_str())
        .join("instance.env");
    let Err(error) = fs_err::symlink_metadata(&file) else {
        return Ok(());
    };

    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Err(Error::not_found(format!(
                "server {server} was never initialized: {} is missing; initialize it first",
                file.display()
            )))
        }
        // The sandbox of the helper's unit may deny root access. systemd has access, so the unit
        // decides.
        std::io::ErrorKind::PermissionDenied => Ok(()),
        _ => Err(error.into()),
    }
}

/// Enables and starts the unit. Resets the start limit first: the limit is for crashes, and an
/// explicit start begins a new count.
fn enable(supervisor: &mut Supervisor, server: &InstanceName) -> Result<Outcome> {
    let unit = server_unit(server);
    // Fails for a unit that is not loaded; then there is nothing to reset.
    let forgotten = systemctl_with(supervisor, &["reset-failed", &unit], &mut |_, _| {
        Relay::Drop
    })?;
    if forgotten.ended_by != EndedBy::Exit {
        return Ok(forgotten);
    }

    let began = clock::now_ms();
    let enabled = systemctl(supervisor, &["enable", "--now", &unit])?;
    causes::of(supervisor, server, began, enabled)
}
