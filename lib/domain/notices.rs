//! Notices about blueprints that work but hide their servers from players, which the owner may not
//! have intended. Also finds the port of SourceTV, the second port of a server.

use crate::domain::blueprint::ConfigLine;
use crate::domain::console;
use crate::domain::launch::Argument;

/// SourceTV's default port, UDP.
pub const TV_PORT: u16 = 27020;

/// One line for each setting that hides a server from players.
pub fn of(arguments: &[Argument], config: &[ConfigLine]) -> Vec<String> {
    let mut notices = Vec::new();
    for (option, why) in [
        (
            "-insecure",
            "no VAC: players who search for secured servers do not find it, \
             and many refuse to join; some builds then answer no query, \
             and left4me sees no players",
        ),
        (
            "-nomaster",
            "it does not register with Steam: \
             players do not find it in the server browser or a lobby; \
             some builds then answer no query, and left4me sees no players",
        ),
    ] {
        if arguments
            .iter()
            .any(|argument| argument.as_str().eq_ignore_ascii_case(option))
        {
            notices.push(format!("the argument {option}: {why}"));
        }
    }

    let commands = commands(arguments, config);
    let value = |name: &str| commands.iter().rev().find(|command| command.is(name));
    if let Some(command) = value("sv_lan").filter(|command| command.is_on()) {
        notices.push(format!(
            "{}: sv_lan 1 lets only players of the local network join",
            command.whence
        ));
    }

    if let Some(command) = value("sv_master_legacy_mode")
        .or_else(|| value("sv_hidden"))
        .filter(|found| found.is_on())
    {
        notices.push(format!(
            "{}: {} takes the server out of lists",
            command.whence, command.name
        ));
    }

    notices
}

/// One line for each line that sets the RCON password, which left4me's own replaces. It does not
/// contain the password.
pub fn rcon_passwords(config: &[ConfigLine]) -> Vec<String> {
    let commands = commands(&[], config);
    commands
        .iter()
        .filter(|command| command.is("rcon_password"))
        .map(|command| {
            format!(
                "{}: rcon_password has no effect, because left4me sets one that nobody knows",
                command.whence
            )
        })
        .collect()
}

/// SourceTV's UDP port; none while it is off.
pub fn tv_port(arguments: &[Argument], config: &[ConfigLine]) -> Option<u16> {
    if arguments
        .iter()
        .any(|argument| argument.as_str().eq_ignore_ascii_case("-nohltv"))
    {
        return None;
    }

    let commands = commands(arguments, config);
    let last = |name: &str| commands.iter().rev().find(|command| command.is(name));
    last("tv_enable").filter(|command| command.is_on())?;

    // The engine binds the port before it reads server.cfg. A map that is loaded later has both.
    Some(
        last("tv_port")
            .and_then(|command| command.value.parse().ok())
            .unwrap_or(TV_PORT),
    )
}

/// A console command with its value, as the engine runs it.
struct Command {
    name: String,
    value: String,
    /// Where it is written, for the message.
    whence: String,
}

impl Command {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether its value is on. The engine reads a number; text is 0.
    fn is_on(&self) -> bool {
        let number: String = self
            .value
            .chars()
            .take_while(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
            .collect();
        number.parse::<f32>().is_ok_and(|number| number != 0.0)
    }
}

/// All commands in the order in which the engine runs them: those of the arguments, then those of
/// the lines.
fn commands(arguments: &[Argument], config: &[ConfigLine]) -> Vec<Command> {
    let mut commands = Vec::new();
    for (at, argument) in arguments.iter().enumerate() {
        let Some(name) = argument.as_str().strip_prefix('+') else {
            continue;
        };
        let value = arguments
            .get(at + 1)
            .map(Argument::as_str)
            .filter(|next| !next.starts_with(['+', '-']));
        let value = value.unwrap_or_default().to_owned();
        commands.push(Command {
            name: name.to_owned(),
            whence: format!("the argument +{name} {value}"),
            value,
        });
    }

    for (at, line) in config.iter().enumerate() {
        let whence = format!("configuration line {}", at + 1);
        let of_line = console::commands(line.as_str());
        commands.extend(of_line.map(|one| Command {
            name: one.name,
            value: one.value,
            whence: whence.clone(),
        }));
    }

    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str], config: &[&str]) -> (Vec<Argument>, Vec<ConfigLine>) {
        let arguments = arguments
            .iter()
            .map(|argument| argument.parse().unwrap())
            .collect();
        (
            arguments,
            config.iter().map(|line| line.parse().unwrap()).collect(),
        )
    }

    fn notices(arguments: &[&str], config: &[&str]) -> Vec<String> {
        let (arguments, config) = parsed(arguments, config);
        of(&arguments, &config)
    }

    fn tv(arguments: &[&str], config: &[&str]) -> Option<u16> {
        let (arguments, config) = parsed(arguments, config);
        tv_port(&arguments, &config)
    }

    #[test]
    fn what_hides_a_server_is_told_with_its_place() {
        assert_eq!(
            notices(
                &["+map", "c1m1_hotel"],
                &["hostname \"sv_lan 1\"", "// sv_lan 1", "sv_lan 0"]
            ),
            [] as [&str; 0]
        );

        for (arguments, config, words) in [
            (&["-Insecure"][..], &[][..], "argument -Insecure"),
            (&["-nomaster"], &[], "argument -nomaster"),
            (&["+sv_lan", "1"], &[], "argument +sv_lan 1"),
            (
                &[],
                &["hostname x", "sv_region 3; SV_LAN \"1\" // lan"],
                "configuration line 2",
            ),
            (
                &["+sv_lan", "0"],
                &["sm_cvar sv_lan 1"],
                "configuration line 1",
            ),
        ] {
            let told = notices(arguments, config);
            let lower = words.to_lowercase();
            assert!(
                told.len() == 1 && told[0].to_lowercase().contains(&lower),
                "{told:?}"
            );
        }

        assert!(
            notices(&["+sv_lan", "1"], &["sv_lan 0"]).is_empty(),
            "the line runs last"
        );
    }

    #[test]
    fn a_password_of_the_blueprints_own_is_told_without_the_password() {
        let told = |config: &[&str]| rcon_passwords(&parsed(&[], config).1);
        assert_eq!(
            told(&["// rcon_password x", "hostname \"rcon_password x\""]),
            [] as [&str; 0]
        );

        let lines = told(&[
            "",
            "RCON_Password \"hunter2\"",
            "a 1; sm_cvar rcon_password hunter2",
        ]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("configuration line 2: "), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains("hunter2")));
    }

    #[test]
    fn sourcetv_has_a_port_where_it_is_on() {
        assert_eq!(tv(&[], &["tv_port 27030"]), None);
        assert_eq!(tv(&["+tv_enable", "1"], &[]), Some(TV_PORT));
        assert_eq!(
            tv(&["+tv_enable", "1", "+tv_port", "27030"], &[]),
            Some(27030)
        );

        assert_eq!(
            tv(&["+tv_port", "27030"], &["tv_enable 1; tv_port \"27040\""]),
            Some(27040)
        );

        assert_eq!(tv(&["+tv_enable", "1"], &["tv_enable 0"]), None);
        assert_eq!(tv(&["-nohltv", "+tv_enable", "1"], &[]), None);
        assert_eq!(
            tv(&["+tv_enable", "1", "+tv_port", "x"], &[]),
            Some(TV_PORT)
        );
    }
}
