//! Settings. A flag overrides the environment, the environment overrides /etc/left4me/left4me.env,
//! and that file overrides the default. A bad value is an error that names the setting, before the
//! program starts anything.

mod alerts;
mod env_file;
mod fleet;
mod known;
mod programs;
mod retention;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use tracing::level_filters::LevelFilter;

pub use alerts::{AlertsSocket, MailServer, NotifySettings, NotifySocket};
pub use env_file::{Assignment, EnvFile, Fault};
pub use fleet::{AskSocket, FleetSettings, LinkSettings};
pub use known::{KnownSetting, settings};
pub use programs::{
    BuildMode, BuildSettings, SteamSettings, Steamcmd, WebSettings, WorkerSettings,
};
pub use retention::RetentionSettings;

use super::{Error, Exit};
use programs::whole;

/// The settings file of all programs: one LEFT4ME_…=value per line.
const SETTINGS_FILE: &str = "/etc/left4me/left4me.env";

/// The path of the database within the data directory.
pub const DATABASE: &str = "db/left4me.db";

/// The default path of the database in older versions. Their settings file names it.
const FORMER_DATABASE: &str = "/var/lib/left4me/left4me.db";

/// Where everything is. Part of every program's settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Paths {
    /// Directory of all data
    #[arg(long, global = true, env = "LEFT4ME_ROOT", value_name = "LEFT4ME_ROOT", default_value = "/var/lib/left4me",
          value_parser = absolute, hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub root: PathBuf,
    /// The database file [default: LEFT4ME_ROOT/db/left4me.db]
    #[arg(long, global = true, env = "LEFT4ME_DB", value_name = "LEFT4ME_DB", value_parser = absolute,
          hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub db: Option<PathBuf>,
}

impl Paths {
    /// The path of the database file. The file has a directory of its own, so that only that
    /// directory has to be writable for the group. The default of older versions counts as unset:
    /// left4me can no longer write there.
    pub fn database(&self) -> PathBuf {
        match (self.root_with_database(), &self.db) {
            (None, Some(path)) => path.clone(),
            (root, _) => root.unwrap_or(&self.root).join(DATABASE),
        }
    }

    /// The data directory if the database is in its usual place below it; none if LEFT4ME_DB names
    /// another place.
    pub fn root_with_database(&self) -> Option<&Path> {
        match &self.db {
            None => Some(&self.root),
            Some(path) if path == Path::new(FORMER_DATABASE) => path.parent(),
            Some(_) => None,
        }
    }
}

/// The socket that wakes the worker.
#[derive(clap::Args, Clone, Debug)]
pub struct WorkerSocket {
    /// Datagram socket that wakes the worker
    #[arg(long, global = true, env = "LEFT4ME_WORKER_SOCKET", value_name = "LEFT4ME_WORKER_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/worker.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub worker_socket: PathBuf,
}

/// The sockets behind which foreign and privileged commands run.
#[derive(clap::Args, Clone, Debug)]
pub struct CommandSockets {
    /// Socket of the privileged helper
    #[arg(long, global = true, env = "LEFT4ME_HELPER_SOCKET", value_name = "LEFT4ME_HELPER_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/helper.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub helper_socket: PathBuf,
    /// Socket of the runner, which runs steamcmd
    #[arg(long, global = true, env = "LEFT4ME_RUNNER_SOCKET", value_name = "LEFT4ME_RUNNER_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/runner.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub runner_socket: PathBuf,
    /// Socket of the publisher, which copies the game's builds
    #[arg(long, global = true, env = "LEFT4ME_PUBLISHER_SOCKET", value_name = "LEFT4ME_PUBLISHER_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/publisher.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub publisher_socket: PathBuf,
}

/// The socket that makes systemd's timers follow the schedules.
#[derive(clap::Args, Clone, Debug)]
pub struct SchedulesSocket {
    /// Datagram socket that makes systemd's timers follow the schedules
    #[arg(long, global = true, env = "LEFT4ME_SCHEDULES_SOCKET", value_name = "LEFT4ME_SCHEDULES_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/schedules.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub schedules_socket: PathBuf,
}

/// The socket of the program that talks to running games.
#[derive(clap::Args, Clone, Debug)]
pub struct ConsoleSocket {
    /// Socket of left4me-console, which talks to running games
    #[arg(long, global = true, env = "LEFT4ME_CONSOLE_SOCKET", value_name = "LEFT4ME_CONSOLE_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/console.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub console_socket: PathBuf,
}

/// The log level.
#[derive(clap::Args, Clone, Debug)]
pub struct Logging {
    /// Log level: off, error, warn, info, debug or trace
    #[arg(
        long,
        global = true,
        env = "LEFT4ME_LOG",
        value_name = "LEFT4ME_LOG",
        default_value = "info",
        hide_env_values = true,
        help_heading = "Settings",
        hide_short_help = true
    )]
    pub log: LevelFilter,
}

/// How long an ended command may take before it is killed.
#[derive(clap::Args, Clone, Debug)]
pub struct Grace {
    /// Grace time of a cancellation: seconds from SIGTERM to SIGKILL
    #[arg(long, global = true, env = "LEFT4ME_CANCEL_GRACE_SECONDS", value_name = "LEFT4ME_CANCEL_GRACE_SECONDS", default_value = "10",
          value_parser = whole(0..=3600), hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub cancel_grace_seconds: u32,
}

impl Grace {
    /// The grace period as a duration.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.cancel_grace_seconds.into())
    }
}

/// How often a cancellation tries again to remove temporary files.
#[derive(clap::Args, Clone, Debug)]
pub struct CleanRetry {
    /// Seconds before each further attempt to remove a cancelled task's temporary files
    #[arg(long, global = true, env = "LEFT4ME_CLEAN_RETRY_SECONDS", value_name = "LEFT4ME_CLEAN_RETRY_SECONDS",
          default_value = "0.1,0.5,2,3,4", value_parser = pauses, hide_env_values = true,
          help_heading = "Settings", hide_short_help = true)]
    pub clean_retry_seconds: Pauses,
}

/// Pauses between tries, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses(pub Vec<Duration>);

impl Pauses {
    /// The sum of all pauses.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

/// The longest allowed sum of the pauses, because a worker that stops waits for them.
const LONGEST_PAUSES: Duration = Duration::from_secs(15);

fn pauses(text: &str) -> Result<Pauses, String> {
    let number = |part: &str| {
        let plain = part
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        part.parse::<f64>()
            .ok()
            .filter(|_| plain)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    };

    let parsed: Option<Vec<Duration>> = text.split(',').map(|part| number(part.trim())).collect();

    let total = |all: &[Duration]| {
        all.iter()
            .try_fold(Duration::ZERO, |sum, one| sum.checked_add(*one))
    };

    match parsed {
        Some(all) if total(&all).is_some_and(|total| total <= LONGEST_PAUSES) => Ok(Pauses(all)),
        _ => Err(
            "seconds separated by commas are needed, together at most 15, as in 0.1,0.5,2,3,4"
                .to_owned(),
        ),
    }
}

/// How often the poller looks. systemd's generator gives it to left4me-poller.timer, and takes 30
/// for a bad value: so a bad one is a finding of the doctor, and stops no program.
#[derive(clap::Args, Clone, Debug)]
pub struct PollSeconds {
    /// Seconds between two polls of all servers
    #[arg(
        long,
        env = "LEFT4ME_POLL_SECONDS",
        value_name = "LEFT4ME_POLL_SECONDS",
        default_value = "30",
        hide_env_values = true,
        help_heading = "Settings",
        hide_short_help = true
    )]
    pub poll_seconds: String,
}

impl PollSeconds {
    /// The number, by the same rules as systemd's generator.
    ///
    /// Fails with 2, with the setting's name, for anything but a number from 1 to 3600.
    pub fn number(&self) -> crate::base::Result<u32> {
        let text = self.poll_seconds.as_str();
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=3600).contains(number) && !text.starts_with(['0', '+']));
        number.ok_or_else(|| {
            let shown = crate::base::names::shown(text);
            crate::base::Error::usage(format!(
                "LEFT4ME_POLL_SECONDS={shown} is not a number from 1 to 3600"
            ))
        })
    }
}

/// Ports that servers may have.
#[derive(clap::Args, Clone, Debug)]
pub struct Ports {
    /// Ports that servers may use, FIRST-LAST
    #[arg(long, global = true, env = "LEFT4ME_PORT_RANGE", value_name = "LEFT4ME_PORT_RANGE", default_value = "27000-27999",
          value_parser = port_range, hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub port_range: PortRange,
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// Whether `port` is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Parses a path that must be absolute and without `..`.
pub fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err("an absolute path is needed".to_owned());
    }

    if path
        .components()
        .any(|part| part == std::path::Component::ParentDir)
    {
        return Err("a path without '..' is needed".to_owned());
    }

    Ok(path)
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let parsed = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match parsed {
        Some((first, last)) if first >= 1024 && first <= last => Ok(PortRange { first, last }),
        _ => Err("FIRST-LAST is needed, both from 1024 to 65535, as in 27000-27999".to_owned()),
    }
}

/// The path of this process's settings file.
pub fn settings_file() -> PathBuf {
    std::env::var_os("LEFT4ME_ENV_FILE").map_or_else(|| PathBuf::from(SETTINGS_FILE), PathBuf::from)
}

/// Parses the arguments, environment and settings file of this process. Ends the process with
/// clap's message: exit code 2 if they are bad, 0 for --help and --version.
pub fn parse<C: Parser>() -> C {
    parsed_with(&settings_file(), |command| command)
}

/// Like [`parse`], but errors in the settings file do not stop a call that `judges` the file
/// itself.
pub fn parse_lenient<C: Parser>(judges: impl Fn(&C) -> bool) -> C {
    let path = settings_file();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut file = EnvFile::parse(&text);
    let bad: Vec<String> = settings()
        .into_iter()
        .filter(|known| refusal(known, &file).is_some())
        .map(|known| known.name)
        .collect();

    if bad.is_empty() && file.faults.is_empty() {
        return parsed_with(&path, |command| command);
    }

    // Without the bad values the arguments can be parsed, which shows whether the call judges.
    file.assignments
        .retain(|assignment| !bad.contains(&assignment.name));

    let cli = matched(with_defaults(C::command(), &file), |error| error.exit());
    if judges(&cli) { cli } else { parse() }
}

/// Like [`parse`], but ignores the environment. For a program that sudo starts: the caller must not
/// choose where root works.
pub fn parse_without_environment<C: Parser>() -> C {
    let blind =
        |command: clap::Command| command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    parsed_with(Path::new(SETTINGS_FILE), blind)
}

fn parsed_with<C: Parser>(path: &Path, change: impl FnOnce(clap::Command) -> clap::Command) -> C {
    let file = match read_settings(path) {
        Ok(file) => file,
        Err(message) => C::command()
            .error(clap::error::ErrorKind::InvalidValue, message)
            .exit(),
    };

    let command = change(with_defaults(C::command(), &file));
    let name = command.get_name().to_owned();

    matched(command, |error| match blamed(&file, &error) {
        // One line, so that it is the last one in the journal.
        Some(what) => {
            let _ = Error::usage(format!("{} {what}", path.display())).report(&name);
            std::process::exit(Exit::Usage.code().into())
        }
        None => error.exit(),
    })
}

fn matched<C: Parser>(
    mut command: clap::Command,
    fail: impl FnOnce(clap::Error) -> clap::ArgMatches,
) -> C {
    let matches = command
        .try_get_matches_from_mut(std::env::args_os())
        .unwrap_or_else(fail);
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// The line of the settings file that caused an error.
fn blamed(file: &EnvFile, error: &clap::Error) -> Option<String> {
    if error.kind() != clap::error::ErrorKind::ValueValidation {
        return None;
    }

    let text = error.to_string();
    let known = settings()
        .into_iter()
        .find(|known| text.contains(&format!("<{}>", known.name)))?;
    let (line, why) = refusal(&known, file)?;
    let given = std::env::var_os(&known.name);

    // For a service, systemd has put the file's values into the environment.
    let is_files =
        given.is_none_or(|given| file.get(&known.name).is_some_and(|value| given == value));
    is_files.then(|| format!("line {line}: {why}"))
}

/// Why the value in the settings file is refused, with its line.
pub fn refusal(known: &KnownSetting, file: &EnvFile) -> Option<(usize, String)> {
    let assignment = file.last(&known.name)?;
    let why = known.judge(&assignment.value).err()?;
    let shown = super::names::shown(&assignment.value);
    Some((
        assignment.line,
        format!("{}={shown} is refused: {why}", known.name),
    ))
}

/// Reads a settings file. A missing or unreadable file counts as empty.
fn read_settings(path: &Path) -> Result<EnvFile, String> {
    let Ok(text) = fs_err::read_to_string(path) else {
        return Ok(EnvFile::default());
    };
    let file = EnvFile::parse(&text);
    match file
        .faults
        .iter()
        .find(|(fault, ..)| *fault == Fault::NoAssignment)
    {
        Some((_, line, _)) => Err(format!(
            "{} line {line}: NAME=value is needed",
            path.display()
        )),
        None => Ok(file),
    }
}

/// Makes the values of the settings file the defaults of the arguments that read these variables.
fn with_defaults(mut command: clap::Command, file: &EnvFile) -> clap::Command {
    if file.assignments.is_empty() {
        return command;
    }

    let known: Vec<(clap::Id, String)> = command
        .get_arguments()
        .filter_map(|arg| {
            Some((
                arg.get_id().clone(),
                file.get(arg.get_env()?.to_str()?)?.to_owned(),
            ))
        })
        .collect();

    for (id, value) in known {
        command = command.mut_arg(id, |arg| {
            arg.default_value(clap::builder::OsStr::from(value))
        });
    }

    // A subcommand may have settings of its own.
    let verbs: Vec<String> = command
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    for verb in verbs {
        command = command.mut_subcommand(verb, |verb| with_defaults(verb, file));
    }

    command
}

#[cfg(test)]
mod tests;
