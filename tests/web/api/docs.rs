//! docs/api.md is correct: its commands run in order in one shell, and their output has the
//! documented shape.

use std::path::Path;

use serde_json::Value;

use super::{LEFT4ME, Site};

/// Separates the output of two commands.
const MARK: &str = "--- what the next one prints ---";

/// A fenced block: its language and lines.
struct Block {
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                })
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }

    assert!(open.is_none(), "a block that does not end");
    blocks
}

/// Compares keys recursively. Of lists only the first items; null matches anything.
fn same_shape(shown: &Value, printed: &Value, at: &str) {
    match (shown, printed) {
        (Value::Object(shown), Value::Object(printed)) => {
            let keys =
                |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            let (mut left, mut right) = (keys(shown), keys(printed));
            left.sort();
            right.sort();
            assert_eq!(left, right, "at {at}: shown and printed");
            for (key, value) in shown {
                same_shape(value, &printed[key], &format!("{at}.{key}"));
            }
        }
        (Value::Array(shown), Value::Array(printed)) => {
            assert_eq!(shown.is_empty(), printed.is_empty(), "at {at}: {printed:?}");
            if let (Some(shown), Some(printed)) = (shown.first(), printed.first()) {
                same_shape(shown, printed, &format!("{at}[0]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(
            std::mem::discriminant(shown),
            std::mem::discriminant(printed),
            "at {at}: {printed}"
        ),
    }
}

#[test]
fn every_command_of_the_page_works_and_prints_as_shown() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    let site = Site::new();
    let page = page.replace("127.0.0.1:8000", &site.web.addr.to_string());
    let blocks = blocks(&page);

    // `set -e` ignores failures after `!`.
    let commands: Vec<&str> = blocks
        .iter()
        .filter(|block| block.language == "sh")
        .map(|block| block.text.as_str())
        .collect();
    let script: String = commands
        .iter()
        .map(|command| format!("{command}[ $? = 0 ] || exit 99\necho; echo '{MARK}'\n"))
        .collect();

    assert!(commands.len() >= 9, "{} commands", commands.len());

    let programs = Path::new(LEFT4ME).parent().unwrap().display().to_string();
    let mut shell = site
        .host
        .command("bash", &["-euo", "pipefail", "-c", &script]);
    shell
        .env(
            "PATH",
            format!("{programs}:{}", std::env::var("PATH").unwrap()),
        )
        .current_dir(site.host.root.path());

    let output = shell.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );

    let mut printed = out.split(MARK);
    let done = out.matches(MARK).count();
    assert!(
        output.status.success(),
        "{}{out}\n{err}",
        commands.get(done).unwrap_or(&"after the last command")
    );

    let mut last = "";
    for block in &blocks {
        match block.language.as_str() {
            "sh" => last = printed.next().unwrap().trim(),
            "json" => {
                let parse = |text: &str| {
                    serde_json::from_str::<Value>(text)
                        .unwrap_or_else(|error| panic!("{error}: {text}"))
                };

                same_shape(&parse(&block.text), &parse(last), "it");
            }
            "text" => assert_eq!(last, block.text.trim()),
            other => panic!("what is a block of '{other}'?"),
        }
    }
}
