//! `left4me fleet events`: what happened on the hosts of the fleet.

use super::super::{Context, when};
use super::{first, none, say_if_away};
use crate::base::names::FleetHost;
use crate::base::table::Table;
use crate::base::ulid::Ulid;
use crate::base::{Result, output};
use crate::db::fleet::events::{self, EventFilter, HostEvent};

#[derive(clap::Args)]
pub(in crate::admin) struct EventsArgs {
    /// Only the events of this host
    #[arg(long, value_name = "HOST")]
    host: Option<FleetHost>,
    /// Only what is about this order
    #[arg(long, value_name = "ID")]
    order: Option<Ulid>,
    /// Only what is about the job with this number, on --host
    #[arg(long, value_name = "JOB", requires = "host")]
    job: Option<i64>,
    /// Only kinds that begin so, such as server. or job.failed
    #[arg(
        long,
        value_name = "KIND",
        default_value = "",
        hide_default_value = true
    )]
    kind: String,
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &EventsArgs) -> Result<()> {
    let db = context.db()?;
    let filter = EventFilter {
        host: args.host.as_ref().map(FleetHost::as_str),
        order: args.order,
        job: args.job,
        kind: &args.kind,
    };
    let events = events::newest(db.connection(), filter, first(args.limit))?;
    if args.json {
        return output::json(&events);
    }
    say_if_away(context, &db)?;
    if events.is_empty() {
        return none(context, "events");
    }
    print(&events)
}

pub(super) fn print(events: &[HostEvent]) -> Result<()> {
    let mut table = Table::new(["AT", "HOST", "WHAT", "BY", "JOB", "DETAIL"]);
    for event in events {
        let job = event.job.map_or_else(String::new, |job| job.to_string());
        table.row([
            when(Some(event.at)),
            event.host.clone(),
            event.kind.clone(),
            event.actor.clone(),
            job,
            event.detail.clone(),
        ]);
    }
    table.times(&["AT"]);
    table.print()
}
