//! `left4me fleet`: many hosts. One file per verb. docs/fleet.md describes a fleet.

mod cordon;
mod hosts;
mod moves;
mod place;
mod rollout;
mod rollouts;
mod update;

use clap::Subcommand;

use super::{Context, hint};
use crate::base::Result;
use crate::base::fleet::Fleet;

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
    /// Let hosts take in no more servers; those that they have stay
    Cordon(cordon::CordonArgs),
    /// Move all servers away from hosts, each when nobody plays on it
    #[command(after_help = moves::EXAMPLES)]
    Drain(moves::DrainArgs),
    /// Start the servers of a dead host on others
    #[command(after_help = moves::EXAMPLES)]
    Evacuate(moves::EvacuateArgs),
    /// List the hosts of the fleet, each with when it was last seen
    Hosts(hosts::HostsArgs),
    /// Move a server to another host when nobody plays on it
    #[command(after_help = moves::EXAMPLES)]
    Move(moves::MoveArgs),
    /// Create a server on the host that fits best
    #[command(after_help = place::EXAMPLES)]
    Place(place::PlaceArgs),
    /// List rollouts that were begun here, newest first, or show one
    Rollouts(rollouts::RolloutsArgs),
    /// Let hosts take in servers again
    Uncordon(cordon::UncordonArgs),
    /// Update the game on all hosts, in waves
    #[command(after_help = update::EXAMPLES)]
    Update(update::UpdateArgs),
}

pub(super) fn run(context: &Context, verb: FleetVerb) -> Result<()> {
    match verb {
        FleetVerb::Abort(args) => rollouts::abort(context, &args),
        FleetVerb::Cordon(args) => cordon::run(context, &args),
        FleetVerb::Drain(args) => moves::run_drain(context, &args),
        FleetVerb::Evacuate(args) => moves::run_evacuate(context, &args),
        FleetVerb::Hosts(args) => hosts::run(context, &args),
        FleetVerb::Move(args) => moves::run_move(context, &args),
        FleetVerb::Place(args) => place::run(context, &args),
        FleetVerb::Rollouts(args) => rollouts::run(context, &args),
        FleetVerb::Uncordon(args) => cordon::uncordon(context, &args),
        FleetVerb::Update(args) => update::run(context, &args),
    }
}

/// Says why there is nothing to list.
fn none(context: &Context) -> Result<()> {
    hint(match Fleet::read(&context.fleet.fleet_dir)? {
        None => "this host belongs to no fleet: `left4me fleet join` makes it a part of one",
        Some(fleet) if fleet.views() => "other hosts have not told anything yet",
        Some(_) => {
            "this host is not told about others: that needs the role view, which \
             `left4me fleet admit` gives"
        }
    });
    Ok(())
}
