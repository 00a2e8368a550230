//! Reads a stream or a bucket: by a consumer that lives as long as it is read, so that the only
//! position that counts is the one in the host's own database.

use std::time::Duration;

use async_nats::{Client, Message as NatsMessage, Subscriber};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{KEY, SIGNATURE, api};
use crate::base::names::FleetHost;
use crate::base::{Error, Result};
use crate::domain::fleet::subjects::{self, Bucket, EVENTS, ORDERS};
use crate::link::engine::{Batch, Start};
use crate::wire::gate::{BATCH, Message, Source};

const SECOND: u64 = 1_000_000_000;

/// The engine tells that it is there at this interval, in seconds; it is gone after two without a word.
/// A consumer lives on one node and dies with it: orders wait until that is noticed.
const HEARTBEAT: u64 = 2;

/// The bytes of a batch, before base64: a line to gate holds them.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The longest key or signature: a longer one is neither.
const LONGEST_HEADER: usize = 128;

/// How long a message waits for the next one of its batch.
const LINGER: Duration = Duration::from_millis(100);

/// Where a message is in its stream and in its consumer, and how many more are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    stream: u64,
    consumer: u64,
    pending: u64,
}

/// Reads until something fails.
pub async fn read(
    client: &Client,
    host: &FleetHost,
    from: Source,
    start: &Start,
    to: &mpsc::Sender<Batch>,
) -> Error {
    match try_read(client, host, from, start, to).await {
        Ok(()) => Error::failed("the reader was replaced"),
        Err(error) => error,
    }
}

async fn try_read(
    client: &Client,
    host: &FleetHost,
    from: Source,
    start: &Start,
    to: &mpsc::Sender<Batch>,
) -> Result<()> {
    let stream = stream_of(from);
    make_consumer(client, host, from, &stream, start.after).await?;
    // Afterwards: if the stream is made again in between, its consumer is gone with it.
    let info = api::info(client, &stream)
        .await?
        .ok_or_else(|| Error::unavailable(format!("the engine has no stream {stream}")))?;
    let is_expected = start.generation == info.created && start.after <= info.last;
    if matches!(from, Source::Orders | Source::Events) && !is_expected {
        return Err(Error::unavailable(format!(
            "stream {stream} is another one than a moment ago, or has lost messages"
        )));
    }

    let inbox = client.new_inbox();
    let subscribed = client.subscribe(inbox.clone()).await;
    let mut answers =
        subscribed.map_err(|error| Error::unavailable(format!("{stream}: {error}")))?;
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{host}");
    let mut read = 0;
    loop {
        let pull = json!({
            "batch": BATCH,
            "expires": 30 * SECOND,
            "idle_heartbeat": HEARTBEAT * SECOND,
        });
        let asked = client
            .publish_with_reply(next.clone(), inbox.clone(), pull.to_string().into())
            .await;
        asked.map_err(|error| Error::unavailable(format!("{next}: {error}")))?;

        let mut left = BATCH;
        while left > 0 {
            let (messages, has_ended) = collect(&mut answers, left, &mut read).await?;
            left -= messages.len();
            let batch = Batch {
                from,
                generation: info.created.clone(),
                messages,
            };
            if !batch.messages.is_empty() && to.send(batch).await.is_err() {
                return Ok(());
            }
            if has_ended {
                break;
            }
        }
    }
}

fn stream_of(from: Source) -> String {
    match from {
        Source::Orders => ORDERS.to_owned(),
        Source::Events => EVENTS.to_owned(),
        Source::Hosts => Bucket::Hosts.stream(),
        Source::Roster => Bucket::Roster.stream(),
        Source::Places => Bucket::Places.stream(),
        Source::Rollouts => Bucket::Rollouts.stream(),
    }
}

/// Makes the consumer that has the host's name; one of an earlier connection goes first.
async fn make_consumer(
    client: &Client,
    host: &FleetHost,
    from: Source,
    stream: &str,
    after: u64,
) -> Result<()> {
    let old = format!("$JS.API.CONSUMER.DELETE.{stream}.{host}");
    api::request(client, &old, &json!({})).await.ok();

    let mut config = json!({
        "name": host.as_str(),
        "ack_policy": "none",
        "replay_policy": "instant",
        "inactive_threshold": 120 * SECOND,
        "mem_storage": true,
        "num_replicas": 1,
    });
    match from {
        Source::Orders | Source::Events => {
            config["deliver_policy"] = "by_start_sequence".into();
            config["opt_start_seq"] = after.saturating_add(1).into();
        }
        // A bucket keeps one message of each key.
        Source::Hosts | Source::Roster | Source::Places | Source::Rollouts => {
            config["deliver_policy"] = "all".into();
        }
    }

    let mut subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{host}");
    if from == Source::Orders {
        let own = subjects::order(host);
        subject = format!("{subject}.{own}");
        config["filter_subject"] = own.into();
    }
    let request = json!({ "stream_name": stream, "config": config, "action": "create" });
    api::request(client, &subject, &request).await.map(drop)
}

/// The next messages, at most `most`, and whether the request for more has ended.
async fn collect(
    answers: &mut Subscriber,
    most: usize,
    read: &mut u64,
) -> Result<(Vec<Message>, bool)> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    loop {
        let patience = match messages.is_empty() {
            true => Duration::from_secs(2 * HEARTBEAT + 1),
            false => LINGER,
        };
        let answer = match timeout(patience, answers.next()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Error::unavailable("the connection to the engine has ended")),
            Err(_) if messages.is_empty() => {
                return Err(Error::unavailable("the engine has stopped delivering"));
            }
            Err(_) => return Ok((messages, false)),
        };

        if let Some(status) = answer.status.map(|status| status.as_u16()) {
            match status {
                // It is still there.
                100 => continue,
                // Nothing more, or the request's time is over.
                404 | 408 => return Ok((messages, true)),
                _ => {
                    let why = answer.description.unwrap_or_default();
                    if why.contains("Batch Completed") {
                        return Ok((messages, true));
                    }
                    return Err(Error::unavailable(format!(
                        "the engine has stopped delivering: {status} {why}"
                    )));
                }
            }
        }

        let position = answer.reply.as_deref().and_then(position);
        let Some(position) = position else { continue };
        *read += 1;
        if position.consumer != *read {
            return Err(Error::unavailable(format!(
                "message {} came in place of {read}",
                position.consumer
            )));
        }
        bytes += answer.payload.len();
        messages.push(message(position.stream, &answer));
        if messages.len() >= most || position.pending == 0 || bytes >= BATCH_BYTES {
            return Ok((messages, false));
        }
    }
}

fn message(sequence: u64, answer: &NatsMessage) -> Message {
    let header = |name: &str| {
        let value = answer.headers.as_ref().and_then(|all| all.get(name));
        value
            .map(|value| value.as_str())
            .filter(|value| value.len() <= LONGEST_HEADER)
            .unwrap_or_default()
            .to_owned()
    };
    Message {
        sequence,
        subject: subjects::last(&answer.subject).to_owned(),
        key: header(KEY),
        signature: header(SIGNATURE),
        body: STANDARD.encode(&answer.payload),
    }
}

/// Reads the subject that an acknowledgement would go to:
/// `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER_SEQUENCE.TIME.PENDING`, in later versions with
/// a domain and an account before the stream.
fn position(reply: &str) -> Option<Position> {
    let parts: Vec<_> = reply.split('.').collect();
    let first = match parts.len() {
        9 => 5,
        11.. => 7,
        _ => return None,
    };
    (parts[..2] == ["$JS", "ACK"]).then_some(())?;
    Some(Position {
        stream: parts[first].parse().ok()?,
        consumer: parts[first + 1].parse().ok()?,
        pending: parts[first + 3].parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_a_key_or_a_signature_is_left_out() {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(KEY, "U".repeat(LONGEST_HEADER));
        headers.insert(SIGNATURE, "s".repeat(LONGEST_HEADER + 1));
        let read = message(
            7,
            &NatsMessage {
                subject: "l4m.event.ams-1".into(),
                reply: None,
                payload: "{}".into(),
                headers: Some(headers),
                status: None,
                description: None,
                length: 0,
            },
        );
        assert_eq!((read.sequence, read.subject.as_str()), (7, "ams-1"));
        assert_eq!(read.key.len(), LONGEST_HEADER);
        assert_eq!(read.signature, "");
    }

    #[test]
    fn a_position_is_read_in_both_notations() {
        let expected = Some(Position {
            stream: 12,
            consumer: 3,
            pending: 9,
        });
        assert_eq!(
            position("$JS.ACK.ORDERS.ams-1.1.12.3.1700000000.9"),
            expected
        );
        assert_eq!(
            position("$JS.ACK._.hash.ORDERS.ams-1.1.12.3.1700000000.9.random"),
            expected
        );
        assert_eq!(position("_INBOX.x"), None);
        assert_eq!(position(""), None);
    }
}
