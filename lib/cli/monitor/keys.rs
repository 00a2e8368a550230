//! Decodes keys from a terminal's bytes. It is our own decoder because the main loop waits for
//! keys, commits and signals in one poll(), and must neither block nor spin when the terminal is
//! gone.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// Ctrl with a letter.
    Ctrl(char),
    /// Alt with a character, or Escape and quickly after it that character.
    Alt(char),
    /// Pasted text; none of it is a command.
    Paste(String),
    Enter,
    Escape,
    Backspace,
    Delete,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
}

/// Starts pasted text in bracketed paste mode (`CSI ? 2004 h`).
const PASTE: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// A longer incomplete sequence is discarded.
const LIMIT: usize = 64 * 1024;

/// Decodes keys; keeps the bytes of an incomplete one.
#[derive(Debug, Default)]
pub struct KeyReader {
    bytes: Vec<u8>,
}

/// The result of decoding the first bytes.
enum Next {
    /// A key, or an ignored sequence, and its length in bytes.
    Complete(Option<Key>, usize),
    /// The start of a longer sequence.
    Incomplete,
}

impl KeyReader {
    /// Adds `bytes` and returns the keys that are complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.bytes.extend_from_slice(bytes);
        let (mut keys, mut at) = (Vec::new(), 0);
        while at < self.bytes.len() {
            match next(&self.bytes[at..]) {
                Next::Complete(key, length) => {
                    keys.extend(key);
                    at += length;
                }
                Next::Incomplete => break,
            }
        }

        self.bytes.drain(..at);
        if self.bytes.len() > LIMIT {
            self.bytes.clear();
        }

        keys
    }

    /// Whether a key is incomplete and its rest should arrive within moments.
    pub fn is_waiting(&self) -> bool {
        !self.bytes.is_empty() && !self.bytes.starts_with(PASTE)
    }

    /// Ends an incomplete key: a lone ESC is the Escape key, all else is discarded.
    pub fn flush(&mut self) -> Option<Key> {
        if !self.is_waiting() {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        (bytes.first() == Some(&0x1b)).then_some(Key::Escape)
    }
}

fn next(bytes: &[u8]) -> Next {
    let one = |key| Next::Complete(Some(key), 1);
    match bytes[0] {
        0x1b => escape(bytes),
        b'\r' | b'\n' => one(Key::Enter),
        b'\t' => one(Key::Tab),
        0x08 | 0x7f => one(Key::Backspace),
        byte @ 0x01..=0x1a => one(Key::Ctrl(char::from(byte - 1 + b'a'))),
        0x00..=0x1f => Next::Complete(None, 1),
        _ => character(bytes),
    }
}

/// Decodes one UTF-8 character. Invalid bytes are skipped one by one.
fn character(bytes: &[u8]) -> Next {
    let window = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(&window[..error.valid_up_to()]).unwrap_or("")
        }
        Err(error) => {
            return error
                .error_len()
                .map_or(Next::Incomplete, |length| Next::Complete(None, length));
        }
    };

    match valid.chars().next() {
        Some(c) if c.is_control() => Next::Complete(None, c.len_utf8()),
        Some(c) => Next::Complete(Some(Key::Char(c)), c.len_utf8()),
        None => Next::Complete(None, 1),
    }
}

fn escape(bytes: &[u8]) -> Next {
    match bytes.get(1) {
        None => Next::Incomplete,
        Some(b'[') if bytes.starts_with(PASTE) => paste(bytes),
        Some(b'[') => control_sequence(bytes),
        Some(b'O') => match bytes.get(2) {
            None => Next::Incomplete,
            Some(&last) => Next::Complete(cursor_key(last), 3),
        },
        Some(&key @ 0x20..=0x7e) => Next::Complete(Some(Key::Alt(key.into())), 2),
        Some(_) => Next::Complete(Some(Key::Escape), 1),
    }
}

fn paste(bytes: &[u8]) -> Next {
    let text = &bytes[PASTE.len()..];
    match text
        .windows(PASTE_END.len())
        .position(|window| window == PASTE_END)
    {
        None => Next::Incomplete,
        Some(end) => {
            let pasted = String::from_utf8_lossy(&text[..end]).into_owned();
            Next::Complete(
                Some(Key::Paste(pasted)),
                PASTE.len() + end + PASTE_END.len(),
            )
        }
    }
}

/// `CSI`, parameters, intermediate bytes, one final byte (ECMA-48); xterm's and vt's keys.
fn control_sequence(bytes: &[u8]) -> Next {
    let Some(end) = bytes[2..]
        .iter()
        .position(|byte| !(0x20..=0x3f).contains(byte))
    else {
        return Next::Incomplete;
    };

    let (parameters, last, length) = (&bytes[2..2 + end], bytes[2 + end], end + 3);
    if !(0x40..=0x7e).contains(&last) {
        return Next::Complete(None, length - 1);
    }

    let first = parameters
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let key = match (last, first) {
        (b'~', b"1" | b"7") => Some(Key::Home),
        (b'~', b"3") => Some(Key::Delete),
        (b'~', b"4" | b"8") => Some(Key::End),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        (b'Z', _) => Some(Key::BackTab),
        _ => cursor_key(last),
    };

    Next::Complete(key, length)
}

fn cursor_key(last: u8) -> Option<Key> {
    match last {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'H' => Some(Key::Home),
        b'F' => Some(Key::End),
        b'M' => Some(Key::Enter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        KeyReader::default().feed(bytes)
    }

    #[test]
    fn terminal_sequences_become_keys() {
        use Key::{
            Alt, BackTab, Backspace, Char, Ctrl, Delete, Down, End, Enter, Escape, Home, PageDown,
            PageUp, Tab, Up,
        };

        assert_eq!(
            keys(b"jK\r\x7f\t\x03"),
            [Char('j'), Char('K'), Enter, Backspace, Tab, Ctrl('c')]
        );

        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[1;5A\x1b[5~\x1b[6~"),
            [Up, Down, Up, PageUp, PageDown]
        );

        assert_eq!(
            keys(b"\x1b[H\x1b[3~\x1b[4~\x1b[Z"),
            [Home, Delete, End, BackTab]
        );
        assert_eq!(keys("ü🦀".as_bytes()), [Char('ü'), Char('🦀')]);
        assert_eq!(keys(b"\x1bq\x1b\x1bp"), [Alt('q'), Escape, Alt('p')]);
        assert_eq!(
            keys(b"\x1b[?1;2c\xff\x00x"),
            [Char('x')],
            "replies and invalid bytes are ignored"
        );

        assert_eq!(
            keys(b"\x1b[200~quit\rQ\x1b[201~n"),
            [Key::Paste("quit\rQ".to_owned()), Char('n')]
        );
    }

    #[test]
    fn a_split_sequence_is_one_key_and_a_lone_esc_is_escape() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.feed(b"\x1b"), []);
        assert!(reader.is_waiting());
        assert_eq!(reader.feed(b"["), []);
        assert_eq!(reader.feed(b"B\xc3"), [Key::Down]);
        assert_eq!(reader.feed(b"\xbc"), [Key::Char('ü')]);
        assert!(!reader.is_waiting());

        reader.feed(b"\x1b");
        assert_eq!(reader.flush(), Some(Key::Escape));
        assert!(!reader.is_waiting());
    }

    proptest! {
        #[test]
        fn keys_do_not_depend_on_how_the_bytes_are_split(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0_usize..60) {
            let cut = cut.min(bytes.len());
            let mut reader = KeyReader::default();
            let mut pieces = reader.feed(&bytes[..cut]);
            pieces.extend(reader.feed(&bytes[cut..]));
            prop_assert_eq!(pieces, keys(&bytes));
        }
    }
}
