//! Rules for names that people choose freely, in any script, and their normal form.

use unicode_normalization::UnicodeNormalization as _;

use super::visible::visible;

/// The normal form in which a name is stored and looked up: Unicode NFC, without surrounding
/// spaces. The same letters can be encoded in several ways, and names that look the same must be
/// equal.
pub fn normal(text: &str) -> String {
    text.trim().nfc().collect()
}

/// Whether `text` is a valid name: 1 to 64 characters, without control and invisible characters.
/// Joiners are allowed where a script or an emoji needs them. Text that looks like an option or
/// like a path with `..` is refused as a probable mistake.
pub(super) fn is_free_text(text: &str) -> bool {
    let name = normal(text);
    (1..=64).contains(&name.chars().count())
        && !text.contains(|c: char| c.is_control() || c == '\u{fffd}')
        && visible(&name) == name
        && !name.starts_with('-')
        && !name.split('/').any(|part| matches!(part, "." | ".."))
}

/// A name of digits only would be read as an id wherever `ID|NAME` is accepted.
pub(super) fn is_no_id(name: &str) -> bool {
    !name.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use crate::base::names::{BlueprintName, ServerName, ServerRef, UserName};

    #[test]
    fn a_name_may_be_in_any_script() {
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
    fn different_encodings_of_the_same_letters_are_equal() {
        let hangul = ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}");
        for (one, other) in [("Cafe\u{301}", "Caf\u{e9}"), (" Friday ", "Friday"), hangul] {
            assert_eq!(one.parse::<ServerName>(), other.parse::<ServerName>());
            assert_eq!(one.parse::<UserName>(), other.parse::<UserName>());
            assert_eq!(one.parse::<ServerRef>(), other.parse::<ServerRef>());
        }
    }
}
