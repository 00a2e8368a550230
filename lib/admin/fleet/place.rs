//! `left4me fleet place`: a new server, on the host that fits best.

use clap::Args;

use super::super::{Context, owner::owner};
use super::rollout::{self, WaitArgs};
use crate::base::names::{BlueprintRef, FleetHost, ServerName, UserName};
use crate::base::ulid::Ulid;
use crate::base::{Result, clock};
use crate::db::blueprints;
use crate::domain::fleet::blueprint::FleetBlueprint;
use crate::domain::fleet::drain::{Move, MoveStep};
use crate::domain::fleet::placement::{Needs, Policy};
use crate::domain::fleet::rollout::{MovesRequest, Request, RolloutKind};
use crate::host::overlay_digest;
use crate::queue::fleet::place::digests_of;

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me fleet place Friday --blueprint versus --user anna --label region=eu --wait
  left4me fleet place Sunday --blueprint coop --host ams-1 --no-start

The blueprint is one of this host. The chosen host needs a user of the owner's name, and the
blueprint's overlays with the same files. It may refuse; then another is asked.";

#[derive(Args)]
pub(in crate::admin) struct PlaceArgs {
    /// Display name, unique among the owner's servers on its host
    name: ServerName,
    /// Name or id of a blueprint of this host
    #[arg(long, value_name = "B")]
    blueprint: BlueprintRef,
    /// Owner [default: the left4me user named like the caller, else the only user]
    #[arg(long, value_name = "U")]
    user: Option<UserName>,
    /// Only this host
    #[arg(long, value_name = "HOST")]
    host: Option<FleetHost>,
    /// Only hosts with this label; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = rollout::label)]
    labels: Vec<(String, String)>,
    /// How to choose among hosts that fit: spread takes the emptiest, pack the fullest
    #[arg(long, value_name = "spread|pack", default_value = "spread")]
    policy: Policy,
    /// Do not start it
    #[arg(long)]
    no_start: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(super) fn run(context: &Context, args: &PlaceArgs) -> Result<()> {
    rollout::controller(context)?;
    let mut db = context.db()?;
    if let Some(host) = &args.host {
        rollout::host(&db, host)?;
    }
    // What the hosts' overlays are compared with.
    overlay_digest::refresh(&mut db, &context.paths.root, clock::now_ms())?;

    let user = owner(db.connection(), args.user.as_ref(), &context.actor)?;
    let found = blueprints::find(db.connection(), &args.blueprint, Some(user.id))?;
    let content = blueprints::content(db.connection(), found.id)?;
    let blueprint = FleetBlueprint {
        name: found.name.parse()?,
        overlays: content.overlays,
        arguments: content.arguments,
        config: content.config,
    };

    let server = Ulid::new(context.now);
    let needs = Needs {
        host: args.host.clone(),
        labels: args.labels.iter().cloned().collect(),
        overlays: digests_of(db.connection(), &blueprint)?
            .into_iter()
            .collect(),
    };
    let one = Move {
        server,
        name: args.name.to_string(),
        owner: user.name,
        from: None,
        start: !args.no_start,
        needs: needs.clone(),
        epoch: 0,
        to: None,
        unread: 0,
        refused: Default::default(),
        step: MoveStep::Waiting,
        stuck_since: None,
        why: String::new(),
    };
    let request = MovesRequest {
        hosts: Vec::new(),
        is_dead: false,
        moves: vec![one],
        deadline: None,
        needs,
        policy: args.policy,
        blueprints: [(server, blueprint)].into(),
    };
    let request = Request::Moves(Box::new(request));
    rollout::begin(context, db, (RolloutKind::Place, &request), &args.wait)
}
