//! What several controllers may write: a value of a bucket is replaced only by a newer one, compared
//! with what the engine has, and set only if that is still there.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::{Engine, Publication};
use crate::base::names::FleetHost;
use crate::base::{Error, Exit, Result};
use crate::domain::fleet::driving::{self, Mark, Replace};
use crate::domain::fleet::subjects::Bucket;
use crate::wire::gate::{SetPlace, SetRollout};

/// How often another controller may be faster.
const TRIES: u32 = 3;

/// The value of a key in the bucket of places.
#[derive(Serialize, Deserialize)]
struct Place {
    host: FleetHost,
    epoch: u64,
}

/// Writes where a server belongs: only a greater epoch replaces another one.
pub async fn set_place<E: Engine>(engine: &E, place: &SetPlace) -> Result<()> {
    let key = place.server.to_string();
    let replace = |found: Option<Place>| {
        if found.is_some_and(|found| found.epoch >= place.epoch) {
            return Ok(None);
        }
        let value = Place {
            host: place.host.clone(),
            epoch: place.epoch,
        };
        Ok(Some(Publication {
            body: serde_json::to_vec(&value).unwrap_or_default(),
            ..Publication::default()
        }))
    };
    set(engine, Bucket::Places, &key, replace).await.map(drop)
}

/// Writes the document of a rollout that this host drives.
///
/// Fails with 4 if the bucket has a newer one: gate reads it, and stops driving or goes on from there.
pub async fn set_rollout<E: Engine>(engine: &E, host: &FleetHost, own: &SetRollout) -> Result<()> {
    let key = own.id.to_string();
    let mark = Mark {
        driver: host.clone(),
        epoch: own.epoch,
        version: own.version,
    };
    let replace =
        |found: Option<Mark>| match driving::may_replace(found.as_ref(), &mark, own.taken_from) {
            Replace::Yes => Ok(Some(Publication {
                key: own.document.key.clone(),
                signature: own.document.signature.clone(),
                body: own.document.body.clone().into_bytes(),
                ..Publication::default()
            })),
            Replace::Same => Ok(None),
            Replace::No => {
                let driver = found.map_or_else(String::new, |found| found.driver.to_string());
                Err(Error::conflict(format!(
                    "the engine has a newer document of it, from {driver}"
                )))
            }
        };
    match set(engine, Bucket::Rollouts, &key, replace).await? {
        true => Ok(()),
        false => Err(Error::unavailable("other hosts write it at the same time")),
    }
}

/// Sets a key to what `replace` makes of its value, unless that is None. What is no such value does
/// not stand in the way of one. False if others were faster each time.
async fn set<E: Engine, T: DeserializeOwned>(
    engine: &E,
    bucket: Bucket,
    key: &str,
    replace: impl Fn(Option<T>) -> Result<Option<Publication>>,
) -> Result<bool> {
    for _ in 0..TRIES {
        let kept = engine.kept(bucket, key).await?;
        let found = kept
            .as_ref()
            .and_then(|kept| serde_json::from_slice(&kept.body).ok());
        let Some(out) = replace(found)? else {
            return Ok(true);
        };

        let out = Publication {
            subject: bucket.subject(key),
            over: Some(kept.map_or(0, |kept| kept.revision)),
            ..out
        };
        match engine.publish(vec![out]).await.pop() {
            Some(Err(error)) if error.exit == Exit::Conflict => {}
            Some(Err(error)) => return Err(error),
            _ => return Ok(true),
        }
    }
    Ok(false)
}
