//! Steam's app info: which build of the game is published. steamcmd prints it in KeyValues format
//! among its other lines.
//!
//! The first answer of a session can be empty, or what steamcmd remembers from its last session. So
//! a session asks twice, and an answer counts only if another one came before it.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use super::cause::Cause;
use super::keyvalues::{self, Item};
use super::verdict::Heard;
use super::{APP, LINUX_DEPOT, SHARED_DEPOT, login};
use crate::domain::build::Size;

/// How many bytes of one answer are kept; a real one has some ten kilobytes.
const LIMIT: usize = 1024 * 1024;

/// The numbers that builds can have.
const BUILDS: RangeInclusive<u64> = 1..=i64::MAX.cast_unsigned();

/// The times that are believed, unix seconds: up to the year 9999.
const TIMES: RangeInclusive<i64> = 1..=253_402_300_799;

/// The sizes that are believed, bytes.
const SIZES: RangeInclusive<u64> = 1..=1 << 50;

/// The branch that every player has.
const BRANCH: &str = "public";

/// The build that Steam publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub build: u64,
    /// When, unix seconds, if Steam says so.
    pub at: Option<i64>,
    /// What its depots for Linux take, if Steam says so.
    pub size: Option<Size>,
}

/// steamcmd's arguments to print the app info twice, as `account` or anonymously.
pub fn question(account: Option<&str>) -> Vec<OsString> {
    let app = APP.to_string();
    let mut arguments = login(account);
    for _ in 0..2 {
        arguments.extend(["+app_info_update", "1", "+app_info_print", &app].map(OsString::from));
    }

    arguments.push("+quit".into());
    arguments
}

/// What steamcmd has printed of the app info so far, in one session or in several.
#[derive(Clone, Debug, Default)]
pub struct AppInfo {
    /// The answer that is being printed.
    block: Option<Block>,
    answers: u32,
    /// How many of them the present session had.
    own: u32,
    /// What the last answer says.
    last: Option<Result<Published, Cause>>,
}

#[derive(Clone, Debug, Default)]
struct Block {
    text: String,
    /// How many braces are open.
    depth: usize,
    /// It has more than [`LIMIT`] bytes, of which none are kept.
    is_overlong: bool,
}

/// What a line of KeyValues is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A key alone: its block follows.
    Key,
    /// A key and its value.
    Pair,
    Open,
    Close,
}

impl AppInfo {
    /// Takes one line. True if it is part of an answer; other lines may stand between those.
    pub fn line(&mut self, line: &str) -> bool {
        let line = without_colours(line);
        // The name of the app begins at the margin only where an answer begins.
        if line.trim_end() == format!("\"{APP}\"") {
            if self.block.take().is_some() {
                self.answer(Err(Cause::NoAppInfo));
            }
            self.block = Some(Block {
                text: line,
                ..Block::default()
            });
            return true;
        }

        let line = line.trim();
        let Some(mut block) = self.block.take() else {
            if line.contains(&format!("No app info for AppID {APP}")) {
                self.answer(Err(Cause::NoAppInfo));
            }
            return false;
        };

        let shape = shape(line);
        match shape {
            None => {}
            Some(Shape::Open) => block.depth += 1,
            Some(Shape::Close) => block.depth = block.depth.saturating_sub(1),
            Some(Shape::Key | Shape::Pair) => {}
        }
        if shape.is_some() {
            block.push(line);
        }

        if shape == Some(Shape::Close) && block.depth == 0 {
            self.answer(block.read());
        } else {
            self.block = Some(block);
        }
        shape.is_some()
    }

    /// Ends a session: an answer that broke off says nothing.
    pub fn end(&mut self) {
        if self.block.take().is_some() {
            self.answer(Err(Cause::NoAppInfo));
        }
    }

    fn answer(&mut self, answer: Result<Published, Cause>) {
        self.answers = self.answers.saturating_add(1);
        self.own = self.own.saturating_add(1);
        self.last = Some(answer);
    }

    /// Begins a session. After one that `failed`, what was remembered is forgotten: steamcmd printed
    /// it without asking.
    pub fn begin(&mut self, failed: bool) {
        match failed {
            true => *self = Self::default(),
            false => self.own = 0,
        }
    }

    /// What the answers say, after a session that printed `heard` beside them and ended with `code`.
    /// On failure the cause, and steamcmd's own message and exit code.
    pub fn published(&self, code: i32, heard: &Heard) -> Result<Published, (Cause, String)> {
        let failed = |cause, words: &str| {
            let colon = if words.is_empty() { "" } else { ": " };
            Err((cause, format!("app info, exit code {code}{colon}{words}")))
        };

        // After a failed login or a time-out steamcmd prints what it remembers.
        if heard.has_failed()
            && let Some((cause, words)) = heard.why()
        {
            return failed(cause, words);
        }

        match (self.answers, self.last) {
            (2.., Some(Ok(published))) if self.own > 0 => Ok(published),
            (2.., Some(Err(cause))) if self.own > 0 => failed(cause, ""),
            // A lone answer may be an old one.
            (1, _) if self.own > 0 => failed(Cause::NoAppInfo, "it answered once"),
            _ => match (heard.why(), code) {
                (Some((cause, words)), _) => failed(cause, words),
                (None, 0) => failed(Cause::NoAppInfo, ""),
                (None, code) => failed(Cause::of_code(code), ""),
            },
        }
    }
}

impl Block {
    fn push(&mut self, line: &str) {
        self.is_overlong |= self.text.len() + line.len() >= LIMIT;
        if self.is_overlong {
            self.text.clear();
        } else {
            self.text.push('\n');
            self.text.push_str(line);
        }
    }

    fn read(&self) -> Result<Published, Cause> {
        let (mut build, mut at, mut has_branches) = (None, None, false);
        let mut depots = [Depot::default(); DEPOTS.len()];
        let read = keyvalues::read(&self.text, LIMIT, |blocks, item| {
            let is = |at: usize, name: &str| {
                blocks
                    .get(at)
                    .is_some_and(|block| block.eq_ignore_ascii_case(name))
            };
            if !is(1, "depots") {
                return;
            }
            let depot = DEPOTS.iter().position(|depot| is(2, depot));
            if let (Some(depot), Item::Value(key, value)) = (depot, item)
                && blocks.len() == 5
                && is(3, "manifests")
                && is(4, BRANCH)
            {
                depots[depot].take(key, value);
            }
            if !is(2, "branches") {
                return;
            }
            has_branches = true;

            if blocks.len() == 4 && is(3, BRANCH) {
                match item {
                    Item::Value(key, value) if key.eq_ignore_ascii_case("buildid") => {
                        build = value.parse().ok().filter(|build| BUILDS.contains(build));
                    }
                    Item::Value(key, value) if key.eq_ignore_ascii_case("timeupdated") => {
                        at = value.parse().ok().filter(|at| TIMES.contains(at));
                    }
                    _ => {}
                }
            }
        });

        match (read, build) {
            (Ok(()), Some(build)) => Ok(Published {
                build,
                at,
                size: Depot::sum(&depots),
            }),
            (Ok(()), None) if has_branches => Err(Cause::NoBranch),
            _ => Err(Cause::NoAppInfo),
        }
    }
}

/// The depots of a Linux server.
const DEPOTS: [&str; 2] = [SHARED_DEPOT, LINUX_DEPOT];

/// What a manifest of a depot says: `"public" { "gid" "…" "size" "…" "download" "…" }`. Steam's
/// older app info has the gid alone.
#[derive(Clone, Copy, Debug, Default)]
struct Depot {
    files: Option<u64>,
    download: Option<u64>,
}

impl Depot {
    fn take(&mut self, key: &str, value: &str) {
        let field = match key.to_ascii_lowercase().as_str() {
            "size" => &mut self.files,
            "download" => &mut self.download,
            _ => return,
        };
        *field = value.parse().ok().filter(|size| SIZES.contains(size));
    }

    /// What all of them take together; none unless each says so.
    fn sum(depots: &[Self]) -> Option<Size> {
        let all = |of: fn(&Self) -> Option<u64>| depots.iter().map(of).sum::<Option<u64>>();
        Some(Size {
            files: all(|depot| depot.files)?,
            download: all(|depot| depot.download)?,
        })
    }
}

/// What a trimmed line of KeyValues is; none for any other line.
fn shape(line: &str) -> Option<Shape> {
    match line {
        "{" => return Some(Shape::Open),
        "}" => return Some(Shape::Close),
        _ => {}
    }

    let (_, rest) = keyvalues::quoted(line.strip_prefix('"')?)?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Some(Shape::Key);
    }
    let (_, rest) = keyvalues::quoted(rest.strip_prefix('"')?)?;
    rest.trim().is_empty().then_some(Shape::Pair)
}

/// The line without the escape sequences that set colours.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let end = after.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &after[end + 1..]);
    }

    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests;
