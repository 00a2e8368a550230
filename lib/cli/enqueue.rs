//! `left4me-job enqueue`: queues a job, wakes the worker, and waits or follows on request.

use std::num::NonZeroU16;
use std::process::ExitCode;

use crate::base::names::ServerRef;
use crate::base::{Result, caller, clock, output};
use crate::cli::condition::ConditionArgs;
use crate::cli::{Context, follow, wait};
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;
use crate::queue::enqueue::{JobRequest, Requester, Targets, enqueue};

/// Queue a job: install, update, check, initialize, start, stop, restart, reset or delete
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job enqueue install --follow
  left4me-job enqueue start --server 1 --server Friday --wait
  left4me-job enqueue restart --all --rolling 5 --follow
  left4me-job enqueue restart --server Friday --when-empty --until 06:00 --then go --warn 10m,5m,1m
  left4me-job enqueue reset --stale --server Friday     `left4me server show Friday` lists what it drops
  left4me-job enqueue check --follow         says which build is installed and which is published
  left4me-job enqueue update --unique        for timers: no second job while one is unfinished
  left4me-job enqueue update --validate      repairs the game's files, also when no build is new

Prints the job's id. Ctrl-C stops waiting; the job keeps running.")]
pub struct EnqueueArgs {
    /// install, update and check take no server; the others take --server or --all
    operation: Operation,
    /// A server's id or name; repeatable
    #[arg(
        long = "server",
        short = 's',
        value_name = "ID|NAME",
        conflicts_with = "all"
    )]
    servers: Vec<ServerRef>,
    /// All servers
    #[arg(long)]
    all: bool,
    /// Work on at most N servers at a time. After a restart or reset that failed, the servers that
    /// wait for it are left as they are
    #[arg(long, value_name = "N")]
    rolling: Option<NonZeroU16>,
    /// For update: download and verify all files, also when Steam has no new build
    #[arg(long)]
    validate: bool,
    /// For reset: drop only the files that hide newer game files since an update, and keep all others
    #[arg(long)]
    stale: bool,
    /// If the same job, with the same condition, is queued or running, return that job instead of
    /// adding one
    #[arg(long)]
    unique: bool,
    #[command(flatten)]
    condition: ConditionArgs,
    /// Wait until the job ends; exit 0 if it succeeded, else 1
    #[arg(long)]
    wait: bool,
    /// Print the job's log until it ends; implies --wait
    #[arg(long)]
    follow: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(context: &mut Context, args: &EnqueueArgs) -> Result<ExitCode> {
    let targets = match (args.all, args.servers.is_empty()) {
        (true, _) => Targets::All,
        (false, true) => Targets::None,
        (false, false) => Targets::Named(args.servers.clone()),
    };

    let (requested_by, now) = (caller::caller(), clock::now_ms());
    let request = JobRequest {
        operation: args.operation,
        targets,
        unique: args.unique,
        rolling: args.rolling,
        update: UpdateOptions {
            validate: args.validate,
            stale: args.stale,
            ..UpdateOptions::default()
        },
        condition: args.condition.resolve(args.operation, now)?,
        requester: Requester::local(&requested_by),
    };

    args.condition.confirm(context, &request, now)?;
    // Not the time before the question: the answer may have taken long.
    let accepted = enqueue(&mut context.db, &request, clock::now_ms())?;
    context.wake_worker();

    if args.json {
        output::json(&accepted)?;
    } else if args.follow {
        // Standard output is for the log lines, so the id goes to standard error.
        eprintln!(
            "job {} {}",
            accepted.job_id,
            if accepted.added {
                "queued"
            } else {
                "is already queued or running"
            }
        );
    } else {
        output::line(&accepted.job_id.to_string())?;
        if let Some(waiting) = &accepted.waiting {
            eprintln!("waiting: {}", output::printable(waiting));
        }
    }

    if args.follow {
        // With --json, standard output holds the one document; log lines go to standard error.
        follow::follow(
            context,
            accepted.job_id,
            &follow::Options {
                after: 0,
                style: if args.json {
                    follow::Style::Aside
                } else {
                    follow::Style::Lines
                },
            },
        )
    } else if args.wait {
        wait::wait(context, &[accepted.job_id], None)
    } else {
        Ok(ExitCode::SUCCESS)
    }
}
