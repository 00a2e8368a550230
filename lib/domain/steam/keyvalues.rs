//! Reads Valve's KeyValues format: quoted keys, each with a quoted value or a block in braces.

/// How deep the braces may nest; real files have at most seven levels.
const DEPTH_LIMIT: usize = 32;

/// One entry of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A block with this name begins.
    Block(&'a str),
    /// A key and its value.
    Value(&'a str, &'a str),
}

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    TooLong,
    Malformed,
    /// It ends in the middle.
    Truncated,
}

/// Gives each entry to `each`, with the names of the blocks around it, the outermost first. The text
/// may come from anywhere; `limit` bounds its length in bytes.
pub(super) fn read(
    text: &str,
    limit: usize,
    mut each: impl FnMut(&[String], Item<'_>),
) -> Result<(), Defect> {
    if text.len() > limit {
        return Err(Defect::TooLong);
    }

    let (mut key, mut blocks) = (None::<String>, Vec::<String>::new());
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                let (word, after) = quoted(&rest[1..]).ok_or(Defect::Truncated)?;
                rest = after;
                match key.take() {
                    None => key = Some(word),
                    Some(name) => each(&blocks, Item::Value(&name, &word)),
                }
            }
            '{' if blocks.len() < DEPTH_LIMIT => {
                let name = key.take().ok_or(Defect::Malformed)?;
                each(&blocks, Item::Block(&name));
                blocks.push(name);
                rest = &rest[1..];
            }
            '}' if key.is_none() && blocks.pop().is_some() => rest = &rest[1..],
            _ => return Err(Defect::Malformed),
        }

        rest = rest.trim_start();
    }

    if blocks.is_empty() && key.is_none() {
        Ok(())
    } else {
        Err(Defect::Truncated)
    }
}

/// The text up to the closing quote, and the rest after it; none without a closing quote.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, &text[at + 1..])),
            '\\' => word.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.push(c),
        }
    }

    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &str) -> Result<Vec<String>, Defect> {
        let mut lines = Vec::new();
        read(text, 1000, |blocks, item| {
            lines.push(format!("{}: {item:?}", blocks.join("/")));
        })?;
        Ok(lines)
    }

    #[test]
    fn entries_come_with_the_blocks_around_them() {
        assert_eq!(
            lines("\"a\" { \"b\"\t\"1\" \"c\" { \"d\\\"\" \"\" } }").unwrap(),
            [
                ": Block(\"a\")",
                "a: Value(\"b\", \"1\")",
                "a: Block(\"c\")",
                "a/c: Value(\"d\\\"\", \"\")"
            ]
        );
    }

    #[test]
    fn what_is_broken_or_too_large_is_refused() {
        for (text, defect) in [
            ("x", Defect::Malformed),
            ("}", Defect::Malformed),
            ("{ }", Defect::Malformed),
            ("\"a\" }", Defect::Malformed),
            ("\"a\"", Defect::Truncated),
            ("\"a\" { \"b", Defect::Truncated),
            (&"\"a\"{".repeat(100), Defect::Malformed),
            (&" ".repeat(1001), Defect::TooLong),
        ] {
            assert_eq!(lines(text), Err(defect), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_panic(text in "[\"{}\\\\a \n]{0,60}", other in "\\PC{0,100}") {
            let _ = (lines(&text), lines(&other));
        }
    }
}
