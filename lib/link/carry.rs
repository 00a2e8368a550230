//! One exchange: takes from gate what is to be sent, hands it to the engine, and tells gate what the
//! engine has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::compare;
use super::engine::{Engine, Publication};
use crate::base::Result;
use crate::base::keys::{Purpose, SigningKey};
use crate::base::names::FleetHost;
use crate::domain::fleet::subjects::{self, Bucket, ROSTER};
use crate::wire::gate::{GateRequest, Generations, SentOrder, SentRollout, SignedText, Taken};

/// Signs what this host says of itself.
pub struct Signer {
    pub host: FleetHost,
    pub key: SigningKey,
}

impl Signer {
    /// A question or an answer of this host.
    pub fn text(&self, purpose: Purpose, body: String) -> Result<SignedText> {
        let signature = self.key.sign(purpose, body.as_bytes())?;
        Ok(SignedText {
            body,
            key: self.key.public().to_string(),
            signature: STANDARD.encode(signature),
        })
    }

    fn signed(&self, purpose: Purpose, subject: String, body: String) -> Result<Publication> {
        let signature = self.key.sign(purpose, body.as_bytes())?;
        Ok(Publication {
            subject,
            key: self.key.public().to_string(),
            signature: STANDARD.encode(signature),
            body: body.into_bytes(),
            ..Publication::default()
        })
    }
}

/// What came of it.
pub struct Carried {
    /// What gate is told.
    pub sent: GateRequest,
    /// The first thing that the engine did not take.
    pub failed: Option<crate::base::Error>,
}

/// Hands all of it to the engine.
pub async fn carry<E: Engine>(
    engine: &E,
    signer: &Signer,
    taken: &Taken,
    generations: &mut Generations,
) -> Result<Carried> {
    let mut failed = None;

    let mut rollouts = Vec::new();
    for rollout in &taken.rollouts {
        match compare::set_rollout(engine, &signer.host, rollout).await {
            Ok(()) => rollouts.push(SentRollout {
                id: rollout.id,
                epoch: rollout.epoch,
                version: rollout.version,
            }),
            Err(error) => {
                failed.get_or_insert(error.within(format!("rollout {}", rollout.id)));
            }
        }
    }

    let orders = taken.orders.iter().map(|order| Publication {
        subject: subjects::order(&order.to),
        // A further attempt is no duplicate of the one before, which the engine may have lost.
        id: Some(format!("{}.{}", order.id, order.attempt)),
        over: None,
        key: order.key.clone(),
        signature: order.signature.clone(),
        // Not to be read here: its bytes are what gate has signed.
        body: STANDARD.decode(&order.body).unwrap_or_default(),
    });
    let sequences = engine.publish(orders.collect()).await;
    let mut sent = Vec::new();
    for (order, sequence) in taken.orders.iter().zip(sequences) {
        match sequence {
            Ok(sequence) => {
                // A last sequence from before would look like a loss.
                generations.last_order = generations.last_order.max(sequence);
                sent.push(SentOrder {
                    id: order.id,
                    attempt: order.attempt,
                    sequence,
                });
            }
            Err(error) => {
                failed.get_or_insert(error.within(format!("order {} to {}", order.id, order.to)));
            }
        }
    }

    let subject = subjects::event(&signer.host);
    let mut events = Vec::new();
    for event in &taken.events {
        let mut out = signer.signed(Purpose::Event, subject.clone(), event.body.clone())?;
        out.id = Some(event_id(
            &signer.host,
            event.seq,
            &generations.events,
            &out.signature,
        ));
        events.push(out);
    }
    let mut newest = None;
    let mut has_gap = false;
    for (event, sequence) in taken.events.iter().zip(engine.publish(events).await) {
        match sequence {
            Ok(sequence) => {
                generations.last_event = generations.last_event.max(sequence);
                if !has_gap {
                    newest = Some(event.seq);
                }
            }
            Err(error) => {
                has_gap = true;
                failed.get_or_insert(error.within(format!("event {}", event.seq)));
            }
        }
    }

    if let Some(SignedText {
        body,
        key,
        signature,
    }) = taken.roster.clone()
    {
        let roster = Publication {
            subject: Bucket::Roster.subject(ROSTER),
            key,
            signature,
            body: body.into_bytes(),
            ..Publication::default()
        };
        if let Some(Err(error)) = engine.publish(vec![roster]).await.pop() {
            failed.get_or_insert(error.within("the roster"));
        }
    }
    for place in &taken.places {
        if let Err(error) = compare::set_place(engine, place).await {
            failed.get_or_insert(error.within(format!("the place of server {}", place.server)));
        }
    }

    let sent = GateRequest::Sent {
        orders: sent,
        events: newest,
        rollouts,
        generations: generations.clone(),
    };
    Ok(Carried { sent, failed })
}

/// A stream that was made again must not take an event for a duplicate of one that it has lost. Nor may
/// another host use its id first: no other knows the signature before the engine has it.
fn event_id(host: &FleetHost, seq: i64, generation: &str, signature: &str) -> String {
    let part = signature.get(..32).unwrap_or(signature);
    format!("{host}:{seq}@{generation}:{part}")
}

/// Publishes this host's status document.
pub async fn tell_status<E: Engine>(engine: &E, signer: &Signer, status: &str) -> Result<()> {
    let subject = Bucket::Hosts.subject(signer.host.as_str());
    let out = signer.signed(Purpose::Status, subject, status.to_owned())?;
    match engine.publish(vec![out]).await.pop() {
        Some(Err(error)) => Err(error.within("the status")),
        _ => Ok(()),
    }
}
