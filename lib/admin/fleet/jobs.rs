//! `left4me fleet jobs`: the jobs of other hosts, as their events told them.

use super::super::{Context, when};
use super::{first, none, say_if_away};
use crate::base::names::FleetHost;
use crate::base::table::{Table, Tone};
use crate::base::{Result, output};
use crate::db::fleet::jobs::{self, JobFilter};
use crate::queue::fleet::seen::{SeenJob, all_hosts};

#[derive(clap::Args)]
pub(in crate::admin) struct JobsArgs {
    /// Only the jobs of this host
    #[arg(long, value_name = "HOST")]
    host: Option<FleetHost>,
    /// Only jobs that have not ended
    #[arg(long)]
    open: bool,
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &JobsArgs) -> Result<()> {
    let db = context.db()?;
    let filter = JobFilter {
        host: args.host.as_ref().map(FleetHost::as_str),
        open: args.open,
    };
    let jobs = jobs::newest(db.connection(), filter, first(args.limit))?;
    let jobs = SeenJob::all(jobs, &all_hosts(db.connection(), context.now)?);
    if args.json {
        return output::json(&jobs);
    }
    say_if_away(context, &db)?;
    if jobs.is_empty() {
        return none(context, "jobs");
    }
    print(&jobs)
}

pub(super) fn print(jobs: &[SeenJob]) -> Result<()> {
    let mut table = Table::new([
        "HOST",
        "JOB",
        "OPERATION",
        "STATE",
        "CHANGED",
        "ORDER",
        "DETAIL",
    ]);
    for seen in jobs {
        let job = &seen.job;
        let plain = |text: String| (text, Tone::Plain);
        let order = job
            .order
            .map_or_else(String::new, |order| order.to_string());
        table.toned([
            plain(job.host.clone()),
            plain(job.job.to_string()),
            plain(job.operation.clone()),
            (seen.state(), tone(&seen.state())),
            plain(when(Some(job.updated_at))),
            plain(order),
            plain(job.detail.clone()),
        ]);
    }
    table.times(&["CHANGED"]);
    table.print()
}

fn tone(state: &str) -> Tone {
    match state {
        "succeeded" => Tone::Good,
        "failed" => Tone::Bad,
        "cancelled" => Tone::Warning,
        _ => Tone::Plain,
    }
}
