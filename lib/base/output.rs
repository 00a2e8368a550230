//! Writes standard output, for people and for pipes.

use std::borrow::Cow;
use std::io::{ErrorKind, Write as _};

use serde::Serialize;

use crate::base::visible::{is_deceptive, visible};
use crate::base::{Error, Result};

/// Writes one line to standard output, with deceptive characters made visible (see [`visible`]). If
/// the reader is gone (`… | head`), the program exits quietly.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out
        .write_all(visible(text).as_bytes())
        .and_then(|()| out.write_all(b"\n"))
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Error::from(error).within("standard output")),
    }
}

/// Writes `value` as one JSON document on one line.
pub fn json(value: &impl Serialize) -> Result<()> {
    match serde_json::to_string(value) {
        Ok(text) => line(&escaped(&text)),
        Err(error) => Err(Error::failed(format!(
            "cannot encode this as JSON: {error}"
        ))),
    }
}

/// An equivalent JSON document that is safe for a terminal. Characters outside ASCII occur only in
/// strings, where deceptive ones can be replaced by escapes.
fn escaped(json: &str) -> Cow<'_, str> {
    if json.is_ascii() {
        return json.into();
    }

    let mut out = String::with_capacity(json.len());
    let (mut before, mut rest) = (None, json.chars().peekable());
    while let Some(c) = rest.next() {
        if is_deceptive(before, c, rest.peek().copied()) || c.is_control() {
            out.extend(
                c.encode_utf16(&mut [0; 2])
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}")),
            );
        } else {
            out.push(c);
        }

        before = Some(c);
    }

    out.into()
}

/// `text` made safe for a terminal: control and deceptive characters become visible.
pub fn printable(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if text.contains(|c: char| c.is_control() && c != '\t') {
        text.chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect::<String>()
            .into()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_equivalent_and_shows_nothing_deceptive() {
        let text = "a\u{202e}b \u{e0041} \u{9b}31m Größe 漢 \u{1f469}\u{200d}\u{1f467}";
        let plain = serde_json::to_string(&serde_json::json!({"name": text})).unwrap();
        let shown = escaped(&plain);
        assert!(
            shown.contains(
                "a\\u202eb \\udb40\\udc41 \\u009b31m Größe 漢 \u{1f469}\u{200d}\u{1f467}"
            ),
            "{shown}"
        );

        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap()["name"],
            text
        );
    }
}
