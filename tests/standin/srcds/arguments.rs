//! The game's arguments, as its engine reads them (public copies of tier0/commandline.cpp).

use std::fs;

use crate::say;

/// The engine's buffer; no copy checks its end.
const LINE: usize = 2048;

/// The words that the engine finds in its joined arguments.
pub fn engine_words(args: &[String]) -> Vec<String> {
    let newer: String = args.iter().map(|arg| format!("\"{arg}\" ")).collect();
    let older: String = args.iter().map(|arg| format!("{arg} ")).collect();
    if newer.len() >= LINE {
        say("*** stack smashing detected ***: terminated");
        std::process::abort();
    }

    let (newer, older) = (
        words(&with_files(&newer, false)),
        words(&with_files(&older, true)),
    );

    if newer != older {
        say(format!(
            "standin: the copies of the engine differ: {newer:?} {older:?}"
        ));
    }

    older
}

/// `@file` replaced by what is in that file: where a word begins with it, in the oldest copies
/// anywhere.
fn with_files(line: &str, anywhere: bool) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let begins = before
            .chars()
            .next_back()
            .is_none_or(|c| c.is_whitespace() || c == '"');
        if !anywhere && !begins {
            out.push('@');
            rest = &after[1..];
            continue;
        }

        let end = after.find([' ', '"']).unwrap_or(after.len());
        match fs::read_to_string(&after[1..end]) {
            Ok(text) => out.push_str(&format!("{} ", text.replace('\n', " "))),
            Err(_) => say(format!(
                "Parameter file '{}' not found, skipping...",
                &after[1..end]
            )),
        }

        rest = after.get(end + 1..).unwrap_or_default();
    }

    out + rest
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match (c, is_quoted, &mut word) {
            ('"', true, _) => {
                words.extend(word.take().filter(|word| !word.is_empty()));
                is_quoted = false;
            }
            ('"', false, None) => {
                is_quoted = true;
                word = Some(String::new());
            }
            (c, false, None) if c.is_whitespace() => {}
            (c, false, Some(_)) if c.is_whitespace() => words.extend(word.take()),
            (c, _, word) => word.get_or_insert_default().push(c),
        }
    }

    words.extend(word);
    words
}
