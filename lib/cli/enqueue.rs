//! `left4me-job enqueue`: queues a job, wakes the worker, and waits or follows on request.

use std::num::NonZeroU16;
use std::process::ExitCode;

use crate::base::names::{FleetHost, ServerRef};
use crate::base::{Error, Result, caller, clock, output};
use crate::cli::condition::ConditionArgs;
use crate::cli::roll::RollArgs;
use crate::cli::{Context, follow, remote, wait};
use crate::domain::fleet::order::{Enqueue, What};
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;
use crate::queue::enqueue::{JobRequest, Requester, Targets, enqueue};

/// Queue a job: install, update, rollback, check, initialize, start, stop, restart, reset or delete
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
  left4me-job enqueue update --when-empty    each server restarts as soon as nobody plays on it
  left4me-job enqueue update --rolling 4     at most four servers are down at a time
  left4me-job enqueue update --no-restart    each server takes the build at its next start
  left4me-job enqueue update --validate      repairs the game's files, also when no build is new
  left4me-job enqueue rollback --follow      goes back to the build before the current one
  left4me-job enqueue rollback --build 11906514 --when-empty
  left4me-job --host ams-1 enqueue restart --server Friday --wait     prints the order's id

Prints the job's id. Ctrl-C stops waiting; the job keeps running.")]
pub struct EnqueueArgs {
    /// install, update, rollback and check take no server; the others take --server or --all
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
    /// Work on at most N servers at a time; for update and rollback, restart so many. After a
    /// restart or reset that failed, the servers that wait for it are left as they are
    #[arg(long, value_name = "N")]
    rolling: Option<NonZeroU16>,
    /// For reset: drop only the files that hide newer game files since an update, and keep all others
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    roll: RollArgs,
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
    /// With --host: for how long that host may accept it, should it be away [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = remote::good_for, help_heading = "Other hosts")]
    good_for: Option<i64>,
    /// With --host: why, one line
    #[arg(long, help_heading = "Other hosts")]
    reason: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl EnqueueArgs {
    /// The order for another host, which checks it as if it were asked for there.
    ///
    /// Fails with 2 if the options do not fit together; 3 for a server that it has not told of.
    fn order(&self, context: &Context, host: &FleetHost, reason: &str) -> Result<Enqueue> {
        let update = UpdateOptions {
            stale: self.stale,
            ..self.roll.for_another_host(self.operation)?
        };
        // It fails here rather than there if the options do not fit together.
        self.condition.resolve(self.operation, clock::now_ms())?;
        Ok(Enqueue {
            operation: self.operation.to_string(),
            servers: remote::servers(context, host, &self.servers)?,
            all: self.all,
            unique: self.unique,
            rolling: self.rolling,
            update,
            condition: self.condition.ordered(),
            reason: reason.to_owned(),
        })
    }
}

fn send(context: &mut Context, args: &EnqueueArgs, host: &FleetHost) -> Result<ExitCode> {
    remote::refuse(
        args.follow,
        "--follow",
        "--wait says how the job ends; its log is on that host",
    )?;
    let reason = super::reason(args.reason.as_deref())?.unwrap_or_default();
    let order = args.order(context, host, &reason)?;
    let options = remote::Options {
        good_for: args.good_for,
        reason: &reason,
        wait: args.wait,
        json: args.json,
    };
    remote::send(context, host, What::Enqueue(order), options)
}

pub fn run(context: &mut Context, args: &EnqueueArgs) -> Result<ExitCode> {
    if let Some(host) = context.host.clone() {
        return send(context, args, &host);
    }
    if args.good_for.is_some() || args.reason.is_some() {
        return Err(Error::usage(
            "--good-for and --reason are for an order: they need --host",
        ));
    }

    let targets = match (args.all, args.servers.is_empty()) {
        (true, _) => Targets::All,
        (false, true) => Targets::None,
        (false, false) => Targets::Named(args.servers.clone()),
    };

    let (requested_by, now) = (caller::caller(), clock::now_ms());
    let update = UpdateOptions {
        stale: args.stale,
        ..args.roll.resolve(context, args.operation)?
    };
    let request = JobRequest {
        operation: args.operation,
        targets,
        unique: args.unique,
        rolling: args.rolling,
        update,
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
