//! `left4me fleet show HOST`: one host, with its servers and what happened last.

use serde::Serialize;

use super::super::{Context, facts, when};
use super::hosts::{Seen, labels, queue};
use super::servers::{Known, known};
use super::{events, jobs, say_if_away, servers};
use crate::base::names::FleetHost;
use crate::base::{Result, clock, output};
use crate::db::fleet::events::{EventFilter, HostEvent, newest};
use crate::db::fleet::hosts::{self, Host};
use crate::db::fleet::jobs::{HostJob, JobFilter};
use crate::domain::fleet::view::HostState;

/// How many jobs and events are shown.
const SHOWN: u32 = 10;

#[derive(clap::Args)]
pub(in crate::admin) struct ShowArgs {
    /// The host's name in the fleet
    host: FleetHost,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    host: Seen<'a>,
    servers: Vec<Known<'a>>,
    jobs: &'a [HostJob],
    events: &'a [HostEvent],
}

pub(super) fn run(context: &Context, args: &ShowArgs) -> Result<()> {
    let mut db = context.db()?;
    let name = Some(args.host.as_str());
    let (host, of_host, last_jobs, last_events) = db.read(|tx| {
        let jobs = JobFilter {
            host: name,
            open: false,
        };
        let events = EventFilter {
            host: name,
            ..EventFilter::default()
        };
        Ok((
            hosts::find(tx, &args.host)?,
            crate::db::fleet::servers::list(tx, name)?,
            crate::db::fleet::jobs::newest(tx, jobs, SHOWN)?,
            newest(tx, events, SHOWN)?,
        ))
    })?;

    let hosts = std::slice::from_ref(&host);
    if args.json {
        return output::json(&Document {
            host: Seen {
                state: host.state(context.now),
                host: &host,
            },
            servers: known(hosts, &of_host, context.now),
            jobs: &last_jobs,
            events: &last_events,
        });
    }

    say_if_away(context, &db)?;
    about(&host, context.now)?;
    if !of_host.is_empty() {
        output::line("")?;
        servers::print(hosts, &of_host, context.now)?;
    }
    if !last_jobs.is_empty() {
        output::line("")?;
        jobs::print(&last_jobs)?;
    }
    if !last_events.is_empty() {
        output::line("")?;
        events::print(&last_events)?;
    }
    Ok(())
}

fn about(host: &Host, now: i64) -> Result<()> {
    let state = match (host.state(now), host.status_received_at) {
        (HostState::Silent, Some(at)) => {
            format!("silent: nothing is known since {}", clock::local(at))
        }
        (HostState::Never, _) => "admitted; it has not told anything yet".to_owned(),
        (state, _) => state.to_string(),
    };

    let mut lines = vec![
        ("host", host.name.clone()),
        ("state", state),
        ("last seen", when(host.status_received_at)),
        ("admitted", when(Some(host.admitted_at))),
    ];
    if let Some(at) = host.expelled_at {
        lines.push(("expelled", clock::local(at)));
    }
    lines.push(("roles", host.roles.join(" ")));
    lines.push(("labels", labels(host)));
    if let Some(status) = &host.status {
        let build = |build: Option<u64>| build.map_or_else(String::new, |it| it.to_string());
        let overlays: Vec<_> = status.overlays.keys().map(String::as_str).collect();
        lines.extend([
            ("version", status.version.clone()),
            ("servers", format!("{} of {}", status.used, status.capacity)),
            ("queue", queue(&status.queue)),
            ("build", build(status.build)),
            ("available", build(status.available)),
            ("overlays", overlays.join(" ")),
        ]);
    }
    lines.push(("key", host.key.clone()));
    facts(&lines)
}
