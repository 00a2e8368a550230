//! `left4me fleet show HOST`: one host, with its servers and what happened last.

use serde::Serialize;

use super::super::{Context, facts, when};
use super::{events, first, jobs, say_if_away, servers};
use crate::base::names::FleetHost;
use crate::base::{Result, clock, output};
use crate::db::fleet::events::{EventFilter, HostEvent, newest};
use crate::db::fleet::hosts;
use crate::db::fleet::jobs::JobFilter;
use crate::domain::fleet::view::HostState;
use crate::queue::fleet::seen::{SeenHost, SeenJob, SeenServer, all_servers};

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
struct Document {
    #[serde(flatten)]
    host: SeenHost,
    servers: Vec<SeenServer>,
    /// The newest ones.
    jobs: Vec<SeenJob>,
    events: Vec<HostEvent>,
}

pub(super) fn run(context: &Context, args: &ShowArgs) -> Result<()> {
    let mut db = context.db()?;
    let name = Some(args.host.as_str());
    let shown = db.read(|tx| {
        let of_host = JobFilter {
            host: name,
            ..JobFilter::default()
        };
        let on_host = EventFilter {
            host: name,
            ..EventFilter::default()
        };
        let host = SeenHost::of(hosts::find(tx, &args.host)?, context.now);
        let jobs = crate::db::fleet::jobs::newest(tx, of_host, first(SHOWN))?;
        Ok(Document {
            servers: all_servers(tx, name, context.now)?,
            jobs: SeenJob::all(jobs, std::slice::from_ref(&host)),
            events: newest(tx, on_host, first(SHOWN))?,
            host,
        })
    })?;

    if args.json {
        return output::json(&shown);
    }
    say_if_away(context, &db)?;
    about(&shown.host)?;
    if !shown.servers.is_empty() {
        output::line("")?;
        servers::print(&shown.servers, context.now)?;
    }
    if !shown.jobs.is_empty() {
        output::line("")?;
        jobs::print(&shown.jobs)?;
    }
    if !shown.events.is_empty() {
        output::line("")?;
        events::print(&shown.events)?;
    }
    Ok(())
}

fn about(host: &SeenHost) -> Result<()> {
    let state = match (host.state, host.seen_at) {
        (HostState::Silent, Some(at)) => {
            format!("silent: nothing is known since {}", clock::local(at))
        }
        (HostState::Never, _) => "admitted; it has not told anything yet".to_owned(),
        (state, _) => state.to_string(),
    };
    let build = |build: Option<u64>| build.map_or_else(String::new, |it| it.to_string());
    let overlays: Vec<_> = host.overlays.keys().map(String::as_str).collect();

    let mut lines = vec![
        ("host", host.name.clone()),
        ("state", state),
        ("last seen", when(host.seen_at)),
        ("admitted", when(Some(host.admitted_at))),
    ];
    if let Some(at) = host.expelled_at {
        lines.push(("expelled", clock::local(at)));
    }
    lines.extend([
        ("roles", host.roles.join(" ")),
        ("labels", host.label_text()),
        ("version", host.version.clone().unwrap_or_default()),
        ("servers", host.servers_text()),
        ("queue", host.queue_text()),
        ("build", build(host.build)),
        ("available", build(host.available)),
        ("overlays", overlays.join(" ")),
        ("key", host.key.clone()),
    ]);
    facts(&lines)
}
