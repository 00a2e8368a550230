//! `left4me fleet move`, `drain` and `evacuate`: servers that leave their host.

use std::collections::BTreeMap;

use clap::Args;

use super::super::{Context, hint};
use super::rollout::{self, WaitArgs};
use crate::base::names::{BlueprintRef, FleetHost, shown};
use crate::base::ulid::Ulid;
use crate::base::{Error, Exit, Result, clock};
use crate::db::fleet::hosts::Host;
use crate::db::fleet::servers::{self, FleetServer};
use crate::db::fleet::{hosts, kept_blueprints};
use crate::db::{Db, blueprints};
use crate::domain::fleet::blueprint::FleetBlueprint;
use crate::domain::fleet::drain::Move;
use crate::domain::fleet::placement::{Needs, Policy};
use crate::domain::fleet::rollout::{MovesRequest, Request, RolloutKind};
use crate::queue::fleet::alive::{MayLive, may_live};
use crate::queue::fleet::moves::{is_elsewhere, new_move};
use crate::queue::fleet::place::digests_of;

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me fleet move Friday --to chi-1                 as soon as it is empty
  left4me fleet drain ams-1 --deadline 2h --wait       all servers, each when it is empty
  left4me fleet evacuate ams-1 --it-is-dead            it cannot be reached, and does not come back soon

A server starts on its new host before it stops on the old one. Its files on the old host stay.";

/// To where, and when.
#[derive(Args)]
pub(super) struct WhereArgs {
    /// Only this host
    #[arg(long, value_name = "HOST")]
    to: Option<FleetHost>,
    /// Only hosts with this label; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = rollout::label)]
    labels: Vec<(String, String)>,
    /// How to choose among hosts that fit: spread takes the emptiest, pack the fullest
    #[arg(long, value_name = "spread|pack", default_value = "spread")]
    policy: Policy,
    #[command(flatten)]
    wait: WaitArgs,
}

impl WhereArgs {
    fn needs(&self) -> Needs {
        Needs {
            host: self.to.clone(),
            labels: self.labels.iter().cloned().collect(),
            overlays: BTreeMap::new(),
        }
    }
}

#[derive(Args)]
pub(in crate::admin) struct MoveArgs {
    /// The server's name or ULID
    server: String,
    /// On this host, if several have a server of that name
    #[arg(long, value_name = "HOST")]
    from: Option<FleetHost>,
    /// Move it after this time also when people play; 0s at once
    #[arg(long, value_name = "DURATION", value_parser = rollout::span)]
    deadline: Option<i64>,
    #[command(flatten)]
    place: WhereArgs,
}

#[derive(Args)]
pub(in crate::admin) struct DrainArgs {
    /// Hosts; all are cordoned before the first server moves
    #[arg(required = true)]
    hosts: Vec<FleetHost>,
    /// Move servers after this time also when people play; 0s at once
    #[arg(long, value_name = "DURATION", value_parser = rollout::span)]
    deadline: Option<i64>,
    #[command(flatten)]
    place: WhereArgs,
}

#[derive(Args)]
pub(in crate::admin) struct EvacuateArgs {
    /// The dead host
    host: FleetHost,
    /// Confirm that it is dead: a host that is only cut off goes on, and its servers run twice until
    /// it hears of it
    #[arg(long, required = true)]
    it_is_dead: bool,
    /// For servers that were not placed from here: a blueprint of this host
    #[arg(long, value_name = "B")]
    blueprint: Option<BlueprintRef>,
    #[command(flatten)]
    place: WhereArgs,
}

pub(super) fn run_move(context: &Context, args: &MoveArgs) -> Result<()> {
    rollout::controller(context)?;
    let db = context.db()?;
    let found = find_server(&db, &args.server, args.from.as_ref())?;
    let from: FleetHost = found.host.parse()?;
    let host = rollout::host(&db, &from)?;
    if args.place.to.as_ref() == Some(&from) {
        return Err(Error::conflict(format!("it is on {from} already")));
    }

    let needs = args.place.needs();
    let one = move_of(&db, &host, &found, &needs)?;
    let request = request(context, &args.place, vec![one], args.deadline);
    begin(context, db, RolloutKind::Move, request, &args.place)
}

pub(super) fn run_drain(context: &Context, args: &DrainArgs) -> Result<()> {
    rollout::controller(context)?;
    let db = context.db()?;
    let mut names = args.hosts.clone();
    names.sort();
    names.dedup();
    for name in &names {
        rollout::host(&db, name)?;
    }
    let mut request = request(context, &args.place, Vec::new(), args.deadline);
    request.hosts = names;
    begin(context, db, RolloutKind::Drain, request, &args.place)
}

pub(super) fn run_evacuate(context: &Context, args: &EvacuateArgs) -> Result<()> {
    rollout::controller(context)?;
    let db = context.db()?;
    let host = hosts::find(db.connection(), &args.host)?;
    let name = &args.host;
    match may_live(db.connection(), name.as_str(), context.now)? {
        None => {}
        Some(MayLive::HeardOf(at)) => {
            return Err(Error::conflict(format!(
                "{name} was heard of {}: a host that lives is drained, with `left4me fleet drain {name}`",
                clock::local(at)
            )));
        }
        Some(MayLive::NotConnected) => {
            return Err(Error::conflict(format!(
                "this host has not been connected to the fleet for 5 minutes: {name} may live; \
                 wait, or expel it first"
            )));
        }
    }

    let needs = args.place.needs();
    let (mut moves, mut known) = (Vec::new(), BTreeMap::new());
    for server in servers::list(db.connection(), Some(args.host.as_str()))? {
        if is_elsewhere(db.connection(), &args.host, &server.server)? {
            continue;
        }
        let mut one = move_of(&db, &host, &server, &needs)?;
        let blueprint = blueprint_of(&db, &one, args)?;
        // Its new host compares what the blueprint names, not what the dead one had.
        match digests_of(db.connection(), &blueprint) {
            Ok(digests) => one.needs.overlays = digests.into_iter().collect(),
            Err(error) if error.exit == Exit::Conflict => hint(&format!(
                "'{}': {error}; its new host must have the overlays that {} told last",
                one.name, args.host
            )),
            Err(error) => return Err(error),
        }
        known.insert(one.server, blueprint);
        moves.push(one);
    }
    if moves.is_empty() {
        return Err(Error::not_found(format!(
            "no server of {} is known here",
            args.host
        )));
    }

    let mut request = request(context, &args.place, moves, None);
    request.is_dead = true;
    request.blueprints = known;
    begin(context, db, RolloutKind::Evacuate, request, &args.place)
}

/// What a server of a dead host is made from: what it was placed with, or what was named.
fn blueprint_of(db: &Db, one: &Move, args: &EvacuateArgs) -> Result<FleetBlueprint> {
    if let Some((blueprint, at)) = kept_blueprints::get(db.connection(), one.server)? {
        hint(&format!(
            "'{}' begins as it was placed {}; what was changed on its host since is lost with it",
            one.name,
            clock::local(at)
        ));
        return Ok(blueprint);
    }
    let Some(reference) = &args.blueprint else {
        return Err(Error::conflict(format!(
            "server '{}' was not placed from here, and its host cannot hand over its blueprint: \
             name one of this host with --blueprint",
            one.name
        )));
    };
    let found = blueprints::find(db.connection(), reference, None)?;
    let content = blueprints::content(db.connection(), found.id)?;
    Ok(FleetBlueprint {
        name: found.name.parse()?,
        overlays: content.overlays,
        arguments: content.arguments,
        config: content.config,
    })
}

fn request(
    context: &Context,
    place: &WhereArgs,
    moves: Vec<Move>,
    deadline: Option<i64>,
) -> MovesRequest {
    MovesRequest {
        hosts: Vec::new(),
        is_dead: false,
        moves,
        deadline: deadline.map(|ms| context.now.saturating_add(ms)),
        needs: place.needs(),
        policy: place.policy,
        blueprints: BTreeMap::new(),
    }
}

fn begin(
    context: &Context,
    db: Db,
    kind: RolloutKind,
    request: MovesRequest,
    place: &WhereArgs,
) -> Result<()> {
    if let Some(to) = &place.to {
        rollout::host(&db, to)?;
    }
    let request = Request::Moves(Box::new(request));
    rollout::begin(context, db, (kind, &request), &place.wait)
}

fn move_of(db: &Db, host: &Host, server: &FleetServer, needs: &Needs) -> Result<Move> {
    let name: FleetHost = host.name.parse()?;
    let status = host
        .status
        .as_ref()
        .ok_or_else(|| Error::conflict(format!("{name} has not told anything about itself yet")))?;
    new_move(db.connection(), &name, status, &server.server, needs)
}

/// The server of this name or ULID.
///
/// Fails with 3 if there is none; 2 if several hosts have one.
fn find_server(db: &Db, wanted: &str, from: Option<&FleetHost>) -> Result<FleetServer> {
    let ulid = wanted.parse::<Ulid>().ok();
    let all = servers::list(db.connection(), from.map(FleetHost::as_str))?;
    let mut found: Vec<FleetServer> = all
        .into_iter()
        .filter(|one| one.server.moved_to.is_none())
        .filter(|one| Some(one.server.id) == ulid || (ulid.is_none() && one.server.name == wanted))
        .collect();
    match found.len() {
        0 => Err(Error::not_found(format!(
            "no server '{}' is known; `left4me fleet servers` lists them",
            shown(wanted)
        ))),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let each: Vec<String> = found
                .iter()
                .map(|one| format!("{} on {}", one.server.id, one.host))
                .collect();
            Err(Error::usage(format!(
                "several servers are named '{}': say which by its ULID or with --from: {}",
                shown(wanted),
                each.join(", ")
            )))
        }
    }
}
