//! The rules of the source: which module may import which, and where SQL, unsafe code and new
//! processes may be.
//!
//! Every complaint names file, line and rule. A new module of `lib/` needs a line in [`LAYERS`].
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each module with those that it may import, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    // 1
    ("base", &[]),
    // 2
    ("domain", &["base"]),
    // 3: processes, database, host
    ("wire", &["base"]),
    ("process", &["base", "wire"]),
    ("db", &["base", "domain", "wire"]),
    ("host", &["base", "domain", "wire", "process", "db"]),
    // 4: the queue
    (
        "queue",
        &["base", "domain", "wire", "process", "db", "host"],
    ),
    (
        "cancel",
        &["base", "domain", "wire", "process", "db", "host", "queue"],
    ),
    (
        "doctor",
        &["base", "domain", "wire", "process", "db", "host", "queue"],
    ),
    // 5: programs. They never import one another; runner and helper are small on purpose.
    ("runner", &["base", "domain", "wire", "process"]),
    ("helper", &["base", "domain", "wire", "process"]),
    (
        "worker",
        &[
            "base", "domain", "wire", "process", "db", "host", "queue", "cancel",
        ],
    ),
    (
        "poller",
        &["base", "domain", "wire", "process", "db", "host", "queue"],
    ),
    (
        "cli",
        &[
            "base", "domain", "wire", "process", "db", "host", "queue", "cancel",
        ],
    ),
    (
        "web",
        &[
            "base", "domain", "wire", "process", "db", "host", "queue", "cancel", "doctor",
        ],
    ),
    (
        "admin",
        &[
            "base", "domain", "wire", "process", "db", "host", "queue", "doctor",
        ],
    ),
    (
        "ctl",
        &["base", "domain", "wire", "process", "db", "host", "queue"],
    ),
];

/// The files that may hold `unsafe`, each under an `expect(unsafe_code, reason = "…")`.
const UNSAFE: &[&str] = &[
    "lib/base/notify.rs",
    "lib/process/cgroup.rs",
    "lib/process/spawn.rs",
];

const SQL: &[&str] = &[
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

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for file in read_all("lib")
        .iter()
        .filter(|file| file.path != "lib/lib.rs")
    {
        let own = file.module[0].as_str();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == own) else {
            wrong.push(format!(
                "{}: add {own}/ to LAYERS in tests/tidy.rs",
                file.path
            ));

            continue;
        };

        for (line, path) in file.imports() {
            let used = path[0].as_str();
            if used != own
                && LAYERS.iter().any(|(name, _)| *name == used)
                && !allowed.contains(&used)
            {
                wrong.push(format!(
                    "{}:{line}: {own}/ imports {used}/; it may import {allowed:?}",
                    file.path
                ));
            }
        }
    }

    for file in read_all("bin") {
        let modules: BTreeSet<_> = file
            .imports()
            .into_iter()
            .map(|(_, path)| path[0].clone())
            .collect();
        if modules.len() != 1 {
            wrong.push(format!(
                "{}: a binary calls one module of the library, not {modules:?}",
                file.path
            ));
        }
    }

    none(&wrong);
}

/// A module's own file may use its children, and they what it defines: that is one module. All else
/// is layered.
#[test]
fn no_files_import_one_another_in_a_circle() {
    let files = read_all("lib");
    let by_module: BTreeMap<_, _> = files
        .iter()
        .map(|file| (&file.module[..], &file.path))
        .collect();
    let mut left: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for file in &files {
        let found = file.imports().into_iter().filter_map(|(_, path)| {
            let length = (1..=path.len())
                .rev()
                .find(|length| by_module.contains_key(&path[..*length]))?;
            (!file.module.starts_with(&path[..length])).then(|| by_module[&path[..length]])
        });

        left.insert(&file.path, found.collect());
    }

    // What imports nothing that is left, or is imported by nothing, is in no circle.
    let is_end = |left: &BTreeMap<_, BTreeSet<_>>, path: &String| {
        left[path].is_empty() || !left.values().any(|imports| imports.contains(path))
    };
    while let Some(path) = left.keys().copied().find(|path| is_end(&left, path)) {
        left.remove(path);
        left.values_mut()
            .for_each(|imports| imports.retain(|other| *other != path));
    }

    none(
        &left
            .iter()
            .map(|(path, imports)| format!("{path} imports, in a circle, {imports:?}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn unsafe_code_is_only_in_the_files_that_are_listed_here() {
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    for file in read_all("lib").into_iter().chain(read_all("bin")) {
        let Some(line) = file.find(&["unsafe"]).first().copied() else {
            continue;
        };
        found.insert(file.path.clone());
        if !UNSAFE.contains(&file.path.as_str()) {
            wrong.push(format!(
                "{}:{line}: unsafe code; only {UNSAFE:?} may have some",
                file.path
            ));
        }

        if file.find(&["expect", "(", "unsafe_code"]).is_empty() {
            wrong.push(format!(
                "{}:{line}: unsafe code without an expect(unsafe_code, reason = \"…\")",
                file.path
            ));
        }
    }

    wrong.extend(
        UNSAFE
            .iter()
            .filter(|path| !found.contains(**path))
            .map(|path| format!("{path} has no unsafe code")),
    );

    none(&wrong);
}

#[test]
fn sql_is_only_in_db() {
    let mut wrong = Vec::new();
    for file in read_all("lib")
        .iter()
        .filter(|file| file.module.first().is_none_or(|name| name != "db"))
    {
        for (line, token) in &file.tokens {
            let text = token.trim_start_matches(['r', '#', '"']).trim_start();
            if token.ends_with(['"', '#']) && SQL.iter().any(|word| text.starts_with(word)) {
                wrong.push(format!(
                    "{}:{line}: SQL outside lib/db: {text:.60}",
                    file.path
                ));
            }
        }
    }

    none(&wrong);
}

#[test]
fn processes_are_spawned_only_in_process() {
    let spawning = [
        &["Command", ":", ":", "new"][..],
        &["fork", "("],
        &["execve", "("],
        &["posix_spawn"],
    ];

    let files = read_all("lib")
        .into_iter()
        .filter(|file| file.module.first().is_none_or(|name| name != "process"));
    none(&lines_with(files, &spawning, "only lib/process spawns"));
}

#[test]
fn nothing_outside_tests_panics_on_a_result() {
    let panicking = ["unwrap", "expect", "unwrap_err", "expect_err"].map(|name| [".", name, "("]);
    let panicking: Vec<&[&str]> = panicking.iter().map(|tokens| &tokens[..]).collect();
    let files = read_all("lib").into_iter().chain(read_all("bin"));
    none(&lines_with(files, &panicking, "return an error instead"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for file in read_all("lib").into_iter().chain(read_all("bin")) {
        let (lines, most) = (
            file.text.lines().count(),
            if file.path.starts_with("bin") { 6 } else { 500 },
        );

        if lines > most {
            wrong.push(format!("{}: {lines} lines; {most} are the most", file.path));
        }
        if file.path.starts_with("lib") && !file.text.starts_with("//! ") {
            wrong.push(format!(
                "{}:1: a file opens with //! and says what it is for",
                file.path
            ));
        }
    }

    none(&wrong);
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn lines_with(files: impl Iterator<Item = File>, sequences: &[&[&str]], rule: &str) -> Vec<String> {
    let found = |file: &File, sequence: &[&str]| -> Vec<String> {
        file.find(sequence)
            .iter()
            .map(|line| format!("{}:{line}: {}: {rule}", file.path, sequence.concat()))
            .collect()
    };

    files
        .flat_map(|file| {
            sequences
                .iter()
                .flat_map(|sequence| found(&file, sequence))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// One source file.
struct File {
    /// From the repository's root.
    path: String,
    /// The names that lead to it from the library's root.
    module: Vec<String>,
    text: String,
    /// Its tokens without comments and tests, each with its line.
    tokens: Vec<(usize, String)>,
}

fn read_all(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut files) = (vec![root.join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the source") {
            let path = entry.expect("an entry of the source").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(File::read(root, &path));
            }
        }
    }

    files
}

impl File {
    fn read(root: &Path, path: &PathBuf) -> Self {
        let text = fs::read_to_string(path).expect("a source file");
        let path = path
            .strip_prefix(root)
            .expect("a path below the root")
            .to_string_lossy()
            .into_owned();
        let names = path
            .trim_start_matches("lib/")
            .trim_end_matches(".rs")
            .trim_end_matches("/mod");
        let module = names
            .split('/')
            .filter(|name| *name != "lib")
            .map(str::to_owned)
            .collect();
        let mut tokens = Vec::new();
        // The tests of a module that is long without them.
        if !path.ends_with("/tests.rs") {
            flatten(text.parse().expect("Rust"), &mut tokens);
        }
        Self {
            path,
            module,
            text,
            tokens,
        }
    }

    /// The lines where these tokens follow one another.
    fn find(&self, sequence: &[&str]) -> Vec<usize> {
        let windows = self.tokens.windows(sequence.len());
        windows
            .filter(|tokens| tokens.iter().map(|(_, token)| token).eq(sequence))
            .map(|tokens| tokens[0].0)
            .collect()
    }

    /// Each path into the library, from its root, with its line.
    fn imports(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let text = |at: usize| self.tokens.get(at).map_or("", |(_, token)| token.as_str());
        for (at, (line, token)) in self.tokens.iter().enumerate() {
            let begins = at == 0 || text(at - 1) != ":";
            let base = match token.as_str() {
                "crate" | "left4me" if begins => Vec::new(),
                "self" if begins => self.module.clone(),
                "super" if begins => self.module[..self.module.len().saturating_sub(1)].to_vec(),
                _ => continue,
            };

            self.expand(at + 1, base, &mut |path| found.push((*line, path)));
        }

        found.retain(|(_, path)| !path.is_empty());
        found
    }

    /// What follows a path's name at `at`: `::name`, `::{a, b::c}`, or no more of it. Gives the
    /// place behind it.
    fn expand(
        &self,
        mut at: usize,
        mut path: Vec<String>,
        give: &mut impl FnMut(Vec<String>),
    ) -> usize {
        let text = |at: usize| self.tokens.get(at).map_or("", |(_, token)| token.as_str());
        while text(at) == ":" && text(at + 1) == ":" {
            at += 2;
            match text(at) {
                "super" => drop(path.pop()),
                "{" => {
                    while !["}", ""].contains(&text(at)) {
                        let name = Some(text(at + 1).to_owned()).filter(|name| name != "self");
                        at = self.expand(at + 2, path.iter().cloned().chain(name).collect(), give);
                        while !["}", ",", ""].contains(&text(at)) {
                            at += 1;
                        }
                    }

                    return at + 1;
                }
                name => path.push(name.to_owned()),
            }

            at += 1;
        }

        give(path);
        at
    }
}

/// Adds all tokens but comments, which are `doc` attributes here, and items under `#[cfg(test)]`.
fn flatten(stream: TokenStream, tokens: &mut Vec<(usize, String)>) {
    let mut stream = stream.into_iter().peekable();
    while let Some(token) = stream.next() {
        let line = token.span().start().line;
        let TokenTree::Group(group) = token else {
            tokens.push((line, token.to_string()));
            continue;
        };

        let inside = group.stream().to_string().replace(' ', "");
        let is_attribute = group.delimiter() == Delimiter::Bracket
            && tokens.iter().rev().take(2).any(|(_, token)| token == "#");
        if is_attribute && inside == "cfg(test)" {
            // To the end of the item. Without one it is of the whole file.
            let ends = |token: &TokenTree| match token {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                token => token.to_string() == ";",
            };

            stream.by_ref().find(ends);
        } else if !is_attribute || !inside.starts_with("doc=") {
            let (open, close) = match group.delimiter() {
                Delimiter::Parenthesis => ("(", ")"),
                Delimiter::Brace => ("{", "}"),
                Delimiter::Bracket => ("[", "]"),
                Delimiter::None => ("", ""),
            };

            tokens.push((line, open.to_owned()));
            flatten(group.stream(), tokens);
            tokens.push((line, close.to_owned()));
        }
    }
}
