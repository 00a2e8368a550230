//! Standard output for programs that people and pipes read.

use std::borrow::Cow;
use std::io::{ErrorKind, Write as _};

use serde::Serialize;

use crate::base::visible::visible;
use crate::base::{Error, Result};

/// Writes one line to standard output. When the reader has gone away (`… | head`), the program ends quietly: nobody is
/// left to tell.
///
/// # Errors
/// 1 when the output cannot be written, as on a full disk.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Error::from(error).within("standard output")),
    }
}

/// Writes `value` as one JSON document, for programs: indented on a terminal's sake never, always one line.
///
/// # Errors
/// As [`line`].
pub fn json(value: &impl Serialize) -> Result<()> {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => Err(Error::failed(format!("this cannot be shown as JSON: {error}"))),
    }
}

/// `text` as a terminal may show it: control characters, also those that were stored from outside,
/// and what [`visible`] knows become visible.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if text.contains(|c: char| c.is_control() && c != '\t') {
        text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        text
    }
}
