//! The line protocol to left4me-gate. systemd starts gate for the first connection, and it ends when
//! idle: then the next request opens another connection.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::base::{Error, Result};
use crate::wire::gate::{GateAnswer, GateRequest, LINE};

/// How long an answer may take: gate may wait for the database.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Gate {
    path: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Gate {
    pub fn new(path: PathBuf) -> Self {
        Self { path, stream: None }
    }

    /// Asks once; on a new connection if the old one has ended.
    ///
    /// Fails with 69 if gate cannot be reached, or cannot do it now.
    pub async fn ask(&mut self, request: &GateRequest) -> Result<GateAnswer> {
        let mut line = serde_json::to_vec(request)
            .map_err(|error| Error::failed(format!("the request to left4me-gate: {error}")))?;
        line.push(b'\n');

        let had_one = self.stream.is_some();
        let answer = match self.try_once(&line).await {
            Err(_) if had_one => {
                self.stream = None;
                self.try_once(&line).await
            }
            answer => answer,
        };
        match answer {
            Ok(GateAnswer::Failed { why }) => {
                Err(Error::unavailable(format!("left4me-gate: {why}")))
            }
            Ok(answer) => Ok(answer),
            Err(error) => {
                self.stream = None;
                Err(error)
            }
        }
    }

    async fn try_once(&mut self, line: &[u8]) -> Result<GateAnswer> {
        let gone = |why: &dyn std::fmt::Display| {
            Error::unavailable(format!(
                "left4me-gate gave no answer at {}: {why}; `journalctl -u left4me-gate` may say why",
                self.path.display()
            ))
        };
        if self.stream.is_none() {
            let stream = UnixStream::connect(&self.path).await;
            self.stream = Some(BufReader::new(stream.map_err(|error| gone(&error))?));
        }
        let Some(stream) = &mut self.stream else {
            return Err(gone(&"no connection"));
        };

        let talk = async {
            stream.write_all(line).await?;
            let mut answer = Vec::new();
            let limit = u64::try_from(LINE).unwrap_or(u64::MAX);
            (&mut *stream)
                .take(limit)
                .read_until(b'\n', &mut answer)
                .await?;
            std::io::Result::Ok(answer)
        };
        let answer = match timeout(TIMEOUT, talk).await {
            Ok(answer) => answer.map_err(|error| gone(&error))?,
            Err(_) => return Err(gone(&format!("none within {} s", TIMEOUT.as_secs()))),
        };
        if answer.last() != Some(&b'\n') {
            return Err(gone(&"the connection has ended"));
        }
        serde_json::from_slice(&answer).map_err(|error| gone(&error))
    }
}
