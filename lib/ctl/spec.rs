//! The spec file: YAML with port, overlays, arguments, config.
//!
//! Root may have opened a file that the user who sees the error cannot read. So errors show nothing
//! of its content but an unknown key, escaped and cut.

use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use serde_saphyr::{Error as YamlError, Spanned};

use crate::base::names::shown;
use crate::base::{Error, Result, text};
use crate::domain::blueprint::{Argument, Spec, check};
use crate::domain::launch::refusal;

/// The largest spec file, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// The file as written; a missing list is empty.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    port: Spanned<u16>,
    overlays: Option<Vec<Spanned<String>>>,
    arguments: Option<Vec<Spanned<String>>>,
    config: Option<Vec<Spanned<String>>>,
}

/// Reads and checks a spec file.
///
/// Fails with the line number of the error, or if the file may not be read.
pub(super) fn read(path: &Path) -> Result<Spec> {
    parse(&text::read(path, LIMIT)?)
        .map_err(|why| Error::usage(format!("{}: {why}", path.display())))
}

fn parse(text: &str) -> Result<Spec, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
    };

    let file: File =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| describe(&error))?;

    if file.port.value < 1024 {
        return Err(format!(
            "line {}: port: 1024 to 65535 is needed",
            file.port.defined.line()
        ));
    }

    let spec = Spec {
        port: file.port.value,
        overlays: list(
            "overlays",
            "folders below overlays/, separated by '/'",
            file.overlays,
        )?,
        arguments: arguments(file.arguments)?,
        config: list(
            "config",
            "at most 1024 bytes, one line, without control characters",
            file.config,
        )?,
    };

    check(&spec.overlays, &spec.arguments, &spec.config).map_err(|bad| bad.to_string())?;
    Ok(spec)
}

fn list<T: FromStr>(
    key: &str,
    rule: &str,
    entries: Option<Vec<Spanned<String>>>,
) -> Result<Vec<T>, String> {
    let parsed = entries.unwrap_or_default().into_iter().map(|entry| {
        entry.value.parse().map_err(|_| {
            format!(
                "line {}: an entry of {key} is not valid: {rule}",
                entry.defined.line()
            )
        })
    });

    parsed.collect()
}

/// The reason of a refusal contains nothing of the argument.
fn arguments(entries: Option<Vec<Spanned<String>>>) -> Result<Vec<Argument>, String> {
    for entry in entries.iter().flatten() {
        if let Some(why) = refusal(&entry.value) {
            return Err(format!(
                "line {}: an entry of arguments is refused: {why}",
                entry.defined.line()
            ));
        }
    }

    list("arguments", "one word each", entries)
}

/// Describes a parser error with nothing of the file but a key.
fn describe(error: &YamlError) -> String {
    let what = match error.without_snippet() {
        YamlError::SerdeUnknownField { field, .. } => {
            format!(
                "unknown key '{}': the keys are port, overlays, arguments and config",
                shown(field)
            )
        }
        YamlError::SerdeMissingField { field, .. } => format!("'{field}' is missing"),
        YamlError::DuplicateMappingKey { .. } => "a key appears twice".to_owned(),
        YamlError::MultipleDocuments { .. } => "the file has more than one document".to_owned(),
        YamlError::Eof { .. } => {
            "there is nothing in it: port, overlays, arguments and config are needed".to_owned()
        }
        YamlError::InvalidScalar { .. }
        | YamlError::SerdeInvalidType { .. }
        | YamlError::SerdeInvalidValue { .. }
        | YamlError::Unexpected { .. } => {
            "a value is of the wrong kind: port is a number; overlays, \
             arguments and config are lists of text; put text with ': ' into quotes"
                .to_owned()
        }
        _ => "this is not the YAML of a spec file".to_owned(),
    };

    match error.location().map(|location| location.line()) {
        Some(line) if line > 0 => format!("line {line}: {what}"),
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::blueprint::ConfigLine;
    use proptest::prelude::*;

    #[test]
    fn a_complete_file_is_read_in_order() {
        let spec = parse(
            "port: 27015\noverlays: [b, a/c]\narguments:\n  - +map\n  - c1m1_hotel\n  - \
            8\nconfig:\n  - 'hostname \"x: y\"'\n  - 'sv_cheats 0'\n",
        )
        .unwrap();

        assert_eq!(spec.port, 27015);
        assert_eq!(
            spec.overlays
                .iter()
                .map(|overlay| overlay.as_str())
                .collect::<Vec<_>>(),
            ["b", "a/c"]
        );

        assert_eq!(
            spec.arguments
                .iter()
                .map(Argument::as_str)
                .collect::<Vec<_>>(),
            ["+map", "c1m1_hotel", "8"]
        );

        assert_eq!(
            spec.config
                .iter()
                .map(ConfigLine::as_str)
                .collect::<Vec<_>>(),
            ["hostname \"x: y\"", "sv_cheats 0"]
        );

        let least = parse("port: 27015\noverlays:\n").unwrap();
        assert!(least.overlays.is_empty() && least.arguments.is_empty() && least.config.is_empty());
    }

    #[test]
    fn an_error_names_the_line_and_shows_no_value() {
        for (text, line, word) in [
            ("port: 27015\nsecret_key: hunter2\n", 2, "secret_key"),
            ("port: hunter2\n", 1, "port"),
            ("port: 70000\n", 1, "port"),
            ("port: 80\n", 1, "1024"),
            ("port: -1\n", 1, "port"),
            ("port: 27015\nport: 27016\n", 2, "twice"),
            (
                "port: 27015\noverlays:\n  - ok\n  - ../hunter2\n",
                4,
                "overlays",
            ),
            ("port: 27015\noverlays:\n  - hunter2:x\n", 3, "overlays"),
            ("port: 27015\noverlays: hunter2\n", 2, "list"),
            (
                "port: 27015\narguments:\n  - \"hunter2\\nx\"\n",
                3,
                "arguments",
            ),
            (
                "port: 27015\narguments: [+hostport]\n",
                2,
                "left4me sets this argument itself",
            ),
            (
                "port: 27015\narguments:\n  - +x\n  - hunter2 -port 1\n",
                4,
                "configuration lines",
            ),
            ("port: 27015\nconfig:\n  - {hunter2: 1}\n", 3, "kind"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(&format!("line {line}:")) && error.contains(word),
                "{text:?}: {error}"
            );

            assert!(!error.contains("hunter2"), "{error}");
        }

        for text in [
            "",
            "hunter2",
            "- hunter2",
            "port: [",
            "\tport: 1",
            "port: 27015\n---\nport: 27016\n",
            "overlays: []\n",
            "port: *hunter2",
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                !error.contains("hunter2") && !error.contains('\n'),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn a_repeated_overlay_and_an_alias_bomb_are_refused() {
        assert!(parse("port: 27015\noverlays: [a, a]\n").is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(parse(&bomb).is_err());
    }

    proptest! {
        #[test]
        fn every_error_is_one_line(text in "[ -~\n\t\u{e4}]{0,200}|(port|overlays|config): \
                                            [ -~\n]{0,80}") {
            if let Err(error) = parse(&text) {
                prop_assert!(!error.contains('\n') && error.len() < 400, "{error}");
            }
        }
    }
}
