//! The jobs of another host, as its events told them.

use std::process::ExitCode;

use crate::base::names::FleetHost;
use crate::base::table::Table;
use crate::base::{Result, clock, output};
use crate::cli::Context;
use crate::db::fleet::jobs::{self, JobFilter};
use crate::db::lists::Part;
use crate::domain::job::JobState;
use crate::queue::fleet::ask_for;
use crate::queue::fleet::seen::{SeenJob, all_hosts};

/// The most jobs that are read to find those in some states.
const MOST: u32 = 100_000;

/// Prints the newest jobs of `host` in one of `states`; in any, if that is empty.
pub fn list(
    context: &Context,
    host: &FleetHost,
    states: &[JobState],
    limit: u32,
    json: bool,
) -> Result<ExitCode> {
    let connection = context.db.connection();
    ask_for::check_host(connection, host)?;
    let filter = JobFilter {
        host: Some(host.as_str()),
        open: false,
    };
    let part = Part {
        limit: if states.is_empty() { limit } else { MOST },
        offset: 0,
    };
    let mut jobs = jobs::newest(connection, filter, part)?;
    let words: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    jobs.retain(|job| words.is_empty() || words.contains(&job.state.as_str()));
    jobs.truncate(limit as usize);
    let jobs = SeenJob::all(jobs, &all_hosts(connection, clock::now_ms())?);

    if json {
        output::json(&jobs)?;
        return Ok(ExitCode::SUCCESS);
    }
    if jobs.is_empty() {
        eprintln!("{host} has told of no such jobs");
        return Ok(ExitCode::SUCCESS);
    }
    print(&jobs)?;
    Ok(ExitCode::SUCCESS)
}

fn print(jobs: &[SeenJob]) -> Result<()> {
    let mut table = Table::new(["ID", "OPERATION", "STATE", "CHANGED", "ORDER", "DETAIL"]);
    for seen in jobs {
        let job = &seen.job;
        table.row([
            job.job.to_string(),
            job.operation.clone(),
            seen.state(),
            clock::local(job.updated_at),
            job.order
                .map_or_else(String::new, |order| order.to_string()),
            job.detail.clone(),
        ]);
    }
    table.times(&["CHANGED"]);
    table.print()
}
