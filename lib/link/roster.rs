//! The roster that `left4me fleet admit` has signed on this host. The engine gets it whenever it has an
//! older one, or has lost it.

use std::path::PathBuf;
use std::time::SystemTime;

use super::engine::{Engine, Publication};
use crate::base::{Error, Exit, Result};
use crate::domain::fleet::roster::Roster;
use crate::domain::fleet::subjects::{Bucket, ROSTER};
use crate::wire::gate::SignedText;

pub struct SignedRoster {
    file: PathBuf,
    /// When the file that the engine has was written.
    told: Option<SystemTime>,
}

impl SignedRoster {
    pub fn new(file: PathBuf) -> Self {
        Self { file, told: None }
    }

    /// The engine may have lost it: on another connection it is looked at again.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// Tells the engine, if there is a newer one here. Only a host that made the fleet has one.
    pub async fn tell<E: Engine>(&mut self, engine: &E) -> Result<()> {
        let Ok(written) = std::fs::metadata(&self.file).and_then(|found| found.modified()) else {
            return Ok(());
        };
        if self.told == Some(written) {
            return Ok(());
        }

        let bad = |error: &dyn std::fmt::Display| {
            Error::failed(format!("{}: {error}", self.file.display()))
        };
        let text = std::fs::read_to_string(&self.file).map_err(|error| bad(&error))?;
        let signed: SignedText = serde_json::from_str(&text).map_err(|error| bad(&error))?;
        let own: Roster = serde_json::from_str(&signed.body).map_err(|error| bad(&error))?;
        let kept = engine.kept(Bucket::Roster, ROSTER).await?;
        let known = kept
            .as_ref()
            .and_then(|kept| serde_json::from_slice::<Roster>(&kept.body).ok());
        if known.is_none_or(|known| known.version < own.version) {
            let out = Publication {
                subject: Bucket::Roster.subject(ROSTER),
                over: Some(kept.map_or(0, |kept| kept.revision)),
                key: signed.key,
                signature: signed.signature,
                body: signed.body.into_bytes(),
                ..Publication::default()
            };
            match engine.publish(vec![out]).await.pop() {
                // Another one was faster: the next exchange looks again.
                Some(Err(error)) if error.exit == Exit::Conflict => return Ok(()),
                Some(Err(error)) => return Err(error.within("the roster")),
                _ => {}
            }
        }
        self.told = Some(written);
        Ok(())
    }
}
