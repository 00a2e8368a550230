//! `left4me-job cancel-status` and `cancellations`: how far cancellations are, and how they ended.

use std::process::ExitCode;

use crate::base::names::JobId;
use crate::base::table::{Table, Tone};
use crate::base::{Error, Result, clock, output};
use crate::cancel::{CancelResult, result};
use crate::cli::{Context, cancel};
use crate::db::cancellations::{self, CancellationFilter};
use crate::db::jobs;
use crate::domain::cancellation::Progress;

/// Show the steps of a job's latest cancellation
#[derive(clap::Args)]
pub struct StatusArgs {
    /// The job's id
    id: JobId,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// List cancellations, newest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job cancellations
  left4me-job cancellations --state failed
  left4me-job cancellations --job 7 --json
  left4me-job cancellations --limit 50 --offset 50")]
pub struct CancellationsArgs {
    /// Only cancellations of this job
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Only cancellations in this state: requested, running, completed or failed
    #[arg(long, value_name = "STATE")]
    state: Option<Progress>,
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Skip this many rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn status(context: &mut Context, args: &StatusArgs) -> Result<ExitCode> {
    let (result, earlier) = context.db.read(|tx| {
        jobs::state(tx, args.id)?;
        let all = cancellations::of_job(tx, args.id)?;
        let Some(newest) = all.last() else {
            return Err(Error::not_found(format!(
                "job {} has no cancellation, nor has one of its tasks",
                args.id
            )));
        };

        Ok((result::of(tx, newest.id)?, all.len() - 1))
    })?;

    if args.json {
        output::json(&result)?;
        return Ok(ExitCode::SUCCESS);
    }

    let what = result
        .task
        .map_or_else(|| "job".to_owned(), |task| format!("task {task} of job"));
    let mut facts = vec![
        (
            "what",
            format!(
                "{what} {} ({} -> {})",
                result.job_id, result.previous_state, result.state
            ),
        ),
        (
            "requested by",
            result.requested_by.clone().unwrap_or_default(),
        ),
    ];

    if !result.reason.is_empty() {
        facts.push(("reason", result.reason.clone()));
    }

    facts.push(("force", force(&result)));
    if result.leave_stopped {
        facts.push(("afterwards", "servers stay stopped".to_owned()));
    }
    facts.extend(
        result
            .cancellation_state
            .map(|state| ("record", state.to_string())),
    );

    facts.push(("progress", result.message.clone()));
    for (name, value) in facts {
        output::line(&format!("{name:<12} {}", output::printable(&value)))?;
    }

    output::line("")?;
    for step in &result.steps {
        output::line(&output::printable(&cancel::line(step)))?;
    }

    if !result.tasks_affected.is_empty() || !result.runners_terminated.is_empty() {
        output::line("")?;
    }

    cancel::print_affected(&result)?;
    if earlier > 0 {
        eprintln!(
            "{earlier} earlier cancellations: see `left4me-job cancellations --job {}`",
            args.id
        );
    }

    Ok(ExitCode::SUCCESS)
}

/// Whether running commands were killed, and when that was requested.
fn force(result: &CancelResult) -> String {
    match (result.force_used, result.escalated_at, result.timed_out) {
        (true, Some(at), _) => format!("since {}", clock::local(at)),
        (true, None, _) => "yes".to_owned(),
        (false, _, true) => {
            "no; a command was killed because it did not end within the grace".to_owned()
        }
        (false, _, false) => "no".to_owned(),
    }
}

pub fn list(context: &mut Context, args: &CancellationsArgs) -> Result<ExitCode> {
    let filter = CancellationFilter {
        job: args.job,
        state: args.state,
        limit: args.limit,
        offset: args.offset,
    };

    let all = context.db.read(|tx| {
        args.job.map(|id| jobs::state(tx, id)).transpose()?;
        cancellations::list(tx, &filter)
    })?;

    if args.json {
        output::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }

    if all.is_empty() {
        eprintln!("no cancellations");
        return Ok(ExitCode::SUCCESS);
    }

    let mut table = Table::new([
        "ID",
        "JOB",
        "TASK",
        "STATE",
        "BY",
        "REQUESTED",
        "DURATION",
        "REASON",
    ]);

    let dash = || "-".to_owned();
    for one in &all {
        let tone = match one.state {
            Progress::Completed => Tone::Plain,
            Progress::Requested | Progress::Running => Tone::Warning,
            Progress::Failed => Tone::Bad,
        };

        let cells = [
            (one.id.to_string(), Tone::Plain),
            (one.job_id.to_string(), Tone::Plain),
            (
                one.task_id.map_or_else(dash, |id| id.to_string()),
                Tone::Plain,
            ),
            (
                format!("{}{}", one.state, if one.force { " (force)" } else { "" }),
                tone,
            ),
            (one.requested_by.clone(), Tone::Plain),
            (clock::local(one.created_at), Tone::Plain),
            (
                one.finished_at
                    .map_or_else(dash, |at| cancel::duration(at - one.created_at)),
                Tone::Plain,
            ),
            (one.reason.clone(), Tone::Plain),
        ];

        table.toned(cells);
    }

    table.times(&["REQUESTED"]);
    table.print()?;
    Ok(ExitCode::SUCCESS)
}
