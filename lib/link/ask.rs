//! Questions between hosts: nothing keeps them. One from a program of this host goes to another host,
//! and one from there to this host's gate. link signs what this host asks and answers; gate judges what
//! others sign, and opens what is sealed to this host.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::carry::Signer;
use super::engine::{Asked, Engine};
use super::gate::Gate;
use crate::base::keys::Purpose;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock};
use crate::domain::fleet::VERSION;
use crate::domain::fleet::question::{Answer, Asking, Failure, Head, Question};
use crate::wire::REQUEST_LIMIT;
use crate::wire::gate::{GateAnswer, GateRequest, Missing, SignedText};
use crate::wire::link::AskHost;

/// How long a program may take to send its question, or to read its answer.
const TIME: Duration = Duration::from_secs(5);

/// The longest answer: the engine carries no longer message.
const LONGEST: usize = 1024 * 1024 - 4096;

/// What asks and answers, beside the loop.
#[derive(Clone)]
pub struct Asks<E> {
    pub engine: E,
    pub signer: Arc<Signer>,
    pub gate_socket: PathBuf,
}

impl<E: Engine> Asks<E> {
    /// Serves one connection of a program of this host: one question, one answer.
    pub async fn serve(self, stream: UnixStream, is_connected: bool) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        let limit = u64::try_from(REQUEST_LIMIT).unwrap_or(u64::MAX);
        let read = async { (&mut stream).take(limit).read_until(b'\n', &mut line).await };
        let answer = match timeout(TIME, read).await {
            Ok(Ok(length)) if length > 0 => self.pass_on(&line, is_connected).await,
            // Nothing was asked.
            _ => return,
        };
        let answer = answer.unwrap_or_else(|error| GateAnswer::Failed {
            why: error.to_string(),
        });
        let answer = serde_json::to_vec(&answer).unwrap_or_default();
        let write = async {
            stream.write_all(&answer).await?;
            stream.write_all(b"\n").await?;
            stream.shutdown().await
        };
        if !matches!(timeout(TIME, write).await, Ok(Ok(()))) {
            tracing::debug!("an answer was not read");
        }
    }

    async fn pass_on(&self, line: &[u8], is_connected: bool) -> Result<GateAnswer> {
        let request: AskHost = serde_json::from_slice(line)
            .map_err(|error| Error::usage(format!("not a question: {error}")))?;
        if !is_connected {
            return Err(Error::unavailable(
                "this host is not connected to the engine of its fleet; `systemctl status left4me-link` \
                 says since when",
            ));
        }
        self.ask(request).await
    }

    /// Asks another host; what gate makes of its answer.
    async fn ask(&self, request: AskHost) -> Result<GateAnswer> {
        let AskHost { host, question } = request;
        let now = clock::now_ms();
        let asking = Asking {
            v: VERSION,
            id: Ulid::new(now),
            from: self.signer.host.clone(),
            to: host.clone(),
            at: now,
            question,
        };
        let failed = |error| Error::failed(format!("the question to {host}: {error}"));
        let body = serde_json::to_string(&asking).map_err(failed)?;
        let signed = self.signer.text(Purpose::Question, body)?;
        let signed = serde_json::to_vec(&signed).map_err(failed)?;

        let answer = self.engine.ask(&host, signed).await?;
        let answer: SignedText = serde_json::from_slice(&answer)
            .map_err(|error| Error::unavailable(format!("{host} gave no answer: {error}")))?;
        let request = GateRequest::Answered {
            host,
            id: asking.id,
            question: asking.question,
            answer,
        };
        Gate::new(self.gate_socket.clone()).ask(&request).await
    }

    /// Asks a host for events that have not come. gate takes in what it answers.
    pub async fn fetch(self, missing: Missing) {
        let Missing { host, after } = missing;
        let request = AskHost {
            host: host.clone(),
            question: Question::Events { after },
        };
        let refused = match self.ask(request).await {
            Ok(GateAnswer::Asked(value)) => Failure::of(&value).map(|failure| failure.error),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        match refused {
            None => tracing::info!("{host} has told again what came after its event {after}"),
            Some(why) => tracing::info!(
                "events of {host} after number {after} are missing, and are asked for later: {why}"
            ),
        }
    }

    /// Lets gate answer another host's question.
    pub async fn answer(self, asked: Asked) {
        match self.answer_to(&asked).await {
            Ok(answer) => {
                if let Err(error) = self.engine.tell(asked.reply, answer).await {
                    tracing::warn!(%error, "a question of {} was not answered", asked.from);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a question of {} was not answered", asked.from);
            }
        }
        drop(asked.open);
    }

    /// The signed answer. Fails for what is no question: then nothing is answered.
    async fn answer_to(&self, asked: &Asked) -> Result<Vec<u8>> {
        let question: SignedText = serde_json::from_slice(&asked.body)
            .map_err(|error| Error::usage(format!("not a question: {error}")))?;
        let Head { id, .. } = Head::read(&question.body)?;
        let request = GateRequest::Ask {
            from: asked.from.clone(),
            question,
        };
        let answered = match Gate::new(self.gate_socket.clone()).ask(&request).await {
            Ok(GateAnswer::Answer { body }) => self.signed(body),
            Ok(_) => Err(Error::unavailable("left4me-gate gave no answer to it")),
            Err(error) => Err(error),
        };
        answered.or_else(|error| {
            let here = &self.signer.host;
            self.signed(Answer::refusal(id, here, &asked.from, &error).to_text()?)
        })
    }

    fn signed(&self, body: String) -> Result<Vec<u8>> {
        let signed = self.signer.text(Purpose::Answer, body)?;
        let signed = serde_json::to_vec(&signed)
            .map_err(|error| Error::failed(format!("the answer: {error}")))?;
        match signed.len() {
            ..=LONGEST => Ok(signed),
            length => Err(Error::failed(format!(
                "the answer is too long, {length} bytes: ask for less"
            ))),
        }
    }
}
