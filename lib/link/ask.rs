//! Questions between hosts: nothing keeps them. One from a program of this host goes to another host,
//! and one from there to this host's gate.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::engine::{Asked, Engine};
use super::gate::Gate;
use crate::base::Result;
use crate::wire::REQUEST_LIMIT;
use crate::wire::gate::{GateAnswer, GateRequest, Question};
use crate::wire::link::AskHost;

/// How long a program may take to send its question, or to read its answer.
const TIME: Duration = Duration::from_secs(5);

/// The longest answer: the engine carries no longer message.
const LONGEST: usize = 1024 * 1024 - 4096;

/// Serves one connection of a program of this host: one question, one answer.
pub async fn serve<E: Engine>(engine: E, stream: UnixStream, is_connected: bool) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let limit = u64::try_from(REQUEST_LIMIT).unwrap_or(u64::MAX);
    let read = async { (&mut stream).take(limit).read_until(b'\n', &mut line).await };
    let answer = match timeout(TIME, read).await {
        Ok(Ok(length)) if length > 0 => pass_on(&engine, &line, is_connected).await,
        // Nothing was asked.
        _ => return,
    };
    let answer = answer.unwrap_or_else(|error| failed(error.to_string()));
    let write = async {
        stream.write_all(&answer).await?;
        stream.write_all(b"\n").await?;
        stream.shutdown().await
    };
    if !matches!(timeout(TIME, write).await, Ok(Ok(()))) {
        tracing::debug!("an answer was not read");
    }
}

async fn pass_on<E: Engine>(engine: &E, line: &[u8], is_connected: bool) -> Result<Vec<u8>> {
    use crate::base::Error;
    let request: AskHost = serde_json::from_slice(line)
        .map_err(|error| Error::usage(format!("not a question: {error}")))?;
    if !is_connected {
        return Err(Error::unavailable(
            "this host is not connected to the engine of its fleet; `systemctl status left4me-link` \
             says since when",
        ));
    }
    let question = serde_json::to_vec(&request.question)
        .map_err(|error| Error::failed(format!("the question: {error}")))?;
    let answer = engine.ask(&request.host, question).await?;
    // One line, whatever the other host sends.
    let answer: GateAnswer = serde_json::from_slice(&answer)
        .map_err(|error| Error::unavailable(format!("{} gave no answer: {error}", request.host)))?;
    Ok(serde_json::to_vec(&answer).unwrap_or_default())
}

/// Lets gate answer another host's question.
pub async fn answer<E: Engine>(engine: E, mut gate: Gate, asked: Asked) {
    let answer = match serde_json::from_slice::<Question>(&asked.body) {
        Err(error) => failed(format!("not a question that this version knows: {error}")),
        Ok(question) => {
            let request = GateRequest::Ask {
                from: asked.from,
                question,
            };
            match gate.ask(&request).await {
                Ok(answer) => serde_json::to_vec(&answer).unwrap_or_default(),
                Err(error) => failed(error.to_string()),
            }
        }
    };
    let answer = match answer.len() {
        ..=LONGEST => answer,
        _ => failed("the answer is too long; ask for less".to_owned()),
    };
    if let Err(error) = engine.tell(asked.reply, answer).await {
        tracing::warn!(%error, "a question of another host was not answered");
    }
    drop(asked.open);
}

fn failed(why: String) -> Vec<u8> {
    serde_json::to_vec(&GateAnswer::Failed { why }).unwrap_or_default()
}
