//! The commands that the documentation, the shipped comments and the programs' messages tell an
//! administrator to run, read from these files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::repository;

/// The programs whose commands count.
const PROGRAMS: [&str; 6] = [
    "systemctl",
    "journalctl",
    "left4me",
    "left4me-job",
    "left4me-helper",
    "l4d2ctl",
];

/// Verbs of systemctl that mean all units, or none, when no unit follows.
const WITHOUT_UNIT: [&str; 5] = [
    "daemon-reload",
    "list-timers",
    "list-sockets",
    "list-units",
    "list-unit-files",
];

/// A command as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Documented {
    /// Without sudo in front and without a comment behind it.
    pub command: String,
    /// The comment behind it, in a block of code.
    pub comment: String,
    /// As `sudo -u left4me`.
    pub as_left4me: bool,
}

impl Documented {
    /// Its words; quotes are left out.
    pub fn words(&self) -> Vec<&str> {
        self.command
            .split_whitespace()
            .map(|word| word.trim_matches(['\'', '"']))
            .collect()
    }

    /// The first word.
    pub fn program(&self) -> &str {
        self.words().first().copied().unwrap_or_default()
    }

    /// The words behind the program that are no options.
    pub fn arguments(&self) -> Vec<&str> {
        self.words()
            .into_iter()
            .skip(1)
            .filter(|word| !word.starts_with('-'))
            .collect()
    }
}

/// All of them, each with the files that have it.
pub fn all() -> BTreeMap<Documented, Vec<String>> {
    let mut found: BTreeMap<Documented, Vec<String>> = BTreeMap::new();
    for (name, text, kind) in sources() {
        for documented in kind(&text) {
            let files = found.entry(documented).or_default();
            if files.last() != Some(&name) {
                files.push(name.clone());
            }
        }
    }

    found
}

type Reader = fn(&str) -> Vec<Documented>;

fn sources() -> Vec<(String, String, Reader)> {
    let root = repository();
    let mut files: Vec<(PathBuf, Reader)> = Vec::new();
    let markdown = [root.join("README.md"), root.join("CHANGELOG.md")].into_iter();
    files.extend(
        markdown
            .chain(below(&root.join("docs"), "md"))
            .map(|file| (file, in_markdown as Reader)),
    );

    for directory in [
        "systemd",
        "deploy/prometheus",
        "deploy/nginx",
        "deploy/caddy",
    ] {
        files.extend(
            below(&root.join(directory), "")
                .into_iter()
                .map(|file| (file, in_comments as Reader)),
        );
    }

    files.push((root.join("deploy/left4me.env"), in_comments));
    files.extend(
        below(&root.join("lib"), "rs")
            .into_iter()
            .filter(|file| !file.ends_with("tests.rs"))
            .map(|file| (file, in_source as Reader)),
    );

    let read = |(file, kind): (PathBuf, Reader)| {
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        (name, text, kind)
    };

    files.into_iter().map(read).collect()
}

/// Files with this ending below a directory, sorted.
fn below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(below(&path, ending));
        } else if ending.is_empty() || path.extension().is_some_and(|found| found == ending) {
            files.push(path);
        }
    }

    files.sort();
    files
}

/// Lines of blocks of code, and inline code.
fn in_markdown(text: &str) -> Vec<Documented> {
    let mut found = Vec::new();
    for (number, part) in text.split("\n```").enumerate() {
        if number % 2 == 1 {
            let lines = part.replace("\\\n", " ");
            found.extend(lines.lines().skip(1).filter_map(command));
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            found.extend(spans.filter_map(|span| {
                command(&span.split_whitespace().collect::<Vec<_>>().join(" "))
            }));
        }
    }

    found
}

/// A line that begins with one of our programs, or with sudo and one of them. None for the bare
/// name of a program, and for a verb of systemctl that only gets a mention.
fn command(line: &str) -> Option<Documented> {
    let line = line.trim();
    let (text, comment) = line.split_once(" #").unwrap_or((line, ""));
    let text = text.trim();
    let as_left4me = text.starts_with("sudo -u left4me ");
    let text = text
        .trim_start_matches("sudo ")
        .trim_start_matches("-u left4me ");
    let documented = Documented {
        command: text.to_owned(),
        comment: comment.trim().to_owned(),
        as_left4me,
    };

    // A message may begin with the program's name, too: `left4me N is installed`.
    let is_command = |word: &&str| word.starts_with(|first: char| !first.is_ascii_uppercase());
    if !PROGRAMS.contains(&documented.program())
        || !documented.words().get(1).is_some_and(is_command)
    {
        return None;
    }
    let arguments = documented.arguments();
    let is_mention = documented.program() == "systemctl"
        && !documented.command.contains("--failed")
        && (arguments.is_empty() || arguments.len() == 1 && !WITHOUT_UNIT.contains(&arguments[0]));
    (!is_mention).then_some(documented)
}

/// Comments of a unit or of the settings, and the texts of alerts.
fn in_comments(text: &str) -> Vec<Documented> {
    let lines = text
        .lines()
        .map(|line| line.trim().trim_start_matches('#').trim());
    in_prose(&lines.collect::<Vec<_>>().join(" "))
}

/// Messages and helps in the source of the programs.
fn in_source(text: &str) -> Vec<Documented> {
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines = code
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"));
    // A string that goes on in the next line, and one that has lines of its own.
    let joined = lines
        .collect::<Vec<_>>()
        .join("\n")
        .replace("\\\n", "")
        .replace("\\n", "\n");
    joined.lines().flat_map(in_prose).collect()
}

/// Commands of systemctl within sentences: as far as words look like options and units.
fn in_prose(text: &str) -> Vec<Documented> {
    text.split("systemctl ")
        .skip(1)
        .filter_map(|rest| command(&prose_command(rest)?))
        .collect()
}

fn prose_command(rest: &str) -> Option<String> {
    let is_verb = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };

    let is_unit = |word: &str| {
        let word = word.trim_matches('\'');
        let ending = word.rsplit_once('.').map_or("", |(_, ending)| ending);
        ["service", "socket", "target", "timer"].contains(&ending) || word.ends_with('}')
    };

    let mut words = vec!["systemctl"];
    let mut has_verb = false;
    for word in rest.split([' ', '\n']) {
        let bare = word.trim_end_matches(['.', ',', ';', ':', ')', '`', '"', '\\', '?']);
        if !has_verb && is_verb(bare) && !bare.starts_with('-') {
            has_verb = true;
        } else if !(bare.starts_with("--") || has_verb && is_unit(bare)) {
            break;
        }

        words.push(bare);
        if bare != word {
            break;
        }
    }

    has_verb.then(|| words.join(" "))
}

#[test]
fn commands_are_found_where_people_read_them() {
    let commands = |found: Vec<Documented>| -> Vec<String> {
        found
            .into_iter()
            .map(|documented| documented.command)
            .collect()
    };

    let text = "Use `sudo systemctl start\na.service`, not `systemctl stop`; see \
               `left4me`.\n\n```sh\n\
                sudo systemctl edit b.timer   # [Timer] X=1\nsudo -u left4me l4d2ctl stop 1\necho \
                `x`\n```\n`left4me doctor` `left4me N is newer`";
    assert_eq!(
        commands(in_markdown(text)),
        [
            "systemctl start a.service",
            "systemctl edit b.timer",
            "l4d2ctl stop 1",
            "left4me doctor"
        ]
    );

    let text = "# This one needs a reload:\n# systemctl daemon-reload && systemctl restart\n# \
               a.timer. Not (systemctl edit: X=).\n";
    assert_eq!(
        commands(in_comments(text)),
        ["systemctl daemon-reload", "systemctl restart a.timer"]
    );

    let text = "//! systemctl start no.service\nlet x = format!(\"see \
                `systemctl status {unit}.socket`: \
                \\\n  systemctl start --wait c.service   now\\n\");";
    assert_eq!(
        commands(in_source(text)),
        [
            "systemctl status {unit}.socket",
            "systemctl start --wait c.service"
        ]
    );
}
