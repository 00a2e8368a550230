//! l4d2ctl: controls instances without the queue, for repairs and experiments. It uses the same two
//! sockets as the worker and writes the same files.

mod context;
mod identity;
mod spec;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use nix::sys::stat::{Mode, umask};

use crate::base::config::{BuildMode, BuildSettings, CommandSockets, Logging, Paths, parse};
use crate::base::names::InstanceName;
use crate::base::{Result, journal, undumpable};
use crate::host::instance;
use crate::host::operation::HostPaths;
use context::CtlContext;

const PROGRAM: &str = "l4d2ctl";

/// Install the game and run single server instances, without the job queue and the database
#[derive(Parser)]
#[command(name = PROGRAM, version, propagate_version = true, after_help = EXAMPLES)]
struct CtlCli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    sockets: CommandSockets,
    #[command(flatten)]
    builds: BuildSettings,
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    verb: CtlVerb,
}

const EXAMPLES: &str = "\
Examples:
  sudo l4d2ctl install
  sudo l4d2ctl initialize test -f test.yaml
  sudo -u left4me l4d2ctl start test
  sudo -u left4me l4d2ctl logs test --follow

A spec file:
  port: 27015
  overlays: [competitive, maps/dead-hotel]     # topmost first
  arguments: [+map, c1m1_hotel]
  config: ['hostname \"test\"', sv_cheats 0]

For everyday use, prefer left4me-job: it orders jobs, keeps their logs, and records who did what.

Exit codes: 0 done, 1 failed, 2 usage or spec file, 3 no such instance,
4 not possible in this state, 69 service unavailable, 77 not permitted. The exit code of a failing
command is passed on.";

#[derive(Subcommand)]
enum CtlVerb {
    /// Install or update the game; all instances must be stopped
    Install,
    /// Write an instance's settings and configuration files from a spec file
    Initialize {
        /// The instance: a server's id, or a name of your choice
        name: InstanceName,
        /// The spec file, YAML: port, overlays, arguments, config
        #[arg(short, long, value_name = "SPEC.yaml")]
        file: PathBuf,
    },
    /// Start an instance now and at every boot
    Start {
        /// The instance
        name: InstanceName,
    },
    /// Stop an instance and do not start it at boot
    Stop {
        /// The instance
        name: InstanceName,
    },
    /// Stop an instance and delete all its files; succeeds if there is none
    Delete {
        /// The instance
        name: InstanceName,
    },
    /// Show the state of an instance
    Status {
        /// The instance
        name: InstanceName,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print an instance's console output from the journal
    Logs {
        /// The instance
        name: InstanceName,
        /// Number of lines to print, counted from the end
        #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=999_999))]
        lines: u32,
        /// Keep printing new lines until Ctrl-C
        #[arg(long, overrides_with = "no_follow")]
        follow: bool,
        /// Exit after the last line (default)
        #[arg(long, overrides_with = "follow")]
        no_follow: bool,
    },
}

/// The program's command line, for its manual page and completions.
pub fn command() -> clap::Command {
    CtlCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<CtlCli>();
    journal::start(cli.logging.log);
    umask(Mode::from_bits_truncate(instance::UMASK));

    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(PROGRAM),
    }
}

fn run(cli: CtlCli) -> Result<()> {
    identity::check()?;
    // Read the spec file with the caller's rights; everything else happens as left4me.
    let spec = match &cli.verb {
        CtlVerb::Initialize { file, .. } => Some(spec::read(file)?),
        _ => None,
    };

    identity::become_left4me()?;
    let ctl = CtlContext {
        in_place: cli.builds.builds == BuildMode::InPlace,
        paths: HostPaths {
            root: cli.paths.root,
            helper: cli.sockets.helper_socket,
            runner: cli.sockets.runner_socket,
            publisher: cli.sockets.publisher_socket,
        },
    };

    match (cli.verb, spec) {
        (CtlVerb::Install, _) => ctl.install(),
        (CtlVerb::Initialize { name, .. }, Some(spec)) => ctl.initialize(&name, &spec),
        (CtlVerb::Initialize { .. }, None) => Ok(()),
        (CtlVerb::Start { name }, _) => ctl.start(&name),
        (CtlVerb::Stop { name }, _) => ctl.stop(&name),
        (CtlVerb::Delete { name }, _) => ctl.delete(&name),
        (CtlVerb::Status { name, json }, _) => ctl.status(&name, json),
        (
            CtlVerb::Logs {
                name,
                lines,
                follow,
                ..
            },
            _,
        ) => ctl.logs(&name, lines, follow),
    }
}
