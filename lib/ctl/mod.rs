//! l4d2ctl: instances without the queue, for repair and for trying things out. It uses the same two sockets as the
//! worker and writes the same files.

mod hands;
mod identity;
mod spec;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use nix::sys::stat::{Mode, umask};

use crate::base::config::{HandSockets, Logging, Paths, parse};
use crate::base::names::InstanceName;
use crate::base::{Result, journal, undumpable};
use crate::host::instance;

const PROGRAM: &str = "l4d2ctl";

/// Install the game and run single instances of it, without queue and database.
#[derive(Parser)]
#[command(name = PROGRAM, version, about, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    hands: HandSockets,
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  sudo l4d2ctl install
  sudo l4d2ctl initialize test -f test.yaml
  sudo -u left4me l4d2ctl start test
  sudo -u left4me l4d2ctl logs test --follow

A spec file:
  port: 27015
  overlays: [competitive, maps/dead-hotel]     # the topmost first
  arguments: [+map, c1m1_hotel]
  config: ['hostname \"test\"', sv_cheats 0]

For every day use left4me-job: it keeps order between servers, logs, and who did what. Exit codes: 0 done, 1 failed,
2 usage or spec file, 3 no such instance, 4 not possible in this state, 69 service unavailable, 77 not permitted;
a failing command's own code is passed on.";

#[derive(Subcommand)]
enum Verb {
    /// Install or update the game; nothing may run
    Install,
    /// Write an instance's settings and configuration layer from a spec file
    Initialize {
        /// The instance: a server's id, or a name of your own
        name: InstanceName,
        /// The spec file, YAML: port, overlays, arguments, config
        #[arg(short, long, value_name = "SPEC.yaml")]
        file: PathBuf,
    },
    /// Start an instance, now and at each boot
    Start {
        /// The instance
        name: InstanceName,
    },
    /// Stop an instance, now and at each boot
    Stop {
        /// The instance
        name: InstanceName,
    },
    /// Stop an instance and remove all its files; a missing one is a success
    Delete {
        /// The instance
        name: InstanceName,
    },
    /// Show what an instance is
    Status {
        /// The instance
        name: InstanceName,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show an instance's console, as the journal has it
    Logs {
        /// The instance
        name: InstanceName,
        /// How many of the last lines
        #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=999_999))]
        lines: u32,
        /// Go on with new lines until Ctrl-C
        #[arg(long, overrides_with = "no_follow")]
        follow: bool,
        /// End after the last line (the default)
        #[arg(long, overrides_with = "follow")]
        no_follow: bool,
    },
}

/// The program's command line, for its manual page and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    undumpable::be();
    let cli = parse::<Cli>();
    journal::start(cli.logging.log);
    umask(Mode::from_bits_truncate(instance::UMASK));
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(PROGRAM),
    }
}

fn run(cli: Cli) -> Result<()> {
    identity::check()?;
    // Read with the rights of who named it; all else happens as left4me.
    let spec = match &cli.verb {
        Verb::Initialize { file, .. } => Some(spec::read(file)?),
        _ => None,
    };
    identity::become_left4me()?;
    let place = verbs::Place { root: cli.paths.root, hands: cli.hands };
    match (cli.verb, spec) {
        (Verb::Install, _) => place.install(),
        (Verb::Initialize { name, .. }, Some(spec)) => place.initialize(&name, &spec),
        (Verb::Initialize { .. }, None) => Ok(()),
        (Verb::Start { name }, _) => place.start(&name),
        (Verb::Stop { name }, _) => place.stop(&name),
        (Verb::Delete { name }, _) => place.delete(&name),
        (Verb::Status { name, json }, _) => place.status(&name, json),
        (Verb::Logs { name, lines, follow, .. }, _) => place.logs(&name, lines, follow),
    }
}
