//! Launch arguments, checked against the game engine's own parser. All interfaces use this parser.
//!
//! systemd starts `srcds_linux` with exact arguments. The engine (`CCommandLine` in public copies
//! of Valve's tier0/commandline.cpp) then joins its argv into one line and parses that line again.
//! Newer copies put quotes around each argument, older ones do not. Both read more arguments from a
//! file where a word begins with `@`; the oldest do so wherever an `@` is. The buffer has 2,048
//! bytes, and no copy checks its end. So an argument is one word that every copy reads as the same
//! word.
//!
//! Words that begin with `+` are console commands (`stuffcmds` in public copies of the engine's
//! cmd.cpp). The name, and the next word as its value, form a line of the console, which `;` would
//! split.
//!
//! The behaviour of `srcds_run` is known from copies of Left 4 Dead 2's script in public
//! repositories: it sets `LD_LIBRARY_PATH=".:bin:$LD_LIBRARY_PATH"`, changes to its own directory,
//! adds `+map c1m1_hotel` where no map is named, and runs `./srcds_linux $*`. The unit and
//! [`words`] do the same. systemd does the rest of its work (a restart loop, updates, gdb, pid
//! files), so none of the script's options has an effect.

use serde::{Deserialize, Serialize};

use crate::base::names::{BadName, shown};

/// The most launch arguments. The engine takes 256 words, including its own name and left4me's
/// arguments.
pub const MAX_ARGUMENTS: usize = 200;

/// The longest launch argument, in bytes: a command and its value fit into one line of the console,
/// which has 512 (`COMMAND_MAX_LENGTH` in the public convar headers).
pub const MAX_WORD: usize = 250;

/// The longest command line, in bytes. The engine's buffer has 2,048, the last of them a NUL; this
/// leaves a margin.
const MAX_LINE: usize = 2000;

/// The arguments that the unit itself gives, with the longest port. `left4me-server@.service` has
/// the same words.
const OWN: [&str; 7] = [
    "-game",
    "left4dead2",
    "-strictportbind",
    "+ip",
    "0.0.0.0",
    "+hostport",
    "65535",
];

/// The longest path of the program, which is the first word of the engine's line.
const PROGRAM: usize = "/var/lib/left4me/runtime//merged/srcds_linux".len() + 64;

/// The quotes around each word, and the blank after it, in bytes.
const AROUND: usize = 3;

/// The map that `srcds_run` starts where no map is named. Without a map players cannot join.
const DEFAULT_MAP: [&str; 2] = ["+map", "c1m1_hotel"];

const OURS: &str = "left4me sets this argument itself; the port belongs to the server";
const SCRIPT: &str = "it belongs to srcds_run, which left4me does not run: \
                      systemd restarts a server that crashed, and an admin updates the game";
const LOG: &str =
    "it fills a file that is never emptied: the server's page and `l4d2ctl logs` show the console";
const SECRET: &str =
    "launch arguments are in the process list: put it into the configuration lines";

/// Words that are refused in any case and at any position, with the reason.
const RESERVED: &[(&str, &[&str])] = &[
    (
        OURS,
        &[
            "-game",
            "-vproject",
            "-basedir",
            "-defaultgamedir",
            "-strictportbind",
            "-insert_search_path",
        ],
    ),
    (
        OURS,
        &["-ip", "+ip", "-port", "+port", "-hostport", "+hostport"],
    ),
    (
        SCRIPT,
        &[
            "-norestart",
            "-autoupdate",
            "-steam_dir",
            "-steamcmd_script",
            "-steamerr",
            "-steamuser",
        ],
    ),
    (
        SCRIPT,
        &[
            "-steampass",
            "-binary",
            "-gdb",
            "-debug",
            "-debuglog",
            "-consolelog",
            "-fork",
            "-pidfile",
        ],
    ),
    (SCRIPT, &["-ignoresigint", "-notrap", "-timeout", "-help"]),
    (
        LOG,
        &["-condebug", "-conclearlog", "-conlogfile", "+con_logfile"],
    ),
    (SECRET, &["+rcon_password"]),
];

/// Commands whose value is a file below left4dead2/cfg.
const RUNS_A_FILE: [&str; 5] = [
    "+exec",
    "+execifexists",
    "+execwithwhitelist",
    "+servercfgfile",
    "+lservercfgfile",
];

/// One launch argument: a single word that left4me does not set itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Argument(String);

impl Argument {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Argument {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        match refusal(text) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(refused(text, why)),
        }
    }
}

impl TryFrom<String> for Argument {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Argument> for String {
    fn from(argument: Argument) -> String {
        argument.0
    }
}

/// Why one argument is refused, and what to do instead. The message does not contain the argument.
pub fn refusal(word: &str) -> Option<&'static str> {
    if word.is_empty() {
        return Some("it is empty");
    }

    if word.chars().any(char::is_control) {
        return Some("it has a control character or a line break");
    }

    // The length check comes later, so that a long sentence gets this message.
    if word.contains(char::is_whitespace) {
        return Some(
            "an argument is one word: give several words one by one, \
             and put text with spaces into the configuration lines, as in: hostname \"My server\"",
        );
    }

    if word.contains('"') {
        return Some(
            "it has a quote: put text in quotes into the configuration lines, \
             as in: hostname \"My server\"",
        );
    }

    if word.contains('@') {
        return Some(
            "the game reads more arguments from the file that follows '@': \
             put such text into the configuration lines",
        );
    }

    if word.contains([';', '\\']) {
        return Some(
            "';' begins another command, and '\\' is no part of a path here: \
             put such text into the configuration lines",
        );
    }

    if !word.is_ascii() {
        return Some(
            "only ASCII is passed on reliably: put other text into the configuration lines",
        );
    }

    if word.len() > MAX_WORD {
        return Some("at most 250 bytes are allowed: put longer text into the configuration lines");
    }

    if let Some(name) = word.strip_prefix('+')
        && (name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
    {
        return Some("'+' must be followed by the name of a command: letters, digits and '_'");
    }

    RESERVED
        .iter()
        .find(|(_, words)| is_one_of(word, words))
        .map(|(why, _)| *why)
}

/// Checks whether these arguments, each valid by itself, can be given together.
pub fn check(arguments: &[Argument]) -> Result<(), BadName> {
    if arguments.len() > MAX_ARGUMENTS {
        return Err(BadName::new(format!(
            "too many arguments: at most {MAX_ARGUMENTS} are allowed"
        )));
    }

    for pair in arguments.windows(2) {
        let [command, value] = pair else { continue };
        if is_one_of(command.as_str(), &RUNS_A_FILE) && !is_below_cfg(value.as_str()) {
            // The message leaves out the value: its reader may have no right to read that file.
            let why = "its value must be a file below left4dead2/cfg: \
                       put the file into an overlay's left4dead2/cfg, and give its path from there";
            return Err(refused(command.as_str(), why));
        }
    }

    let words = OWN
        .iter()
        .chain(&DEFAULT_MAP)
        .copied()
        .chain(arguments.iter().map(Argument::as_str));
    let line: usize = words.map(|word| word.len() + AROUND).sum();

    let room = MAX_LINE - PROGRAM - AROUND;
    if line > room {
        return Err(BadName::new(format!(
            "the arguments are too long together: {line} bytes with left4me's own, and {room} are \
             possible; put settings into the configuration lines"
        )));
    }

    Ok(())
}

/// Checks the words of a whole list, as a user left them in a row or a file. A server is started
/// with [`words`] of the result, because a file of an earlier version names no default map.
pub fn check_line<S: AsRef<str>>(
    words: impl IntoIterator<Item = S>,
) -> Result<Vec<Argument>, BadName> {
    let arguments: Vec<Argument> = words
        .into_iter()
        .map(|word| word.as_ref().parse())
        .collect::<Result<_, BadName>>()?;
    check(&arguments)?;
    Ok(arguments)
}

/// The words that follow left4me's own: the arguments, and the default map unless they name one.
pub fn words(arguments: &[Argument]) -> impl Iterator<Item = &str> {
    let names = |option: &str| {
        arguments
            .iter()
            .any(|argument| argument.as_str().eq_ignore_ascii_case(option))
    };

    let add = if names("+map") || names("-nodefaultmap") {
        0
    } else {
        DEFAULT_MAP.len()
    };

    arguments
        .iter()
        .map(Argument::as_str)
        .chain(DEFAULT_MAP.into_iter().take(add))
}

fn refused(text: &str, why: &str) -> BadName {
    BadName::new(format!("argument '{}' is refused: {why}", shown(text)))
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// A word that begins with `+` or `-` is no value, for the engine too. `:` and `//` name another
/// search path.
fn is_below_cfg(value: &str) -> bool {
    let is_option = value.starts_with(['+', '-']);
    let stays = !value.starts_with('/') && !value.contains([':', '\\']) && !value.contains("//");
    is_option || stays && value.split('/').all(|part| part != "." && part != "..")
}

#[cfg(test)]
mod tests;
