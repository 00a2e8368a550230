//! What a host knows of its fleet from files: its own name and keys, where the engine is, and whose
//! orders it obeys. Root writes these files; the engine cannot add to them.
//!
//! | file in /etc/left4me/fleet | mode | content |
//! |---|---|---|
//! | `fleet.json` | 0644 | [`Fleet`] |
//! | `controllers/NAME` | 0644 | the public key of a controller whose orders this host obeys |
//! | `host.seed`, `host.xseed` | 0600 | this host's secret keys, for signing and for opening |
//! | `host.jwt` | 0644 | what lets it into the engine; no secret |
//! | `controller.seed` | 0600 | on a controller: what signs its orders |
//! | `ca.pem` | 0644 | whose certificates the engine's nodes have |
//!
//! Programs get the secrets from systemd, by `LoadCredential=`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::keys::{PublicKey, SealKey};
use super::names::FleetHost;
use super::{Error, Result};

/// The directory of these files.
pub const DIRECTORY: &str = "/etc/left4me/fleet";

/// The longest file here, in bytes.
const LONGEST: u64 = 256 * 1024;

/// A host's part in its fleet: `fleet.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    pub v: u32,
    /// The fleet's name.
    pub fleet: String,
    /// This host's name in it.
    pub host: FleetHost,
    pub key: PublicKey,
    pub seal_key: SealKey,
    /// The engine's nodes: `tls://10.0.0.1:4222`.
    pub engine: Vec<String>,
    /// `view` and `control`, as `left4me fleet admit` gave them.
    #[serde(default)]
    pub roles: Vec<String>,
    /// How many servers this host takes; by default as many as it has ports for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

impl Fleet {
    /// Reads it. None where this host belongs to no fleet.
    ///
    /// Fails with 2 if the file is not what it should be.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("fleet.json");
        let Some(text) = text_of(&path)? else {
            return Ok(None);
        };
        let wrong = |why: String| Error::usage(format!("{}: {why}", path.display()));
        let fleet: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match fleet.v {
            1 => Ok(Some(fleet)),
            v => Err(wrong(format!("version {v} is not known here, only 1"))),
        }
    }

    /// Whether it is told of all hosts. A controller is.
    pub fn views(&self) -> bool {
        self.controls() || self.roles.iter().any(|role| role == "view")
    }

    /// Whether it may send orders.
    pub fn controls(&self) -> bool {
        self.roles.iter().any(|role| role == "control")
    }
}

/// The controllers whose orders this host obeys, by the names that root gave them.
///
/// Fails with 2 if a file is not what it should be: then no order is obeyed.
pub fn controllers(directory: &Path) -> Result<BTreeMap<String, PublicKey>> {
    let directory = directory.join("controllers");
    let mut keys = BTreeMap::new();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(keys),
        Err(error) => {
            return Err(Error::unavailable(format!(
                "{}: {error}",
                directory.display()
            )));
        }
    };

    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let text = text_of(&path)?.unwrap_or_default();
        let key = text
            .trim_end()
            .parse()
            .map_err(|bad| Error::usage(format!("{}: {bad}", path.display())))?;
        keys.insert(name.to_owned(), key);
    }
    Ok(keys)
}

/// The text of a file that root wrote. None if there is none.
fn text_of(path: &Path) -> Result<Option<String>> {
    use std::io::Read as _;

    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::unavailable(format!("{}: {error}", path.display()))),
    };
    let mut text = String::new();
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| Error::usage(format!("{}: {error}", path.display())))?;
    Ok(Some(text))
}
