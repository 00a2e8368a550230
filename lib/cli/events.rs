//! `left4me-job events`: the event log, with who caused each event.

use std::process::ExitCode;

use crate::base::names::JobId;
use crate::base::table::Table;
use crate::base::{Result, clock, output};
use crate::cli::Context;
use crate::db::events::{self, Event};
use crate::db::jobs;
use crate::db::watch::Watch;

/// Rows per query.
const PAGE: u32 = 1000;

/// Show what happened and who did it, oldest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job events                     the last 50
  left4me-job events --job 7
  left4me-job events --follow            the last 50, then new ones until Ctrl-C
  left4me-job events --json              one JSON document per line")]
pub struct EventsArgs {
    /// Only events of this job
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Keep printing new events until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Maximum number of events [default: 50; with --job, all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
    /// Print one JSON document per line
    #[arg(long)]
    json: bool,
}

pub fn run(context: &mut Context, args: &EventsArgs) -> Result<ExitCode> {
    let connection = context.db.connection();
    args.job.map(|id| jobs::state(connection, id)).transpose()?;

    // Start watching before the first query, so that no commit in between is missed.
    let mut watch = if args.follow {
        Some(Watch::new(context.db.path())?)
    } else {
        None
    };

    let limit = args
        .limit
        .unwrap_or(if args.job.is_some() { 100_000 } else { 50 });
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

fn print(events: &[Event], args: &EventsArgs) -> Result<()> {
    if args.json {
        return events.iter().try_for_each(output::json);
    }

    // Headings would scroll away while following.
    if args.follow {
        return events
            .iter()
            .try_for_each(|event| output::line(&output::printable(&cells(event).join("  "))));
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
    let why = if event.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", event.reason)
    };

    [
        clock::local(event.at),
        event.kind.clone(),
        event.actor.clone(),
        if about.is_empty() {
            "-".to_owned()
        } else {
            about.join(", ")
        },
        format!("{}{why}", event.detail).trim_start().to_owned(),
    ]
}
