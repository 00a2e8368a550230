//! left4me-poller: reads the state of all units at once and records it. A timer starts it, and
//! every start or end of a server's unit. Then it asks the running games who plays. It changes no
//! unit: drift is reported, not corrected.

mod causes;
mod disk;
mod game;
mod last_output;
mod read;
mod unresponsive;
mod write;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};

use crate::base::config::{
    AlertsSocket, CommandSockets, ConsoleSocket, FleetSettings, Logging, Paths, WorkerSocket, parse,
};
use crate::base::{Error, Result, clock, journal, lock, notify, undumpable, users};
use crate::db::{Db, candidates, jobs, queue};
use crate::host::bus;
use crate::queue::{conditions, wake};
use read::{PreviousRows, SystemdAnswer};

/// Another poller that takes longer than this hangs.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Check the state of all servers once and record it in the database
///
/// systemd starts it by left4me-poller.timer, and when a server starts or ends. Run by hand, it
/// does the same.
#[derive(Parser)]
#[command(name = "left4me-poller", version, after_help = EXAMPLES)]
struct PollerCli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    alerts: AlertsSocket,
    #[command(flatten)]
    sockets: CommandSockets,
    #[command(flatten)]
    console: ConsoleSocket,
    #[command(flatten)]
    fleet: FleetSettings,
    #[command(flatten)]
    logging: Logging,
}

const EXAMPLES: &str = "Examples:
  systemctl start --wait left4me-poller.service   poll now
  left4me server list                             the states it recorded";

/// The program's command line, for its manual page.
pub fn command() -> clap::Command {
    PollerCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();

    let cli = parse::<PollerCli>();
    journal::start(cli.logging.log);

    // For systemd this run is stopping from now on, although it has not read anything yet. A start
    // request from now on therefore causes another run after this one. If this run counted as
    // active, systemd would drop the request, and changes after this run's read would be missed.
    // PID 1 handles these notifications before it answers on the bus.
    notify::ready("polling");

    notify::stopping("polling");
    journal::exit_code(poll(&cli))
}

/// Reads the rows and the units, records and reports what changed, and wakes the worker if it was
/// not woken.
fn poll(cli: &PollerCli) -> Result<()> {
    let database = cli.paths.database();
    // Root by hand: files that it creates must belong to the owner of the data.
    users::drop_root(&database)?;

    let mut db = Db::open(&database)?;

    // Only one poller at a time: two would record different states. The second one waits and reads
    // the current state.
    let turn = lock::wait(&database, "poller", TIMEOUT)?;

    let before = PreviousRows::read(&mut db)?;
    let seen = read::read();
    let (samples, result) = match &seen {
        Ok(SystemdAnswer::GoingDown) => return Ok(()),
        Ok(SystemdAnswer::PollResult(seen)) => {
            let samples = write::seen(&mut db, &before, seen)?;
            (samples, seen.complaint().map_or(Ok(()), Err))
        }
        Err(error) => {
            write::unreadable(&mut db, &before, error)?;
            (Vec::new(), Err(error.clone()))
        }
    };

    drop(turn);

    // The rest needs no lock, and may take seconds.
    disk::check(&mut db)?;
    let woken = wake_worker(&db, cli);
    wake::alerts(db.connection(), &cli.alerts.alerts_socket);
    causes::record(&mut db, &cli.sockets.helper_socket)?;
    last_output::keep(&mut db, &cli.sockets.helper_socket)?;

    let silent = game::look(
        &mut db,
        &cli.console.console_socket,
        samples,
        bus::is_poll_requested,
    )?;
    unresponsive::handle(&mut db, &silent, &cli.sockets.helper_socket)?;

    // Jobs may wait for what the games have answered.
    let woken = woken.and_then(|()| wake_worker(&db, cli));
    // Once more for those of games that do not answer.
    wake::alerts(db.connection(), &cli.alerts.alerts_socket);
    wake::link_for_news(db.connection(), &cli.fleet.link_socket);
    db.checkpoint();

    match (result, woken) {
        (Err(one), Err(other)) => Err(Error::new(one.exit, format!("{one}; besides, {other}"))),
        (result, woken) => result.and(woken),
    }
}

/// Wakes or starts the worker if jobs wait that it can do something about, or if a worker that died
/// left some.
fn wake_worker(db: &Db, cli: &PollerCli) -> Result<()> {
    let connection = db.connection();
    let waiting = jobs::any_ready(connection)? && queue::pause(connection)?.is_none();
    if !waiting
        && !conditions::needs_worker(connection, clock::now_ms())?
        && candidates::active(connection)?.is_empty()
    {
        return Ok(());
    }

    wake::worker(&cli.worker.worker_socket)
        .map_err(|error| Error::new(error.exit, format!("jobs wait, but {error}")))
}
