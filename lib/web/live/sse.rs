//! Server-sent events as bytes. One call writes exactly one event, whatever is in the text: the
//! data is one line of JSON, which has no line break, and control characters and terminal sequences
//! were removed before.

use std::borrow::Cow;
use std::fmt::Display;

use bytes::Bytes;
use serde::Serialize;

use crate::process::lines;

/// A comment. It keeps proxies from closing a quiet stream, and detects a peer that is gone.
pub const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// Appends one event to `out`. `id` must not contain a line break; without it, a client's
/// Last-Event-ID is unchanged. `name` is one of ours.
pub fn event(out: &mut Vec<u8>, id: Option<&dyn Display>, name: &str, data: &impl Serialize) {
    use std::io::Write as _;

    let begun = out.len();
    let written = id
        .map_or(Ok(()), |id| writeln!(out, "id: {id}"))
        .and_then(|()| write!(out, "event: {name}\ndata: "))
        .and_then(|()| serde_json::to_writer(&mut *out, data).map_err(Into::into))
        .and_then(|()| out.write_all(b"\n\n"));

    // Writing to a vector does not fail, and our data always serializes. If it did, half an event
    // must not be sent.
    if written.is_err() {
        out.truncate(begun);
    }
}

pub fn one(id: Option<&dyn Display>, name: &str, data: &impl Serialize) -> Bytes {
    let mut out = Vec::new();
    event(&mut out, id, name, data);
    out.into()
}

/// A line that can be shown: without terminal sequences, with visible control characters, at most
/// 4,096 characters.
pub fn text(line: &str) -> Cow<'_, str> {
    lines::clean(line.as_bytes(), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// The events of a stream, parsed as the standard says: id, event, data.
    fn parse(stream: &str) -> Vec<(Option<String>, String, String)> {
        let (mut events, mut id, mut name, mut data) =
            (Vec::new(), None, String::new(), Vec::new());
        let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
        for line in lines.split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));

            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() && !data.is_empty() => {
                    events.push((id.take(), std::mem::take(&mut name), data.join("\n")));
                    data.clear();
                }
                "id" if !value.contains('\0') => id = Some(value.to_owned()),
                "event" => value.clone_into(&mut name),
                "data" => data.push(value.to_owned()),
                _ => {}
            }
        }

        events
    }

    fn round(line: &str) -> String {
        let mut out = b":\n\n".to_vec();
        event(&mut out, Some(&7), "stdout", &json!({"line": text(line)}));
        event(&mut out, None, "state", &json!({}));

        let mut events = parse(std::str::from_utf8(&out).unwrap()).into_iter();
        let (id, name, data) = events.next().unwrap();
        assert_eq!((id.as_deref(), &*name), (Some("7"), "stdout"));
        assert_eq!(
            events.next().unwrap(),
            (None, "state".to_owned(), "{}".to_owned())
        );

        assert_eq!(events.next(), None);

        serde_json::from_str::<Value>(&data).unwrap()["line"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn hostile_lines_come_back_as_text() {
        let wide = "界".repeat(4096);
        let table = [
            (
                "data: x\n\nevent: end\ndata: {}",
                "data: x\u{240a}\u{240a}event: end\u{240a}data: {}",
            ),
            (
                "a\r\nid: 9\r\n\r\nb\rc",
                "a\u{240d}\u{240a}id: 9\u{240d}\u{240a}\u{240d}\u{240a}b\u{240d}c",
            ),
            (
                "\u{85}\u{2028}\u{2029}\0\t",
                "\u{fffd}\\u{2028}\\u{2029}\u{2400}\t",
            ),
            ("<\u{202e}nimda> hi", "<\\u{202e}nimda> hi"),
            (
                "\u{1b}[31mred\u{1b}[0m \u{1b}]0;t\u{7}<b>&amp;\"\\",
                "red <b>&amp;\"\\",
            ),
            (&wide, &wide),
            ("", ""),
        ];

        for (line, shown) in table {
            assert_eq!(round(line), shown);
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_event_with_the_cleaned_text(line in "(?s)(.|\r|\n|\r\n|data: \
            |event: end|id: 1|\u{1b}\\[31m|\0|\u{2028}){0,60}") {
            let shown = round(&line);
            prop_assert_eq!(&shown, &*text(&line));
            prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\t'));
        }
    }
}
