//! A body made of pieces, which are produced as the client reads.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::Receiver;

use crate::base::{Error, Result};

/// Pieces from a channel. After an error the body breaks off, so that it does not look complete.
pub struct Pieces {
    pieces: Receiver<Result<Bytes>>,
    _kept: Box<dyn Send>,
}

impl Pieces {
    /// `kept` is dropped with the body.
    pub fn new(pieces: Receiver<Result<Bytes>>, kept: impl Send + 'static) -> Self {
        Self {
            pieces,
            _kept: Box::new(kept),
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        self.pieces
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
