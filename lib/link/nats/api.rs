//! Requests to the engine's API, and what its answers mean.

use std::time::Duration;

use async_nats::{Client, Message, Request, RequestError, RequestErrorKind};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::TIMEOUT;
use crate::base::{Error, Result};

/// The engine's number for a revision that is not the expected one.
const WRONG_REVISION: u64 = 10071;
/// For a stream that does not exist.
const NO_STREAM: u64 = 10059;
/// For a stream that needs more nodes than work together.
const NO_PEERS: u64 = 10005;

/// After what time without an answer a request is sent again, and how soon one that nothing served.
const ATTEMPT: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(250);

/// A stream, as the engine describes it.
pub struct Info {
    pub created: String,
    pub last: u64,
    pub all: Value,
}

/// Sends a request; its answer without an error.
pub async fn request(client: &Client, subject: &str, body: &Value) -> Result<Value> {
    let body = bytes::Bytes::from(body.to_string());
    let request = || Request::new().payload(body.clone());
    let answer = persist(client, subject, request).await?;
    self::answer(subject, &answer.payload)
}

/// Sends a request until something answers: a leader that dies takes requests with it, and until the
/// next one is elected nothing serves its subjects. So the request must be one that may come twice.
pub async fn persist(
    client: &Client,
    subject: &str,
    request: impl Fn() -> Request,
) -> Result<Message> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let once = request().timeout(Some(ATTEMPT));
        let error = match client.send_request(subject.to_owned(), once).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let pause = match error.kind() {
            RequestErrorKind::TimedOut => Duration::ZERO,
            RequestErrorKind::NoResponders => PAUSE,
            _ => return Err(failed(subject, &error)),
        };
        if Instant::now() + pause >= deadline {
            return Err(failed(subject, &error));
        }
        sleep(pause).await;
    }
}

/// Describes a stream. None if there is no such stream.
pub async fn info(client: &Client, stream: &str) -> Result<Option<Info>> {
    let subject = format!("$JS.API.STREAM.INFO.{stream}");
    match request(client, &subject, &Value::Object(serde_json::Map::new())).await {
        Ok(all) => Ok(Some(Info {
            created: all["created"].as_str().unwrap_or_default().to_owned(),
            last: all["state"]["last_seq"].as_u64().unwrap_or_default(),
            all,
        })),
        Err(error) if error.exit == crate::base::Exit::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads an answer. Fails with 3 for a stream that does not exist, with 4 for another revision than
/// expected, with 69 otherwise.
pub fn answer(subject: &str, payload: &[u8]) -> Result<Value> {
    let answer: Value = serde_json::from_slice(payload)
        .map_err(|error| Error::unavailable(format!("{subject}: not an answer: {error}")))?;
    let Some(error) = answer.get("error") else {
        return Ok(answer);
    };

    let why = error["description"].as_str().unwrap_or("it failed");
    let text = format!("the engine refused {subject}: {why}");
    Err(match error["err_code"].as_u64() {
        Some(WRONG_REVISION) => Error::conflict(text),
        Some(NO_STREAM) => Error::not_found(text),
        Some(NO_PEERS) => Error::unavailable(format!(
            "{text}: not all of its nodes work together; restart nats-server on one after another, then \
             repeat this"
        )),
        _ => Error::unavailable(text),
    })
}

/// A request without an answer.
pub fn failed(subject: &str, error: &RequestError) -> Error {
    Error::unavailable(match error.kind() {
        RequestErrorKind::TimedOut => {
            format!(
                "the engine did not answer {subject} within {} s",
                TIMEOUT.as_secs()
            )
        }
        RequestErrorKind::NoResponders => {
            format!("the engine has nothing that serves {subject}: its streams are not up")
        }
        _ => format!("{subject}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Exit;

    #[test]
    fn errors_of_the_engine_are_told_apart() {
        let exit = |text: &str| answer("s", text.as_bytes()).unwrap_err().exit;
        assert_eq!(
            exit(
                r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"}}"#
            ),
            Exit::Conflict
        );
        assert_eq!(
            exit(r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#),
            Exit::NotFound
        );
        assert_eq!(exit(r#"{"error":{"code":503}}"#), Exit::Unavailable);
        let alone = r#"{"error":{"code":400,"err_code":10005,"description":"no suitable peers for placement"}}"#;
        let why = answer("s", alone.as_bytes()).unwrap_err();
        assert_eq!(why.exit, Exit::Unavailable);
        assert!(why.to_string().contains("restart nats-server"), "{why}");
        assert_eq!(exit("PONG"), Exit::Unavailable);
        assert_eq!(answer("s", br#"{"seq":7}"#).unwrap()["seq"], 7);
    }
}
