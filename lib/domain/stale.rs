//! Stale files: files that a server's game wrote or changed, and that hide a newer file of the game
//! since an update.
//!
//! The programs that find and drop them run as the server's user and read names that a game chose.
//! They print [`Line`]s as JSON, which are not trusted: each is parsed, bounded and escaped again.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::base::visible::visible;

/// How many files are named; the others are counted.
pub const MOST_NAMED: usize = 100;

/// How many dropped files a job's log names; the others are counted.
pub const MOST_DROPPED: usize = 1000;

/// The longest path that is shown whole, in characters.
const PATH_LIMIT: usize = 400;

/// The end of a path that was cut.
const CUT: &str = " […]";

/// A stale file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StaleFile {
    /// Its path in the game's directory, to be read by people: see [`shown`].
    pub path: String,
    /// In bytes.
    pub size: u64,
}

/// The stale files of one server, as a search or their removal found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The first ones, by path.
    pub files: Vec<StaleFile>,
    /// How many there are.
    pub count: u64,
    /// What all of them take, in bytes.
    pub size: u64,
    /// Whether the search saw everything. Otherwise there may be more.
    pub is_whole: bool,
}

/// No stale file.
impl Default for Stale {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            count: 0,
            size: 0,
            is_whole: true,
        }
    }
}

/// A line of the programs that find and drop stale files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    File(StaleFile),
    /// The last line.
    #[serde(rename = "end")]
    End {
        count: u64,
        size: u64,
        is_whole: bool,
    },
}

impl Line {
    /// A line of output; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |number: u64| i64::try_from(number).is_ok();
        let line = match serde_json::from_str(text).ok()? {
            Line::File(file) => Line::File(StaleFile {
                path: shown(file.path.as_bytes(), Escape::Only),
                ..file
            }),
            end @ Line::End { .. } => end,
        };
        let is_sane = match &line {
            Line::File(file) => fits(file.size),
            Line::End { count, size, .. } => fits(*count) && fits(*size),
        };
        is_sane.then_some(line)
    }
}

impl Stale {
    /// What the lines say, with at most `most` files. None without the last line: the program did
    /// not come to its end.
    pub fn of_lines<'a>(lines: impl IntoIterator<Item = &'a str>, most: usize) -> Option<Self> {
        let mut files = Vec::new();
        for line in lines {
            match Line::parse(line)? {
                Line::File(file) if files.len() < most => files.push(file),
                Line::File(_) => {}
                Line::End {
                    count,
                    size,
                    is_whole,
                } => {
                    return Some(Self {
                        count: count.max(files.len() as u64),
                        files,
                        size,
                        is_whole,
                    });
                }
            }
        }
        None
    }

    /// How many are not named.
    pub fn more(&self) -> u64 {
        self.count.saturating_sub(self.files.len() as u64)
    }

    /// As [`amount`].
    pub fn amount(&self) -> String {
        amount(self.count, self.is_whole)
    }

    /// What a search that found no file says.
    pub fn none(&self) -> &'static str {
        match self.is_whole {
            true => "no file hides a newer one of the game",
            false => {
                "it is not known whether its files hide newer game files; a server that has not \
                 started since an upgrade of left4me is searched from its next start on"
            }
        }
    }
}

/// `3 files`, `1 file`, `at least 12 files`.
pub fn amount(count: u64, is_whole: bool) -> String {
    let at_least = if is_whole { "" } else { "at least " };
    let files = if count == 1 { "file" } else { "files" };
    format!("{at_least}{count} {files}")
}

/// What [`shown`] escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// A name as the file system has it: also its backslashes, so that no two names look the same.
    Raw,
    /// A text that has been escaped before.
    Only,
}

/// A path as people can read it, on one line: control characters and bytes that are no text become
/// `\x1b`, deceptive characters `\u{202e}`. A long one is cut.
pub fn shown(path: &[u8], escape: Escape) -> String {
    let mut out = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' if escape == Escape::Raw => out.push_str("\\\\"),
                c if c.is_control() => write_bytes(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        write_bytes(&mut out, chunk.invalid());
    }

    let out = visible(&out);
    let room = PATH_LIMIT - CUT.chars().count();
    match out.char_indices().nth(PATH_LIMIT) {
        None => out.into_owned(),
        Some(_) => out.chars().take(room).chain(CUT.chars()).collect(),
    }
}

fn write_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_one_readable_line_and_no_two_look_the_same() {
        for (path, expected) in [
            (&b"left4dead2/cfg/a.cfg"[..], "left4dead2/cfg/a.cfg"),
            (b"a\nb", "a\\x0ab"),
            (b"a\\x0ab", "a\\\\x0ab"),
            (b"\xe9\x01", "\\xe9\\x01"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
            ("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m"),
        ] {
            assert_eq!(shown(path, Escape::Raw), expected);
            assert_eq!(shown(expected.as_bytes(), Escape::Only), expected);
        }

        let long = shown("ü".repeat(9000).as_bytes(), Escape::Raw);
        assert!(long.ends_with(CUT) && long.chars().count() == PATH_LIMIT);
    }

    #[test]
    fn lines_are_counted_bounded_and_need_an_end() {
        let file = r#"{"file":{"path":"a","size":3}}"#;
        let end = r#"{"end":{"count":7,"size":30,"is_whole":false}}"#;
        let found = Stale::of_lines([file, file, file, end], 2).unwrap();
        assert_eq!((found.files.len(), found.more(), found.size), (2, 5, 30));
        assert_eq!(found.amount(), "at least 7 files");

        assert_eq!(Stale::of_lines([file], 2), None);
        assert_eq!(Stale::of_lines([end, "nonsense"], 2).unwrap().count, 7);
        for bad in [
            "",
            "nonsense",
            r#"{"file":{"path":"a","size":-1}}"#,
            r#"{"file":{"path":"a","size":18446744073709551615}}"#,
            r#"{"file":{"path":"a","size":1,"more":1}}"#,
        ] {
            assert_eq!(Stale::of_lines([bad, end], 2), None, "{bad}");
        }

        // A line whose writer did not escape it.
        let raw = "{\"file\":{\"path\":\"a\\u001b[2J\",\"size\":1}}";
        let found = Stale::of_lines([raw, end], 2).unwrap();
        assert_eq!(found.files[0].path, "a\\x1b[2J");
    }

    proptest! {
        #[test]
        fn whatever_a_name_is_it_is_one_printable_line(path in proptest::collection::vec(any::<u8>(), 0..300)) {
            let path = shown(&path, Escape::Raw);
            prop_assert!(!path.contains(char::is_control));
            let line = serde_json::to_string(&Line::File(StaleFile { path: path.clone(), size: 1 })).unwrap();
            prop_assert_eq!(Line::parse(&line), Some(Line::File(StaleFile { path, size: 1 })));
        }
    }
}
