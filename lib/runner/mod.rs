//! `left4me-runner`: runs one foreign command for one connection, in the unit's own control group.
//!
//! systemd accepts on /run/left4me/runner.sock and starts an instance per connection (Accept=yes). The request is one
//! of a closed list of verbs, a file each; there is no verb that takes a command line.

mod account;
mod client;
mod game;
mod install;
mod tries;

use std::process::ExitCode;

use clap::Parser;
use nix::unistd::Uid;

use crate::base::{Error, Exit, config, journal, notify, undumpable, users};
use crate::process::{Outcome, Stage, door};
use crate::wire::{RunnerRequest, Stream, Tree};

/// Run steamcmd for one connection of left4me-runner.socket
///
/// systemd starts it; the worker and `l4d2ctl install` connect to it.
#[derive(Parser, Debug)]
#[command(name = "left4me-runner", version)]
struct Settings {
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
}

/// Serves the connection that was passed to this process. Exits 0 when the request was answered, whatever the answer:
/// the client has it, and a failed command is no failure of this unit.
#[must_use]
pub fn main() -> ExitCode {
    undumpable::set();
    let settings: Settings = config::parse();
    journal::start(settings.logging.log);
    let Some(socket) = notify::passed_socket() else {
        let error = Error::usage(
            "no connection was passed: systemd starts this program for left4me-runner.socket; use `l4d2ctl install`",
        );
        return error.report("left4me-runner");
    };
    let allowed: Vec<Uid> = users::uid(users::LEFT4ME).into_iter().chain([Uid::effective()]).collect();
    let Some((request, peer)) = door::request::<RunnerRequest>(socket, &allowed) else { return ExitCode::SUCCESS };
    let mut stage = match Stage::new(peer, settings.grace.duration()) {
        Ok(stage) => stage,
        Err(error) => return error.report("left4me-runner"),
    };
    show_life();
    let result = match request {
        RunnerRequest::Install {} => install::run(&mut stage, &settings),
    };
    // steamcmd's failure is a line of the log like any other, with steamcmd's own code; all else is our refusal.
    let result = match result {
        Err(error) if matches!(error.exit, Exit::Foreign(_)) => {
            stage.say(Stream::Stderr, &error.to_string());
            Ok(Outcome::exit(error.exit.code().into()))
        }
        other => other,
    };
    let left = matches!(&result, Ok(outcome) if outcome.tree == Tree::Left);
    // The code is the client's; ours says only whether the unit did its work.
    let _ = stage.end(result);
    if left { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Sends keep-alive pings to PID 1. The command runs as the same user and can stop this process; a stopped runner would
/// hold the queue, so PID 1 then ends the unit (WatchdogSec=). In a thread of its own, because a slow disk may block the
/// first one for longer, and that is no reason to end it. Its signals are blocked: the stage takes them.
fn show_life() {
    let Some(pause) = notify::watchdog_interval() else { return };
    let live = move || {
        loop {
            notify::watchdog();
            std::thread::sleep(pause);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("life".to_owned()).spawn(live) {
        tracing::warn!(%error, "PID 1 will take this runner for a stopped one");
    }
}
