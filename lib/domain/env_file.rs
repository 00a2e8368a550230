//! Reads and writes an instance's environment file: port and arguments, quoted as systemd parses
//! them.
//!
//! Two parsers read an argument. The first is that of EnvironmentFile= (systemd.exec(5),
//! `parse_env_file_internal` in systemd's src/basic/env-file.c): between double quotes, a backslash
//! escapes `"`, `\`, `` ` `` and `$`, and stays a backslash before any other character. The second
//! splits `$L4D2_ARGS` in ExecStart= (systemd.service(5), `replace_env_argv` and
//! `extract_first_word`): it splits the value at blanks, quotes group and are removed, and a
//! backslash is removed while the character after it is kept, whatever it is. The resulting words
//! are not expanded again: `$` and `%` have no meaning in them.

use crate::base::{Error, Result};

/// The variable of an instance.env with the paths of the lower layers, the topmost first.
pub const LAYERS: &str = "LEFT4ME_LOWERDIRS";

/// The kernel limits a string in an environment, with its name and `=`, to 128 KiB (MAX_ARG_STRLEN,
/// execve(2)).
const MAX_VALUE: usize = 128 * 1024 - 64;

/// `NAME="value"` for EnvironmentFile=.
///
/// Fails with 1 when the value is longer than the kernel's limit.
pub fn assignment(name: &str, value: &str) -> Result<String> {
    if value.len() > MAX_VALUE {
        return Err(Error::failed(format!(
            "{name} would have {} bytes; at most {MAX_VALUE} are possible",
            value.len()
        )));
    }

    Ok(format!(
        "{name}=\"{}\"\n",
        escaped(value, &['"', '\\', '`', '$'])
    ))
}

/// Joins words to one value. An unquoted `$NAME` in ExecStart= splits it into the same words again.
pub fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words
        .map(|word| format!("\"{}\"", escaped(word, &['"', '\\'])))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The value of `name` in an environment file, as systemd reads it. The last assignment counts.
/// None without an assignment, and for text that systemd would read over several lines or reject.
pub fn value(text: &str, name: &str) -> Option<String> {
    let assigned = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix('=')
            .map(str::to_owned)
    };
    unquoted(&text.lines().filter_map(assigned).next_back()?)
}

/// The text with `value` for `name`, as its last line, instead of what it assigns now.
///
/// Fails with 1 when the value is longer than the kernel's limit.
pub fn with_value(text: &str, name: &str, value: &str) -> Result<String> {
    let assigns = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('='))
    };
    let others = text.lines().filter(|line| !assigns(line));
    let others: String = others.flat_map(|line| [line, "\n"]).collect();
    Ok(format!("{others}{}", assignment(name, value)?))
}

/// Splits a value into words as an unquoted `$NAME` in ExecStart= does.
pub fn split(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(rest.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t' | '\n' | '\r', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }

    words.extend(word);
    words
}

/// Removes the quotes of one value of an environment file, following systemd's state machine.
fn unquoted(text: &str) -> Option<String> {
    #[derive(PartialEq)]
    enum State {
        Before,
        Bare,
        BareEscape,
        Single,
        Double,
        DoubleEscape,
    }

    let (mut state, mut value) = (State::Before, String::new());
    for c in text.trim_end().chars() {
        state = match (state, c) {
            (State::Before, '\'') => State::Single,
            (State::Before, '"') => State::Double,
            (State::Before | State::Bare, '\\') => State::BareEscape,
            (State::Before, c) if c.is_ascii_whitespace() => State::Before,
            (State::Single, '\'') | (State::Double, '"') => State::Before,
            (State::Double, '\\') => State::DoubleEscape,
            (State::DoubleEscape, c) => {
                if !"\"\\`$".contains(c) {
                    value.push('\\');
                }
                value.push(c);
                State::Double
            }
            (State::Before | State::BareEscape, c) => {
                value.push(c);
                State::Bare
            }
            (same, c) => {
                value.push(c);
                same
            }
        };
    }

    matches!(state, State::Before | State::Bare).then_some(value)
}

fn escaped(text: &str, special: &[char]) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }

    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrives(arguments: &[&str]) {
        let line = assignment("L4D2_ARGS", &words(arguments.iter().copied())).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(
            split(&value(&line, "L4D2_ARGS").expect("one whole value")),
            arguments,
            "{line}"
        );
    }

    #[test]
    fn the_model_splits_as_systemd_documents_it() {
        assert_eq!(
            split(r#"a "b c" 'd e' f\ g h"i"j"#),
            ["a", "b c", "d e", "f g", "hij"]
        );

        for (text, read) in [
            ("X=\"a\\\"b\\nc\\\\d\"\n", Some("a\"b\\nc\\d")),
            ("X=/a:/b\n", Some("/a:/b")),
            ("X=\"/a\"\nX=\"/b\"", Some("/b")),
            ("X='$a' \n", Some("$a")),
            ("#X=/a\nXY=1\n", None),
            ("X=\"a\n\"\n", None),
            ("X=a\\\n", None),
            ("", None),
        ] {
            assert_eq!(value(text, "X").as_deref(), read, "{text}");
        }
    }

    #[test]
    fn arguments_arrive_exactly_whatever_is_in_them() {
        arrives(&[]);
        arrives(&[
            "+map",
            "c1m1_hotel",
            "+sv_tags",
            "a, b",
            "+hostname",
            "Bob's \"best\" $HOME ${X} $$ %n %% \\ \\\\ `id` #;",
        ]);

        arrives(&["'", "\"", "\\", " ", "a\\nb", "ends with \\", "=", "ünï🎮"]);
    }

    #[test]
    fn a_value_that_the_kernel_would_not_take_is_refused() {
        assert!(assignment("L4D2_ARGS", &"x".repeat(200_000)).is_err());
    }

    proptest! {
        #[test]
        fn every_argument_survives_both_parsers(
            arguments in proptest::collection::vec("[ \"'\\\\$%`a-c=#;,:{}\u{e4}]{1,12}|[^\\p{Cc}]{1,20}", 0..8),
        ) {
            arrives(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
