//! left4me-job: the queue at the command line. One file per verb.

mod cancel;
mod cancellations;
mod control;
mod enqueue;
mod events;
mod follow;
mod list;
mod logs;
mod monitor;
mod progress;
mod show;
mod wait;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::base::config::{Logging, Paths, WorkerSocket, parse};
use crate::base::{Error, Result, journal, undumpable, users};
use crate::db::Db;
use crate::domain::cancellation;
use crate::queue::enqueue::{Poke, poke};

const PROGRAM: &str = "left4me-job";

/// Queue jobs for Left 4 Dead 2 servers, watch them, read what they did.
#[derive(Parser)]
#[command(name = PROGRAM, version, about, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  left4me-job enqueue install --follow            install the game, and watch
  left4me-job enqueue start --server Friday       start one server
  left4me-job enqueue restart --all --wait        restart all; exit 0 when all went well
  left4me-job list --state queued --state running
  left4me-job logs 7 --follow
  left4me-job cancel 7 --reason 'wrong server'
  left4me-job monitor                             all of it on one screen

Exit codes: 0 done, 1 failed or cancelled, 2 usage, 3 no such job or server, 4 not possible in this state,
69 database or service unavailable, 77 not permitted.";

#[derive(Subcommand)]
enum Verb {
    Enqueue(enqueue::Args),
    List(list::Args),
    Show(show::Args),
    Logs(logs::Args),
    Wait(wait::Args),
    Cancel(cancel::Args),
    CancelStatus(cancellations::StatusArgs),
    Cancellations(cancellations::Args),
    Events(events::Args),
    Retry(control::RetryArgs),
    Pause(control::PauseArgs),
    Resume(control::ResumeArgs),
    Monitor(monitor::Args),
}

/// What every verb needs: the open database and the way to the worker.
struct Context {
    db: Db,
    worker_socket: PathBuf,
}

impl Context {
    /// Wakes the worker; when nobody hears it, says so on standard error. The job is accepted all the same.
    fn poke(&self) {
        if let Poke::Unheard(error) = poke(&self.worker_socket) {
            eprintln!("{PROGRAM}: warning: the job waits: {error}");
        }
    }
}

/// The program's command line, for its manual page and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    undumpable::be();
    let cli = parse::<Cli>();
    // Lines on the terminal would fall into the monitor's picture.
    let is_drawn_over = matches!(cli.verb, Verb::Monitor(_)) && std::io::stderr().is_terminal();
    journal::start(if is_drawn_over { LevelFilter::OFF } else { cli.logging.log });
    run(cli).unwrap_or_else(|error| error.report(PROGRAM))
}

fn run(cli: Cli) -> Result<ExitCode> {
    if matches!(cli.verb, Verb::Monitor(_)) {
        monitor::must_have_terminal()?;
    }
    let database = cli.paths.database();
    // Root goes on as left4me, before anything is opened that another user can exchange.
    users::become_successor(&database)?;
    let mut context = Context { db: Db::open(&database)?, worker_socket: cli.worker.worker_socket };
    let done = match cli.verb {
        Verb::Enqueue(args) => enqueue::run(&mut context, &args),
        Verb::List(args) => list::run(&mut context, &args),
        Verb::Show(args) => show::run(&mut context, &args),
        Verb::Logs(args) => logs::run(&mut context, &args),
        Verb::Wait(args) => wait::run(&mut context, &args),
        Verb::Cancel(args) => cancel::run(&mut context, &args),
        Verb::CancelStatus(args) => cancellations::status(&mut context, &args),
        Verb::Cancellations(args) => cancellations::list(&mut context, &args),
        Verb::Events(args) => events::run(&mut context, &args),
        Verb::Retry(args) => control::retry(&mut context, &args),
        Verb::Pause(args) => control::pause(&mut context, &args),
        Verb::Resume(args) => control::resume(&mut context, &args),
        Verb::Monitor(args) => monitor::run(&mut context, &args),
    };
    // The process ends here, and the kernel closes files faster than SQLite takes its structures apart: a tenth of the
    // whole time of an enqueue. Nothing is left to be written (see NO_CKPT_ON_CLOSE in db/).
    std::mem::forget(context);
    done
}

/// The words of a `--reason`. Not clap's to refuse: it would print all of them, whatever they are.
fn reason(text: Option<&str>) -> Result<Option<String>> {
    let checked = text.map(cancellation::reason).transpose();
    checked.map_err(|why| Error::usage(format!("--reason: {why}")))
}
