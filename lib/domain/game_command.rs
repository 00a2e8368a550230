//! Commands for a running game's console: which are sent, and how those for a player or with a
//! text are written.
//!
//! The engine splits its input at line breaks and, outside of double quotes, at `;` (`CCommandBuffer`
//! and `CCommand::Tokenize` in public copies of the engine). So one request is one command here, and
//! a text that people enter never leaves its place in it.
//!
//! The refusals guard against accidents, not against the server's owner: a plugin or a
//! configuration file can run every command.

use crate::base::names::{BadName, shown};
use crate::base::visible;
use crate::domain::status::SteamId;

/// The longest command, in bytes. The engine's line has 512 (`COMMAND_MAX_LENGTH` in the public
/// convar headers).
pub const LONGEST: usize = 500;

/// The longest text in a command, in bytes.
pub const LONGEST_TEXT: usize = 250;

/// The longest ban, in minutes: ten years. 0 is for ever.
pub const LONGEST_BAN: u32 = 5_256_000;

/// Commands that end the game. systemd would take that for a crash, or start it again.
const ENDS_THE_GAME: [&str; 7] = [
    "quit",
    "exit",
    "_restart",
    "restart",
    "killserver",
    "sv_shutdown",
    "disconnect",
];

/// Commands that run what follows them as a command.
const RUNS_THE_REST: [&str; 2] = ["sm_rcon", "rcon"];

/// Commands whose words are the name of a setting, or begin with it.
const NAMES_A_SETTING: [&str; 9] = [
    "sm_cvar",
    "sm_resetcvar",
    "incrementvar",
    "multvar",
    "toggle",
    "setinfo",
    "help",
    "find",
    "cvarlist",
];

const STOP: &str = "it would end the game behind systemd's back: use stop or restart";
const PASSWORD: &str =
    "left4me sets the password of the console itself: use `left4me server rotate-rcon`";

/// Whether a command may be sent to a game. The message does not contain the command.
pub fn check(command: &str) -> Result<(), BadName> {
    match refusal(command) {
        None => Ok(()),
        Some(why) => Err(BadName::new(format!("the command is refused: {why}"))),
    }
}

fn refusal(command: &str) -> Option<&'static str> {
    if command.trim().is_empty() {
        return Some("it is empty");
    }

    if command.len() > LONGEST {
        return Some("it is longer than 500 bytes");
    }

    if command.contains(char::is_control) {
        return Some(
            "it has a line break or another control character: send one command at a time",
        );
    }

    let mut is_quoted = false;
    for c in command.chars() {
        is_quoted ^= c == '"';
        if c == ';' && !is_quoted {
            return Some("';' begins another command: send one command at a time");
        }
    }

    not_by_console(command)
}

/// Why one of the commands in `text` has a better way.
fn not_by_console(text: &str) -> Option<&'static str> {
    let words = words(text);
    let first = words.first()?.to_ascii_lowercase();
    let rest = |from: usize| words.get(from..).unwrap_or_default().join(" ");

    if ENDS_THE_GAME.contains(&first.as_str()) {
        return Some(STOP);
    }

    if is_rcon_setting(&first) {
        return Some(PASSWORD);
    }

    if RUNS_THE_REST.contains(&first.as_str()) {
        return rest(1).split(';').find_map(not_by_console);
    }

    if first == "alias" {
        return rest(2).split(';').find_map(not_by_console);
    }

    let mut settings = words.iter().skip(1).map(|word| word.to_ascii_lowercase());
    (NAMES_A_SETTING.contains(&first.as_str()) && settings.any(|word| is_rcon_setting(&word)))
        .then_some(PASSWORD)
}

fn is_rcon_setting(word: &str) -> bool {
    word == "rcon_password" || word.starts_with("sv_rcon")
}

/// The words of a command as the engine reads them: a quote begins a word and ends it, `//` begins
/// a comment.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if !is_quoted && rest.peek() == Some(&'/') => break,
            '"' => {
                is_quoted = !is_quoted;
                words.push(std::mem::take(&mut word));
            }
            c if !is_quoted && c.is_whitespace() => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }

    words.push(word);
    let is_word = |word: &String| !word.trim().is_empty();
    let words = words.into_iter().filter(is_word);
    words.map(|word| word.trim().to_owned()).collect()
}

/// A text as it can stand in a command: without quotes, `;`, line breaks, control and invisible
/// characters, and at most [`LONGEST_TEXT`] bytes.
pub fn say_text(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let (mut before, mut rest) = (None, text.chars().peekable());
    while let Some(c) = rest.next() {
        let c = match c {
            '"' => continue,
            ';' => ' ',
            c if c.is_control() || c.is_whitespace() || matches!(c, '\u{2028}' | '\u{2029}') => ' ',
            c if visible::is_deceptive(before, c, rest.peek().copied()) => continue,
            c => c,
        };

        if c == ' ' && clean.ends_with([' ']) {
            continue;
        }

        clean.push(c);
        before = Some(c);
    }

    let clean = clean.trim();
    clean[..clean.floor_char_boundary(LONGEST_TEXT)]
        .trim_end()
        .to_owned()
}

/// Says a text to all players.
pub fn say(text: &str) -> Result<String, BadName> {
    let text = say_text(text);
    if text.is_empty() {
        return Err(BadName::new("there is nothing to say".to_owned()));
    }
    Ok(format!("say {text}"))
}

/// Changes the map. The players stay.
pub fn change_map(map: &str) -> Result<String, BadName> {
    let is_plain = |part: &str| {
        let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        !part.is_empty() && part.bytes().all(is_part) && !part.starts_with(['.', '-'])
    };

    if map.len() > 128 || !map.split('/').all(is_plain) {
        return Err(BadName::new(format!(
            "'{}' is no name of a map: letters, digits, '_', '-' and '.', as in c1m1_hotel",
            shown(map)
        )));
    }

    Ok(format!("changelevel {map}"))
}

/// Removes a player from the game. `user_id` is the number in `status`, which no other player gets
/// while the game runs.
pub fn kick(user_id: u32, reason: &str) -> String {
    let reason = say_text(reason);
    format!("kickid {user_id} {reason}").trim_end().to_owned()
}

/// Bans a Steam account for some minutes, or for ever with 0. Not in quotes: public copies of the
/// engine put the parts between the colons together again, and take a word in quotes apart.
pub fn ban(id: &SteamId, minutes: u32) -> Result<String, BadName> {
    if minutes > LONGEST_BAN {
        return Err(BadName::new(format!(
            "a ban takes at most {LONGEST_BAN} minutes; without --minutes it is for ever"
        )));
    }
    Ok(format!("banid {minutes} {id}"))
}

/// Lifts a ban.
pub fn unban(id: &SteamId) -> String {
    format!("removeid {id}")
}

/// Writes the bans that are for ever into the game's banned_user.cfg.
pub const WRITE_BANS: &str = "writeid";

/// Asks who plays.
pub const STATUS: &str = "status";

/// Asks the game to change to a map that it does not have, as its answer says.
pub fn is_no_such_map(answer: &str) -> bool {
    let answer = answer.to_ascii_lowercase();
    answer.contains("map load failed")
        || answer.contains("changelevel failed")
        || answer.contains("changelevel2 failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(command: &str) -> String {
        check(command).unwrap_err().to_string()
    }

    #[test]
    fn one_ordinary_command_is_sent_as_it_is() {
        for good in [
            "status",
            "say hello; is not two",
            "say \"a; b\"",
            "sm_cvar z_difficulty Hard",
            "changelevel c1m1_hotel",
            "hostname \"Größe №1\"",
            "say we restart at five, do not quit",
            "alias hi \"say hi; say there\"",
            "find z_",
            &"x".repeat(LONGEST),
        ] {
            let one = !good.starts_with("say hello;");
            assert_eq!(check(good).is_ok(), one, "{good}");
        }
    }

    #[test]
    fn a_second_command_in_the_line_is_refused() {
        for bad in [
            "say a\nquit",
            "say a\rquit",
            "say a\0",
            "say \u{1b}[2J",
            "say a\u{85}b",
        ] {
            assert!(why(bad).contains("line break"), "{bad:?}");
        }

        for bad in ["say a; quit", ";", "say \"a\"; status", "say \"a\" \"b\";x"] {
            assert!(why(bad).contains("';'"), "{bad:?}");
        }

        assert!(why(" \u{a0} ").contains("empty"));
        assert!(why(&"ä".repeat(251)).contains("500 bytes"));
        assert!(why(&"x".repeat(10 * 1024)).len() < 100);
    }

    #[test]
    fn what_ends_the_game_is_refused_however_it_is_written() {
        for bad in [
            "quit",
            "  QUIT  ",
            "\"quit\"",
            "\"\"quit",
            "\" quit \" now",
            "quit//now",
            "quit\"now\"",
            "exit",
            "_restart",
            "Restart 1",
            "killserver",
            "sm_rcon quit",
            "sm_rcon \"say bye; exit\"",
            "sm_rcon sm_rcon \"_restart\"",
            "rcon killserver",
            "alias bye quit",
            "alias bye \"say bye; quit\"",
            "alias bye \"sm_rcon exit\"",
        ] {
            assert!(why(bad).contains("use stop or restart"), "{bad}");
        }
    }

    #[test]
    fn the_consoles_password_is_neither_set_nor_asked_for() {
        for bad in [
            "rcon_password",
            "rcon_password x",
            "\"RCON_Password\" x",
            "sv_rcon_maxfailures 1",
            "sm_cvar rcon_password x",
            "sm_cvar sv_rcon_banpenalty 0",
            "sm_rcon rcon_password x",
            "alias x rcon_password y",
            "find rcon_password",
            "help \"rcon_password\"",
        ] {
            let why = why(bad);
            assert!(why.contains("rotate-rcon") && !why.contains(" x"), "{bad}");
        }
    }

    #[test]
    fn a_text_keeps_its_words_and_loses_what_could_end_it() {
        for (text, said) in [
            ("hello", "hello"),
            ("  a\r\n b\t c ", "a b c"),
            ("say \"hi\"; quit", "say hi quit"),
            ("\u{1b}[31mred\u{7}", "[31mred"),
            ("ab\u{202e}cd\u{2066}\u{200b}\u{feff}", "abcd"),
            (
                "می\u{200c}خواهم 漢 ❤\u{fe0f}",
                "می\u{200c}خواهم 漢 ❤\u{fe0f}",
            ),
            ("\";\"", ""),
        ] {
            assert_eq!(say_text(text), said, "{text:?}");
        }

        assert_eq!(say_text(&"漢".repeat(200)), "漢".repeat(83));
        assert_eq!(
            say(" \"\n").unwrap_err().to_string(),
            "there is nothing to say"
        );
        assert_eq!(say("hi").unwrap(), "say hi");
    }

    #[test]
    fn a_map_is_one_plain_name() {
        assert_eq!(change_map("c1m1_hotel").unwrap(), "changelevel c1m1_hotel");
        assert!(change_map("workshop/123.ugc").is_ok());
        let long = "m".repeat(129);
        for bad in [
            "", "a b", "a;quit", "../a", "a//b", "/a", "a\n", "\"a\"", "-a", "ä", &long,
        ] {
            assert!(change_map(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn players_are_kicked_by_number_and_banned_by_steam_id() {
        let id: SteamId = "steam_1:0:77".parse().unwrap();
        assert_eq!(kick(12, ""), "kickid 12");
        assert_eq!(kick(12, "afk; \"quit\"\nexit"), "kickid 12 afk quit exit");
        assert_eq!(ban(&id, 60).unwrap(), "banid 60 STEAM_1:0:77");
        assert!(ban(&id, LONGEST_BAN + 1).is_err());
        assert_eq!(unban(&id), "removeid STEAM_1:0:77");
        assert!(is_no_such_map("changelevel failed: x not found\n"));
    }

    proptest! {
        #[test]
        fn whatever_people_say_or_give_as_a_reason_stays_one_command(text in ".{0,300}", hard in "[;\"\\n\\r\0 a-z\u{202e}]{0,60}") {
            for text in [&text, &hard] {
                if let Ok(command) = say(text) {
                    prop_assert!(check(&command).is_ok(), "{:?}", command);
                    prop_assert!(!command.contains(['"', ';', '\n', '\r', '\0']));
                }
                prop_assert!(check(&kick(u32::MAX, text)).is_ok());
            }
        }

        #[test]
        fn no_command_that_is_sent_begins_with_a_refused_word(
            before in "(| |\t|\"\" ?|  )", name in "(quit|exit|_restart|killserver|rcon_password|QUIT)",
            is_quoted: bool, after in "(| .{0,10}|\".{0,10}|//.{0,10})"
        ) {
            let quote = if is_quoted { "\"" } else { "" };
            let command = format!("{before}{quote}{name}{quote}{after}");
            prop_assert!(check(&command).is_err(), "{:?}", command);
        }
    }
}
