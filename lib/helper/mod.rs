//! `left4me-helper`: the complete list of operations that need root, one file per verb.
//!
//! There are three ways in. A connection of left4me-helper.socket carries one JSON request, from
//! root or left4me. Root runs a verb as a command: by hand, through sudo, or from
//! left4me-overlay@.service and left4me-overlay-check.service. left4me-purge@.service,
//! left4me-stale@.service and left4me-purge-stale@.service run `purge-files`, `stale-files` and
//! `drop-stale-files` as the server's user. All of them make the same checks. None takes a path, only
//! names of instances, numbers of schedules, and calendars, which are parsed.

mod adopt;
mod batch;
mod causes;
mod check_overlay;
mod commands;
mod directory;
mod disable;
mod empty;
mod enable;
mod environment;
mod former;
mod game_layer;
mod journal;
mod kernel_log;
mod layers;
mod manager;
mod mirror;
mod mount;
mod mounted_layers;
mod purge;
mod purge_files;
mod remove_timers;
mod runtime;
mod set_timers;
mod settings;
mod show;
mod stack;
mod stale;
mod stale_files;
mod standins;
mod timers;
mod umount;
mod unfinished;
mod upgrade;
mod user;
mod walk;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nix::unistd::Uid;

use self::stale_files::Act;
use crate::base::names::InstanceName;
use crate::base::{Error, Result, config, notify, undumpable, users};
use crate::process::{Outcome, Peer, Supervisor, handshake};
use crate::wire::batch::{BatchRequest, HelperCall};
use crate::wire::{HelperRequest, Tree};

const NAME: &str = "left4me-helper";

/// Carry out the few operations on servers that need root: units, overlays and journal
///
/// As a command, it is for repairs; the services connect to left4me-helper.socket.
#[derive(Parser, Debug)]
#[command(name = NAME, version)]
struct HelperSettings {
    #[command(flatten)]
    paths: config::Paths,
    #[command(flatten)]
    grace: config::Grace,
    #[command(flatten)]
    logging: config::Logging,
    #[command(subcommand)]
    verb: Option<HelperVerb>,
}

#[derive(Subcommand, Debug)]
enum HelperVerb {
    /// Start a server now and at every boot
    Enable {
        /// The instance
        server: InstanceName,
    },
    /// Stop a server, do not start it at boot, and unmount its overlay
    Disable {
        /// The instance
        server: InstanceName,
    },
    /// Print the properties of a server's unit
    Show {
        /// The instance
        server: InstanceName,
    },
    /// Print a server's journal
    Journal {
        /// The instance
        server: InstanceName,
        /// Number of lines to print, counted from the end
        #[arg(long, value_name = "N", default_value_t = journal::DEFAULT, value_parser = clap::value_parser!(u32).range(0..=i64::from(journal::MOST)))]
        lines: u32,
        /// Keep printing new lines until Ctrl-C
        #[arg(long)]
        follow: bool,
    },
    /// Empty a stopped server's upper layer
    Purge {
        /// The instance
        server: InstanceName,
    },
    /// List the files of a server's upper layer that hide newer game files
    Stale {
        /// The instance
        server: InstanceName,
    },
    /// Remove these files of a stopped server
    PurgeStale {
        /// The instance
        server: InstanceName,
    },
    /// Mount a server's overlay
    Mount {
        /// The instance
        server: InstanceName,
    },
    /// Unmount a server's overlay
    Umount {
        /// The instance
        server: InstanceName,
    },
    /// Bring the data of an older version to where this one has it
    #[command(hide = true)]
    Upgrade {
        #[command(flatten)]
        builds: config::BuildSettings,
    },
    /// What left4me-overlay-check.service runs: try an overlay where those of servers are
    #[command(hide = true)]
    CheckOverlay,
    /// What left4me-purge@.service runs as the server's user
    #[command(hide = true)]
    PurgeFiles {
        /// The instance
        server: InstanceName,
    },
    /// What left4me-stale@.service runs as the server's user
    #[command(hide = true)]
    StaleFiles {
        /// The instance
        server: InstanceName,
    },
    /// What left4me-purge-stale@.service runs as the server's user
    #[command(hide = true)]
    DropStaleFiles {
        /// The instance
        server: InstanceName,
    },
}

/// Serves the connection that systemd passed, or carries out the verb in the arguments.
pub fn main() -> ExitCode {
    undumpable::set();

    let settings = match settings() {
        Ok(settings) => settings,
        Err(error) => return error.report(NAME),
    };

    crate::base::journal::start(settings.logging.log);

    let result = match &settings.verb {
        None => return serve(&settings),
        Some(HelperVerb::PurgeFiles { server }) => purge_files::run(&settings.paths.root, server),
        Some(HelperVerb::StaleFiles { server }) => {
            stale_files::run(&settings.paths.root, server, Act::Find)
        }
        Some(HelperVerb::DropStaleFiles { server }) => {
            stale_files::run(&settings.paths.root, server, Act::Drop)
        }
        Some(_) if !Uid::effective().is_root() => Err(Error::not_permitted(
            "not permitted: root is needed; try `sudo left4me-helper …`",
        )),
        Some(HelperVerb::Mount { server }) => mount::run(&settings.paths.root, server),
        Some(HelperVerb::Umount { server }) => umount::run(&settings.paths.root, server),
        Some(HelperVerb::CheckOverlay) => check_overlay::run(&settings.paths.root),
        Some(HelperVerb::Upgrade { builds }) => upgrade::run(&settings.paths, builds.builds),
        Some(verb) => return command(&settings, verb),
    };

    result.map_or_else(|error| error.report(NAME), |()| ExitCode::SUCCESS)
}

/// Reads the settings. Through sudo they come only from the file and the defaults: a user who may
/// run the verbs must not choose where root mounts and writes. sudo's env_reset does the same; this
/// also works where it is turned off.
fn settings() -> Result<HelperSettings> {
    if std::env::var_os("SUDO_UID").is_none() {
        return Ok(config::parse());
    }

    let names_a_path = |argument: std::ffi::OsString| {
        let bytes = argument.as_encoded_bytes();
        bytes.starts_with(b"--root") || bytes.starts_with(b"--db")
    };

    if std::env::args_os().any(names_a_path) {
        return Err(Error::not_permitted(
            "through sudo, paths are taken from /etc/left4me/left4me.env only",
        ));
    }

    Ok(config::parse_without_environment())
}

fn serve(settings: &HelperSettings) -> ExitCode {
    let Some(socket) = notify::passed_socket() else {
        let words = "a verb is needed (see --help), or a connection, \
                     which systemd passes for left4me-helper.socket";
        return Error::usage(words).report(NAME);
    };

    let allowed: Vec<Uid> = users::uid(users::LEFT4ME).into_iter().collect();
    let Some((call, peer)) = handshake::read_request::<HelperCall>(socket, &allowed) else {
        return ExitCode::SUCCESS;
    };

    let end = match call {
        HelperCall::One(request) => carry_out(settings, peer, &request),
        HelperCall::Batch(request) => serve_batch(settings, peer, request),
    };
    match end {
        // The client has the answer. A failed command is not a failure of this unit.
        Ok((_, Tree::Empty)) => ExitCode::SUCCESS,
        Ok((_, Tree::Left)) => ExitCode::FAILURE,
        Err(error) => error.report(NAME),
    }
}

fn command(settings: &HelperSettings, verb: &HelperVerb) -> ExitCode {
    let Some(request) = verb.request() else {
        return Error::usage("this verb is no request").report(NAME);
    };
    match carry_out(settings, Peer::person(NAME), &request) {
        Ok((code, _)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => error.report(NAME),
    }
}

impl HelperVerb {
    /// The request for the same operation. Verbs that only root or a unit runs have none.
    fn request(&self) -> Option<HelperRequest> {
        Some(match self {
            HelperVerb::Enable { server } => HelperRequest::Enable {
                server: server.clone(),
                observe: false,
            },
            HelperVerb::Disable { server } => HelperRequest::Disable {
                server: server.clone(),
                observe: false,
                again: false,
            },
            HelperVerb::Show { server } => HelperRequest::Show {
                server: server.clone(),
            },
            HelperVerb::Journal {
                server,
                lines,
                follow,
            } => HelperRequest::journal(server.clone(), *lines, *follow),
            HelperVerb::Purge { server } => HelperRequest::Purge {
                server: server.clone(),
            },
            HelperVerb::Stale { server } => HelperRequest::Stale {
                server: server.clone(),
            },
            HelperVerb::PurgeStale { server } => HelperRequest::PurgeStale {
                server: server.clone(),
            },
            HelperVerb::Mount { .. }
            | HelperVerb::Umount { .. }
            | HelperVerb::CheckOverlay
            | HelperVerb::Upgrade { .. }
            | HelperVerb::PurgeFiles { .. }
            | HelperVerb::StaleFiles { .. }
            | HelperVerb::DropStaleFiles { .. } => {
                return None;
            }
        })
    }
}

/// Carries out the request and reports the end to the peer. Gives the exit code, and whether
/// processes are left.
fn carry_out(
    settings: &HelperSettings,
    peer: Peer,
    request: &HelperRequest,
) -> Result<(i32, Tree)> {
    let mut supervisor = Supervisor::new(peer, request.grace(settings.grace.duration()))?;
    let result = dispatch(&mut supervisor, &settings.paths.root, request);
    let tree = result.as_ref().map_or(Tree::Empty, |outcome| outcome.tree);
    Ok((supervisor.end(result), tree))
}

/// Serves a batch and reports its end to the peer.
fn serve_batch(
    settings: &HelperSettings,
    mut peer: Peer,
    request: BatchRequest,
) -> Result<(i32, Tree)> {
    peer.expect_batch();
    let mut supervisor = Supervisor::new(peer, settings.grace.duration())?;
    let result = batch::run(&mut supervisor, request);
    Ok((supervisor.end(result), Tree::Empty))
}

fn dispatch(supervisor: &mut Supervisor, root: &Path, request: &HelperRequest) -> Result<Outcome> {
    match request {
        HelperRequest::Enable { server, observe } => {
            let outcome = enable::run(supervisor, root, server);
            show::observe(supervisor, server, *observe);
            outcome
        }
        HelperRequest::Disable {
            server, observe, ..
        } => {
            let outcome = disable::run(supervisor, server);
            show::observe(supervisor, server, *observe);
            outcome
        }
        HelperRequest::Show { server } => show::run(supervisor, server),
        HelperRequest::Journal {
            server,
            lines,
            follow,
            entries,
            after,
        } => {
            let ask = journal::Ask {
                lines: *lines,
                follow: *follow,
                after: after.as_ref(),
            };

            if *entries {
                journal::entries(supervisor, server, ask)
            } else {
                journal::run(supervisor, server, ask)
            }
        }
        HelperRequest::Purge { server } => purge::run(supervisor, root, server),
        HelperRequest::Stale { server } => stale::find(supervisor, root, server),
        HelperRequest::PurgeStale { server } => stale::drop_them(supervisor, root, server),
        HelperRequest::Timers {} => timers::run(supervisor),
        HelperRequest::SetTimers { timers } => set_timers::run(supervisor, timers),
        HelperRequest::RemoveTimers { schedules } => remove_timers::run(supervisor, schedules),
    }
}
