//! Splits output into lines: text without control characters, at most [`LINE_LIMIT`] characters.
//! Progress that a carriage return overwrites is emitted at most once in 250 ms. Pure: the caller
//! passes bytes and the time.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::base::visible::{is_deceptive, number};
use crate::wire::{CUT_MARK, LINE_LIMIT};

/// How long progress updates are collected; only the last one is emitted.
pub const UPDATE_WINDOW: Duration = Duration::from_millis(250);

/// The longest UTF-8 encoding of a character, in bytes.
const WIDEST: usize = 4;

/// Whether the last byte was a carriage return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CarriageReturn {
    /// It was not.
    None,
    /// It was; the next byte decides whether a line or an update ended.
    Pending,
    /// It was, and its text was emitted as an update, because nothing followed in time.
    Emitted,
}

/// Splits one stream of output into lines. It never holds more than one line and one update.
#[derive(Debug)]
pub struct Lines {
    line: Vec<u8>,
    cut: bool,
    last: CarriageReturn,
    update: String,
    pending: bool,
    due: Option<Instant>,
    limit: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::up_to(LINE_LIMIT)
    }
}

impl Lines {
    /// With a limit of its own, for output that is no text for people.
    pub fn up_to(limit: usize) -> Self {
        let (line, update) = (Vec::new(), String::new());
        Self {
            line,
            cut: false,
            last: CarriageReturn::None,
            update,
            pending: false,
            due: None,
            limit,
        }
    }

    /// Takes the next bytes and emits each line that they end.
    pub fn feed(&mut self, mut bytes: &[u8], now: Instant, emit: &mut impl FnMut(&str)) {
        while let Some(&first) = bytes.first() {
            match (self.last, first) {
                (CarriageReturn::None, _) => bytes = self.text(bytes, emit),
                (_, b'\r') => bytes = &bytes[1..],
                (CarriageReturn::Pending, b'\n') => {
                    self.end_line(emit);
                    bytes = &bytes[1..];
                }
                (CarriageReturn::Pending, _) => {
                    self.end_update(now);
                    self.last = CarriageReturn::None;
                }
                (CarriageReturn::Emitted, b'\n') => {
                    self.last = CarriageReturn::None;
                    bytes = &bytes[1..];
                }
                (CarriageReturn::Emitted, _) => self.last = CarriageReturn::None,
            }
        }

        if self.last == CarriageReturn::Pending && !self.line.is_empty() {
            self.due = self.due.or(Some(now + UPDATE_WINDOW));
        }
    }

    /// When [`Lines::emit_due`] has something to emit.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Emits an update whose window is over.
    pub fn emit_due(&mut self, now: Instant, emit: &mut impl FnMut(&str)) {
        if self.due.is_some_and(|due| now >= due) {
            if self.last == CarriageReturn::Pending && !self.line.is_empty() {
                self.end_update(now);
                self.last = CarriageReturn::Emitted;
            }
            self.emit_update(emit);
        }
    }

    /// Emits what is left at the end of the stream.
    pub fn finish(&mut self, emit: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            // A last update replaces the one before it; a last line without a line break does not.
            self.pending &= self.last != CarriageReturn::Pending;
            self.end_line(emit);
        }
        self.emit_update(emit);
    }

    /// Takes the text up to the next line break or carriage return. Returns what comes after it.
    fn text<'b>(&mut self, bytes: &'b [u8], emit: &mut impl FnMut(&str)) -> &'b [u8] {
        let Some(end) = bytes
            .iter()
            .position(|&byte| byte == b'\n' || byte == b'\r')
        else {
            self.push(bytes);
            return &[];
        };

        let (text, rest) = (&bytes[..end], &bytes[end + 1..]);

        if bytes[end] == b'\r' {
            self.push(text);
            self.last = CarriageReturn::Pending;
        } else if self.line.is_empty() && !self.pending && text.len() <= self.limit {
            emit(&clean_up_to(text, false, self.limit));
        } else {
            self.push(text);
            self.end_line(emit);
        }

        rest
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.limit * WIDEST - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }

    fn end_line(&mut self, emit: &mut impl FnMut(&str)) {
        self.emit_update(emit);
        emit(&clean_up_to(&self.line, self.cut, self.limit));
        self.line.clear();
        self.cut = false;
        self.last = CarriageReturn::None;
    }

    fn end_update(&mut self, now: Instant) {
        if self.line.is_empty() {
            return;
        }

        self.update.clear();
        self.update
            .push_str(&clean_up_to(&self.line, self.cut, self.limit));
        self.pending = true;
        self.due = self.due.or(Some(now + UPDATE_WINDOW));

        self.line.clear();
        self.cut = false;
    }

    fn emit_update(&mut self, emit: &mut impl FnMut(&str)) {
        self.due = None;
        if std::mem::take(&mut self.pending) {
            emit(&self.update);
        }
    }
}

/// The text of one line, cut at [`LINE_LIMIT`] characters. Invalid bytes are replaced, terminal
/// sequences removed; other control characters and what [`is_deceptive`] finds are made visible.
pub fn clean(bytes: &[u8], cut: bool) -> Cow<'_, str> {
    clean_up_to(bytes, cut, LINE_LIMIT)
}

fn clean_up_to(bytes: &[u8], cut: bool, limit: usize) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let plain = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    if plain && !cut && text.len() <= limit {
        return text;
    }

    let mut out = String::with_capacity(text.len().min(limit * WIDEST) + CUT_MARK.len());
    let (mut rest, mut count, mut cut, mut before) = (&*text, 0, cut, None);
    while let Some(c) = rest.chars().next() {
        if let Some(length) = sequence(rest) {
            rest = &rest[length..];
            continue;
        }

        let after = rest[c.len_utf8()..].chars().next();
        // A line with a limit of its own is JSON, in which the number would be no valid escape. Its
        // reader cleans the texts in it.
        let rendered = if limit == LINE_LIMIT && is_deceptive(before, c, after) {
            Rendered::Number(number(c))
        } else {
            Rendered::As(visible(c))
        };

        let length = rendered.length();
        if count + length > limit {
            cut = true;
            break;
        }

        match rendered {
            Rendered::As(c) => out.push(c),
            Rendered::Number(number) => out.push_str(&number),
        }

        count += length;
        before = Some(c);
        rest = &rest[c.len_utf8()..];
    }

    if cut {
        out.push_str(CUT_MARK);
    }

    Cow::Owned(out)
}

/// How a character is written.
enum Rendered {
    As(char),
    Number(String),
}

impl Rendered {
    /// Its length in characters.
    fn length(&self) -> usize {
        match self {
            Rendered::As(_) => 1,
            Rendered::Number(number) => number.len(),
        }
    }
}

fn visible(c: char) -> char {
    match c {
        '\t' => c,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        _ => c,
    }
}

/// The length of the terminal sequence that `text` starts with: colours and cursor moves (CSI),
/// titles (OSC), and the short ones. `None` when it starts with no complete sequence.
fn sequence(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\u{1b}')?.as_bytes();
    match rest.first()? {
        b'[' => {
            let end = rest[1..]
                .iter()
                .position(|byte| !matches!(byte, 0x20..=0x3f))?
                + 1;
            matches!(rest[end], 0x40..=0x7e).then_some(end + 2)
        }
        b']' => {
            let end = rest.iter().position(|&byte| byte == 0x07 || byte == 0x1b)?;
            match rest[end] {
                0x07 => Some(end + 2),
                _ => (rest.get(end + 1) == Some(&b'\\')).then_some(end + 3),
            }
        }
        b'(' | b')' => rest
            .get(1)
            .filter(|byte| byte.is_ascii_alphanumeric())
            .map(|_| 3),
        b'7' | b'8' | b'=' | b'>' | b'A'..=b'Z' | b'\\' | b'c' => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (now, mut out, mut lines) = (Instant::now(), Vec::new(), Lines::default());
        let mut emit = |text: &str| out.push(text.to_owned());
        pieces
            .iter()
            .for_each(|piece| lines.feed(piece, now, &mut emit));
        lines.finish(&mut emit);
        out
    }

    #[test]
    fn text_comes_out_as_lines() {
        let long = "x".repeat(5000);
        let cut = format!("{}{CUT_MARK}", &long[..4096]);
        let wide = "ж".repeat(4096);
        let table: &[(&[u8], &[&str])] = &[
            (b"a\nb\n", &["a", "b"]),
            (b"a\n\nb", &["a", "", "b"]),
            (b"a\r\nb\r\n\r\n", &["a", "b", ""]),
            (b"a\r\r\nb", &["a", "b"]),
            (b"1%\r2%\r3%\rdone\n", &["3%", "done"]),
            (b"1%\r2%\r3%", &["2%", "3%"]),
            (b"1%\r2%\r3%\r", &["3%"]),
            (b"\r1%\r2%", &["1%", "2%"]),
            (b"a\xffb\n", &["a\u{fffd}b"]),
            (b"a\0b\tc\x07\n", &["a\u{2400}b\tc\u{2407}"]),
            (b"\x1b[1;31mred\x1b[0m\x1b]0;title\x07.\n", &["red."]),
            (
                "ab\u{202e}dc\u{200b}\n".as_bytes(),
                &["ab\\u{202e}dc\\u{200b}"],
            ),
            (b"\x1bx \x1b[\xff\n", &["\u{241b}x \u{241b}[\u{fffd}"]),
            (long.as_bytes(), &[&cut]),
            (wide.as_bytes(), &[&wide]),
            (b"", &[]),
        ];

        for (bytes, expected) in table {
            assert_eq!(
                lines(&[bytes]),
                *expected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn a_line_break_may_be_split_anywhere() {
        assert_eq!(lines(&[b"a\r", b"\nb\r", b"c\r", b"\r\n"]), ["a", "b", "c"]);
        assert_eq!(
            lines(&[
                "ж".as_bytes().split_at(1).0,
                "ж".as_bytes().split_at(1).1,
                b"\n"
            ]),
            ["ж"]
        );

        assert_eq!(lines(&[b"a\n\r", b"\nb\n"]), ["a", "", "b"]);
    }

    #[test]
    fn updates_come_once_per_window_and_a_late_line_feed_adds_no_line() {
        let (start, mut out, mut lines) = (Instant::now(), Vec::new(), Lines::default());
        let mut emit = |text: &str| out.push(text.to_owned());
        for ms in 0..1000_u64 {
            let now = start + Duration::from_millis(ms);
            lines.emit_due(now, &mut emit);
            lines.feed(format!("{ms}\r").as_bytes(), now, &mut emit);
        }

        let due = lines.due().expect("one is pending");
        lines.emit_due(due, &mut emit);
        lines.feed(b"\n", due, &mut emit);
        lines.finish(&mut emit);
        assert_eq!(out, ["249", "499", "749", "999"]);
    }

    #[test]
    fn a_megabyte_without_a_line_break_is_one_line_in_bounded_memory() {
        let (now, mut out, mut lines) = (Instant::now(), Vec::new(), Lines::default());
        let mut emit = |text: &str| out.push(text.chars().count());
        for _ in 0..1024 {
            lines.feed(&[b'x'; 1024], now, &mut emit);
        }

        assert!(lines.line.capacity() <= 2 * WIDEST * LINE_LIMIT);

        lines.feed(b"\nnext\n", now, &mut emit);
        assert_eq!(out, [LINE_LIMIT + CUT_MARK.chars().count(), 4]);
    }

    proptest! {
        #[test]
        fn each_line_is_short_printable_text(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            for line in lines(&[&bytes]) {
                prop_assert!(line.chars().count() <= LINE_LIMIT + CUT_MARK.chars().count());
                prop_assert!(!line.contains(|c: char| c.is_control() && c != '\t'));
                prop_assert_eq!(&*clean(line.as_bytes(), false), &*line);
            }
        }

        #[test]
        fn lines_do_not_depend_on_where_the_bytes_are_split(
            text in "([a-zж\u{1b}\\[0m]{0,9}(\n|\r\n|\r)){0,20}", at in 0_usize..200,
        ) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(lines(&[bytes]), lines(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
