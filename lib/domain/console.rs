//! Splits a line of a configuration file into console commands, as the game's console does.

/// A console command and its first value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its name, spelled as in the line.
    pub name: String,
    pub value: String,
}

/// The commands of one line that have a value. `sm_cvar NAME VALUE` is SourceMod's way to set a
/// variable that the engine hides; it counts as a command that sets NAME.
pub fn commands(line: &str) -> impl Iterator<Item = Command> {
    split(line).into_iter().filter_map(|command| {
        let mut words = command
            .split_whitespace()
            .map(|word| word.trim_matches('"'));
        let first = words.next()?;
        let name = if first.eq_ignore_ascii_case("sm_cvar") {
            words.next()?
        } else {
            first
        };

        Some(Command {
            name: name.to_owned(),
            value: words.next()?.to_owned(),
        })
    })
}

/// Outside of quotes, `;` separates commands and `//` starts a comment.
fn split(line: &str) -> Vec<String> {
    let (mut commands, mut command, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if !is_quoted && rest.peek() == Some(&'/') => break,
            ';' if !is_quoted => commands.push(std::mem::take(&mut command)),
            c => {
                is_quoted ^= c == '"';
                command.push(c);
            }
        }
    }

    commands.push(command);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_a_text_together_and_comments_set_nothing() {
        let of = |line: &str| {
            commands(line)
                .map(|one| format!("{}={}", one.name, one.value))
                .collect::<Vec<_>>()
        };

        assert_eq!(
            of("hostname \"a; sv_lan 1\"; sv_region 3 // sv_lan 1"),
            ["hostname=a;", "sv_region=3"]
        );

        assert_eq!(
            of("SM_Cvar z_difficulty \"Hard\"; status; sm_cvar x"),
            ["z_difficulty=Hard"]
        );

        assert_eq!(of("motd \"https://example.org\"").len(), 1);
        assert!(of("// x 1").is_empty() && of("").is_empty());
    }
}
