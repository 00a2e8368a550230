//! Hands one message to left4me-notify, and waits for what came of it.

use std::io::{ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::base::{Error, Result};
use crate::domain::alert::{Answer, Delivery};
use crate::wire::line::LineReader;
use crate::wire::parse;

/// The longest answer, in bytes.
const LIMIT: usize = 16 * 1024;

/// How long an answer may take: left4me-notify gives a destination 10 s, and systemd starts it first.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends one message through left4me-notify.
///
/// Fails with 69 when it does not answer; 77 when this user may not connect.
pub(super) fn deliver(socket: &Path, delivery: &Delivery) -> Result<Answer> {
    let path = socket.display();
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Error::not_permitted(format!(
            "this user may not connect to {path}: only members of group left4me may"
        )),
        _ => Error::unavailable(format!(
            "left4me-notify does not listen at {path}: is left4me-notify.socket active? ({error})"
        )),
    })?;

    let mut line = serde_json::to_string(delivery)
        .map_err(|error| Error::failed(format!("the message: {error}")))?;
    line.push('\n');
    let gone = |why: &dyn std::fmt::Display| {
        Error::unavailable(format!(
            "left4me-notify gave no answer: {why}; `journalctl -u 'left4me-notify@*'` may say why"
        ))
    };
    stream
        .set_write_timeout(Some(TIMEOUT))
        .and_then(|()| stream.write_all(line.as_bytes()))
        .map_err(|error| gone(&error))?;

    let mut lines = LineReader::new(LIMIT);
    let answer = lines
        .read_line(stream.as_fd(), TIMEOUT)
        .map_err(|bad| gone(&bad))?;
    parse(answer).map_err(|why| gone(&why))
}
