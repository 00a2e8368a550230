//! What systemd reads of an instance: instance.env, and the arguments inside it.
//!
//! Two parsers see an argument. First EnvironmentFile= (systemd.exec(5), `parse_env_file_internal` in systemd's
//! src/basic/env-file.c): between double quotes a backslash takes its meaning from `"`, `\`, `` ` `` and `$`, and stays a
//! backslash before anything else. Then the word `$L4D2_ARGS` in ExecStart= (systemd.service(5), `replace_env_argv` and
//! `extract_first_word`): the value is split at blanks, quotes group and are removed, a backslash is removed and the
//! character after it kept, whatever it is. The words that come out are not looked at again: `$` and `%` mean nothing there.

use crate::base::{Error, Result};

/// The kernel takes no longer string in an environment (MAX_ARG_STRLEN, execve(2)) than 128 KiB, its name and `=`
/// included.
const MAX_VALUE: usize = 128 * 1024 - 64;

/// `NAME="value"` for EnvironmentFile=.
///
/// # Errors
/// 1 when the value is longer than the kernel takes.
pub fn assignment(name: &str, value: &str) -> Result<String> {
    if value.len() > MAX_VALUE {
        return Err(Error::failed(format!("{name} would have {} bytes, and {MAX_VALUE} are possible", value.len())));
    }
    Ok(format!("{name}=\"{}\"\n", escaped(value, &['"', '\\', '`', '$'])))
}

/// Words as one value that an unquoted `$NAME` in ExecStart= splits into the same words again.
#[must_use]
pub fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("\"{}\"", escaped(word, &['"', '\\']))).collect::<Vec<_>>().join(" ")
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

    /// systemd's reading of the one line `NAME=value`, after its state machine.
    fn environment_file(line: &str) -> Option<String> {
        #[derive(PartialEq)]
        enum State {
            Before,
            Bare,
            BareEscape,
            Single,
            Double,
            DoubleEscape,
        }
        let (_, text) = line.strip_suffix('\n')?.split_once('=')?;
        let (mut state, mut value) = (State::Before, String::new());
        for c in text.chars() {
            state = match (state, c) {
                (State::Before | State::Bare, '\n') => return None,
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
                (State::BareEscape, c) => {
                    value.push(c);
                    State::Bare
                }
                (State::Before, c) => {
                    value.push(c);
                    State::Bare
                }
                (same, c) => {
                    value.push(c);
                    same
                }
            };
        }
        (state == State::Before).then_some(value)
    }

    /// systemd's splitting of an unquoted `$NAME`: EXTRACT_RELAX and EXTRACT_UNQUOTE.
    fn split(value: &str) -> Vec<String> {
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

    fn arrives(arguments: &[&str]) {
        let line = assignment("L4D2_ARGS", &words(arguments.iter().copied())).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(split(&environment_file(&line).expect("one whole value")), arguments, "{line}");
    }

    #[test]
    fn the_model_splits_as_systemd_documents_it() {
        assert_eq!(split(r#"a "b c" 'd e' f\ g h"i"j"#), ["a", "b c", "d e", "f g", "hij"]);
        assert_eq!(environment_file("X=\"a\\\"b\\nc\\\\d\"\n").unwrap(), "a\"b\\nc\\d");
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
