//! The API's answers can be long, and a reader slow: a few are made and sent at once, the others wait for their turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use rusqlite::Connection;
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::base::names::UserId;
use crate::base::{Error, Result};
use crate::web::app::{App, fault};
use crate::web::failure::Failure;
use crate::web::pieces::Pieces;

/// So many at once.
const AT_ONCE: usize = 4;
/// So many of one user.
const OF_ONE: usize = 2;
/// What is no longer needs a turn only until it is made, bytes.
const SHORT: usize = 64 * 1024;
/// A piece of a longer one, bytes.
const PIECE: usize = 16 * 1024;
/// A longer one has to be taken within this time: whoever is slow can ask for a smaller part.
const TAKE_TIME: Duration = Duration::from_secs(15);

/// Whose turn it is.
pub struct Turns {
    all: Arc<Semaphore>,
    own: Mutex<HashMap<UserId, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), own: Mutex::default() }
    }
}

impl Turns {
    /// Waits first among the user's own wishes, so that who asks much stands in nobody else's way.
    async fn take(&self, user: UserId) -> Result<Turn, Failure> {
        let own = self.own_of(user).acquire_owned().await.map_err(fault)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(fault)?;
        Ok(Turn { _own: own, _all: all })
    }

    fn own_of(&self, user: UserId) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|_, turns| turns.strong_count() > 0);
        if let Some(turns) = own.get(&user).and_then(Weak::upgrade) {
            return turns;
        }
        let turns = Arc::new(Semaphore::new(OF_ONE));
        own.insert(user, Arc::downgrade(&turns));
        turns
    }
}

/// What `work` finds, as JSON, when it is the user's turn.
///
/// # Errors
/// What `work` says.
pub async fn json<T, F>(app: &App, user: UserId, work: F) -> Result<Response, Failure>
where
    T: Serialize,
    F: FnOnce(&Connection) -> Result<T> + Send + 'static,
{
    let turn = app.turns.take(user).await?;
    let bytes =
        app.store.read(move |db| serde_json::to_vec(&work(db)?).map_err(|error| Error::failed(error.to_string())));
    let bytes = bytes.await?;
    let body = if bytes.len() <= SHORT {
        Body::from(bytes)
    } else {
        let (sender, pieces) = channel(1);
        tokio::spawn(send(bytes, turn, sender));
        Body::new(Pieces::new(pieces, ()))
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Hands out copies, so that what a reader did not take in time can go.
async fn send(bytes: Vec<u8>, turn: Turn, to: Sender<Result<Bytes>>) {
    let all = async {
        for piece in bytes.chunks(PIECE) {
            if to.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                break;
            }
        }
    };
    let is_late = timeout(TAKE_TIME, all).await.is_err();
    drop((bytes, turn));
    if is_late {
        // It must not look whole. Nobody hears it when the reader is gone.
        to.send(Err(Error::unavailable("the answer was not taken in time"))).await.ok();
    }
}
