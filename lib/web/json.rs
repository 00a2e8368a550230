//! JSON answers of the API. They can be long and their readers slow, so only a few are made and
//! sent at once.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use rusqlite::Connection;
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;

use crate::base::names::UserId;
use crate::base::{Error, Result};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::limiter::{Limiter, Permit};
use crate::web::pieces::Pieces;

/// Answers at once.
const AT_ONCE: usize = 4;
/// Answers at once for one user.
const PER_USER: usize = 2;
/// A shorter answer holds its permit only until it is made, bytes.
const SHORT: usize = 64 * 1024;
/// The size of a piece of a longer answer, bytes.
const PIECE: usize = 16 * 1024;
/// The time limit for sending a longer answer. A slow client can request a smaller part.
const TAKE_TIME: Duration = Duration::from_secs(15);

/// The permits of [`answer`].
pub fn limiter() -> Limiter {
    Limiter::new(AT_ONCE, PER_USER)
}

/// Sends the result of `work` as JSON, once the user has a permit.
pub async fn answer<T, F>(app: &App, user: UserId, work: F) -> Result<Response, Failure>
where
    T: Serialize,
    F: FnOnce(&Connection) -> Result<T> + Send + 'static,
{
    let closed = || Failure::internal("the limiter is closed");
    let permit = app.answers.acquire_for(user).await.ok_or_else(closed)?;
    let bytes = app.store.read(move |db| {
        serde_json::to_vec(&work(db)?).map_err(|error| Error::failed(error.to_string()))
    });
    let bytes = bytes.await?;
    let body = if bytes.len() <= SHORT {
        Body::from(bytes)
    } else {
        let (sender, pieces) = channel(1);
        tokio::spawn(send(bytes, permit, sender));
        Body::new(Pieces::new(pieces, ()))
    };

    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Sends copies, so that the rest can be freed when a client is too slow.
async fn send(bytes: Vec<u8>, permit: Permit, to: Sender<Result<Bytes>>) {
    let all = async {
        for piece in bytes.chunks(PIECE) {
            if to.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                break;
            }
        }
    };

    let is_late = timeout(TAKE_TIME, all).await.is_err();
    drop((bytes, permit));

    if is_late {
        // The answer must not look complete. If the client is gone, there is no receiver.
        to.send(Err(Error::unavailable(
            "the client read the answer too slowly",
        )))
        .await
        .ok();
    }
}
