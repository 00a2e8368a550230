//! left4me-worker: claims jobs, runs their tasks, records what happens, and exits when idle. It
//! spawns no process, and talks only to the database, the helper and the runner.

mod holds;
mod report;
mod scheduler;
mod wake;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use nix::sys::stat::{Mode, umask};

use crate::base::config::{
    AlertsSocket, BuildSettings, CleanRetry, CommandSockets, ConsoleSocket, FleetSettings, Grace,
    Logging, Paths, WorkerSettings, WorkerSocket, parse,
};
use crate::base::names::ServerId;
use crate::base::{Result, clock, journal, lock, notify, undumpable, users};
use crate::cancel;
use crate::db::Db;
use crate::host::instance;
use crate::host::operation::HostPaths;
use crate::queue::recover::{self, DeadWorker};
use scheduler::{STOP_MARGIN, Scheduler};
use wake::Wake;

/// Run the jobs of the queue
///
/// left4me-worker.socket starts it. Run by hand, it serves the same queue in the foreground.
#[derive(Parser)]
#[command(name = "left4me-worker", version, after_help = EXAMPLES)]
struct WorkerCli {
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
    grace: Grace,
    #[command(flatten)]
    cleaning: CleanRetry,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    builds: BuildSettings,
    #[command(flatten)]
    own: WorkerSettings,
}

const EXAMPLES: &str = "Examples:
  systemctl start left4me-worker.socket      the usual way: each enqueue wakes it
  left4me-worker --idle-seconds 0            in the foreground, until the queue is empty";

impl WorkerCli {
    fn paths(&self) -> HostPaths {
        HostPaths {
            root: self.paths.root.clone(),
            helper: self.sockets.helper_socket.clone(),
            runner: self.sockets.runner_socket.clone(),
            publisher: self.sockets.publisher_socket.clone(),
        }
    }
}

/// The program's command line, for its manual page.
pub fn command() -> clap::Command {
    WorkerCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<WorkerCli>();
    journal::start(cli.logging.log);
    journal::exit_code(serve(&cli))
}

/// Reads the notification, takes the lock, recovers what a dead worker left, works, exits.
fn serve(cli: &WorkerCli) -> Result<()> {
    // The notification is read before anything can fail: systemd would start the worker again and
    // again for a datagram that stays in the socket.
    let mut wake = Wake::open(&cli.worker.worker_socket)?;

    // When root starts it by hand, it becomes the owner of the data, so that new files belong to
    // that user.
    let database = cli.paths.database();
    users::drop_root(&database)?;
    umask(Mode::from_bits_truncate(instance::UMASK));

    let mut db = Db::open(&database)?;
    let _lock = lock::take(&database, "worker")?;
    db.stay()?;
    wake.listen(&cli.worker.worker_socket, &database)?;

    notify::ready("starting");
    let servers = recover_from_dead_worker(cli, &mut db)?;

    let (mut scheduler, writer) = Scheduler::start(cli, db, &wake)?;
    scheduler.wake_alerts();
    scheduler.observe(servers);
    // When commands do not end, their threads still hold the log. The process exits without waiting
    // for them, and the next worker recovers what is left.
    scheduler.run(&mut wake)?;
    // Not STOPPING=1, unless a signal stopped it: a restart of the socket ignores a service that is
    // stopping, and then cannot start beside it.
    notify::status("exiting");
    scheduler.finish(writer);
    Ok(())
}

/// Waits for the commands of a dead worker, finishes its cancellations, and fails or requeues its
/// other jobs. Returns the servers to check again.
fn recover_from_dead_worker(cli: &WorkerCli, db: &mut Db) -> Result<Vec<ServerId>> {
    let dead = DeadWorker::find(db)?;
    let limit = cli.grace.duration() + STOP_MARGIN;
    let left = recover::wait_for_orphans(&dead, limit);

    for runner in &left {
        let unit = runner.unit.as_deref().unwrap_or("a command");
        tracing::error!(
            "{unit} still has processes of a dead worker's command: \
             other jobs on the same target wait until they are gone"
        );
    }

    recover::close_rows(db, &dead.runners, &left, clock::now_ms())?;

    let mut servers = dead.servers;
    let pauses = &cli.cleaning.clean_retry_seconds;
    loop {
        let (cancelled, observe) = cancel::recover::recover(db, &cli.paths(), pauses)?;
        for job in cancelled {
            tracing::warn!(
                job_id = job.0,
                "a dead worker was cancelling job {job}: it is cancelled now"
            );
        }

        servers.extend(observe);

        let recovered = recover::recover(db, clock::now_ms())?;
        for (job, state) in &recovered.jobs {
            tracing::warn!(
                job_id = job.0,
                "a dead worker left job {job} behind: it is {state} now"
            );
        }

        if !recovered.more_to_cancel {
            break;
        }
    }

    servers.sort_unstable();
    servers.dedup();
    Ok(servers)
}
