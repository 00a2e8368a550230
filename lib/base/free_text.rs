//! Names that people choose freely, in whatever script: what is refused, and the one form in which a name is kept.

use unicode_normalization::UnicodeNormalization as _;

use super::visible::visible;

/// A name in the one form in which it is kept and looked for (Unicode's NFC, without spaces around it): the same letters
/// can be written in several ways, and two names that look the same have to be the same.
#[must_use]
pub fn normal(text: &str) -> String {
    text.trim().nfc().collect()
}

/// Whether `text` is a name: 1 to 64 characters, none of them a control character or invisible. Joiners stay where a
/// script or an emoji needs them. What begins as an option does, or leads upwards as a path, is a slip, not a name.
pub(super) fn is_free_text(text: &str) -> bool {
    let name = normal(text);
    (1..=64).contains(&name.chars().count())
        && !text.contains(|c: char| c.is_control() || c == '\u{fffd}')
        && visible(&name) == name
        && !name.starts_with('-')
        && !name.split('/').any(|part| matches!(part, "." | ".."))
}

/// Only digits would be read as an id wherever `ID|NAME` is taken.
pub(super) fn is_no_id(name: &str) -> bool {
    !name.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use crate::base::names::{BlueprintName, ServerName, ServerRef, UserName};

    #[test]
    fn a_name_is_free_text_in_every_script() {
        let long = "漢".repeat(64);
        let names = [
            "Сервер №1",
            "서버",
            "سلام",
            "می\u{200c}خواهم",
            "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}",
            "50/50",
            "a / b",
            "wait..what",
            "O'Neill",
            &long,
        ];
        for name in names {
            assert_eq!(name.parse::<ServerName>().unwrap().as_str(), name);
            assert_eq!(name.parse::<UserName>().unwrap().as_str(), name);
            assert_eq!(name.parse::<BlueprintName>().unwrap().as_str(), name);
        }
        let longer = "漢".repeat(65);
        for bad in [
            "",
            "  ",
            "a\0b",
            "a\n",
            "\u{1b}[31m",
            "a\u{85}",
            "a\u{202e}b",
            "ad\u{200b}min",
            "a\u{fffd}",
            "-rf",
            "..",
            "../x",
            "a/../b",
            &longer,
        ] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad:?}");
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_that_are_only_written_in_another_way_are_the_same() {
        let hangul = ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}");
        for (one, other) in [("Cafe\u{301}", "Caf\u{e9}"), (" Friday ", "Friday"), hangul] {
            assert_eq!(one.parse::<ServerName>(), other.parse::<ServerName>());
            assert_eq!(one.parse::<UserName>(), other.parse::<UserName>());
            assert_eq!(one.parse::<ServerRef>(), other.parse::<ServerRef>());
        }
    }
}
