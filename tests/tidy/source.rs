//! Reads Rust files as tokens, and finds in them what they import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One source file.
pub struct File {
    /// From the repository's root.
    pub path: String,
    /// The names that lead to it from the library's root.
    pub module: Vec<String>,
    pub text: String,
    /// Its tokens without comments and tests, each with its line.
    pub tokens: Vec<(usize, String)>,
}

pub fn read_all(folders: &[&str]) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = folders.iter().map(|name| root.join(name)).collect();
    let mut files = Vec::new();
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

/// The path of each file, with those that it imports, except what it is a part of.
pub fn imported_files(files: &[File]) -> BTreeMap<&str, BTreeSet<&str>> {
    let modules = files
        .iter()
        .map(|file| (&file.module[..], file.path.as_str()));
    let by_module: BTreeMap<_, _> = modules.collect();

    let mut all = BTreeMap::new();
    for file in files {
        let imported = file.imports().into_iter().filter_map(|(_, path)| {
            let is_file = |length: &usize| by_module.contains_key(&path[..*length]);
            let length = (1..=path.len()).rev().find(is_file)?;
            (!file.module.starts_with(&path[..length])).then(|| by_module[&path[..length]])
        });
        all.insert(file.path.as_str(), imported.collect());
    }
    all
}

impl File {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a source file");
        let path = path
            .strip_prefix(root)
            .expect("below the root")
            .display()
            .to_string();
        let name = path
            .trim_start_matches("lib/")
            .trim_end_matches(".rs")
            .trim_end_matches("/mod");
        let module = name
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

    /// Whether it belongs to this module of the library.
    pub fn is_in(&self, module: &str) -> bool {
        self.module.first().is_some_and(|name| name == module)
    }

    /// The text of each string, with its line.
    pub fn strings(&self) -> impl Iterator<Item = (usize, &str)> {
        let tokens = self.tokens.iter();
        let strings = tokens.filter(|(_, token)| token.ends_with(['"', '#']));
        strings.map(|(line, token)| {
            let text = token.trim_start_matches(['r', '#', '"']);
            (*line, text.trim_start())
        })
    }

    /// The lines where these tokens, with a space between them, follow one another.
    pub fn find(&self, sequence: &str) -> Vec<usize> {
        let sequence: Vec<_> = sequence.split(' ').collect();
        let is = |tokens: &&[(usize, String)]| tokens.iter().map(|(_, token)| token).eq(&sequence);
        self.tokens
            .windows(sequence.len())
            .filter(is)
            .map(|tokens| tokens[0].0)
            .collect()
    }

    fn token(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |(_, token)| token.as_str())
    }

    /// Each path into the library, from its root, with its line.
    pub fn imports(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        for (at, (line, token)) in self.tokens.iter().enumerate() {
            let begins = at == 0 || self.token(at - 1) != ":";
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
        while self.token(at) == ":" && self.token(at + 1) == ":" {
            at += 2;
            match self.token(at) {
                "super" => drop(path.pop()),
                "{" => {
                    while !["}", ""].contains(&self.token(at)) {
                        let name =
                            Some(self.token(at + 1).to_owned()).filter(|name| name != "self");
                        at = self.expand(at + 2, path.iter().cloned().chain(name).collect(), give);
                        while !["}", ",", ""].contains(&self.token(at)) {
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
            let is_end = |token: &TokenTree| match token {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                token => token.to_string() == ";",
            };
            stream.by_ref().find(is_end);
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
