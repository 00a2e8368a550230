//! This host's secrets. systemd hands them over (`LoadCredential=`); by hand they are read where
//! root keeps them.

use std::path::{Path, PathBuf};

use crate::base::keys::{OpeningKey, SigningKey};
use crate::base::{Error, Result};

/// What a host without a file has in its place: a unit cannot load a credential that may be missing.
const NONE: &str = "-";

pub(super) struct Keys {
    /// On a controller: signs its orders and the roster.
    pub(super) signing: Option<SigningKey>,
    /// Opens what is sealed to this host.
    pub(super) opening: Option<OpeningKey>,
}

impl Keys {
    /// Fails with 2 if a file is no key, 77 if it cannot be read.
    pub(super) fn read(fleet: &Path) -> Result<Self> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let directory = credentials.as_deref().unwrap_or(fleet);
        Ok(Self {
            signing: read(directory, "controller.seed", SigningKey::from_seed)?,
            opening: read(directory, "host.xseed", OpeningKey::from_seed)?,
        })
    }
}

fn read<T>(
    directory: &Path,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T>,
) -> Result<Option<T>> {
    let path = directory.join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::from(error).within(path.display())),
    };
    match text.trim() {
        "" | NONE => Ok(None),
        seed => parse(seed)
            .map(Some)
            .map_err(|error| error.within(path.display())),
    }
}
