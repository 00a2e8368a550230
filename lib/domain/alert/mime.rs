//! The encodings of mail and of header values: only ASCII, whatever a server is named.

/// The letters of base64.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes of text in one encoded word: with its frame it then has at most 75 characters.
const WORD: usize = 45;

/// The characters of a line of a mail's body.
const LINE: usize = 76;

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let byte = |at: usize| u32::from(part.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            text.push(if at <= part.len() {
                letter(bits >> shift)
            } else {
                '='
            });
        }
    }
    text
}

/// `text` as the value of a header: as it is if it is printable ASCII, else as encoded words (RFC
/// 2047), separated by `between`.
pub fn header(text: &str, between: &str) -> String {
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    // What looks like an encoded word would be decoded.
    if is_plain && !text.contains("=?") {
        return text.to_owned();
    }

    let words: Vec<String> = pieces(text, WORD)
        .into_iter()
        .map(|piece| format!("=?UTF-8?B?{}?=", base64(piece.as_bytes())))
        .collect();
    words.join(between)
}

/// Base64 in lines, as in a mail's body.
pub fn body(text: &str) -> String {
    let encoded = base64(text.as_bytes());
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / LINE * 2 + 2);
    for piece in pieces(&encoded, LINE) {
        lines.push_str(piece);
        lines.push_str("\r\n");
    }
    lines
}

/// Cuts `text` into pieces of at most `most` bytes, between characters.
fn pieces(text: &str, most: usize) -> Vec<&str> {
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(most));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn a_header_keeps_plain_text_and_encodes_the_rest() {
        assert_eq!(header("Friday crashed", " "), "Friday crashed");
        assert_eq!(header("Größe", " "), "=?UTF-8?B?R3LDtsOfZQ==?=");
        assert_eq!(header("a\r\nX: y", " "), "=?UTF-8?B?YQ0KWDogeQ==?=");
        assert!(header("=?UTF-8?B?eA==?=", " ").starts_with("=?UTF-8?B?P"));
    }

    proptest! {
        #[test]
        fn a_header_is_printable_ascii_in_words_of_75_characters(text in ".{0,200}") {
            let header = header(&text, "\r\n ");
            for line in header.split("\r\n ") {
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                prop_assert!(line.len() <= 75 || header == text);
            }
        }
    }
}
