//! `left4me-publisher`: copies what steamcmd installed to builds/, where servers take it from, and
//! says which build is the current one. One connection, one request.
//!
//! It runs no foreign code and has no network. steamcmd runs as the same user in a unit that does
//! not see builds/, so a published build stays as it was published. The tree that steamcmd wrote is
//! foreign: this program opens it name by name, follows no link in it, and copies regular files,
//! directories and links only.
//!
//! Everything new is made under a name that nothing uses (`.new-…`), written to disk, and renamed.
//! A program that dies at any step leaves the current build as it was, and the next request removes
//! what it left.

mod bytes;
mod context;
mod copy;
mod erase;
mod place;
mod plan;
mod publish;
mod remove;
mod seed;
mod store;
mod switch;
mod tree;
mod unpublish;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::unistd::Uid;

use crate::base::{Error, config, journal, notify, undumpable, users};
use crate::process::{Outcome, Supervisor, handshake, watchdog};
use crate::wire::PublisherRequest;
use context::{Context, Stop};
use store::Store;

/// Copy the game's builds for one connection of left4me-publisher.socket
///
/// systemd starts it; the worker connects to it.
#[derive(Parser, Debug)]
#[command(name = "left4me-publisher", version)]
struct PublisherSettings {
    #[command(flatten)]
    paths: config::Paths,
    #[command(flatten)]
    grace: config::Grace,
    #[command(flatten)]
    logging: config::Logging,
}

/// Serves the connection that was passed to this process. Exits with 0 when the request was
/// answered, even if it failed: the client has the answer.
pub fn main() -> ExitCode {
    undumpable::set();
    let settings: PublisherSettings = config::parse();
    journal::start(settings.logging.log);

    let Some(socket) = notify::passed_socket() else {
        let error = Error::usage(
            "no connection was passed: systemd starts this program \
             for left4me-publisher.socket; use `left4me-job enqueue update`",
        );

        return error.report("left4me-publisher");
    };

    let allowed = users::uid(users::LEFT4ME)
        .into_iter()
        .chain([Uid::effective()]);
    let allowed: Vec<Uid> = allowed.collect();
    let request = handshake::read_request::<PublisherRequest>(socket, &allowed);
    let Some((request, peer)) = request else {
        return ExitCode::SUCCESS;
    };

    let mut supervisor = match Supervisor::new(peer, settings.grace.duration()) {
        Ok(supervisor) => supervisor,
        Err(error) => return error.report("left4me-publisher"),
    };

    watchdog::start();
    let result = match carry_out(&mut supervisor, &settings, &request) {
        Ok(()) => Ok(Outcome::exit(0)),
        // A kill may have followed while what was begun was removed.
        Err(Stop::Cancelled(outcome)) => Ok(supervisor.pause(Duration::ZERO).unwrap_or(outcome)),
        Err(Stop::Failed(error)) => Err(error),
    };
    let _ = supervisor.end(result);
    ExitCode::SUCCESS
}

fn carry_out(
    supervisor: &mut Supervisor,
    settings: &PublisherSettings,
    request: &PublisherRequest,
) -> Result<(), Stop> {
    let mut context = Context {
        supervisor,
        root: &settings.paths.root,
    };
    let store = Store::open(&mut context, settings.grace.duration())?;

    match request {
        PublisherRequest::Seed {} => seed::run(&mut context, &store),
        PublisherRequest::Publish { job, fresh } => {
            publish::run(&mut context, &store, *job, *fresh)
        }
        PublisherRequest::Use { build } => switch::run(&mut context, &store, *build),
        PublisherRequest::Unpublish {} => unpublish::run(&mut context, &store),
        PublisherRequest::Remove { build } => remove::run(&mut context, &store, *build),
    }
}
