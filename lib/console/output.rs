//! The reply of a game, made fit to be passed on.

use crate::base::output::printable;
use crate::base::rcon_password::RconPassword;
use crate::wire::console::{ConsoleResult, OUTPUT_LIMIT};

/// In place of the password, which `cvarlist` or a plugin may print.
const HIDDEN: &str = "***";

/// The reply as text: lines, each ended by a line break, with everything deceptive made visible.
/// `cut` says that the game sent more.
pub fn of(bytes: &[u8], cut: bool, password: &RconPassword) -> ConsoleResult {
    let password = password.expose();
    let mut all = String::from_utf8_lossy(bytes).replace(password, HIDDEN);
    if cut {
        // The cut may go through the password, of which nothing may be left.
        let begins = (1..password.len()).rev().map(|length| &password[..length]);
        let left = begins
            .filter_map(|begin| all.strip_suffix(begin))
            .next()
            .map(str::len);
        all.truncate(left.unwrap_or(all.len()));
    }

    let mut text = String::with_capacity(all.len());
    let mut cut = cut;
    for line in all.strip_suffix('\n').unwrap_or(&all).split('\n') {
        let line = printable(line.strip_suffix('\r').unwrap_or(line));
        if text.len() + line.len() + 1 > OUTPUT_LIMIT {
            cut = true;
            break;
        }
        text.push_str(&line);
        text.push('\n');
    }

    if all.is_empty() {
        text.clear();
    }
    ConsoleResult::Output { text, cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn password() -> (RconPassword, String) {
        let password = RconPassword::generate().unwrap();
        let text = password.expose().to_owned();
        (password, text)
    }

    fn text(bytes: &[u8], cut: bool) -> (String, bool) {
        match of(bytes, cut, &password().0) {
            ConsoleResult::Output { text, cut } => (text, cut),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_kept_and_nothing_deceptive_is() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"one", "one\n"),
            (b"one\r\n\ntwo\n", "one\n\ntwo\n"),
            (b"\xff\x1b[31m\tx\0", "\u{fffd}\u{fffd}[31m\tx\u{fffd}\n"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b\n"),
        ] {
            assert_eq!(text(bytes, false), (expected.to_owned(), false));
        }
    }

    #[test]
    fn the_password_is_hidden_even_where_the_reply_is_cut() {
        let (secret, shown) = password();
        let all = format!("\"rcon_password\" = \"{shown}\"\n{shown}");
        for end in 0..=all.len() {
            let cut = end < all.len();
            let ConsoleResult::Output { text, .. } = of(&all.as_bytes()[..end], cut, &secret)
            else {
                panic!();
            };
            assert!(!text.contains(&shown[..8]), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_reply_becomes_bounded_text(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            times in 1..80_usize,
        ) {
            let (text, _) = text(&bytes.repeat(times), false);
            prop_assert!(text.len() <= OUTPUT_LIMIT);
            prop_assert!(text.is_empty() || text.ends_with('\n'));
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        }
    }
}
