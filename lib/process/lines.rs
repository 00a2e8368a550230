//! What a line of output is: text without control characters, at most [`LINE_LIMIT`] characters; progress that a
//! carriage return overwrites is told at most once in 250 ms. Pure: bytes and the time go in, lines come out.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::base::visible::{is_deceptive, number};
use crate::wire::{CUT_MARK, LINE_LIMIT};

/// How long progress updates are collected; the last one of them is told.
pub const UPDATE_WINDOW: Duration = Duration::from_millis(250);

/// So many bytes hold so many characters of any kind.
const WIDEST: usize = 4;

/// What the last byte was, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Return {
    /// Not a carriage return.
    None,
    /// A carriage return; what follows decides whether a line or an update ended.
    Seen,
    /// A carriage return whose text was told as an update, because nothing followed in time.
    Told,
}

/// Splits one stream of output into lines. Holds one line and one update, whatever comes.
#[derive(Debug)]
pub struct Lines {
    line: Vec<u8>,
    cut: bool,
    last: Return,
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
    /// Lines of at most `limit` characters, for output that is no text for people.
    #[must_use]
    pub fn up_to(limit: usize) -> Self {
        let (line, update) = (Vec::new(), String::new());
        Self { line, cut: false, last: Return::None, update, pending: false, due: None, limit }
    }

    /// Takes the next bytes and tells each line they end.
    pub fn feed(&mut self, mut bytes: &[u8], now: Instant, tell: &mut impl FnMut(&str)) {
        while let Some(&first) = bytes.first() {
            match (self.last, first) {
                (Return::None, _) => bytes = self.text(bytes, tell),
                (_, b'\r') => bytes = &bytes[1..],
                (Return::Seen, b'\n') => {
                    self.end_line(tell);
                    bytes = &bytes[1..];
                }
                (Return::Seen, _) => {
                    self.end_update(now);
                    self.last = Return::None;
                }
                (Return::Told, b'\n') => {
                    self.last = Return::None;
                    bytes = &bytes[1..];
                }
                (Return::Told, _) => self.last = Return::None,
            }
        }
        if self.last == Return::Seen && !self.line.is_empty() {
            self.due = self.due.or(Some(now + UPDATE_WINDOW));
        }
    }

    /// When [`Lines::tick`] has something to tell.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Tells an update whose window is over.
    pub fn tick(&mut self, now: Instant, tell: &mut impl FnMut(&str)) {
        if self.due.is_some_and(|due| now >= due) {
            if self.last == Return::Seen && !self.line.is_empty() {
                self.end_update(now);
                self.last = Return::Told;
            }
            self.tell_update(tell);
        }
    }

    /// Tells what is left at the end of the stream.
    pub fn finish(&mut self, tell: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            // An update in hand takes the place of the one before it; a rest without line break does not.
            self.pending &= self.last != Return::Seen;
            self.end_line(tell);
        }
        self.tell_update(tell);
    }

    /// Text up to the next line break or carriage return; gives what comes after it.
    fn text<'b>(&mut self, bytes: &'b [u8], tell: &mut impl FnMut(&str)) -> &'b [u8] {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
            self.push(bytes);
            return &[];
        };
        let (text, rest) = (&bytes[..end], &bytes[end + 1..]);
        if bytes[end] == b'\r' {
            self.push(text);
            self.last = Return::Seen;
        } else if self.line.is_empty() && !self.pending && text.len() <= self.limit {
            tell(&clean_up_to(text, false, self.limit));
        } else {
            self.push(text);
            self.end_line(tell);
        }
        rest
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.limit * WIDEST - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }

    fn end_line(&mut self, tell: &mut impl FnMut(&str)) {
        self.tell_update(tell);
        tell(&clean_up_to(&self.line, self.cut, self.limit));
        self.line.clear();
        self.cut = false;
        self.last = Return::None;
    }

    fn end_update(&mut self, now: Instant) {
        if self.line.is_empty() {
            return;
        }
        self.update.clear();
        self.update.push_str(&clean_up_to(&self.line, self.cut, self.limit));
        self.pending = true;
        self.due = self.due.or(Some(now + UPDATE_WINDOW));
        self.line.clear();
        self.cut = false;
    }

    fn tell_update(&mut self, tell: &mut impl FnMut(&str)) {
        self.due = None;
        if std::mem::take(&mut self.pending) {
            tell(&self.update);
        }
    }
}

/// The text of one line: bad bytes replaced, terminal sequences removed, other control characters
/// and what [`is_deceptive`] finds made visible, cut at [`LINE_LIMIT`] characters.
#[must_use]
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
        // A line with a limit of its own is JSON, in which the number would be no escape: its
        // reader cleans what is in it.
        let shown = if limit == LINE_LIMIT && is_deceptive(before, c, after) {
            Shown::Number(number(c))
        } else {
            Shown::As(visible(c))
        };
        let length = shown.length();
        if count + length > limit {
            cut = true;
            break;
        }
        match shown {
            Shown::As(c) => out.push(c),
            Shown::Number(number) => out.push_str(&number),
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

/// How a character is shown.
enum Shown {
    As(char),
    Number(String),
}

impl Shown {
    /// In characters.
    fn length(&self) -> usize {
        match self {
            Shown::As(_) => 1,
            Shown::Number(number) => number.len(),
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

/// The length of the terminal sequence that `text` starts with: colours and cursor moves (CSI), titles (OSC), and the
/// short ones. `None` for all else, also for an escape that begins no whole sequence.
fn sequence(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\u{1b}')?.as_bytes();
    match rest.first()? {
        b'[' => {
            let end = rest[1..].iter().position(|byte| !matches!(byte, 0x20..=0x3f))? + 1;
            matches!(rest[end], 0x40..=0x7e).then_some(end + 2)
        }
        b']' => {
            let end = rest.iter().position(|&byte| byte == 0x07 || byte == 0x1b)?;
            match rest[end] {
                0x07 => Some(end + 2),
                _ => (rest.get(end + 1) == Some(&b'\\')).then_some(end + 3),
            }
        }
        b'(' | b')' => rest.get(1).filter(|byte| byte.is_ascii_alphanumeric()).map(|_| 3),
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
        let mut tell = |text: &str| out.push(text.to_owned());
        pieces.iter().for_each(|piece| lines.feed(piece, now, &mut tell));
        lines.finish(&mut tell);
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
            ("ab\u{202e}dc\u{200b}\n".as_bytes(), &["ab\\u{202e}dc\\u{200b}"]),
            (b"\x1bx \x1b[\xff\n", &["\u{241b}x \u{241b}[\u{fffd}"]),
            (long.as_bytes(), &[&cut]),
            (wide.as_bytes(), &[&wide]),
            (b"", &[]),
        ];
        for (bytes, expected) in table {
            assert_eq!(lines(&[bytes]), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_line_break_may_be_cut_anywhere() {
        assert_eq!(lines(&[b"a\r", b"\nb\r", b"c\r", b"\r\n"]), ["a", "b", "c"]);
        assert_eq!(lines(&["ж".as_bytes().split_at(1).0, "ж".as_bytes().split_at(1).1, b"\n"]), ["ж"]);
        assert_eq!(lines(&[b"a\n\r", b"\nb\n"]), ["a", "", "b"]);
    }

    #[test]
    fn updates_are_told_once_per_window_and_a_late_line_feed_adds_no_empty_line() {
        let (start, mut out, mut lines) = (Instant::now(), Vec::new(), Lines::default());
        let mut tell = |text: &str| out.push(text.to_owned());
        for ms in 0..1000_u64 {
            let now = start + Duration::from_millis(ms);
            lines.tick(now, &mut tell);
            lines.feed(format!("{ms}\r").as_bytes(), now, &mut tell);
        }
        let due = lines.due().expect("one is pending");
        lines.tick(due, &mut tell);
        lines.feed(b"\n", due, &mut tell);
        lines.finish(&mut tell);
        assert_eq!(out, ["249", "499", "749", "999"]);
    }

    #[test]
    fn one_megabyte_without_a_line_break_is_one_cut_line_in_bounded_memory() {
        let (now, mut out, mut lines) = (Instant::now(), Vec::new(), Lines::default());
        let mut tell = |text: &str| out.push(text.chars().count());
        for _ in 0..1024 {
            lines.feed(&[b'x'; 1024], now, &mut tell);
        }
        assert!(lines.line.capacity() <= 2 * WIDEST * LINE_LIMIT);
        lines.feed(b"\nnext\n", now, &mut tell);
        assert_eq!(out, [LINE_LIMIT + CUT_MARK.chars().count(), 4]);
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_each_line_is_short_printable_text(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            for line in lines(&[&bytes]) {
                prop_assert!(line.chars().count() <= LINE_LIMIT + CUT_MARK.chars().count());
                prop_assert!(!line.contains(|c: char| c.is_control() && c != '\t'));
                prop_assert_eq!(&*clean(line.as_bytes(), false), &*line);
            }
        }

        #[test]
        fn lines_do_not_depend_on_where_the_bytes_are_cut(
            text in "([a-zж\u{1b}\\[0m]{0,9}(\n|\r\n|\r)){0,20}", at in 0_usize..200,
        ) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(lines(&[bytes]), lines(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
