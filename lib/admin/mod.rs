//! left4me: manages users, tokens, overlays, blueprints, servers, builds, alerts, schedules, a fleet
//! and the database. One file per command family.

mod alert;
mod backup;
mod blueprint;
mod build;
mod doctor;
mod fleet;
mod history;
mod overlay;
mod owner;
mod prune;
mod restore;
mod schedule;
mod server;
mod server_set;
mod token;
mod user;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::base::config::{
    AlertsSocket, BuildMode, BuildSettings, CommandSockets, ConsoleSocket, FleetSettings, Logging,
    NotifySocket, Paths, PortRange, Ports, SchedulesSocket, WorkerSocket, parse_lenient,
};
use crate::base::table::Table;
use crate::base::{Result, caller, clock, journal, output, undumpable, users, walk};
use crate::db::{Db, migrate};

const PROGRAM: &str = "left4me";

/// Administer left4me: users, API tokens, overlays, blueprints, servers and the database
#[derive(Parser)]
#[command(name = PROGRAM, version, propagate_version = true, after_help = EXAMPLES)]
struct AdminCli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    sockets: CommandSockets,
    #[command(flatten)]
    console: ConsoleSocket,
    #[command(flatten)]
    notify: NotifySocket,
    #[command(flatten)]
    alerts: AlertsSocket,
    #[command(flatten)]
    schedules: SchedulesSocket,
    #[command(flatten)]
    fleet: FleetSettings,
    #[command(flatten)]
    builds: BuildSettings,
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    family: Family,
}

const EXAMPLES: &str = "\
Examples:
  left4me user add anna --admin
  left4me overlay add competitive
  left4me blueprint create coop --user anna --overlay competitive --arg=+map --arg=c1m1_hotel \
  --config-file server.cfg
  left4me server create Friday --user anna --blueprint coop
  left4me-job enqueue start --server Friday --follow
  left4me doctor

Exit codes: 0 done, 1 failed, 2 usage, 3 no such user, overlay, blueprint, server, player, alert,
schedule, build or token, 4 not possible in this state (taken, in use), 69 database or service unavailable, 77 not \
permitted.";

#[derive(Subcommand)]
enum Family {
    /// Manage local accounts
    #[command(subcommand)]
    User(user::UserVerb),
    /// Manage tokens of the REST API
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Manage the catalog of overlays: directories that are layered over the game files
    #[command(subcommand)]
    Overlay(overlay::OverlayVerb),
    /// Manage blueprints: overlays, arguments and config that servers are made from
    #[command(subcommand)]
    Blueprint(blueprint::BlueprintVerb),
    /// Manage servers
    #[command(subcommand)]
    Server(server::ServerVerb),
    /// List and remove builds of the game
    #[command(subcommand)]
    Build(build::BuildVerb),
    /// Manage alerts: messages to Discord, ntfy, mail or a program when something happens
    #[command(subcommand)]
    Alert(alert::AlertVerb),
    /// Manage schedules: what is done at set times
    #[command(subcommand)]
    Schedule(schedule::ScheduleVerb),
    /// Manage a fleet: many hosts that exchange orders and events
    #[command(subcommand)]
    Fleet(fleet::FleetVerb),
    /// Upgrade the database to this version's schema
    Migrate,
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Prune(prune::PruneArgs),
    Doctor(doctor::DoctorArgs),
}

struct Context {
    paths: Paths,
    port_range: PortRange,
    worker_socket: PathBuf,
    sockets: CommandSockets,
    console: ConsoleSocket,
    notify_socket: PathBuf,
    alerts_socket: PathBuf,
    schedules_socket: PathBuf,
    fleet: FleetSettings,
    build_mode: BuildMode,
    /// A file from the command line that only root can read.
    opened: Option<File>,
    actor: String,
    /// The time of the call, unix ms.
    now: i64,
}

impl Context {
    /// Opens the database, and migrates it if necessary.
    fn db(&self) -> Result<Db> {
        Db::open(&self.paths.database())
    }
}

/// The program's command line, for its manual page and completions.
pub fn command() -> clap::Command {
    AdminCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    // What is wrong in the settings file is a finding of the doctor.
    let cli = parse_lenient::<AdminCli>(|cli| matches!(cli.family, Family::Doctor(_)));
    journal::start(cli.logging.log);
    run(cli).unwrap_or_else(|error| error.report(PROGRAM))
}

fn run(cli: AdminCli) -> Result<ExitCode> {
    let context = Context {
        paths: cli.paths,
        port_range: cli.ports.port_range,
        worker_socket: cli.worker.worker_socket,
        sockets: cli.sockets,
        console: cli.console,
        notify_socket: cli.notify.notify_socket,
        alerts_socket: cli.alerts.alerts_socket,
        schedules_socket: cli.schedules.schedules_socket,
        fleet: cli.fleet,
        build_mode: cli.builds.builds,
        opened: match &cli.family {
            Family::Blueprint(verb) => verb.config_file().and_then(walk::open_root_owned),
            _ => None,
        },
        actor: caller::caller(),
        now: clock::now_ms(),
    };

    // What needs root, and opens nothing that another user can exchange; for all else root becomes
    // left4me.
    match &cli.family {
        Family::Backup(args)
            if let Some((file, owner)) = backup::owner_besides_root(&context, args) =>
        {
            return backup::as_root(&context, file, owner);
        }
        Family::Restore(args) => return restore::run(&context, args),
        Family::Doctor(args) => return doctor::run(&context, args),
        _ => {}
    }

    let database = context.paths.database();
    users::drop_root(&database)?;

    let done = match cli.family {
        Family::User(verb) => user::run(&context, verb),
        Family::Token(verb) => token::run(&context, verb),
        Family::Overlay(verb) => overlay::run(&context, verb),
        Family::Blueprint(verb) => blueprint::run(&context, verb),
        Family::Server(verb) => server::run(&context, verb),
        Family::Build(verb) => build::run(&context, verb),
        Family::Alert(verb) => alert::run(&context, verb),
        Family::Schedule(verb) => schedule::run(&context, verb),
        Family::Fleet(verb) => fleet::run(&context, verb),
        Family::Migrate => migrate(&context),
        Family::Backup(args) => backup::run(&context, &args),
        Family::Restore(args) => return restore::run(&context, &args),
        Family::Prune(args) => prune::run(&context, &args),
        Family::Doctor(args) => return doctor::run(&context, &args),
    };

    done.map(|()| ExitCode::SUCCESS)
}

/// Opening the database migrates it; this only reports the schema.
fn migrate(context: &Context) -> Result<()> {
    let db = context.db()?;
    output::line(&format!(
        "database {} has schema {}, the latest",
        db.path().display(),
        migrate::LATEST
    ))
}

/// Prints a hint for people on standard error.
fn hint(text: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{PROGRAM}: {text}").ok();
}

/// A list without filters.
#[derive(clap::Args)]
struct ListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Prints rows as JSON or as a table with these headings. Columns in `times` hold times; `none` is
/// the hint for an empty list.
fn print_list<T: serde::Serialize, const N: usize>(
    rows: &[T],
    json: bool,
    none: &str,
    headings: [&'static str; N],
    times: &[&str],
    cells: impl Fn(&T) -> [String; N],
) -> Result<()> {
    if json {
        return output::json(&rows);
    }
    if rows.is_empty() {
        hint(none);
        return Ok(());
    }

    let mut table = Table::new(headings);
    rows.iter().for_each(|row| table.row(cells(row)));
    table.times(times);
    table.print()
}

/// A time in the local zone; empty for never.
fn when(at: Option<i64>) -> String {
    at.map_or_else(String::new, clock::local)
}

/// Prints `name  value` lines with aligned values, safe for a terminal.
fn facts(facts: &[(&str, String)]) -> Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().try_for_each(|(name, value)| {
        let value = if value.is_empty() {
            "-".into()
        } else {
            output::printable(value)
        };

        output::line(&format!("{name:<width$}  {value}"))
    })
}
