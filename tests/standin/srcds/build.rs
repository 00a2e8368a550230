//! Which build of the game this is, as the files of the build say, and whether they belong together.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use crate::controls::control;
use crate::{GAME, say};

/// What a game says that no build describes.
const VERSION: &str = "2.2.4.3";

/// What it calls itself: `PatchVersion` of steam.inf, with `-mixed` if a file is missing, not whole
/// or of another build.
pub fn version() -> String {
    let text = fs::read_to_string(Path::new(GAME).join("steam.inf")).unwrap_or_default();
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix("PatchVersion="));
    let version = found.unwrap_or(VERSION).trim();

    let list = fs::read_to_string(control("files")).unwrap_or_default();
    let flaws: Vec<&str> = list.lines().filter(|line| !holds(line)).collect();
    for flaw in &flaws {
        say(format!("standin: not as its build has it: {flaw}"));
    }
    match flaws.is_empty() {
        true => version.to_owned(),
        false => format!("{version}-mixed"),
    }
}

/// A line of the list: path, length, build.
fn holds(line: &str) -> bool {
    let fields: Vec<&str> = line.split(' ').collect();
    let [path, length, build] = fields[..] else {
        return false;
    };
    let Ok(file) = File::open(path) else {
        return false;
    };

    let found = file.metadata().map(|found| found.len()).ok();
    let mut first = String::new();
    let read = BufReader::new(file).read_line(&mut first);
    found == length.parse().ok() && read.is_ok() && first == format!("{path} {build}\n")
}
