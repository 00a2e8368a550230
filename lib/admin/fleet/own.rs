//! This host's own keys, and its part in the fleet.

use std::path::{Path, PathBuf};

use super::files::{self, PUBLIC, SECRET};
use crate::base::fleet::{DIRECTORY, Fleet};
use crate::base::keys::{OpeningKey, PublicKey, SealKey, SigningKey};
use crate::base::{Error, Result};
use crate::process;

/// The public halves of this host's keys.
pub(super) struct OwnKeys {
    pub key: PublicKey,
    pub seal_key: SealKey,
}

/// Makes the keys that are missing.
pub(super) fn keys(directory: &Path) -> Result<OwnKeys> {
    files::directory(directory, 0o755)?;
    let seed = directory.join("host.seed");
    let key = match files::read(&seed)? {
        Some(text) => SigningKey::from_seed(&text).map_err(|error| error.within(seed.display()))?,
        None => {
            let key = SigningKey::generate();
            files::write(&seed, SECRET, &format!("{}\n", key.seed()?))?;
            key
        }
    };
    let seed = directory.join("host.xseed");
    let opening = match files::read(&seed)? {
        Some(text) => OpeningKey::from_seed(&text).map_err(|error| error.within(seed.display()))?,
        None => {
            let key = OpeningKey::generate();
            files::write(&seed, SECRET, &format!("{}\n", key.seed()?))?;
            key
        }
    };
    Ok(OwnKeys {
        key: key.public(),
        seal_key: opening.public(),
    })
}

/// Makes the key that signs orders of this host, unless there is one; gives its public half.
pub(super) fn controller_key(directory: &Path) -> Result<SigningKey> {
    let seed = directory.join("controller.seed");
    match files::read(&seed)? {
        Some(text) => SigningKey::from_seed(&text).map_err(|error| error.within(seed.display())),
        None => {
            let key = SigningKey::generate();
            files::write(&seed, SECRET, &format!("{}\n", key.seed()?))?;
            Ok(key)
        }
    }
}

/// This host obeys this controller from now on.
pub(super) fn trust(directory: &Path, name: &str, key: &PublicKey) -> Result<()> {
    let controllers = directory.join("controllers");
    files::directory(&controllers, 0o755)?;
    files::write(&controllers.join(name), PUBLIC, &format!("{key}\n"))
}

pub(super) fn write_fleet(directory: &Path, fleet: &Fleet) -> Result<()> {
    let text = serde_json::to_string_pretty(fleet)
        .map_err(|error| Error::failed(format!("fleet.json: {error}")))?;
    files::write(&directory.join("fleet.json"), PUBLIC, &(text + "\n"))
}

/// The units that run on a host of a fleet.
///
/// left4me-rollout goes on at boot with the rollouts that are open. On a host that is no controller, its
/// units are enabled, but do nothing.
const UNITS: [&str; 6] = [
    "left4me-gate.socket",
    "left4me-link.socket",
    "left4me-link.timer",
    "left4me-link.service",
    "left4me-rollout.socket",
    "left4me-rollout.service",
];

/// What drives rollouts. Where there is none it exits, so that only its socket is started.
const ROLLOUT: [&str; 2] = ["left4me-rollout.socket", "left4me-rollout.service"];

/// Enables the units and starts them with what is configured now. Nothing outside the real system's
/// directory, and nothing without systemd.
pub(super) fn start_units(directory: &Path) -> Result<()> {
    if directory != Path::new(DIRECTORY) || !PathBuf::from("/run/systemd/system").exists() {
        return Ok(());
    }
    let enable = ["enable"].into_iter().chain(UNITS).chain(ROLLOUT);
    let (code, text) = process::systemctl("left4me", enable)?;
    if code != 0 {
        return Err(Error::failed(format!(
            "the units of the fleet were not enabled: {}",
            text.trim_end()
        )));
    }
    let restart = ["restart"].into_iter().chain(UNITS).chain([ROLLOUT[0]]);
    let (code, text) = process::systemctl("left4me", restart)?;
    match code {
        0 => Ok(()),
        _ => Err(Error::failed(format!(
            "the units of the fleet did not start: {}; `journalctl -u left4me-link` may say why",
            text.trim_end()
        ))),
    }
}
