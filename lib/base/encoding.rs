//! Decodes text files from people: UTF-8, without byte order mark and carriage returns. For other
//! encodings, the error names the likely encoding and the command that converts it. Editors on
//! Windows write all of these; the game reads only UTF-8.

use super::names::BadName;

/// UTF-8's byte order mark.
pub const BOM: char = '\u{feff}';

/// Decodes UTF-8 text.
///
/// Errors: Names the first line that is not UTF-8, the likely encoding, and the command that
/// converts it. The error contains no byte of the text.
pub fn decode(bytes: Vec<u8>) -> Result<String, BadName> {
    if let Some((name, code)) = wide(&bytes) {
        return Err(foreign(format!("line 1 on is {name}"), code));
    }

    match String::from_utf8(bytes) {
        Ok(text) => Ok(plain(&text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let line = 1 + bytes.iter().take(at).filter(|&&byte| byte == b'\n').count();
            let (name, code) = narrow(&bytes);
            Err(foreign(format!("line {line} looks like {name}"), code))
        }
    }
}

/// Removes the byte order mark, and the carriage returns at the ends of lines.
fn plain(text: &str) -> String {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => format!("{}\n", line.trim_end_matches('\r')),
            None => line.trim_end_matches('\r').to_owned(),
        })
        .collect()
}

fn foreign(what: String, code: &str) -> BadName {
    BadName::new(format!(
        "not UTF-8 text ({what}); convert it: `iconv -f {code} -t UTF-8 OLD >NEW`"
    ))
}

/// Recognizes encodings with two or four bytes per character, by the byte order mark or by the zero
/// bytes of ASCII text.
fn wide(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let zeros = |first: usize| {
        bytes
            .iter()
            .skip(first)
            .step_by(2)
            .take(256)
            .filter(|&&byte| byte == 0)
            .count()
    };

    let half = bytes.len().min(512) / 2;
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some(("UTF-32", "UTF-32")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(("UTF-16", "UTF-16")),
        _ if half >= 2 && zeros(1) * 2 > half && zeros(0) == 0 => Some(("UTF-16", "UTF-16LE")),
        _ if half >= 2 && zeros(0) * 2 > half && zeros(1) == 0 => Some(("UTF-16", "UTF-16BE")),
        _ => None,
    }
}

/// Guesses an encoding with one byte per character, or GBK with two, from sequences of bytes.
fn narrow(bytes: &[u8]) -> (&'static str, &'static str) {
    let (mut pairs, mut usual, mut singles) = (0_usize, 0_usize, 0_usize);
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte < 0x80 {
            continue;
        }

        match tail {
            [second, behind @ ..]
                if *byte > 0x80 && *byte < 0xff && matches!(second, 0x40..=0x7e | 0x80..=0xfe) =>
            {
                pairs += 1;
                // Punctuation and the 3,755 most common characters.
                usual += usize::from(matches!(byte, 0xa1..=0xa3 | 0xb0..=0xd7) && *second >= 0xa1);
                rest = behind;
            }
            _ => singles += 1,
        }
    }

    if singles == 0 && usual * 10 >= pairs * 8 {
        return ("GBK", "GBK");
    }

    let (mut letters, mut runs, mut before) = (0_usize, 0_usize, false);
    for byte in bytes {
        let is_high = *byte >= 0x80;
        letters += usize::from(is_high);
        runs += usize::from(is_high && !before);
        before = is_high;
    }

    match () {
        // Long runs: whole words outside ASCII.
        () if letters >= 3 * runs => ("Windows-1251 (Cyrillic)", "WINDOWS-1251"),
        () if bytes.iter().any(|byte| matches!(byte, 0x80..=0x9f)) => {
            ("Windows-1252 (Latin-1)", "WINDOWS-1252")
        }
        () => ("Latin-1", "LATIN1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(bytes: &[u8]) -> String {
        decode(bytes.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_are_removed() {
        assert_eq!(
            decode(b"\xef\xbb\xbfhostname \"x\"\r\nsv_tags a\r\r\n\r\nlast\r".to_vec()).unwrap(),
            "hostname \"x\"\nsv_tags a\n\nlast"
        );
        assert_eq!(decode("Größe 测试\n".into()).unwrap(), "Größe 测试\n");
        assert_eq!(decode(Vec::new()).unwrap(), "");
    }

    #[test]
    fn other_encodings_are_named_with_the_line_and_the_command() {
        let wide = |to: fn(u16) -> [u8; 2]| {
            "hostname x\n"
                .encode_utf16()
                .flat_map(to)
                .collect::<Vec<u8>>()
        };

        let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
        for (bytes, line, code) in [
            (
                b"a\nb\nhostname \"Gr\xf6\xdfe\"\n".to_vec(),
                "line 3",
                "-f LATIN1 ",
            ),
            (
                b"hostname \"caf\xe9 \x80\"".to_vec(),
                "line 1",
                "-f WINDOWS-1252 ",
            ),
            (
                b"// x\r\nhostname \"\xb2\xe2\xca\xd4\xb7\xfe\xce\xf1\xc6\xf7\"\r\n".to_vec(),
                "line 2",
                "-f GBK ",
            ),
            (
                b"hostname \"\xd1\xe5\xf0\xe2\xe5\xf0 \xcc\xee\xf1\xea\xe2\xe0\"".to_vec(),
                "line 1",
                "-f WINDOWS-1251 ",
            ),
            ([&b"\xff\xfe"[..], &little].concat(), "line 1", "-f UTF-16 "),
            ([&b"\xfe\xff"[..], &big].concat(), "line 1", "-f UTF-16 "),
            (little, "line 1", "-f UTF-16LE "),
            (big, "line 1", "-f UTF-16BE "),
        ] {
            let text = refused(&bytes);
            assert!(
                text.contains(line) && text.contains(code) && !text.contains('\n'),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_text_or_a_one_line_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            match decode(bytes) {
                Ok(text) => prop_assert!(!text.contains("\r\n")),
                Err(why) => prop_assert!(!why.to_string().contains('\n')),
            }
        }
    }
}
