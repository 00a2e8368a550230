//! `left4me-job events`: what happened, and who did it.

use std::process::ExitCode;

use crate::base::names::JobId;
use crate::base::table::Table;
use crate::base::{Result, clock, output};
use crate::cli::Context;
use crate::db::events::{self, Event};
use crate::db::jobs;
use crate::db::watch::Watch;

/// At most so many are read at once.
const PAGE: u32 = 1000;

/// Show what happened and who did it, the oldest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job events                     the last 50
  left4me-job events --job 7
  left4me-job events --follow            and what happens from now on; Ctrl-C ends the watching
  left4me-job events --json              one JSON document per line")]
pub struct Args {
    /// Only what is about this job
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// The last so many; all of a job's unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
    /// One JSON document per line
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(context: &mut Context, args: &Args) -> Result<ExitCode> {
    let connection = context.db.connection();
    args.job.map(|id| jobs::state(connection, id)).transpose()?;
    // Before the first look: what is committed in between is not missed.
    let mut watch = if args.follow { Some(Watch::new(context.db.path())?) } else { None };
    let limit = args.limit.unwrap_or(if args.job.is_some() { 100_000 } else { 50 });
    let first = events::last(connection, args.job, limit)?;
    if first.is_empty() && !args.follow {
        eprintln!("nothing has happened yet");
    }
    let mut after = first.last().map_or(0, |event| event.id);
    print(&first, args)?;
    while let Some(watch) = &mut watch {
        watch.wait(None)?;
        loop {
            let more = events::after(connection, args.job, after, PAGE)?;
            after = more.last().map_or(after, |event| event.id);
            print(&more, args)?;
            if more.len() < PAGE as usize {
                break;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(events: &[Event], args: &Args) -> Result<()> {
    if args.json {
        return events.iter().try_for_each(output::json);
    }
    // Headings once would be lost among lines that come later: following has none.
    if args.follow {
        return events.iter().try_for_each(|event| output::line(&output::printable(&cells(event).join("  "))));
    }
    if events.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["AT", "WHAT", "BY", "ABOUT", "DETAIL"]);
    events.iter().for_each(|event| table.row(cells(event)));
    table.times(&["AT"]);
    table.print()
}

fn cells(event: &Event) -> [String; 5] {
    let about = [
        event.job_id.map(|id| format!("job {id}")),
        event.task_id.map(|id| format!("task {id}")),
        event.server_id.map(|id| format!("server {id}")),
    ];
    let about: Vec<String> = about.into_iter().flatten().collect();
    let why = if event.reason.is_empty() { String::new() } else { format!(" ({})", event.reason) };
    [
        clock::local(event.at),
        event.kind.clone(),
        event.actor.clone(),
        if about.is_empty() { "-".to_owned() } else { about.join(", ") },
        format!("{}{why}", event.detail).trim_start().to_owned(),
    ]
}
