//! `left4me-runner`: runs steamcmd for one connection, in the unit's own control group.
//!
//! systemd accepts on /run/left4me/runner.sock and starts an instance per connection (Accept=yes).
//! The request is a verb of `RunnerRequest`; no verb takes a command line.

mod account;
mod check;
mod client_library;
mod install;
mod installation;
mod retry;
mod room;
mod steamcmd;

use std::process::ExitCode;

use clap::Parser;
use nix::unistd::Uid;

use crate::base::{Error, Exit, config, journal, notify, undumpable, users};
use crate::process::{Outcome, Supervisor, handshake, watchdog};
use crate::wire::{RunnerRequest, Stream, Tree};

/// Run steamcmd for one connection of left4me-runner.socket
///
/// systemd starts it; the worker and `l4d2ctl install` connect to it.
#[derive(Parser, Debug)]
#[command(name = "left4me-runner", version)]
struct RunnerSettings {
    #[command(flatten)]
    paths: config::Paths,
    #[command(flatten)]
    grace: config::Grace,
    #[command(flatten)]
    logging: config::Logging,
    #[command(flatten)]
    place: config::Steamcmd,
    #[command(flatten)]
    steam: config::SteamSettings,
    #[command(flatten)]
    builds: config::BuildSettings,
}

/// Serves the connection that was passed to this process. Exits with 0 when the request was
/// answered, even if the command failed: the client has the answer. Exits with 1 if a process of
/// the command could not be killed, so that the unit fails.
pub fn main() -> ExitCode {
    undumpable::set();
    let settings: RunnerSettings = config::parse();
    journal::start(settings.logging.log);

    let Some(socket) = notify::passed_socket() else {
        let error = Error::usage(
            "no connection was passed: systemd starts this program \
             for left4me-runner.socket; use `l4d2ctl install`",
        );

        return error.report("left4me-runner");
    };

    let allowed = users::uid(users::LEFT4ME)
        .into_iter()
        .chain([Uid::effective()]);
    let allowed: Vec<Uid> = allowed.collect();
    let request = handshake::read_request::<RunnerRequest>(socket, &allowed);
    let Some((request, peer)) = request else {
        return ExitCode::SUCCESS;
    };

    let mut supervisor = match Supervisor::new(peer, settings.grace.duration()) {
        Ok(supervisor) => supervisor,
        Err(error) => return error.report("left4me-runner"),
    };

    watchdog::start();
    let result = match request {
        RunnerRequest::Install {} => install::run(&mut supervisor, &settings),
        RunnerRequest::Check {} => check::run(&mut supervisor, &settings),
    };

    // A failure of steamcmd is a line of the log with steamcmd's own code; any other is an error.
    let result = match result {
        Err(error) if matches!(error.exit, Exit::Foreign(_)) => {
            supervisor.write_line(Stream::Stderr, &error.to_string());
            Ok(Outcome::exit(error.exit.code().into()))
        }
        other => other,
    };

    let left = matches!(&result, Ok(outcome) if outcome.tree == Tree::Left);
    // The client gets the code; this process's own says only whether the unit did its work.
    let _ = supervisor.end(result);
    if left {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
