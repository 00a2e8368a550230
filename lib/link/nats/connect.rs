//! The connection: who this is, which certificates the nodes have, and what happens to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectOptions, Event};
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, mpsc};

use crate::base::keys::SigningKey;
use crate::base::names::FleetHost;
use crate::base::{Error, Result};
use crate::domain::fleet::subjects;
use crate::link::engine::{Asked, Heard};

/// How long one node may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the connection is tried: a dead one is noticed after two of these.
const PING: Duration = Duration::from_secs(15);

/// The most questions at a time, and the longest one: others are dropped.
const QUESTIONS: usize = 4;
const LONGEST_QUESTION: usize = 4096;

/// How to get in.
pub struct Access {
    /// The nodes: `tls://10.0.0.1:4222`.
    pub engine: Vec<String>,
    /// Whose certificates they have.
    pub ca: Option<PathBuf>,
    pub jwt: String,
    pub key: SigningKey,
    /// The name that the nodes list this connection under, and that its inbox has.
    pub name: String,
}

/// Connects. If it `stays`, it returns at once, and connects and reconnects in the background until
/// the client is dropped.
pub async fn connect(
    access: Access,
    stays: bool,
    heard: mpsc::UnboundedSender<Heard>,
) -> Result<Client> {
    let key = Arc::new(access.key);
    let sign = move |nonce: Vec<u8>| {
        let key = Arc::clone(&key);
        async move { key.sign_raw(&nonce).map_err(AuthError::new) }
    };

    let mut options = ConnectOptions::with_jwt(access.jwt.trim_end().to_owned(), sign)
        .name(&access.name)
        .custom_inbox_prefix(subjects::inbox(&access.name))
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING)
        // Nodes that the engine names may have addresses that this host cannot reach.
        .ignore_discovered_servers()
        .reconnect_delay_callback(delay)
        .event_callback(move |event| {
            if let Some(event) = translate(event) {
                heard.send(event).ok();
            }
            async {}
        });
    if let Some(ca) = access.ca {
        options = options.add_root_certificates(ca);
    }
    options = match stays {
        true => options.retry_on_initial_connect().max_reconnects(None),
        false => options.max_reconnects(3),
    };

    let nodes = access.engine.join(", ");
    options.connect(access.engine).await.map_err(|error| {
        Error::unavailable(format!("no connection to the engine at {nodes}: {error}"))
    })
}

/// The time before an attempt: at once, then longer, up to 8 s. Not for many hosts at the same moment.
fn delay(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let exponent = u32::try_from(attempt - 1).unwrap_or(u32::MAX).min(6);
    let most = 125_u64 << exponent;
    let mut random = [0; 2];
    // Without random numbers all hosts come at the same moment.
    getrandom::fill(&mut random).ok();
    Duration::from_millis(most / 2 + u64::from(u16::from_le_bytes(random)) * most / 2 / 65_536)
}

fn translate(event: Event) -> Option<Heard> {
    match event {
        Event::Connected => Some(Heard::Connected),
        Event::Disconnected | Event::Closed => Some(Heard::Disconnected),
        Event::ServerError(error) => Some(Heard::Complaint(error.to_string())),
        Event::ClientError(error) => Some(Heard::Complaint(error.to_string())),
        Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => None,
    }
}

/// Listens to questions, and to a copy of this host. The subscriptions outlive a reconnection.
pub async fn listen(
    client: &Client,
    host: &FleetHost,
    heard: &mpsc::UnboundedSender<Heard>,
) -> Result<()> {
    let subscribe = async |subject: String| {
        let subscribed = client.subscribe(subject.clone()).await;
        subscribed.map_err(|error| Error::unavailable(format!("{subject}: {error}")))
    };
    let mut questions = subscribe(subjects::asked(host)).await?;
    let mut refusals = subscribe(subjects::refused(host)).await?;

    let (to, here) = (heard.clone(), host.clone());
    tokio::spawn(async move {
        let open = Arc::new(Semaphore::new(QUESTIONS));
        while let Some(message) = questions.next().await {
            let from = subjects::last(&message.subject).parse();
            let (Ok(from), Some(reply)) = (from, message.reply) else {
                continue;
            };
            // It would speak for this host elsewhere.
            if !subjects::is_answer(&reply, &from, &here)
                || message.payload.len() > LONGEST_QUESTION
            {
                continue;
            }
            let Ok(open) = Arc::clone(&open).try_acquire_owned() else {
                tracing::info!("a question of {from} was dropped: {QUESTIONS} others are open");
                continue;
            };
            let asked = Asked {
                from,
                body: message.payload.to_vec(),
                reply: reply.to_string(),
                open,
            };
            if to.send(Heard::Asked(asked)).is_err() {
                break;
            }
        }
    });
    let to = heard.clone();
    tokio::spawn(async move {
        while let Some(message) = refusals.next().await {
            if to.send(Heard::Refused(message.payload.to_vec())).is_err() {
                break;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_get_rarer_and_are_never_more_than_8_s_apart() {
        assert_eq!(delay(1), Duration::ZERO);
        for attempt in 2..200 {
            assert!(delay(attempt) >= Duration::from_millis(125), "{attempt}");
            assert!(delay(attempt) <= Duration::from_secs(8), "{attempt}");
        }
    }
}
