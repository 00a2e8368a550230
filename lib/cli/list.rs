//! `left4me-job list`: jobs, newest first.

use std::process::ExitCode;

use crate::base::names::ServerRef;
use crate::base::table::Table;
use crate::base::{Result, clock, output};
use crate::cli::{Context, remote};
use crate::db::jobs::{self, Filter, Job};
use crate::db::{queue, servers};
use crate::domain::job::JobState;
use crate::queue::recover;

/// List jobs, newest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job list
  left4me-job list --server Friday --state failed --limit 5
  left4me-job list --json
  left4me-job --host ams-1 list")]
pub struct ListArgs {
    /// Only jobs for this server
    #[arg(long, short, value_name = "ID|NAME")]
    server: Option<ServerRef>,
    /// Only jobs in this state; repeatable
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<JobState>,
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(context: &mut Context, args: &ListArgs) -> Result<ExitCode> {
    if let Some(host) = &context.host {
        let instead = "events do not tell all servers of a job";
        remote::refuse(args.server.is_some(), "--server", instead)?;
        return remote::list(context, host, &args.states, args.limit, args.json);
    }

    let (jobs, pause, unkillable, invalid) = context.db.read(|tx| {
        let server = args
            .server
            .as_ref()
            .map(|name| servers::find(tx, name))
            .transpose()?
            .map(|server| server.id);
        let filter = Filter {
            server,
            states: args.states.clone(),
            limit: args.limit,
            ..Filter::default()
        };

        Ok((
            jobs::list(tx, &filter)?,
            queue::pause(tx)?,
            recover::unkillable(tx)?,
            recover::invalid_rows(tx)?,
        ))
    })?;

    if args.json {
        output::json(&jobs)?;
        return Ok(ExitCode::SUCCESS);
    }

    // What keeps jobs waiting goes to standard error, before the table.
    if let Some(pause) = pause {
        let why = pause
            .reason
            .map_or_else(String::new, |reason| format!(": {reason}"));
        let since = clock::local(pause.paused_at);
        let message = format!(
            "the queue is paused by {} since {since}{why}",
            pause.paused_by
        );

        eprintln!("{}", output::printable(&message));
    }

    for runner in unkillable {
        eprintln!(
            "{}: jobs for the same servers wait until it is gone",
            runner.unkillable()
        );
    }

    for row in invalid {
        eprintln!("{}", output::printable(&row));
    }

    if jobs.is_empty() {
        eprintln!("no jobs; start with `left4me-job enqueue install`");
        return Ok(ExitCode::SUCCESS);
    }

    let now = clock::now_ms();
    let mut table = Table::new([
        "ID",
        "OPERATION",
        "SERVERS",
        "STATE",
        "BY",
        "QUEUED",
        "DURATION",
    ]);

    for job in &jobs {
        table.row([
            job.id.to_string(),
            job.what(),
            servers_of(job),
            state_of(job),
            job.requested_by.clone(),
            clock::local(job.created_at),
            duration(job, now),
        ]);
    }

    table.times(&["QUEUED"]);
    table.print()?;

    for job in &jobs {
        if let Some(waiting) = &job.waiting {
            output::line(&output::printable(&format!(
                "job {} waiting: {waiting}",
                job.id
            )))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The servers' names, shortened to fit a column.
pub fn servers_of(job: &Job) -> String {
    let names: Vec<_> = job
        .servers
        .iter()
        .zip(&job.server_names)
        .map(|(id, name)| name.clone().unwrap_or_else(|| format!("#{id}")))
        .collect();

    match names.len() {
        0 => "-".to_owned(),
        1..=3 => names.join(", "),
        more => format!("{}, {} and {} more", names[0], names[1], more - 2),
    }
}

fn state_of(job: &Job) -> String {
    match job.queue_position {
        Some(position) => format!("{} (#{position})", job.state),
        None if job.on_hold => format!("{} (waiting)", job.state),
        None => job.state.to_string(),
    }
}

/// How long the job ran, or has been running.
pub fn duration(job: &Job, now: i64) -> String {
    match (job.started_at, job.finished_at) {
        (Some(started), Some(finished)) => clock::span(finished - started),
        (Some(started), None) => clock::span(now - started),
        _ => "-".to_owned(),
    }
}
