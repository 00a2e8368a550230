//! left4me-job: the command line of the job queue. One file per verb.

mod cancel;
mod cancellations;
mod condition;
mod control;
mod enqueue;
mod events;
mod follow;
mod list;
mod logs;
mod monitor;
mod progress;
mod remote;
mod roll;
mod show;
mod wait;
mod withdraw;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::base::config::{
    BuildMode, BuildSettings, FleetSettings, Logging, Paths, WorkerSocket, parse,
};
use crate::base::names::FleetHost;
use crate::base::{Error, Result, accounts, journal, undumpable, users};
use crate::db::Db;
use crate::domain::cancellation;
use crate::process::getent;
use crate::queue::wake;

const PROGRAM: &str = "left4me-job";

/// Queue, watch and cancel jobs that install, start, stop and update Left 4 Dead 2 servers
#[derive(Parser)]
#[command(name = PROGRAM, version, propagate_version = true, after_help = EXAMPLES)]
struct JobCli<Verb: Subcommand = JobVerb> {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    builds: BuildSettings,
    #[command(flatten)]
    fleet: FleetSettings,
    #[command(flatten)]
    logging: Logging,
    /// Another host of the fleet: enqueue, list, show, logs and cancel concern its jobs
    #[arg(long, global = true, value_name = "HOST")]
    host: Option<FleetHost>,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  left4me-job enqueue install --follow            install the game and print the log
  left4me-job enqueue start --server Friday       start one server
  left4me-job enqueue restart --all --wait        restart all servers; exit 0 if all succeed
  left4me-job enqueue update --when-empty         update the game; players finish their rounds
  left4me-job list --state queued --state running
  left4me-job logs 7 --follow
  left4me-job cancel 7 --reason 'wrong server'
  left4me-job --host ams-1 enqueue restart --all --wait
  left4me-job monitor                             servers, jobs and logs, live on one screen

Exit codes: 0 done, 1 failed or cancelled, 2 usage, 3 no such job or server,
4 not possible in this state, 69 database or service unavailable, 77 not permitted.";

#[derive(Subcommand)]
enum JobVerb {
    Enqueue(enqueue::EnqueueArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Logs(logs::LogsArgs),
    Wait(wait::WaitArgs),
    Cancel(cancel::CancelArgs),
    CancelStatus(cancellations::StatusArgs),
    Cancellations(cancellations::CancellationsArgs),
    Events(events::EventsArgs),
    Retry(control::RetryArgs),
    Pause(control::PauseArgs),
    Resume(control::ResumeArgs),
    Monitor(monitor::MonitorArgs),
    Withdraw(withdraw::WithdrawArgs),
}

/// The verb that scripts and timers call most. Parsed without the others, because clap builds each
/// verb that it knows, which takes an eighth of the time of an enqueue.
#[derive(Subcommand)]
enum EnqueueVerb {
    Enqueue(enqueue::EnqueueArgs),
}

impl From<JobCli<EnqueueVerb>> for JobCli {
    fn from(cli: JobCli<EnqueueVerb>) -> Self {
        let EnqueueVerb::Enqueue(args) = cli.verb;
        Self {
            paths: cli.paths,
            worker: cli.worker,
            builds: cli.builds,
            fleet: cli.fleet,
            host: cli.host,
            logging: cli.logging,
            verb: JobVerb::Enqueue(args),
        }
    }
}

struct Context {
    db: Db,
    root: PathBuf,
    build_mode: BuildMode,
    worker_socket: PathBuf,
    fleet: FleetSettings,
    /// The other host that is meant; None for this one.
    host: Option<FleetHost>,
}

impl Context {
    /// Wakes the worker. A failure is only a warning: the job is in the queue.
    fn wake_worker(&self) {
        if let Err(error) = wake::worker(&self.worker_socket) {
            eprintln!("{PROGRAM}: warning: the job waits for a worker: {error}");
        }
    }
}

/// The program's command line, for its manual page and completions.
pub fn command() -> clap::Command {
    JobCli::<JobVerb>::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    // The package's left4me-job is linked statically (see deploy/package).
    accounts::look_up_with(getent::account);
    let cli = if std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == "enqueue")
    {
        parse::<JobCli<EnqueueVerb>>().into()
    } else {
        parse::<JobCli>()
    };

    // Log lines on the terminal would garble the monitor's screen.
    let would_garble = matches!(cli.verb, JobVerb::Monitor(_)) && std::io::stderr().is_terminal();
    journal::start(if would_garble {
        LevelFilter::OFF
    } else {
        cli.logging.log
    });

    run(cli).unwrap_or_else(|error| error.report(PROGRAM))
}

fn run(cli: JobCli) -> Result<ExitCode> {
    if matches!(cli.verb, JobVerb::Monitor(_)) {
        monitor::require_terminal()?;
    }

    let database = cli.paths.database();
    // Drop root before opening anything that another user can replace.
    users::drop_root(&database)?;

    let host = remote::other_host(&cli.fleet.fleet_dir, cli.host)?;
    if let Some(host) = &host {
        check_verb(&cli.verb, host)?;
    }
    let mut context = Context {
        db: Db::open(&database)?,
        root: cli.paths.root,
        build_mode: cli.builds.builds,
        worker_socket: cli.worker.worker_socket,
        fleet: cli.fleet,
        host,
    };

    let done = match cli.verb {
        JobVerb::Enqueue(args) => enqueue::run(&mut context, &args),
        JobVerb::List(args) => list::run(&mut context, &args),
        JobVerb::Show(args) => show::run(&mut context, &args),
        JobVerb::Logs(args) => logs::run(&mut context, &args),
        JobVerb::Wait(args) => wait::run(&mut context, &args),
        JobVerb::Cancel(args) => cancel::run(&mut context, &args),
        JobVerb::CancelStatus(args) => cancellations::status(&mut context, &args),
        JobVerb::Cancellations(args) => cancellations::list(&mut context, &args),
        JobVerb::Events(args) => events::run(&mut context, &args),
        JobVerb::Retry(args) => control::retry(&mut context, &args),
        JobVerb::Pause(args) => control::pause(&mut context, &args),
        JobVerb::Resume(args) => control::resume(&mut context, &args),
        JobVerb::Monitor(args) => monitor::run(&mut context, &args),
        JobVerb::Withdraw(args) => withdraw::run(&mut context, &args),
    };

    // Skip SQLite's teardown: it takes a tenth of the whole time of an enqueue, and the kernel
    // closes the files anyway. Nothing is left to write (see NO_CKPT_ON_CLOSE in db/).
    std::mem::forget(context);
    done
}

/// Refuses `--host` where it would have no effect.
fn check_verb(verb: &JobVerb, host: &FleetHost) -> Result<()> {
    match verb {
        JobVerb::Enqueue(_) | JobVerb::List(_) | JobVerb::Show(_) | JobVerb::Cancel(_) => Ok(()),
        JobVerb::Logs(_) | JobVerb::Withdraw(_) => Ok(()),
        _ => Err(Error::usage(format!(
            "--host goes with enqueue, list, show, logs, cancel and withdraw; for the rest, run \
             left4me-job on {host}"
        ))),
    }
}

/// Checks a `--reason`. clap does not parse it, because its error would print the whole text.
fn reason(text: Option<&str>) -> Result<Option<String>> {
    let checked = text.map(cancellation::reason).transpose();
    checked.map_err(|why| Error::usage(format!("--reason: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enqueue_alone_is_parsed_and_explained_as_among_all_verbs() {
        for words in [
            "enqueue --help",
            "enqueue -h",
            "enqueue --version",
            "enqueue",
            "enqueue dance",
            "enqueue start --server 1 --all",
            "enqueue start --sever 1",
            "enqueue start --log loud",
            "enqueue start --root relative",
            "enqueue help",
            "enqueue start stop",
        ] {
            let words = || ["left4me-job"].into_iter().chain(words.split(' '));
            let among = JobCli::<JobVerb>::try_parse_from(words());
            let alone = JobCli::<EnqueueVerb>::try_parse_from(words());
            match (among, alone) {
                (Err(among), Err(alone)) => assert_eq!(alone.to_string(), among.to_string()),
                _ => panic!("{:?} is accepted", words().collect::<Vec<_>>()),
            }
        }
    }

    #[test]
    fn enqueue_alone_takes_all_settings_before_and_after_its_own_arguments() {
        let words = [
            "left4me-job",
            "enqueue",
            "--root",
            "/a",
            "start",
            "--all",
            "--log",
            "warn",
        ];
        let cli: JobCli = JobCli::<EnqueueVerb>::try_parse_from(words).unwrap().into();
        assert_eq!(cli.paths.root, PathBuf::from("/a"));
        assert_eq!(cli.logging.log, LevelFilter::WARN);
        assert!(matches!(cli.verb, JobVerb::Enqueue(_)));
    }
}
