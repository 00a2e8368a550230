//! What left4me-link needs of an engine. It may lose all that it has, deliver twice, and be away:
//! rows on the hosts are the truth.

use std::future::Future;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::base::names::FleetHost;
use crate::base::{Error, Result};
use crate::domain::fleet::subjects::Bucket;
use crate::wire::gate::{Generations, Message, Source};

/// A message to be kept.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    pub subject: String,
    /// The engine keeps one message of those with the same id that come within two minutes.
    pub id: Option<String>,
    /// Of a bucket: only if this is the key's revision; 0 if it has none.
    pub over: Option<u64>,
    /// Who signed it, and the signature in base64; empty for what is not signed.
    pub key: String,
    pub signature: String,
    pub body: Vec<u8>,
}

/// The newest value of a key in a bucket.
#[derive(Clone, Debug)]
pub struct Kept {
    pub revision: u64,
    pub body: Vec<u8>,
}

/// Messages of one stream or bucket, in their order.
#[derive(Debug)]
pub struct Batch {
    pub from: Source,
    /// Of the stream that they were read from.
    pub generation: String,
    pub messages: Vec<Message>,
}

/// Where the reading of a stream begins.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The stream for which gate has said so: of another one it would be the wrong position. Empty
    /// for a bucket, which is read whole.
    pub generation: String,
    pub after: u64,
}

/// A question of another host.
#[derive(Debug)]
pub struct Asked {
    pub from: FleetHost,
    pub body: Vec<u8>,
    /// Where the answer goes.
    pub reply: String,
    /// Until it is answered, it is one of few.
    pub open: OwnedSemaphorePermit,
}

/// What is heard from the engine besides answers.
#[derive(Debug)]
pub enum Heard {
    Connected,
    Disconnected,
    /// It refused something, or a connection failed: in words.
    Complaint(String),
    Asked(Asked),
    /// Another process with this host's identity says that it was refused.
    Refused(Vec<u8>),
}

pub trait Engine: Clone + Send + Sync + 'static {
    /// When each stream was made, and its last sequence.
    fn generations(&self) -> impl Future<Output = Result<Generations>> + Send;

    /// Sends all, and waits until the engine has each, or has not within some seconds. Returns the
    /// sequences, in the same order. An error of exit 4 is a revision that was another one.
    fn publish(&self, all: Vec<Publication>) -> impl Future<Output = Vec<Result<u64>>> + Send;

    /// The newest value of a key.
    fn kept(&self, bucket: Bucket, key: &str) -> impl Future<Output = Result<Option<Kept>>> + Send;

    /// Reads a stream from there, or a whole bucket, and what comes later, until that fails: at once if
    /// the stream is another one by now, or has lost what was read.
    fn read(
        &self,
        from: Source,
        start: Start,
        to: mpsc::Sender<Batch>,
    ) -> impl Future<Output = Error> + Send;

    /// Asks another host, and waits for its answer.
    fn ask(
        &self,
        host: &FleetHost,
        question: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>>> + Send;

    /// Sends what nothing keeps.
    fn tell(&self, subject: String, body: Vec<u8>) -> impl Future<Output = Result<()>> + Send;
}
