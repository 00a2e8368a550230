//! Escapes bidirectional, invisible and separator characters in untrusted text as `\u{202e}`, so
//! that a player's name cannot forge a line of a log.
//!
//! Letters of every script are kept: Arabic and Hebrew are displayed from right to left without any
//! of these characters. The joiners that Persian, Indic scripts and composed emoji need are kept
//! between characters that can be joined. Flags such as England's, which are spelled with invisible
//! tags, become a black flag and numbers.

use std::borrow::Cow;

/// Whether `c` is deceptive between these neighbours.
pub fn is_deceptive(before: Option<char>, c: char, after: Option<char>) -> bool {
    match c {
        // ASCII first, because nearly all text is ASCII.
        '\0'..='\u{ac}' => false,
        // ZWNJ and ZWJ.
        '\u{200c}' | '\u{200d}' => !(before.is_some_and(joins) && after.is_some_and(joins)),
        // Variation selectors: draw the previous character as text or as emoji.
        '\u{fe00}'..='\u{fe0f}' => {
            !before.is_some_and(|before| joins(before) || before.is_ascii_graphic())
        }
        _ => is_invisible(c),
    }
}

/// Whether `c` is a bidirectional control, a separator, a zero-width or deprecated format
/// character, a tag or a filler.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Whether `c` is a letter outside ASCII, an emoji, or a sign that combines with them.
fn joins(c: char) -> bool {
    !c.is_ascii()
        && !c.is_whitespace()
        && !c.is_control()
        && (!is_invisible(c) || matches!(c, '\u{fe00}'..='\u{fe0f}'))
}

/// The visible form of a deceptive character.
pub fn number(c: char) -> String {
    format!("\\u{{{:x}}}", u32::from(c))
}

/// Replaces deceptive characters by their numbers. Control characters are left to the caller.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }

    let mut out = String::with_capacity(text.len());
    let (mut before, mut rest) = (None, text.chars().peekable());
    while let Some(c) = rest.next() {
        match is_deceptive(before, c, rest.peek().copied()) {
            true => out.push_str(&number(c)),
            false => out.push(c),
        }

        before = Some(c);
    }

    if out == text { text.into() } else { out.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn deceptive_characters_become_numbers() {
        for (text, shown) in [
            ("admin\u{202e}nimda", "admin\\u{202e}nimda"),
            (
                "a\u{2066}b\u{2069}c\u{200f}\u{61c}",
                "a\\u{2066}b\\u{2069}c\\u{200f}\\u{61c}",
            ),
            ("two\u{2028}lines\u{2029}", "two\\u{2028}lines\\u{2029}"),
            (
                "ad\u{200b}m\u{ad}in\u{feff}\u{2060}",
                "ad\\u{200b}m\\u{ad}in\\u{feff}\\u{2060}",
            ),
            ("a\u{200d}b\u{200c}", "a\\u{200d}b\\u{200c}"),
            ("x\u{e0041}\u{e007f}", "x\\u{e0041}\\u{e007f}"),
            ("\u{206f}\u{fff9}\u{3164}", "\\u{206f}\\u{fff9}\\u{3164}"),
            ("\u{fe0f}x \u{fe0f}", "\\u{fe0f}x \\u{fe0f}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn names_in_every_script_are_unchanged() {
        for text in [
            "plain ASCII \\u{202e}",
            "Größe №1 – ñandú",
            "سلام عليكم",
            "می\u{200c}خواهم",
            "שלום עולם",
            "क्\u{200d}ष",
            "👩\u{200d}👩\u{200d}👧\u{200d}👦 ❤\u{fe0f}\u{200d}🔥 \
             🏳\u{fe0f}\u{200d}🌈 1\u{fe0f}\u{20e3} 👍🏽",
            "界 ゲーム 게임",
        ] {
            assert_eq!(visible(text), text);
        }
    }

    proptest! {
        #[test]
        fn the_result_has_nothing_deceptive_and_is_stable(text in ".{0,40}") {
            let shown = visible(&text).into_owned();
            let turned = shown.contains(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
            prop_assert!(!turned);
            prop_assert_eq!(&*visible(&shown), &*shown);
        }
    }
}
