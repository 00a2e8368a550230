//! The engine NATS JetStream, by its own protocol: a request on a subject of its API, an answer as
//! JSON. Only this module knows NATS.

pub mod administer;
mod api;
mod connect;
mod read;

pub use connect::{Access, connect};

use std::time::Duration;

use async_nats::{Client, HeaderMap, Request};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::engine::{Batch, Engine, Kept, Publication, Start};
use crate::base::names::FleetHost;
use crate::base::{Error, Result};
use crate::domain::fleet::subjects::{self, Bucket, EVENTS, ORDERS};
use crate::wire::gate::{Generations, Source};

/// How long the engine may take for an acknowledgement or an answer: longer than its nodes need to elect
/// a leader.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long another host may take: systemd may have to start its gate first.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// The header of a message's status, and that of the sequence in a direct answer.
const SEQUENCE: &str = "Nats-Sequence";

pub const KEY: &str = "L4m-Key";
pub const SIGNATURE: &str = "L4m-Sig";

/// A host's connection.
#[derive(Clone)]
pub struct Nats {
    client: Client,
    host: FleetHost,
}

impl Nats {
    pub fn new(client: Client, host: FleetHost) -> Self {
        Self { client, host }
    }

    /// Hears what other hosts ask, and whether a copy of this one was refused.
    pub async fn listen(&self, heard: &mpsc::UnboundedSender<super::engine::Heard>) -> Result<()> {
        connect::listen(&self.client, &self.host, heard).await
    }

    async fn publish_one(&self, out: Publication) -> Result<u64> {
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| headers.insert(name, value);
        if let Some(id) = &out.id {
            add("Nats-Msg-Id", id);
        }
        if let Some(over) = out.over {
            add("Nats-Expected-Last-Subject-Sequence", &over.to_string());
        }
        if !out.key.is_empty() {
            add(KEY, &out.key);
            add(SIGNATURE, &out.signature);
        }

        let body = Bytes::from(out.body);
        let request = || {
            Request::new()
                .headers(headers.clone())
                .payload(body.clone())
        };
        let answer = api::persist(&self.client, &out.subject, request).await?;
        let answer = api::answer(&out.subject, &answer.payload)?;
        answer["seq"]
            .as_u64()
            .ok_or_else(|| Error::unavailable(format!("{}: no acknowledgement", out.subject)))
    }
}

impl Engine for Nats {
    async fn generations(&self) -> Result<Generations> {
        let (orders, events) = (
            api::info(&self.client, ORDERS),
            api::info(&self.client, EVENTS),
        );
        let (orders, events) = (orders.await?, events.await?);
        let missing = |name| {
            Error::unavailable(format!(
                "the engine has no stream {name}: `left4me fleet init` on the host that made the \
                 fleet makes it"
            ))
        };
        let (orders, events) = (
            orders.ok_or_else(|| missing(ORDERS))?,
            events.ok_or_else(|| missing(EVENTS))?,
        );
        Ok(Generations {
            orders: orders.created,
            events: events.created,
            last_order: orders.last,
            last_event: events.last,
        })
    }

    async fn publish(&self, all: Vec<Publication>) -> Vec<Result<u64>> {
        join_all(all.into_iter().map(|out| self.publish_one(out))).await
    }

    async fn kept(&self, bucket: Bucket, key: &str) -> Result<Option<Kept>> {
        let subject = format!(
            "$JS.API.DIRECT.GET.{}.{}",
            bucket.stream(),
            bucket.subject(key)
        );
        let answer = api::persist(&self.client, &subject, Request::new).await?;
        match answer.status.map(|status| status.as_u16()) {
            Some(404) => return Ok(None),
            Some(code) => {
                let why = answer.description.unwrap_or_default();
                return Err(Error::unavailable(format!("{subject}: {code} {why}")));
            }
            None => {}
        }

        let headers = answer.headers.unwrap_or_default();
        let revision = headers
            .get(SEQUENCE)
            .and_then(|value| value.as_str().parse().ok())
            .ok_or_else(|| {
                Error::unavailable(format!("{subject}: an answer without a revision"))
            })?;
        Ok(Some(Kept {
            revision,
            body: answer.payload.to_vec(),
        }))
    }

    async fn read(&self, from: Source, start: Start, to: mpsc::Sender<Batch>) -> Error {
        read::read(&self.client, &self.host, from, &start, &to).await
    }

    async fn ask(&self, host: &FleetHost, question: Vec<u8>) -> Result<Vec<u8>> {
        // The other host may answer there, and nowhere else.
        let new = self.client.new_inbox();
        let request = Request::new()
            .payload(question.into())
            .inbox(subjects::answer(&self.host, host, subjects::last(&new)))
            .timeout(Some(ASK_TIMEOUT));
        let subject = subjects::ask(host, &self.host);
        let answer = self.client.send_request(subject, request).await;
        let answer = answer.map_err(|error| {
            use async_nats::RequestErrorKind;
            Error::unavailable(match error.kind() {
                RequestErrorKind::NoResponders => {
                    format!("{host} is not connected; ask again when it is")
                }
                RequestErrorKind::TimedOut => {
                    format!("{host} gave no answer within {} s", ASK_TIMEOUT.as_secs())
                }
                _ => format!("{host} cannot be asked: {error}"),
            })
        })?;
        Ok(answer.payload.to_vec())
    }

    async fn tell(&self, subject: String, body: Vec<u8>) -> Result<()> {
        let told = self.client.publish(subject.clone(), body.into()).await;
        told.map_err(|error| Error::unavailable(format!("{subject}: {error}")))
    }
}
