//! The house rules of the source: which floor may import which, and where SQL, unsafe code and new processes may stand.
//!
//! It reads the files as text, with comments and strings told apart from code; that is enough for rules this plain. Every
//! complaint names file, line and rule. Who adds a room to `lib/` gives it a floor in [`FLOORS`].
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms it may import, besides itself. What is not listed here is no room.
const FLOORS: &[(&str, &[&str])] = &[
    // 1 ground
    ("base", &[]),
    // 2 domain
    ("domain", &["base"]),
    // 3 hands and store
    ("wire", &["base"]),
    ("process", &["base", "wire"]),
    ("db", &["base", "domain", "wire"]),
    ("host", &["base", "domain", "wire", "process", "db"]),
    // 4 engine
    ("queue", &["base", "domain", "wire", "process", "db", "host"]),
    ("cancel", &["base", "domain", "wire", "process", "db", "host", "queue"]),
    ("doctor", &["base", "domain", "wire", "process", "db", "host", "queue"]),
    // 5 programs: they never import one another. Runner and helper are small on purpose.
    ("runner", &["base", "domain", "wire", "process"]),
    ("helper", &["base", "domain", "wire", "process"]),
    ("worker", &["base", "domain", "wire", "process", "db", "host", "queue", "cancel"]),
    ("poller", &["base", "domain", "wire", "process", "db", "host", "queue"]),
    ("cli", &["base", "domain", "wire", "process", "db", "host", "queue", "cancel"]),
    ("web", &["base", "domain", "wire", "process", "db", "host", "queue", "cancel", "doctor"]),
    ("admin", &["base", "domain", "wire", "process", "db", "host", "queue", "doctor"]),
    ("ctl", &["base", "domain", "wire", "process", "db", "host", "queue"]),
];

/// The files that may hold `unsafe`, each under an `expect(unsafe_code, reason = "…")`.
const UNSAFE: &[&str] = &["lib/base/notify.rs", "lib/process/cgroup.rs", "lib/process/spawn.rs"];

const LONGEST_FILE: usize = 500;
const LONGEST_BINARY: usize = 6;

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for file in library() {
        let Some((room, allowed)) = file.floor() else {
            if file.path != "lib/lib.rs" {
                wrong.push(format!("{}: this room has no floor; give it one in tests/tidy.rs", file.path));
            }
            continue;
        };
        for (line, used) in file.uses() {
            if used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}:{line}: {room}/ imports {used}/; it may import: {}", file.path, list(allowed)));
            }
        }
    }
    for file in binaries() {
        let rooms: BTreeSet<String> = file.uses().into_iter().map(|(_, room)| room).collect();
        if rooms.len() != 1 {
            wrong.push(format!("{}: a binary calls into one room of the library, not {}", file.path, rooms.len()));
        }
    }
    none(&wrong);
}

#[test]
fn unsafe_code_stands_only_in_the_files_that_are_listed_here() {
    let mut wrong = Vec::new();
    let mut holders = BTreeSet::new();
    for file in library().into_iter().chain(binaries()) {
        let Some(line) = file.lines_with_word("unsafe").first().copied() else { continue };
        holders.insert(file.path.clone());
        if !UNSAFE.contains(&file.path.as_str()) {
            wrong.push(format!("{}:{line}: unsafe code; only {} may have some", file.path, list(UNSAFE)));
        }
        if !file.code.contains("expect(unsafe_code") {
            wrong.push(format!("{}:{line}: unsafe code without an expect(unsafe_code, reason = \"…\")", file.path));
        }
    }
    for listed in UNSAFE.iter().filter(|path| !holders.contains(**path)) {
        wrong.push(format!("{listed}: is listed in tests/tidy.rs, but has no unsafe code"));
    }
    none(&wrong);
}

#[test]
fn sql_stands_only_in_db() {
    let begins = [
        "SELECT ",
        "INSERT ",
        "UPDATE ",
        "DELETE FROM",
        "WITH ",
        "CREATE ",
        "ALTER ",
        "DROP ",
        "PRAGMA ",
        "BEGIN IMMEDIATE",
    ];
    let mut wrong = Vec::new();
    for file in library().iter().filter(|file| !file.path.starts_with("lib/db/")) {
        for (line, text) in file.strings_outside_tests() {
            if begins.iter().any(|word| text.trim_start().starts_with(word)) {
                wrong.push(format!("{}:{line}: SQL outside lib/db: {:.60}", file.path, text.trim_start()));
            }
        }
    }
    none(&wrong);
}

#[test]
fn processes_are_spawned_only_in_process() {
    let mut wrong = Vec::new();
    for file in library().iter().filter(|file| !file.path.starts_with("lib/process/")) {
        for what in ["Command::new", "fork(", "execve(", "posix_spawn"] {
            for line in file.code_lines_with(what) {
                wrong.push(format!("{}:{line}: {what} outside lib/process", file.path));
            }
        }
    }
    none(&wrong);
}

#[test]
fn nothing_outside_tests_panics_on_a_result() {
    let mut wrong = Vec::new();
    for file in library().into_iter().chain(binaries()) {
        for what in [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err("] {
            for line in file.code_lines_with(what) {
                wrong.push(format!("{}:{line}: {what} outside #[cfg(test)]; give back an error", file.path));
            }
        }
    }
    none(&wrong);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for file in library() {
        let lines = file.text.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{}: {lines} lines; {LONGEST_FILE} are the most", file.path));
        }
        if !file.text.starts_with("//! ") {
            wrong.push(format!("{}:1: a file opens with //! and says what it is for", file.path));
        }
    }
    for file in binaries() {
        let lines = file.text.lines().count();
        if lines > LONGEST_BINARY {
            wrong.push(format!("{}: {lines} lines; a binary is one call, {LONGEST_BINARY} are the most", file.path));
        }
    }
    none(&wrong);
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

// ---- files ------------------------------------------------------------------------------------

/// One source file: as it is, and with comments and strings blanked out at their places.
struct File {
    /// From the repository's root.
    path: String,
    text: String,
    code: String,
    /// Where each string begins, in bytes, and what it says.
    strings: Vec<(usize, String)>,
}

fn library() -> Vec<File> {
    read_all("lib")
}

fn binaries() -> Vec<File> {
    read_all("bin")
}

fn read_all(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join(folder), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no source in {folder}/");
    paths.iter().map(|path| File::read(root, path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry of the source").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|end| end == "rs") {
            paths.push(path);
        }
    }
}

impl File {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a source file");
        let path = path.strip_prefix(root).expect("a path below the root").to_string_lossy().into_owned();
        let (code, strings) = blank(&text);
        Self { path, text, code, strings }
    }

    /// The room this file is in, and what that may import; none for lib.rs and for rooms nobody listed.
    fn floor(&self) -> Option<(&'static str, &'static [&'static str])> {
        let room = self.path.strip_prefix("lib/")?.split(['/', '.']).next()?;
        FLOORS.iter().copied().find(|(name, _)| *name == room)
    }

    fn line_at(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    /// The code without its tests.
    fn product(&self) -> String {
        without_tests(&self.code)
    }

    fn lines_with_word(&self, word: &str) -> Vec<usize> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let whole =
            |at: usize| !self.code[..at].ends_with(is_name) && !self.code[at + word.len()..].starts_with(is_name);
        self.code.match_indices(word).filter(|(at, _)| whole(*at)).map(|(at, _)| self.line_at(at)).collect()
    }

    fn code_lines_with(&self, what: &str) -> Vec<usize> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let product = self.product();
        let whole = |at: usize| what.starts_with('.') || !product[..at].ends_with(is_name);
        product.match_indices(what).filter(|(at, _)| whole(*at)).map(|(at, _)| self.line_at(at)).collect()
    }

    fn strings_outside_tests(&self) -> Vec<(usize, &str)> {
        let product = self.product();
        // A string's quote stays in the code; in a test it is blanked with all the rest.
        let kept = self.strings.iter().filter(|(at, _)| product[*at..].starts_with('"'));
        kept.map(|(at, text)| (self.line_at(*at), text.as_str())).collect()
    }

    /// Each room of the library that is named, with its line: after `crate::`, after `left4me::`, or after as many
    /// `super::` as lead out of the file's own room.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for root in ["crate::", "left4me::"] {
            for (at, _) in self.code.match_indices(root) {
                if !self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    let rooms = first_names(&self.code[at + root.len()..]);
                    found.extend(rooms.into_iter().map(|room| (self.line_at(at), room)));
                }
            }
        }
        let product = self.product();
        let mut rest = 0;
        while let Some(at) = product[rest..].find("super::").map(|at| at + rest) {
            let path = &product[at..];
            let after = path.trim_start_matches("super::");
            if (path.len() - after.len()) / "super::".len() >= self.depth() {
                found.extend(first_names(after).into_iter().map(|room| (self.line_at(at), room)));
            }
            rest = product.len() - after.len();
        }
        // What lib.rs itself offers (a macro, a re-export) is no room.
        found.retain(|(_, name)| name.starts_with(|c: char| c.is_lowercase()));
        found
    }

    /// How many modules deep the file is: 1 for lib/db/mod.rs, 2 for lib/db/jobs.rs.
    fn depth(&self) -> usize {
        let parts = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

/// The first name of a path, or those of a group: `a::b` is a; `{a::b, c}` is a and c.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut names = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[begin..at]));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    // A whole file of them.
    if code.contains("#![cfg(test)]") {
        return code.chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
    }
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(at) = out[from..].find("#[cfg(test)]").map(|at| at + from) {
        let end = at + item_length(&out[at..]);
        let blanked: String = out[at..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        // Code is ASCII here: blank() has replaced all else.
        out.replace_range(at..end, &blanked);
        from = end;
    }
    out
}

/// To the end of the item's braces, or to its `;` when it has none.
fn item_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The text with comments, strings and characters replaced by blanks of the same length in bytes (a string keeps its
/// first quote), so that places stay; and the strings.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut out = vec![b' '; bytes.len()];
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            comment_length(rest)
        } else if let Some((open, close)) = string_bounds(bytes, at) {
            out[at + open - 1] = b'"';
            let end = string_length(&rest[open..], &close);
            let inside = &rest[open..open + end];
            strings.push((at + open - 1, String::from_utf8_lossy(inside).into_owned()));
            (open + end + 1 + close.hashes).min(rest.len())
        } else if rest[0] == b'\'' {
            character_length(rest)
        } else {
            out[at] = if rest[0].is_ascii() { rest[0] } else { b'?' };
            1
        };
        for (i, byte) in rest[..length].iter().enumerate() {
            if *byte == b'\n' {
                out[at + i] = b'\n';
            }
        }
        at += length;
    }
    (String::from_utf8(out).expect("ASCII"), strings)
}

/// A block comment, with the ones inside it.
fn comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// How a string ends.
struct Close {
    raw: bool,
    hashes: usize,
}

/// When a string begins here: the length of what comes before its first byte (`r#"`), and how it ends.
fn string_bounds(bytes: &[u8], at: usize) -> Option<(usize, Close)> {
    let in_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let rest = &bytes[at..];
    if rest[0] == b'"' {
        return Some((1, Close { raw: false, hashes: 0 }));
    }
    if in_name {
        return None;
    }
    let prefix = [&b"br"[..], b"cr", b"r", b"b", b"c"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let raw = prefix.ends_with(b"r");
    let hashes = if raw { rest[prefix.len()..].iter().take_while(|byte| **byte == b'#').count() } else { 0 };
    let open = prefix.len() + hashes;
    // `r#type` is a name, not a string.
    (rest.get(open) == Some(&b'"')).then_some((open + 1, Close { raw, hashes }))
}

/// The bytes before the closing quote.
fn string_length(rest: &[u8], close: &Close) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' if !close.raw => at += 1,
            b'"' if rest[at + 1..].iter().take(close.hashes).filter(|byte| **byte == b'#').count() == close.hashes => {
                return at;
            }
            _ => {}
        }
        at += 1;
    }
    rest.len()
}

/// A character literal; a lifetime is one byte, its quote.
fn character_length(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return end.map_or(1, |end| end + 4);
    }
    // One character of up to four bytes between quotes.
    (2..=5)
        .find(|at| {
            rest.get(*at) == Some(&b'\'') && std::str::from_utf8(&rest[1..*at]).is_ok_and(|c| c.chars().count() == 1)
        })
        .map_or(1, |at| at + 1)
}

#[test]
fn strings_comments_and_tests_are_told_apart_from_code() {
    let (code, strings) =
        blank("let a = \"x // y\"; // .unwrap()\nlet b = r#\"q\"q\"#; 'c'; '\\''; &'a u8; /* a /* b */ c */ end");
    assert_eq!(strings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["x // y", "q\"q"]);
    assert!(!code.contains("unwrap") && !code.contains(" c ") && code.ends_with("end"), "{code}");
    let code = "fn a() { x }\n#[cfg(test)]\nmod tests { fn b() { y } }\nfn c() { z }";
    assert_eq!(without_tests(code).split_whitespace().collect::<String>(), "fna(){x}fnc(){z}");
    assert_eq!(first_names("{a::{b, c}, d}; use e"), ["a", "d"]);
}
