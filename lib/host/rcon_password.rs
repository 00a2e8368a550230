//! Keeps the RCON password of an instance: generated when it is first initialized, and anew when a
//! rotation was requested.
//!
//! It is written twice: for left4me-console into `instances/ID/rcon_password`, and for the game
//! into a configuration file of its own in the instance's layer, which the last line of server.cfg
//! runs. So no preview of server.cfg holds it.
//!
//! A rotation waits for the next start. The game runs server.cfg again at each change of the map,
//! and the layer must not change while it is mounted: a running game would return to the old one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::base::names::InstanceName;
use crate::base::rcon_password::{FILE, ROTATE, RconPassword};
use crate::base::{Error, Result};
use crate::host::layer;

/// The password that the instance should have; none if a new one is needed: because there is none,
/// its file was changed by hand, or a rotation was requested.
pub(super) fn current(dir: &Path) -> Option<RconPassword> {
    if is_rotation_requested(dir) {
        return None;
    }
    RconPassword::read(&dir.join(FILE)).ok().flatten()
}

/// The password, new where that is needed, and written. The caller holds the instance's lock, and
/// calls [`settle`] when the layer has it too.
pub(super) fn ensure(dir: &Path) -> Result<RconPassword> {
    if let Some(password) = current(dir) {
        return Ok(password);
    }

    let password = RconPassword::generate()?;
    layer::replace_file(&dir.join(FILE), &format!("{}\n", password.expose()))?;
    Ok(password)
}

/// Ends a requested rotation.
pub(super) fn settle(dir: &Path) -> Result<()> {
    layer::remove(&dir.join(ROTATE))
}

/// The temporary names that writing the password uses.
pub(super) fn beside(dir: &Path) -> [PathBuf; 2] {
    layer::beside(&dir.join(FILE))
}

fn is_rotation_requested(dir: &Path) -> bool {
    dir.join(ROTATE).symlink_metadata().is_ok()
}

/// Requests a new password, which the next initialization generates. The old one is valid until
/// then.
///
/// Fails with 4 if the instance was not initialized: it gets its first password then; with 77 if
/// this user may not write there.
pub fn request_rotation(root: &Path, instance: &InstanceName) -> Result<()> {
    let dir = root.join("instances").join(instance.as_str());
    if dir.symlink_metadata().is_err() {
        return Err(Error::conflict(format!(
            "server {instance} has no password yet: it gets one when it is started"
        )));
    }

    let created = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(dir.join(ROTATE));
    match created {
        Ok(_) => layer::sync(&dir),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Error::not_permitted(format!(
                "only root and left4me may do that: `sudo left4me server rotate-rcon {instance}`"
            )))
        }
        Err(error) => Err(error.into()),
    }
}
