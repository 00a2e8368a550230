//! Converts launch arguments from versions that allowed several words in one argument.
//!
//! Text with spaces becomes a configuration line. `srcds_run` split it, and the engine took only
//! its first word, so the line is what its author meant. The new lines come before the existing
//! ones. The engine runs the commands of its command line first (`stuffcmds`), and server.cfg when
//! a map is loaded (`Executing dedicated server config file` in the public game rules). So an
//! existing configuration line took precedence before, and still does.

use crate::base::names::shown;
use crate::domain::blueprint::{ConfigLine, MAX_CONFIG_LINES};
use crate::domain::launch::{Argument, refusal};

/// A blueprint after the conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Its arguments. Those that could not be converted are unchanged.
    pub arguments: Vec<String>,
    pub config: Vec<String>,
    /// What was done, one message per change. Values are left out: one may be a password.
    pub changes: Vec<String>,
}

/// Settings whose value may be set at each map load, as server.cfg does. A name that ends with `_`
/// stands for all names that begin with it. A command such as `map` is not in the list, because
/// server.cfg would run it at each map load.
const SETTINGS: [&str; 9] = [
    "hostname",
    "rcon_password",
    "sv_",
    "mp_",
    "tv_",
    "z_",
    "director_",
    "survivor_",
    "motd_",
];

/// Signs the server in once, before the first map, so it cannot be a configuration line.
const NOT_A_SETTING: &str = "sv_setsteamaccount";

/// Options that only `srcds_run` obeyed, or that fill a log file, and whether a value follows them.
/// A server plays the same without them.
const DROPPED: [(&str, bool); 17] = [
    ("-condebug", false),
    ("-conclearlog", false),
    ("-conlogfile", true),
    ("-norestart", false),
    ("-autoupdate", false),
    ("-steam_dir", true),
    ("-steamcmd_script", true),
    ("-steamerr", false),
    ("-binary", true),
    ("-gdb", true),
    ("-debug", false),
    ("-debuglog", true),
    ("-consolelog", true),
    ("-pidfile", true),
    ("-ignoresigint", false),
    ("-notrap", false),
    ("-timeout", true),
];

/// Converts the arguments that are refused and have a replacement; none when there are none.
pub fn convert(arguments: &[String], config: &[String]) -> Option<Converted> {
    let mut upgrade = Upgrade {
        rest: arguments,
        ..Upgrade::default()
    };

    while let Some((first, rest)) = upgrade.rest.split_first() {
        upgrade.rest = rest;
        upgrade.take(first);
    }

    let has_room = config.len() + upgrade.lines.len() <= MAX_CONFIG_LINES;
    if upgrade.changes.is_empty() || !has_room {
        return None;
    }

    upgrade.lines.extend_from_slice(config);
    Some(Converted {
        arguments: upgrade.kept,
        config: upgrade.lines,
        changes: upgrade.changes,
    })
}

#[derive(Default)]
struct Upgrade<'a> {
    rest: &'a [String],
    kept: Vec<String>,
    lines: Vec<String>,
    changes: Vec<String>,
}

impl Upgrade<'_> {
    fn take(&mut self, argument: &str) {
        let text = argument.trim();
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if !(self.became_line(name, value.trim())
            || self.is_dropped(text)
            || self.was_split(argument))
        {
            self.kept.push(argument.to_owned());
        }
    }

    /// Converts `+setting` and a value that is refused as an argument, in one argument or in
    /// several.
    fn became_line(&mut self, name: &str, value: &str) -> bool {
        let Some(setting) = name.strip_prefix('+').filter(|setting| is_setting(setting)) else {
            return false;
        };
        let (value, taken) = if value.is_empty() {
            self.following()
        } else {
            (value.to_owned(), 0)
        };

        let is_needed = refusal(name).is_some() || refusal(&value).is_some();
        let Some(line) = config_line(setting, &value).filter(|_| is_needed) else {
            return false;
        };

        if self.would_join(taken) {
            return false;
        }

        self.rest = self.rest.get(taken..).unwrap_or_default();
        self.lines.push(line);
        self.changes
            .push(format!("'{}' is now a configuration line", shown(name)));
        true
    }

    /// Whether removing the next `taken` words would make the word after them the value of the last
    /// one that is kept.
    fn would_join(&self, taken: usize) -> bool {
        is_value(self.rest.get(taken))
            && self
                .kept
                .last()
                .is_some_and(|last| last.starts_with(['+', '-']))
    }

    /// The value that follows a setting, and how many arguments it spans: several when a quoted
    /// text with spaces was given word by word.
    fn following(&self) -> (String, usize) {
        let Some(first) = self.rest.first() else {
            return (String::new(), 0);
        };
        let first = first.trim();
        let is_open = first.starts_with('"') && (first.len() == 1 || !first.ends_with('"'));

        let close = self
            .rest
            .iter()
            .skip(1)
            .position(|word| word.trim_end().ends_with('"'));
        match close.filter(|_| is_open) {
            Some(at) => (self.rest[..at + 2].join(" "), at + 2),
            None if first.starts_with(['+', '-']) => (String::new(), 0),
            None => (first.to_owned(), 1),
        }
    }

    fn is_dropped(&mut self, word: &str) -> bool {
        let Some((_, has_value)) = DROPPED
            .iter()
            .find(|(known, _)| word.eq_ignore_ascii_case(known))
        else {
            return false;
        };

        let taken = usize::from(*has_value && is_value(self.rest.first()));
        if self.would_join(taken) {
            return false;
        }

        self.rest = &self.rest[taken..];
        self.changes
            .push(format!("'{}' was removed: it has no effect", shown(word)));

        true
    }

    /// Splits several harmless words in one argument: the engine read them one by one.
    fn was_split(&mut self, argument: &str) -> bool {
        let words: Vec<&str> = argument.split_whitespace().collect();
        let is_one = words.len() == 1 && words.first() == Some(&argument);
        if is_one || words.is_empty() || words.iter().any(|word| word.parse::<Argument>().is_err())
        {
            return false;
        }

        self.kept.extend(words.into_iter().map(str::to_owned));
        self.changes.push(format!(
            "'{}' is now one argument per word",
            shown(argument)
        ));

        true
    }
}

fn is_value(next: Option<&String>) -> bool {
    next.is_some_and(|next| !next.trim_start().starts_with(['+', '-']))
}

fn is_setting(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let is_known = SETTINGS.iter().any(|known| {
        if known.ends_with('_') {
            name.starts_with(known)
        } else {
            name == *known
        }
    });

    is_word && is_known && name != NOT_A_SETTING
}

/// `name "value"`; none for a value that cannot be quoted, or that is longer than a line of the
/// console.
fn config_line(name: &str, value: &str) -> Option<String> {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value);
    let line = format!("{name} \"{inner}\"");
    let is_held = !inner.is_empty()
        && !inner.contains('"')
        && line.len() < 512
        && line.parse::<ConfigLine>().is_ok();
    is_held.then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::launch::check_line;
    use proptest::prelude::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[track_caller]
    fn becomes(arguments: &[&str], kept: &[&str], lines: &[&str]) {
        let converted =
            convert(&texts(arguments), &texts(&["sv_cheats 0"])).expect("something to convert");
        assert_eq!(converted.arguments, texts(kept));
        assert_eq!(
            converted.config,
            [texts(lines), texts(&["sv_cheats 0"])].concat(),
            "they come first"
        );

        assert!(!converted.changes.is_empty());
    }

    #[track_caller]
    fn stays(arguments: &[&str]) {
        assert_eq!(convert(&texts(arguments), &[]), None, "{arguments:?}");
    }

    #[test]
    fn text_with_spaces_becomes_a_configuration_line() {
        becomes(
            &["+hostname", "Bob's server", "+map", "c2"],
            &["+map", "c2"],
            &["hostname \"Bob's server\""],
        );

        becomes(
            &["+hostname", "\"My server\""],
            &[],
            &["hostname \"My server\""],
        );

        becomes(
            &["+hostname", "\"My", "big", "server\"", "-x"],
            &["-x"],
            &["hostname \"My big server\""],
        );

        becomes(&["+SV_tags", "a; b"], &[], &["SV_tags \"a; b\""]);
        becomes(&["+hostname", "Größe"], &[], &["hostname \"Größe\""]);
        becomes(&["+hostname My server"], &[], &["hostname \"My server\""]);
    }

    #[test]
    fn a_password_leaves_the_process_list_and_is_not_told() {
        becomes(
            &["+rcon_password", "hunter2", "+map", "x"],
            &["+map", "x"],
            &["rcon_password \"hunter2\""],
        );

        let converted = convert(&texts(&["+rcon_password", "hunter2"]), &[]).unwrap();
        assert!(
            !converted.changes.concat().contains("hunter2"),
            "{converted:?}"
        );
    }

    #[test]
    fn several_harmless_words_become_several_arguments() {
        becomes(
            &["-x y", "+map c1m1_hotel"],
            &["-x", "y", "+map", "c1m1_hotel"],
            &[],
        );

        becomes(
            &["+map", "c1m1 hotel", " +x "],
            &["+map", "c1m1", "hotel", "+x"],
            &[],
        );
    }

    #[test]
    fn what_only_srcds_run_obeyed_is_dropped() {
        becomes(&["-debug", "-pidfile", "x.pid", "-map"], &["-map"], &[]);
        becomes(
            &[
                "-autoupdate",
                "-steam_dir",
                ".",
                "-steamcmd_script",
                "x;id;",
            ],
            &[],
            &[],
        );

        becomes(&["-timeout", "-debug"], &[], &[]);
        stays(&["+hostname", "-debug", "x"]);
        stays(&["+map", "+hostname", "\"a\"", "x"]);
    }

    #[test]
    fn what_is_good_or_cannot_be_had_otherwise_stays() {
        for good in [
            &["+map", "c1m1_hotel"][..],
            &["+hostname", "x"],
            &["-tickrate", "60"],
            &["***"],
            &[],
        ] {
            stays(good);
        }

        for left in [
            &["x -port 27001 -ip 127.0.0.1"][..],
            &["@file"],
            &["+map", "\"a b\""],
            &["+exec", "../x"],
            &["+hostname", "a\"b c"],
            &["+hostname", "\"never closed"],
            &["+sv_setsteamaccount", "a b@c"],
            &["-game", "x"],
            &["+rcon_password"],
            &["+rcon_password", "-x"],
        ] {
            let before = texts(left);
            let after = convert(&before, &[]).map_or(before, |converted| converted.arguments);
            assert!(
                check_line(&after).is_err(),
                "it is still refused: {left:?} {after:?}"
            );
        }
    }

    #[test]
    fn a_blueprint_without_room_for_the_lines_stays() {
        assert_eq!(
            convert(
                &texts(&["+hostname", "a b"]),
                &vec![String::new(); MAX_CONFIG_LINES]
            ),
            None
        );
    }

    proptest! {
        #[test]
        fn a_second_time_nothing_is_left_to_convert_and_good_arguments_stay(
            given in proptest::collection::vec("[ \
                                               -~]{0,12}|[-+](hostname|map|debug|rcon_password)|\"[a-z ]{0,5}\"?", 0..8),
        ) {
            if check_line(&given).is_ok() {
                prop_assert_eq!(convert(&given, &[]), None);
            }
            if let Some(once) = convert(&given, &[]) {
                prop_assert_eq!(convert(&once.arguments, &once.config), None);
            }
        }
    }
}
