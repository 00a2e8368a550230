//! `left4me fleet`: many hosts. One file per verb. docs/fleet.md describes a fleet.

mod admit;
mod certificates;
mod check;
mod cordon;
mod events;
mod expel;
mod files;
mod hosts;
mod init;
mod jobs;
mod join;
mod moves;
mod operator;
mod orders;
mod own;
mod place;
mod rollout;
mod rollouts;
mod servers;
mod show;
mod take_over;
mod ticket;
mod update;
mod withdraw;

use clap::Subcommand;

use super::{Context, hint};
use crate::base::fleet::Fleet;
use crate::base::{Result, clock};
use crate::db::Db;
use crate::db::fleet::{overview, self_row};
use crate::db::lists::Part;

const EXAMPLES: &str = "\
Examples:
  left4me fleet hosts
  left4me fleet servers --host ams-1
  left4me fleet show ams-1 --json | jq .status.version";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum FleetVerb {
    /// Begin nothing more of a rollout, and cancel what has not started
    Abort(rollouts::AbortArgs),
    Admit(admit::AdmitArgs),
    Check(check::CheckArgs),
    /// Let hosts take in no more servers; those that they have stay
    Cordon(cordon::CordonArgs),
    /// Move all servers away from hosts, each when it is empty
    #[command(after_help = moves::EXAMPLES)]
    Drain(moves::DrainArgs),
    /// Start the servers of a dead host on others
    #[command(after_help = moves::EXAMPLES)]
    Evacuate(moves::EvacuateArgs),
    /// Show what happened on the hosts, newest first
    Events(events::EventsArgs),
    Expel(expel::ExpelArgs),
    /// List the hosts of the fleet, each with when it was last seen
    Hosts(hosts::HostsArgs),
    Init(init::InitArgs),
    /// List the jobs of the hosts, newest first
    Jobs(jobs::JobsArgs),
    Join(join::JoinArgs),
    /// Move a server to another host when it is empty
    #[command(after_help = moves::EXAMPLES)]
    Move(moves::MoveArgs),
    /// List the orders that were sent from here, newest first, each with where it is
    Orders(orders::OrdersArgs),
    /// Create a server on the host that fits best
    #[command(after_help = place::EXAMPLES)]
    Place(place::PlaceArgs),
    /// List the rollouts of all controllers, newest first, or show one
    Rollouts(rollouts::RolloutsArgs),
    /// List the servers of all hosts
    Servers(servers::ServersArgs),
    /// Show a host, its servers and what happened there
    Show(show::ShowArgs),
    /// Go on with a rollout whose controller is dead
    #[command(after_help = take_over::EXAMPLES)]
    TakeOver(take_over::TakeOverArgs),
    /// Let hosts take in servers again
    Uncordon(cordon::UncordonArgs),
    /// Update the game on all hosts, in waves
    #[command(after_help = update::EXAMPLES)]
    Update(update::UpdateArgs),
    /// Take back an order, unless its job is under way on its host
    Withdraw(withdraw::WithdrawArgs),
}

impl FleetVerb {
    /// Whether it reads or writes the fleet's keys, which are root's, and no database.
    pub(super) fn is_roots(&self) -> bool {
        matches!(
            self,
            Self::Admit(_) | Self::Check(_) | Self::Expel(_) | Self::Init(_) | Self::Join(_)
        )
    }
}

pub(super) fn run(context: &Context, verb: FleetVerb) -> Result<()> {
    match verb {
        FleetVerb::Abort(args) => rollouts::abort(context, &args),
        FleetVerb::Admit(args) => admit::run(context, &args),
        FleetVerb::Check(args) => check::run(context, &args),
        FleetVerb::Cordon(args) => cordon::run(context, &args),
        FleetVerb::Drain(args) => moves::run_drain(context, &args),
        FleetVerb::Evacuate(args) => moves::run_evacuate(context, &args),
        FleetVerb::Events(args) => events::run(context, &args),
        FleetVerb::Expel(args) => expel::run(context, &args),
        FleetVerb::Hosts(args) => hosts::run(context, &args),
        FleetVerb::Init(args) => init::run(context, &args),
        FleetVerb::Jobs(args) => jobs::run(context, &args),
        FleetVerb::Join(args) => join::run(context, &args),
        FleetVerb::Move(args) => moves::run_move(context, &args),
        FleetVerb::Orders(args) => orders::run(context, &args),
        FleetVerb::Place(args) => place::run(context, &args),
        FleetVerb::Rollouts(args) => rollouts::run(context, &args),
        FleetVerb::Servers(args) => servers::run(context, &args),
        FleetVerb::Show(args) => show::run(context, &args),
        FleetVerb::TakeOver(args) => take_over::run(context, &args),
        FleetVerb::Uncordon(args) => cordon::uncordon(context, &args),
        FleetVerb::Update(args) => update::run(context, &args),
        FleetVerb::Withdraw(args) => withdraw::run(context, &args),
    }
}

/// Says why there is nothing to list.
fn none(context: &Context, what: &str) -> Result<()> {
    let why = match Fleet::read(&context.fleet.fleet_dir)? {
        None => {
            "this host belongs to no fleet: `left4me fleet join` makes it a part of one".to_owned()
        }
        Some(fleet) if fleet.views() => format!("no {what} are known"),
        Some(_) => format!(
            "no {what} are known: only a host with the role view is told about others; \
             `left4me fleet admit` gives roles"
        ),
    };
    hint(&why);
    Ok(())
}

/// Says that what follows is old, if this host has no connection.
fn say_if_away(context: &Context, db: &Db) -> Result<()> {
    let own = self_row::get(db.connection())?;
    let away = own.and_then(|own| overview::link(&own, context.now).away_since());
    if let Some(since) = away {
        hint(&format!(
            "no connection to the engine since {}: what other hosts did after that is not known here",
            clock::local(since)
        ));
    }
    Ok(())
}

/// The first `limit` rows.
fn first(limit: u32) -> Part {
    Part { limit, offset: 0 }
}
