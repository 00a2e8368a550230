//! left4me-poller: reads all units in one go, and writes down what servers are. Started by a timer, and whenever the unit
//! of a server starts or ends. It changes no unit: drift is told, not mended.

mod causes;
mod last_words;
mod look;
mod write;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};

use crate::base::config::{HandSockets, Logging, Paths, WorkerSocket, parse};
use crate::base::{Error, Result, journal, lock, notify, undumpable, users};
use crate::db::{Db, jobs, queue};
use crate::queue::enqueue::{Poke, poke};
use look::{Before, Now};

/// Another poller that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Check the state of all servers once and record it in the database
///
/// systemd starts it by left4me-poller.timer, and when a server starts or ends. Run by hand, it does
/// the same.
#[derive(Parser)]
#[command(name = "left4me-poller", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    hands: HandSockets,
    #[command(flatten)]
    logging: Logging,
}

const EXAMPLES: &str = "Examples:\n  systemctl start --wait left4me-poller.service   one look, now\n  left4me server list                             what it saw";

/// The program's command line, for its manual page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    undumpable::set();

    let cli = parse::<Cli>();
    journal::start(cli.logging.log);

    // From here on this run is on its way out, as far as systemd knows, though it has seen nothing yet: whoever asks for
    // a look from now on gets another run, after this one. A run that counted as active would swallow the request, and
    // with it what happened after its look. PID 1 reads these words before it answers on the bus.
    notify::ready("looking");

    notify::stopping("looking");
    journal::exit_code(poll(&cli))
}

/// The story: read the rows, read the units, write down what has changed, tell it, wake a worker that was forgotten.
fn poll(cli: &Cli) -> Result<()> {
    let database = cli.paths.database();
    // By hand, as root: what is written must belong to whom the data belongs to.
    users::drop_root(&database)?;

    let mut db = Db::open(&database)?;

    // Two at once would each see something of their own; one after the other, the second sees what is true now.
    let turn = lock::wait(&database, "poller", PATIENCE)?;

    let before = Before::read(&mut db)?;
    let seen = look::look();
    let result = match &seen {
        Ok(Now::GoingDown) => return Ok(()),
        Ok(Now::Seen(seen)) => {
            write::seen(&mut db, &before, seen)?;
            seen.complaint().map_or(Ok(()), Err)
        }
        Err(error) => {
            write::unreadable(&mut db, &before, error)?;
            Err(error.clone())
        }
    };
    drop(turn);

    let woken = wake_worker(&db, cli);
    causes::record(&mut db, &cli.hands.helper_socket)?;
    last_words::keep(&mut db, &cli.hands.helper_socket)?;
    db.checkpoint();

    match (result, woken) {
        (Err(one), Err(other)) => Err(Error::new(one.exit, format!("{one}; besides, {other}"))),
        (result, woken) => result.and(woken),
    }
}

/// Jobs that wait, or were left by a worker that died: whoever serves them is glad of a poke, and whoever should is
/// started by it.
fn wake_worker(db: &Db, cli: &Cli) -> Result<()> {
    let connection = db.connection();
    let waiting = jobs::any_queued(connection)? && queue::pause(connection)?.is_none();
    if !waiting && jobs::live_candidates(connection)?.is_empty() {
        return Ok(());
    }

    match poke(&cli.worker.worker_socket) {
        Poke::Sent => Ok(()),
        Poke::Unheard(error) => Err(Error::new(error.exit, format!("jobs wait, but {error}"))),
    }
}
