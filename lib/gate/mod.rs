//! left4me-gate: carries out orders from other hosts. It has the database and no network; what it reads
//! comes from left4me-link, which has the network and nothing else. It exits when nothing has been
//! asked for a while.
//!
//! [`answer`] answers one request; [`serve`] is the loop over the connections; [`keys`] reads this
//! host's secrets.

mod answer;
mod keys;
mod serve;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};

use crate::base::config::{
    AlertsSocket, FleetSettings, Logging, Paths, Ports, WorkerSocket, absolute, parse,
};
use crate::base::{Result, journal, notify, service, undumpable, users};
use crate::db::Db;
use crate::queue::fleet::status;
use answer::Gate;
pub use answer::cancel;

/// Carry out orders from other hosts of the fleet
///
/// left4me-gate.socket starts it for left4me-link. Run by hand, it serves the same socket in the
/// foreground.
#[derive(Parser)]
#[command(name = "left4me-gate", version, after_help = EXAMPLES)]
struct GateCli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    alerts: AlertsSocket,
    #[command(flatten)]
    fleet: FleetSettings,
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    logging: Logging,
    /// The socket, when systemd passes none
    #[arg(long, value_name = "SOCKET", value_parser = absolute,
          default_value = "/run/left4me-gate/gate.sock")]
    socket: PathBuf,
    /// Seconds without a request after which it exits
    #[arg(long, value_name = "SECONDS", default_value = "60",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    idle_seconds: u32,
}

const EXAMPLES: &str = "Examples:
  systemctl start left4me-gate.socket        the usual way: left4me-link's requests start it
  left4me-gate --idle-seconds 600            in the foreground, until 10 minutes are without a request";

/// The program's command line, for its manual page.
pub fn command() -> clap::Command {
    GateCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<GateCli>();
    journal::start(cli.logging.log);
    journal::exit_code(serve(cli))
}

fn serve(cli: GateCli) -> Result<()> {
    let signals = service::end_signals()?;
    let passed = notify::passed_socket();
    let is_passed = passed.is_some();

    // Before root's rights are dropped: the files are root's.
    let keys = keys::Keys::read(&cli.fleet.fleet_dir)?;
    let listener = match passed {
        Some(socket) => UnixListener::from(socket),
        None => service::bind(&cli.socket)?,
    };
    listener.set_nonblocking(true)?;

    let database = cli.paths.database();
    users::drop_root(&database)?;
    let mut db = Db::open(&database)?;
    db.stay()?;
    status::name_servers(&mut db)?;

    notify::ready("listening");
    let (idle, socket) = (
        Duration::from_secs(cli.idle_seconds.into()),
        cli.socket.clone(),
    );
    let served = serve::serve(&listener, &signals, idle, &mut Gate::new(cli, db, keys));

    // Not STOPPING=1 unless a signal came: a restart of the socket ignores a service that is
    // stopping, and then cannot start beside it.
    notify::status("exiting");
    if !is_passed {
        fs_err::remove_file(&socket).ok();
    }
    served
}
