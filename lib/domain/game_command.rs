//! Commands for a running game's console: which are sent.

use crate::base::names::BadName;

/// The longest command, in bytes.
const LONGEST: usize = 500;

/// Whether a command may be sent to a game. The message does not contain the command.
pub fn check(command: &str) -> Result<(), BadName> {
    let refused = |why: &str| Err(BadName::new(format!("the command is refused: {why}")));
    if command.trim().is_empty() || command.len() > LONGEST {
        return refused("it is empty or longer than 500 bytes");
    }
    if command.contains(char::is_control) {
        return refused("it has a line break or another control character");
    }

    let mut is_quoted = false;
    for c in command.chars() {
        is_quoted ^= c == '"';
        if c == ';' && !is_quoted {
            return refused("';' begins another command");
        }
    }

    let first = command
        .split_whitespace()
        .next()
        .map(|word| word.trim_matches('"').to_ascii_lowercase());
    match first.as_deref() {
        Some("quit" | "exit" | "_restart" | "restart" | "killserver") => {
            refused("use stop or restart")
        }
        _ => Ok(()),
    }
}
