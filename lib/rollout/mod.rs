//! left4me-rollout: drives moves of servers, and updates in waves, over the hosts of a fleet. It reads
//! and writes the database and nothing else: orders go their own way. It exits when no rollout is
//! open.
//!
//! [`drive`] takes the next steps of one rollout; [`moves`] and [`update`] are the two sorts;
//! [`facts`] reads what they are judged by.

pub mod drive;
mod facts;
mod moves;
mod steps;
mod update;

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::base::config::{AlertsSocket, FleetSettings, Logging, Paths, parse};
use crate::base::fleet::Fleet;
use crate::base::{Error, Exit, Result, clock, journal, lock, notify, service, undumpable, users};
use crate::db::Db;
use crate::db::fleet::rollouts;
use crate::db::watch::Watch;
use crate::queue::wake;

/// The longest pause between two looks, while a rollout is open.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Drive the rollouts of the fleet: moves of servers, and updates in waves
///
/// left4me-rollout.socket starts it, and systemd at boot. Run by hand, it does the same in the
/// foreground, until no rollout is open.
#[derive(Parser)]
#[command(name = "left4me-rollout", version, after_help = EXAMPLES)]
struct RolloutCli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    alerts: AlertsSocket,
    #[command(flatten)]
    fleet: FleetSettings,
    #[command(flatten)]
    logging: Logging,
}

const EXAMPLES: &str = "Examples:
  left4me fleet rollouts                     what it drives
  systemctl status left4me-rollout.service   whether it does";

/// The program's command line, for its manual page.
pub fn command() -> clap::Command {
    RolloutCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<RolloutCli>();
    journal::start(cli.logging.log);
    journal::exit_code(serve(&cli))
}

fn serve(cli: &RolloutCli) -> Result<()> {
    // The notification is read before anything can fail: systemd would start the program again and
    // again for a datagram that stays in the socket.
    let wakes = Wakes::open()?;
    let fleet = Fleet::read(&cli.fleet.fleet_dir)?
        .ok_or_else(|| Error::conflict("this host belongs to no fleet: `left4me fleet join`"))?;

    let database = cli.paths.database();
    users::drop_root(&database)?;
    let mut db = Db::open(&database)?;
    let _lock = lock::take(&database, "rollout")?;
    db.stay()?;
    let mut watch = Watch::new(&database)?;

    notify::ready("driving");
    loop {
        notify::watchdog();
        let mut due = None;
        let open = rollouts::open(db.connection())?;
        for &id in &open {
            let stepped = match drive::step(&mut db, &fleet.host, id, clock::now_ms()) {
                Ok(stepped) => stepped,
                Err(error) if error.exit == Exit::Unavailable => return Err(error),
                // Such as one that a later version has written.
                Err(error) => {
                    tracing::warn!("{error}");
                    continue;
                }
            };
            if stepped.has_orders || stepped.has_ended {
                wake::link(&cli.fleet.link_socket);
            }
            if stepped.has_ended {
                wake::alerts(db.connection(), &cli.alerts.alerts_socket);
            }
            due = [due, stepped.due].into_iter().flatten().min();
        }
        if open.is_empty() {
            notify::status("exiting");
            return Ok(());
        }

        notify::status(&format!("driving {} rollouts", open.len()));
        let now = clock::now_ms();
        let pause = due.map_or(LONGEST_PAUSE, |at| {
            Duration::from_millis(at.saturating_sub(now).max(1).unsigned_abs())
        });
        if wakes.wait(&mut watch, pause.min(LONGEST_PAUSE))? {
            notify::stopping("stopping");
            return Ok(());
        }
    }
}

/// What ends a pause: systemd's socket, a commit of another process, a signal.
struct Wakes {
    socket: Option<UnixDatagram>,
    signals: SignalFd,
}

impl Wakes {
    fn open() -> Result<Self> {
        let signals = service::end_signals()?;
        let socket = notify::passed_socket().map(UnixDatagram::from);
        if let Some(socket) = &socket {
            socket.set_nonblocking(true)?;
        }
        let wakes = Self { socket, signals };
        wakes.drain();
        Ok(wakes)
    }

    fn drain(&self) {
        let mut byte = [0_u8; 16];
        if let Some(socket) = &self.socket {
            while socket.recv(&mut byte).is_ok() {}
        }
    }

    /// Waits for a commit or a notification, at most for `time`. Whether a signal says to stop.
    fn wait(&self, watch: &mut Watch, time: Duration) -> Result<bool> {
        let deadline = std::time::Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let pause = left.min(watch.due());
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let socket = self.socket.as_ref().map(UnixDatagram::as_fd);
            let others = socket.into_iter().chain(watch.descriptor());
            fds.extend(others.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let ms = PollTimeout::try_from(pause.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            // An early wake-up is harmless.
            poll(&mut fds, ms).ok();

            let signal = self.signals.read_signal();
            if signal.is_ok_and(|signal| signal.is_some()) {
                return Ok(true);
            }
            self.drain();
            if watch.check()? || left.is_zero() {
                return Ok(false);
            }
        }
    }
}
