//! left4me-console: the only program that talks to running games. It asks for players and settings
//! over A2S (UDP), sends commands over RCON (TCP), and exits when idle. It has no database, and its
//! unit lets it reach only this host.
//!
//! [`a2s`] and [`rcon`] are the protocols, without I/O: games are written by others, run plugins of
//! anybody, and are not trusted. [`serve`] is the loop over all sockets.

mod a2s;
mod client;
mod complaints;
mod look;
mod network;
mod output;
mod rcon;
mod remote;
mod serve;
mod sockets;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};

use crate::base::config::{ConsoleSocket, Logging, Paths, absolute, parse};
use crate::base::{Error, Result, journal, notify, service, undumpable};
use serve::{Server, Settings};
use sockets::Sockets;

/// Ask running games for their players and send them commands
///
/// left4me-console.socket starts it. Run by hand, it serves the same socket in the foreground.
#[derive(Parser)]
#[command(name = "left4me-console", version, after_help = EXAMPLES)]
struct ConsoleCli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    socket: ConsoleSocket,
    #[command(flatten)]
    logging: Logging,
    /// Seconds without a request after which it exits
    #[arg(long, value_name = "SECONDS", default_value = "60",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    idle_seconds: u32,
    /// Socket of a process that opens connections to games; without it, this one opens them
    #[arg(long, value_name = "SOCKET", value_parser = absolute)]
    network: Option<PathBuf>,
    /// Open connections to games for another process, on the socket that systemd passes
    #[arg(long, conflicts_with = "network")]
    give_network: bool,
}

const EXAMPLES: &str = "Examples:
  systemctl start left4me-console.socket     the usual way: each question starts it
  left4me-console --idle-seconds 600         in the foreground, until nobody has asked for 10 minutes";

/// The program's command line, for its manual page.
pub fn command() -> clap::Command {
    ConsoleCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<ConsoleCli>();
    journal::start(cli.logging.log);
    journal::exit_code(match cli.give_network {
        true => give_network(),
        false => serve(&cli),
    })
}

/// Hands out sockets to the process that talks to the games.
fn give_network() -> Result<()> {
    let listener = notify::passed_socket()
        .map(UnixListener::from)
        .ok_or_else(|| {
            Error::usage(
                "no socket was passed: systemd starts this for left4me-console-network.socket",
            )
        })?;
    notify::ready("listening");
    sockets::serve(&listener)
}

fn serve(cli: &ConsoleCli) -> Result<()> {
    let signals = service::end_signals()?;
    let passed = notify::passed_socket();
    let is_passed = passed.is_some();
    let listener = match passed {
        Some(socket) => UnixListener::from(socket),
        None => service::bind(&cli.socket.console_socket)?,
    };
    listener.set_nonblocking(true)?;

    notify::ready("listening");
    let served = Server::new(Settings {
        listener,
        signals,
        sockets: Sockets::new(cli.network.clone()),
        root: cli.paths.root.clone(),
        idle: Duration::from_secs(cli.idle_seconds.into()),
    })
    .run();

    // Not STOPPING=1 unless a signal came: a restart of the socket ignores a service that is
    // stopping, and then cannot start beside it.
    notify::status("exiting");
    if !is_passed {
        fs_err::remove_file(&cli.socket.console_socket).ok();
    }
    served
}
