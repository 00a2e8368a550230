//! `left4me fleet update`: the game's update on all hosts, in waves.

use std::num::NonZeroU16;

use clap::Args;

use super::super::Context;
use super::rollout::{self, WaitArgs};
use crate::base::names::FleetHost;
use crate::base::{Error, Result};
use crate::db::fleet::hosts;
use crate::domain::fleet::order::{Enqueue, OrderedCondition};
use crate::domain::fleet::rollout::{Request, RolloutKind, UpdateRequest};
use crate::domain::fleet::waves::Waves;
use crate::domain::update::UpdateOptions;

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me fleet update --waves 1,25%,rest --soak 10m --wait
  left4me fleet update --host ams-1 --host chi-1 --when-empty --stop-after 2

A wave begins when all hosts of the one before have ended and its soak is over without a server that
failed. Each host updates to what Steam has then. `left4me fleet abort ID` begins nothing more.";

#[derive(Args)]
pub(in crate::admin) struct UpdateArgs {
    /// Only these hosts, in this order; repeatable
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<FleetHost>,
    /// Only hosts with this label; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = rollout::label)]
    labels: Vec<(String, String)>,
    /// How many hosts each wave has: numbers, percentages of all, rest
    #[arg(long, value_name = "LIST", default_value = "1,25%,rest")]
    waves: Waves,
    /// How long to watch a wave before the next one
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = rollout::span)]
    soak: i64,
    /// Begin nothing more after so many hosts have failed
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    stop_after: u32,
    /// On each host, restart each server when it is empty
    #[arg(long, conflicts_with = "rolling")]
    when_empty: bool,
    /// On each host, restart so many servers at a time
    #[arg(long, value_name = "N")]
    rolling: Option<NonZeroU16>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(super) fn run(context: &Context, args: &UpdateArgs) -> Result<()> {
    rollout::controller(context)?;
    let db = context.db()?;
    let mut names = Vec::new();
    for name in &args.hosts {
        rollout::host(&db, name)?;
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let is_all = args.hosts.is_empty();
    for host in hosts::all(db.connection())? {
        // One that has no place for servers has no game to update.
        let has_game = host
            .status
            .as_ref()
            .is_some_and(|status| status.capacity > 0);
        let fits = |(name, value): &(String, String)| host.labels.get(name) == Some(value);
        let name: FleetHost = host.name.parse()?;
        match args.labels.iter().all(fits) {
            true if is_all && host.expelled_at.is_none() && has_game => names.push(name),
            false => names.retain(|other| *other != name),
            true => {}
        }
    }
    if names.is_empty() {
        return Err(Error::not_found(
            "no host fits; `left4me fleet hosts` lists them",
        ));
    }

    let condition = args.when_empty.then(|| OrderedCondition {
        when_empty: true,
        ..OrderedCondition::default()
    });
    let request = Request::Update(Box::new(UpdateRequest {
        hosts: names,
        waves: args.waves.clone(),
        soak: args.soak,
        stop_after: args.stop_after,
        enqueue: Enqueue {
            operation: "update".to_owned(),
            servers: Vec::new(),
            all: false,
            unique: false,
            rolling: args.rolling,
            update: UpdateOptions::default(),
            condition,
            reason: "an update of the fleet".to_owned(),
        },
    }));
    rollout::begin(context, db, (RolloutKind::Update, &request), &args.wait)
}
