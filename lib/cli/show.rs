//! `left4me-job show`: one job with its tasks, commands and cancellations.

use std::process::ExitCode;

use serde::Serialize;

use crate::base::names::TaskId;
use crate::base::table::Table;
use crate::base::{Result, clock, output};
use crate::cli::Context;
use crate::cli::list::{duration, servers_of};
use crate::cli::remote::{self, JobOrOrder};
use crate::db::cancellations::{self, Cancellation};
use crate::db::jobs::{self, Job};
use crate::db::runners::{self, Runner};
use crate::db::tasks::Task;
use crate::domain::outcome::Outcome;

/// Show one job: its tasks with their states, and the commands that ran for it
#[derive(clap::Args)]
pub struct ShowArgs {
    /// The job's id, or that of an order to another host
    #[arg(value_name = "ID")]
    id: JobOrOrder,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A job with its related rows.
#[derive(Serialize)]
struct FullJob {
    #[serde(flatten)]
    job: Job,
    runners: Vec<Runner>,
    cancellations: Vec<Cancellation>,
}

pub fn run(context: &mut Context, args: &ShowArgs) -> Result<ExitCode> {
    let id = match (args.id, &context.host) {
        (JobOrOrder::Order(id), _) => return remote::order(context, id, args.json),
        (JobOrOrder::Job(id), Some(host)) => return remote::job(context, host, id, args.json),
        (JobOrOrder::Job(id), None) => id,
    };
    let full = context.db.read(|tx| {
        Ok(FullJob {
            job: jobs::get(tx, id)?,
            runners: runners::of_job(tx, id)?,
            cancellations: cancellations::of_job(tx, id)?,
        })
    })?;

    if args.json {
        output::json(&full)?;
    } else {
        print(&full)?;
    }

    Ok(ExitCode::SUCCESS)
}

fn print(full: &FullJob) -> Result<()> {
    let FullJob {
        job,
        runners,
        cancellations,
    } = full;

    let now = clock::now_ms();
    let position = job.queue_position.map_or_else(String::new, |position| {
        format!(", position {position} in the queue")
    });
    let mut facts = vec![
        ("job", format!("{} ({})", job.id, job.operation)),
        ("state", format!("{}{position}", job.state)),
        ("servers", servers_of(job)),
        ("requested by", job.requested_by.clone()),
        ("queued", clock::local(job.created_at)),
    ];

    facts.extend(job.waiting.clone().map(|waiting| ("waiting", waiting)));
    facts.extend(
        job.condition
            .as_ref()
            .map(|condition| ("condition", condition.message(now))),
    );
    facts.extend(job.options.message().map(|options| ("options", options)));
    facts.extend(job.roll_of.map(|id| ("for", format!("job {id}"))));
    facts.extend(job.retry_of.map(|id| ("retry of", format!("job {id}"))));
    facts.extend(job.started_at.map(|at| ("started", clock::local(at))));
    facts.extend(job.finished_at.map(|at| {
        (
            "finished",
            format!("{} (after {})", clock::local(at), duration(job, now)),
        )
    }));

    facts.extend(job.exit_code.map(|code| ("exit code", code.to_string())));
    facts.extend(job.error.clone().map(|error| ("error", error)));
    facts.extend(job.result.clone().map(|result| ("result", result)));
    for (name, value) in facts {
        output::line(&format!("{name:<12} {}", output::printable(&value)))?;
    }

    output::line("")?;
    let mut table = Table::new([
        "TASK", "KIND", "SERVER", "STATE", "AFTER", "DURATION", "ERROR",
    ]);
    for task in &job.tasks {
        table.row(task_row(task, now));
    }
    table.print()?;

    for line in outcomes(job) {
        output::line(&output::printable(&line))?;
    }

    if !cancellations.is_empty() {
        output::line("")?;
    }
    for one in cancellations {
        let what = one
            .task_id
            .map_or_else(String::new, |id| format!(" of task {id}"));
        let message = one.message.as_deref().unwrap_or("in progress");
        let text = format!(
            "cancellation {}{what} by {}: {}, {message}",
            one.id, one.requested_by, one.state
        );

        output::line(&output::printable(&text))?;
    }

    // The commands that ran for the job.
    if runners.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let mut table = Table::new(["TASK", "RAN", "UNIT", "PID", "EXIT", "ENDED BY", "TREE"]);
    for runner in runners {
        table.row([
            runner.task_id.to_string(),
            runner.verb.clone(),
            runner.unit.clone().unwrap_or_else(dash),
            runner.pid.map_or_else(dash, |pid| pid.to_string()),
            runner.exit_code.map_or_else(dash, |code| code.to_string()),
            runner
                .ended_by
                .clone()
                .unwrap_or_else(|| "running".to_owned()),
            runner.tree.clone().unwrap_or_else(dash),
        ]);
    }

    table.print()
}

/// How the job ended for each server; empty if it succeeded for all of them.
fn outcomes(job: &Job) -> Vec<String> {
    if job
        .server_outcomes
        .iter()
        .all(|one| one.outcome == Outcome::Succeeded)
    {
        return Vec::new();
    }

    let mut lines = vec![String::new()];
    for one in &job.server_outcomes {
        let at = job.servers.iter().position(|&id| id == one.server);
        let name = at.and_then(|at| job.server_names.get(at)?.as_deref());
        let name = name.map_or_else(String::new, |name| format!(" ({name})"));
        let why = one
            .error
            .as_ref()
            .map_or_else(String::new, |error| format!(": {error}"));
        lines.push(format!(
            "server {}{name} {}{why}",
            one.server,
            one.outcome.message()
        ));
    }

    let left = job
        .server_outcomes
        .iter()
        .filter(|one| one.outcome == Outcome::LeftStopped);
    let left: String = left
        .map(|one| format!(" --server {}", one.server))
        .collect();
    if !left.is_empty() && job.state.is_terminal() {
        lines.push(format!(
            "to start the servers it stopped: left4me-job enqueue start{left}"
        ));
    }

    lines
}

fn task_row(task: &Task, now: i64) -> [String; 7] {
    let duration = task.started_at.map_or_else(dash, |started| {
        clock::span(task.finished_at.unwrap_or(now) - started)
    });
    [
        task.id.to_string(),
        task.kind.clone(),
        task.server.map_or_else(dash, |id| id.to_string()),
        task.state.to_string(),
        if task.depends_on.is_empty() {
            dash()
        } else {
            ids(&task.depends_on)
        },
        duration,
        task.error.clone().unwrap_or_default(),
    ]
}

fn ids(tasks: &[TaskId]) -> String {
    tasks
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn dash() -> String {
    "-".to_owned()
}
