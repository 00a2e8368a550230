//! The rules of the source: which module may import which, and where SQL, unsafe code and new
//! processes may be.
//!
//! Every complaint names file, line and rule. A new module of `lib/` needs a line in [`LAYERS`].
#![forbid(unsafe_code)]

mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{File, imported_files, read_all};

/// Each module with those that it may import, besides itself. Programs never import one another;
/// runner and helper are small on purpose.
const LAYERS: &str = "
    base:
    domain:  base
    wire:    base domain
    process: base domain wire
    db:      base domain wire
    host:    base domain wire process db
    queue:   base domain wire process db host
    cancel:  base domain wire process db host queue
    doctor:  base domain wire process db host queue
    runner:  base domain wire process
    helper:  base domain wire process
    publisher: base domain wire process
    console: base domain wire process
    notify:  base domain wire
    worker:  base domain wire process db host queue cancel
    poller:  base domain wire process db host queue
    cli:     base domain wire process db host queue cancel
    web:     base domain wire process db host queue cancel doctor
    admin:   base domain wire process db host queue doctor
    ctl:     base domain wire process db host queue
    gate:    base domain wire process db host queue cancel
    link:    base domain wire
    rollout: base domain wire process db host queue";

/// The files that may hold `unsafe`, each under an `expect(unsafe_code, reason = \"…\")`.
const UNSAFE: &[&str] = &[
    "lib/base/notify.rs",
    "lib/process/cgroup.rs",
    "lib/process/spawn.rs",
];

const SQL: &str = "SELECT |INSERT |UPDATE |DELETE FROM|WITH |CREATE |ALTER |DROP |PRAGMA |BEGIN IM";

#[test]
fn imports_point_down() {
    let layers = LAYERS
        .lines()
        .filter_map(|line| line.trim().split_once(':'));
    let layers: BTreeMap<_, Vec<_>> = layers
        .map(|(name, may)| (name, may.split_whitespace().collect()))
        .collect();
    let mut wrong = Vec::new();

    let files = read_all(&["lib"]);
    for file in files.iter().filter(|file| file.path != "lib/lib.rs") {
        let own = file.module[0].as_str();
        let allowed = layers
            .get(own)
            .unwrap_or_else(|| panic!("add {own}/ to LAYERS"));
        for (line, path) in file.imports() {
            let used = path[0].as_str();
            if used != own && layers.contains_key(used) && !allowed.contains(&used) {
                wrong.push(format!(
                    "{}:{line}: {own}/ may not import {used}/",
                    file.path
                ));
            }
        }
    }

    for file in read_all(&["bin"]) {
        let used: BTreeSet<_> = file
            .imports()
            .into_iter()
            .map(|(_, path)| path[0].clone())
            .collect();
        if used.len() != 1 {
            wrong.push(format!(
                "{}: a binary calls one module, not {used:?}",
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
    let files = read_all(&["lib"]);
    let mut left = imported_files(&files);

    // What imports nothing that is left, or is imported by nothing, is in no circle.
    let is_end = |left: &BTreeMap<_, BTreeSet<_>>, path: &str| {
        left[path].is_empty() || !left.values().any(|imports| imports.contains(path))
    };
    while let Some(path) = left.keys().copied().find(|path| is_end(&left, path)) {
        left.remove(path);
        left.values_mut()
            .for_each(|imports| imports.retain(|other| *other != path));
    }
    let circle = |(path, imports)| format!("{path} imports, in a circle, {imports:?}");
    none(&left.into_iter().map(circle).collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_only_in_the_files_that_are_listed_here() {
    let files = || read_all(&["lib", "bin"]).into_iter();
    let holds = |file: &File| !file.find("unsafe").is_empty();
    let found: Vec<_> = files().filter(holds).map(|file| file.path).collect();
    assert_eq!(
        BTreeSet::from_iter(found.iter().map(String::as_str)),
        UNSAFE.iter().copied().collect()
    );

    let unmarked = |file: &File| holds(file) && file.find("expect ( unsafe_code").is_empty();
    assert_eq!(
        files().filter(unmarked).count(),
        0,
        "each has an expect(unsafe_code, reason = \"…\")"
    );
}

#[test]
fn sql_is_only_in_db() {
    let mut wrong = Vec::new();
    let files = read_all(&["lib"]);
    for file in files.iter().filter(|file| !file.is_in("db")) {
        let is_sql = |text: &str| SQL.split('|').any(|word| text.starts_with(word));
        let found = file.strings().filter(|(_, text)| is_sql(text));
        let path = &file.path;
        wrong.extend(
            found.map(|(line, text)| format!("{path}:{line}: SQL outside lib/db: {text:.60}")),
        );
    }
    none(&wrong);
}

#[test]
fn processes_are_spawned_only_in_process() {
    let spawning = ["Command : : new", "fork (", "execve (", "posix_spawn"];
    let mut files = read_all(&["lib"]);
    files.retain(|file| !file.is_in("process"));
    none_with(&files, &spawning, "only lib/process spawns");
}

#[test]
fn nothing_outside_tests_panics_on_a_result() {
    let panicking = [
        ". unwrap (",
        ". expect (",
        ". unwrap_err (",
        ". expect_err (",
    ];
    none_with(
        &read_all(&["lib", "bin"]),
        &panicking,
        "return an error instead",
    );
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for file in read_all(&["lib", "bin"]) {
        let most = if file.path.starts_with("bin") { 6 } else { 500 };
        if file.text.lines().count() > most {
            wrong.push(format!("{}: more than {most} lines", file.path));
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

/// `sequences` are tokens, with a space between them.
#[track_caller]
fn none_with(files: &[File], sequences: &[&str], rule: &str) {
    let mut wrong = Vec::new();
    for file in files {
        for sequence in sequences {
            let lines = file.find(sequence).into_iter();
            wrong.extend(lines.map(|line| format!("{}:{line}: {sequence}: {rule}", file.path)));
        }
    }
    none(&wrong);
}
